"""The look-ahead of a render node: what is to be seen at the poses to come, and how much room there is along them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from nav_msgs.msg import Odometry, Path
from pose2rgbd.action import RenderPath
from pose2rgbd.msg import ClearanceProfile, LookAhead
from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.timer import Timer

from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.nodes.common import conversions, status
from pose2rgbd_ros.nodes.common.node import NOT_ACTIVE, ManagedNode
from pose2rgbd_ros.nodes.common.status import ConditionLog, Diagnostics, stale
from pose2rgbd_ros.nodes.common.topics import Candidate, TopicHealth
from pose2rgbd_ros.nodes.render.path import (
    SILENCE_S,
    PathJob,
    PathJobs,
    PathRendering,
    Shown,
    images_left_out,
    twist_of,
    waypoints_of,
)
from pose2rgbd_ros.nodes.render.service import Active, requested_camera
from pose2rgbd_ros.nodes.render.settings import LookAheadSettings
from pose2rgbd_ros.obstacles.paths import Waypoints, faced

QUEUE_DEPTH = 2


class LookAheadTopics:
    """Publishes ~/look_ahead and ~/clearance while they have subscribers.

    Where there is nothing to say, a clearance profile without poses says why. `start` and `stop` follow the node's
    activation; all methods belong to the executor's thread.
    """

    def __init__(self, node: ManagedNode[Any], jobs: PathJobs, active: Callable[[], Active | None]) -> None:
        self._node, self._jobs, self._active = node, jobs, active
        self._group = ReentrantCallbackGroup()  # a tick that waits for the worker holds up nothing
        self._settings = LookAheadSettings()
        self._images: Publisher | None = None
        self._clearance: Publisher | None = None
        self._twists = TopicHealth(node, Candidate("~/odometry", Odometry))
        self._paths = TopicHealth(node, Candidate("~/path", Path), qos=QoSProfile(depth=1))
        self._timer: Timer | None = None
        self._log, self._diagnostics = ConditionLog(node), Diagnostics(node, "look-ahead")
        self._busy = False
        self._path: Path | None = None
        self._points: Waypoints | None = None
        self._problem = ""  # of the path received last
        self._along_m = 0.0
        self._odometry: Odometry | None = None

    def start(self, settings: LookAheadSettings) -> None:
        """Subscribe and publish by these settings, if they say so; anew, if it already does."""
        self.stop()
        self._settings = settings
        if settings.mode == "none":
            return
        self._images = self._node.create_publisher(LookAhead, "~/look_ahead", QUEUE_DEPTH)
        self._clearance = self._node.create_publisher(ClearanceProfile, "~/clearance", QUEUE_DEPTH)
        self._twists.listen(self._on_odometry)
        if settings.mode == "path":
            self._paths.listen(self._on_path)
        self._timer = self._node.every(1 / settings.rate_hz, self._tick, callback_group=self._group)

    def change(self, settings: LookAheadSettings) -> None:
        """Take over changed settings; a path goes on being followed."""
        if settings != self._settings:
            path, along_m, odometry = self._path, self._along_m, self._odometry
            self.start(settings)
            self._odometry = odometry
            if path is not None and settings.mode == "path":
                self._on_path(path)
                self._along_m = along_m

    def stop(self) -> None:
        """Remove topics and timer."""
        self._twists.stop()
        self._paths.stop()
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
        for publisher in (self._images, self._clearance):
            if publisher is not None:
                self._node.destroy_publisher(publisher)
        self._timer = self._images = self._clearance = None
        self._settings = LookAheadSettings()
        self._forget()

    def _forget(self) -> None:
        self._path, self._points, self._problem, self._along_m, self._odometry = None, None, "", 0.0, None

    def _on_path(self, path: Path) -> None:
        self._paths.saw()
        self._path, self._points, self._problem, self._along_m = path, None, "", 0.0
        try:
            self._points = faced(waypoints_of(path), self._settings.facing)
        except UserError as error:
            self._problem = str(error)

    def _on_odometry(self, odometry: Odometry) -> None:
        self._twists.saw()
        self._odometry = odometry

    async def _tick(self) -> None:
        """Look ahead once, unless the last look is still under way."""
        images, clearance = self._images, self._clearance
        if self._busy or images is None or clearance is None:
            return
        wants_images = images.get_subscription_count() > 0
        if not wants_images and clearance.get_subscription_count() == 0:
            return
        active = self._active()
        if active is None:
            return
        self._busy = True
        try:
            job = self._job(active, wants_images)
            rendering = PathRendering(active, job)
            await rendering.run(self._node.wake)
            if self._clearance is clearance:  # else the node was deactivated or set otherwise meanwhile
                self._publish(rendering, job, wants_images)
        except UserError as error:
            self._report(str(error))
        except Exception as error:
            self._report(f"{type(error).__name__}: {error}")
        finally:
            self._busy = False

    def _job(self, active: Active, images: bool) -> PathJob:
        """What to look at now. UserError: nothing, and why."""
        settings = self._settings
        if settings.mode == "twist":
            job = self._jobs.carried(self._recent_odometry(), settings, active)
        else:
            if self._problem:
                raise UserError(self._problem)
            if self._path is None or self._points is None:
                raise UserError(f"no path on ~/path yet: {self._paths.why_silent()}")
            now_ns, speed_mps = self._node.get_clock().now().nanoseconds, self._speed_mps()
            job, self._along_m = self._jobs.next_of(
                self._path, self._points, self._along_m, settings, active, now_ns, speed_mps
            )
        return job.with_images(images)

    def _recent_odometry(self) -> Odometry:
        odometry = self._odometry
        if odometry is None:
            raise UserError(f"no twist on ~/odometry yet: {self._twists.why_silent()}")
        if why := stale("the twist on ~/odometry", self._age_s(odometry), SILENCE_S):
            raise UserError(why)
        return odometry

    def _speed_mps(self) -> float:
        """Of the odometry, as far as there is a recent one."""
        if self._odometry is None or abs(self._age_s(self._odometry)) > SILENCE_S:
            return math.nan
        return float(np.linalg.norm(twist_of(self._odometry)[:3]))

    def _age_s(self, odometry: Odometry) -> float:
        return self._node.age_s(conversions.stamp_ns(odometry.header.stamp))

    def _publish(self, rendering: PathRendering, job: PathJob, wants_images: bool) -> None:
        assert self._images is not None
        assert self._clearance is not None
        profile = rendering.profile()
        if wants_images and rendering.keeps_images:
            self._images.publish(rendering.look_ahead())
        elif wants_images:
            profile.message = "; ".join(filter(None, [profile.message, images_left_out(job)]))
        self._clearance.publish(profile)
        self._say(status.OK, profile.message or "looking ahead", len(profile.poses))

    def _report(self, problem: str) -> None:
        """Publish that nothing is known, and why."""
        if self._clearance is None:
            return
        nothing = ClearanceProfile(message=problem, first_conflict_m=math.nan, first_unknown_m=0.0)
        nothing.header.stamp = self._node.get_clock().now().to_msg()
        self._clearance.publish(nothing)
        self._say(status.WARN, problem, 0)

    def _say(self, level: bytes, message: str, poses: int) -> None:
        self._log.log(level, message if level != status.OK else "", f"look-ahead: {message}")
        self._diagnostics.publish(level, message, {"mode": self._settings.mode, "poses": poses})


# The action render_path: a whole path on demand, with feedback after each part.


FEEDBACK_EVERY_S = 0.2
RESULT_KEPT_S = 10  # for a client that asks late; a result with images is tens of megabytes
MOST_GOALS = 4


class RenderPathAction:
    """Answers in the executor, renders part by part in the worker. Bad goals are aborted with the reason."""

    def __init__(
        self,
        node: ManagedNode[Any],
        jobs: PathJobs,
        active: Callable[[], Active | None],
        settings: Callable[[], LookAheadSettings],
    ) -> None:
        self._node, self._jobs, self._active, self._settings = node, jobs, active, settings
        self._under_way = 0
        self._server = ActionServer(
            node,
            RenderPath,
            "~/render_path",
            self._execute,
            callback_group=ReentrantCallbackGroup(),
            cancel_callback=lambda goal: CancelResponse.ACCEPT,
            result_timeout=RESULT_KEPT_S,
        )

    def destroy(self) -> None:
        """Remove the action."""
        self._server.destroy()

    async def _execute(self, goal: ServerGoalHandle) -> RenderPath.Result:
        result = RenderPath.Result()
        self._under_way += 1
        try:
            await self._serve(goal, result)
        except UserError as error:
            result.message = str(error)
        except Exception as error:
            result.message = f"{type(error).__name__}: {error}"
        finally:
            self._under_way -= 1
        if result.success:
            goal.succeed()
        elif goal.is_cancel_requested:
            goal.canceled()
        else:
            goal.abort()
        return result

    async def _serve(self, goal: ServerGoalHandle, result: RenderPath.Result) -> None:
        """Render and fill the result. UserError: it cannot be done."""
        active = self._active()
        if active is None:
            raise UserError(NOT_ACTIVE)
        if self._under_way > MOST_GOALS:
            raise UserError(f"{MOST_GOALS} paths are being rendered already; wait for one of them")
        job = self._job(goal.request, active)
        rendering = PathRendering(active, job)
        feedback = _Feedback(goal, rendering)
        try:
            finished = await rendering.run(self._node.wake, feedback.goes_on, feedback.show)
        finally:
            result.profile = rendering.profile()
        result.success = finished and not goal.is_cancel_requested
        if not result.success:
            result.message = f"cancelled after {rendering.rendered} of {counted(rendering.total, 'pose')}"
            return
        result.message = result.profile.message
        if rendering.keeps_images:
            result.images = rendering.look_ahead()
        else:
            result.message = "; ".join(filter(None, [result.message, images_left_out(job)]))

    def _job(self, request: RenderPath.Goal, active: Active) -> PathJob:
        settings = replace(self._settings(), with_rgb=request.with_rgb)
        if request.camera_info.k[0] != 0:
            active, settings = (active._replace(camera=requested_camera(request, active)), replace(settings, width=0))
        if not 0 <= request.radius_m < float("inf"):
            raise UserError(f"radius_m is {request.radius_m}; give the body's radius in metres")
        if request.radius_m > 0:
            settings = replace(settings, radius_m=float(request.radius_m))
        now_ns = self._node.get_clock().now().nanoseconds
        job = self._jobs.whole(request.path, float(request.spacing_m), settings, active, now_ns)
        return replace(job, progressive=request.progressive)


class _Feedback:
    """Tells how far a goal is, after each part but not all the time, and whether it goes on."""

    def __init__(self, goal: ServerGoalHandle, rendering: PathRendering) -> None:
        self._goal, self._rendering, self._published_at = goal, rendering, -float("inf")

    def goes_on(self) -> bool:
        if self._goal.is_cancel_requested:
            return False
        if self._rendering.rendered and time.monotonic() - self._published_at >= FEEDBACK_EVERY_S:
            self._publish(profile=self._rendering.profile())
            self._published_at = time.monotonic()
        return True

    def show(self, shown: Shown) -> None:
        """Images, each time; the profile, which grows with the path, only with what `goes_on` tells."""
        self._publish(images=shown.images, preview=shown.preview)

    def _publish(self, **what: Any) -> None:
        rendering = self._rendering
        self._goal.publish_feedback(RenderPath.Feedback(rendered=rendering.rendered, total=rendering.total, **what))
