"""The render node: publishes what the camera should be seeing at the current TF pose. docs/nodes/render.md lists its
topics.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pose2rgbd.msg import RenderStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.timer import Timer

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.nodes.common import parameters
from pose2rgbd_ros.nodes.common.node import start_by_itself
from pose2rgbd_ros.nodes.common.status import ConditionLog, Diagnostics
from pose2rgbd_ros.nodes.common.tf import StampedPose, TfLookup
from pose2rgbd_ros.nodes.common.worker import LatestWorker
from pose2rgbd_ros.nodes.render.camera import CameraChoice
from pose2rgbd_ros.nodes.render.look_ahead import LookAheadTopics, RenderPathAction
from pose2rgbd_ros.nodes.render.outputs import NodeState, Publishers, Report, known_share, of_pose
from pose2rgbd_ros.nodes.render.path import PathJobs
from pose2rgbd_ros.nodes.render.service import Active, RenderPoseService
from pose2rgbd_ros.nodes.render.settings import (
    FIXED_WHILE_CONFIGURED,
    RenderSettings,
    load_renderer,
    model_name,
    trust_of,
)
from pose2rgbd_ros.rendering.renderer import Renderer

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
JUMP_SHOWN_S = 5.0
NOTHING_OFFERED: tuple[int, frozenset[str]] = (-1, frozenset())  # stamp, and the kinds of image served for it


@dataclass(frozen=True, eq=False)
class Job:
    """A pose to render; the images of `kinds` are wanted."""

    pose: StampedPose
    kinds: frozenset[str]
    frame_id: str
    camera: Camera
    is_new: bool  # not offered before


class RenderNode(LifecycleNode):
    """Renders the newest pose in a worker thread; the executor stays free for parameters, services and TF."""

    def __init__(self, settings: RenderSettings | None = None, **options: Any) -> None:
        super().__init__("render", **options)
        self.settings = parameters.declare(self, settings or RenderSettings())
        self.add_on_set_parameters_callback(self._judge_parameters)
        self._renderer: Renderer | None = None
        self._kinds: list[str] = []
        self._worker: LatestWorker[Job] | None = None
        self._outputs: Publishers | None = None
        self._timer: Timer | None = None
        self._report = Report()
        self._failure: str | None = None  # why there is no model, or what the last rendering stumbled over
        self._jumped_at, self._jump_message = -np.inf, ""
        self._offered = NOTHING_OFFERED
        self._drawn: Float64 | None = None  # the pose on the canvas; belongs to the worker
        self._log = ConditionLog(self)
        self._status = self.create_publisher(RenderStatus, "~/status", 10)
        self._diagnostics = Diagnostics(self, "renderer")
        self._poses = TfLookup(self, self._on_transforms, self._on_jump)
        self._choice = CameraChoice(self, self._choose_camera)
        self._service = RenderPoseService(self, self._poses, self._active, self._frames)
        # Pacing and housekeeping follow the wall: when a simulated clock stands still they must speak up too.
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        jobs = PathJobs(self._poses, self._frames)
        self._look_ahead = LookAheadTopics(self, jobs, self._active, self._steady)
        self._render_path = RenderPathAction(self, jobs, self._active, lambda: self.settings.look_ahead)
        self.create_timer(1.0, self._housekeep, clock=self._steady)
        if self.settings.autostart:
            start_by_itself(self, self._steady)

    # Lifecycle -------------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model. A bad one fails the transition with one line in the log."""
        self.settings = parameters.read(self, RenderSettings)
        started = time.monotonic()
        try:
            renderer = load_renderer(self.settings)
            self._kinds = self._render_once(renderer)
        except Exception as error:
            known = isinstance(error, UserError)
            self._failure = str(error) if known else f"loading failed: {type(error).__name__}: {error}"
            self._housekeep()
            return FAILURE
        self._failure = None
        self._renderer, name = renderer, model_name(Path(self.settings.model))
        backend = f"{renderer.backend_name}-{renderer.device}"
        limit = math.nan if renderer.guard.limit is None else renderer.guard.limit
        self._report = Report(name, backend, renderer.depth_kind == "metric", limit)
        self._report.known = float("nan") if renderer.depth_kind else None
        self._diagnostics.hardware_id = name
        self.get_logger().info(
            f"loaded {self.settings.model}: {renderer.output} of {renderer.camera.width}x{renderer.camera.height} "
            f"on {backend}, in {time.monotonic() - started:.1f} s; {trust_of(renderer)}"
        )
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Publish, subscribe and begin to render."""
        self.settings = parameters.read(self, RenderSettings)
        self._drawn, self._offered = None, NOTHING_OFFERED
        self._choose_camera()
        try:
            self._start()
        except Exception as error:
            self._stop()
            self._failure = f"cannot start: {error}"
            self._housekeep()
            return FAILURE
        self._failure = None
        pace = "on new transforms" if self.settings.trigger == "tf" else f"at {self.settings.rate_hz:g} Hz"
        self.get_logger().info(f"active: renders {' -> '.join(self._frames())} {pace}")
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop rendering and remove the topics; the model stays loaded."""
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Forget the model."""
        self._forget()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and forget, from any state."""
        self._stop()
        self._forget()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After a transition that raised: back to unconfigured, ready to be tried again."""
        self._stop()
        self._forget()
        return SUCCESS

    def destroy_node(self) -> None:
        """Stop the worker before what it publishes with goes away."""
        self._stop()
        self._render_path.destroy()
        super().destroy_node()

    def _start(self) -> None:
        assert self._renderer is not None
        camera = self._choice.camera or self._renderer.camera
        self._outputs = Publishers(self, camera, self._kinds, self._renderer.depth_kind)
        self._worker = LatestWorker(self._render, self._on_render_error)
        self._poses.start()
        self._restart_timer()
        self._look_ahead.start(self.settings.look_ahead)

    def _stop(self) -> None:
        self._look_ahead.stop()
        if self._timer is not None:
            self.destroy_timer(self._timer)
        if self._worker is not None:
            self._worker.stop()
        self._poses.stop()
        if self._outputs is not None:
            self._outputs.destroy()
        self._timer = self._worker = self._outputs = None

    def _forget(self) -> None:
        self._renderer, self._failure = None, None
        self._choice.listen("")

    def _render_once(self, renderer: Renderer) -> list[str]:
        """The slow first rendering, for the camera to come where it is known; returns the kinds of image there are."""
        self._choice.listen(self.settings.camera_info_topic)
        self._choice.choose(self.settings.camera, renderer.camera, renderer.any_camera)
        if self._choice.problem and not self.settings.camera_info_topic:
            raise UserError(self._choice.problem)
        camera = self._choice.camera or renderer.camera
        return list(renderer.render_for_camera(renderer.guard.example_T_map_cam, camera).present())

    # Rendering -------------------------------------------------------------------------------------------------

    def _on_transforms(self) -> None:
        if self.settings.trigger == "tf":
            self._tick()

    def _tick(self) -> None:
        """Offer the newest pose to the worker, if it has not been offered yet."""
        camera = self._choice.camera
        if self._worker is None or self._outputs is None or camera is None:
            return
        map_frame, camera_frame = self._frames()
        try:
            pose = self._poses.latest(map_frame, camera_frame)
        except UserError:
            return  # housekeeping tells
        kinds = self._outputs.subscribed()
        offered_ns, served = self._offered
        is_new = pose.stamp_ns != offered_ns
        if not is_new and not self.settings.republish:
            kinds -= served  # who subscribed since then gets this pose too, nobody gets it twice
            if not kinds:
                return
        self._offered = (pose.stamp_ns, kinds if is_new else kinds | served)
        self._worker.offer(Job(pose, kinds, camera_frame, camera, is_new))
        self._report.skipped = self._worker.overtaken

    def _render(self, job: Job) -> None:
        """In the worker: render a pose if someone listens, publish its images, then its status."""
        assert self._renderer is not None
        assert self._outputs is not None
        T, stamp_ns = job.pose.T_map_cam, job.pose.stamp_ns
        check = self._renderer.guard_score(T)
        age_s = (self.get_clock().now().nanoseconds - stamp_ns) / 1e9
        self._report.pose(check, age_s)
        if job.camera != self._outputs.camera:
            self._outputs.use(job.camera)
            self._drawn = None
        render_ms = None
        if job.kinds and (self._drawn is None or not np.array_equal(T, self._drawn)):
            self._drawn = None
            started = time.perf_counter()
            self._renderer.render_for_camera(T, job.camera, out=self._outputs.canvas)
            render_ms = (time.perf_counter() - started) * 1e3
            self._report.known = known_share(self._outputs.canvas)
            self._drawn = T
        self._outputs.publish(job.kinds, stamp_ns, job.frame_id)
        if job.kinds:
            self._failure = None
            self._report.published(job.is_new, render_ms)
            situation = of_pose(check, age_s, self.settings.max_tf_age_s, self._report.known)
            self._status.publish(self._report.message(situation, stamp_ns, job.frame_id))

    def _on_render_error(self, error: Exception) -> None:
        if self.context.ok():  # publishing fails when the process is on its way out, and nobody needs to know
            self._failure = f"rendering failed: {type(error).__name__}: {error}"

    def _active(self) -> Active | None:
        if self._renderer is None or self._worker is None:
            return None
        camera = self._choice.camera or self._renderer.camera
        return Active(self._renderer, self._worker, self._report, camera)

    # Housekeeping ----------------------------------------------------------------------------------------------

    def _housekeep(self) -> None:
        """Once a second: take over changed parameters, and tell how things stand."""
        before, self.settings = self.settings, parameters.read(self, RenderSettings)
        if (before.rate_hz, before.trigger) != (self.settings.rate_hz, self.settings.trigger):
            self._restart_timer()
        if (before.camera, before.camera_info_topic) != (self.settings.camera, self.settings.camera_info_topic):
            self._choose_camera()
        if self._worker is not None:
            self._look_ahead.change(self.settings.look_ahead)
        situation, stamp_ns = self._situation()
        message = self._report.message(situation, stamp_ns, self._frames()[1])
        self._diagnostics.publish(situation.level, situation.message, self._report.values(message))
        if self._worker is None and self._failure is None:
            return  # not active because nobody asked for it: nothing to say
        self._log.tell(situation.level, situation.state, situation.message)
        if self._report.silent_for_s > 1.0:
            self._status.publish(message)

    def _situation(self) -> tuple[NodeState, int]:
        """How things stand, and the stamp of the pose at hand."""
        if self._failure is not None:
            return NodeState(RenderStatus.ERROR, self._failure), 0
        if self._outputs is None or self._renderer is None:
            return NodeState(RenderStatus.OK, "not active"), 0
        if self._choice.camera is None:
            state = RenderStatus.ERROR if self._choice.problem else RenderStatus.WAITING_FOR_CAMERA
            return NodeState(state, self._choice.what_is_missing()), 0
        if time.monotonic() - self._jumped_at < JUMP_SHOWN_S:
            return NodeState(RenderStatus.TIME_JUMP, self._jump_message), 0
        try:
            pose = self._poses.latest(*self._frames())
        except UserError as error:
            return NodeState(RenderStatus.WAITING_FOR_TF, self._no_clock() or str(error)), 0
        check = self._renderer.guard_score(pose.T_map_cam)
        self._report.pose(check, pose.age_s)
        situation = of_pose(check, pose.age_s, self.settings.max_tf_age_s, self._report.known)
        if situation.state != RenderStatus.STALE_TF and not self._outputs.subscribed():
            situation = NodeState(RenderStatus.NO_SUBSCRIBERS, "nobody subscribes to the images: not rendering")
        elif situation.state == RenderStatus.OK:
            situation = NodeState(RenderStatus.OK, "rendering")
        return situation, pose.stamp_ns

    def _choose_camera(self) -> None:
        """Take over the camera that parameters and topic say."""
        renderer = self._renderer
        if renderer is None:
            return
        self._choice.listen(self.settings.camera_info_topic)
        if self._choice.choose(self.settings.camera, renderer.camera, renderer.any_camera):
            self._offered = NOTHING_OFFERED  # the newest pose is rendered anew
            if self._choice.camera != renderer.camera:
                self.get_logger().info(f"renders for a camera of {self._choice.camera}")
        if self._choice.note:
            self.get_logger().warning(self._choice.note)

    def _no_clock(self) -> str | None:
        if self.get_parameter("use_sim_time").value and self.get_clock().now().nanoseconds == 0:
            return "use_sim_time is set but nothing arrives on /clock; publish it or set use_sim_time to false"
        return None

    def _on_jump(self, message: str) -> None:
        self._offered = NOTHING_OFFERED
        self._jumped_at, self._jump_message = time.monotonic(), message
        self._report.jumps += 1
        if self._worker is not None:
            situation = NodeState(RenderStatus.TIME_JUMP, message)
            self._log.tell(situation.level, situation.state, message)
            self._status.publish(self._report.message(situation, 0, self._frames()[1]))

    def _frames(self) -> tuple[str, str]:
        """Map and camera frame: as set, else as trained."""
        settings, renderer = self.settings, self._renderer
        return (
            settings.map_frame or (renderer.map_frame if renderer else ""),
            settings.camera_frame or (renderer.camera_frame if renderer else ""),
        )

    def _restart_timer(self) -> None:
        if self._timer is not None:
            self.destroy_timer(self._timer)
            self._timer = None
        if self._worker is not None and self.settings.trigger == "rate":
            self._timer = self.create_timer(1.0 / self.settings.rate_hz, self._tick, clock=self._steady)

    def _judge_parameters(self, changed: list[Parameter]) -> SetParametersResult:
        """Refuse what cannot change while there is a model, and a camera that it cannot be rendered for."""
        if self._renderer is None:
            return SetParametersResult(successful=True)
        names = [parameter.name for parameter in changed if parameter.name in FIXED_WHILE_CONFIGURED]
        if names:
            reason = f"{', '.join(names)} can only change while the node is unconfigured; clean it up first"
            return SetParametersResult(successful=False, reason=reason)
        try:
            asked, renderer = parameters.would_be(self, RenderSettings, changed), self._renderer
            self._choice.judge(asked.camera, asked.camera_info_topic, renderer.camera, renderer.any_camera)
        except UserError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)
