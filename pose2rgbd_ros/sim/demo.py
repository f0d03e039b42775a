"""The flight of `make demo`: loops above one block of the city, each a little higher than the last."""

from __future__ import annotations

from dataclasses import replace

from pose2rgbd_ros.sim.bag import SimBagConfig
from pose2rgbd_ros.sim.flights import FlightConfig
from pose2rgbd_ros.sim.sensors.config import CameraSensor, ImuSensor, SensorsConfig

# Neighbouring loops pass close to each other but never through the same pose, so a held-out stretch of the flight is
# new to the model yet lies inside what it has seen. The block below has large roofs and a courtyard: shapes that two
# minutes of training can learn.
FLIGHT = FlightConfig(
    plan="orbit",
    aim_x_m=20.0,
    aim_y_m=120.0,
    radius_m=45.0,
    altitude_m=50.0,
    climb_m=10.0,
    loops=6,
    speed_mps=15.0,
    acceleration_mps2=5.0,
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
    """Two minutes, some 700 small images."""
    return SimBagConfig(width=320, height=240, fov_deg=56.0, duration_s=0.0, flight=FLIGHT, sensors=SENSORS)
