"""What arrives on one topic, in figures: rate, gaps between stamps, time from stamp to arrival."""

from __future__ import annotations

import math
import statistics
import time
from collections import deque

WINDOW_S = 3.0
KEPT = 4000  # arrivals looked at, however fast they come


class TopicWatch:
    """Figures of one topic. Belongs to the executor's thread; `forget_stamps` may be called from any."""

    def __init__(self) -> None:
        self.messages = 0
        self.lost = 0  # received, and dropped before they were looked at: the recorder was too slow
        self.longest_gap_s = 0.0
        self.began_s = time.monotonic()
        self.last_s: float | None = None
        self.published_s: float | None = None  # since when somebody publishes it, as long as nothing arrives
        self.last_stamp_ns = -1
        self._jumped = False
        self._recent: deque[tuple[float, float]] = deque(maxlen=KEPT)  # arrival in s, latency in s

    def saw(self, stamp_ns: int, received_ns: int, arrived_s: float) -> None:
        """Take down a message; a negative stamp is none."""
        self.messages += 1
        if self._jumped:
            self._jumped, self.last_stamp_ns, self.longest_gap_s = False, -1, 0.0
            self._recent.clear()
        self.last_s = arrived_s
        latency_s = math.nan
        if stamp_ns >= 0:
            if self.last_stamp_ns >= 0:
                self.longest_gap_s = max(self.longest_gap_s, (stamp_ns - self.last_stamp_ns) / 1e9)
            self.last_stamp_ns = stamp_ns
            if received_ns > 0:  # a simulated clock that nobody has set yet says 0
                latency_s = (received_ns - stamp_ns) / 1e9
        recent = self._recent
        recent.append((arrived_s, latency_s))
        while recent[0][0] < arrived_s - WINDOW_S:
            recent.popleft()

    def forget_stamps(self) -> None:
        """Time jumped: from the next message on gaps and latencies are counted anew."""
        self._jumped = True

    @property
    def silence_s(self) -> float:
        """Since the last message; -1 when none came yet."""
        return -1.0 if self.last_s is None else time.monotonic() - self.last_s

    @property
    def silent_for_s(self) -> float:
        """Since the last message, or since somebody listens."""
        return time.monotonic() - (self.began_s if self.last_s is None else self.last_s)

    def rate_hz(self) -> float:
        """Messages per second lately."""
        times = [at for at, _ in self._lately()]
        return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else 0.0

    def latency_s(self) -> float:
        """Median of the time from stamp to arrival lately; NaN: not known."""
        values = [latency for _, latency in self._lately() if not math.isnan(latency)]
        return statistics.median(values) if values else math.nan

    def _lately(self) -> list[tuple[float, float]]:
        start_s = time.monotonic() - WINDOW_S
        return [item for item in list(self._recent) if item[0] >= start_s]
