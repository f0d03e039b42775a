"""Smooth motion in time: one quintic B-spline through space and attitude, with its derivatives."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.interpolate import BSpline

from pose2rgbd_ros.geometry.arrays import Float64

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
        padded = np.concatenate(
            [control[:1].repeat(_PAD, axis=0), control, control[-1:].repeat(_PAD, axis=0)]
        )
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

    def velocity_mps(self, t_s: npt.ArrayLike) -> Float64:
        """(N, 3) in the map."""
        return self._at(self._rate, t_s)[:, :3]

    def acceleration_mps2(self, t_s: npt.ArrayLike) -> Float64:
        """(N, 3) in the map, gravity not included."""
        return self._at(self._second, t_s)[:, :3]

    def angular_velocity_body_radps(self, t_s: npt.ArrayLike) -> Float64:
        """(N, 3) in the body, from the rates of roll, pitch and yaw."""
        roll, pitch, _ = self._at(self._value, t_s)[:, 3:].T
        roll_rate, pitch_rate, yaw_rate = self._at(self._rate, t_s)[:, 3:].T
        return np.stack(
            [
                roll_rate - yaw_rate * np.sin(pitch),
                pitch_rate * np.cos(roll) + yaw_rate * np.cos(pitch) * np.sin(roll),
                -pitch_rate * np.sin(roll) + yaw_rate * np.cos(pitch) * np.cos(roll),
            ],
            axis=-1,
        )

    def _at(self, spline: BSpline, t_s: npt.ArrayLike) -> Float64:
        t = np.clip(np.atleast_1d(np.asarray(t_s, float)), 0.0, self.duration_s)
        return np.asarray(spline(t), dtype=np.float64)


def smooth_noise(rng: np.random.Generator, count: int, every: int, columns: int) -> Float64:
    """Seeded noise (count, columns) of unit standard deviation, band-limited: its own nodes are `every` rows apart.

    Values stay within 4 standard deviations.
    """
    nodes = count // every + _DEGREE + 2
    control = np.clip(rng.standard_normal((nodes, columns)), -2.5, 2.5)
    spline = BSpline(np.arange(nodes + _DEGREE + 1.0) - _DEGREE, control, _DEGREE)
    inside = np.arange(200) / 200
    weights = np.array([BSpline.basis_element(np.arange(7.0))(inside + k) for k in range(6)])
    spread = np.sqrt(
        (weights**2).sum(axis=0).mean()
    )  # what averaging independent nodes leaves of their spread
    return np.asarray(spline(np.arange(count) / every) / spread, dtype=np.float64)
