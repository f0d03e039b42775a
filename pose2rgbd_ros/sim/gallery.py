"""Pictures of the simulated city, to look at before flying over it for an hour; docs/simulator.md shows them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pose2rgbd_ros import settings
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.settings import setting
from pose2rgbd_ros.sim.city.city import City
from pose2rgbd_ros.sim.city.config import SEASONS, CityConfig
from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.sim.flights.make import make_flight
from pose2rgbd_ros.sim.flights.plot import draw_flight
from pose2rgbd_ros.sim.gl.camera import require_opengl
from pose2rgbd_ros.sim.gl.renderer import SceneRenderer

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
    try:
        out.mkdir(parents=True, exist_ok=True)
        return _draw_all(out, config)
    except OSError as error:
        raise UserError(f"cannot write pictures to {out} ({error.strerror or error})") from error


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
    """uint8 (H, W, 3): surface normals in the camera, told from depth alone; a plane is one colour."""
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
    FigureCanvasAgg(figure)
    figure.savefig(path, pil_kwargs={"quality": 88})
