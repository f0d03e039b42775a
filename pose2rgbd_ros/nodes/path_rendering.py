"""Renders a path part by part in the render node's worker, and makes the messages of it."""

from __future__ import annotations

import array
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from pose2rgbd.msg import ClearanceProfile, LookAhead
from sensor_msgs.msg import Image

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import AnyArray, Float32, Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.nodes import conversions
from pose2rgbd_ros.nodes.render_service import Active
from pose2rgbd_ros.obstacles.paths import BodyPath
from pose2rgbd_ros.obstacles.profile import Profile, ProfileBuilder, ProfileSettings
from pose2rgbd_ros.rendering.backends import Rendered

MESSAGE_BYTES = 32 * 2**20  # of images in one message: half of the shared-memory segment
MOST_AT_ONCE = 64
UNCALIBRATED = (
    "the model has no calibration, so nothing bounds its depth and all is unknown; run `pose2rgbd calibrate`, "
    "or set look_ahead.uncalibrated_margin"
)


@dataclass(frozen=True, eq=False)
class PathJob:
    """A path to render, with the camera fixed to the body. images: keep the images; rgb: colour among them.

    margin: taken off the depth of a model without calibration; 0: nothing bounds it.
    """

    path: BodyPath
    T_body_cam: Float64
    camera: Camera
    stamp_ns: int
    map_frame: str
    camera_frame: str
    settings: ProfileSettings
    images: bool = True
    rgb: bool = False
    margin: float = 0.0
    chunk_s: float = 0.025

    def with_images(self, images: bool) -> PathJob:
        """The same, with images or without."""
        return replace(self, images=images)

    @property
    def image_bytes(self) -> int:
        """What the images will take: depth, its lower bound and colour."""
        return len(self.path) * self.camera.width * self.camera.height * (8 + 3 * self.rgb)


class PathRendering:
    """The work on one job. All but `run` belongs to the worker while it runs, and to the caller in between."""

    def __init__(self, active: Active, job: PathJob) -> None:
        """UserError: a model or camera whose depth says nothing about distances."""
        renderer = active.renderer
        if renderer.depth_kind != "metric":
            raise UserError(f"{_depth(renderer.depth_kind)}; a clearance needs depth in metres")
        self._active, self._job = active, job
        self._builder = ProfileBuilder(job.path, job.camera, job.T_body_cam, job.settings)
        self._T_map_cam = job.path.T_map_body @ job.T_body_cam
        self._bounded = job.margin > 0
        self._seconds_per_pose = job.chunk_s
        self._body_poses: list[Any] = []
        self.images: dict[str, list[Image]] = {"depth": [], "depth_lower": [], "rgb": []}
        self.keeps_images = job.images and job.image_bytes <= MESSAGE_BYTES

    @property
    def rendered(self) -> int:
        """How many poses are done."""
        return self._builder.done

    @property
    def total(self) -> int:
        return len(self._job.path)

    async def run(self, wake: Callable[[], None], goes_on: Callable[[], bool] = lambda: True) -> bool:
        """Render until the end, or until `goes_on`, asked after each part, says no. Returns whether it is the end.

        UserError: the node was deactivated meanwhile.
        """
        while self.rendered < self.total:
            await self._active.worker.call(self._render_part, wake, behind=True)
            if not goes_on():
                return self.rendered == self.total
        return True

    def _render_part(self) -> None:
        """In the worker: as many poses as fit into the time that live images may wait."""
        first = self._builder.done
        fitting = int(self._job.chunk_s / self._seconds_per_pose)
        end = min(first + min(max(fitting, 1), MOST_AT_ONCE), self.total)
        started = time.perf_counter()
        self._render(first, end)
        self._seconds_per_pose = max((time.perf_counter() - started) / (end - first), 1e-6)

    def _render(self, first: int, end: int) -> None:
        T, job = self._T_map_cam[first:end], self._job
        renderer = self._active.renderer
        rendered = renderer.render_for_camera(T, job.camera)
        inside = np.array([renderer.guard_score(pose).inside for pose in T])
        lower_m, upper_m = self._bounds(rendered)
        self._builder.add(lower_m, upper_m, inside)
        self._body_poses += [conversions.to_pose(pose) for pose in job.path.T_map_body[first:end]]
        if self.keeps_images:
            self._keep("depth", rendered.depth, first)
            self._keep("depth_lower", lower_m if self._bounded else None, first)
            self._keep("rgb", rendered.rgb if job.rgb else None, first)

    def _keep(self, name: str, images: AnyArray | None, first: int) -> None:
        for index, image in enumerate(images if images is not None else (), first):
            message = conversions.to_image(image, self._expected_ns(index), self._job.camera_frame)
            self.images[name].append(message)

    def _bounds(self, rendered: Rendered) -> tuple[Float32, Float32]:
        """Bounds of depth (B, H, W) by the calibration, else by the margin, else unknown."""
        assert rendered.depth is not None
        if rendered.depth_lower is not None and rendered.depth_upper is not None:
            self._bounded = True
            return rendered.depth_lower, rendered.depth_upper
        if self._job.margin > 0:
            off = rendered.depth * np.float32(self._job.margin)
            return rendered.depth - off, rendered.depth + off
        unknown = np.full_like(rendered.depth, np.nan)
        return unknown, unknown

    def _expected_ns(self, index: int) -> int:
        seconds = self._job.path.time_s[index]
        return self._job.stamp_ns + (int(seconds * 1e9) if np.isfinite(seconds) else 0)

    def profile(self) -> ClearanceProfile:
        """The profile as far as it goes."""
        found, path, job = self._builder.profile(), self._job.path, self._job
        n = self._builder.done
        message = ClearanceProfile(
            message=self._message(found),
            poses=self._body_poses[:n],
            distance_m=_floats(path.distance_m[:n]),
            time_s=_floats(path.time_s[:n]),
            clearance_m=_floats(found.clearance_m),
            ahead_m=_floats(found.ahead_m),
            below_m=_floats(found.below_m),
            known=_floats(found.known),
            in_distribution=found.in_distribution.tolist(),
            first_conflict_m=found.first_conflict_m,
            first_unknown_m=found.first_unknown_m,
        )
        message.header.stamp, message.header.frame_id = conversions.to_stamp(job.stamp_ns), job.map_frame
        return message

    def look_ahead(self) -> LookAhead:
        """The images as far as they go."""
        job = self._job
        message = LookAhead(camera_info=conversions.camera_to_info(job.camera), **self.images)
        message.header.stamp, message.header.frame_id = conversions.to_stamp(job.stamp_ns), job.map_frame
        message.camera_info.header.stamp = message.header.stamp
        message.camera_info.header.frame_id = job.camera_frame
        for index in range(len(self.images["depth"])):
            pose = PoseStamped(pose=conversions.to_pose(self._T_map_cam[index]))
            pose.header.stamp = conversions.to_stamp(self._expected_ns(index))
            pose.header.frame_id = job.map_frame
            message.poses.append(pose)
        return message

    def _message(self, found: Profile) -> str:
        if self.rendered and not self._bounded:
            return UNCALIBRATED
        return found.message


def images_left_out(job: PathJob) -> str:
    """Why a job's images are not sent."""
    return (
        f"the images of {len(job.path)} poses take {job.image_bytes / 2**20:.3g} MiB and a message holds "
        f"{MESSAGE_BYTES / 2**20:.3g}: the profile alone is sent"
    )


def _floats(values: Float64) -> array.array[float]:
    return array.array("f", values.astype(np.float32).tobytes())


def _depth(kind: str | None) -> str:
    return "the model has no depth" if kind is None else "the model's depth has no unit (relative)"
