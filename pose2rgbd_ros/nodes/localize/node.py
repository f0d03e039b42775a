"""The localize node: finds the camera's pose in its images alone. docs/nodes/localize.md lists its topics."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pose2rgbd.msg import LocalizationStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.timer import Timer

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.localization.map_correction import covariance_at
from pose2rgbd_ros.nodes.common import parameters
from pose2rgbd_ros.nodes.common.node import start_by_itself, watch_clock
from pose2rgbd_ros.nodes.common.status import ConditionLog, Diagnostics, one_line
from pose2rgbd_ros.nodes.common.tf import TfLookup
from pose2rgbd_ros.nodes.common.topics import SILENT_S
from pose2rgbd_ros.nodes.common.worker import LatestWorker
from pose2rgbd_ros.nodes.localize.change import ChangeJob, ChangeTopics
from pose2rgbd_ros.nodes.localize.inputs import ImageInputs, Picture
from pose2rgbd_ros.nodes.localize.map_odom import MapToOdom
from pose2rgbd_ros.nodes.localize.outputs import Located, NodeState, PoseOutputs, Stats, VehicleOdometry
from pose2rgbd_ros.nodes.localize.pipeline import LocalizationPipeline, Ready
from pose2rgbd_ros.nodes.localize.settings import FIXED_WHILE_ACTIVE, FIXED_WHILE_CONFIGURED, LocalizeSettings
from pose2rgbd_ros.nodes.render.settings import model_name

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
State = LocalizationStatus
LOCALIZING = "poses are found"
WATCH_S = 0.05
WAITING = 32  # poses that may wait for the body's transform
NOTHING_YET = NodeState(State.WAITING_FOR_IMAGE, "no image has arrived yet")
SHOWN_S = 5.0  # how long a jump of time, or what went wrong, is told


@dataclass(frozen=True, eq=False)
class Pending:
    """What was found, without its pixels, until it can be published."""

    located: Located
    since_s: float


@dataclass(frozen=True, eq=False)
class Job:
    """An image to look at, as it came or prepared; `era` counts the jumps of time before it."""

    image: Picture | Ready
    era: int


class LocalizeNode(LifecycleNode):
    """Images are looked at in a worker thread, the newest first; everything is published by the executor."""

    def __init__(self, settings: LocalizeSettings | None = None, **options: Any) -> None:
        super().__init__("localize", **options)
        self.settings = parameters.declare(self, settings or LocalizeSettings())
        self.add_on_set_parameters_callback(self._judge_parameters)
        self._finding: LocalizationPipeline | None = None
        self._preparer: LatestWorker[Job] | None = None
        self._worker: LatestWorker[Job] | None = None
        self._outputs: PoseOutputs | None = None
        self._change: ChangeTopics | None = None
        self._watch: Timer | None = None
        self._found: deque[tuple[Located, int]] = deque()  # from the worker to the executor, with their era
        self._pending: deque[Pending] = deque()
        self._era = 0
        self._tally = Stats()
        self._failure, self._failed_at = "", -np.inf
        self._jumped, self._jumped_at = "", -np.inf
        self._situation = NOTHING_YET  # as the last image left it
        self._log = ConditionLog(self)
        self._status = self.create_publisher(LocalizationStatus, "~/status", 10)
        self._diagnostics = Diagnostics(self, "localizer")
        # Waiting follows the wall: when a simulated clock stands still it must go on too.
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._poses = TfLookup(self, self._on_transforms, self._on_jump, "set body_frame and odom_frame")
        self._jump_handle = watch_clock(self, self._on_jump)
        self._inputs = ImageInputs(self, self._on_picture, self._on_jump)
        self._map_to_odom = MapToOdom(self, self._poses, self._steady)
        self._ready = self.create_guard_condition(self._publish_found)
        self.create_timer(1.0, self._housekeep, clock=self._steady)
        if self.settings.autostart:
            start_by_itself(self, self._steady)

    # Lifecycle -------------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the networks. A bad one fails the transition with one line in the log."""
        self.settings = parameters.read(self, LocalizeSettings)
        started = time.monotonic()
        try:
            self._finding = LocalizationPipeline(self.settings)
        except Exception as error:
            self._fail(one_line(error, "loading failed"))
            self._housekeep()
            return FAILURE
        self._failure = ""
        self._diagnostics.hardware_id = model_name(Path(self.settings.model))
        if self._finding.localizer.calibration is None:
            self.get_logger().warning(
                f"{self.settings.model} is not calibrated: its poses have no covariance, and images of other places "
                "are not "
                "told from those of its own; run pose2rgbd calibrate"
            )
        extras = "corrected by rendering" if self._finding.refines else "as the network finds them"
        self.get_logger().info(
            f"loaded {self.settings.model}: poses in {self._map_frame}, {extras}, in {time.monotonic() - started:.1f} s"
        )
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and publish."""
        self.settings = parameters.read(self, LocalizeSettings)
        try:
            self._start()
        except Exception as error:
            self._stop()
            self._fail(f"cannot start: {error}")
            self._housekeep()
            return FAILURE
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Remove the topics; the networks stay loaded."""
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Forget the networks."""
        self._finding, self._failure, self._tally = None, "", Stats()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and forget, from any state."""
        self._stop()
        self._finding = None
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After a transition that raised: back to unconfigured, ready to be tried again."""
        self._stop()
        self._finding = None
        return SUCCESS

    def destroy_node(self) -> None:
        """Stop the workers before what they publish with goes away."""
        self._stop()
        super().destroy_node()

    def _start(self) -> None:
        assert self._finding is not None
        settings, finding = self.settings, self._finding
        self._tally = Stats(model_name(Path(settings.model)))
        self._outputs = PoseOutputs(self, bool(settings.body_frame))
        if VehicleOdometry is not None and not settings.body_frame:
            self.get_logger().info("no topic ~/vehicle_visual_odometry: set body_frame, PX4 wants the pose of the body")
        if finding.renderer is not None and finding.renderer.output != "depth":
            self._change = ChangeTopics(self, finding.renderer, finding.rendering)
        self._worker = LatestWorker(self._find, self._on_error)
        if not finding.refines:  # slower than images come: what is prepared ahead would be thrown away
            self._preparer = LatestWorker(self._prepare, self._on_error)
        if settings.body_frame or settings.send_tf:
            self._poses.start()
        self._map_to_odom.start(settings, self._map_frame)
        self._inputs.start(settings.image_transport, finding.localizer.camera.is_calibrated)
        self._watch = self.create_timer(WATCH_S, self._look, clock=self._steady)

    def _stop(self) -> None:
        if self._watch is not None:
            self.destroy_timer(self._watch)
        self._inputs.stop()
        for worker in (self._preparer, self._worker):
            if worker is not None:
                worker.stop()
        self._map_to_odom.stop()
        self._poses.stop()
        for part in (self._change, self._outputs):
            if part is not None:
                part.destroy()
        self._watch = self._preparer = self._worker = self._change = self._outputs = None
        self._forget()

    # Images that arrive ----------------------------------------------------------------------------------------

    def _on_picture(self, picture: Picture) -> None:
        workers = [worker for worker in (self._preparer, self._worker) if worker is not None]
        if workers:
            workers[0].offer(Job(picture, self._era))
            self._tally.skipped = sum(worker.overtaken for worker in workers)

    def _prepare(self, job: Job) -> None:
        """In a thread of its own: make an image ready for the network, which is busy with the one before."""
        assert self._worker is not None
        if job.era == self._era:
            self._worker.offer(Job(self._ready_of(job), job.era))

    def _find(self, job: Job) -> None:
        """In the worker: look at an image, and have the executor publish what was found."""
        assert self._finding is not None
        if job.era == self._era:
            self._found.append((self._finding.find(self._ready_of(job)), job.era))
            self._ready.trigger()

    def _ready_of(self, job: Job) -> Ready:
        assert self._finding is not None
        return job.image if isinstance(job.image, Ready) else self._finding.prepare(job.image)

    def _publish_found(self) -> None:
        while self._found:
            located, era = self._found.popleft()
            if era != self._era:
                continue  # looked at while time jumped: its stamp means nothing any more
            if located.estimate.accepted:
                self._offer_change(located)
                located = replace(located, rgb=None, camera=None)
                self._pending.append(Pending(located, time.monotonic()))
            else:
                self._tell(located, NodeState(State.REJECTED, located.estimate.reason))
        self._publish_pending()

    def _publish_pending(self) -> None:
        """Publish the poses whose transforms are there, in order; give up those that waited too long."""
        while self._pending and self._outputs is not None:
            item = self._pending[0]
            try:
                self._publish(item.located)
            except UserError as error:
                patient = time.monotonic() - item.since_s < self.settings.max_wait_s
                if patient and len(self._pending) <= WAITING:
                    return
                self._tally.without_transform += 1
                self._tell(item.located, NodeState(State.ERROR, str(error)))
            self._pending.popleft()

    def _publish(self, located: Located) -> None:
        """Publish a pose. UserError: where the body is, is not known (yet)."""
        assert self._outputs is not None
        estimate, stamp_ns, settings = located.estimate, located.stamp_ns, self.settings
        assert estimate.T_map_cam is not None
        T, covariance = estimate.T_map_cam, estimate.covariance
        if settings.body_frame:
            T_body_cam = self._poses.between(settings.body_frame, located.frame_id, stamp_ns)
            T_map_body = se3.compose(T, se3.inverse(T_body_cam))
            if covariance is not None:
                covariance = covariance_at(covariance, T_map_body[:3, 3] - T[:3, 3])
            T = T_map_body
        self._outputs.publish(T, covariance, stamp_ns, self._map_frame, settings.px4_frame)
        self._map_to_odom.add(estimate.T_map_cam, estimate.covariance, located.frame_id, stamp_ns)
        self._tell(located, NodeState(State.OK, self._remark(stamp_ns)))

    def _offer_change(self, located: Located) -> None:
        if self._change is None or not self._change.wanted or located.rgb is None or located.camera is None:
            return
        T, settings = located.estimate.T_map_cam, self.settings
        assert T is not None
        job = ChangeJob(
            located.rgb, located.camera, T, located.stamp_ns, located.frame_id, settings.change_width, settings.change
        )
        self._change.offer(job)

    def _on_error(self, error: Exception) -> None:
        if self.context.ok():  # publishing fails when the process is on its way out, and nobody needs to know
            self._fail(one_line(error, "failed"))

    # What is told ----------------------------------------------------------------------------------------------

    def _tell(self, located: Located, situation: NodeState) -> None:
        self._failure = ""
        latency_s = (self.get_clock().now().nanoseconds - located.stamp_ns) / 1e9
        self._tally.told(located, latency_s, situation.state == State.OK)
        self._status.publish(self._tally.message(situation, located.stamp_ns, located.frame_id))
        self._log.log(situation.level, situation.state, situation.message or LOCALIZING)
        self._situation = situation

    def _remark(self, stamp_ns: int) -> str:
        """What is wrong beside a pose that is right."""
        if self._map_to_odom.problem:
            return f"{self._map_to_odom.target} is not sent: {self._map_to_odom.problem}"
        if self.get_parameter("use_sim_time").value and self.get_clock().now().nanoseconds == 0:
            return "use_sim_time is set but nothing arrives on /clock; publish it or set use_sim_time to false"
        age_s = (self.get_clock().now().nanoseconds - stamp_ns) / 1e9
        if abs(age_s) > self.settings.max_image_age_s:
            when = f"{age_s:.1f} s old" if age_s > 0 else f"{-age_s:.1f} s in the future"
            return f"images arrive {when}: are they stamped by the same clock (use_sim_time)?"
        return self._change.problem if self._change is not None else ""

    def _housekeep(self) -> None:
        """Once a second: take over changed parameters, and tell how things stand."""
        self.settings = self._map_to_odom.settings = parameters.read(self, LocalizeSettings)
        situation = self._how_things_stand()
        message = self._tally.message(situation)
        more = {"images_without_camera": self._inputs.without_camera, **self._map_to_odom.figures}
        self._diagnostics.publish(situation.level, situation.message, self._tally.values(message, **more))
        if self._worker is None and not self._failure:
            return  # not active because nobody asked for it: nothing to say
        if self._tally.silent_for_s > 1.0:
            self._log.log(situation.level, situation.state, situation.message or LOCALIZING)
            self._status.publish(message)

    def _how_things_stand(self) -> NodeState:
        if self._failure and (self._worker is None or time.monotonic() - self._failed_at < SHOWN_S):
            return NodeState(State.ERROR, self._failure)
        if self._worker is None:
            return NodeState(State.OK)
        if time.monotonic() - self._jumped_at < SHOWN_S:
            return NodeState(State.TIME_JUMP, self._jumped)
        if self._inputs.silent_for_s > 1.0:
            if self._inputs.silent_for_s < SILENT_S:
                return self._situation
            return NodeState(State.WAITING_FOR_IMAGE, self._inputs.explain_image())
        if self._inputs.waits_for_camera:
            return NodeState(State.WAITING_FOR_CAMERA, self._inputs.explain_camera())
        return self._situation

    def _look(self) -> None:
        """Many times a second: what waits may be ready, or has waited long enough."""
        self._inputs.look()
        self._publish_pending()

    def _on_transforms(self) -> None:
        self._publish_pending()
        self._map_to_odom.retry()

    def _on_jump(self, message: str) -> None:
        self._poses.forget()
        self._forget()
        self._map_to_odom.forget()
        self._inputs.forget_stamps()
        self._jumped, self._jumped_at = message, time.monotonic()
        self._tally.jumps += 1
        if self._worker is not None:
            situation = NodeState(State.TIME_JUMP, message)
            self._log.log(situation.level, situation.state, message)
            self._status.publish(self._tally.message(situation))

    def _forget(self) -> None:
        self._era += 1
        self._found.clear()
        self._pending.clear()
        self._situation = NOTHING_YET

    def _fail(self, why: str) -> None:
        self._failure, self._failed_at = why, time.monotonic()

    @property
    def _map_frame(self) -> str:
        """As set, else as trained."""
        return self.settings.map_frame or (self._finding.localizer.map_frame if self._finding else "")

    def _judge_parameters(self, changed: list[Parameter]) -> SetParametersResult:
        """Refuse what cannot change while there are networks or topics by it."""
        for fixed, applies, what in (
            (FIXED_WHILE_CONFIGURED, self._finding is not None, "unconfigured; clean it up first"),
            (FIXED_WHILE_ACTIVE, self._worker is not None, "inactive; deactivate it first"),
        ):
            names = [one.name for one in changed if one.name.partition(".")[0] in fixed]
            if applies and names:
                reason = f"{', '.join(names)} can only change while the node is {what}"
                return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)
