"""A flight through given poses, checked against what stands in its way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.sim.flights.flight import Flight, Lines
from pose2rgbd_ros.sim.flights.motion import PERIOD_S, Motion
from pose2rgbd_ros.sim.flights.route import MAX_HOURS, NO_LINE, Route, passing_radii_m, rounded
from pose2rgbd_ros.sim.flights.timing import sample_times_s
from pose2rgbd_ros.sim.state import BodyState

# The stretches a live flight is made of: a planned flight, joined smoothly, and motion at constant jerk.


DECAY_PER_S = 3.0  # an offset at a join is down to a tenth after 1.3 s


class Flown(Protocol):
    """A flight as far as it matters here, see sim.flights."""

    @property
    def duration_s(self) -> float:
        """When it is over."""

    def state(self, t_s: float) -> BodyState:
        """The body at a time."""


class Leg(Protocol):
    """A stretch of the live flight, from `start_s` to the start of the next one."""

    @property
    def start_s(self) -> float:
        """When it begins."""

    def state(self, t_s: float) -> BodyState:
        """The body at a time of the live flight."""


@dataclass(frozen=True, eq=False)
class Decay:
    """A (3,) offset that dies out like a critically damped spring, from its value and rate at `start_s`."""

    start_s: float
    value: Float64
    rate: Float64

    def at(self, t_s: float) -> tuple[Float64, Float64, Float64]:
        """Value, rate and acceleration, each (3,)."""
        elapsed, k = t_s - self.start_s, DECAY_PER_S
        slope = self.rate + k * self.value
        shape, fade = self.value + slope * elapsed, np.exp(-k * elapsed)
        return shape * fade, (slope - k * shape) * fade, (k * k * shape - 2 * k * slope) * fade


class FlightLeg:
    """A flight from `phase_s` of its own time on, begun from another motion.

    The flight's time starts to run within `ramp_s` (0: at once). What is left of the difference to the state before
    dies out, so that position, orientation and their rates are continuous.
    """

    def __init__(
        self, start_s: float, flight: Flown, phase_s: float = 0.0, ramp_s: float = 0.0, before: BodyState | None = None
    ) -> None:
        self.start_s, self._flight, self._phase_s, self._ramp_s = start_s, flight, phase_s, ramp_s
        self.end_s = start_s + (flight.duration_s - phase_s) + ramp_s / 2
        self._shift = self._turn = None
        if before is not None:
            own = self._planned(start_s)
            position = before.T_map_body[:3, 3] - own.T_map_body[:3, 3]
            self._shift = Decay(start_s, position, before.velocity_map_mps - own.velocity_map_mps)
            self._turn = turn_between(own, before)

    def phase_s(self, t_s: float) -> float:
        """The flight's own time at a time of the live flight."""
        return self._warp(t_s)[0]

    def state(self, t_s: float) -> BodyState:
        """The body at a time of the live flight; beyond the flight's end it is where the flight ends."""
        own = self._planned(t_s)
        if self._shift is None or self._turn is None:
            return own
        shift, shift_rate, shift_acceleration = self._shift.at(t_s)
        T, angular_velocity = turned(own.T_map_body, own.angular_velocity_body_radps, self._turn, t_s)
        T[:3, 3] += shift
        return BodyState(
            t_s, T, own.velocity_map_mps + shift_rate, own.acceleration_map_mps2 + shift_acceleration, angular_velocity
        )

    def _planned(self, t_s: float) -> BodyState:
        phase_s, rate, acceleration = self._warp(t_s)
        own = self._flight.state(phase_s)
        return BodyState(
            t_s,
            own.T_map_body,
            own.velocity_map_mps * rate,
            own.acceleration_map_mps2 * rate**2 + own.velocity_map_mps * acceleration,
            own.angular_velocity_body_radps * rate,
        )

    def _warp(self, t_s: float) -> tuple[float, float, float]:
        """The flight's own time and its first two derivatives."""
        elapsed, ramp = max(0.0, t_s - self.start_s), self._ramp_s
        if elapsed >= ramp:
            return min(self._phase_s + elapsed - ramp / 2, self._flight.duration_s), 1.0, 0.0
        u = elapsed / ramp
        return self._phase_s + ramp * (u**3 - u**4 / 2), u * u * (3 - 2 * u), 6 * u * (1 - u) / ramp


@dataclass(frozen=True, eq=False)
class GlideLeg:
    """A level body at constant jerk and yaw acceleration; what it was tilted by before dies out (`turn`)."""

    start_s: float
    position_m: Float64
    velocity_mps: Float64
    acceleration_mps2: Float64
    yaw_rad: float
    yaw_rate_radps: float
    turn: Decay
    jerk_mps3: Float64 = field(default_factory=lambda: np.zeros(3))
    yaw_acceleration_radps2: float = 0.0

    @classmethod
    def after(cls, before: BodyState) -> GlideLeg:
        """Continues a motion: same position, velocity, acceleration, orientation and turning rate."""
        yaw = float(np.arctan2(before.T_map_body[1, 0], before.T_map_body[0, 0]))
        yaw_rate = float(before.T_map_body[2, :3] @ before.angular_velocity_body_radps)
        level = _level(before.t_s, before.T_map_body[:3, 3], yaw, yaw_rate)
        return cls(
            before.t_s,
            before.T_map_body[:3, 3].copy(),
            before.velocity_map_mps,
            before.acceleration_map_mps2,
            yaw,
            yaw_rate,
            turn_between(level, before),
        )

    def then(self, t_s: float) -> GlideLeg:
        """The same motion, told from `t_s` on, without jerk."""
        return GlideLeg(t_s, *self._at(t_s), self.turn)

    def state(self, t_s: float) -> BodyState:
        """The body at a time of the live flight."""
        position, velocity, acceleration, yaw, yaw_rate = self._at(t_s)
        level = _level(t_s, position, yaw, yaw_rate)
        T, angular_velocity = turned(level.T_map_body, level.angular_velocity_body_radps, self.turn, t_s)
        return BodyState(t_s, T, velocity, acceleration, angular_velocity)

    def _at(self, t_s: float) -> tuple[Float64, Float64, Float64, float, float]:
        s, j = t_s - self.start_s, self.jerk_mps3
        p, v, a = self.position_m, self.velocity_mps, self.acceleration_mps2
        yaw = self.yaw_rad + s * self.yaw_rate_radps + s * s / 2 * self.yaw_acceleration_radps2
        return (
            p + s * v + s**2 / 2 * a + s**3 / 6 * j,
            v + s * a + s**2 / 2 * j,
            a + s * j,
            yaw,
            self.yaw_rate_radps + s * self.yaw_acceleration_radps2,
        )


def turn_between(own: BodyState, before: BodyState) -> Decay:
    """The rotation (as a vector in the body) that takes `own` to the state before, dying out from now on."""
    offset = Rotation.from_matrix(own.T_map_body[:3, :3].T @ before.T_map_body[:3, :3])
    vector = offset.as_rotvec()
    relative = before.angular_velocity_body_radps - offset.inv().apply(own.angular_velocity_body_radps)
    return Decay(before.t_s, vector, np.linalg.solve(_right_jacobian(vector), relative))


def turned(T_map_body: Float64, angular_velocity: Float64, turn: Decay, t_s: float) -> tuple[Float64, Float64]:
    """A pose (4, 4) and angular velocity in the body (3,), with what is left of a `turn` added."""
    vector, rate, _ = turn.at(t_s)
    offset = Rotation.from_rotvec(vector)
    T = T_map_body.copy()
    T[:3, :3] = T[:3, :3] @ offset.as_matrix()
    return T, offset.inv().apply(angular_velocity) + _right_jacobian(vector) @ rate


def _right_jacobian(vector: Float64) -> Float64:
    """How the rate of a rotation vector becomes an angular velocity in the rotated frame; (3, 3)."""
    angle = float(np.linalg.norm(vector))
    x, y, z = vector
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    if angle < 1e-4:
        return np.eye(3) - cross / 2
    first, second = (1 - np.cos(angle)) / angle**2, (angle - np.sin(angle)) / angle**3
    return np.eye(3) - first * cross + second * cross @ cross


def _level(t_s: float, position_m: Float64, yaw_rad: float, yaw_rate_radps: float) -> BodyState:
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    T = np.eye(4)
    T[:2, :2], T[:3, 3] = [[c, -s], [s, c]], position_m
    return BodyState(t_s, T, np.zeros(3), np.zeros(3), np.array([0.0, 0.0, yaw_rate_radps]))


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
        self._speed_mps, self._acceleration_mps2, self._clearance_m = (speed_mps, acceleration_mps2, clearance_m)
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
