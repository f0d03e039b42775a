"""Pictures of a dataset: evenly spaced frames, and where the camera flew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from pose2rgbd_ros.dataset import splits
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import counted
from pose2rgbd_ros.geometry.arrays import AnyArray, Float32, Float64, Int64
from pose2rgbd_ros.geometry.depth import resize_nearest

TRAIN, CHOOSE, JUDGE, GUARD = "tab:blue", "tab:purple", "tab:orange", "0.65"
_UNKNOWN = "0.82"
_THUMBNAIL_PX = 320
_ARROWS = 30
_DPI = 110


def evenly_spaced(n: int, count: int) -> list[int]:
    """At most `count` of the indices below n, first and last among them."""
    return sorted({int(i) for i in np.linspace(0, n - 1, min(n, max(1, count))).round()})


def draw_contact_sheet(dataset: Dataset, path: Path, frames: int = 12) -> None:
    """Colour over depth of evenly spaced frames, one depth scale for all. UserError for damaged images."""
    indices = evenly_spaced(len(dataset), frames)
    columns = min(4 if len(indices) <= 8 else 6, len(indices))
    blocks, per_block = -(-len(indices) // columns), 2 if dataset.has_depth else 1
    aspect = dataset.camera.height / dataset.camera.width
    cell_in = 12.0 / columns
    legend_in = 0.75 if dataset.has_depth else 0.0
    height_in = 0.55 + blocks * (per_block * cell_in * aspect + 0.32) + legend_in
    figure = Figure(figsize=(12.4, height_in), dpi=_DPI)
    figure.suptitle(_title(dataset), y=1 - 0.12 / height_in, va="top", fontsize=11, parse_math=False)
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
    if dataset.has_depth:
        _depth_legend(figure, dataset, scale, height_in)
    _save(figure, path)


def draw_track(dataset: Dataset, split: splits.Split | None, path: Path) -> None:
    """The camera's way from above with its viewing directions, and its height over time; held-out parts marked."""
    figure = Figure(figsize=(12.4, 6.2), dpi=_DPI, layout="constrained")
    figure.suptitle(_title(dataset), fontsize=11, parse_math=False)
    above, height = figure.subplots(1, 2, width_ratios=[1.25, 1.0])
    role = _roles(len(dataset), split)
    position = dataset.T_map_cam[:, :3, 3]
    runs = splits.recordings(dataset.stamps_ns)
    _draw_from_above(above, dataset, position, role, runs)
    seconds = (dataset.stamps_ns - dataset.stamps_ns[0]) / 1e9
    _draw_parts(height, seconds, position[:, 2], role, runs)
    height.set(xlabel="time since the first frame [s]", ylabel="z of the camera in the map [m]")
    height.set_title("height", fontsize=10)
    _at_least(height, "y", max(0.1, 0.02 * float(np.ptp(position[:, :2], axis=0).max())))
    height.grid(alpha=0.3)
    _save(figure, path)


def _draw_from_above(axes: Axes, dataset: Dataset, position: Float64, role: AnyArray, runs: Int64) -> None:
    _draw_parts(axes, position[:, 0], position[:, 1], role, runs)
    some = _along(position, _ARROWS)
    arrows, meaning = _directions(dataset.T_map_cam[some])
    drawn = axes.quiver(
        position[some, 0], position[some, 1], arrows[:, 0], arrows[:, 1],
        color="0.25", width=0.0022, headwidth=7, headlength=8, scale=22, pivot="tail", zorder=1.5,
        clip_on=False,
    )  # fmt: skip
    drawn.set_in_layout(False)  # an arrow may reach beyond the axes, which need not make room for it
    axes.plot(
        *position[0, :2],
        marker="o",
        color="tab:green",
        markersize=9,
        linestyle="none",
        label="start",
        zorder=5,
    )
    axes.plot(
        *position[-1, :2], marker="s", color="tab:red", markersize=8, linestyle="none", label="end", zorder=5
    )
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
    axes.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.11), ncols=3, fontsize=9, frameon=False
    )


def _draw_parts(axes: Axes, x: AnyArray, y: AnyArray, role: AnyArray, runs: Int64) -> None:
    """One line per stretch of the same role, dots where a stretch is a single frame; never across a pause."""
    styles = {"train": (TRAIN, 1.6), "guard": (GUARD, 1.6), "choose": (CHOOSE, 4.0), "judge": (JUDGE, 4.0)}
    names = {
        "train": "training",
        "guard": "in no set",
        "choose": "held out, may choose",
        "judge": "held out, judges",
    }
    breaks = np.flatnonzero((role[1:] != role[:-1]) | (runs[1:] != runs[:-1])) + 1
    for part in np.split(np.arange(len(x)), breaks):
        colour, width = styles[str(role[part[0]])]
        reach = part
        if part[-1] + 1 < len(x) and runs[part[-1] + 1] == runs[part[-1]]:
            reach = np.append(part, part[-1] + 1)  # up to the next stretch, so that the line has no holes
        zorder = 3 if role[part[0]] in ("choose", "judge") else 2
        axes.plot(x[reach], y[reach], color=colour, linewidth=width, solid_capstyle="round", zorder=zorder)
        axes.plot(
            x[part], y[part], color=colour, marker=".", markersize=width + 2, linestyle="none", zorder=zorder
        )
    for name in [name for name in names if (role == name).any()]:
        axes.plot([], [], color=styles[name][0], linewidth=styles[name][1], label=names[name])


def _along(position: Float64, count: int) -> list[int]:
    """At most `count` frames, evenly spaced along the way and not in time: where the camera waits, one is enough."""
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(position, axis=0), axis=1))])
    return sorted(
        {int(i) for i in np.searchsorted(way, np.linspace(0, way[-1], count)).clip(0, len(way) - 1)}
    )


def _directions(T_map_cam: Float64) -> tuple[Float64, str]:
    """Unit vectors (n, 2) from above: where the cameras look or, for ones looking along z, where their image's top is."""
    view, top = T_map_cam[:, :2, 2], -T_map_cam[:, :2, 1]
    along_z = np.median(np.linalg.norm(view, axis=1)) < 0.3
    arrows = top if along_z else view
    return arrows / np.maximum(np.linalg.norm(arrows, axis=1, keepdims=True), 1e-9), (
        "top of the image (the camera looks along z)" if along_z else "viewing direction"
    )


def _roles(n: int, split: splits.Split | None) -> AnyArray:
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
    known: Float32 = np.concatenate(
        [depth[np.isfinite(depth)] for depth in depths] or [np.zeros(0, np.float32)]
    )
    low, high = np.percentile(known, [1, 99]) if known.size else (0.0, 1.0)
    return Normalize(low, high if high > low else low + 1.0)


def depth_colours() -> Colormap:
    """Near is red, far is blue, unknown is grey."""
    return colormaps["turbo_r"].with_extremes(bad=_UNKNOWN)


def _depth_legend(figure: Figure, dataset: Dataset, scale: Normalize, height_in: float) -> None:
    bar = figure.add_axes((0.2, 0.42 / height_in, 0.5, 0.14 / height_in))
    mappable = figure.colorbar(
        ScalarMappable(scale, depth_colours()), cax=bar, orientation="horizontal", extend="both"
    )
    metric = dataset.depth_kind == "metric"
    mappable.set_label(
        "depth along the optical axis [m]" if metric else "relative depth (no unit)", fontsize=9
    )
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


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)  # the canvas belongs to the figure: no display, no global state
    figure.savefig(path)
