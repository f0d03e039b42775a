"""What sensors that measure at even times have in common."""

from __future__ import annotations

from collections.abc import Mapping

from pose2rgbd_ros.sim.sensors.clock import SensorClock
from pose2rgbd_ros.sim.sensors.measurement import Measurement, Value
from pose2rgbd_ros.sim.sensors.noise import Latency
from pose2rgbd_ros.sim.state import true_stamp_ns


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
