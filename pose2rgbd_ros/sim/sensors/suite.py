"""All sensors of the drone, stepping through time: a bag and a live node take the same road."""

from __future__ import annotations

import functools
import heapq
from collections.abc import Iterable

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.geodesy import Datum
from pose2rgbd_ros.sim.sensors.config import CameraSensor, SensorsConfig
from pose2rgbd_ros.sim.sensors.gps import GpsReceiver, PressureSensor
from pose2rgbd_ros.sim.sensors.imu import InertialSensor
from pose2rgbd_ros.sim.sensors.noise import (
    Exposure,
    Latency,
    Measurement,
    Sensor,
    SensorClock,
    StateAt,
    draw_clocks,
    stream,
)
from pose2rgbd_ros.sim.sensors.odometry import DriftingOdometry
from pose2rgbd_ros.sim.state import true_seconds, true_stamp_ns

# The camera's shutter: when each image is exposed, what its stamp says, and when it arrives.


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
        return max(true_stamp_ns(nominal_s) + jitter_ns, true_stamp_ns(0.0))  # there is no flight before the start

    def _jitter_ns(self, rng: np.random.Generator, sigma_ms: float) -> int:
        limit_ms = _LARGEST_JITTER * 1e3 / self._config.rate_hz
        return round(float(np.clip(rng.standard_normal() * sigma_ms, -limit_ms, limit_ms)) * 1e6)


class SensorSuite:
    """Camera, GPS, odometry, IMU and barometer of one flight.

    Args:
        config: rates and faults.
        datum: where on Earth the map's origin lies.
        seed: draws every fault.
        T_body_cam: (4, 4), the camera's optical frame in the body.

    Raises:
        UserError: a setting makes no sense.
    """

    def __init__(self, config: SensorsConfig, datum: Datum, seed: int, T_body_cam: Float64) -> None:
        config.check()
        if seed < 0:
            raise UserError(f"the seed of the sensors is {seed}; it must not be negative")
        self.config, self.datum, self.seed = config, datum, seed
        self.clocks = draw_clocks(config.clocks, seed)
        clocks = self.clocks
        self._sensors: tuple[Sensor, ...] = (
            ShutterSensor(config.camera, clocks["camera"], seed, np.asarray(T_body_cam, float)),
            GpsReceiver(config.gps, clocks["gps"], seed, datum),
            DriftingOdometry(config.odometry, clocks["odometry"], seed),
            InertialSensor(config.imu, clocks["imu"], seed),
            PressureSensor(config.barometer, clocks["barometer"], seed, datum),
        )

    def advance(self, state_at: StateAt, until_s: float) -> list[Measurement]:
        """All measurements since the last call whose true time is at most `until_s`, in order of true time.

        The same flight gives the same measurements in whatever steps it is advanced.
        """
        until_ns = true_stamp_ns(until_s)
        state_at = functools.lru_cache(maxsize=1)(state_at)  # sensors often measure at the same instant
        taken: list[Measurement] = []
        while True:
            sensor = min(self._sensors, key=lambda item: item.next_true_ns)
            if sensor.next_true_ns > until_ns:
                return taken
            measurement = sensor.take(state_at)
            if measurement is not None:
                taken.append(measurement)

    def drawn(self) -> dict[str, object]:
        """Every fault that was drawn so far, by sensor, ready for YAML."""
        clocks = {
            name: {"offset_ns": clock.offset_ns, "drift_ppm": clock.drift_ppm} for name, clock in self.clocks.items()
        }
        return {"clocks": clocks, **{sensor.name: sensor.drawn() for sensor in self._sensors}}


class Arrivals:
    """Measurements waiting for their arrival; what is taken at the same time arrives in the order it was added."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Measurement]] = []
        self._added = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, measurements: Iterable[Measurement]) -> None:
        """Put measurements on their way."""
        for item in measurements:
            heapq.heappush(self._heap, (item.arrival_ns, self._added, item))
            self._added += 1

    def until(self, true_ns: int | None) -> list[Measurement]:
        """Take out what has arrived by `true_ns` (None: everything), in order of arrival."""
        arrived = []
        while self._heap and (true_ns is None or self._heap[0][0] <= true_ns):
            arrived.append(heapq.heappop(self._heap)[2])
        return arrived
