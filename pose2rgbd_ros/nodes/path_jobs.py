"""From a path or twist as it was sent to a job that can be rendered: frames through TF, camera, resampling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from nav_msgs.msg import Odometry, Path

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.nodes import conversions
from pose2rgbd_ros.nodes.look_ahead_paths import seen_from, twist_of, waypoints_of
from pose2rgbd_ros.nodes.look_ahead_settings import LookAheadSettings
from pose2rgbd_ros.nodes.path_rendering import PathJob
from pose2rgbd_ros.nodes.poses import PoseSource, StampedPose
from pose2rgbd_ros.nodes.render_service import Active
from pose2rgbd_ros.obstacles.paths import (
    STANDING_MPS,
    BodyPath,
    Waypoints,
    along,
    carried_on,
    faced,
    resampled,
)

SILENCE_S = 1.0  # an older pose or twist does not say where the body is, or is going


class PathJobs:
    """Makes jobs; belongs to the executor's thread. `frames` gives the map and camera frame."""

    def __init__(self, poses: PoseSource, frames: Callable[[], tuple[str, str]]) -> None:
        self._poses, self._frames = poses, frames

    def whole(
        self, path: Path, spacing_m: float, settings: LookAheadSettings, active: Active, now_ns: int
    ) -> PathJob:
        """All of a path. UserError: it cannot be rendered, and why."""
        points = waypoints_of(path)
        if not np.isfinite(spacing_m) or spacing_m < 0:
            raise UserError(f"spacing_m is {spacing_m}; give a distance, or 0 for the poses as they are")
        part = resampled(faced(points, settings.facing), spacing_m)
        part = part.moved(self._T_map(path.header.frame_id))
        return self._job(part, conversions.stamp_ns(path.header.stamp) or now_ns, settings, active)

    def next_of(
        self, path: Path, points: Waypoints, from_m: float, settings: LookAheadSettings, active: Active,
        now_ns: int, speed_mps: float,
    ) -> tuple[PathJob, float]:  # fmt: skip
        """The poses of a path to come, from where the body is now, and how far along that is.

        It is looked for around `from_m`, as far as the look-ahead reaches, so that a path that crosses itself is followed
        in order. Without a transform of the body the path is taken from `from_m`. UserError: an old one, among others.
        """
        T_map_path = self._T_map(path.header.frame_id)
        body = self._body(settings.body_frame)
        if body is not None:
            reach_m = max(settings.poses * settings.spacing_m, 10 * settings.radius_m)
            position_m = np.linalg.solve(T_map_path, body.T_map_cam)[:3, 3]
            from_m = along(points, position_m, from_m - reach_m, 2 * reach_m)
        part = resampled(points, settings.spacing_m, from_m, settings.poses, cut=True)
        stamp_ns = body.stamp_ns if body else now_ns
        times_s = self._times_s(part, path, stamp_ns, speed_mps)
        part = replace(part, time_s=times_s).moved(T_map_path)
        return self._job(part, stamp_ns, settings, active), from_m

    def carried(self, odometry: Odometry, settings: LookAheadSettings, active: Active) -> PathJob:
        """Where the twist of an odometry carries the body that TF knows."""
        child = odometry.child_frame_id or settings.body_frame
        T_child_body = self._poses.between(child, settings.body_frame, 0)
        twist = seen_from(twist_of(odometry), T_child_body)
        body = _fresh(self._poses.latest(self._frames()[0], settings.body_frame), settings.body_frame)
        part = carried_on(body.T_map_cam, twist, settings.horizon_s, settings.poses)
        return self._job(part, body.stamp_ns, settings, active)

    def _job(self, path: BodyPath, stamp_ns: int, settings: LookAheadSettings, active: Active) -> PathJob:
        map_frame, camera_frame = self._frames()
        return PathJob(
            path, self._T_body_cam(settings.body_frame, camera_frame), _smaller(active, settings.width),
            stamp_ns, map_frame, camera_frame, settings.profile(), rgb=settings.with_rgb,
            margin=settings.uncalibrated_margin, chunk_s=settings.chunk_ms / 1e3,
        )  # fmt: skip

    def _T_map(self, frame: str) -> Float64:
        """The newest T_map_frame; an empty frame is the map's."""
        map_frame = self._frames()[0]
        return self._poses.between(map_frame, frame or map_frame, 0)

    def _T_body_cam(self, body_frame: str, camera_frame: str) -> Float64:
        try:
            return self._poses.between(body_frame, camera_frame, 0)
        except UserError as error:
            raise UserError(
                f"where the camera sits on the body is not known, publish it on /tf_static: {error} "
                "(look_ahead.body_frame names the body)"
            ) from error

    def _body(self, body_frame: str) -> StampedPose | None:
        try:
            found = self._poses.latest(self._frames()[0], body_frame)
        except UserError:
            return None
        return _fresh(found, body_frame)

    def _times_s(self, part: BodyPath, path: Path, stamp_ns: int, speed_mps: float) -> Float64:
        """After the stamp: by the path's own stamps, else by the speed, else unknown."""
        if np.isfinite(part.time_s).all():
            begin_ns = conversions.stamp_ns(path.header.stamp) or conversions.stamp_ns(
                path.poses[0].header.stamp
            )
            return part.time_s + (begin_ns - stamp_ns) / 1e9
        if speed_mps >= STANDING_MPS:
            return part.distance_m / speed_mps
        return np.full(len(part), np.nan)


def _fresh(body: StampedPose, body_frame: str) -> StampedPose:
    """UserError: it is too old, or too far ahead, to say where the body is."""
    if abs(body.age_s) > SILENCE_S:
        raise UserError(
            f"the pose of {body_frame} is {body.age_s:.1f} s old; is the localization still running, by the same clock?"
        )
    return body


def _smaller(active: Active, width: int) -> Camera:
    """The camera of the node, with smaller images where the model can."""
    camera = active.camera
    if width == 0 or width >= camera.width or not active.renderer.any_camera:
        return camera
    return camera.resized(width, max(1, round(camera.height * width / camera.width)))
