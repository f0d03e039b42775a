"""The drone, the city it can hit and the three ways it may see, for bench/closed_loop.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.obstacles.scan import ScanSettings, bearings, laser_scan
from pose2rgbd_ros.obstacles.sight import level, see
from pose2rgbd_ros.settings import read_yaml
from pose2rgbd_ros.sim.city.city import City, CityConfig
from pose2rgbd_ros.sim.flights import Flight, FlightConfig, make_flight
from pose2rgbd_ros.sim.scene import Scene, merge
from pose2rgbd_ros.sim.state import BodyState
from pose2rgbd_ros.sim.vehicle import Vehicle, VehicleConfig

CELL_M = 4.0  # of the grid that finds triangles: distances up to this are exact, farther ones are told as this


class Solid:
    """The static city's triangles, to measure the distance to: no height map, which would fill what is below a crown."""

    def __init__(self, scene: Scene) -> None:
        mesh = merge([*(chunk for chunk in scene.chunks if len(chunk.triangles)), scene.ground])
        corners = mesh.position_m.astype(np.float64)[mesh.triangles]
        self._corners = corners
        low = np.floor(corners[..., :2].min(axis=1) / CELL_M).astype(int)
        high = np.floor(corners[..., :2].max(axis=1) / CELL_M).astype(int)
        near = (np.abs(low) < 200).all(axis=1) | (np.abs(high) < 200).all(axis=1)
        low, high = np.clip(low, -200, 200), np.clip(high, -200, 200)
        self._cells: dict[tuple[int, int], list[int]] = {}
        for index in np.flatnonzero(near):
            for i in range(low[index, 0], high[index, 0] + 1):
                for j in range(low[index, 1], high[index, 1] + 1):
                    self._cells.setdefault((i, j), []).append(int(index))

    def distance_m(self, point: np.ndarray) -> float:
        """From a point (3,) to the nearest surface; CELL_M for anything farther."""
        i, j = np.floor(point[:2] / CELL_M).astype(int)
        found = [k for a in (-1, 0, 1) for b in (-1, 0, 1) for k in self._cells.get((i + a, j + b), ())]
        if not found:
            return CELL_M
        corners = self._corners[np.unique(found)]
        close = (corners[..., 2].min(axis=1) < point[2] + CELL_M) & (
            corners[..., 2].max(axis=1) > point[2] - CELL_M
        )
        return min(CELL_M, _to_triangles(point, corners[close]))


def _to_triangles(point: np.ndarray, corners: np.ndarray) -> float:
    """Least distance from a point (3,) to triangles (N, 3, 3): to the plane where it lies above one, else to its edges."""
    if len(corners) == 0:
        return np.inf
    a, edges = corners[:, 0], np.roll(corners, -1, axis=1) - corners
    to = point - corners
    share = np.clip((to * edges).sum(-1) / np.maximum((edges**2).sum(-1), 1e-12), 0, 1)
    to_edges = np.linalg.norm(to - share[..., None] * edges, axis=-1).min(axis=1)
    normal = np.cross(edges[:, 0], edges[:, 1])
    size = np.linalg.norm(normal, axis=1)
    normal = normal / np.maximum(size, 1e-12)[:, None]
    above = (np.einsum("nij,nj->ni", np.cross(edges, to), normal) >= 0).all(axis=1) & (size > 1e-9)
    to_plane = np.abs(((point - a) * normal).sum(-1))
    return float(np.where(above, np.minimum(to_plane, to_edges), to_edges).min())


class _Hovering:
    """A flight that stays where it begins."""

    duration_s = 0.0

    def __init__(self, T_map_body: np.ndarray) -> None:
        self._T = T_map_body

    def state(self, t_s: float) -> BodyState:
        """At rest."""
        return BodyState(t_s, self._T.copy(), np.zeros(3), np.zeros(3), np.zeros(3))


def vehicle(position_m: np.ndarray, yaw_rad: float) -> Vehicle:
    """A hovering drone whose own keeping of distance is off: it would hide collisions."""
    T = se3.make(position_m, [0.0, 0.0, np.sin(yaw_rad / 2), np.cos(yaw_rad / 2)])
    nothing: Callable[[np.ndarray], np.ndarray] = lambda xy: np.full(len(xy), -1e6)  # noqa: E731
    return Vehicle(VehicleConfig(loop=False), _Hovering(T), nothing, lambda poses: _Hovering(poses[-1]))


@dataclass(frozen=True)
class Place:
    """The city of a dataset, and the flight that surveyed it."""

    city: City
    survey: Flight
    solid: Solid


def place_of(dataset: Path) -> Place:
    """From the settings that `pose2rgbd sim dataset` left in sim.yaml."""
    told = read_yaml(dataset / "sim.yaml")
    city = City(CityConfig(**told["city"]))
    return Place(city, make_flight(FlightConfig(**told["flight"]), city), Solid(city.scene))


@dataclass(frozen=True)
class Task:
    """One flight: from where, looking where, to where."""

    number: int
    start_m: np.ndarray
    yaw_rad: float
    goal_m: np.ndarray
    is_blocked: bool  # whether the straight line meets something


def tasks(place: Place, count: int, seed: int, distance_m: tuple[float, float]) -> list[Task]:
    """Pairs of places that the survey passed, so far apart; the drone begins with the survey's heading."""
    rng = np.random.default_rng([seed, 6])
    made: list[Task] = []
    while len(made) < count:
        start, goal = place.survey.T_map_cam(rng.uniform(0, place.survey.duration_s, 2))
        apart = np.linalg.norm(goal[:2, 3] - start[:2, 3])
        if not distance_m[0] <= apart <= distance_m[1]:
            continue
        if min(place.solid.distance_m(T[:3, 3]) for T in (start, goal)) < 2.5:
            continue
        yaw = float(np.arctan2(start[1, 2], start[0, 2]))
        way = np.linspace(start[:3, 3], goal[:3, 3], int(apart))
        blocked = min(place.solid.distance_m(point) for point in way) < 0.6
        made.append(Task(len(made), start[:3, 3], yaw, goal[:3, 3], blocked))
    return made


def scan_of(
    lower_m: np.ndarray, camera: Camera, T_map_body: np.ndarray, T_body_cam: np.ndarray, settings: ScanSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Bearings and ranges in the level body frame, as the avoid node has them."""
    T = np.eye(4)
    T[:3, :3] = level(T_map_body[:3, :3])
    return bearings(settings.bins), laser_scan(see(lower_m, camera, T @ T_body_cam), settings).astype(float)
