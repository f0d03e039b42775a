"""The stretches a live flight is made of: a planned flight, joined smoothly, and motion at constant jerk."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.sim.state import BodyState

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
        self,
        start_s: float,
        flight: Flown,
        phase_s: float = 0.0,
        ramp_s: float = 0.0,
        before: BodyState | None = None,
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
            t_s,
            T,
            own.velocity_map_mps + shift_rate,
            own.acceleration_map_mps2 + shift_acceleration,
            angular_velocity,
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


def turned(
    T_map_body: Float64, angular_velocity: Float64, turn: Decay, t_s: float
) -> tuple[Float64, Float64]:
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
