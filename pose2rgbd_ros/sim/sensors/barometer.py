"""Static pressure in the international standard atmosphere, with weather that the sensor cannot tell from height."""

from __future__ import annotations

from pose2rgbd_ros.geometry.geodesy import Datum
from pose2rgbd_ros.sim.sensors.clock import SensorClock
from pose2rgbd_ros.sim.sensors.config import Barometer
from pose2rgbd_ros.sim.sensors.measurement import Measurement, PressureReading, StateAt
from pose2rgbd_ros.sim.sensors.noise import GaussMarkov, Latency, White, stream
from pose2rgbd_ros.sim.sensors.periodic import PeriodicSensor
from pose2rgbd_ros.sim.state import true_seconds

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
