"""The flight of `make demo`: loops above one corner of the city, each a little higher than the last."""

from __future__ import annotations

from dataclasses import replace

from pose2rgbd_ros.sim.bag import SimBagConfig
from pose2rgbd_ros.sim.flights import FlightConfig
from pose2rgbd_ros.sim.sensors.config import CameraSensor, ImuSensor, SensorsConfig

# Neighbouring loops pass close to each other but never through the same pose, so a held-out stretch of the flight is
# new to the model yet lies inside what it has seen. A narrow radius keeps what is to be learned small enough for two
# minutes of training.
FLIGHT = FlightConfig(
    plan="orbit",
    altitude_m=50.0,
    climb_m=12.0,
    radius_m=45.0,
    loops=6,
    speed_mps=12.0,
    acceleration_mps2=4.0,
)
# The faults of real sensors, but poses that do not drift: as of odometry that is corrected by RTK.
SENSORS = SensorsConfig(
    camera=CameraSensor(rate_hz=6.0),
    odometry=replace(
        SensorsConfig.perfect().odometry, rate_hz=50.0, latency_ms=15.0, velocity_noise_mps=0.05
    ),
    imu=ImuSensor(rate_hz=100.0),
)


def demo_config() -> SimBagConfig:
    """Some 800 small images; a few seconds to render."""
    return SimBagConfig(width=320, height=240, fov_deg=56.0, duration_s=0.0, flight=FLIGHT, sensors=SENSORS)
