"""The thread in which a simulated world lives: it makes it, steps it at its pace, and takes requests in between."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from pose2rgbd_ros.nodes.pace import RealTimePace
from pose2rgbd_ros.sim.world import Step, World

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
