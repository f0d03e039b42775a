"""The sensors' settings. Every fault is a setting of its own, and 0 (or False) switches it off.

Defaults are those of a small mapping drone: a 30 FPS global-shutter camera, a single-frequency GNSS receiver, visual-
inertial odometry, a MEMS IMU and barometer, each stamped by a quartz clock that nobody disciplines.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from pose2rgbd_ros import settings
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.settings import setting

T = TypeVar("T")


def fault(default: Any, help: str, *, le: float | None = None) -> Any:
    """A setting that is a fault: a share, a size or a switch, never negative, and off at 0 or False."""
    plain = setting(default, help, ge=None if isinstance(default, bool) else 0.0, le=le)
    return field(default=default, metadata={**plain.metadata, "fault": True})


@dataclass(frozen=True)
class CameraSensor:
    """Colour and depth images of one shutter."""

    rate_hz: float = setting(30.0, "images per second", ge=0.1, le=240.0)
    exposure_ms: float = setting(4.0, "exposure time; an image shows the middle of it", ge=0.0, le=1000.0)
    stamp_at_start: bool = fault(True, "images carry the time at which the exposure begins, not its middle")
    delay_ms: float = fault(5.0, "the stamp is taken this long before the exposure begins", le=1000.0)
    trigger_jitter_ms: float = fault(0.3, "sigma of the time at which the shutter opens", le=100.0)
    stamp_jitter_ms: float = fault(0.5, "sigma of the stamp about the trigger", le=100.0)
    drop_share: float = fault(0.002, "share of the images that get lost", le=0.9)
    latency_ms: float = fault(40.0, "from the end of the exposure to arrival, at least", le=10_000.0)
    latency_jitter_ms: float = fault(5.0, "mean of the further, exponential latency", le=10_000.0)


@dataclass(frozen=True)
class GpsSensor:
    """A GNSS receiver: NavSatFix. Its covariance is that of the noise; of outliers it knows nothing."""

    rate_hz: float = setting(10.0, "fixes per second", ge=0.1, le=50.0)
    antenna_m: tuple[float, float, float] = setting((0.0, 0.0, 0.08), "antenna in the body: x y z in metres")
    noise_m: float = fault(0.25, "sigma of the white noise, per horizontal axis", le=1000.0)
    wander_m: float = fault(0.8, "sigma of the slowly wandering error, per horizontal axis", le=1000.0)
    wander_s: float = setting(60.0, "time constant of the wandering error", ge=0.1, le=1e5)
    vertical_factor: float = setting(1.6, "how much larger vertical errors are", ge=0.1, le=10.0)
    outlier_share: float = fault(0.005, "share of the fixes that are outliers", le=0.9)
    outlier_m: float = setting(15.0, "mean size of an outlier, horizontally, at a random bearing", ge=0.0, le=1e5)
    outages_per_min: float = fault(0.2, "how often the receiver loses its fix", le=60.0)
    outage_s: float = setting(4.0, "mean length of such an outage", ge=0.1, le=3600.0)
    silent_outages: bool = setting(False, "no message at all in an outage, instead of fixes of status -1")
    latency_ms: float = fault(120.0, "from the time of the fix to arrival, at least", le=10_000.0)
    latency_jitter_ms: float = fault(15.0, "mean of the further, exponential latency", le=10_000.0)


@dataclass(frozen=True)
class OdometrySensor:
    """Visual-inertial odometry: continuous, drifting in position and heading; gravity keeps roll and pitch right."""

    rate_hz: float = setting(100.0, "messages per second", ge=1.0, le=1000.0)
    scale_sigma: float = fault(0.005, "sigma of the constant scale error of distances", le=0.5)
    heading_sigma_deg: float = fault(0.5, "sigma of the heading's error at the start", le=180.0)
    yaw_drift_deg_per_min: float = fault(0.3, "sigma of the heading's constant drift", le=360.0)
    yaw_walk_deg_per_sqrt_min: float = fault(0.2, "random walk of the heading", le=360.0)
    walk_m_per_sqrt_min: float = fault(0.3, "random walk of the position, per axis", le=1000.0)
    velocity_noise_mps: float = fault(0.05, "sigma of the white noise of velocities, per axis", le=100.0)
    rate_noise_radps: float = fault(0.003, "sigma of the white noise of angular velocities", le=10.0)
    latency_ms: float = fault(15.0, "from the time of the pose to arrival, at least", le=10_000.0)
    latency_jitter_ms: float = fault(2.0, "mean of the further, exponential latency", le=10_000.0)


@dataclass(frozen=True)
class ImuSensor:
    """Gyroscope and accelerometer at the body's origin, in the body's axes."""

    rate_hz: float = setting(200.0, "samples per second", ge=1.0, le=4000.0)
    orientation: bool = setting(False, "also give an orientation (an AHRS); else its covariance starts with -1")
    gyro_noise_radps_sqrt_hz: float = fault(2.4e-4, "noise density of the gyroscope", le=1.0)
    accel_noise_mps2_sqrt_hz: float = fault(1.7e-3, "noise density of the accelerometer", le=10.0)
    gyro_bias_radps: float = fault(2e-3, "sigma of the gyroscope's bias at the start", le=1.0)
    accel_bias_mps2: float = fault(0.05, "sigma of the accelerometer's bias at the start", le=10.0)
    gyro_bias_walk_radps_per_sqrt_s: float = fault(2e-5, "random walk of the gyroscope's bias", le=1.0)
    accel_bias_walk_mps2_per_sqrt_s: float = fault(3e-4, "random walk of the accelerometer's bias", le=10.0)
    orientation_noise_deg: float = fault(0.5, "sigma of the orientation's white noise, per axis", le=90.0)
    latency_ms: float = fault(2.0, "from sampling to arrival, at least", le=10_000.0)
    latency_jitter_ms: float = fault(0.5, "mean of the further, exponential latency", le=10_000.0)


@dataclass(frozen=True)
class Barometer:
    """Static pressure in the standard atmosphere."""

    rate_hz: float = setting(25.0, "samples per second", ge=0.1, le=500.0)
    noise_pa: float = fault(1.5, "sigma of the white noise (12 Pa are a metre of height)", le=1e4)
    offset_pa: float = fault(150.0, "sigma of the constant offset: weather and calibration", le=1e4)
    wander_pa: float = fault(8.0, "sigma of the slow wandering: weather, temperature and wind", le=1e4)
    wander_s: float = setting(300.0, "time constant of the wandering", ge=0.1, le=1e6)
    latency_ms: float = fault(10.0, "from sampling to arrival, at least", le=10_000.0)
    latency_jitter_ms: float = fault(1.0, "mean of the further, exponential latency", le=10_000.0)


@dataclass(frozen=True)
class Clocks:
    """How the sensors' clocks differ from true time: stamp = true + offset + drift * time since the start."""

    offset_ms: float = fault(8.0, "offsets are drawn evenly from plus to minus this", le=3.6e6)
    drift_ppm: float = fault(20.0, "drifts are drawn evenly from plus to minus this", le=1e4)
    one_autopilot: bool = setting(True, "odometry, IMU and barometer share the autopilot's clock")


@dataclass(frozen=True)
class SensorsConfig:
    """All sensors of the drone."""

    camera: CameraSensor = field(default_factory=CameraSensor)
    gps: GpsSensor = field(default_factory=GpsSensor)
    odometry: OdometrySensor = field(default_factory=OdometrySensor)
    imu: ImuSensor = field(default_factory=ImuSensor)
    barometer: Barometer = field(default_factory=Barometer)
    clocks: Clocks = field(default_factory=Clocks)

    @classmethod
    def perfect(cls) -> SensorsConfig:
        """No fault at all: every stamp, arrival and value is the truth."""
        return cls().without_faults()

    def without_faults(self) -> SensorsConfig:
        """The same rates, exposure and antenna, and no faults."""
        parts = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return SensorsConfig(**{name: _without_faults(part) for name, part in parts.items()})

    def check(self) -> None:
        """UserError, naming sensor and setting, for the first value that makes no sense."""
        settings.check(self)
        antenna_m = np.asarray(self.gps.antenna_m, float)
        if antenna_m.shape != (3,) or not np.linalg.norm(antenna_m) <= 10.0:
            raise UserError(f"gps.antenna_m is {self.gps.antenna_m}; it must be three numbers within 10 m of the body")
        if not 1e-3 * self.camera.exposure_ms <= 1.0 / self.camera.rate_hz:
            raise UserError(
                f"camera.exposure_ms is {self.camera.exposure_ms:g}, but at {self.camera.rate_hz:g} images "
                f"per second there are only {1000 / self.camera.rate_hz:.3g} ms; lower one of the two"
            )


def _without_faults(config: T) -> T:
    faults = [item for item in dataclasses.fields(config) if item.metadata.get("fault")]  # type: ignore[arg-type]
    off = {item.name: False if isinstance(item.default, bool) else 0.0 for item in faults}
    return dataclasses.replace(config, **off)  # type: ignore[type-var]
