"""The action render_path: a whole path on demand, with feedback after each part."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from pose2rgbd.action import RenderPath
from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node

from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.nodes.look_ahead_settings import LookAheadSettings
from pose2rgbd_ros.nodes.path_jobs import PathJobs
from pose2rgbd_ros.nodes.path_rendering import PathJob, PathRendering, images_left_out
from pose2rgbd_ros.nodes.render_service import Active, requested_camera

FEEDBACK_EVERY_S = 0.2
RESULT_KEPT_S = 10  # for a client that asks late; a result with images is tens of megabytes
MOST_GOALS = 4


class RenderPathAction:
    """Answers in the executor, renders part by part in the worker. Bad goals are aborted with the reason."""

    def __init__(
        self,
        node: Node,
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
            raise UserError("the node is not active; activate it first")
        if self._under_way > MOST_GOALS:
            raise UserError(f"{MOST_GOALS} paths are being rendered already; wait for one of them")
        job = self._job(goal.request, active)
        rendering = PathRendering(active, job)
        feedback = _Feedback(goal, rendering)
        try:
            finished = await rendering.run(self._wake, feedback.goes_on)
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
            active, settings = (
                active._replace(camera=requested_camera(request, active)),
                replace(settings, width=0),
            )
        if not 0 <= request.radius_m < float("inf"):
            raise UserError(f"radius_m is {request.radius_m}; give the body's radius in metres")
        if request.radius_m > 0:
            settings = replace(settings, radius_m=float(request.radius_m))
        now_ns = self._node.get_clock().now().nanoseconds
        return self._jobs.whole(request.path, float(request.spacing_m), settings, active, now_ns)

    def _wake(self) -> None:
        if self._node.executor is not None:
            self._node.executor.wake()


class _Feedback:
    """Tells how far a goal is, after each part but not all the time, and whether it goes on."""

    def __init__(self, goal: ServerGoalHandle, rendering: PathRendering) -> None:
        self._goal, self._rendering, self._told_at = goal, rendering, -float("inf")

    def goes_on(self) -> bool:
        if self._goal.is_cancel_requested:
            return False
        if time.monotonic() - self._told_at >= FEEDBACK_EVERY_S:
            rendering = self._rendering
            self._goal.publish_feedback(
                RenderPath.Feedback(
                    rendered=rendering.rendered, total=rendering.total, profile=rendering.profile()
                )
            )
            self._told_at = time.monotonic()
        return True
