"""What every node stands on: its lifecycle, its parameters, its state in all the places where people look, and the
checks of the clock. Not play and monitor: these are tools that end by themselves, with an exit status.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any, ClassVar, Generic, TypeVar

from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.timer import Timer

from pose2rgbd_ros import settings as definitions
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.nodes.common import parameters, status
from pose2rgbd_ros.nodes.common.runner import interruptible
from pose2rgbd_ros.nodes.common.status import ConditionLog, Diagnostics, NodeState, one_line, without_figures
from pose2rgbd_ros.nodes.common.topics import JUMP_BACK_S

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
SHOWN_S = 5.0  # how long a jump of time is shown, and what went wrong in an active node
OK = 0  # of every status message
NOT_ACTIVE = "the node is not active; activate it first"
NO_CLOCK = "use_sim_time is set but nothing arrives on /clock; publish it or set use_sim_time to false"

Settings = TypeVar("Settings")


class ManagedNode(LifecycleNode, Generic[Settings]):
    """A lifecycle node whose subclass says what it does: `load`, `start`, `stop`, `forget`, and how it stands.

    Whatever `load` or `start` raises fails the transition with one line, and what they had begun is taken back. Once a
    second, by the wall, so that a simulated clock that stands still does not silence it, the node takes over changed
    parameters and reports its state on /diagnostics, in its log and, where it has one, in its status message. All hooks
    are called in the executor's thread.
    """

    diagnostics_name: ClassVar[str]  # behind the node's name on /diagnostics
    status_type: ClassVar[Any] = None  # of ~/status; its constants are the states
    good_states: ClassVar[Collection[Any]] = ()  # beside 0, OK; what is neither good nor an error is a warning
    error_states: ClassVar[Collection[Any]] = ()  # beside ERROR
    fixed_while_configured: ClassVar[Collection[str]] = ()  # parameters, or the first word of their names
    fixed_while_active: ClassVar[Collection[str]] = ()
    good_news: ClassVar[str] = ""  # what the log says of a good state without a message
    failure_shown_s: ClassVar[float] = SHOWN_S  # by an active node; an inactive one shows it until it is mended

    def __init__(self, name: str, settings: Settings, **options: Any) -> None:
        super().__init__(name, **options)
        self.settings: Settings = parameters.declare(self, settings)
        self.configured = self.active = False
        self.failure = ""  # why a transition failed, or what a worker last stumbled over
        self.jumps = 0  # times the clock, or the stamps of what arrives, went back
        self._failed_at = self._jumped_at = -float("inf")
        self._jump_message = ""
        self._clock_ns, self._ticked_at = -1, time.monotonic()
        self._log = ConditionLog(self)
        self.diagnostics = Diagnostics(self, self.diagnostics_name)
        self.status = self.create_publisher(self.status_type, "~/status", 10) if self.status_type else None
        self.add_on_set_parameters_callback(self._judge_parameters)
        threshold = JumpThreshold(min_forward=None, min_backward=Duration(seconds=-JUMP_BACK_S), on_clock_change=False)
        self._jump_handle = self.get_clock().create_jump_callback(threshold, post_callback=self._clock_jumped)
        self.steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.every(1.0, self._housekeep)
        if getattr(self.settings, "autostart", True):
            self._start_by_itself()

    # What a subclass says ----------------------------------------------------------------------------------------

    def load(self) -> None:
        """On configure, with fresh settings: what takes long, or can be wrong. A UserError says what is."""

    def start(self) -> None:
        """On activate, with fresh settings: topics and threads."""

    def stop(self) -> None:
        """On deactivate, or after a `start` that raised: end what `start` began, however far it came."""

    def forget(self) -> None:
        """On cleanup, or after a `load` that raised: let go of what it loaded."""

    def forget_time(self) -> None:
        """Time jumped back: what came before means nothing any more."""

    def judge(self, asked: Settings) -> None:
        """UserError for settings that each allow themselves, but not together, or not now. Touches nothing."""

    def change(self, before: Settings) -> None:
        """`settings` are others than before."""

    def state(self) -> NodeState:
        """How things stand with the active node."""
        return NodeState(OK)

    def figures(self, state: NodeState) -> dict[str, Any]:
        """The values for /diagnostics."""
        return {}

    def status_message(self, state: NodeState) -> Any:
        """What to publish on ~/status; None for nothing."""
        return None

    @property
    def just_published(self) -> bool:
        """Whether a status has just gone out with what the node publishes."""
        return False

    # What a subclass uses ----------------------------------------------------------------------------------------

    def every(self, period_s: float, callback: Callable[[], Any], **options: Any) -> Timer:
        """A timer by the wall: when a simulated clock stands still it goes on."""
        return self.create_timer(period_s, callback, clock=self.steady, **options)

    def wake(self) -> None:
        """Have the executor look at futures that a thread has just finished. From any thread."""
        if self.executor is not None:
            self.executor.wake()

    def fail(self, error: Exception, what: str) -> None:
        """Take down what went wrong; `what` failed, of an error that nobody foresaw. From any thread."""
        if self.context.ok():  # publishing fails when the process is on its way out, and nobody needs to know
            self.failure, self._failed_at = one_line(error, what), time.monotonic()

    def log(self, state: NodeState) -> None:
        """Log a state when it begins, or gets another reason, and now and then while it lasts."""
        condition = state.state, without_figures(state.message)
        self._log.log(self.level_of(state), condition, state.message or self.good_news)

    def report(self) -> None:
        """Tell how things stand, wherever people look."""
        state = self.current_state()
        self.diagnostics.publish(self.level_of(state), state.message, self.figures(state))
        if self.active or self.failure:  # else it is not active because nobody asked for it: nothing to say
            self.log(state)
            if not self.just_published:
                self.publish_status(state)

    def publish_status(self, state: NodeState) -> None:
        """Publish a state on ~/status, where there is one. From any thread."""
        message = self.status_message(state)
        if self.status is not None and message is not None:
            self.status.publish(message)

    def current_state(self) -> NodeState:
        """What went wrong, else how things stand with the active node."""
        if self.failure and (not self.active or time.monotonic() - self._failed_at < self.failure_shown_s):
            return NodeState(self.state_named("ERROR"), self.failure)
        return self.state() if self.active else NodeState(OK, "not active")

    def level_of(self, state: NodeState) -> bytes:
        """The level of DiagnosticStatus."""
        if state.state == OK or state.state in self.good_states:
            return status.OK
        error = state.state == self.state_named("ERROR") or state.state in self.error_states
        return status.ERROR if error else status.WARN

    def state_named(self, name: str) -> Any:
        """A state that all nodes have: a constant of the status message, where there is one."""
        return getattr(self.status_type, name, name)

    def time_jumped(self, message: str) -> None:
        """The clock went back, or the stamps of what arrives: forget what came before, and say so at once."""
        self._jump_message, self._jumped_at = message, time.monotonic()
        self.jumps += 1
        self.forget_time()
        if self.active:
            state = NodeState(self.state_named("TIME_JUMP"), message)
            self.log(state)
            self.publish_status(state)

    @property
    def recent_jump(self) -> str:
        """What jumped back in the last seconds; empty: nothing."""
        return self._jump_message if time.monotonic() - self._jumped_at < SHOWN_S else ""

    @property
    def no_clock(self) -> str:
        """Why the node does not know the time; empty: it does."""
        simulated = self.get_parameter("use_sim_time").value
        return NO_CLOCK if simulated and self.get_clock().now().nanoseconds == 0 else ""

    @property
    def clock_still_s(self) -> float:
        """For how long, by the wall, the clock has not moved: a simulated one may stop. To be asked regularly."""
        now_ns = self.get_clock().now().nanoseconds
        if now_ns != self._clock_ns:
            self._clock_ns, self._ticked_at = now_ns, time.monotonic()
        return time.monotonic() - self._ticked_at

    def age_s(self, stamp_ns: int) -> float:
        """How old a stamp is by the node's clock."""
        return float(self.get_clock().now().nanoseconds - stamp_ns) / 1e9

    # Lifecycle -------------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load."""
        try:
            self.settings = parameters.read(self, type(self.settings))
            self.load()
        except Exception as error:
            self.forget()
            return self._fail_transition(error, "loading failed")
        self.configured, self.failure = True, ""
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start."""
        self.settings = parameters.read(self, type(self.settings))
        self.active, self.failure = True, ""
        try:
            self.start()
        except Exception as error:
            self._stop()
            return self._fail_transition(error, "cannot start")
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop; what was loaded stays."""
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Forget."""
        self._forget()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and forget, from any state."""
        self._end()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After a transition that raised: back to unconfigured, ready to be tried again."""
        self._end()
        return SUCCESS

    def destroy_node(self) -> None:
        """Stop and forget before what the node publishes with goes away."""
        self._end()
        super().destroy_node()

    def _start_by_itself(self) -> None:
        """Configure, and activate if that went well, as soon as the node spins: for users without a manager."""

        def start() -> None:
            self.destroy_timer(timer)
            with interruptible():
                configured = self.trigger_configure()
            if configured == SUCCESS:
                self.trigger_activate()

        timer = self.every(0.0, start)

    def _fail_transition(self, error: Exception, what: str) -> TransitionCallbackReturn:
        self.fail(error, what)
        self.report()
        return FAILURE

    def _stop(self) -> None:
        if self.active:
            self.active = False
            self.stop()

    def _forget(self) -> None:
        if self.configured:
            self.configured, self.failure = False, ""
            self.forget()

    def _end(self) -> None:
        self._stop()
        self._forget()

    # Housekeeping ----------------------------------------------------------------------------------------------

    def _housekeep(self) -> None:
        before, self.settings = self.settings, parameters.read(self, type(self.settings))
        if before != self.settings:
            self.change(before)
        self.report()

    def _clock_jumped(self, jump: TimeJump) -> None:
        self.time_jumped(f"the clock jumped back by {-jump.delta.nanoseconds / 1e9:.1f} s")

    def _judge_parameters(self, changed: list[Parameter]) -> SetParametersResult:
        own = definitions.flat_fields(type(self.settings))
        names = [parameter.name for parameter in changed if parameter.name in own]
        for fixed, applies, until in (
            (self.fixed_while_configured, self.configured, "unconfigured; clean it up first"),
            (self.fixed_while_active, self.active, "inactive; deactivate it first"),
        ):
            refused = [name for name in names if name in fixed or name.partition(".")[0] in fixed]
            if applies and refused:
                reason = f"{', '.join(refused)} can only change while the node is {until}"
                return SetParametersResult(successful=False, reason=reason)
        try:
            if names:
                self.judge(parameters.would_be(self, type(self.settings), changed))
        except UserError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)
