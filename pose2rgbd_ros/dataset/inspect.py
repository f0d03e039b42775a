"""What is in a dataset: a text a person reads in a minute, a contact sheet and the track."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.dataset import layout, made_depth, splits
from pose2rgbd_ros.dataset.meta import DepthMeta, PosesMeta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError, counted, os_errors
from pose2rgbd_ros.geometry.arrays import AnyArray, Bool, Float32, Float64, Int64, UInt8
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.depth import resize_nearest
from pose2rgbd_ros.geometry.quaternions import from_matrix

# Pictures of a dataset: evenly spaced frames, and where the camera flew.


TRAIN, CHOOSE, JUDGE, GUARD = "tab:blue", "tab:purple", "tab:orange", "0.65"
_UNKNOWN = "0.82"
_THUMBNAIL_PX = 320
_ARROWS = 30
_DPI = 110


def evenly_spaced(n: int, count: int) -> list[int]:
    """At most `count` of the indices below n, first and last among them."""
    return sorted({int(i) for i in np.linspace(0, n - 1, min(n, max(1, count))).round()})


def draw_contact_sheet(dataset: Dataset, path: Path, frames: int = 12) -> None:
    """Colour over depth of evenly spaced frames, one depth scale for all; below, the confidence of depth that was made.

    UserError for damaged images.
    """
    indices = evenly_spaced(len(dataset), frames)
    columns = min(4 if len(indices) <= 8 else 6, len(indices))
    is_made = dataset.meta.depth is not None and dataset.meta.depth.made is not None
    blocks, per_block = -(-len(indices) // columns), 1 + dataset.has_depth + is_made
    aspect = dataset.camera.height / dataset.camera.width
    cell_in = 12.0 / columns
    legend_in = 0.75 if dataset.has_depth else 0.0
    height_in = 0.55 + blocks * (per_block * cell_in * aspect + 0.32) + legend_in
    figure = Figure(figsize=(12.4, height_in), dpi=_DPI)
    third = "; third row: confidence of the depth, dark 0, yellow 1" if is_made else ""
    figure.suptitle(_title(dataset) + third, y=1 - 0.12 / height_in, va="top", fontsize=11, parse_math=False)
    grid = figure.add_gridspec(
        blocks, columns, left=0.012, right=0.988, top=1 - 0.62 / height_in, bottom=(legend_in + 0.04) / height_in,
        wspace=0.03, hspace=0.3 / (per_block * cell_in * aspect),
    )  # fmt: skip
    depths = [thumbnail(dataset.depth(i)) for i in indices] if dataset.has_depth else []
    scale = _depth_scale(depths)
    for place, i in enumerate(indices):
        cell = grid[place // columns, place % columns].subgridspec(per_block, 1, hspace=0.02)
        colour = image_axes(figure, cell[0])
        colour.imshow(thumbnail(dataset.rgb(i)))
        seconds = (int(dataset.stamps_ns[i]) - int(dataset.stamps_ns[0])) / 1e9
        colour.set_title(f"frame {i}, {seconds:.1f} s", fontsize=8, pad=3)
        if dataset.has_depth:
            image_axes(figure, cell[1]).imshow(depths[place], cmap=depth_colours(), norm=scale)
        sure = made_depth.confidence(dataset, i)
        if sure is not None:
            image_axes(figure, cell[2]).imshow(resize_nearest(sure, *depths[place].shape[::-1]), vmin=0, vmax=1)
    if dataset.has_depth:
        _depth_legend(figure, dataset, scale, height_in)
    figure.savefig(path)


def draw_track(dataset: Dataset, split: splits.Split | None, path: Path) -> None:
    """The camera's way from above with its viewing directions, and its height over time; held-out parts marked."""
    figure = Figure(figsize=(12.4, 6.2), dpi=_DPI, layout="constrained")
    figure.suptitle(_title(dataset), fontsize=11, parse_math=False)
    above, height = figure.subplots(1, 2, width_ratios=[1.25, 1.0])
    role = roles(len(dataset), split)
    position = dataset.T_map_cam[:, :3, 3]
    runs = splits.recordings(dataset.stamps_ns)
    _draw_from_above(above, dataset, position, role, runs)
    seconds = (dataset.stamps_ns - dataset.stamps_ns[0]) / 1e9
    _draw_parts(height, seconds, position[:, 2], role, runs)
    height.set(xlabel="time since the first frame [s]", ylabel="z of the camera in the map [m]")
    height.set_title("height", fontsize=10)
    _at_least(height, "y", max(0.1, 0.02 * float(np.ptp(position[:, :2], axis=0).max())))
    height.grid(alpha=0.3)
    figure.savefig(path)


def _draw_from_above(axes: Axes, dataset: Dataset, position: Float64, role: AnyArray, runs: Int64) -> None:
    _draw_parts(axes, position[:, 0], position[:, 1], role, runs)
    some = along(position, _ARROWS)
    arrows, meaning = directions(dataset.T_map_cam[some])
    drawn = axes.quiver(
        position[some, 0], position[some, 1], arrows[:, 0], arrows[:, 1],
        color="0.25", width=0.0022, headwidth=7, headlength=8, scale=22, pivot="tail", zorder=1.5,
        clip_on=False,
    )  # fmt: skip
    drawn.set_in_layout(False)  # an arrow may reach beyond the axes, which need not make room for it
    axes.plot(*position[0, :2], marker="o", color="tab:green", markersize=9, linestyle="none", label="start", zorder=5)
    axes.plot(*position[-1, :2], marker="s", color="tab:red", markersize=8, linestyle="none", label="end", zorder=5)
    axes.plot([], [], color="0.15", marker=r"$\rightarrow$", markersize=13, linestyle="none", label=meaning)
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.12)
    if np.ptp(position[:, :2], axis=0).max() < 0.1:  # equal aspect then takes care of the other axis
        _at_least(axes, "x", 0.1)
    tied = dataset.meta.datum is not None
    axes.set(xlabel=f"x{', east' if tied else ''} [m]", ylabel=f"y{', north' if tied else ''} [m]")
    axes.set_title(f"from above, in {dataset.meta.map_frame}", fontsize=10, parse_math=False)
    axes.grid(alpha=0.3)
    handles, _ = axes.get_legend_handles_labels()
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.11), ncols=3, fontsize=9, frameon=False)


def _draw_parts(axes: Axes, x: AnyArray, y: AnyArray, role: AnyArray, runs: Int64) -> None:
    """One line per stretch of the same role, dots where a stretch is a single frame; never across a pause."""
    styles = {"train": (TRAIN, 1.6), "guard": (GUARD, 1.6), "choose": (CHOOSE, 4.0), "judge": (JUDGE, 4.0)}
    names = {"train": "training", "guard": "in no set", "choose": "held out, may choose", "judge": "held out, judges"}
    breaks = np.flatnonzero((role[1:] != role[:-1]) | (runs[1:] != runs[:-1])) + 1
    for part in np.split(np.arange(len(x)), breaks):
        colour, width = styles[str(role[part[0]])]
        reach = part
        if part[-1] + 1 < len(x) and runs[part[-1] + 1] == runs[part[-1]]:
            reach = np.append(part, part[-1] + 1)  # up to the next stretch, so that the line has no holes
        zorder = 3 if role[part[0]] in ("choose", "judge") else 2
        axes.plot(x[reach], y[reach], color=colour, linewidth=width, solid_capstyle="round", zorder=zorder)
        axes.plot(x[part], y[part], color=colour, marker=".", markersize=width + 2, linestyle="none", zorder=zorder)
    for name in [name for name in names if (role == name).any()]:
        axes.plot([], [], color=styles[name][0], linewidth=styles[name][1], label=names[name])


def along(position: Float64, count: int) -> list[int]:
    """At most `count` places, evenly spaced along the way and not in time: where the camera waits, one is enough."""
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(position, axis=0), axis=1))])
    return sorted({int(i) for i in np.searchsorted(way, np.linspace(0, way[-1], count)).clip(0, len(way) - 1)})


def directions(T_map_cam: Float64) -> tuple[Float64, str]:
    """Unit vectors (n, 2) from above: where the cameras look; of ones looking along z, where the image's top is."""
    view, top = T_map_cam[:, :2, 2], -T_map_cam[:, :2, 1]
    along_z = np.median(np.linalg.norm(view, axis=1)) < 0.3
    arrows = top if along_z else view
    return arrows / np.maximum(np.linalg.norm(arrows, axis=1, keepdims=True), 1e-9), (
        "top of the image (the camera looks along z)" if along_z else "viewing direction"
    )


def roles(n: int, split: splits.Split | None) -> AnyArray:
    """What each of n frames is for (n,): "train", "choose", "judge", or "guard", in no set."""
    if split is None:
        return np.full(n, "train")
    role = np.full(n, "guard", dtype="U6")
    role[split.train], role[split.choose], role[split.judge] = "train", "choose", "judge"
    return role


def _title(dataset: Dataset) -> str:
    seconds = (int(dataset.stamps_ns[-1]) - int(dataset.stamps_ns[0])) / 1e9
    return f"{dataset.path.resolve().name}: {counted(len(dataset), 'frame')} over {seconds:.1f} s"


def thumbnail(image: AnyArray) -> AnyArray:
    """At most 320 pixels wide; depth is reduced by taking pixels, never blended."""
    height, width = image.shape[:2]
    if width <= _THUMBNAIL_PX:
        return image
    size = (_THUMBNAIL_PX, max(1, round(height * _THUMBNAIL_PX / width)))
    if image.ndim == 2:
        return resize_nearest(image, *size)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _depth_scale(depths: list[AnyArray]) -> Normalize:
    """98 % of the known depths; single far pixels would take all colours from the rest."""
    known: Float32 = np.concatenate([depth[np.isfinite(depth)] for depth in depths] or [np.zeros(0, np.float32)])
    low, high = np.percentile(known, [1, 99]) if known.size else (0.0, 1.0)
    return Normalize(low, high if high > low else low + 1.0)


def depth_colours() -> Colormap:
    """Near is red, far is blue, unknown is grey."""
    return colormaps["turbo_r"].with_extremes(bad=_UNKNOWN)


def _depth_legend(figure: Figure, dataset: Dataset, scale: Normalize, height_in: float) -> None:
    bar = figure.add_axes((0.2, 0.42 / height_in, 0.5, 0.14 / height_in))
    mappable = figure.colorbar(ScalarMappable(scale, depth_colours()), cax=bar, orientation="horizontal", extend="both")
    metric = dataset.depth_kind == "metric"
    mappable.set_label("depth along the optical axis [m]" if metric else "relative depth (no unit)", fontsize=9)
    bar.tick_params(labelsize=8)
    figure.legend(
        handles=[Patch(facecolor=_UNKNOWN, edgecolor="0.4", label="unknown")],
        loc="center left", bbox_to_anchor=(0.74, 0.49 / height_in), frameon=False, fontsize=9,
    )  # fmt: skip


def image_axes(figure: Figure, place: Any) -> Axes:
    """Axes for an image, without a frame."""
    axes = figure.add_subplot(place)
    axes.set_axis_off()
    return axes


def _at_least(axes: Axes, axis: str, span: float) -> None:
    """Keep millimetres of noise from filling the axis."""
    low, high = axes.get_xlim() if axis == "x" else axes.get_ylim()
    if high - low < span:
        middle = (low + high) / 2
        limits = (middle - span / 2, middle + span / 2)
        _ = axes.set_xlim(limits) if axis == "x" else axes.set_ylim(limits)


LOOK_EVERY = 4  # pixels across and down: a look over the depth takes little memory
DEPTH_SAMPLES = 40  # frames whose depth is looked at; all of them would take minutes on a long flight
# Poses jump where they change this many times faster than usual, and so suddenly that no aircraft does, or a hand:
JUMP_FACTOR = 20.0
LEAST_STEP_M, LEAST_TURN_DEG = 0.1, 5.0  # smaller ones may be noise
MOST_MPS2, MOST_DEGPS2 = (20.0, 400.0)  # frames seconds apart may thus be of one survey line and the next, flown back
ALIAS_DEG = 90.0  # a larger turn may as well have been the other way round: what comes next does not confirm it
WILD_DEG, FASTEST_DEGPS = 60.0, 720.0  # no recording usually turns more, from frame to frame, or faster
OUTLIER_FACTOR = 4.0  # farthest depth over the 99th percentile
# A lens without distortion that sees more, or less, is a focal length in a wrong unit.
WIDEST_DEG, NARROWEST_DEG = 140.0, 3.0
FASTEST_MPS, FARTHEST_M = 150.0, 100_000.0  # what a drone's poses stay below
# Metres are hardly ever whole numbers, nor so large; millimetres are both.
MILLIMETRES_FROM, WHOLE_SHARE = 200.0, 0.95
_YEAR_2000_NS = 946_684_800 * 1_000_000_000


@dataclass(frozen=True)
class Inspection:
    """The summary and where it and the pictures were written."""

    text: str
    contact_sheet: Path
    track: Path
    warnings: int = 0


def inspect(dataset: Dataset, out: Path | None = None, frames: int = 12) -> Inspection:
    """Write summary.txt, contact_sheet.png (of `frames` frames) and track.png, by default to `<dataset>/inspect/`.

    UserError for damaged images, or when `out` cannot be written.
    """
    folder = out if out is not None else dataset.path / "inspect"
    split = held_out(dataset)
    text = summary(dataset, split)
    with os_errors(f"cannot write to {folder}", "choose another folder with --out"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "summary.txt").write_text(text + "\n")
        sheet, track = folder / "contact_sheet.png", folder / "track.png"
        draw_contact_sheet(dataset, sheet, frames)
        draw_track(dataset, split, track)
    return Inspection(text, sheet, track, text.count("\nwarning: "))


def held_out(dataset: Dataset) -> splits.Split | None:
    """The default split of training and reports; None when the dataset is too small for one."""
    if len(dataset) < splits.FEWEST_FRAMES:
        return None
    return splits.default_split(dataset.path, dataset.stamps_ns, dataset.T_map_cam[:, :3, 3])


def summary(dataset: Dataset, split: splits.Split | None) -> str:
    """The facts of a dataset, one per line, every number with its unit."""
    return "\n".join(f"{name:<9} {text}" for name, text in facts(dataset, split))


def facts(dataset: Dataset, split: splits.Split | None) -> list[tuple[str, str]]:
    """What a fact is of, and the fact in words; a name may come twice."""
    depth = sampled_depth(dataset) if dataset.has_depth else None
    return [
        ("dataset", str(dataset.path)),
        ("frames", f"{len(dataset)}, colour{f' and {dataset.depth_kind} depth' if dataset.has_depth else ' only'}"),
        ("time", _time(dataset.stamps_ns)),
        *(("pause", pause) for pause in _pauses(dataset.stamps_ns)),
        ("images", _images(dataset)),
        ("camera", _camera(dataset.camera)),
        ("depth", _depth(dataset, depth) if depth is not None else "none"),
        ("track", _track(dataset.stamps_ns, dataset.T_map_cam)),
        ("map", _map(dataset)),
        *([("poses", _poses(dataset.meta.poses))] if dataset.meta.poses else []),
        *(("source", source) for source in _sources(dataset)),
        ("held out", _split(split)),
        *(("warning:", warning) for warning in warnings(dataset, depth)),
    ]


def figures_of(dataset: Dataset) -> dict[str, Any]:
    """The same facts as numbers, under keys that hold their units; what is not known is None."""
    stamps, position = dataset.stamps_ns, dataset.T_map_cam[:, :3, 3]
    steps_s, joined = np.diff(stamps) / 1e9, np.diff(splits.recordings(stamps)) == 0
    steps_m, turns_rad = _motion(dataset.T_map_cam)
    depth = sampled_depth(dataset) if dataset.has_depth else None
    known = np.zeros(0) if depth is None else depth[np.isfinite(depth)]
    split, camera, datum = held_out(dataset), dataset.camera, dataset.meta.datum

    def median(values: AnyArray) -> float | None:
        return float(np.median(values)) if len(values) else None

    speed_mps = np.linalg.norm(steps_m, axis=1)[joined] / steps_s[joined]
    turning_degps = np.degrees(np.linalg.norm(turns_rad, axis=1))[joined] / steps_s[joined]
    unit = "m" if dataset.depth_kind == "metric" else "relative"
    return {
        "dataset": str(dataset.path),
        "frames": len(dataset),
        "first_stamp_ns": int(stamps[0]),
        "duration_s": float(stamps[-1] - stamps[0]) / 1e9,
        "step_median_s": median(steps_s[joined]),
        "step_max_s": float(steps_s.max()) if len(steps_s) else None,
        "pauses": int((~joined).sum()),
        "camera": camera.figures(),
        "depth": None if depth is None else {
            "kind": dataset.depth_kind,
            f"median_{unit}": median(known),
            f"min_{unit}": float(known.min()) if known.size else None,
            f"max_{unit}": float(known.max()) if known.size else None,
            "unknown_share": 1 - known.size / depth.size,
            "sampled_frames": len(depth),
        },
        "track_length_m": float(np.linalg.norm(steps_m, axis=1)[joined].sum()),
        "track_extent_m": np.ptp(position, axis=0).tolist(),
        "speed_median_mps": median(speed_mps),
        "turning_median_degps": median(turning_degps),
        "map_frame": dataset.meta.map_frame,
        "camera_frame": dataset.meta.camera_frame,
        "datum": datum.to_dict() if datum else None,
        "held_out": None if split is None else {
            "train": len(split.train), "choose": len(split.choose), "judge": len(split.judge)
        },
        "warnings": warnings(dataset, depth),
    }  # fmt: skip


def warnings(dataset: Dataset, depth: Float32 | None = None) -> list[str]:
    """What a person should check before training; `depth` as of `sampled_depth`."""
    found = []
    if not dataset.camera.is_calibrated:
        found.append(
            "the camera is not calibrated: images can be learned, but not compared with another camera's "
            "(pose2rgbd align finds its focal length)"
        )
    found += motion_warnings(dataset.stamps_ns, dataset.T_map_cam)
    found += lens_warnings(dataset.camera)
    if depth is not None:
        found += depth_warnings(depth, dataset.depth_kind == "metric")
    return found


def motion_warnings(stamps_ns: Int64, T_map_cam: Float64) -> list[str]:
    """What no drone's poses (N, 4, 4) do: jumps, standing still, speed."""
    found = []
    steps, turns = _motion(T_map_cam)
    joined = np.diff(splits.recordings(stamps_ns)) == 0
    found += _of_jumps(steps, turns, np.diff(stamps_ns) / 1e9, joined)
    if joined.any() and not steps.any() and not turns.any():
        found.append("the camera never moves: check the pose topic")
    elif joined.any() and np.linalg.norm(steps, axis=1).max() < 1e-6:
        found.append("the camera turns but never moves: check the pose topic")
    return [*found, *_of_track(stamps_ns, T_map_cam, steps, joined)]


def depth_warnings(depth: Float32, is_metric: bool) -> list[str]:
    """Of sampled depth of any shape, NaN unknown: another unit than it says, marks for unknown."""
    found = []
    known = depth[np.isfinite(depth)]
    if known.size and is_metric and np.median(known) > MILLIMETRES_FROM:
        low, high = np.percentile(known, [1, 99])
        whole = float(np.mean(known == np.rint(known))) > WHOLE_SHARE
        if whole or np.median(known) > 1000:
            found.append(
                f"98 % of the depth is {low:,.0f} to {high:,.0f} m{', in whole numbers' if whole else ''}: these look "
                "like millimetres taken for metres: record them as 16UC1, or divide them by 1000, and convert anew "
                "(--depth-kind relative keeps them without a unit), or import anew with --depth-unit-m 0.001"
            )
    if known.size and known.max() > OUTLIER_FACTOR * np.percentile(known, 99):
        found.append(
            f"single depths reach {known.max():.2f}, 99 % end at {np.percentile(known, 99):.2f}: if that is the "
            "source's mark for unknown (65535?), make it 0 there: training scales depth by its extremes"
        )
    return found


def lens_warnings(camera: Camera) -> list[str]:
    """What is odd about the field of view of a camera without distortion."""
    if not camera.is_calibrated or camera.is_distorted:
        return []
    sees_deg = max(
        float(np.degrees(2 * np.arctan(n / (2 * f))))
        for n, f in ((camera.width, camera.fx), (camera.height, camera.fy))
    )
    if NARROWEST_DEG <= sees_deg <= WIDEST_DEG:
        return []
    return [
        f"the camera sees {sees_deg:.0f} degrees without distortion, which no usual lens does: check its focal length "
        f"({camera.fx:.1f} pixels), or give --fov-deg"
    ]


def _of_jumps(steps_m: Float64, turns_rad: Float64, seconds: Float64, joined: Bool) -> list[str]:
    """Where poses jump; steps and turns (N-1, 3) from each frame to the next, `joined` where of one recording."""
    found = []
    turns_deg = np.degrees(turns_rad)
    for name, change, unit, least, alias, most in (
        ("moves", steps_m, "m", LEAST_STEP_M, np.inf, MOST_MPS2),
        ("turns", turns_deg, "degrees", LEAST_TURN_DEG, ALIAS_DEG, MOST_DEGPS2),
    ):
        size, rate = np.linalg.norm(change, axis=1), change / seconds[:, None]
        speed = np.linalg.norm(rate, axis=1)
        usual = float(np.median(speed[joined])) if joined.any() else 0.0
        limit = np.clip(JUMP_FACTOR * usual * seconds, least, alias) if usual > 0 else alias
        jumps = np.flatnonzero(joined & (size > limit) & (_suddenness(rate, size, seconds, joined, alias) > most))
        if len(jumps):
            worst = int(jumps[size[jumps].argmax()])
            found.append(
                f"the camera {name} {size[worst]:.2f} {unit} within {seconds[worst]:.2f} s from frame {worst} to "
                f"{worst + 1} (usually {usual * seconds[worst]:.3g}); {counted(len(jumps), 'such jump')}: check the "
                "poses"
            )
    if joined.any():
        size = np.linalg.norm(turns_deg, axis=1)[joined]
        usual, speed_degps = float(np.median(size)), float(np.median(size / seconds[joined]))
        if usual > WILD_DEG or speed_degps > FASTEST_DEGPS:
            found.append(
                f"the camera turns {usual:.0f} degrees from frame to frame, {speed_degps:,.0f} a second (medians): "
                "check the orientations"
            )
    return found


def _suddenness(rate: Float64, size: Float64, seconds: Float64, joined: Bool, alias: float) -> Float64:
    """By how much (N-1,) each rate (N-1, 3) differs from those before and after it, a second; of the two the less."""
    confirming = np.where(size[:, None] > alias, 0.0, rate)
    between_s = (seconds[1:] + seconds[:-1]) / 2
    pairs = joined[1:] & joined[:-1]
    least = np.full(len(rate), np.inf)
    least[:-1][pairs] = (np.linalg.norm(rate[:-1] - confirming[1:], axis=1) / between_s)[pairs]
    after = np.linalg.norm(rate[1:] - confirming[:-1], axis=1) / between_s
    least[1:][pairs] = np.minimum(least[1:], after)[pairs]
    return np.where(np.isfinite(least), least, 0.0)  # without neighbours nothing is sudden


def _of_track(stamps_ns: Int64, T_map_cam: Float64, steps_m: Float64, joined: Bool) -> list[str]:
    """What no drone's poses do."""
    found = []
    extent_m = float(np.ptp(T_map_cam[:, :3, 3], axis=0).max())
    if extent_m > FARTHEST_M:
        found.append(f"the poses extend over {extent_m / 1000:,.0f} km: check the pose topic and its unit")
    if joined.any():
        speed_mps = float(np.median(np.linalg.norm(steps_m, axis=1)[joined] / (np.diff(stamps_ns)[joined] / 1e9)))
        if speed_mps > FASTEST_MPS:
            found.append(f"the camera moves at {speed_mps:,.0f} m/s (median): check the poses and their unit")
    return found


def look_over(path: Path) -> list[str]:
    """The warnings of a dataset that was just made, by a coarse look at its depth. UserError for a damaged dataset."""
    dataset = Dataset(path)
    if not len(dataset):
        return []
    return warnings(dataset, sampled_depth(dataset, every=LOOK_EVERY) if dataset.has_depth else None)


def sampled_depth(dataset: Dataset, count: int = DEPTH_SAMPLES, every: int = 1) -> Float32:
    """Depth (n, H, W) of evenly spaced frames, `every` so many pixels of a row and a column."""
    return np.stack([dataset.depth(i)[::every, ::every].copy() for i in evenly_spaced(len(dataset), count)])


def _time(stamps: Int64) -> str:
    seconds = (int(stamps[-1]) - int(stamps[0])) / 1e9
    first = datetime.fromtimestamp(int(stamps[0]) // 1_000_000_000, UTC)
    # Simulated and boot clocks start near zero; as a date they would only mislead.
    start = f"{first:%Y-%m-%d %H:%M:%S} UTC" if stamps[0] > _YEAR_2000_NS else f"{stamps[0] / 1e9:.3f} s"
    if len(stamps) == 1:
        return f"at {start}, a single frame"
    steps = np.diff(stamps) / 1e9
    joined = steps[np.diff(splits.recordings(stamps)) == 0]
    usual = float(np.median(joined if len(joined) else steps))
    unit, factor = ("s", 1.0) if usual > 1 else ("ms", 1e3)
    spread = f", steps {joined.min() * factor:.0f} to {joined.max() * factor:.0f} {unit}" if len(joined) else ""
    rate = f"{1 / usual:.1f} Hz" if usual <= 1 else f"a frame in {usual:.1f} s"
    return f"from {start}, {seconds:.1f} s long; {rate}{spread}"


def _pauses(stamps: Int64) -> list[str]:
    """The pauses that part recordings, and how many frames seem to be missing elsewhere."""
    if len(stamps) < 3:
        return []
    steps = np.diff(stamps) / 1e9
    usual = float(np.median(steps))
    parted = np.flatnonzero(np.diff(splits.recordings(stamps)))
    lines = [f"{steps[i]:.1f} s after frame {i}" for i in parted[:10]]
    if len(parted) > 10:
        lines.append(f"and {len(parted) - 10} more")
    short = (steps > 1.6 * usual) & (steps <= splits.GAP_FACTOR * usual)
    if short.any():
        missing = int(np.rint(steps[short] / usual - 1).sum())
        lines.append(f"{counted(int(short.sum()), 'short one')}, about {counted(missing, 'frame')} missing in all")
    return lines


def _images(dataset: Dataset) -> str:
    files = [dataset.path / record.rgb for record in dataset.records]
    kinds = sorted({path.suffix[1:] for path in files})
    size = np.mean([path.stat().st_size for path in files[:: max(1, len(files) // 50)]]) / 1024
    return f"{dataset.camera.width} x {dataset.camera.height} pixels, {' and '.join(kinds)}, {size:.0f} KiB each"


def _camera(camera: Camera) -> str:
    if not camera.is_calibrated:
        return "not calibrated"
    text = f"fx {camera.fx:.2f}, fy {camera.fy:.2f}, cx {camera.cx:.2f}, cy {camera.cy:.2f} pixels"
    if camera.is_distorted:
        return f"{text}; {camera.distortion_model} " + ", ".join(f"{value:.4g}" for value in camera.distortion)
    across = [
        np.degrees(2 * np.arctan(n / (2 * f))) for n, f in ((camera.width, camera.fx), (camera.height, camera.fy))
    ]
    return f"{text}; sees {across[0]:.0f} x {across[1]:.0f} degrees; no distortion"


def describe_depth(dataset: Dataset) -> str:
    """Kind, unit, size, range and how it was made of a dataset's depth."""
    return _depth(dataset, sampled_depth(dataset))


def _depth(dataset: Dataset, values: Float32) -> str:
    meta = dataset.meta.depth or DepthMeta()
    stored = f"16 bit counts of {meta.unit_m * 1000:g} mm" if meta.unit_m else "32 bit float"
    known = values[np.isfinite(values)]
    unknown = f"unknown {100 * (1 - known.size / values.size):.1f} %"
    if known.size == 0:
        return f"{meta.kind}, {stored}; nothing known"
    unit = " m" if meta.kind == "metric" else " (no unit)"
    low, median, high = np.percentile(known, [1, 50, 99])
    return (
        f"{meta.kind}, {stored}, {values.shape[2]} x {values.shape[1]} pixels; {known.min():.2f} to {known.max():.2f}"
        f"{unit}, 98 % within {low:.2f} to {high:.2f}{unit}, median {median:.2f}{unit}; {unknown} "
        f"(of {counted(len(values), 'frame')}){_made(meta)}"
    )


def _made(meta: DepthMeta) -> str:
    """How depth was made that nothing measured."""
    if meta.made is None:
        return ""
    sigma = meta.made.scale_sigma
    return f"; made by {meta.made.method}{'' if sigma is None else f', scale within {100 * sigma:.2g} % (one sigma)'}"


def _motion(T_map_cam: Float64) -> tuple[Float64, Float64]:
    """Metres and rotation vectors in radians (N-1, 3), both along the map's axes, from each frame to the next."""
    turned = Rotation.from_quat(from_matrix(T_map_cam[:, :3, :3]))
    return np.diff(T_map_cam[:, :3, 3], axis=0), (turned[1:] * turned[:-1].inv()).as_rotvec()


def _track(stamps: Int64, T_map_cam: Float64) -> str:
    position = T_map_cam[:, :3, 3]
    extent = np.ptp(position, axis=0)
    text = f"extent {extent[0]:.2f} x {extent[1]:.2f} x {extent[2]:.2f} m (x, y, z)"
    joined = np.diff(splits.recordings(stamps)) == 0
    if not joined.any():
        return text
    steps, turns = (np.linalg.norm(change, axis=1) for change in _motion(T_map_cam))
    seconds = np.diff(stamps)[joined] / 1e9
    return (
        f"{steps[joined].sum():.2f} m long, {text}; speed median {np.median(steps[joined] / seconds):.2f}, "
        f"max {np.max(steps[joined] / seconds):.2f} m/s; turning median "
        f"{np.degrees(np.median(turns[joined] / seconds)):.1f}, max {np.degrees(np.max(turns[joined] / seconds)):.1f} "
        "deg/s"
    )


def _map(dataset: Dataset) -> str:
    meta, datum = dataset.meta, dataset.meta.datum
    place = (
        f"origin at {datum.latitude_deg:.7f}, {datum.longitude_deg:.7f} degrees, {datum.altitude_m:.2f} m"
        if datum
        else "not tied to the Earth"
    )
    return f"{meta.map_frame} (camera: {meta.camera_frame}), {place}"


def _poses(poses: PosesMeta) -> str:
    text = f"position {poses.position}, orientation {poses.orientation}, {poses.interpolation}"
    if poses.unit == "none":
        text += "; in no unit, whatever metres are said of them"
    elif poses.accuracy and "position_sigma_m" in poses.accuracy:  # of an alignment
        position = ", ".join(f"{value:.2f}" for value in poses.accuracy["position_sigma_m"])
        text += f"; standard deviations (median) {position} m along x, y, z, "
        text += f"{poses.accuracy['orientation_sigma_deg']:.2f} degrees, scale {poses.accuracy['scale_sigma']:.2%}"
    elif poses.accuracy:
        across, up, yaw = (
            poses.accuracy.get(name) for name in ("horizontal_sigma_m", "vertical_sigma_m", "yaw_sigma_deg")
        )
        text += f"; standard deviations by its own account: {across} m across, {up} m up, {yaw} degrees of heading"
    if poses.image_time_offset_s:
        sure = "" if poses.image_time_confidence is None else f" (confidence {poses.image_time_confidence:.2f})"
        text += f"; images looked up {poses.image_time_offset_s:+.3f} s from their stamps{sure}"
    if poses.altitude_reference != "unknown":
        text += f"; heights from {poses.altitude_reference}"
    return text


def _sources(dataset: Dataset) -> list[str]:
    lines = []
    for source in dataset.meta.sources:
        span = ""
        if source.first_stamp_ns is not None and source.last_stamp_ns is not None:
            span = f" over {(source.last_stamp_ns - source.first_stamp_ns) / 1e9:.1f} s"
        lines.append(f"{source.name}: {counted(source.frames, 'frame')}{span}")
    return lines


def _split(split: splits.Split | None) -> str:
    if split is None:
        return f"nothing: fewer than {splits.FEWEST_FRAMES} frames"
    stretches = 1 + int((np.diff(split.test) > 1).sum())
    in_stretches = f"{stretches} stretches" if stretches > 1 else "1 stretch"
    by = f"as {layout.SPLIT} says" if split.name == "dataset" else "by default"
    roles = f"{len(split.choose)} to choose by, {len(split.judge)} to judge by"
    if len(split.choose) == 0:
        roles = "too few to choose by: they judge only"
    held_out = counted(len(split.test), "frame")
    return f"{held_out} held out in {in_stretches} ({roles}); {len(split.train)} for training ({by})"


# Frames cut into depth slices, as Figure 5 of the Pose2RGBD paper shows them: a soft segmentation for free.


_OUTSIDE = 0.12  # brightness of what lies outside a slice


def slice_of(depth: Float32, nearest: float, farthest: float, slices: int) -> Int64:
    """Index (H, W) of the slice each pixel belongs to, -1 where depth is unknown.

    Slice i holds depths from `nearest` + i / S of the range, the last one closed (paper, section 2); what lies beyond
    the range belongs to the first or last slice.
    """
    known = np.isfinite(depth)
    share = (np.where(known, depth, nearest) - nearest) / (farthest - nearest)
    index = np.clip(np.floor(share * slices), 0, slices - 1).astype(np.int64)
    return np.where(known, index, -1)


def draw_slices(dataset: Dataset, path: Path, slices: int = 4, frames: int = 3) -> None:
    """Colour, depth and each depth slice of evenly spaced frames, one frame a row.

    The slices share the range of depth of the frames shown. UserError: no depth, none known, or fewer than 2 slices.
    """
    if not dataset.has_depth:
        raise UserError(f"{dataset.path} has no depth to cut into slices")
    if not 2 <= slices <= 16:
        raise UserError(f"{slices} slices; a picture shows 2 to 16")
    indices = evenly_spaced(len(dataset), frames)
    depths = [thumbnail(dataset.depth(i)) for i in indices]
    known = np.concatenate([depth[np.isfinite(depth)] for depth in depths])
    if not known.size or known.min() == known.max():
        raise UserError(f"{dataset.path}: the frames shown hold no range of depth to cut")
    nearest, farthest = float(known.min()), float(known.max())
    bounds = np.linspace(nearest, farthest, slices + 1)
    unit = " m" if dataset.depth_kind == "metric" else ""
    titles = ["colour", "depth", *(f"{low:.0f} to {high:.0f}{unit}" for low, high in itertools.pairwise(bounds))]
    figure = Figure(figsize=(2.1 * len(titles), 2.1 * _aspect(dataset) * len(indices) + 0.35), dpi=110)
    grid = figure.add_gridspec(
        len(indices), len(titles), left=0.005, right=0.995, bottom=0.01,
        top=1 - 0.3 / figure.get_figheight(), wspace=0.03, hspace=0.03,
    )  # fmt: skip
    for row, (i, depth) in enumerate(zip(indices, depths, strict=True)):
        rgb = thumbnail(dataset.rgb(i))
        index = _as_large_as(rgb, slice_of(depth, nearest, farthest, slices))
        images = [rgb, depth, *(_only(rgb, index == number) for number in range(slices))]
        for column, image in enumerate(images):
            axes = image_axes(figure, grid[row, column])
            axes.imshow(image, cmap=depth_colours(), vmin=nearest, vmax=farthest)
            if row == 0:
                axes.set_title(titles[column], fontsize=9, pad=4)
    figure.savefig(path)


def _aspect(dataset: Dataset) -> float:
    return dataset.camera.height / dataset.camera.width


def _only(rgb: UInt8, inside: np.ndarray) -> UInt8:
    return np.where(inside[..., None], rgb, (rgb * _OUTSIDE).astype(np.uint8))


def _as_large_as(rgb: UInt8, index: Int64) -> Int64:
    """Nearest-neighbour enlargement where the depth image is smaller than the colour image."""
    rows = np.arange(rgb.shape[0]) * index.shape[0] // rgb.shape[0]
    columns = np.arange(rgb.shape[1]) * index.shape[1] // rgb.shape[1]
    enlarged: Int64 = index[rows[:, None], columns[None]]
    return enlarged
