"""A picture of a flight, as the paper's Figure 3: in space and from above, held-out lines marked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from mpl_toolkits.mplot3d.art3d import Line3DCollection
from mpl_toolkits.mplot3d.axes3d import Axes3D

from pose2rgbd_ros.geometry.arrays import AnyArray, Float64, UInt8
from pose2rgbd_ros.sim.flights.flight import Flight
from pose2rgbd_ros.sim.flights.route import Terrain

COLOURS = {"train": "tab:blue", "unused": "0.25", "test": "tab:orange"}
_WIDTHS = {"train": 1.1, "unused": 1.1, "test": 2.2}
_NAMES = {"train": "training", "unused": "in neither set", "test": "held-out lines"}
_LEAST_STEPS, _MOST_STEPS = 1000, 40_000
_STEP_S = 0.2
_ARROWS = 70
_DPI = 110
_MAP_PX = 700
_RELIEF_CELLS = 110


def draw_flight(flight: Flight, path: Path, city: Terrain | None = None, background: UInt8 | None = None) -> None:
    """Write the picture to `path`, its kind by its suffix.

    Args:
        flight: what to draw; its `split` colours it.
        city: drawn below the flight.
        background: (H, W, 3) the city from straight above, north up, from border to border; without it, its heights.
    """
    steps = int(np.clip(flight.duration_s / _STEP_S, _LEAST_STEPS, _MOST_STEPS))
    t_s = np.linspace(0.0, flight.duration_s, steps)
    position, role = flight.position_m(t_s), flight.split(t_s)
    figure = Figure(figsize=(14.0, 6.9), dpi=_DPI)
    figure.suptitle(_title(flight, position, role), fontsize=11, y=0.975)
    space = figure.add_axes((-0.02, 0.05, 0.52, 0.86), projection="3d", computed_zorder=False)
    above = figure.add_axes((0.56, 0.135, 0.42, 0.765))
    assert isinstance(space, Axes3D)
    _draw_in_space(space, position, role, city)
    if city is not None:
        _draw_ground(above, city, background)
    _draw_from_above(above, flight, t_s, position, role)
    FigureCanvasAgg(figure)  # the canvas belongs to the figure: no display, no global state
    figure.savefig(path)


def _draw_in_space(axes: Axes3D, position: Float64, role: AnyArray, city: Terrain | None) -> None:
    low, high = position.min(axis=0), position.max(axis=0)
    low[2] = min(0.0, low[2])
    if city is not None:
        x, y, height = _heights(city, _RELIEF_CELLS)
        low, high = (np.minimum(low, [x[0], y[0], height.min()]), np.maximum(high, [x[-1], y[-1], height.max()]))
        axes.plot_surface(
            *np.meshgrid(x, y), height, rcount=_RELIEF_CELLS, ccount=_RELIEF_CELLS, color="0.86", linewidth=0, zorder=1
        )  # fmt: skip
    for name, parts in _parts(position, role).items():
        collection = Line3DCollection(parts, colors=COLOURS[name], linewidths=0.8 * _WIDTHS[name])
        collection.set_zorder(3 if name == "test" else 2)
        axes.add_collection3d(collection)
    side = float((high - low)[:2].max())
    middle = (low + high)[:2] / 2
    axes.set_xlim(middle[0] - side / 2, middle[0] + side / 2)
    axes.set_ylim(middle[1] - side / 2, middle[1] + side / 2)
    axes.set_zlim(low[2], max(high[2], low[2] + 0.15 * side))
    axes.set_box_aspect((1, 1, max(high[2] - low[2], 0.15 * side) / side * 1.3), zoom=0.98)
    axes.view_init(elev=32, azim=-62)
    axes.set(xlabel="x, east [m]", ylabel="y, north [m]", zlabel="z [m]")
    axes.zaxis.labelpad = -2
    axes.locator_params(axis="z", nbins=4)
    axes.tick_params(labelsize=8)


def _draw_from_above(axes: Axes, flight: Flight, t_s: Float64, position: Float64, role: AnyArray) -> None:
    for name, parts in _parts(position[:, :2], role).items():
        zorder = 4 if name == "test" else 3
        axes.add_collection(
            LineCollection(parts, colors=COLOURS[name], linewidths=_WIDTHS[name], capstyle="round", zorder=zorder)
        )
    some = _along(position, _ARROWS)
    view = flight.T_map_cam(t_s[some])[:, :2, 2]
    flat = np.linalg.norm(view, axis=1) < 0.05
    heading = np.where(flat[:, None], flight.T_map_body(t_s[some])[:, :2, 0], view)
    heading /= np.maximum(np.linalg.norm(heading, axis=1, keepdims=True), 1e-9)
    axes.quiver(
        position[some, 0], position[some, 1], heading[:, 0], heading[:, 1],
        color="black", width=0.0035, headwidth=4.5, headlength=5, scale=32, pivot="tail", zorder=5,
    )  # fmt: skip
    handles = [
        Line2D([], [], color=COLOURS[name], linewidth=2 * _WIDTHS[name], label=label)
        for name, label in _NAMES.items()
        if (role == name).any()
    ]
    handles.append(
        Line2D([], [], color="black", marker=r"$\rightarrow$", markersize=13, linestyle="none", label="camera looks")
    )
    for label, place, marker, colour in (("start", 0, "o", "tab:green"), ("end", -1, "s", "tab:red")):
        handles += axes.plot(
            *position[place, :2], marker=marker, color=colour, markersize=8, linestyle="none", label=label, zorder=6
        )  # fmt: skip
    axes.set_aspect("equal", adjustable="datalim")
    axes.autoscale_view()
    axes.set(xlabel="x, east [m]", ylabel="y, north [m]")
    axes.tick_params(labelsize=8)
    axes.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.42, -0.075), ncols=6, fontsize=9, frameon=False,
        columnspacing=1.2, handletextpad=0.4,
    )  # fmt: skip


def _draw_ground(axes: Axes, city: Terrain, background: UInt8 | None) -> None:
    low, high = (np.asarray(corner, float) for corner in city.bounds_m)
    extent = (low[0], high[0], low[1], high[1])
    if background is not None:
        axes.imshow(background, extent=extent, origin="upper", zorder=0)
        return
    height = _heights(city, _MAP_PX)[2]
    # A little brighter where it falls away from the upper left, so that roofs read as blocks.
    slope = np.gradient(height)
    shade = 0.82 + 0.004 * (height - height.min()) + 0.03 * np.clip(slope[1] - slope[0], -4, 4)
    axes.imshow(np.clip(shade, 0, 1), extent=extent, origin="lower", cmap="gray", vmin=0, vmax=1, zorder=0)


def _heights(city: Terrain, cells: int) -> tuple[Float64, Float64, Float64]:
    """x (C,), y (C,) and the height (C, C) of what stands there, rows along y."""
    low, high = city.bounds_m
    x, y = np.linspace(low[0], high[0], cells), np.linspace(low[1], high[1], cells)
    places = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    return x, y, np.asarray(city.surface_height_m(places), dtype=np.float64).reshape(cells, cells)


def _parts(position: Float64, role: AnyArray) -> dict[str, list[Float64]]:
    """Pieces of the way by role, each reaching up to where the next begins."""
    breaks = np.flatnonzero(role[1:] != role[:-1]) + 1
    parts: dict[str, list[Float64]] = {}
    for start, stop in zip([0, *breaks], [*breaks, len(role)], strict=True):
        parts.setdefault(str(role[start]), []).append(position[start : stop + 1])
    return parts


def _along(position: Float64, count: int) -> AnyArray:
    """Places of at most `count` samples, evenly spaced along the way."""
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(position, axis=0), axis=1))])
    return np.unique(np.searchsorted(way, np.linspace(0, way[-1], count)).clip(0, len(way) - 1))


def _title(flight: Flight, position: Float64, role: AnyArray) -> str:
    length_m = float(np.linalg.norm(np.diff(position, axis=0), axis=1).sum())
    low, high = position[:, 2].min(), position[:, 2].max()
    height = f"{position[:, 2].mean():.0f} m" if high - low < 3 else f"{low:.0f} to {high:.0f} m"
    shares = [f"{(role == word).mean():.0%} {_NAMES[word]}" for word in COLOURS if (role == word).any()]
    return (
        f"{flight.name}: {length_m / 1000:.1f} km in {flight.duration_s / 60:.1f} min at z = {height}; "
        f"{flight.lines} lines, {len(flight.held_out_lines)} held out\n{', '.join(shares)} (of the time)"
    )
