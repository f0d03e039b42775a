"""Clearance profile along a held-out flight over the simulated city, beside the true clearance: do the bounds hold?

    python bench/clearance_profile.py RUN DATASET --out docs/images/clearance_profile.png

RUN is a calibrated training on DATASET, which `pose2rgbd sim dataset` made (its sim.yaml tells the city). The path is
the longest held-out stretch that judges (no weights, bounds or limit were chosen on it), and straight on from there
for --beyond-m, out of what was flown. The truth comes from the simulator's exact depth in six directions at each
pose: of all surfaces, and of those the camera has in view. Exit status 1 when a bound exceeds the truth by more than
2 m. Writes bench/results/clearance_profile.md.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.evaluation.held_out import held_out
from pose2rgbd_ros.evaluation.machine import described
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.obstacles.paths import (
    BodyPath,
    Profile,
    ProfileBuilder,
    ProfileSettings,
    Waypoints,
    faced,
    resampled,
)
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.reports.table import Table
from pose2rgbd_ros.settings import read_yaml
from pose2rgbd_ros.sim.city.city import City
from pose2rgbd_ros.sim.city.config import CityConfig
from pose2rgbd_ros.sim.flights.make import camera_mount
from pose2rgbd_ros.sim.gl.renderer import SceneRenderer
from pose2rgbd_ros.training.checkpoint import load_checkpoint

RESULT = Path(__file__).resolve().parent / "results" / "clearance_profile.md"
MARGIN_M = 2.0
SIDES = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
EYE = Camera.from_fov(256, 256, 90.0)


@dataclass(frozen=True, eq=False)
class Truth:
    """Arrays (N,), metres; inf: nothing there."""

    clearance_m: Float64
    in_view_m: Float64
    ahead_m: Float64
    below_m: Float64


def held_out_path(
    run: Path, dataset: Dataset, T_body_cam: Float64, spacing_m: float, beyond_m: float
) -> tuple[BodyPath, float]:
    """The longest stretch of held-out frames that judge and straight on, and the length of the former."""
    judge = held_out(load_checkpoint(run), dataset).judge.frames
    if len(judge) < 2:
        raise SystemExit(f"{run}: nothing was left to judge on; train anew, so that the split says what judges")
    stretches = np.split(judge, np.flatnonzero(np.diff(judge) > 1) + 1)
    frames = max(stretches, key=len)
    position_m, quat_xyzw = se3.split(dataset.T_map_cam[frames] @ se3.inverse(T_body_cam))
    heading = position_m[-1] - position_m[0]
    end = position_m[-1] + beyond_m * heading / np.linalg.norm(heading)
    points = Waypoints(
        np.vstack([position_m, end]), np.vstack([quat_xyzw, quat_xyzw[-1:]]), np.full(len(frames) + 1, np.nan)
    )
    return resampled(faced(points, "given"), spacing_m), float(points.arc_m[-2])


def predicted(renderer: Renderer, path: BodyPath, T_body_cam: Float64, settings: ProfileSettings) -> Profile:
    """The profile as the render node computes it."""
    builder = ProfileBuilder(path, renderer.camera, T_body_cam, settings)
    for T_map_body in path.T_map_body:
        T = T_map_body @ T_body_cam
        seen = renderer.render(T)
        if seen.depth_lower is None or seen.depth_upper is None:
            raise SystemExit("the run has no calibration; run `pose2rgbd calibrate` first")
        builder.add(seen.depth_lower, seen.depth_upper, np.array([renderer.guard_score(T).inside]))
    return builder.profile()


def truth_along(scene: City, path: BodyPath, camera: Camera, T_body_cam: Float64, radius_m: float) -> Truth:
    """True clearances from exact depth all around each pose."""
    clouds = []
    with SceneRenderer(scene.scene, EYE, shadows=False) as simulator:
        for T_map_body in path.T_map_body:
            clouds.append(all_around(simulator, T_map_body[:3, 3]))
    rows = []
    for index, (T_map_body, cloud) in enumerate(zip(path.T_map_body, clouds, strict=True)):
        centre = T_map_body[:3, 3]
        offset = cloud - centre
        uv = camera.project(se3.transform_points(se3.inverse(T_map_body @ T_body_cam), cloud))
        with np.errstate(invalid="ignore"):
            in_view = ((uv >= -0.5) & (uv < [camera.width - 0.5, camera.height - 0.5])).all(axis=1)
        away = np.linalg.norm(offset, axis=1)
        ahead = np.vstack(clouds[index : index + 12]) - centre
        rows.append(
            (
                away.min(initial=np.inf),
                away[in_view].min(initial=np.inf),
                contact_m(ahead, path.direction[index], radius_m),
                contact_m(offset, np.array([0.0, 0.0, -1.0]), radius_m) + radius_m,
            )
        )
    return Truth(*np.array(rows).T)


def all_around(simulator: SceneRenderer, place_m: Float64) -> Float64:
    """Every surface seen from a place (3,), points (M, 3)."""
    points = []
    for side in SIDES:
        T = se3.look_at(place_m, place_m + np.array(side, float))
        depth = simulator.render(T, movers=False).depth_m
        known = np.isfinite(depth)
        points.append(se3.transform_points(T, (EYE.rays() * depth[..., None])[known]))
    return np.concatenate(points)


def contact_m(offset: Float64, direction: Float64, radius_m: float) -> float:
    """How far a ball goes until it touches one of the points (M, 3); inf: never."""
    forward = offset @ direction
    half2 = radius_m**2 - (np.einsum("ij,ij->i", offset, offset) - forward**2)
    met = (half2 > 0) & (forward > 0)
    return float((forward[met] - np.sqrt(half2[met])).clip(0.0).min(initial=np.inf))


def figures(profile: Profile, truth: Truth) -> tuple[str, bool]:
    """A Markdown table of how the bounds hold, and whether they do."""
    table = Table.of(
        {
            "bound": "", "known poses": "s", "bound <= truth": ".1%", "largest excess m": ".2f",
            "median of truth - bound m": ".2f",
        }
    )  # fmt: skip
    good = True
    for name, bound, true in (
        ("clearance, of what is in view", profile.clearance_m, truth.in_view_m),
        ("clearance, all around", profile.clearance_m, truth.clearance_m),
        ("ahead", profile.ahead_m, truth.ahead_m),
        ("below", profile.below_m, truth.below_m),
    ):
        known = np.isfinite(bound)
        if not known.any():
            table.add(name, f"0 of {len(bound)}", None, None, None)
            continue
        excess = bound[known] - np.minimum(true[known], 1e3)
        share, most_m = (excess <= 0).mean(), max(excess.max(), 0)
        table.add(name, f"{known.sum()} of {len(bound)}", share, most_m, np.median(-excess))
        good &= name.endswith("around") or bool(excess.max() <= MARGIN_M)
    return table.markdown(), good


def draw(
    out: Path, path: BodyPath, inside_m: float, scene: City, profile: Profile, truth: Truth, radius_m: float
) -> None:
    """The cut along the path above, and clearances below."""
    along, place = path.distance_m, path.T_map_body[:, :3, 3]
    fig, (cut, plot) = plt.subplots(2, 1, figsize=(10, 7.2), sharex=True, layout="constrained")
    fine = np.linspace(0, along[-1], 1200)
    xy = np.stack([np.interp(fine, along, place[:, axis]) for axis in (0, 1)], axis=-1)
    surface = scene.surface_height_m(xy)
    cut.fill_between(fine, surface, surface.min() - 5, color="0.75", label="city below the path (truth)")
    cut.plot(along, place[:, 2], "k", lw=1.5, label="body")
    cut.fill_between(along, place[:, 2], place[:, 2] - profile.below_m, color="tab:green", alpha=0.25,
                     label=f"declared free below, ball of {radius_m:g} m")  # fmt: skip
    cut.plot(along, place[:, 2] - truth.below_m, "k:", lw=1, label="true contact of the ball below")
    cut.set_ylabel("height in the map, m")
    plot.plot(along, truth.in_view_m, "k-", lw=1, label="true clearance in view")
    plot.plot(along, truth.clearance_m, "k:", lw=1, label="true clearance all around")
    plot.plot(along, profile.clearance_m, color="tab:green", label="clearance_m, lower bound")
    if np.isfinite(profile.ahead_m).any():
        plot.plot(along, np.minimum(truth.ahead_m, 100.0), color="0.6", lw=1, label="true room ahead (to 100 m)")
        plot.plot(along, profile.ahead_m, color="tab:blue", label="ahead_m, lower bound")
    plot.set_ylabel("m")
    plot.set_xlabel("along the path, m")
    for axes, lowest in ((cut, None), (plot, 0.0)):
        axes.set_ylim(bottom=lowest, top=axes.get_ylim()[1] * 1.25)  # room for the legend
    for axes in (cut, plot):
        unknown = np.isnan(profile.clearance_m)
        axes.fill_between(along, 0, 1, where=unknown, transform=axes.get_xaxis_transform(), color="tab:red",
                          alpha=0.12, step="mid",
                          label="unknown: not to be entered" if unknown.any() else None)  # fmt: skip
        axes.axvline(inside_m, color="0.4", ls="--", lw=0.8, label="end of the held-out flight line")
        axes.legend(fontsize=8, loc="upper left", ncols=3)
        axes.grid(alpha=0.3)
    cut.set_title("Clearance profile along a held-out flight line and on out of what was flown")
    fig.savefig(out, dpi=90)
    plt.close(fig)


def main() -> int:
    """Compute, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--spacing-m", type=float, default=4.0)
    parser.add_argument("--beyond-m", type=float, default=80.0)
    parser.add_argument("--radius-m", type=float, default=1.0)
    parser.add_argument("--what", default="", help="a sentence about model and data, for the file")
    options, on = parser.parse_args(), described()
    dataset, told = Dataset(options.dataset), read_yaml(options.dataset / "sim.yaml")
    T_body_cam = camera_mount(np.deg2rad(told["flight"]["camera_pitch_deg"]))
    path, inside_m = held_out_path(options.run, dataset, T_body_cam, options.spacing_m, options.beyond_m)
    renderer, settings = Renderer(options.run, threads=1), ProfileSettings(radius_m=options.radius_m)
    profile = predicted(renderer, path, T_body_cam, settings)
    city = City(CityConfig(**told["city"]))
    truth = truth_along(city, path, renderer.camera, T_body_cam, options.radius_m)
    draw(options.out, path, inside_m, city, profile, truth, options.radius_m)
    table, good = figures(profile, truth)
    told_m = f"{len(path)} poses, {path.distance_m[-1]:.0f} m, the first {inside_m:.0f} m held out"
    print(f"{told_m}\n{table}\n{profile.message}")
    command = f"python bench/clearance_profile.py RUN DATASET --radius-m {options.radius_m:g}"
    RESULT.write_text(
        f"# Clearance profile\n\n`{command}`: {renderer.camera.width} pixels; {options.what}; every "
        f"{options.spacing_m:g} m along a held-out line and {options.beyond_m:g} m on; {on}.\n\n"
        f"{told_m}\n\n{table}\n\n{profile.message}\n"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
