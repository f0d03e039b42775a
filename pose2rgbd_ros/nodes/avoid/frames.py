"""Where the body and its sensors are, from TF: camera -> body, and the level frame that keeps only the yaw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.nodes.avoid.settings import AvoidSettings
from pose2rgbd_ros.nodes.common.tf import TfLookup
from pose2rgbd_ros.obstacles.view import level


@dataclass(frozen=True, eq=False)
class Placed:
    """The body at one moment: R_level_body (3, 3), no rotation where distances are taken in the body's own frame.

    T_map_level (4, 4): the pose of that frame; None where neither `level` nor the points ask for the map.
    """

    stamp_ns: int
    T_map_level: Float64 | None
    R_level_body: Float64

    def T_body(self, T_level: Float64) -> Float64:
        """T_body_x (4, 4) of a T_level_x."""
        return _turned(self.R_level_body.T) @ T_level


class BodyFrames:
    """Lookups that never wait; all methods belong to the executor's thread."""

    def __init__(self, poses: TfLookup, settings: AvoidSettings) -> None:
        self._poses, self._settings = poses, settings

    def body_at(self, stamp_ns: int) -> Placed:
        """The body at a time (0: the newest). UserError says which frame is missing."""
        settings = self._settings
        if not settings.level and settings.cloud_frame != "map":
            return Placed(stamp_ns, None, np.eye(3))
        T_map_body = self._poses.between(settings.map_frame, settings.body_frame, stamp_ns)
        R_level_body = level(T_map_body[:3, :3]) if settings.level else np.eye(3)
        return Placed(stamp_ns, T_map_body @ _turned(R_level_body.T), R_level_body)

    def newest_ns(self, camera_frame: str) -> int | None:
        """Up to when the body and its camera are known; None: at any time. UserError says which frame is missing."""
        if not camera_frame:
            raise UserError("the depth image names no frame; set header.frame_id to the camera's optical frame")
        settings = self._settings
        found = [self._poses.newest_ns(settings.body_frame, camera_frame)]
        if settings.level or settings.cloud_frame == "map":
            found.append(self._poses.newest_ns(settings.map_frame, settings.body_frame))
        return min((stamp_ns for stamp_ns in found if stamp_ns is not None), default=None)

    def camera_at(self, placed: Placed, camera_frame: str) -> Float64:
        """T_level_cam (4, 4) of the camera at the same moment. UserError says which frame is missing."""
        if not camera_frame:
            raise UserError("the depth image names no frame; set header.frame_id to the camera's optical frame")
        T_body_cam = self._poses.between(self._settings.body_frame, camera_frame, placed.stamp_ns)
        return _turned(placed.R_level_body) @ T_body_cam

    def sensor_at(self, placed: Placed, frame: str, stamp_ns: int) -> Float64:
        """T_level_sensor (4, 4) of a sensor as it was at its own time, so that the body's motion since is heeded.

        Where TF does not reach to that time, the sensor is taken to be where it is on the body. UserError: it is
        nowhere.
        """
        if placed.T_map_level is not None:
            try:
                T_map_sensor = self._poses.between(self._settings.map_frame, frame, stamp_ns)
                return se3.compose(se3.inverse(placed.T_map_level), T_map_sensor)
            except UserError:
                pass
        T_body_sensor = self._poses.between(self._settings.body_frame, frame, 0)
        return _turned(placed.R_level_body) @ T_body_sensor

    def turn_to_level(self, placed: Placed, frame: str) -> Float64:
        """R_level_frame (3, 3) of a frame fixed to the body. UserError: it is nowhere."""
        if frame in ("", self._settings.body_frame):
            return placed.R_level_body
        turned: Float64 = placed.R_level_body @ self._poses.between(self._settings.body_frame, frame, 0)[:3, :3]
        return turned


def _turned(R: Float64) -> Float64:
    T = np.eye(4)
    T[:3, :3] = R
    return T
