"""A flight through given poses, checked against what stands in its way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.sim.flights.flight import Flight, Lines
from pose2rgbd_ros.sim.flights.motion import PERIOD_S, Motion
from pose2rgbd_ros.sim.flights.route import MAX_HOURS, NO_LINE, Route, passing_radii_m, rounded
from pose2rgbd_ros.sim.flights.timing import sample_times_s

SPACING_M = 0.5  # poses nearer to the one before tell only their heading
CORNER_RADIUS_M = 4.0
MISS_M = 1.7  # of a corner at most: sharper ones than right angles get smaller arcs
CHECK_STEP_S = 0.1
LEAVING_M = 5.0  # around the start the drone may be as low as it is


class Router:
    """Makes flights through poses; `surface_height_m` takes places (N, 2) to the height (N,) of what stands there."""

    def __init__(
        self,
        speed_mps: float,
        acceleration_mps2: float,
        clearance_m: float,
        surface_height_m: Callable[[Float64], Float64],
        T_body_cam: Float64,
    ) -> None:
        self._speed_mps, self._acceleration_mps2, self._clearance_m = (
            speed_mps,
            acceleration_mps2,
            clearance_m,
        )
        self._surface_m, self._T_body_cam = surface_height_m, T_body_cam

    def __call__(self, T_map_body: Float64) -> Flight:
        """A level flight through poses (N, 4, 4), their headings included; corners are rounded, both ends at rest.

        UserError for a path that leads nowhere, takes more than six hours, or comes nearer than the clearance to
        what stands there.
        """
        vertices, yaw = _distinct(T_map_body)
        if len(vertices) < 2:
            raise UserError(f"the path leads nowhere: all its poses are within {SPACING_M:g} m of the drone")
        length_m = float(np.linalg.norm(np.diff(vertices, axis=0), axis=1).sum())
        _require_short(length_m / self._speed_mps)  # before the samples of a way to the moon fill the memory
        radii_m = np.minimum(CORNER_RADIUS_M, passing_radii_m(vertices, MISS_M))
        position, line = rounded(vertices, [NO_LINE] * (len(vertices) - 1), radii_m)
        heading = _headings(position, vertices, yaw)
        route = Route(position, heading, np.zeros(len(position)), line)
        time_s = sample_times_s(route, self._speed_mps, self._acceleration_mps2)
        _require_short(float(time_s[-1]))
        at = np.arange(int(np.ceil(time_s[-1] / PERIOD_S)) + 1) * PERIOD_S
        control = np.zeros((len(at), 6))
        for column, values in ((0, position[:, 0]), (1, position[:, 1]), (2, position[:, 2]), (5, heading)):
            control[:, column] = np.interp(at, time_s, values)
        flight = Flight("path", Motion(control), self._T_body_cam, Lines(np.zeros(0), np.zeros(0), (), 0.0))
        self._check_clearance(flight)
        return flight

    def _check_clearance(self, flight: Flight) -> None:
        position = flight.position_m(np.arange(0.0, flight.duration_s + CHECK_STEP_S, CHECK_STEP_S))
        needed_m = self._surface_m(position[:, :2]) + self._clearance_m
        leaving = np.linalg.norm(position[:, :2] - position[0, :2], axis=1) < LEAVING_M
        leaving &= position[:, 2] > position[0, 2] - 0.1
        short_m = np.where(leaving, 0.0, needed_m - position[:, 2])
        worst = int(short_m.argmax())
        if short_m[worst] > 0:
            x, y, z = position[worst]
            raise UserError(
                f"the path is too low: at x {x:.1f}, y {y:.1f} it is {z:.1f} m high, and with a clearance of "
                f"{self._clearance_m:g} m above what stands there it must be {needed_m[worst]:.1f} m or more"
            )


def _require_short(time_s: float) -> None:
    if time_s > MAX_HOURS * 3600:
        raise UserError(f"the path takes {time_s / 3600:.1f} h; at most {MAX_HOURS:g} h are flown")


def _distinct(T_map_body: Float64) -> tuple[Float64, Float64]:
    """Places (K, 3) at least half a metre apart, and the headings (K,) there, unwrapped."""
    place, yaw = T_map_body[:, :3, 3], np.arctan2(T_map_body[:, 1, 0], T_map_body[:, 0, 0])
    kept = [0]
    for index in range(1, len(place)):
        if np.linalg.norm(place[index] - place[kept[-1]]) >= SPACING_M:
            kept.append(index)
    if len(kept) > 1:  # the end is flown to exactly
        kept[-1] = len(place) - 1
    return place[kept], np.unwrap(yaw[kept])


def _headings(position_m: Float64, vertices_m: Float64, yaw_rad: Float64) -> Float64:
    """The heading (N,) at samples of the way: at the one nearest to a vertex the vertex's, even turns in between."""
    step = np.linalg.norm(np.diff(position_m, axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(step)])
    nearest, first = [0], 0
    length = np.linalg.norm(np.diff(vertices_m, axis=0), axis=1)
    for vertex, ahead_m in zip(vertices_m[1:-1], length[:-1], strict=True):
        # Only as far as the next vertex can be: a way may come back to where it was.
        last = int(np.searchsorted(along, along[first] + ahead_m + SPACING_M, side="right"))
        first += int(np.linalg.norm(position_m[first:last] - vertex, axis=1).argmin())
        nearest.append(first)
    nearest.append(len(position_m) - 1)
    return np.interp(along, along[nearest], yaw_rad)
