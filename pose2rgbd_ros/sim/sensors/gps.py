"""A GNSS receiver: noise that wanders, honest covariances, outliers that it does not notice, outages, latency."""

from __future__ import annotations

import math

import numpy as np

from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.geodesy import Datum, enu_to_wgs84
from pose2rgbd_ros.sim.sensors.config import Barometer, GpsSensor
from pose2rgbd_ros.sim.sensors.noise import (
    GaussMarkov,
    GpsFix,
    Latency,
    Measurement,
    Outages,
    PeriodicSensor,
    PressureReading,
    SensorClock,
    StateAt,
    White,
    named,
    stream,
)
from pose2rgbd_ros.sim.state import true_seconds

# Static pressure in the international standard atmosphere, with weather that the sensor cannot tell from
# height.


# Troposphere of ISO 2533: temperature and pressure at sea level, lapse rate, g M / (R L).
_T0_K, _P0_PA, _LAPSE_K_PER_M, _EXPONENT = 288.15, 101325.0, 0.0065, 5.255877


def pressure_pa(altitude_m: float) -> float:
    """Pressure at an altitude below 11 km; above, the same law goes on, to nothing at 44 km."""
    return float(_P0_PA * max(0.0, 1.0 - _LAPSE_K_PER_M * altitude_m / _T0_K) ** _EXPONENT)


def altitude_m(pressure_pa: float) -> float:
    """The inverse of `pressure_pa`."""
    return float(_T0_K / _LAPSE_K_PER_M * (1.0 - (pressure_pa / _P0_PA) ** (1.0 / _EXPONENT)))


class PressureSensor(PeriodicSensor):
    """Pressure at the body. The map's z above the datum's altitude is taken as height in the atmosphere (no geoid)."""

    name = "barometer"

    def __init__(self, config: Barometer, clock: SensorClock, seed: int, datum: Datum) -> None:
        latency = Latency(stream(seed, self.name, 3), config.latency_ms, config.latency_jitter_ms)
        super().__init__(config.rate_hz, clock, latency)
        self._variance_pa2, self._ground_m = config.noise_pa**2, datum.altitude_m
        self._white = White(stream(seed, self.name, 0), config.noise_pa, 1)
        self._offset_pa = float(White(stream(seed, self.name, 1), config.offset_pa, 1).next()[0])
        self._wander = GaussMarkov(stream(seed, self.name, 2), config.wander_pa, config.wander_s, 1)

    def take(self, state_at: StateAt) -> Measurement:
        """The next sample."""
        t_s = true_seconds(self.next_true_ns)
        bias_pa = self._offset_pa + float(self._wander.at(t_s)[0])
        error_pa = bias_pa + float(self._white.next()[0])
        true_pa = pressure_pa(self._ground_m + float(state_at(t_s).T_map_body[2, 3]))
        reading = PressureReading(true_pa + error_pa, self._variance_pa2)
        return self._measured(reading, {"error_pa": error_pa, "bias_pa": bias_pa})

    def drawn(self) -> dict[str, object]:
        """The constant offset."""
        return {"samples": self._count, "offset_pa": self._offset_pa}


OUTLIER, NO_FIX = "outlier", "no_fix"


class GpsReceiver(PeriodicSensor):
    """Fixes of the antenna's position at even times."""

    name = "gps"

    def __init__(self, config: GpsSensor, clock: SensorClock, seed: int, datum: Datum) -> None:
        latency = Latency(stream(seed, self.name, 4), config.latency_ms, config.latency_jitter_ms)
        super().__init__(config.rate_hz, clock, latency)
        self._config, self._datum = config, datum
        axes = np.array([1.0, 1.0, config.vertical_factor])
        self._white = White(stream(seed, self.name, 0), config.noise_m * axes)
        self._wander = GaussMarkov(stream(seed, self.name, 1), config.wander_m * axes, config.wander_s)
        self._outlier = stream(seed, self.name, 2)
        self._outages = Outages(stream(seed, self.name, 3), config.outages_per_min, config.outage_s)
        self._covariance_m2 = np.diag((config.noise_m**2 + config.wander_m**2) * axes**2)
        self._outliers = self._without_fix = 0

    def take(self, state_at: StateAt) -> Measurement | None:
        """The next fix; in an outage one of status -1, or None."""
        t_s = true_seconds(self.next_true_ns)
        error_m, fault = self._error(t_s)
        if self._outages.active(t_s):
            self._without_fix += 1
            nothing = GpsFix(math.nan, math.nan, math.nan, np.zeros((3, 3)), -1)
            measurement = self._measured(nothing, _named(np.full(3, math.nan)), NO_FIX)
            return None if self._config.silent_outages else measurement
        self._outliers += fault == OUTLIER
        T_map_body = state_at(t_s).T_map_body
        antenna_m = T_map_body[:3, :3] @ np.asarray(self._config.antenna_m, float) + T_map_body[:3, 3]
        latitude, longitude, altitude = map(float, enu_to_wgs84(antenna_m + error_m, self._datum))
        fix = GpsFix(latitude, longitude, altitude, self._covariance_m2.copy(), 0)
        return self._measured(fix, _named(error_m), fault)

    def _error(self, t_s: float) -> tuple[Float64, str]:
        """Error (3,) in ENU, and whether it is an outlier; the same draws whatever is switched on."""
        error_m = self._white.next() + self._wander.at(t_s)
        chance, bearing = self._outlier.random(2)
        size_m = self._config.outlier_m * self._outlier.standard_exponential()
        if chance >= self._config.outlier_share:
            return error_m, ""
        angle = 2 * math.pi * bearing
        return error_m + size_m * np.array([math.cos(angle), math.sin(angle), 0.0]), OUTLIER

    def drawn(self) -> dict[str, object]:
        """Counts, and the outages in seconds of true time (the last one may lie in the future)."""
        return {
            "fixes": self._count,
            "outliers": self._outliers,
            "without_fix": self._without_fix,
            "outages_s": [[float(start), float(end)] for start, end in self._outages.intervals_s],
        }


def _named(error_m: Float64) -> dict[str, float]:
    return named("error", error_m, "m", ("east", "north", "up"))
