"""Simulated time against the wall: waits for it, and measures how fast it really runs."""

from __future__ import annotations

import threading
import time
from collections import deque

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
