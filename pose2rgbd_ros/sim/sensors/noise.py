"""Seeded noise, one generator per fault, so that a fault that is switched off moves nobody else's draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.sim.sensors.config import Clocks
from pose2rgbd_ros.sim.state import START_NS, BodyState, true_stamp_ns

# What the sensors measure, in plain numpy, with the truth about each measurement.


StateAt: TypeAlias = Callable[[float], BodyState]


@dataclass(frozen=True, eq=False)
class Exposure:
    """An image to be rendered: the camera (4, 4) at `true_ns`, the middle of the exposure."""

    true_ns: int
    T_map_cam: Float64


@dataclass(frozen=True, eq=False)
class GpsFix:
    """A position of the antenna on the WGS-84 ellipsoid; covariance (3, 3) in ENU; status -1: no fix, values NaN."""

    latitude_deg: float
    longitude_deg: float
    altitude_m: float
    covariance_m2: Float64
    status: int


@dataclass(frozen=True, eq=False)
class OdometryReading:
    """The pose of the body in `odom` (4, 4) and its twist in the body.

    Covariances (6, 6) are of x, y, z and the turns about them: of the pose in the axes of `odom`, of the twist in the
    body's.
    """

    T_odom_body: Float64
    linear_mps: Float64
    angular_radps: Float64
    pose_covariance: Float64
    twist_covariance: Float64


@dataclass(frozen=True, eq=False)
class ImuReading:
    """Angular velocity and specific force (+9.8 along z at rest), each (3,) in the body; variances are per axis."""

    angular_velocity_radps: Float64
    specific_force_mps2: Float64
    quat_xyzw: Float64 | None  # of the body in the map; None: not measured
    angular_velocity_variance: float
    specific_force_variance: float
    orientation_variance: float


@dataclass(frozen=True)
class PressureReading:
    """Static pressure in Pascal."""

    pressure_pa: float
    variance_pa2: float


Value: TypeAlias = Exposure | GpsFix | OdometryReading | ImuReading | PressureReading


@dataclass(frozen=True, eq=False)
class Measurement:
    """One message of a sensor.

    `true_ns`: when it was measured (of an image: the middle of the exposure). `stamp_ns`: what the sensor's own clock
    says about that. `arrival_ns`: when it arrives, in true time. `fault` names what befell this one, "" nothing;
    `errors` are the numbers of the truth that go with it (measured minus true, biases), by name with unit.
    """

    sensor: str
    true_ns: int
    stamp_ns: int
    arrival_ns: int
    value: Value
    fault: str = ""
    errors: Mapping[str, float] = field(default_factory=dict)


class Sensor(Protocol):
    """A sensor that is asked for one measurement after the other."""

    name: str
    next_true_ns: int

    def take(self, state_at: StateAt) -> Measurement | None:
        """Measure at `next_true_ns` and move on; None: this one was lost."""

    def drawn(self) -> dict[str, object]:
        """The faults that were drawn so far, ready for YAML."""


def named(prefix: str, xyz: Float64, unit: str, axes: Sequence[str] = "xyz") -> dict[str, float]:
    """Three numbers by name: prefix_x_unit and so on."""
    return {f"{prefix}_{axis}_{unit}": float(number) for axis, number in zip(axes, xyz, strict=True)}


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


# Clocks that are wrong: each sensor stamps with its own.


_AUTOPILOT = ("odometry", "imu", "barometer")


@dataclass(frozen=True)
class SensorClock:
    """stamp = true + offset + drift * (true - start), in whole nanoseconds."""

    offset_ns: int = 0
    drift_ppm: float = 0.0

    def stamp_ns(self, true_ns: int) -> int:
        """What the clock shows at `true_ns`."""
        return true_ns + self.offset_ns + round(self.drift_ppm * 1e-6 * (true_ns - START_NS))

    def true_ns(self, stamp_ns: int) -> int:
        """When the clock shows `stamp_ns`; the inverse, to the nanosecond."""
        elapsed = stamp_ns - START_NS - self.offset_ns
        drift = self.drift_ppm * 1e-6
        return START_NS + elapsed - round(elapsed * drift / (1.0 + drift))


def draw_clocks(config: Clocks, seed: int) -> dict[str, SensorClock]:
    """A clock for every sensor, by its name."""
    clocks: dict[str, SensorClock] = {}
    for number, sensor in enumerate(name for name in SENSORS if name != "clocks"):
        offset, drift = stream(seed, "clocks", number).uniform(-1.0, 1.0, 2)
        clocks[sensor] = SensorClock(round(offset * config.offset_ms * 1e6), float(drift * config.drift_ppm))
    if config.one_autopilot:
        clocks.update(dict.fromkeys(_AUTOPILOT, clocks["odometry"]))
    return clocks


# What sensors that measure at even times have in common.


class PeriodicSensor:
    """The n-th measurement is taken at n / rate, exactly."""

    name = ""

    def __init__(self, rate_hz: float, clock: SensorClock, latency: Latency) -> None:
        self._rate_hz, self._clock, self._latency = rate_hz, clock, latency
        self._count = 0
        self.next_true_ns = true_stamp_ns(0.0)

    def _measured(self, value: Value, errors: Mapping[str, float], fault: str = "") -> Measurement:
        """What was measured now; moves on to the next time."""
        true_ns = self.next_true_ns
        self._count += 1
        self.next_true_ns = true_stamp_ns(self._count / self._rate_hz)
        stamp_ns, arrival_ns = self._clock.stamp_ns(true_ns), self._latency.arrival_ns(true_ns)
        return Measurement(self.name, true_ns, stamp_ns, arrival_ns, value, fault, errors)
