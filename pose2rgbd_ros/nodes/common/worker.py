"""One worker thread with room for one job: slow work never blocks the executor, and only the newest pose counts."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from rclpy.task import Future

from pose2rgbd_ros.errors import UserError

Job = TypeVar("Job")
Answer = TypeVar("Answer")
_Call = tuple[Callable[[], object], Future, Callable[[], None]]


class LatestWorker(Generic[Job]):
    """Runs `work(job)` in a thread of its own for the newest job offered; older ones still waiting are dropped.

    Calls given to :meth:`call` are never dropped: they run before the waiting job, in order; those `behind` the jobs
    take turns with them, one and one. An exception of `work` goes to `on_error` and the thread lives on.
    """

    def __init__(self, work: Callable[[Job], None], on_error: Callable[[Exception], None]) -> None:
        self._work = work
        self._on_error = on_error
        self._changed = threading.Condition()
        self._slot: list[Job] = []
        self._calls: deque[_Call] = deque()
        self._behind: deque[_Call] = deque()
        self._job_had_its_turn = False
        self._stopping = False
        self.overtaken = 0  # jobs replaced by a newer one before they began
        self._thread = threading.Thread(target=self._run, name="pose2rgbd-worker", daemon=True)
        self._thread.start()

    def offer(self, job: Job) -> None:
        """Make `job` the next to be done."""
        with self._changed:
            self.overtaken += len(self._slot)
            self._slot = [job]
            self._changed.notify()

    def call(self, function: Callable[[], Answer], wake: Callable[[], None], behind: bool = False) -> Future:
        """Run `function` in the worker; the future may be awaited in an executor, which `wake` is to rouse.

        With `behind` a job waits for one such call at most, however many there are: for long work done in parts.
        """
        future = Future()
        with self._changed:
            if self._stopping:
                future.set_exception(UserError("the node was deactivated"))
                return future
            (self._behind if behind else self._calls).append((function, future, wake))
            self._changed.notify()
        return future

    def stop(self) -> None:
        """End the thread once the job at hand is done; waiting calls fail, a waiting job is forgotten."""
        with self._changed:
            self._stopping = True
            self._slot = []
            abandoned = [*self._calls, *self._behind]
            self._calls.clear()
            self._behind.clear()
            self._changed.notify()
        for _, future, wake in abandoned:
            future.set_exception(UserError("the node was deactivated"))
            wake()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._slot or self._calls or self._behind)
                if self._stopping:
                    return
                call, job = self._next()
            if call:
                _answer(*call)
            else:
                self._attempt(job)  # type: ignore[arg-type]

    def _next(self) -> tuple[_Call | None, Job | None]:
        """A call to answer, or else a job to do."""
        if self._calls:
            return self._calls.popleft(), None
        if self._behind and (self._job_had_its_turn or not self._slot):
            self._job_had_its_turn = False
            return self._behind.popleft(), None
        self._job_had_its_turn = True
        return None, self._slot.pop()

    def _attempt(self, job: Job) -> None:
        try:
            self._work(job)
        except Exception as error:
            self._on_error(error)


def _answer(function: Callable[[], object], future: Future, wake: Callable[[], None]) -> None:
    try:
        future.set_result(function())
    except Exception as error:
        future.set_exception(error)
    wake()
