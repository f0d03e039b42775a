"""Renders a path part by part in the render node's worker, and makes the messages of it."""

from __future__ import annotations

import array
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry, Path
from pose2rgbd.msg import ClearanceProfile, LookAhead
from sensor_msgs.msg import Image

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float32, Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.backends import RenderedImages
from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.nodes.common.status import stale
from pose2rgbd_ros.nodes.common.tf import StampedPose, TfLookup
from pose2rgbd_ros.nodes.render.service import Active
from pose2rgbd_ros.nodes.render.settings import LookAheadSettings
from pose2rgbd_ros.obstacles.paths import (
    STANDING_MPS,
    BodyPath,
    Profile,
    ProfileBuilder,
    ProfileSettings,
    Waypoints,
    along,
    carried_on,
    faced,
    resampled,
)

# Paths and twists of messages, judged: frames, stamps and numbers that contradict each other are refused.


def waypoints_of(path: Path) -> Waypoints:
    """The poses of a path, in its own frame; times after the path's stamp, where each pose has its own.

    Raises:
        UserError: empty, not finite, poses of other frames than the path's, stamps that go back or that some lack.
    """
    frame = path.header.frame_id
    for index, stamped in enumerate(path.poses):
        other = stamped.header.frame_id
        if other and other != frame:
            raise UserError(f"pose {index} of the path is in frame {other!r}, the path in {frame!r}; send one frame")
    numbers = np.array(
        [
            (p.position.x, p.position.y, p.position.z, q.x, q.y, q.z, q.w)
            for p, q in ((stamped.pose, stamped.pose.orientation) for stamped in path.poses)
        ],
        dtype=np.float64,
    ).reshape(-1, 7)
    return Waypoints(numbers[:, :3], numbers[:, 3:], _times_s(path))


def twist_of(message: Odometry) -> Float64:
    """Velocity and turning (6,) of an odometry, in the frame of its child."""
    linear, angular = message.twist.twist.linear, message.twist.twist.angular
    return np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])


def seen_from(twist: Float64, T_child_body: Float64) -> Float64:
    """The twist (6,) of a frame fixed to the one whose twist is given."""
    R, p = T_child_body[:3, :3], T_child_body[:3, 3]
    velocity, turning = twist[:3], twist[3:]
    return np.concatenate([R.T @ (velocity + np.cross(turning, p)), R.T @ turning])


def _times_s(path: Path) -> Float64:
    """Seconds after the path's stamp (N,); NaN when the poses have none of their own."""
    stamps_ns = np.array([conversions.stamp_ns(stamped.header.stamp) for stamped in path.poses], dtype=np.int64)
    unknown = np.full(len(stamps_ns), np.nan)
    if len(stamps_ns) == 0 or not np.ptp(stamps_ns):
        return unknown  # none, or the same everywhere, as planners leave them
    if (stamps_ns == 0).any():
        missing = int((stamps_ns == 0).argmax())
        raise UserError(f"pose {missing} of the path has no stamp and others have one; stamp all or none")
    back = np.diff(stamps_ns) < 0
    if back.any():
        index = int(back.argmax()) + 1
        raise UserError(
            f"the stamps of the path contradict its order: pose {index} is {-np.diff(stamps_ns)[index - 1] / 1e9:.3f} "
            "s before the one ahead of it"
        )
    begin_ns = conversions.stamp_ns(path.header.stamp) or int(stamps_ns[0])
    seconds: Float64 = (stamps_ns - begin_ns) / 1e9
    return seconds


MESSAGE_BYTES = 32 * 2**20  # of images in one message: half of the shared-memory segment
MOST_AT_ONCE = 64
UNCALIBRATED = (
    "the model has no calibration, so nothing bounds its depth and all is unknown; run `pose2rgbd calibrate`, "
    "or set look_ahead.uncalibrated_margin"
)


@dataclass(frozen=True, eq=False)
class PathJob:
    """A path to render, with the camera fixed to the body. images: keep the images; rgb: colour among them.

    progressive: show the images of each pose as they come, small ones first. margin: taken off the depth of a model
    without calibration; 0: nothing bounds it.
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
    progressive: bool = False
    margin: float = 0.0
    chunk_s: float = 0.025

    def with_images(self, images: bool) -> PathJob:
        """The same, with images or without."""
        return replace(self, images=images)

    @property
    def image_bytes(self) -> int:
        """What the images will take: depth, its lower bound and colour."""
        return len(self.path) * self.camera.width * self.camera.height * (8 + 3 * self.rgb)


@dataclass(frozen=True, eq=False)
class Shown:
    """Images of one pose of a path; those of a preview are small, and the whole ones follow."""

    images: LookAhead
    preview: bool


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

    async def run(
        self,
        wake: Callable[[], None],
        goes_on: Callable[[], bool] = lambda: True,
        show: Callable[[Shown], None] = lambda shown: None,
    ) -> bool:
        """Render until the end, or until `goes_on`, asked after each part, says no. Returns whether it is the end.

        `show` gets the images of a progressive job. UserError: the node was deactivated meanwhile.
        """
        work = self._render_progressively() if self._job.progressive else self._render_in_parts()
        while self.rendered < self.total:
            shown = await self._active.worker.call(lambda: next(work), wake, behind=True)
            if shown is not None:
                show(shown)
            if not goes_on():
                return self.rendered == self.total
        return True

    def _render_in_parts(self) -> Iterator[None]:
        """In the worker, at each step: as many poses as fit into the time that live images may wait."""
        seconds_per_pose = self._job.chunk_s
        while True:
            first = self._builder.done
            end = min(first + min(max(int(self._job.chunk_s / seconds_per_pose), 1), MOST_AT_ONCE), self.total)
            started = time.perf_counter()
            self._take(self._active.renderer.render_for_camera(self._T_map_cam[first:end], self._job.camera))
            seconds_per_pose = max((time.perf_counter() - started) / (end - first), 1e-6)
            yield None

    def _render_progressively(self) -> Iterator[Shown]:
        """In the worker, at each step: the small images of a pose, or the whole ones."""
        job = self._job
        while True:
            index = self._builder.done
            for rendered in self._active.renderer.progressive(self._T_map_cam[index], job.camera):
                assert rendered.depth is not None
                camera = job.camera.resized(*rendered.depth.shape[:0:-1])
                if camera == job.camera:
                    kept = self._take(rendered)
                else:
                    kept = self._messages(rendered, self._bounds(rendered)[0], index)
                yield Shown(self._look_ahead(kept, camera, index), preview=camera != job.camera)

    def _take(self, rendered: RenderedImages) -> dict[str, list[Image]]:
        """Go on by the images of the next poses, and give the messages of them."""
        first, job = self._builder.done, self._job
        lower_m, upper_m = self._bounds(rendered)
        end = first + len(lower_m)
        inside = np.array([self._active.renderer.guard_score(pose).inside for pose in self._T_map_cam[first:end]])
        self._builder.add(lower_m, upper_m, inside)
        self._body_poses += [conversions.to_pose(pose) for pose in job.path.T_map_body[first:end]]
        if not (self.keeps_images or job.progressive):
            return {}
        messages = self._messages(rendered, lower_m, first)
        if self.keeps_images:
            for name, images in messages.items():
                self.images[name] += images
        return messages

    def _messages(self, rendered: RenderedImages, lower_m: Float32, first: int) -> dict[str, list[Image]]:
        """Depth, its lower bound and colour of the poses from `first` on, as far as they are wanted and there are."""
        made = {
            "depth": rendered.depth,
            "depth_lower": lower_m if self._bounded else None,
            "rgb": rendered.rgb if self._job.rgb else None,
        }
        return {
            name: [
                conversions.to_image(image, self._expected_ns(index), self._job.camera_frame)
                for index, image in enumerate(() if images is None else images, first)
            ]
            for name, images in made.items()
        }

    def _bounds(self, rendered: RenderedImages) -> tuple[Float32, Float32]:
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
        return self._look_ahead(self.images, self._job.camera)

    def _look_ahead(self, images: Mapping[str, list[Image]], camera: Camera, first: int = 0) -> LookAhead:
        """Those images, of the poses from `first` on, with poses, times and camera."""
        job = self._job
        message = LookAhead(camera_info=conversions.camera_to_info(camera), **images)
        message.header.stamp, message.header.frame_id = conversions.to_stamp(job.stamp_ns), job.map_frame
        message.camera_info.header.stamp = message.header.stamp
        message.camera_info.header.frame_id = job.camera_frame
        for index in range(first, first + len(images["depth"])):
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


# From a path or twist as it was sent to a job that can be rendered: frames through TF, camera, resampling.


SILENCE_S = 1.0  # an older pose or twist does not say where the body is, or is going


class PathJobs:
    """Makes jobs; belongs to the executor's thread. `frames` gives the map and camera frame."""

    def __init__(self, poses: TfLookup, frames: Callable[[], tuple[str, str]]) -> None:
        self._poses, self._frames = poses, frames

    def whole(self, path: Path, spacing_m: float, settings: LookAheadSettings, active: Active, now_ns: int) -> PathJob:
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

        It is looked for around `from_m`, as far as the look-ahead reaches, so that a path that crosses itself is
        followed in order. Without a transform of the body the path is taken from `from_m`. UserError: an old one,
        among others.
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
            begin_ns = conversions.stamp_ns(path.header.stamp) or conversions.stamp_ns(path.poses[0].header.stamp)
            return part.time_s + (begin_ns - stamp_ns) / 1e9
        if speed_mps >= STANDING_MPS:
            return part.distance_m / speed_mps
        return np.full(len(part), np.nan)


def _fresh(body: StampedPose, body_frame: str) -> StampedPose:
    """UserError: it is too old, or too far ahead, to say where the body is."""
    if why := stale(f"the pose of {body_frame}", body.age_s, SILENCE_S):
        raise UserError(why)
    return body


def _smaller(active: Active, width: int) -> Camera:
    """The camera of the node, with smaller images where the model can."""
    camera = active.camera
    if width == 0 or width >= camera.width or not active.renderer.any_camera:
        return camera
    return camera.resized(width, max(1, round(camera.height * width / camera.width)))
