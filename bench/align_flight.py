"""`pose2rgbd align` on simulated flights of which only the pictures and a noisy GPS are left, against the truth.

    python bench/align_flight.py --out FOLDER                      # all flights, 20 draws of GPS, relief
    python bench/align_flight.py --out FOLDER --only survey,dark   # these flights
    python bench/align_flight.py --out FOLDER --parts sigma        # alignments, sigma, relief

Of a flight the dataset keeps no depth and no attitude (course over ground, camera straight down or level), and a focal
length 4 % too long or none. GPS errors are independent ones, and ones that wander (a Gauss-Markov process). `shape` is
what is left after the best similarity, that is, what the pictures alone decide; `in 90 %` counts the coordinates within
1.645 stated sigmas. For `sigma` one map is tied to 20 draws of each kind of GPS.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.meta import DatasetMeta, DepthMeta, PosesMeta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.depth_from_images.stereo import StereoSettings
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.machine import processor
from pose2rgbd_ros.evaluation.pictures import measure
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera, resample, resample_map
from pose2rgbd_ros.geometry.se3 import umeyama
from pose2rgbd_ros.reports.table import Table
from pose2rgbd_ros.sfm.align import FEATURES, Alignment, align, place, recorded_dataset
from pose2rgbd_ros.sfm.dense import add_depth
from pose2rgbd_ros.sfm.georeference import georeference
from pose2rgbd_ros.sfm.reconstruct import AlignSettings, FeatureDatabase
from pose2rgbd_ros.sim.city.city import City
from pose2rgbd_ros.sim.city.config import CityConfig
from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.sim.flights.make import make_flight
from pose2rgbd_ros.sim.gl.renderer import SceneRenderer
from pose2rgbd_ros.sim.sensors.noise import GaussMarkov
from pose2rgbd_ros.sim.state import true_stamp_ns
from pose2rgbd_ros.training.families import train_config
from pose2rgbd_ros.training.trainer import train

RESULT = Path(__file__).parent / "results" / "align_flight.md"
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "align_flight.png"
IN_90 = 1.645
FOCAL_ERROR = 1.04
VERTICAL = 1.6  # times the errors along the ground
WALKING_HZ, BOB_M, SWAY_DEG = 1.9, 0.03, 3.0


@dataclass(frozen=True)
class Gps:
    """Sigmas along the ground: independent errors, ones that wander, and by how much heights drift in all."""

    white_m: float = 0.3
    wander_m: float = 0.8
    wander_s: float = 60.0
    height_drift_m: float = 0.0
    rate_hz: float = 10.0  # between fixes positions are interpolated

    def errors_m(self, seconds: np.ndarray, seed: int) -> np.ndarray:
        """(N, 3) at times (N,)."""
        rng = np.random.default_rng([seed, 18])
        fixes = np.arange(0, seconds[-1] - seconds[0] + 2 / self.rate_hz, 1 / self.rate_hz)
        sigma = np.array([1.0, 1.0, VERTICAL])
        wander = GaussMarkov(rng, self.wander_m * sigma, self.wander_s)
        found = np.array([wander.at(t) for t in fixes]) + rng.normal(size=(len(fixes), 3)) * self.white_m * sigma
        elapsed = seconds - seconds[0]
        errors = np.column_stack([np.interp(elapsed, fixes, axis) for axis in found.T])
        errors[:, 2] += self.height_drift_m * (elapsed / max(float(elapsed[-1]), 1e-9) - 0.5)
        return errors


GOOD, WHITE, PHONE = Gps(), Gps(1.5, 0.0), Gps(1.0, 4.0, 60.0, rate_hz=1.0)
RTK = Gps(0.02, 0.01, 60.0)


@dataclass(frozen=True)
class Flight:
    """A recording: flights one after the other, a frame each `step_s`, and what is wrong with it."""

    legs: tuple[dict[str, Any], ...]
    step_s: float
    longest_s: float = 1e9
    size: tuple[int, int] = (320, 240)
    fov_deg: float = 65.0
    gps: Gps = GOOD
    focal: str = "4 % long"
    pitch_deg: float = 90.0  # at which the cameras are assumed to look down
    light: float = 1.0
    noise: float = 0.0  # sigma of the pictures' noise, of 255
    fisheye: bool = False
    hand_held: bool = False
    city_seed: int = 7


def _survey(**values: Any) -> dict[str, Any]:
    return {"plan": "lawnmower", "area_m": 110.0, "line_spacing_m": 18.0, "camera_pitch_deg": 80.0, **values}


SHORT = _survey(area_m=70.0)
NADIR = _survey(area_m=70.0, line_spacing_m=24.0, camera_pitch_deg=88.0)
OBLIQUE = _survey(area_m=70.0, line_spacing_m=24.0, camera_pitch_deg=50.0, altitude_m=70.0)
LARGE, DRIFT_M = (480, 360), 51.0  # in 72 s
FLIGHTS = {
    "survey": Flight((_survey(),), 2.0, size=LARGE),
    "focal length unknown": Flight((SHORT,), 2.0, size=LARGE, focal="unknown"),
    "oblique and nadir": Flight((NADIR, OBLIQUE), 3.0),
    "drifting altitude": Flight((SHORT,), 2.0, gps=replace(GOOD, height_drift_m=DRIFT_M)),
    "dark": Flight((SHORT,), 2.0, light=1 / 3, noise=6.0),
    "28 photographs 57 m apart": Flight(
        (_survey(area_m=285.0, line_spacing_m=57.0, altitude_m=110.0, speed_mps=10.0, camera_pitch_deg=90.0),), 6.6,
        184.0, (512, 384), 73.0),
    "video at 10 Hz": Flight(({"plan": "walk", "seed": 3},), 0.1, 30.0),
    "video at 30 Hz": Flight(({"plan": "street", "seed": 4, "altitude_m": 14.0},), 1 / 30, 12.0,
                             focal="unknown", pitch_deg=0.0),
    "walk, action camera": Flight(
        ({"plan": "street", "seed": 5, "altitude_m": 5.0, "speed_mps": 1.5, "distance_m": 200.0,
          "camera_pitch_deg": 5.0, "attitude_jitter_deg": 3.0, "wander_m": 0.1},), 1 / 10, 40.0, (400, 300), 122.0,
        gps=PHONE, pitch_deg=0.0, fisheye=True, hand_held=True),
}  # fmt: skip
KINDS = {"independent 1.5 m": WHITE, "0.3 m, wandering 0.8 m in 60 s": GOOD,
         "RTK: 0.02 m, wandering 0.01 m in 60 s": RTK}  # fmt: skip
FIRST_DRAW, MANY = 1000, 160
FEATURES_OF = 700  # of an image, for each 100 pixels of its width


def record(flight: Flight, out: Path) -> None:
    """Fly: a dataset with exact poses, lens and depth, and lines held out."""
    city, width, height = City(CityConfig(seed=flight.city_seed)), *flight.size
    camera = Camera.from_fov(width, height, flight.fov_deg)
    if flight.fisheye:
        focal = float(width / 2 / np.deg2rad(flight.fov_deg / 2))
        camera = Camera(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2, "equidistant", (0.0,) * 4)
    shots, labels, begin_s = [], [], 0.0
    for leg in flight.legs:
        flown = make_flight(FlightConfig(**leg), city)
        times_s = np.arange(2.0, min(flown.duration_s - 2.0, flight.longest_s + 2.0), flight.step_s)
        poses = flown.T_map_cam(times_s)
        if flight.hand_held:
            phase = 2 * np.pi * WALKING_HZ * times_s
            poses[:, 2, 3] += BOB_M * np.sin(phase)
            sway = Rotation.from_euler("z", SWAY_DEG * np.sin(phase / 2)[:, None], degrees=True)
            poses[:, :3, :3] @= sway.as_matrix()
        shots += list(zip(begin_s + times_s, poses, strict=True))
        labels += flown.split(times_s).tolist()
        begin_s += float(times_s[-1]) + 30.0
    wide = Camera.from_fov(2 * width, 2 * height, min(flight.fov_deg + 12.0, 150.0)) if flight.fisheye else camera
    look = resample_map(wide, camera) if flight.fisheye else None
    renderer = SceneRenderer(city.scene, wide, supersample=1 if flight.fisheye else 2)
    rng = np.random.default_rng(18)
    with DatasetWriter(out, DatasetMeta(camera=camera, depth=DepthMeta()), depth_format="cm") as writer:
        for t_s, T_map_cam in shots:
            view = renderer.render(T_map_cam, t_s)
            rgb, depth_m = view.rgb, view.depth_m
            if look is not None:
                rgb, depth_m = resample(rgb, look, nearest=False), resample(depth_m, look, nearest=True, fill=np.nan)
            if flight.light < 1 or flight.noise:
                dark = flight.light * rgb + flight.noise * rng.normal(size=rgb.shape)
                rgb = np.clip(dark, 0, 255).astype(np.uint8)
            writer.add(true_stamp_ns(t_s), T_map_cam, rgb, depth_m)
    renderer.close()
    layout.write_split(out / layout.SPLIT, [true_stamp_ns(t_s) for t_s, _ in shots], labels)


def rough_poses(truth: Dataset, gps: Gps, pitch_deg: float, seed: int) -> np.ndarray:
    """(N, 4, 4): what a draw of GPS says of the positions, and the course over ground of the orientations."""
    errors_m = gps.errors_m((truth.stamps_ns - truth.stamps_ns[0]) / 1e9, seed)
    return course_poses(truth.T_map_cam, errors_m, pitch_deg)


def course_poses(exact: np.ndarray, errors_m: np.ndarray, pitch_deg: float) -> np.ndarray:
    """(N, 4, 4) of exact ones: positions off by errors (N, 3), cameras that look down by a pitch along the course."""
    position = exact[:, :3, 3]
    step = np.gradient(position[:, :2], axis=0)
    yaw_deg = np.rad2deg(np.arctan2(step[:, 1], step[:, 0]))
    body = Rotation.from_euler("ZY", np.column_stack([yaw_deg, np.full(len(yaw_deg), pitch_deg)]), degrees=True)
    R_body_cam = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    return se3.make(position + errors_m, (body * Rotation.from_matrix(R_body_cam)).as_quat())


def write_rough(flight: Flight, truth: Dataset, out: Path, seed: int = 0) -> None:
    """What a user would have: pictures, GPS, a rough focal length or none."""
    camera = truth.camera
    factor = {"known": 1.0, "4 % long": FOCAL_ERROR, "unknown": 0.0}[flight.focal]
    meta = DatasetMeta(
        camera=replace(camera, fx=factor * camera.fx, fy=factor * camera.fy), poses=PosesMeta(position="gps")
    )
    with DatasetWriter(out, meta) as writer:
        for i, T_map_cam in enumerate(rough_poses(truth, flight.gps, flight.pitch_deg, seed)):
            writer.add(int(truth.stamps_ns[i]), T_map_cam, truth.rgb(i))
    shutil.copy(truth.path / layout.SPLIT, out / layout.SPLIT)


def settings_of(flight: Flight) -> AlignSettings:
    """As by default, with features for pictures of this size."""
    return AlignSettings(image_size=max(flight.size), features=FEATURES_OF * max(flight.size) // 100, threads=2)


@dataclass(frozen=True, eq=False)
class Errors:
    """Of aligned poses against the truth: offset_m (N, 3), turn_deg (N,), and after the best similarity."""

    offset_m: np.ndarray
    turn_deg: np.ndarray
    shape_m: np.ndarray
    shape_deg: np.ndarray
    scale: float  # of the map, over the true one
    common_deg: float

    @classmethod
    def of(cls, T_map_cam: np.ndarray, exact: np.ndarray) -> Errors:
        """Poses (N, 4, 4) against exact ones."""
        offset = T_map_cam[:, :3, 3] - exact[:, :3, 3]
        turn = Rotation.from_matrix(T_map_cam[:, :3, :3] @ exact[:, :3, :3].transpose(0, 2, 1))
        scale, R, t = umeyama(T_map_cam[:, :3, 3], exact[:, :3, 3])
        shape = scale * T_map_cam[:, :3, 3] @ R.T + t - exact[:, :3, 3]
        rest = (turn * turn.mean().inv()).magnitude()
        return cls(
            offset, np.rad2deg(turn.magnitude()), np.linalg.norm(shape, axis=1), np.rad2deg(rest), 1 / scale,
            float(np.rad2deg(turn.mean().magnitude())),
        )  # fmt: skip


def truth_of(truth: Dataset, stamps_ns: np.ndarray) -> np.ndarray:
    """Exact poses (N, 4, 4) at these stamps."""
    return truth.T_map_cam[np.searchsorted(truth.stamps_ns, stamps_ns)]


def fly(name: str, flight: Flight, out: Path) -> tuple[Dataset, Path, Alignment | str]:
    """The truth, the aligned dataset, and what came out, or why nothing did. Recorded flights are used again."""
    folder = out / name.replace(" ", "_").replace(",", "")
    if not (folder / "truth" / layout.META).is_file():
        shutil.rmtree(folder, ignore_errors=True)
        record(flight, folder / "truth")
    truth = Dataset(folder / "truth")
    if not (folder / "rough" / layout.META).is_file():
        write_rough(flight, truth, folder / "rough")
    settings = settings_of(flight)
    try:
        return truth, folder / "rough", align(folder / "rough", settings, progress=False)
    except UserError as error:
        return truth, folder / "rough", str(error)


def row(name: str, truth: Dataset, found: Alignment | str) -> tuple[Any, ...]:
    """Of the table of flights."""
    if isinstance(found, str):
        return (name, f"0 of {len(truth)}", *[""] * 8, found)
    exact, recorded = truth_of(truth, found.recorded.stamps_ns[found.frames]), found.recorded.T_map_cam[found.frames]
    before, after = Errors.of(recorded, exact), Errors.of(found.T_map_cam, exact)
    focal = found.camera.focal_px / truth.camera.focal_px - 1
    inside = float(np.mean(np.abs(after.offset_m) < IN_90 * found.sigma_m))
    sigma = found.reference.scale_sigma
    return (
        name, f"{len(found.frames)} of {len(truth)}",
        f"{np.median(np.linalg.norm(before.offset_m, axis=1)):.2f}",
        f"{np.median(np.linalg.norm(after.offset_m, axis=1)):.2f}", f"{np.median(after.turn_deg):.2f}",
        f"{np.median(after.shape_m):.3f}", f"{np.median(after.shape_deg):.3f}", f"{100 * focal:+.2f}",
        f"{100 * (after.scale - 1):+.2f} ± {100 * sigma:.2f}", f"{100 * inside:.0f}",
        "; ".join(note for note in found.notes if not note.startswith("recorded positions scatter")),
    )  # fmt: skip


COLUMNS = {
    "flight": "", "aligned": "", "before m": "", "after m": "", "after deg": "", "shape m": "", "shape deg": "",
    "focal %": "", "scale %": "", "in 90 %": "", "": "",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Draws:
    """Draws of GPS, each (D, ...): errors of positions (N, 3) along x, y, z with their sigmas, of orientations (N,),
    and of the scale."""

    error_m: np.ndarray
    sigma_m: np.ndarray
    error_deg: np.ndarray
    sigma_deg: np.ndarray
    error_scale: np.ndarray
    sigma_scale: np.ndarray

    def row(self) -> tuple[float, ...]:
        """Medians, and how much lies within the 90 % interval."""
        norm = np.linalg.norm
        return (
            float(np.median(norm(self.error_m, axis=2))), float(np.median(norm(self.sigma_m, axis=2))),
            100 * float(np.mean(np.abs(self.error_m) < IN_90 * self.sigma_m)),
            float(np.median(self.error_deg)), float(np.median(self.sigma_deg)),
            100 * float(np.median(np.abs(self.error_scale))), 100 * float(np.median(self.sigma_scale)),
            100 * float(np.mean(np.abs(self.error_scale) < IN_90 * self.sigma_scale)),
        )  # fmt: skip


def _stacked(rows: list[tuple[Any, ...]]) -> Draws:
    return Draws(*(np.array(column) for column in zip(*rows, strict=True)))


def tied(flight: Flight, truth: Dataset, rough: Path, gps: Gps, seeds: int) -> Draws:
    """The map of an aligned flight, tied to draws of GPS."""
    settings, recorded = settings_of(flight), recorded_dataset(rough)
    names = [each.rgb for each in recorded.records]
    file = next((rough / FEATURES).glob("*/database.db"))
    database = FeatureDatabase(file, rough, names, np.arange(len(names)), recorded.camera, settings)
    best = database.reconstruct("global", settings, progress=False)[0]
    exact, rows = truth_of(truth, recorded.stamps_ns[best.frames]), []
    for seed in range(seeds):
        recorded.T_map_cam = rough_poses(truth, gps, flight.pitch_deg, FIRST_DRAW + seed)
        placed = place(best, recorded, names, settings)
        errors = Errors.of(placed.map.T_sfm_cam, exact)
        sigma_m, sigma_rad = placed.sigmas()
        rows.append(
            (errors.offset_m, sigma_m, errors.turn_deg, np.rad2deg(sigma_rad), np.log(errors.scale),
             placed.reference.scale_sigma)
        )  # fmt: skip
    return _stacked(rows)


def placed_alone(flight: Flight, frames: int, gps: Gps, seeds: int) -> Draws:
    """As `tied`, with a map that is exact up to its place, of so many frames: what GPS alone leaves open."""
    flown = make_flight(FlightConfig(**flight.legs[0]), City(CityConfig(seed=flight.city_seed)))
    times_s = np.linspace(2.0, flown.duration_s - 2.0, frames)
    exact, rows = flown.T_map_cam(times_s), []
    stamps_ns = np.array([true_stamp_ns(t_s) for t_s in times_s])
    for seed in range(seeds):
        rough = course_poses(exact, gps.errors_m(times_s, FIRST_DRAW + seed), flight.pitch_deg)
        reference = georeference(exact, rough, stamps_ns)
        T_map_cam = reference.poses(exact)
        errors = Errors.of(T_map_cam, exact)
        spread = reference.moved_by(reference.covariance, T_map_cam[:, :3, 3])
        turn_deg = np.rad2deg(np.sqrt(np.trace(reference.covariance[1:4, 1:4])))
        rows.append(
            (errors.offset_m, np.sqrt(np.diagonal(spread, axis1=1, axis2=2)), errors.turn_deg,
             np.full(frames, turn_deg), np.log(reference.scale), reference.scale_sigma)
        )  # fmt: skip
    return _stacked(rows)


def relief_row(name: str, dataset: Path, out: Path, minutes: float, size: int) -> tuple[Any, ...]:
    """RGB of a relief of a dataset, on its own judged frames."""
    config = train_config("relief", size=size, max_minutes=minutes, clock="cpu", seed=0, tensorboard=False)
    shutil.rmtree(out, ignore_errors=True)
    found = measure(train(dataset, out, config).checkpoint, dataset)
    scores = found.scores["model"]
    return name, len(found.stamps_ns), scores["rgb_mae_px"], scores["psnr_db"]


def draw(path: Path, truth: Dataset, rough: Path, draws: dict[str, Draws]) -> None:
    """The track before and after; errors of the draws against their sigmas."""
    before, after = (each.T_map_cam[:, :3, 3] for each in (recorded_dataset(rough), Dataset(rough)))
    figure = Figure(figsize=(11, 4.8), dpi=100, layout="constrained")
    track, against = figure.subplots(1, 2)
    track.plot(*truth.T_map_cam[:, :2, 3].T, "-", color="0.6", lw=1, label="truth")
    track.plot(*before[:, :2].T, ".", color="tab:orange", ms=4, label="recorded")
    track.plot(*after[:, :2].T, ".", color="tab:blue", ms=4, label="aligned")
    track.set(xlabel="x [m]", ylabel="y [m]", title="survey")
    track.set_aspect("equal")
    track.margins(y=0.2)
    track.legend(loc="upper center", ncols=3)
    for name, each in draws.items():
        sigma, error = each.sigma_m.mean(axis=1).ravel(), np.abs(each.error_m.mean(axis=1)).ravel()
        against.loglog(sigma, np.maximum(error, 1e-3), ".", ms=5, label=name)
    span = np.array(against.get_xlim())
    against.plot(span, span, color="0.4", lw=1, label="1 sigma")
    against.plot(span, IN_90 * span, "--", color="0.4", lw=1, label="90 %")
    against.set(xlabel="stated sigma of a coordinate [m]", ylabel="error, mean of the flight [m]", title="draws of GPS")
    against.legend(fontsize=8)
    figure.savefig(path)


def main() -> None:
    """Fly, align, compare, print; keep the page when all was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("align_flight"), help="datasets and runs")
    parser.add_argument("--only", default=None, help="flights, by the beginning of their names, comma-separated")
    parser.add_argument("--parts", default="alignments,sigma,relief")
    parser.add_argument("--seeds", type=int, default=20, help="draws of GPS")
    parser.add_argument("--minutes", type=float, default=2.0, help="processor minutes of each relief")
    parser.add_argument("--size", type=int, default=128, help="of relief's pictures")
    args = parser.parse_args()
    torch.set_num_threads(1)
    wanted = [name for name in FLIGHTS if args.only is None or name.startswith(tuple(args.only.split(",")))]
    parts = args.parts.split(",")
    pages = [
        "# Alignment of simulated flights, against the truth",
        f"`python bench/align_flight.py --minutes {args.minutes:g}`: two threads of {processor()}; pictures of "
        "320 x 240 pixels, the survey's and those of unknown focal length of 480 x 360.",
    ]
    if "alignments" in parts:
        table = Table.of(COLUMNS)
        print(table.markdown(), flush=True)
        for name in wanted:
            truth, _, found = fly(name, FLIGHTS[name], args.out)
            print(table.add(*row(name, truth, found)), flush=True)
        pages.append(table.markdown())
    survey = FLIGHTS["survey"]
    if "sigma" in parts:
        truth, rough, _ = fly("survey", survey, args.out)
        draws: dict[str, Draws] = {}
        table = Table.of({"survey": "", "GPS": "", "error m": ".3f", "sigma m": ".3f", "in 90 %": ".0f",
                          "error deg": ".3f", "sigma deg": ".3f", "scale error %": ".3f", "scale sigma %": ".3f",
                          "scale in 90 %": ".0f"})  # fmt: skip
        print(table.markdown(), flush=True)
        for kind, gps in KINDS.items():
            draws[kind] = tied(survey, truth, rough, gps, args.seeds)
            print(table.add(f"{len(truth)} photographs", kind, *draws[kind].row()), flush=True)
        for kind, gps in KINDS.items():
            alone = placed_alone(survey, MANY, gps, args.seeds)
            print(table.add(f"{MANY} positions", kind, *alone.row()), flush=True)
        pages.append(table.markdown())
        draw(PICTURE, truth, rough, draws)
        pages.append(f"![Track, and errors against sigmas](../../docs/images/{PICTURE.name})")
    if "relief" in parts:
        truth, rough, _ = fly("survey", survey, args.out)
        table = Table.of({"relief": "", "judged frames": "", "RGB of 255": ".2f", "PSNR dB": ".2f"})
        print(table.markdown(), flush=True)
        for name, dataset in (
            ("true poses, lens and depth", truth.path),
            ("aligned, no depth", rough),
            ("aligned, dense depth of its own pictures", rough),
        ):
            if "dense" in name:
                add_depth(rough, StereoSettings())
            run = args.out / "runs" / f"{dataset.name}-{name.rsplit(' ', 1)[-1]}"
            print(table.add(*relief_row(name, dataset, run, args.minutes, args.size)), flush=True)
        pages.append(table.markdown())
    if args.only is None and len(parts) == 3:
        RESULT.write_text("\n\n".join(pages) + "\n")


if __name__ == "__main__":
    main()
