"""The camera's shutter: when each image is exposed, what its stamp says, and when it arrives."""

from __future__ import annotations

import numpy as np

from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.sim.sensors.clock import SensorClock
from pose2rgbd_ros.sim.sensors.config import CameraSensor
from pose2rgbd_ros.sim.sensors.measurement import Exposure, Measurement, StateAt
from pose2rgbd_ros.sim.sensors.noise import Latency, stream
from pose2rgbd_ros.sim.state import true_seconds, true_stamp_ns

_LARGEST_JITTER = 0.2  # of the period, for trigger and stamp each: images and stamps stay in order


class ShutterSensor:
    """The n-th image is exposed at n / rate, give or take the jitter; colour and depth share it."""

    name = "camera"

    def __init__(self, config: CameraSensor, clock: SensorClock, seed: int, T_body_cam: Float64) -> None:
        self._config, self._clock, self._T_body_cam = config, clock, T_body_cam
        self._trigger, self._stamp, self._drop = (stream(seed, self.name, number) for number in range(3))
        self._latency = Latency(stream(seed, self.name, 3), config.latency_ms, config.latency_jitter_ms)
        self._count = 0
        self._dropped = 0
        self.next_true_ns = self._middle_ns()

    def take(self, state_at: StateAt) -> Measurement | None:
        """The next exposure, or None when the image gets lost."""
        config, true_ns = self._config, self.next_true_ns
        half_ns = round(config.exposure_ms * 0.5e6)
        stamp_ns = self._clock.stamp_ns(true_ns) - round(config.delay_ms * 1e6)
        stamp_ns += self._jitter_ns(self._stamp, config.stamp_jitter_ms) - half_ns * config.stamp_at_start
        arrival_ns = self._latency.arrival_ns(true_ns + half_ns)
        lost = self._drop.random() < config.drop_share
        self._count += 1
        self.next_true_ns = self._middle_ns()
        if lost:
            self._dropped += 1
            return None
        T_map_cam = state_at(true_seconds(true_ns)).T_map_body @ self._T_body_cam
        exposure = Exposure(true_ns, T_map_cam)
        return Measurement(self.name, true_ns, stamp_ns, arrival_ns, exposure)

    def drawn(self) -> dict[str, object]:
        """How many images were lost."""
        return {"images": self._count, "dropped": self._dropped}

    def _middle_ns(self) -> int:
        nominal_s = self._count / self._config.rate_hz + self._config.exposure_ms / 2e3
        jitter_ns = self._jitter_ns(self._trigger, self._config.trigger_jitter_ms)
        return max(
            true_stamp_ns(nominal_s) + jitter_ns, true_stamp_ns(0.0)
        )  # there is no flight before the start

    def _jitter_ns(self, rng: np.random.Generator, sigma_ms: float) -> int:
        limit_ms = _LARGEST_JITTER * 1e3 / self._config.rate_hz
        return round(float(np.clip(rng.standard_normal() * sigma_ms, -limit_ms, limit_ms)) * 1e6)
