"""The avoid node: predicted (and live) depth in the forms that obstacle avoidance takes. docs/nodes/avoid.md lists its
topics.

Depth of one stamp waits for the transforms of its time (`_place`), is offered to a worker thread with what the live
sensors say (`_offer`), which computes and publishes (`_publish`). `state` says what that depth is worth; fifty times a
second `_watch` looks whether it still is, and has published what is unknown when it is not.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pose2rgbd.msg import ObstacleStatus
from rclpy.timer import Timer

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.nodes.avoid.inputs import BodyFrames, DatumCheck, DepthInputs, LiveDepth, LiveInputs, Motion, Placed
from pose2rgbd_ros.nodes.avoid.outputs import ObstacleDistance, Publishers, Stats, status_message
from pose2rgbd_ros.nodes.avoid.settings import FIXED_WHILE_ACTIVE, AvoidSettings
from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.nodes.common.node import ManagedNode
from pose2rgbd_ros.nodes.common.status import NodeState, how_old
from pose2rgbd_ros.nodes.common.tf import TfLookup
from pose2rgbd_ros.nodes.common.worker import LatestWorker
from pose2rgbd_ros.obstacles.surroundings import Body, RangeMeasurement, summarize_obstacles
from pose2rgbd_ros.obstacles.view import DepthView, view_of

WATCH_S = 0.02  # how often staleness and lost sensors are looked for: they are to be reported within 0.1 s
UNKNOWN_EVERY_S = 0.1  # while nothing is known that is said this often: silence would stop some autopilots
WAITING = 8  # images that may wait for transforms
STILL_S = 2.0  # a clock that stands still for longer has stopped: by it nothing would ever grow old
# The states in which predicted depth is used; in all others everything it would say is unknown.
SERVING = (ObstacleStatus.OK, ObstacleStatus.UNKNOWN, ObstacleStatus.SENSOR_LOST)


@dataclass(frozen=True, eq=False)
class PlacedDepth:
    """The messages of one stamp by role, and where they were taken: T_level_cam (4, 4)."""

    placed: Placed
    images: dict[str, Any]
    T_level_cam: Float64


@dataclass(frozen=True, eq=False)
class Job:
    """What to publish of one moment, by which settings; without `depth` the prediction says nothing."""

    settings: AvoidSettings
    placed: Placed
    depth: PlacedDepth | None
    body: Body
    live: LiveDepth | None
    ranges: list[RangeMeasurement]
    state: NodeState


class AvoidNode(ManagedNode[AvoidSettings]):
    """Matches and watches in the executor; distances are computed and published in a worker thread."""

    diagnostics_name = "obstacles"
    status_type = ObstacleStatus
    error_states = (ObstacleStatus.REFUSED,)
    fixed_while_active = FIXED_WHILE_ACTIVE
    good_news = "predicted depth is served"

    def __init__(self, settings: AvoidSettings | None = None, **options: Any) -> None:
        super().__init__("avoid", settings or AvoidSettings(), **options)
        self._worker: LatestWorker[Job] | None = None
        self._outputs: Publishers | None = None
        self._timer: Timer | None = None
        self._stats = Stats()
        self._waiting: deque[tuple[int, dict[str, Any]]] = deque(maxlen=WAITING)  # stamp and messages
        self._no_transform = ""  # why what waits cannot be used
        self._depth: PlacedDepth | None = None  # the last that could be used
        self._offered: tuple[Any, float] = (None, -np.inf)  # the state last offered, and when
        self._poses = TfLookup(self, self._place, self.time_jumped, "set body_frame and map_frame")
        self._inputs = DepthInputs(self, self._on_match, self.time_jumped)
        self._live, self._motion, self._datum = LiveInputs(self), Motion(self), DatumCheck(self)

    # Lifecycle -------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """The datum of the model, where one is named."""
        self._datum.load(self.settings)
        self.diagnostics.hardware_id = Path(self.settings.model).name if self.settings.model else ""
        if ObstacleDistance is None:
            self.get_logger().info("px4_msgs is not installed: no topic ~/obstacle_distance")

    def start(self) -> None:
        """Subscribe and publish."""
        self._outputs = Publishers(self, self.settings)
        self._worker = LatestWorker(self._publish, lambda error: self.fail(error, "failed"))
        for part in (self._poses, self._live, self._motion, self._datum):
            part.start()
        self._inputs.start(self.settings)
        self._timer = self.every(WATCH_S, self._watch)

    def stop(self) -> None:
        """Remove the topics."""
        if self._timer is not None:
            self.destroy_timer(self._timer)
        if self._worker is not None:
            self._worker.stop()
        for part in (self._inputs, self._live, self._motion, self._datum, self._poses):
            part.stop()
        if self._outputs is not None:
            self._outputs.destroy()
        self._timer = self._worker = self._outputs = None
        self._forget_depth()

    def forget_time(self) -> None:
        """Depth, transforms and measurements of before."""
        self._poses.forget()
        self._inputs.forget_stamps()
        self._live.forget()
        self._forget_depth()

    def _forget_depth(self) -> None:
        self._waiting.clear()
        self._depth, self._no_transform, self._offered = None, "", (None, -np.inf)

    # What depth is worth ---------------------------------------------------------------------------------------

    def state(self) -> NodeState:
        """The first that holds; ManagedNode puts what went wrong in the last seconds before it."""
        refusal = self._refusal()
        if refusal:
            return NodeState(ObstacleStatus.REFUSED, refusal)
        stale = self._stale()
        if self._depth is None or stale:
            if self.recent_jump:
                return NodeState(ObstacleStatus.TIME_JUMP, self.recent_jump)
            if self._no_transform:
                return NodeState(ObstacleStatus.WAITING_FOR_EXTRINSICS, self._no_transform)
            if stale:
                return NodeState(ObstacleStatus.STALE, stale)
            return NodeState(ObstacleStatus.WAITING_FOR_DEPTH, self.no_clock or self._inputs.explain())
        lost = self._live.lost(self.settings)
        return NodeState(ObstacleStatus.SENSOR_LOST, lost) if lost else NodeState(ObstacleStatus.OK)

    def _refusal(self) -> str:
        settings = self.settings
        if settings.bound == "depth" and settings.margin_m == 0:
            return "bound is depth, which needs margin_m: how much nearer than predicted an obstacle may be, in metres"
        return self._datum.refusal(settings) or self._inputs.refusal()

    def _stale(self) -> str:
        """Why the last depth is of no use any more; empty: it is, or there is none."""
        if self._depth is None:
            return ""
        if self.clock_still_s > STILL_S:
            return f"the clock has stood still for {self.clock_still_s:.0f} s: how old depth is cannot be said"
        age_s = self.age_s(self._depth.placed.stamp_ns)
        if abs(age_s) <= self.settings.max_age_s:
            return ""
        return f"the newest depth is {how_old(age_s)}: everything predicted is unknown"

    # From depth to a job ---------------------------------------------------------------------------------------

    def _on_match(self, stamp_ns: int, images: dict[str, Any]) -> None:
        self._waiting.append((stamp_ns, images))
        self._place()

    def _place(self) -> None:
        """Serve the newest depth that there are transforms for; they may arrive after it."""
        if not self._waiting or self._worker is None:
            return
        frames, frame = self._frames, self._waiting[-1][1][self.settings.bound_role].header.frame_id
        try:
            newest_ns = frames.newest_ns(frame)
            ready = [item for item in self._waiting if newest_ns is None or item[0] <= newest_ns]
            if not ready and newest_ns is not None:
                behind_s = (self._waiting[-1][0] - newest_ns) / 1e9
                raise UserError(f"the transforms of the body are {behind_s:.2f} s behind the depth")
            stamp_ns, images = ready[-1]
            placed = frames.body_at(stamp_ns)
            self._depth = PlacedDepth(placed, images, frames.camera_at(placed, frame))
        except UserError as error:
            self._no_transform = str(error)
            return
        self._no_transform = ""
        while self._waiting and self._waiting[0][0] <= stamp_ns:
            self._waiting.popleft()
        state = self.current_state()
        if state.state in SERVING:
            self._offer(state, self._depth.placed, self._depth)

    def _watch(self) -> None:
        """Have it published in time that depth is stale or a sensor lost; go on saying what is unknown."""
        state = self.current_state()
        offered, offered_s = self._offered
        if state.state != offered:
            self.log(state)
        if state.state in SERVING:
            if state.state == ObstacleStatus.SENSOR_LOST != offered and self._depth is not None:
                self._offer(state, self._depth.placed, self._depth)  # once more, without what the sensor said
        elif state.state != offered or time.monotonic() - offered_s >= UNKNOWN_EVERY_S - WATCH_S / 2:
            self._offer(state, self._body_now(), None)

    def _offer(self, state: NodeState, placed: Placed, depth: PlacedDepth | None) -> None:
        """Have this published next, with what the sensors say."""
        assert self._worker is not None
        settings, frames = self.settings, self._frames
        body = Body(settings.radius_m, self._motion.velocity(frames, placed, settings.max_odometry_age_s))
        live = self._live.depth(settings, frames, placed)
        ranges = self._live.ranges(settings, frames, placed)
        self._offered = (state.state, time.monotonic())
        self._worker.offer(Job(settings, placed, depth, body, live, ranges, state))

    @property
    def _frames(self) -> BodyFrames:
        return BodyFrames(self._poses, self.settings)

    def _body_now(self) -> Placed:
        """As TF has it; level where that is not known."""
        try:
            placed = self._frames.body_at(0)
        except UserError:
            placed = Placed(0, None, np.eye(3))
        return replace(placed, stamp_ns=self.get_clock().now().nanoseconds)

    # In the worker ---------------------------------------------------------------------------------------------

    def _publish(self, job: Job) -> None:
        """Compute and publish what a job shows."""
        assert self._outputs is not None
        assert self.status is not None
        started, settings, state, stamp_ns = time.perf_counter(), job.settings, job.state, job.placed.stamp_ns
        if settings != self._outputs.settings:
            self._outputs.use(settings)
        predicted = None if job.depth is None else _predicted(job.depth, settings)
        seen = summarize_obstacles(
            predicted, self._live_view(job), settings.live_range_m, job.ranges, job.body, settings.scan
        )
        if predicted is not None and abs(self.age_s(stamp_ns)) > settings.max_age_s:
            return  # it has grown stale meanwhile, and the watch says that
        if state.state == ObstacleStatus.OK and seen.known < settings.least_known:
            text = f"depth is known in {seen.known:.0%} of the view: distances are mostly unknown"
            state = NodeState(ObstacleStatus.UNKNOWN, text)
        self._outputs.publish(seen, stamp_ns, job.placed.R_level_body)
        if job.depth is not None and predicted is not None and self._outputs.wanted("points"):
            _publish_cloud(self._outputs, job.depth, predicted)
        latency_s, R_level_body = self.age_s(stamp_ns), job.placed.R_level_body
        self.status.publish(status_message(state, seen, stamp_ns, settings.body_frame, R_level_body, latency_s))
        if predicted is not None:
            self._stats.served(seen.known, (time.perf_counter() - started) * 1e3, latency_s)

    def _live_view(self, job: Job) -> DepthView | None:
        try:
            view = None if job.live is None else job.live.view()
        except UserError as error:
            self._live.refused(str(error))
            return None
        if view is not None:
            self._live.refused("")
        return view

    # What is reported ------------------------------------------------------------------------------------------

    def judge(self, asked: AvoidSettings) -> None:
        """UserError for a map_datum that is none."""
        asked.datum()

    def figures(self, state: NodeState) -> dict[str, Any]:
        """Of the last images, and of what else comes in."""
        return {
            **self._stats.values(),
            "state": state.state,
            "odometry": self._motion.problem or "ok",
            "live": self._live.lost(self.settings) or "ok",
            "stamps_out_of_order": self._inputs.out_of_order,
            "stamps_incomplete": self._inputs.incomplete,
            "overtaken": self._worker.overtaken if self._worker is not None else 0,
        }


def _predicted(depth: PlacedDepth, settings: AvoidSettings) -> DepthView:
    lower_m = conversions.depth_of(depth.images[settings.bound_role])
    if settings.bound == "depth":
        lower_m = np.maximum(lower_m - np.float32(settings.margin_m), np.float32(0))
    return view_of(lower_m, conversions.camera_from_info(depth.images["camera_info"]), depth.T_level_cam)


def _publish_cloud(outputs: Publishers, depth: PlacedDepth, predicted: DepthView) -> None:
    settings, placed, images = outputs.settings, depth.placed, depth.images
    depth_m = predicted.lower_m if settings.cloud == "lower" else conversions.depth_of(images["depth"])
    rgb = conversions.rgb_of(images["rgb"]) if "rgb" in images else None
    T, frame_id = None, images[settings.bound_role].header.frame_id
    if settings.cloud_frame == "body":
        T, frame_id = placed.T_body(predicted.T_body_cam), settings.body_frame
    elif settings.cloud_frame == "map" and placed.T_map_level is not None:
        T, frame_id = placed.T_map_level @ predicted.T_body_cam, settings.map_frame
    outputs.publish_cloud(depth_m, predicted.camera, T, rgb, placed.stamp_ns, frame_id)
