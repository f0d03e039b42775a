"""A simulated flight as a recording with all its sensors; its images are tiny and plain, so no renderer is needed."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from pose2rgbd_ros.bags.messages import MessageFactory
from pose2rgbd_ros.bags.writer import BagWriter
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.sim.bag import Recorder
from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.sim.flights.flight import Flight
from pose2rgbd_ros.sim.flights.make import make_flight
from pose2rgbd_ros.sim.gl.renderer import View
from pose2rgbd_ros.sim.sensors.config import (
    Barometer,
    CameraSensor,
    Clocks,
    GpsSensor,
    ImuSensor,
    OdometrySensor,
    SensorsConfig,
)
from pose2rgbd_ros.sim.sensors.suite import SensorSuite
from pose2rgbd_ros.sim.state import DATUM, START_NS

CAMERA = Camera(32, 24, 40.0, 40.0, 15.5, 11.5)
# Few images, so that files stay small; GPS as a receiver has it whose errors are mostly white.
SENSORS = SensorsConfig(
    camera=CameraSensor(rate_hz=2.0, drop_share=0.0),
    gps=GpsSensor(wander_m=0.3, outages_per_min=0.0),
    odometry=OdometrySensor(rate_hz=20.0, heading_sigma_deg=120.0),
    imu=ImuSensor(rate_hz=10.0, orientation=True),
    barometer=Barometer(rate_hz=0.1),
    clocks=Clocks(offset_ms=0.0, drift_ppm=0.0),
)


Sent = tuple[int, str, Any]  # arrival, topic, message


@functools.cache
def sensor_messages(
    plan: str = "survey", seed: int = 1, duration_s: float = 60.0, sensors: SensorsConfig = SENSORS
) -> tuple[Flight, tuple[Sent, ...]]:
    """The true flight, and everything sent on it in order of arrival."""
    flight = make_flight(FlightConfig(plan=plan, seed=seed))
    suite = SensorSuite(sensors, DATUM, seed, flight.T_body_cam)
    plain = View(np.full((24, 32, 3), 128, np.uint8), np.full((24, 32), 50.0, np.float32), np.zeros((24, 32), np.uint8))
    recorder = Recorder(MessageFactory(), CAMERA, lambda _: plain, "none", np.inf, None)
    mounts = recorder.mounts(START_NS, flight.T_body_cam, sensors.gps.antenna_m)
    sent = [(START_NS, topic, message) for topic, message in mounts]
    for item in sorted(suite.advance(flight.state, duration_s), key=lambda item: item.arrival_ns):
        sent += [(item.arrival_ns, topic, message) for topic, message in recorder.messages(item)]
    return flight, tuple(sent)


def write_bag(path: Path, sent: Iterable[Sent], without: tuple[str, ...] = ()) -> Path:
    """A recording of what was sent, as if some topics had not been recorded."""
    with BagWriter(path) as bag:
        for arrival_ns, topic, message in sorted(sent, key=lambda item: item[0]):
            if topic not in without:
                bag.write(topic, message, arrival_ns)
    return path
