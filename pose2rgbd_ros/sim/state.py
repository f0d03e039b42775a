"""Where the simulated drone is and how it moves; names and origin of time that all parts of the simulator share."""

from __future__ import annotations

from dataclasses import dataclass

from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.geodesy import Datum

START_NS = 1_700_000_000_000_000_000  # true time 0 of every simulated flight
DATUM = Datum(latitude_deg=47.0, longitude_deg=8.0, altitude_m=400.0)  # where on Earth the map's origin lies
MAP, ODOM, BASE, CAMERA, GPS_ANTENNA = "map", "odom", "base_link", "camera_optical_frame", "gps"


def true_stamp_ns(t_s: float) -> int:
    """The stamp of a perfect clock `t_s` seconds into the flight."""
    return START_NS + round(t_s * 1e9)


def true_seconds(stamp_ns: int) -> float:
    """The inverse of `true_stamp_ns`."""
    return (stamp_ns - START_NS) / 1e9


@dataclass(frozen=True, eq=False)
class BodyState:
    """The true state of the body (x forward, y left, z up) at one time.

    `T_map_body` (4, 4); `velocity_map_mps` and `acceleration_map_mps2` (3,) in the map, gravity not included;
    `angular_velocity_body_radps` (3,) in the body.
    """

    t_s: float
    T_map_body: Float64
    velocity_map_mps: Float64
    acceleration_map_mps2: Float64
    angular_velocity_body_radps: Float64
