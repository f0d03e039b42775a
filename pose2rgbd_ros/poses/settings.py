"""Where the camera's position and orientation come from: settings that live and offline recording share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.settings import setting

Position = Literal["auto", "pose", "gps", "fused"]
Orientation = Literal["auto", "pose", "tf", "imu", "gimbal", "course"]
Interpolation = Literal["linear", "cubic"]
Altitude = Literal["auto", "fix", "relative", "none"]
AltitudeReference = Literal["auto", "ellipsoid", "msl", "takeoff", "unknown"]


@dataclass(frozen=True)
class PoseSettings:
    """How poses are made of what was recorded."""

    position: Position = setting(
        "auto",
        "where positions come from: pose (odometry, pose or TF), gps, fused (GPS anchors, odometry shapes), or auto: "
        "pose where there is one, else gps",
    )
    orientation: Orientation = setting(
        "auto",
        "where orientations come from: pose, tf, imu (an Imu message with an orientation), gimbal, course (the body "
        "points where it moves), or auto: with the position, else the first of gimbal, tf, imu, course that there is",
    )
    body_to_camera: str = setting(
        "auto",
        "where the camera sits on the body whose pose is recorded: auto (from TF), forward, nadir, identity (the pose "
        "is the camera's optical frame's), or 'x y z qx qy qz qw' (metres; pose of the optical frame in the body)",
    )
    max_pose_gap_s: float = setting(0.5, "no pose is interpolated over a longer silence", ge=0)
    max_fix_gap_s: float = setting(2.5, "with position gps, no position is interpolated over a longer silence", ge=0)
    interpolation: Interpolation = setting("linear", "between two poses: linear, or cubic (smooth)")
    antenna_m: str = setting(
        "auto", "where the GPS antenna sits in the body: auto (static TF, else at its origin), or 'x y z' in metres"
    )
    altitude: Altitude = setting(
        "auto",
        "where heights come from: fix (the GPS), relative (above take-off), none (GPS heights are not used), or auto",
    )
    altitude_reference: AltitudeReference = setting(
        "auto", "what GPS heights count from; auto: the ellipsoid for NavSatFix, as its definition says; only recorded"
    )
    fix_sigma_m: float = setting(
        0.0, "horizontal standard deviation of a fix; 0: as the fixes say, 1.5 m where they say nothing", ge=0
    )
    fix_wander_s: float = setting(
        60.0, "time over which errors of a GPS stay alike, for position fused", ge=0.1, le=1e5
    )
    fix_wander_share: float = setting(
        0.9, "share of a fix's variance that wanders, and is not noise, for position fused", ge=0, le=1
    )
    odometry_drift: float = setting(
        0.01, "position drift of the odometry, as a share of the distance, for position fused", ge=1e-6, le=10
    )
    odometry_walk_m_per_sqrt_min: float = setting(
        0.3, "random walk of the odometry's position, per axis, for position fused", ge=1e-6, le=1e3
    )
    odometry_yaw_walk_deg_per_sqrt_min: float = setting(
        0.5, "random walk of the odometry's heading, for position fused", ge=1e-6, le=360
    )
    course_speed_mps: float = setting(
        1.0, "below this speed the course says no heading, and the last one is held", ge=0.01, le=100
    )
    course_smoothing_s: float = setting(1.0, "over how long the course is smoothed", ge=0, le=60)

    def antenna(self) -> Float64 | None:
        """The antenna in the body (3,), metres; None when it is to be found out. UserError for a bad text."""
        if self.antenna_m == "auto":
            return None
        try:
            numbers = np.array([float(part) for part in self.antenna_m.replace(",", " ").split()])
        except ValueError:
            numbers = np.zeros(0)
        if numbers.shape != (3,) or not np.isfinite(numbers).all():
            raise UserError(f"antenna_m is {self.antenna_m!r}; expected auto or 'x y z' in metres")
        return numbers
