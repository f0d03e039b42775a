"""Smooth motion in time: one quintic B-spline through space and attitude, with its derivatives."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.interpolate import BSpline

from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.sim.state import BodyState

PERIOD_S = 0.5  # between control points
_DEGREE = 5
_PAD = 4  # repeated control points that bring the spline to rest; two periods of them are flown
LEAD_S = 2 * PERIOD_S  # what the rest at the start adds before the first control point's time


class Motion:
    """Position and attitude over time, four times continuously differentiable.

    A uniform B-spline keeps between its control points: it is never faster than they are, flies their straight lines
    exactly, at their speed, and rounds their bends. At both ends it is at rest, and stays so beyond them.

    Args:
        control: (n, 6) x, y, z in metres, then roll, pitch, yaw in radians (unwrapped), every 0.5 s.
    """

    def __init__(self, control: Float64) -> None:
        padded = np.concatenate([control[:1].repeat(_PAD, axis=0), control, control[-1:].repeat(_PAD, axis=0)])
        # Control point i has its peak at knot i + 3; time 0 is the first at which the spline is defined, knot 5.
        knots = (np.arange(len(padded) + _DEGREE + 1) - _DEGREE) * PERIOD_S
        self.duration_s = float(knots[len(padded)])
        self._value = BSpline(knots, padded, _DEGREE)
        self._rate = self._value.derivative()
        self._second = self._rate.derivative()

    def control_time_s(self, index: int) -> float:
        """When the control point of this index counts most."""
        return LEAD_S + index * PERIOD_S

    def pose(self, t_s: npt.ArrayLike) -> tuple[Float64, Float64]:
        """Positions (N, 3) and roll, pitch, yaw (N, 3)."""
        value = self._at(self._value, t_s)
        return value[:, :3], value[:, 3:]

    def T_map_body(self, t_s: npt.ArrayLike) -> Float64:
        """Poses (N, 4, 4)."""
        return _transforms(self._at(self._value, t_s))

    def velocity_mps(self, t_s: npt.ArrayLike) -> Float64:
        """(N, 3) in the map."""
        return self._at(self._rate, t_s)[:, :3]

    def acceleration_mps2(self, t_s: npt.ArrayLike) -> Float64:
        """(N, 3) in the map, gravity not included."""
        return self._at(self._second, t_s)[:, :3]

    def angular_velocity_body_radps(self, t_s: npt.ArrayLike) -> Float64:
        """(N, 3) in the body, from the rates of roll, pitch and yaw."""
        return _body_rates(self._at(self._value, t_s)[:, 3:], self._at(self._rate, t_s)[:, 3:])

    def state(self, t_s: float) -> BodyState:
        """All of that at one time, at little more than the cost of one."""
        value, rate = self._at(self._value, t_s), self._at(self._rate, t_s)
        return BodyState(
            float(t_s),
            _transforms(value)[0],
            rate[0, :3],
            self._at(self._second, t_s)[0, :3],
            _body_rates(value[:, 3:], rate[:, 3:])[0],
        )

    def _at(self, spline: BSpline, t_s: npt.ArrayLike) -> Float64:
        t = np.clip(np.atleast_1d(np.asarray(t_s, float)), 0.0, self.duration_s)
        return np.asarray(spline(t), dtype=np.float64)


def _transforms(pose: Float64) -> Float64:
    """Poses (N, 4, 4) of rows x, y, z, roll, pitch, yaw (N, 6); angles about the fixed axes x, y, z in this order."""
    (sr, sp, sy), (cr, cp, cy) = np.sin(pose[:, 3:]).T, np.cos(pose[:, 3:]).T
    T = np.zeros((len(pose), 4, 4))
    T[:, 0, 0], T[:, 0, 1], T[:, 0, 2] = cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr
    T[:, 1, 0], T[:, 1, 1], T[:, 1, 2] = sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr
    T[:, 2, 0], T[:, 2, 1], T[:, 2, 2] = -sp, cp * sr, cp * cr
    T[:, :3, 3], T[:, 3, 3] = pose[:, :3], 1.0
    return T


def _body_rates(rpy_rad: Float64, rpy_rate_radps: Float64) -> Float64:
    """Angular velocity (N, 3) in the body."""
    roll, pitch, _ = rpy_rad.T
    roll_rate, pitch_rate, yaw_rate = rpy_rate_radps.T
    return np.stack(
        [
            roll_rate - yaw_rate * np.sin(pitch),
            pitch_rate * np.cos(roll) + yaw_rate * np.cos(pitch) * np.sin(roll),
            -pitch_rate * np.sin(roll) + yaw_rate * np.cos(pitch) * np.cos(roll),
        ],
        axis=-1,
    )


def smooth_noise(rng: np.random.Generator, count: int, every: int, columns: int) -> Float64:
    """Seeded noise (count, columns) of unit standard deviation, band-limited: its own nodes are `every` rows apart.

    Values stay within 4 standard deviations.
    """
    nodes = count // every + _DEGREE + 2
    control = np.clip(rng.standard_normal((nodes, columns)), -2.5, 2.5)
    spline = BSpline(np.arange(nodes + _DEGREE + 1.0) - _DEGREE, control, _DEGREE)
    inside = np.arange(200) / 200
    weights = np.array([BSpline.basis_element(np.arange(7.0))(inside + k) for k in range(6)])
    spread = np.sqrt((weights**2).sum(axis=0).mean())  # what averaging independent nodes leaves of their spread
    return np.asarray(spline(np.arange(count) / every) / spread, dtype=np.float64)
