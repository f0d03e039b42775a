"""The sim node: a simulated city, flown over live, as the topics of a real drone. docs/nodes/sim.md lists them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from geometry_msgs.msg import Twist
from nav_msgs.msg import Path as PathMessage
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from std_srvs.srv import Trigger

from pose2rgbd_ros import settings as definitions
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.nodes.common import conversions, parameters, status
from pose2rgbd_ros.nodes.common.node import start_by_itself
from pose2rgbd_ros.nodes.common.status import ConditionLog, Diagnostics
from pose2rgbd_ros.nodes.sim.outputs import SimOutputs
from pose2rgbd_ros.nodes.sim.settings import LIVE, SimSettings, make_world, world_of
from pose2rgbd_ros.sim.state import MAP
from pose2rgbd_ros.sim.world import Step, World

# Simulated time against the wall: waits for it, and measures how fast it really runs.


WINDOW_S = 3.0
CATCH_UP_S = 0.2  # a longer delay is not made up for by running faster
LOOK_S = 0.1  # between looks at a changed factor, when a step takes longer than that


class RealTimePace:
    """Lets simulated time run `factor` times as fast as the wall; 0: as fast as it can.

    `wait` belongs to one thread, the rest may be called from any.
    """

    def __init__(self, factor: float) -> None:
        self.factor = factor  # may be set at any time
        self._lock = threading.Lock()
        self._samples: deque[tuple[float, float]] = deque()
        self._paused = True
        self._anchor = (0.0, 0.0, factor)  # wall and simulated time from which on the factor holds

    def restart(self) -> None:
        """After a pause: neither make up for it nor count it."""
        self._paused = True
        with self._lock:
            self._samples.clear()

    def wait(self, simulated_s: float, stop: threading.Event) -> None:
        """Sleep until it is time for `simulated_s`, or until `stop` is set."""
        while (left_s := self._left_s(simulated_s)) > 0:
            if stop.wait(min(left_s, LOOK_S)):
                break
        self._note(time.monotonic(), simulated_s)

    def _left_s(self, simulated_s: float) -> float:
        """How long to wait yet; at a new factor, or after a pause, no longer."""
        now, factor = time.monotonic(), self.factor
        if self._paused or factor != self._anchor[2]:
            self._anchor, self._paused = (now, simulated_s, factor), False
        if factor == 0:
            return 0.0
        due = self._anchor[0] + (simulated_s - self._anchor[1]) / factor
        if now - due > CATCH_UP_S:
            self._anchor = (now - CATCH_UP_S, simulated_s, factor)
        return due - now

    def achieved(self) -> float | None:
        """Simulated by wall time over the last seconds; None before there is enough to tell."""
        with self._lock:
            if not self._samples or self._samples[-1][0] - self._samples[0][0] < WINDOW_S / 2:
                return None
            (first_wall, first), (last_wall, last) = self._samples[0], self._samples[-1]
        # Up to now, not to the last step: a step that takes long must show while it lasts.
        return (last - first) / (max(last_wall, time.monotonic()) - first_wall)

    def _note(self, wall: float, simulated_s: float) -> None:
        with self._lock:
            self._samples.append((wall, simulated_s))
            while len(self._samples) > 2 and self._samples[1][0] < wall - WINDOW_S:
                self._samples.popleft()


# The thread in which a simulated world lives: it makes it, steps it at its pace, and takes requests in
# between.


IDLE_POLL_S = 0.05
RENDER_SHARE = 0.1  # of the newest figure in the mean


class SimLoop:
    """Runs `make_world` and then the world in a thread of its own, to which its OpenGL belongs.

    Time stands still until :meth:`run`. Each step goes to `publish`, called in that thread; `wants_images` says
    whether to render. An error there ends the loop and is kept in `failure`.
    """

    def __init__(self, make_world: Callable[[], World], step_s: float, pace: RealTimePace) -> None:
        self._make_world, self._step_s, self.pace = make_world, step_s, pace
        self._made, self._stop, self._running = threading.Event(), threading.Event(), threading.Event()
        self._between_steps = threading.Lock()
        self._requests: deque[Callable[[World], None]] = deque()
        self._publish: Callable[[Step], None] = lambda step: None
        self._wants_images: Callable[[], bool] = lambda: False
        self.failure: Exception | None = None
        self.world: World | None = None
        self.last: Step | None = None
        self.images = 0
        self.step_ms = 0.0  # of wall time, of steps in which images were rendered
        self._thread = threading.Thread(target=self._live, name="pose2rgbd-sim", daemon=True)
        self._thread.start()

    def wait_made(self) -> World:
        """The world, once it is there. Raises what kept it from being made."""
        self._made.wait()
        if self.world is None:
            self._thread.join()
            raise self.failure or RuntimeError("the world was not made")
        return self.world

    def run(self, publish: Callable[[Step], None], wants_images: Callable[[], bool]) -> None:
        """Let time go on; what was asked before it stood still is out of date."""
        self._requests.clear()
        self._publish, self._wants_images = publish, wants_images
        self.pace.restart()
        self._running.set()

    def pause(self) -> None:
        """Stop time after the step at hand; nothing is published after this."""
        self._running.clear()
        with self._between_steps:
            pass

    def ask(self, request: Callable[[World], None]) -> None:
        """Have something done to the world before the next step, in its thread."""
        self._requests.append(request)

    def stop(self) -> None:
        """End the thread and let go of OpenGL."""
        self._stop.set()
        self._running.set()
        self._thread.join()

    def _live(self) -> None:
        try:
            self.world = self._make_world()
        except Exception as error:
            self.failure = error
        self._made.set()
        if self.world is None:
            return
        try:
            self._go_on(self.world)
        except Exception as error:
            self.failure = error
        finally:
            self.world.close()

    def _go_on(self, world: World) -> None:
        while not self._stop.is_set():
            if not self._running.wait(IDLE_POLL_S):
                continue
            with self._between_steps:
                if self._running.is_set() and not self._stop.is_set():
                    self._step(world)
            self.pace.wait(world.t_s, self._stop)

    def _step(self, world: World) -> None:
        while self._requests:
            self._requests.popleft()(world)
        began = time.perf_counter()
        step = world.step(self._step_s, self._wants_images())
        self._publish(step)
        self.last = step
        if step.rendered:
            self.images += step.rendered
            took_ms = (time.perf_counter() - began) * 1e3
            self.step_ms += (took_ms - self.step_ms) * (RENDER_SHARE if self.step_ms else 1.0)


SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
SLOW = 0.95  # of the real-time factor asked for: below that it is told


class SimNode(LifecycleNode):
    """The world lives in a thread of its own, see SimLoop; the executor stays free for parameters and services."""

    def __init__(self, settings: SimSettings | None = None, **options: Any) -> None:
        super().__init__("sim", **options)
        self.settings = parameters.declare(self, settings or SimSettings())
        self.add_on_set_parameters_callback(self._refuse_while_configured)
        self._loop: SimLoop | None = None
        self._outputs: SimOutputs | None = None
        self._inputs: list[Subscription] = []
        self._failure: str | None = None
        self._log = ConditionLog(self)
        self._diagnostics = Diagnostics(self, "simulator")
        self.create_service(Trigger, "~/fly_plan", self._fly_plan)
        # By the wall: this node makes the simulated time and must not wait for it.
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0, self._housekeep, clock=self._steady)
        if self.settings.autostart:
            start_by_itself(self, self._steady)

    # Lifecycle -------------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Build the world. Settings that make none fail the transition with one line in the log."""
        try:
            self.settings, said = world_of(parameters.read(self, SimSettings))
            settings = self.settings
            loop = SimLoop(
                lambda: make_world(settings), 1.0 / settings.clock_hz, RealTimePace(settings.real_time_factor)
            )
            world = loop.wait_made()
        except Exception as error:
            known = isinstance(error, UserError)
            self._failure = str(error) if known else f"no world: {type(error).__name__}: {error}"
            self._housekeep()
            return FAILURE
        self._loop, self._failure = loop, None
        if said:
            self.get_logger().info(said)
        self._diagnostics.hardware_id = f"{world.flight.name} flight, city of seed {settings.city.seed}"
        self.get_logger().info(
            f"made: {self._diagnostics.hardware_id}; {world.flight.duration_s:.0f} s, images of "
            f"{settings.width}x{settings.height} at {settings.camera.rate_hz:g} Hz"
        )
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let time go on, publish, and listen to commands."""
        assert self._loop is not None
        world, settings = self._loop.wait_made(), self.settings
        try:
            self._outputs = SimOutputs(
                self, settings.image_camera(), settings.tf, world.flight.T_body_cam, settings.gps.antenna_m
            )
            self._inputs = self._subscribe()
        except Exception as error:
            self._stop()
            self._failure = f"cannot start: {error}"
            self._housekeep()
            return FAILURE
        self._loop.run(self._outputs.publish, self._outputs.wants_images)
        self.get_logger().info(f"active: real-time factor {settings.real_time_factor:g}, tf: {settings.tf}")
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop time and remove the topics; the world stays as it is."""
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Forget the world."""
        self._forget()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and forget, from any state."""
        self._forget()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After a transition that raised: back to unconfigured, ready to be tried again."""
        self._forget()
        return SUCCESS

    def destroy_node(self) -> None:
        """End the world before what it publishes with goes away."""
        self._forget()
        super().destroy_node()

    def _stop(self) -> None:
        if self._loop is not None:
            self._loop.pause()
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        if self._outputs is not None:
            self._outputs.destroy()
        self._inputs, self._outputs = [], None

    def _forget(self) -> None:
        self._stop()
        if self._loop is not None:
            self._loop.stop()
        self._loop = self._failure = None

    # Commands --------------------------------------------------------------------------------------------------

    def _subscribe(self) -> list[Subscription]:
        overriding = QoSOverridingOptions.with_default_policies()
        # Best effort takes commands from either kind of publisher; they come again anyway.
        commands = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        return [
            self.create_subscription(Twist, "cmd_vel", self._on_command, commands, qos_overriding_options=overriding),
            self.create_subscription(PathMessage, "path", self._on_path, 1, qos_overriding_options=overriding),
        ]

    def _on_command(self, message: Twist) -> None:
        linear, turn = message.linear, message.angular.z
        self._ask(lambda world: world.vehicle.command(np.array([linear.x, linear.y, linear.z]), turn), "cmd_vel")

    def _on_path(self, message: PathMessage) -> None:
        try:
            frame = message.header.frame_id or MAP
            if frame != MAP:
                raise UserError(f"it is in frame '{frame}'; give it in '{MAP}'")
            poses = [conversions.matrix_of(item.pose) for item in message.poses]
        except UserError as error:
            self.get_logger().error(f"path refused: {error}")
            return
        if not poses:
            self._ask(lambda world: world.vehicle.command(np.zeros(3), 0.0), "path")
            return

        def fly(world: World) -> None:
            seconds = world.vehicle.fly_path(np.stack(poses))
            self.get_logger().info(f"flies a path of {counted(len(poses), 'pose')} in {seconds:.0f} s")

        self._ask(fly, "path")

    def _fly_plan(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._outputs is not None
        response.message = "flies to where the plan was left" if response.success else "the node is not active"
        if response.success:
            self._ask(lambda world: world.vehicle.fly_plan() and None, "fly_plan")
        return response

    def _ask(self, request: Any, what: str) -> None:
        def attempt(world: World) -> None:
            try:
                request(world)
            except UserError as error:
                if what == "cmd_vel":  # comes many times a second
                    self.get_logger().error(f"{what} refused: {error}", throttle_duration_sec=1.0)
                else:
                    self.get_logger().error(f"{what} refused: {error}")

        if self._loop is not None and self._outputs is not None:
            self._loop.ask(attempt)

    # Housekeeping ----------------------------------------------------------------------------------------------

    def _housekeep(self) -> None:
        """Once a second: take over a changed real-time factor, and tell how things stand."""
        self.settings.real_time_factor = self.get_parameter("real_time_factor").value
        if self._loop is not None:
            self._loop.pace.factor = self.settings.real_time_factor
        level, condition, message = self._situation()
        self._diagnostics.publish(level, message, self._values())
        if condition != "inactive":  # not active because nobody asked for it, or only just: nothing to say
            self._log.log(level, condition, message)

    def _situation(self) -> tuple[bytes, str, str]:
        """Level, condition and message."""
        loop = self._loop
        failure = loop.failure if loop is not None else None
        if self._failure is not None or failure is not None:
            said = self._failure or f"the world broke down: {type(failure).__name__}: {failure}"
            return status.ERROR, "failure", said
        if loop is None or loop.last is None or self._outputs is None:
            return status.OK, "inactive", "not active"
        asked, achieved = self.settings.real_time_factor, loop.pace.achieved()
        if asked > 0 and achieved is not None and achieved < SLOW * asked:
            why = f"a step with an image takes {loop.step_ms:.0f} ms" if loop.step_ms else "the machine is busy"
            return status.WARN, "slow", (
                f"cannot keep up: real-time factor {achieved:.2f} of {asked:g}; {why}; "
                "lower real_time_factor, or the world's camera.rate_hz, width or height"
            )  # fmt: skip
        if loop.last.notice is not None:
            return status.WARN, "held back", f"the drone {loop.last.notice}"
        return status.OK, loop.last.mode, f"flying: {loop.last.mode}"

    def _values(self) -> dict[str, Any]:
        """Figures for /diagnostics."""
        values: dict[str, Any] = {"real_time_factor_asked": self.settings.real_time_factor}
        loop = self._loop
        if loop is not None and loop.last is not None:
            achieved = loop.pace.achieved()
            values["real_time_factor"] = "unknown" if achieved is None else achieved
            values |= {"simulated_s": loop.last.t_s, "mode": loop.last.mode}
            values |= {"images_rendered": loop.images, "step_with_image_ms": loop.step_ms}
        return values

    def _refuse_while_configured(self, changed: list[Parameter]) -> SetParametersResult:
        fixed = set(definitions.flat_fields(SimSettings)) - set(LIVE)
        names = [parameter.name for parameter in changed if parameter.name in fixed]
        if self._loop is not None and names:
            reason = f"{', '.join(names)} can only change while the node is unconfigured; clean it up first"
            return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)
