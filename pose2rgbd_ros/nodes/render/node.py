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
from rclpy.timer import Timer

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.nodes.common.node import ManagedNode
from pose2rgbd_ros.nodes.common.status import NodeState
from pose2rgbd_ros.nodes.common.tf import StampedPose, TfLookup
from pose2rgbd_ros.nodes.common.worker import LatestWorker
from pose2rgbd_ros.nodes.render.camera import CameraChoice
from pose2rgbd_ros.nodes.render.look_ahead import LookAheadTopics, RenderPathAction
from pose2rgbd_ros.nodes.render.outputs import Publishers, Report, known_share, of_pose
from pose2rgbd_ros.nodes.render.path import PathJobs
from pose2rgbd_ros.nodes.render.service import Active, RenderPoseService
from pose2rgbd_ros.nodes.render.settings import (
    FIXED_WHILE_CONFIGURED,
    RenderSettings,
    load_renderer,
    model_name,
    trust_of,
)
from pose2rgbd_ros.rendering.renderer import Renderer, give_memory_back

NOTHING_OFFERED: tuple[int, frozenset[str]] = (-1, frozenset())  # stamp, and the kinds of image served for it


@dataclass(frozen=True, eq=False)
class Job:
    """A pose to render; the images of `kinds` are wanted."""

    pose: StampedPose
    kinds: frozenset[str]
    frame_id: str
    camera: Camera
    is_new: bool  # not offered before


class RenderNode(ManagedNode[RenderSettings]):
    """Renders the newest pose in a worker thread; the executor stays free for parameters, services and TF."""

    diagnostics_name = "renderer"
    status_type = RenderStatus
    good_states = (RenderStatus.NO_SUBSCRIBERS,)
    fixed_while_configured = FIXED_WHILE_CONFIGURED

    def __init__(self, settings: RenderSettings | None = None, **options: Any) -> None:
        super().__init__("render", settings or RenderSettings(), **options)
        self._renderer: Renderer | None = None
        self._kinds: list[str] = []
        self._worker: LatestWorker[Job] | None = None
        self._outputs: Publishers | None = None
        self._timer: Timer | None = None
        self._report = Report()
        self._offered = NOTHING_OFFERED
        self._drawn: Float64 | None = None  # the pose on the canvas; belongs to the worker
        self._poses = TfLookup(self, self._on_transforms, self.time_jumped)
        self._choice = CameraChoice(self, self._choose_camera)
        self._service = RenderPoseService(self, self._poses, self._active, self._frames)
        jobs = PathJobs(self._poses, self._frames)
        self._look_ahead = LookAheadTopics(self, jobs, self._active)
        self._render_path = RenderPathAction(self, jobs, self._active, lambda: self.settings.look_ahead)

    # Lifecycle -------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """The model, and its first rendering, which is slow."""
        started = time.monotonic()
        renderer = load_renderer(self.settings)
        self._kinds = self._render_once(renderer)
        self._renderer, name = renderer, model_name(Path(self.settings.model))
        backend = f"{renderer.backend_name}-{renderer.device}"
        limit = math.nan if renderer.guard.limit is None else renderer.guard.limit
        self._report = Report(name, backend, renderer.depth_kind == "metric", limit)
        self._report.known = float("nan") if renderer.depth_kind else None
        self.diagnostics.hardware_id = name
        self.get_logger().info(
            f"loaded {self.settings.model}: {renderer.output} of {renderer.camera.width}x{renderer.camera.height} "
            f"on {backend}, in {time.monotonic() - started:.1f} s; {trust_of(renderer)}"
        )

    def _render_once(self, renderer: Renderer) -> list[str]:
        """For the camera to come where it is known; returns the kinds of image there are."""
        self._choice.listen(self.settings.camera_info_topic)
        self._choice.choose(self.settings.camera, renderer.camera, renderer.any_camera)
        if self._choice.problem and not self.settings.camera_info_topic:
            raise UserError(self._choice.problem)
        camera = self._choice.camera or renderer.camera
        kinds = list(renderer.render_for_camera(renderer.guard.example_T_map_cam, camera).present())
        give_memory_back()
        return kinds

    def start(self) -> None:
        """Publish, subscribe and begin to render."""
        assert self._renderer is not None
        self._drawn, self._offered = None, NOTHING_OFFERED
        self._choose_camera()
        camera = self._choice.camera or self._renderer.camera
        quality = self.settings.jpeg_quality
        self._outputs = Publishers(self, camera, self._kinds, self._renderer.depth_kind, quality)
        self._worker = LatestWorker(self._render, lambda error: self.fail(error, "rendering failed"))
        self._poses.start()
        self._restart_timer()
        self._look_ahead.start(self.settings.look_ahead)
        pace = "on new transforms" if self.settings.trigger == "tf" else f"at {self.settings.rate_hz:g} Hz"
        self.get_logger().info(f"active: renders {' -> '.join(self._frames())} {pace}")

    def stop(self) -> None:
        """Stop rendering and remove the topics; the model stays loaded."""
        self._look_ahead.stop()
        if self._timer is not None:
            self.destroy_timer(self._timer)
        if self._worker is not None:
            self._worker.stop()
        self._poses.stop()
        if self._outputs is not None:
            self._outputs.destroy()
        self._timer = self._worker = self._outputs = None

    def forget(self) -> None:
        """The model."""
        self._renderer = None
        self._choice.listen("")

    def destroy_node(self) -> None:
        """The action outlives the topics."""
        self._end()
        self._render_path.destroy()
        super().destroy_node()

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
            return  # state() says why
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
        age_s = self.age_s(stamp_ns)
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
            self.failure = ""
            self._report.published(job.is_new, render_ms)
            state = of_pose(check, age_s, self.settings.max_tf_age_s, self._report.known, stamp_ns)
            assert self.status is not None
            self.status.publish(self._report.message(state, job.frame_id))

    def _active(self) -> Active | None:
        if self._renderer is None or self._worker is None:
            return None
        camera = self._choice.camera or self._renderer.camera
        return Active(self._renderer, self._worker, self._report, camera)

    # How it stands, and what changes it ---------------------------------------------------------------------------

    def state(self) -> NodeState:
        """Camera, transforms and subscribers there are."""
        assert self._renderer is not None
        assert self._outputs is not None
        if self._choice.camera is None:
            state = RenderStatus.ERROR if self._choice.problem else RenderStatus.WAITING_FOR_CAMERA
            return NodeState(state, self._choice.what_is_missing())
        if self.recent_jump:
            return NodeState(RenderStatus.TIME_JUMP, self.recent_jump)
        try:
            pose = self._poses.latest(*self._frames())
        except UserError as error:
            return NodeState(RenderStatus.WAITING_FOR_TF, self.no_clock or str(error))
        check = self._renderer.guard_score(pose.T_map_cam)
        self._report.pose(check, pose.age_s)
        state = of_pose(check, pose.age_s, self.settings.max_tf_age_s, self._report.known, pose.stamp_ns)
        if state.state != RenderStatus.STALE_TF and not self._outputs.subscribed():
            text = "nobody subscribes to the images: not rendering"
            return NodeState(RenderStatus.NO_SUBSCRIBERS, text, pose.stamp_ns)
        return NodeState(RenderStatus.OK, "rendering", pose.stamp_ns) if state.state == RenderStatus.OK else state

    def status_message(self, state: NodeState) -> RenderStatus:
        """With the figures of the rendering."""
        return self._report.message(state, self._frames()[1])

    @property
    def just_published(self) -> bool:
        """The worker publishes a status with the images."""
        return self._report.silent_for_s < 1.0

    def figures(self, state: NodeState) -> dict[str, Any]:
        """Those of the status."""
        return self._report.values(self.status_message(state), time_jumps=self.jumps)

    def forget_time(self) -> None:
        """The newest pose is rendered anew."""
        self._poses.forget()
        self._offered = NOTHING_OFFERED

    def judge(self, asked: RenderSettings) -> None:
        """UserError for a camera that the model cannot be rendered for."""
        if self._renderer is not None:
            self._choice.judge(asked.camera, asked.camera_info_topic, self._renderer.camera, self._renderer.any_camera)

    def change(self, before: RenderSettings) -> None:
        """Pace, camera and look-ahead may change while it renders."""
        settings = self.settings
        if (before.rate_hz, before.trigger) != (settings.rate_hz, settings.trigger):
            self._restart_timer()
        if (before.camera, before.camera_info_topic) != (settings.camera, settings.camera_info_topic):
            self._choose_camera()
        if self._outputs is not None:
            self._outputs.jpeg_quality = settings.jpeg_quality
        if self._worker is not None:
            self._look_ahead.change(settings.look_ahead)

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
            self._timer = self.every(1.0 / self.settings.rate_hz, self._tick)
