"""The record node: live topics become a dataset, and an mcap if wished. docs/nodes/record.md lists its topics and
services.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from pose2rgbd.msg import SyncStatus
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.task import Future
from std_srvs.srv import SetBool, Trigger

from pose2rgbd_ros import settings as definitions
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.nodes.common.node import NOT_ACTIVE, ManagedNode
from pose2rgbd_ros.nodes.common.status import OK, WARN, NodeState
from pose2rgbd_ros.nodes.record.inputs import NO_TIME, RawMessage, Subscriptions
from pose2rgbd_ros.nodes.record.session import Handover, Session
from pose2rgbd_ros.nodes.record.settings import RecordSettings
from pose2rgbd_ros.nodes.record.status import ProblemLog, Problems, RejectWatch, status_message, status_values
from pose2rgbd_ros.nodes.record.worker import RecordWorker

DRAIN_S = 1.0  # ~/stop waits so long for the poses of the last images
LOOK_S = 0.2  # how often topics that nobody published yet are looked for


class RecordNode(ManagedNode[RecordSettings]):
    """Callbacks only stamp and hand over; one worker thread matches and writes (RecordWorker), another the bag."""

    diagnostics_name = "recorder"
    status_type = SyncStatus
    good_states = (SyncStatus.RECORDING, SyncStatus.PAUSED)
    fixed_while_configured = frozenset(definitions.flat_fields(RecordSettings))
    failure_shown_s = float("inf")  # until the next start

    def __init__(self, settings: RecordSettings | None = None, **options: Any) -> None:
        super().__init__("record", settings or RecordSettings(), **options)
        self._inputs: Subscriptions | None = None
        self._worker: RecordWorker | None = None
        self._session: Session | None = None  # under way, or the last one
        self._handover: Handover | None = None
        self._recording = False
        self._static: dict[tuple[str, bytes], RawMessage] = {}
        self._notes: set[str] = set()  # of the session, already logged
        self._problems: dict[str, str] = {}
        self._problem_log, self._rejects = ProblemLog(self), RejectWatch()
        # A group of their own: an answer that waits for the worker must not hold up the images.
        group = ReentrantCallbackGroup()
        for kind, name, do in (
            (Trigger, "~/start", lambda request: self.start_recording()),
            (Trigger, "~/stop", lambda request: self.stop_recording()),
            (SetBool, "~/pause", lambda request: self.pause_recording(request.data)),
        ):
            self.create_service(kind, name, answered(do), callback_group=group)
        self.every(LOOK_S, self._look)

    # Lifecycle -------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Whether the settings make sense."""
        self.settings.camera_names()
        self.settings.check_poses()
        self._handover = Handover(self.settings)

    def start(self) -> None:
        """Listen, and record if `start_recording` says so."""
        assert self._handover is not None
        self._session, self.diagnostics.hardware_id = None, ""
        self._worker = RecordWorker(self.settings, self._warn)
        self._inputs = Subscriptions(self, self.settings, self._on_arrival)
        self._look()
        self.get_logger().info(f"listens to {', '.join(item.topic for item in self._inputs.all)}")
        if self._handover.starts:
            with contextlib.suppress(UserError):  # it is reported
                self.start_recording()

    def stop(self) -> None:
        """Finish the recording and listen no more."""
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

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """A recorder that is started again in this one's place does not go on recording."""
        result = super().on_deactivate(state)
        if self._handover is not None:
            self._handover.leave(None)
        return result

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
            raise UserError(NOT_ACTIVE)
        if self._recording and self._session is not None:
            raise UserError(f"records already, into {self._session.folder}")
        try:
            session = Session(self._handover.settings(), self._inputs, self._worker.poses)
        except UserError as error:
            self._give_up(error)
            raise
        for arrival in self._static.values():  # at the bag's beginning, which may be long after they came
            session.to_bag(arrival._replace(received_ns=NO_TIME))
        self._worker.begin(session)
        self._session, self._recording, self.failure = session, True, ""
        self.diagnostics.hardware_id = str(session.folder)
        self._handover.leave(session.folder)
        self._notes.clear()
        self.get_logger().info(f"records into {session.folder}")
        self.report()
        return str(session.folder)

    async def stop_recording(self) -> str:
        """End the recording once the last images have their poses; what became of it. UserError when it failed."""
        session = self._under_way()
        done = Future()

        def wake() -> None:
            done.set_result(None)
            self.wake()

        assert self._worker is not None
        assert self._handover is not None
        session.stop_accepting()
        self._recording = False
        self._worker.end(DRAIN_S, wake)
        await done
        self._tell_end(session)
        self.report()
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
        self.report()
        return state

    def _under_way(self) -> Session:
        if not self._recording or self._session is None:
            raise UserError("nothing is being recorded")
        return self._session

    def _tell_end(self, session: Session) -> None:
        if session.failure:
            self._give_up(UserError(session.failure))
        elif self.context.ok():
            self.get_logger().info(session.summary())

    def _give_up(self, error: UserError) -> None:
        self._recording = False
        self.fail(error, "recording failed")
        self.report()

    # How it stands ---------------------------------------------------------------------------------------------

    def report(self) -> None:
        """Once a second, and when something changed: watch the disk, look for problems."""
        self._problems = {}
        if self._inputs is not None:
            self._watch_session()
            of_topics = Problems(self, self.settings).find(self._inputs.all) | self._poses_of_no_use()
            self._problems = self._of_recording() | of_topics  # the first is the likeliest cause
        super().report()
        if self.active or self.failure:
            self._problem_log.log(self._problems)

    def state(self) -> NodeState:
        """What is done, and what is the matter."""
        said = "; ".join(f"{topic}: {text}" for topic, text in self._problems.items())
        session = self._session
        if not self._recording or session is None:
            return NodeState(SyncStatus.IDLE, said or "not recording; call ~/start")
        if session.paused:
            return NodeState(SyncStatus.PAUSED, said or "paused")
        return NodeState(SyncStatus.RECORDING, said or f"{counted(session.frames, 'frame')}")

    def level_of(self, state: NodeState) -> bytes:
        """A problem is a warning in any state."""
        level = super().level_of(state)
        return WARN if level == OK and self._problems else level

    def log(self, state: NodeState) -> None:
        """Problems have a log of their own."""
        if state.state == SyncStatus.ERROR:
            super().log(state)

    def status_message(self, state: NodeState) -> SyncStatus:
        """With the figures of the session and of each topic."""
        inputs = self._inputs.all if self._inputs else []
        stamp = self.get_clock().now().to_msg()
        status = status_message(state, stamp, self._session, inputs, self._problems, self.settings.queue_size)
        if self._worker is not None and self._worker.poses.alignment is not None:
            found = self._worker.poses.alignment.latest
            status.image_time_offset_s, status.image_time_offset_confidence = found.offset_s, found.confidence
        return status

    def figures(self, state: NodeState) -> dict[str, Any]:
        """Those of the status."""
        return status_values(self.status_message(state))

    def _of_recording(self) -> dict[str, str]:
        """What is the matter beyond the topics that it takes."""
        found = {"/clock": self.no_clock}
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
            if note not in self._notes:
                self.get_logger().info(note)
                self._notes.add(note)
        try:
            session.require_space()
        except UserError as error:
            session.fail(str(error))
        if session.failure is not None:
            self._recording = False
            self.fail(UserError(session.failure), "recording failed")
            if self._worker is not None:
                self._worker.end(0.0, lambda: None)

    def time_jumped(self, message: str) -> None:
        """Recording goes on."""
        self._warn(f"{message}; recording goes on from there")
        if self._worker is not None:
            self._worker.jump()

    def _warn(self, message: str) -> None:
        self.get_logger().warning(message)


def answered(do: Callable[[Any], str | Awaitable[str]]) -> Callable[[Any, Any], Awaitable[Any]]:
    """A service whose answer is what `do` returns; success = false and the reason where it cannot be done."""

    async def serve(request: Any, response: Any) -> Any:
        try:
            said = do(request)
            response.success, response.message = True, said if isinstance(said, str) else await said
        except UserError as error:
            response.success, response.message = False, str(error)
        return response

    return serve
