"""Seeded noise, one generator per fault, so that a fault that is switched off moves nobody else's draws."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64

SENSORS = ("camera", "gps", "odometry", "imu", "barometer", "clocks")
_FIRST_STREAM = 1000  # of the sensors: city and flights draw from lower ones
_STREAMS_PER_SENSOR = 20


def stream(seed: int, sensor: str, purpose: int) -> np.random.Generator:
    """The generator of one fault of one sensor; `purpose` numbers the sensor's faults."""
    if not 0 <= purpose < _STREAMS_PER_SENSOR:
        raise UserError(f"a sensor has {_STREAMS_PER_SENSOR} streams; there is no number {purpose}")
    number = _FIRST_STREAM + _STREAMS_PER_SENSOR * SENSORS.index(sensor) + purpose
    return np.random.default_rng([seed, number])


class White:
    """Independent normal draws (3,) or (size,) of unit sigma, scaled."""

    def __init__(self, rng: np.random.Generator, sigma: Any, size: int = 3) -> None:
        self.sigma = np.broadcast_to(np.asarray(sigma, float), (size,))
        self._rng = rng

    def next(self) -> Float64:
        """One draw."""
        return self._rng.standard_normal(len(self.sigma)) * self.sigma


class GaussMarkov:
    """Noise that wanders: stationary sigma, correlation exp(-dt / tau); begins in its stationary state."""

    def __init__(self, rng: np.random.Generator, sigma: Any, tau_s: float, size: int = 3) -> None:
        self._white = White(rng, sigma, size)
        self._tau_s = tau_s
        self.value = self._white.next()
        self._t_s: float | None = None

    def at(self, t_s: float) -> Float64:
        """The error at a time not before that of the last call."""
        if self._t_s is not None:
            keep = math.exp(-(t_s - self._t_s) / self._tau_s)
            self.value = keep * self.value + math.sqrt(1.0 - keep * keep) * self._white.next()
        self._t_s = t_s
        return self.value


class RandomWalk:
    """A sum of independent steps: sigma grows as `per_sqrt_s` times the square root of time, from `start`."""

    def __init__(self, rng: np.random.Generator, start: Float64, per_sqrt_s: float) -> None:
        self._white = White(rng, per_sqrt_s, len(start))
        self.value = np.array(start, float)
        self._t_s: float | None = None

    def at(self, t_s: float) -> Float64:
        """The value at a time not before that of the last call."""
        if self._t_s is not None:
            self.value = self.value + math.sqrt(t_s - self._t_s) * self._white.next()
        self._t_s = t_s
        return self.value


class Outages:
    """Intervals that begin at random (`per_min` on average) and last `mean_s` on average, both exponential."""

    def __init__(self, rng: np.random.Generator, per_min: float, mean_s: float) -> None:
        self._rng = rng
        self._gap_s = 60.0 / per_min if per_min > 0 else math.inf
        self._mean_s = mean_s
        self.intervals_s: list[tuple[float, float]] = []

    def active(self, t_s: float) -> bool:
        """Whether `t_s` (not before that of the last call) lies in an outage."""
        while math.isfinite(self._gap_s) and (not self.intervals_s or self.intervals_s[-1][1] <= t_s):
            end_s = self.intervals_s[-1][1] if self.intervals_s else 0.0
            start_s = end_s + self._gap_s * self._rng.standard_exponential()
            self.intervals_s.append((start_s, start_s + self._mean_s * self._rng.standard_exponential()))
        return bool(self.intervals_s) and self.intervals_s[-1][0] <= t_s


class Latency:
    """Arrival after at least `fixed_ms`, and an exponential rest; messages of one sensor do not overtake another."""

    def __init__(self, rng: np.random.Generator, fixed_ms: float, jitter_ms: float) -> None:
        self._rng = rng
        self._fixed_ms, self._jitter_ms = fixed_ms, jitter_ms
        self._last_ns = 0

    def arrival_ns(self, ready_ns: int) -> int:
        """When what was ready at `ready_ns` (true time) arrives."""
        late_ms = self._fixed_ms + self._jitter_ms * self._rng.standard_exponential()
        self._last_ns = max(self._last_ns, ready_ns + round(late_ms * 1e6))
        return self._last_ns
