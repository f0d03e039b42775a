"""Pictures of the simulated city and of flights over it, to look at before flying for an hour; docs/simulator.md."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from mpl_toolkits.mplot3d.art3d import Line3DCollection
from mpl_toolkits.mplot3d.axes3d import Axes3D

from pose2rgbd_ros import settings
from pose2rgbd_ros.dataset.inspect import along
from pose2rgbd_ros.errors import os_errors
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import AnyArray, Float64, UInt8
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.settings import setting
from pose2rgbd_ros.sim.city.city import City
from pose2rgbd_ros.sim.city.config import SEASONS, CityConfig
from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.sim.flights.flight import Flight
from pose2rgbd_ros.sim.flights.make import make_flight
from pose2rgbd_ros.sim.flights.route import Terrain
from pose2rgbd_ros.sim.gl.renderer import SceneRenderer, require_opengl

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
    some = along(position, _ARROWS)
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


def _title(flight: Flight, position: Float64, role: AnyArray) -> str:
    length_m = float(np.linalg.norm(np.diff(position, axis=0), axis=1).sum())
    low, high = position[:, 2].min(), position[:, 2].max()
    height = f"{position[:, 2].mean():.0f} m" if high - low < 3 else f"{low:.0f} to {high:.0f} m"
    shares = [f"{(role == word).mean():.0%} {_NAMES[word]}" for word in COLOURS if (role == word).any()]
    return (
        f"{flight.name}: {length_m / 1000:.1f} km in {flight.duration_s / 60:.1f} min at z = {height}; "
        f"{flight.lines} lines, {len(flight.held_out_lines)} held out\n{', '.join(shares)} (of the time)"
    )


STREET_EYE_M = 9.0  # height of the low views above the street
CLEAR_M = 3.0  # views are taken at least so far above what stands below them
EVENING: dict[str, Any] = {"sun_elevation_deg": 14.0, "sun_azimuth_deg": 250.0}
TRAFFIC = {"cars": 60, "people": 80}  # of the picture of movers, where the city has none and is not small


@dataclass
class GalleryConfig:
    """What `pose2rgbd sim gallery` shows."""

    size: int = setting(480, "width and height of each view in pixels", ge=64, le=2048)
    city: CityConfig = field(default_factory=CityConfig)
    flight: FlightConfig = field(default_factory=FlightConfig)


def draw_gallery(out: Path, config: GalleryConfig) -> list[Path]:
    """Write flight.png, views.jpg, seasons.jpg and movers.jpg to `out`; returns their paths.

    UserError: settings out of bounds, a flight below the roofs, no OpenGL, a folder that cannot be written.
    """
    settings.check(config)
    with os_errors(f"cannot write pictures to {out}"):
        out.mkdir(parents=True, exist_ok=True)
        return _draw_all(out, config)


def _draw_all(out: Path, config: GalleryConfig) -> list[Path]:
    require_opengl()
    city = City(config.city)
    flight = make_flight(config.flight, city)
    camera = Camera.from_fov(config.size, config.size, 64.0)
    paths = [out / name for name in ("flight.png", "views.jpg", "seasons.jpg", "movers.jpg")]
    draw_flight(flight, paths[0], city)
    _draw_views(city, camera, paths[1])
    _draw_seasons(city, camera, paths[2])
    _draw_movers(config.city, camera, paths[3])
    return paths


def viewpoints(city: City) -> dict[str, np.ndarray]:
    """T_map_cam (4, 4) of typical views by name; higher than their names say where something stands there."""
    start, end = _longest_street(city)

    def look_at(eye_m: npt.ArrayLike, target_m: npt.ArrayLike) -> np.ndarray:
        return se3.look_at(_lifted(city, eye_m), target_m)

    up = [0.0, 0.0, STREET_EYE_M]
    return {
        "55 m, 45 degrees down": look_at([-75.0, -65.0, 55.0], [-25.0, -25.0, 0.0]),
        "55 m, straight down": look_at([20.0, 10.0, 55.0], [20.0, 10.0, 0.0]),
        "towards the horizon": look_at([0.0, -190.0, 60.0], [0.0, 60.0, 0.0]),
        "along a street": look_at(start + up, end + up),
        "above a crossing": look_at(start + np.array([0.0, 0.0, 26.0]), start + 0.25 * (end - start)),
        "from 140 m": look_at([150.0, 150.0, 140.0], [0.0, 0.0, 0.0]),
    }


def _lifted(city: City, eye_m: npt.ArrayLike) -> np.ndarray:
    """The point (3,), or as far above it as keeps clear of what stands there."""
    eye = np.array(eye_m, float)
    eye[2] = max(eye[2], float(city.surface_height_m(eye[None, :2])[0]) + CLEAR_M)
    return eye


def _longest_street(city: City) -> tuple[np.ndarray, np.ndarray]:
    """Two points (3,) of the longest street: a fifth of the way in, and its end."""
    points = max((street.points_m for street in city.streets), key=lambda p: np.linalg.norm(p[-1] - p[0]))
    return points[len(points) // 5], points[-1]


def _draw_views(city: City, camera: Camera, path: Path) -> None:
    with SceneRenderer(city.scene, camera, supersample=2) as renderer:
        views = {name: renderer.render(T) for name, T in viewpoints(city).items()}
    images = {name: view.rgb for name, view in views.items()}
    near = next(iter(views.values()))
    images["depth of the first"] = colour_depth(near.depth_m)
    images["its surfaces' slope"] = colour_slope(near.depth_m, camera)
    _save_grid(path, images, columns=4)


def _draw_seasons(city: City, camera: Camera, path: Path) -> None:
    T_map_cam = se3.look_at(_lifted(city, [-75.0, -65.0, 55.0]), [-15.0, -15.0, 0.0])
    dressed = {season: replace(city.config, season=season) for season in SEASONS}
    dressed["evening"] = replace(city.config, **EVENING)
    images = {}
    for name, config in dressed.items():
        same = config == city.config
        with SceneRenderer((city if same else City(config)).scene, camera, supersample=2) as renderer:
            images[name] = renderer.render(T_map_cam).rgb
    _save_grid(path, images, columns=5)


def _draw_movers(config: CityConfig, camera: Camera, path: Path) -> None:
    # Small cities have fewer streets, and cars keep off the ends of those.
    room = min(1.0, config.extent_m / CityConfig.extent_m) ** 3
    traffic: dict[str, Any] = {name: getattr(config, name) or int(room * count) for name, count in TRAFFIC.items()}
    city = City(replace(config, **traffic))
    start, end = _longest_street(city)
    T_map_cam = se3.look_at(_lifted(city, start + np.array([0.0, 0.0, 20.0])), start + 0.3 * (end - start))
    with SceneRenderer(city.scene, camera, supersample=2) as renderer:
        view, twin = renderer.render(T_map_cam, 12.0), renderer.render(T_map_cam, 12.0, movers=False)
    labels = np.array([[40, 40, 40], [255, 90, 60], [70, 120, 255]], np.uint8)[view.labels]
    difference = np.abs(view.rgb.astype(int) - twin.rgb).max(axis=2).clip(0, 255).astype(np.uint8)
    _save_grid(
        path,
        {
            "with movers": view.rgb,
            "mover-free twin": twin.rgb,
            "labels: mover, its shadow": labels,
            "difference": np.repeat(difference[..., None], 3, axis=2),
        },
        columns=4,
    )


def colour_depth(depth_m: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3): near is red, far is blue, unknown is grey."""
    known = np.isfinite(depth_m)
    low, high = np.percentile(depth_m[known], [1, 99]) if known.any() else (0.0, 1.0)
    share = np.where(known, (depth_m - low) / max(high - low, 1e-6), 0.0)
    return np.where(known[..., None], colormaps["turbo_r"](share)[..., :3] * 255, 210).astype(np.uint8)


def colour_slope(depth_m: np.ndarray, camera: Camera) -> np.ndarray:
    """uint8 (H, W, 3): surface normals in the camera, from depth alone; a plane is one colour."""
    points = camera.rays() * depth_m[..., None]
    normal = np.cross(np.gradient(points, axis=1), np.gradient(points, axis=0))
    with np.errstate(invalid="ignore"):
        normal = normal / np.linalg.norm(normal, axis=-1, keepdims=True)
    return np.where(np.isfinite(normal), (normal + 1) * 127.5, 210).astype(np.uint8)


def _save_grid(path: Path, images: dict[str, np.ndarray], columns: int, tile_inch: float = 3.2) -> None:
    """The images under their names, `columns` in a row."""
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(tile_inch * columns, (tile_inch + 0.28) * rows), dpi=100)
    grid = figure.subplots(rows, columns, squeeze=False)
    figure.subplots_adjust(
        left=0.004, right=0.996, bottom=0.004, top=1 - 0.24 / figure.get_figheight(), wspace=0.02, hspace=0.09
    )
    for axes, (name, image) in zip(grid.flat, images.items(), strict=False):
        axes.imshow(image)
        axes.set_title(name, fontsize=9, pad=4)
    for axes in grid.flat:
        axes.set_axis_off()
    figure.savefig(path, pil_kwargs={"quality": 88})
