"""All sensors of the drone, stepping through time: a bag and a live node take the same road."""

from __future__ import annotations

import functools
import heapq
from collections.abc import Iterable

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.geodesy import Datum
from pose2rgbd_ros.sim.sensors.barometer import PressureSensor
from pose2rgbd_ros.sim.sensors.camera import ShutterSensor
from pose2rgbd_ros.sim.sensors.clock import draw_clocks
from pose2rgbd_ros.sim.sensors.config import SensorsConfig
from pose2rgbd_ros.sim.sensors.gps import GpsReceiver
from pose2rgbd_ros.sim.sensors.imu import InertialSensor
from pose2rgbd_ros.sim.sensors.measurement import Measurement, Sensor, StateAt
from pose2rgbd_ros.sim.sensors.odometry import DriftingOdometry
from pose2rgbd_ros.sim.state import true_stamp_ns


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
            name: {"offset_ns": clock.offset_ns, "drift_ppm": clock.drift_ppm}
            for name, clock in self.clocks.items()
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
