"""The localize node: finds the camera's pose in its images alone. docs/nodes/localize.md lists its topics.

An image (`_on_image`) is prepared and located in worker threads, the newest first. The executor takes over what was
found (`_take_located`) and publishes each pose once the transform of its body is there (`_publish_waiting`).
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

from pose2rgbd.msg import LocalizationStatus
from rclpy.timer import Timer
from sensor_msgs.msg import CompressedImage, Image

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.localization.map_correction import covariance_at
from pose2rgbd_ros.nodes.common import status
from pose2rgbd_ros.nodes.common.node import ManagedNode
from pose2rgbd_ros.nodes.common.status import NodeState, how_old
from pose2rgbd_ros.nodes.common.tf import TfLookup
from pose2rgbd_ros.nodes.common.topics import SILENT_S
from pose2rgbd_ros.nodes.common.worker import LatestWorker
from pose2rgbd_ros.nodes.localize.inputs import ImageInputs
from pose2rgbd_ros.nodes.localize.map_odom import MapToOdom
from pose2rgbd_ros.nodes.localize.outputs import ChangeTopics, PoseOutputs, Stats, VehicleOdometry
from pose2rgbd_ros.nodes.localize.pipeline import LiveImage, LocalizationPipeline, Located
from pose2rgbd_ros.nodes.localize.settings import FIXED_WHILE_ACTIVE, FIXED_WHILE_CONFIGURED, LocalizeSettings
from pose2rgbd_ros.nodes.render.settings import model_name

State = LocalizationStatus
WATCH_S = 0.05
WAITING = 32  # poses that may wait for the body's transform
NOTHING_YET = NodeState(State.WAITING_FOR_IMAGE, "no image has arrived yet")


class LocalizeNode(ManagedNode[LocalizeSettings]):
    """Images are looked at in a worker thread, the newest first; everything is published by the executor."""

    diagnostics_name = "localizer"
    status_type = LocalizationStatus
    fixed_while_configured = FIXED_WHILE_CONFIGURED
    fixed_while_active = FIXED_WHILE_ACTIVE
    good_news = "poses are found"

    def __init__(self, settings: LocalizeSettings | None = None, **options: Any) -> None:
        super().__init__("localize", settings or LocalizeSettings(), **options)
        self._pipeline: LocalizationPipeline | None = None
        self._inputs: ImageInputs | None = None
        self._preparer: LatestWorker[LiveImage] | None = None
        self._worker: LatestWorker[LiveImage] | None = None
        self._outputs: PoseOutputs | None = None
        self._change: ChangeTopics | None = None
        self._map_to_odom: MapToOdom | None = None
        self._timer: Timer | None = None
        self._stats = Stats()
        self._era = 0  # jumps of time so far: what was looked at meanwhile means nothing
        self._found: deque[Located] = deque()  # from the worker to the executor
        self._waiting: deque[tuple[Located, float]] = deque()  # for the body's transform, and since when
        self._last_state = NOTHING_YET  # as the last image left it
        self._poses = TfLookup(self, self._on_transforms, self.time_jumped, "set body_frame and odom_frame")
        self._ready = self.create_guard_condition(self._take_located)

    # Lifecycle -------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """The networks, and their first images, which are slow."""
        started, model = time.monotonic(), self.settings.model
        self._pipeline = LocalizationPipeline(self.settings)
        self.diagnostics.hardware_id = model_name(Path(model))
        if self._pipeline.localizer.calibration is None:
            self.get_logger().warning(
                f"{model} is not calibrated: its poses have no covariance, and images of other places are not "
                "rejected; run pose2rgbd calibrate"
            )
        extras = "corrected by rendering" if self._pipeline.refines else "as the network finds them"
        self.get_logger().info(
            f"loaded {model}: poses in {self._map_frame}, {extras}, in {time.monotonic() - started:.1f} s"
        )

    def start(self) -> None:
        """Subscribe and publish."""
        assert self._pipeline is not None
        settings, pipeline = self.settings, self._pipeline
        self._stats = Stats(model_name(Path(settings.model)))
        self._outputs = PoseOutputs(self, bool(settings.body_frame))
        if VehicleOdometry is not None and not settings.body_frame:
            self.get_logger().info("no topic ~/vehicle_visual_odometry: set body_frame, PX4 wants the pose of the body")
        if pipeline.renderer is not None and pipeline.renderer.output != "depth":
            self._change = ChangeTopics(self, pipeline.renderer, pipeline.rendering)
        self._worker = LatestWorker(self._locate, self._on_error)
        if not pipeline.refines:  # slower than images come: what is prepared ahead would be thrown away
            self._preparer = LatestWorker(self._prepare, self._on_error)
        if settings.body_frame or settings.send_tf:
            self._poses.start()
        if settings.send_tf:
            self._map_to_odom = MapToOdom(self, self._poses, self._map_frame)
        calibrated = pipeline.localizer.camera.is_calibrated
        self._inputs = ImageInputs(self, settings.image_transport, calibrated, self._on_image, self.time_jumped)
        self._timer = self.every(WATCH_S, self._watch)

    def stop(self) -> None:
        """Remove the topics; the networks stay loaded."""
        if self._timer is not None:
            self.destroy_timer(self._timer)
        for part in (self._inputs, self._preparer, self._worker, self._map_to_odom, self._poses):
            if part is not None:
                part.stop()
        for topics in (self._change, self._outputs):
            if topics is not None:
                topics.destroy()
        self._timer = self._inputs = self._preparer = self._worker = self._map_to_odom = None
        self._change = self._outputs = None
        self._forget_images()

    def forget(self) -> None:
        """The networks, and the last image."""
        self._pipeline, self._stats = None, Stats()

    def forget_time(self) -> None:
        """Images under way, transforms, odometry and the correction."""
        self._poses.forget()
        self._forget_images()
        if self._inputs is not None:
            self._inputs.forget_stamps()
        if self._map_to_odom is not None:
            self._map_to_odom.forget()

    def _forget_images(self) -> None:
        self._era += 1
        self._found.clear()
        self._waiting.clear()
        self._last_state = NOTHING_YET

    # From an image to its pose ---------------------------------------------------------------------------------

    def _on_image(self, message: Image | CompressedImage, camera: Camera | None) -> None:
        workers = [worker for worker in (self._preparer, self._worker) if worker is not None]
        workers[0].offer(LiveImage(message, camera, self._era))
        self._stats.skipped = sum(worker.overtaken for worker in workers)

    def _prepare(self, image: LiveImage) -> None:
        """In a thread of its own: make an image ready for the network, which is busy with the one before."""
        assert self._pipeline is not None
        assert self._worker is not None
        if image.era == self._era:
            self._pipeline.prepare(image)
            self._worker.offer(image)

    def _locate(self, image: LiveImage) -> None:
        """In the worker: look at an image, and have the executor publish what was found."""
        assert self._pipeline is not None
        if image.era == self._era:
            self._found.append(self._pipeline.locate(image))
            self._ready.trigger()

    def _take_located(self) -> None:
        while self._found:
            located = self._found.popleft()
            if located.era != self._era:
                continue  # looked at while time jumped
            if not located.estimate.accepted:
                self._answer(located, NodeState(State.REJECTED, located.estimate.reason))
                continue
            if self._change is not None and self._change.wanted and located.rgb is not None:
                self._change.offer(located, self.settings)
            self._waiting.append((replace(located, rgb=None, camera=None), time.monotonic()))
        self._publish_waiting()

    def _publish_waiting(self) -> None:
        """Publish the poses whose transforms are there, in order; give up those that waited too long."""
        while self._waiting and self._outputs is not None:
            located, since_s = self._waiting[0]
            try:
                self._publish(self._outputs, located)
            except UserError as error:
                patient = time.monotonic() - since_s < self.settings.max_wait_s
                if patient and len(self._waiting) <= WAITING:
                    return
                self._stats.without_transform += 1
                self._answer(located, NodeState(State.ERROR, str(error)))
            self._waiting.popleft()

    def _publish(self, outputs: PoseOutputs, located: Located) -> None:
        """Publish a pose. UserError: where the body is, is not known (yet)."""
        estimate, stamp_ns, settings = located.estimate, located.stamp_ns, self.settings
        assert estimate.T_map_cam is not None
        T, covariance = estimate.T_map_cam, estimate.covariance
        if settings.body_frame:
            T_body_cam = self._poses.between(settings.body_frame, located.frame_id, stamp_ns)
            T_map_body = se3.compose(T, se3.inverse(T_body_cam))
            if covariance is not None:
                covariance = covariance_at(covariance, T_map_body[:3, 3] - T[:3, 3])
            T = T_map_body
        outputs.publish(T, covariance, stamp_ns, self._map_frame, settings.px4_frame)
        if self._map_to_odom is not None:
            self._map_to_odom.add(located)
        self._answer(located, NodeState(State.OK, self._remark(stamp_ns)))

    def _answer(self, located: Located, state: NodeState) -> None:
        """Report what became of an image."""
        assert self.status is not None
        self.failure = ""
        self._stats.answered(located, self.age_s(located.stamp_ns), state.state == State.OK)
        self.status.publish(self._stats.message(state, located.stamp_ns, located.frame_id))
        self.log(state)
        self._last_state = state

    def _remark(self, stamp_ns: int) -> str:
        """What is wrong beside a pose that is right."""
        if self._map_to_odom is not None and self._map_to_odom.problem:
            return self._map_to_odom.problem
        age_s = self.age_s(stamp_ns)
        if not self.no_clock and abs(age_s) > self.settings.max_image_age_s:
            return f"images arrive {how_old(age_s)}: are they stamped by the same clock (use_sim_time)?"
        return self.no_clock or (self._change.problem if self._change is not None else "")

    def _on_error(self, error: Exception) -> None:
        self.fail(error, "failed")

    def _watch(self) -> None:
        """Many times a second: what waits may be ready, or has waited long enough."""
        if self._inputs is not None:
            self._inputs.look()
        self._publish_waiting()

    def _on_transforms(self) -> None:
        self._publish_waiting()
        if self._map_to_odom is not None:
            self._map_to_odom.retry()

    # How it stands, and what changes it --------------------------------------------------------------------------

    def state(self) -> NodeState:
        """As the last image left it, as long as images and their camera arrive."""
        assert self._inputs is not None
        if self.recent_jump:
            return NodeState(State.TIME_JUMP, self.recent_jump)
        if self._inputs.image.silent_for_s > SILENT_S:
            return NodeState(State.WAITING_FOR_IMAGE, self._inputs.image.problem())
        if self._inputs.camera_problem:
            return NodeState(State.WAITING_FOR_CAMERA, self._inputs.camera_problem)
        return self._last_state

    def level_of(self, state: NodeState) -> bytes:
        """A pose that comes with a remark is a warning."""
        remark = self.active and state.state == State.OK and state.message
        return status.WARN if remark else super().level_of(state)

    def status_message(self, state: NodeState) -> LocalizationStatus:
        """With the figures of the last image looked at."""
        return self._stats.message(state)

    @property
    def just_published(self) -> bool:
        """A status goes out with each image."""
        return self._stats.silent_for_s < 1.0

    def figures(self, state: NodeState) -> dict[str, Any]:
        """Those of the status, and of what else comes in."""
        more = {} if self._map_to_odom is None else self._map_to_odom.figures
        without_camera = 0 if self._inputs is None else self._inputs.without_camera
        message = self.status_message(state)
        return self._stats.values(message, time_jumps=self.jumps, images_without_camera=without_camera, **more)

    def change(self, before: LocalizeSettings) -> None:
        """The correction may be tuned while it is sent."""
        if self._map_to_odom is not None:
            self._map_to_odom.settings = self.settings

    @property
    def _map_frame(self) -> str:
        """As set, else as trained."""
        return self.settings.map_frame or (self._pipeline.localizer.map_frame if self._pipeline else "")
