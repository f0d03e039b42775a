"""The avoid node: predicted (and live) depth in the forms that obstacle avoidance takes. docs/nodes/avoid.md lists
its topics.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pose2rgbd.msg import ObstacleStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.timer import Timer

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.nodes.avoid.frames import BodyFrames, Placed
from pose2rgbd_ros.nodes.avoid.inputs import DatumCheck, DepthInputs, LiveDepth, LiveInputs, Motion
from pose2rgbd_ros.nodes.avoid.outputs import (
    NodeState,
    ObstacleDistance,
    Publishers,
    Stats,
    status_message,
    status_values,
)
from pose2rgbd_ros.nodes.avoid.settings import FIXED_WHILE_ACTIVE, AvoidSettings
from pose2rgbd_ros.nodes.common import conversions, parameters
from pose2rgbd_ros.nodes.common.node import start_by_itself, watch_clock
from pose2rgbd_ros.nodes.common.status import ConditionLog, Diagnostics
from pose2rgbd_ros.nodes.common.tf import TfLookup
from pose2rgbd_ros.nodes.common.worker import LatestWorker
from pose2rgbd_ros.obstacles.surroundings import Body, RangeMeasurement, summarize_obstacles
from pose2rgbd_ros.obstacles.view import DepthView, view_of

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
WATCH_S = 0.02  # how often staleness and lost sensors are looked for: they are to be told within 0.1 s
UNKNOWN_EVERY_S = 0.1  # while nothing is known that is said this often: silence would stop some autopilots
SERVED = "predicted depth is served"
PENDING = 8  # images that may wait for transforms
SHOWN_S = 5.0  # how long a jump of time, or what went wrong, is told
STILL_S = 2.0  # a clock that stands still for longer has stopped: by it nothing would ever grow old


@dataclass(frozen=True, eq=False)
class Job:
    """What to publish of one moment, by which settings; without `images` the prediction says nothing."""

    settings: AvoidSettings
    placed: Placed
    images: dict[str, Any] | None
    T_level_cam: Float64 | None
    body: Body
    live: LiveDepth | None
    readings: list[RangeMeasurement]
    situation: NodeState


class AvoidNode(LifecycleNode):
    """Matches and watches in the executor; distances are computed and published in a worker thread."""

    def __init__(self, settings: AvoidSettings | None = None, **options: Any) -> None:
        super().__init__("avoid", **options)
        self.settings = parameters.declare(self, settings or AvoidSettings())
        self.add_on_set_parameters_callback(self._judge_parameters)
        self._worker: LatestWorker[Job] | None = None
        self._outputs: Publishers | None = None
        self._watches: list[Timer] = []
        self._tally = Stats()
        self._failure, self._failed_at = "", -np.inf
        self._jumped, self._jumped_at = "", -np.inf
        self._served_ns: int | None = None  # stamp of the last depth that was used
        self._pending: deque[tuple[int, dict[str, Any]]] = deque(maxlen=PENDING)  # stamp and messages
        self._no_transform = ""  # why what is pending cannot be used
        self._told_unknown_at = -np.inf
        self._state = self._offered = ObstacleStatus.WAITING_FOR_DEPTH  # as last seen, and as last published
        self._last: tuple[Placed, dict[str, Any], Float64] | None = None  # depth that was served last
        self._clock_ns, self._ticked_at = -1, time.monotonic()
        self._log = ConditionLog(self)
        self._status = self.create_publisher(ObstacleStatus, "~/status", 10)
        self._diagnostics = Diagnostics(self, "obstacles")
        self._poses = TfLookup(self, self._retry, self._on_jump, "set body_frame and map_frame")
        self._jump_handle = watch_clock(self, self._on_jump)
        self._frames = BodyFrames(self._poses, self.settings)
        self._inputs = DepthInputs(self, self._on_match, self._on_jump)
        self._live, self._motion, self._datum = LiveInputs(self), Motion(self), DatumCheck(self)
        # Watching follows the wall: when a simulated clock stands still it must speak up too.
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0, self._housekeep, clock=self._steady)
        if self.settings.autostart:
            start_by_itself(self, self._steady)

    # Lifecycle -------------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the datum of the model, where one is named. A bad model fails the transition with one line in the
        log.
        """
        self.settings = parameters.read(self, AvoidSettings)
        try:
            self._datum.load(self.settings)
        except UserError as error:
            self._fail(str(error))
            self._housekeep()
            return FAILURE
        self._failure = ""
        self._diagnostics.hardware_id = Path(self.settings.model).name if self.settings.model else ""
        if ObstacleDistance is None:
            self.get_logger().info("px4_msgs is not installed: no topic ~/obstacle_distance")
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and publish."""
        self.settings = parameters.read(self, AvoidSettings)
        self._frames = BodyFrames(self._poses, self.settings)
        self._forget()
        self._outputs = Publishers(self, self.settings)
        self._worker = LatestWorker(self._serve, self._on_error)
        for part in (self._poses, self._live, self._motion, self._datum):
            part.start()
        self._inputs.start(self.settings)
        self._watches = [self.create_timer(WATCH_S, self._watch, clock=self._steady)]
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Remove the topics."""
        self._stop()
        return super().on_deactivate(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop, from any state."""
        self._stop()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After a transition that raised: back to unconfigured, ready to be tried again."""
        self._stop()
        return SUCCESS

    def destroy_node(self) -> None:
        """Stop the worker before what it publishes with goes away."""
        self._stop()
        super().destroy_node()

    def _stop(self) -> None:
        for timer in self._watches:
            self.destroy_timer(timer)
        if self._worker is not None:
            self._worker.stop()
        for part in (self._inputs, self._live, self._motion, self._datum, self._poses):
            part.stop()
        if self._outputs is not None:
            self._outputs.destroy()
        self._watches, self._worker, self._outputs = [], None, None

    # Depth that arrives ----------------------------------------------------------------------------------------

    def _on_match(self, stamp_ns: int, images: dict[str, Any]) -> None:
        self._pending.append((stamp_ns, images))
        self._retry()

    def _retry(self) -> None:
        """Offer the newest that there are transforms for to the worker; they may arrive after the images."""
        if not self._pending or self._worker is None:
            return
        frame = self._pending[-1][1][_bound_role(self.settings)].header.frame_id
        try:
            newest_ns = self._frames.newest_ns(frame)
            ready = [item for item in self._pending if newest_ns is None or item[0] <= newest_ns]
            if not ready and newest_ns is not None:
                behind_s = (self._pending[-1][0] - newest_ns) / 1e9
                raise UserError(f"the transforms of the body are {behind_s:.2f} s behind the depth")
            stamp_ns, images = ready[-1]
            placed = self._frames.body_at(stamp_ns)
            T_level_cam = self._frames.camera_at(placed, frame)
        except UserError as error:
            self._no_transform = str(error)
            return
        self._no_transform = ""
        while self._pending and self._pending[0][0] <= stamp_ns:
            self._pending.popleft()
        self._served_ns = stamp_ns
        situation = self._judge(stamp_ns)
        if situation.serves:
            self._last = (placed, images, T_level_cam)
            self._offer(placed, images, T_level_cam, situation)

    def _offer(
        self, placed: Placed, images: dict[str, Any] | None, T_level_cam: Float64 | None, situation: NodeState
    ) -> None:
        settings = self.settings
        velocity = self._motion.velocity(self._frames, placed, settings.max_odometry_age_s)
        live = self._live.depth(settings, self._frames, placed)
        readings = self._live.readings(settings, self._frames, placed)
        assert self._worker is not None
        self._offered = situation.state
        body = Body(settings.radius_m, velocity)
        self._worker.offer(Job(settings, placed, images, T_level_cam, body, live, readings, situation))

    # In the worker ---------------------------------------------------------------------------------------------

    def _serve(self, job: Job) -> None:
        """Compute and publish what a job shows."""
        assert self._outputs is not None
        started, settings, stamp_ns = time.perf_counter(), job.settings, job.placed.stamp_ns
        if settings != self._outputs.settings:
            self._outputs.use(settings)
        predicted = self._predicted(job, settings)
        live = self._live_sight(job)
        seen = summarize_obstacles(predicted, live, settings.live_range_m, job.readings, job.body, settings.scan)
        situation = job.situation
        if situation.serves and abs(self._age_s(stamp_ns)) > settings.max_age_s:
            return  # it has grown stale meanwhile, and the watch tells that
        if situation.state == ObstacleStatus.OK and seen.known < settings.least_known:
            text = f"depth is known in {seen.known:.0%} of the view: distances are mostly unknown"
            situation = NodeState(ObstacleStatus.UNKNOWN, text)
        self._outputs.publish(seen, stamp_ns, job.placed.R_level_body)
        if predicted is not None and self._outputs.wanted("points"):
            self._publish_cloud(self._outputs, job, predicted)
        latency_s = self._age_s(stamp_ns)
        self._status.publish(
            status_message(situation, seen, stamp_ns, settings.body_frame, job.placed.R_level_body, latency_s)
        )
        if predicted is not None:
            self._tally.served(seen.known, (time.perf_counter() - started) * 1e3, latency_s)

    def _publish_cloud(self, outputs: Publishers, job: Job, predicted: DepthView) -> None:
        settings, placed, images = outputs.settings, job.placed, job.images
        assert images is not None
        depth_m = predicted.lower_m if settings.cloud == "lower" else conversions.depth_of(images["depth"])
        rgb = conversions.rgb_of(images["rgb"]) if "rgb" in images else None
        T, frame_id = None, images[_bound_role(settings)].header.frame_id
        if settings.cloud_frame == "body":
            T, frame_id = placed.T_body(predicted.T_body_cam), settings.body_frame
        elif settings.cloud_frame == "map" and placed.T_map_level is not None:
            T, frame_id = placed.T_map_level @ predicted.T_body_cam, settings.map_frame
        outputs.publish_cloud(depth_m, predicted.camera, T, rgb, placed.stamp_ns, frame_id)

    def _predicted(self, job: Job, settings: AvoidSettings) -> DepthView | None:
        if job.images is None or job.T_level_cam is None:
            return None
        lower_m = conversions.depth_of(job.images[_bound_role(settings)])
        if settings.bound == "depth":
            lower_m = np.maximum(lower_m - np.float32(settings.margin_m), np.float32(0))
        camera = conversions.camera_from_info(job.images["camera_info"])
        return view_of(lower_m, camera, job.T_level_cam)

    def _live_sight(self, job: Job) -> DepthView | None:
        try:
            sight = None if job.live is None else job.live.sight()
        except UserError as error:
            self._live.refused(str(error))
            return None
        if sight is not None:
            self._live.refused("")
        return sight

    def _on_error(self, error: Exception) -> None:
        if self.context.ok():  # publishing fails when the process is on its way out, and nobody needs to know
            known = isinstance(error, UserError)
            self._fail(str(error) if known else f"failed: {type(error).__name__}: {error}")

    # Watching --------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Tell within a tenth of a second that the prediction is stale or a sensor lost; go on saying what is
        unknown.
        """
        situation = self._situation()
        changed, unsaid = situation.state != self._state, situation.state != self._offered
        self._state = situation.state
        if changed:
            self._log.log(situation.level, situation.state, situation.message or SERVED)
        if situation.serves:
            if unsaid and situation.state == ObstacleStatus.SENSOR_LOST and self._last is not None:
                self._offer(*self._last, situation)  # once more, without what the sensor said
            return
        if not unsaid and time.monotonic() - self._told_unknown_at < UNKNOWN_EVERY_S - WATCH_S / 2:
            return
        self._told_unknown_at = time.monotonic()
        now_ns = self.get_clock().now().nanoseconds
        try:
            placed = self._frames.body_at(0)
        except UserError:
            placed = Placed(0, None, np.eye(3))
        placed = Placed(now_ns, placed.T_map_level, placed.R_level_body)
        self._offer(placed, None, None, situation)

    def _situation(self) -> NodeState:
        """How things stand."""
        if self._worker is None:
            return NodeState(ObstacleStatus.ERROR if self._failure else ObstacleStatus.WAITING_FOR_DEPTH, self._failure)
        found = self._judge(self._served_ns)
        if found.state not in (ObstacleStatus.WAITING_FOR_DEPTH, ObstacleStatus.STALE):
            return found
        if time.monotonic() - self._jumped_at < SHOWN_S:
            return NodeState(ObstacleStatus.TIME_JUMP, self._jumped)
        if self._no_transform:
            return NodeState(ObstacleStatus.WAITING_FOR_EXTRINSICS, self._no_transform)
        return found

    def _judge(self, stamp_ns: int | None) -> NodeState:
        """What depth of this stamp, the newest that could be used, is worth now."""
        if self._failure and time.monotonic() - self._failed_at < SHOWN_S:
            return NodeState(ObstacleStatus.ERROR, self._failure)
        refusal = self._refusal()
        if refusal:
            return NodeState(ObstacleStatus.REFUSED, refusal)
        if stamp_ns is None:
            return NodeState(ObstacleStatus.WAITING_FOR_DEPTH, self._no_clock() or self._inputs.explain())
        still_s = self._still_s()
        if still_s > STILL_S:
            text = f"the clock has stood still for {still_s:.0f} s: how old depth is cannot be told"
            return NodeState(ObstacleStatus.STALE, text)
        age_s = self._age_s(stamp_ns)
        if abs(age_s) > self.settings.max_age_s:
            when = f"{age_s:.1f} s old" if age_s > 0 else f"{-age_s:.1f} s in the future"
            text = f"the newest depth is {when}: everything predicted is unknown"
            return NodeState(ObstacleStatus.STALE, text)
        lost = self._live.lost(self.settings)
        return NodeState(ObstacleStatus.SENSOR_LOST, lost) if lost else NodeState(ObstacleStatus.OK)

    def _refusal(self) -> str:
        settings = self.settings
        if settings.bound == "depth" and settings.margin_m == 0:
            return "bound is depth, which needs margin_m: how much nearer than predicted an obstacle may be, in metres"
        return self._datum.refusal(settings) or self._inputs.refusal()

    def _housekeep(self) -> None:
        """Once a second: take over changed parameters, and tell how things stand."""
        before, self.settings = self.settings, parameters.read(self, AvoidSettings)
        if self._outputs is not None and before != self.settings:
            self._frames = BodyFrames(self._poses, self.settings)
        situation = self._situation()
        figures = status_values(
            self._tally,
            state=situation.state,
            odometry=self._motion.problem or "ok",
            live=self._live.lost(self.settings) or "ok",
            stamps_out_of_order=self._inputs.out_of_order,
            stamps_incomplete=self._inputs.incomplete,
            overtaken=self._worker.overtaken if self._worker is not None else 0,
        )
        self._diagnostics.publish(situation.level, situation.message, figures)
        if self._worker is not None or self._failure:
            self._log.log(situation.level, situation.state, situation.message or SERVED)

    def _on_jump(self, message: str) -> None:
        self._poses.forget()
        self._forget()
        self._jumped, self._jumped_at = message, time.monotonic()
        self._inputs.forget_stamps()
        self._live.forget()

    def _forget(self) -> None:
        self._served_ns, self._last, self._no_transform = None, None, ""
        self._pending.clear()

    def _fail(self, why: str) -> None:
        self._failure, self._failed_at = why, time.monotonic()

    def _age_s(self, stamp_ns: int) -> float:
        return float(self.get_clock().now().nanoseconds - stamp_ns) / 1e9

    def _still_s(self) -> float:
        """For how long, by the wall, the clock has not moved: a simulated one may stop."""
        now_ns = self.get_clock().now().nanoseconds
        if now_ns != self._clock_ns:
            self._clock_ns, self._ticked_at = now_ns, time.monotonic()
        return time.monotonic() - self._ticked_at

    def _no_clock(self) -> str:
        if self.get_parameter("use_sim_time").value and self.get_clock().now().nanoseconds == 0:
            return "use_sim_time is set but nothing arrives on /clock; publish it or set use_sim_time to false"
        return ""

    def _judge_parameters(self, changed: list[Parameter]) -> SetParametersResult:
        """Refuse what cannot change while there are topics by it."""
        names = [parameter.name for parameter in changed if parameter.name in FIXED_WHILE_ACTIVE]
        if self._worker is not None and names:
            reason = f"{', '.join(names)} can only change while the node is inactive; deactivate it first"
            return SetParametersResult(successful=False, reason=reason)
        try:
            parameters.would_be(self, AvoidSettings, changed).datum()
        except UserError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)


def _bound_role(settings: AvoidSettings) -> str:
    """The image that distances are taken from."""
    return "depth_lower" if settings.bound == "lower" else "depth"
