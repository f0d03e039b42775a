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
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from std_srvs.srv import Trigger

from pose2rgbd_ros import settings as definitions
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.nodes.common.node import NOT_ACTIVE, OK, ManagedNode
from pose2rgbd_ros.nodes.common.status import NodeState
from pose2rgbd_ros.nodes.common.topics import subscribe
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
        """Simulated by wall time over the last seconds; None before there is enough to say."""
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


# The thread in which a simulated world lives: it makes it, steps it at its pace, and takes requests in between.


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


SLOW = 0.95  # of the real-time factor asked for: below that it is reported


class SimNode(ManagedNode[SimSettings]):
    """The world lives in a thread of its own, see SimLoop; the executor stays free for parameters and services.

    This node makes the simulated time and does not wait for it.
    """

    diagnostics_name = "simulator"
    fixed_while_configured = frozenset(definitions.flat_fields(SimSettings)) - set(LIVE)
    good_states = ("plan", "path", "command", "hover")

    def __init__(self, settings: SimSettings | None = None, **options: Any) -> None:
        super().__init__("sim", settings or SimSettings(), **options)
        self._flown = self.settings  # with what the model was trained in
        self._loop: SimLoop | None = None
        self._outputs: SimOutputs | None = None
        self._inputs: list[Subscription] = []
        self.create_service(Trigger, "~/fly_plan", self._fly_plan)

    # Lifecycle -------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """The world."""
        self._flown, said = world_of(self.settings)
        flown, city = self._flown, self._flown.city
        loop = SimLoop(lambda: make_world(flown), 1.0 / flown.clock_hz, RealTimePace(flown.real_time_factor))
        flight = loop.wait_made().flight
        self._loop = loop
        if said:
            self.get_logger().info(said)
        self.diagnostics.hardware_id = f"{flight.name} flight, city of seed {city.seed}"
        self.get_logger().info(
            f"made: {self.diagnostics.hardware_id}; {flight.duration_s:.0f} s, images of "
            f"{flown.width}x{flown.height} at {flown.camera.rate_hz:g} Hz"
        )

    def start(self) -> None:
        """Let time go on, publish, and listen to commands."""
        assert self._loop is not None
        flown, T_body_cam = self._flown, self._loop.wait_made().flight.T_body_cam
        self._outputs = SimOutputs(self, flown.image_camera(), flown.tf, T_body_cam, flown.gps.antenna_m)
        # Best effort takes commands from either kind of publisher; they come again anyway.
        commands = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._inputs = [
            subscribe(self, Twist, "cmd_vel", self._on_command, commands),
            subscribe(self, PathMessage, "path", self._on_path, QoSProfile(depth=1)),
        ]
        self._loop.run(self._outputs.publish, self._outputs.wants_images)
        self.get_logger().info(f"active: real-time factor {self.settings.real_time_factor:g}, tf: {flown.tf}")

    def stop(self) -> None:
        """Stop time and remove the topics; the world stays as it is."""
        if self._loop is not None:
            self._loop.pause()
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        if self._outputs is not None:
            self._outputs.destroy()
        self._inputs, self._outputs = [], None

    def forget(self) -> None:
        """The world."""
        if self._loop is not None:
            self._loop.stop()
        self._loop = None

    # Commands --------------------------------------------------------------------------------------------------

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
        response.message = "flies to where the plan was left" if response.success else NOT_ACTIVE
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

    # How it stands, and what changes it ---------------------------------------------------------------------------

    def state(self) -> NodeState:
        """What is flown, and whether the machine keeps up."""
        loop, asked = self._loop, self.settings.real_time_factor
        assert loop is not None
        if loop.failure is not None:
            return NodeState("ERROR", f"the world broke down: {type(loop.failure).__name__}: {loop.failure}")
        if loop.last is None:
            return NodeState(OK, "makes the first step")
        achieved = loop.pace.achieved()
        if asked > 0 and achieved is not None and achieved < SLOW * asked:
            why = f"a step with an image takes {loop.step_ms:.0f} ms" if loop.step_ms else "the machine is busy"
            return NodeState(
                "slow",
                f"cannot keep up: real-time factor {achieved:.2f} of {asked:g}; {why}; "
                "lower camera.rate_hz, width or height, or real_time_factor",
            )
        if loop.last.notice is not None:
            return NodeState("held back", f"the drone {loop.last.notice}")
        return NodeState(loop.last.mode, f"flying: {loop.last.mode}")

    def figures(self, state: NodeState) -> dict[str, Any]:
        """Time, and what it costs."""
        values: dict[str, Any] = {"real_time_factor_asked": self.settings.real_time_factor}
        loop = self._loop
        if loop is not None and loop.last is not None:
            achieved = loop.pace.achieved()
            values["real_time_factor"] = "unknown" if achieved is None else achieved
            values |= {"simulated_s": loop.last.t_s, "mode": loop.last.mode}
            values |= {"images_rendered": loop.images, "step_with_image_ms": loop.step_ms}
        return values

    def change(self, before: SimSettings) -> None:
        """The pace may change at any time."""
        if self._loop is not None:
            self._loop.pace.factor = self.settings.real_time_factor
