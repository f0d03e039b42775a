"""The record node: live topics become a dataset, and an mcap if wished. docs/nodes/record.md lists its topics and
services.
"""

from __future__ import annotations

import contextlib
from typing import Any

from pose2rgbd.msg import SyncStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.task import Future
from std_srvs.srv import SetBool, Trigger

from pose2rgbd_ros import settings as definitions
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.nodes.common import parameters
from pose2rgbd_ros.nodes.common.node import start_by_itself
from pose2rgbd_ros.nodes.common.status import OK, WARN, ConditionLog, Diagnostics
from pose2rgbd_ros.nodes.record.inputs import NO_TIME, RawMessage, Subscriptions
from pose2rgbd_ros.nodes.record.session import Handover, Session
from pose2rgbd_ros.nodes.record.settings import RecordSettings
from pose2rgbd_ros.nodes.record.status import LEVELS, ProblemLog, Problems, RejectWatch, status_message, status_values
from pose2rgbd_ros.nodes.record.worker import RecordWorker

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
DRAIN_S = 1.0  # ~/stop waits so long for the poses of the last images
JUMP_BACK_S = 1.0
LOOK_S = 0.2  # how often topics that nobody published yet are looked for


class RecordNode(LifecycleNode):
    """Callbacks only stamp and hand over; one worker thread matches and writes (RecordWorker), another the bag."""

    def __init__(self, settings: RecordSettings | None = None, **options: Any) -> None:
        super().__init__("record", **options)
        self.settings = parameters.declare(self, settings or RecordSettings())
        self.add_on_set_parameters_callback(self._refuse_while_configured)
        self._configured = False
        self._inputs: Subscriptions | None = None
        self._worker: RecordWorker | None = None
        self._session: Session | None = None  # under way, or the last one
        self._handover: Handover | None = None
        self._recording = False
        self._failure: str | None = None
        self._static: dict[tuple[str, bytes], RawMessage] = {}
        self._told: set[str] = set()
        self._log = ConditionLog(self)
        self._problem_log, self._rejects = ProblemLog(self), RejectWatch()
        self._status = self.create_publisher(SyncStatus, "~/status", 10)
        self._diagnostics = Diagnostics(self, "recorder")
        self._services_of_recording = RecordServices(self)
        threshold = JumpThreshold(min_forward=None, min_backward=Duration(seconds=-JUMP_BACK_S), on_clock_change=False)
        self._jump_handle = self.get_clock().create_jump_callback(threshold, post_callback=self._clock_jumped)
        # By the wall: when a simulated clock stands still it must speak up too.
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0, self._housekeep, clock=self._steady)
        self.create_timer(LOOK_S, self._look, clock=self._steady)
        if self.settings.autostart:
            start_by_itself(self, self._steady)

    # Lifecycle -------------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Check the settings. Bad ones fail the transition with one line in the log."""
        self.settings = parameters.read(self, RecordSettings)
        try:
            self.settings.camera_names()
            self.settings.check_poses()
            self._handover = Handover(self.settings)
        except UserError as error:
            self._failure = str(error)
            self._housekeep()
            return FAILURE
        self._failure, self._configured = None, True
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Listen, and record if `start_recording` says so."""
        self._failure = self._session = None
        self._worker = RecordWorker(self.settings, self._on_jump)
        self._inputs = Subscriptions(self, self.settings, self._on_arrival)
        self._look()
        self.get_logger().info(f"listens to {', '.join(item.topic for item in self._inputs.all)}")
        if self._handover is not None and self._handover.starts:
            with contextlib.suppress(UserError):  # it is told
                self.start_recording()
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Finish the recording and listen no more."""
        self._stop_all()
        if self._handover is not None:
            self._handover.leave(None)
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Settings may change again."""
        self._configured, self._failure = False, None
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Finish, from any state."""
        self._stop_all()
        self._configured = False
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After a transition that raised: back to unconfigured, ready to be tried again."""
        self._stop_all()
        self._configured = False
        return SUCCESS

    def destroy_node(self) -> None:
        """Finish the recording first."""
        self._stop_all()
        super().destroy_node()

    # Recording -------------------------------------------------------------------------------------------------

    def _on_arrival(self, arrival: RawMessage) -> None:
        session, worker = self._session, self._worker
        if worker is None:
            return
        if session is not None and not session.open:
            session = None
        if arrival.source.role == "tf_static":
            self._static[arrival.source.topic, arrival.data] = arrival
        if session is not None:
            session.to_bag(arrival)
            if not session.offer(arrival):
                arrival = arrival._replace(data=b"")
        elif arrival.source.role in ("image", "depth"):
            arrival = arrival._replace(data=b"")
        if not worker.put(arrival):
            arrival.source.watch.lost += 1

    def start_recording(self) -> str:
        """Begin a recording; the folder. UserError says why there is none."""
        if self._worker is None or self._inputs is None or self._handover is None:
            raise UserError("the node is not active; activate it first")
        if self._recording and self._session is not None:
            raise UserError(f"records already, into {self._session.folder}")
        try:
            session = Session(self._handover.settings(), self._inputs, self._worker.poses)
        except UserError as error:
            self._fail(str(error))
            raise
        for arrival in self._static.values():  # at the bag's beginning, which may be long after they came
            session.to_bag(arrival._replace(received_ns=NO_TIME))
        self._worker.begin(session)
        self._session, self._recording, self._failure = session, True, None
        self._handover.leave(session.folder)
        self._told.clear()
        self.get_logger().info(f"records into {session.folder}")
        self._housekeep()
        return str(session.folder)

    async def stop_recording(self) -> str:
        """End the recording once the last images have their poses; what became of it. UserError when it failed."""
        session = self._under_way()
        done = Future()

        def wake() -> None:
            done.set_result(None)
            if self.executor is not None:
                self.executor.wake()

        assert self._worker is not None
        assert self._handover is not None
        session.stop_accepting()
        self._recording = False
        self._worker.end(DRAIN_S, wake)
        await done
        self._tell_end(session)
        self._housekeep()
        if session.failure is not None:
            raise UserError(session.failure)
        self._handover.leave(None)
        return session.summary()

    def pause_recording(self, paused: bool) -> str:
        """Pause it or go on; the state. UserError when there is none."""
        session, state = self._under_way(), "paused" if paused else "recording"
        if session.paused != paused:
            self.get_logger().info("paused" if paused else "goes on recording")
        session.paused = paused
        self._housekeep()
        return state

    def _under_way(self) -> Session:
        if not self._recording or self._session is None:
            raise UserError("nothing is being recorded")
        return self._session

    def _stop_all(self) -> None:
        worker, self._worker = self._worker, None
        session = self._session if self._recording else None
        self._recording = False
        if session is not None:
            session.stop_accepting()
        if worker is not None:
            worker.stop()
        if self._inputs is not None:
            self._inputs.destroy()
        self._inputs = None
        self._static.clear()
        if session is not None:
            self._tell_end(session)

    def _tell_end(self, session: Session) -> None:
        if session.failure:
            self._fail(session.failure)
        elif self.context.ok():
            self.get_logger().info(session.summary())

    def _fail(self, reason: str) -> None:
        self._failure, self._recording = reason, False
        self._housekeep()

    # Housekeeping ----------------------------------------------------------------------------------------------

    def _housekeep(self) -> None:
        """Once a second, and when something changed: watch the disk, tell how things stand."""
        problems: dict[str, str] = {}
        if self._inputs is not None:
            self._watch_session()
            of_topics = Problems(self, self.settings).find(self._inputs.all) | self._poses_of_no_use()
            problems = self._of_recording() | of_topics  # the first is the likeliest cause
        state, message = self._situation(problems)
        inputs = self._inputs.all if self._inputs else []
        stamp = self.get_clock().now().to_msg()
        status = status_message(state, message, stamp, self._session, inputs, problems, self.settings.queue_size)
        if self._worker is not None and self._worker.poses.alignment is not None:
            found = self._worker.poses.alignment.latest
            status.image_time_offset_s, status.image_time_offset_confidence = found.offset_s, found.confidence
        level = LEVELS[state]
        if level == OK and problems:
            level = WARN
        self._diagnostics.hardware_id = status.dataset
        self._diagnostics.publish(level, message, status_values(status))
        if self._worker is None and self._failure is None:
            return  # not active because nobody asked for it: nothing to say
        self._status.publish(status)
        if state == SyncStatus.ERROR:
            self._log.log(level, message, message)
        self._problem_log.log(problems)

    def _of_recording(self) -> dict[str, str]:
        """What is the matter beyond the topics that it takes."""
        found = {"/clock": self._no_clock()}
        if self._recording and self._session is not None:
            found |= {"bag": self._session.bag_problem, "frames": self._rejects.problem(self._session)}
        return {name: text for name, text in found.items() if text}

    def _poses_of_no_use(self) -> dict[str, str]:
        """The odometry, if its poses are none."""
        assert self._inputs is not None
        text = self._worker.poses.watch.problem() if self._worker is not None else ""
        return {item.topic: text for item in self._inputs.all if item.role == "odom" and text}

    def _look(self) -> None:
        for item in self._inputs.look() if self._inputs is not None else []:
            if len(item.candidates) > 1:
                self.get_logger().info(f"takes {item.topic} ({item.type_name})")

    def _watch_session(self) -> None:
        session = self._session
        if session is None or not self._recording:
            return
        for note in session.notes():
            if note not in self._told:
                self.get_logger().info(note)
                self._told.add(note)
        try:
            session.require_space()
        except UserError as error:
            session.fail(str(error))
        if session.failure is not None:
            self._recording, self._failure = False, session.failure
            if self._worker is not None:
                self._worker.end(0.0, lambda: None)

    def _situation(self, problems: dict[str, str]) -> tuple[int, str]:
        """State and message."""
        if self._failure is not None:
            return SyncStatus.ERROR, self._failure
        said = "; ".join(f"{topic}: {text}" for topic, text in problems.items())
        session = self._session
        if not self._recording or session is None:
            return SyncStatus.IDLE, said or ("not recording; call ~/start" if self._worker else "not active")
        if session.paused:
            return SyncStatus.PAUSED, said or "paused"
        return SyncStatus.RECORDING, said or f"{counted(session.frames, 'frame')}"

    def _no_clock(self) -> str:
        if self.get_parameter("use_sim_time").value and self.get_clock().now().nanoseconds == 0:
            return "use_sim_time is set but nothing arrives; publish it or set use_sim_time to false"
        return ""

    def _clock_jumped(self, jump: TimeJump) -> None:
        self._on_jump(f"the clock jumped back by {-jump.delta.nanoseconds / 1e9:.1f} s; recording goes on from there")
        if self._worker is not None:
            self._worker.jump()

    def _on_jump(self, message: str) -> None:
        self.get_logger().warning(message)

    def _refuse_while_configured(self, changed: list[Parameter]) -> SetParametersResult:
        fixed = set(definitions.flat_fields(RecordSettings))
        names = [parameter.name for parameter in changed if parameter.name in fixed]
        if self._configured and names:
            reason = f"{', '.join(names)} can only change while the node is unconfigured; clean it up first"
            return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)


# The services of the recorder: start, stop, pause. What cannot be done is answered with success = false and
# the reason.


class RecordServices:
    """In a group of their own: an answer that waits for the worker must not hold up the images."""

    def __init__(self, node: RecordNode) -> None:
        self._node = node
        group = ReentrantCallbackGroup()
        node.create_service(Trigger, "~/start", self._start, callback_group=group)
        node.create_service(Trigger, "~/stop", self._stop, callback_group=group)
        node.create_service(SetBool, "~/pause", self._pause, callback_group=group)

    def _start(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            response.success, response.message = True, self._node.start_recording()
        except UserError as error:
            response.success, response.message = False, str(error)
        return response

    async def _stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            response.success, response.message = True, await self._node.stop_recording()
        except UserError as error:
            response.success, response.message = False, str(error)
        return response

    def _pause(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        try:
            response.success, response.message = True, self._node.pause_recording(request.data)
        except UserError as error:
            response.success, response.message = False, str(error)
        return response
