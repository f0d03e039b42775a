"""Clocks that are wrong: each sensor stamps with its own."""

from __future__ import annotations

from dataclasses import dataclass

from pose2rgbd_ros.sim.sensors.config import Clocks
from pose2rgbd_ros.sim.sensors.noise import SENSORS, stream
from pose2rgbd_ros.sim.state import START_NS

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
