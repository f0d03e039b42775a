"""What became of the images of one camera: every one is a frame, a reject with its reason, or still waiting."""

from __future__ import annotations

import statistics
import threading
import time
from collections import Counter, deque

LATENCY_WINDOW_S = 3.0


class Tally:
    """Counts of one camera in one recording; safe from any thread. `images == frames + all rejects + waiting`, always."""

    def __init__(self, limit: int) -> None:
        self._lock = threading.Lock()
        self._limit = limit
        self.images = self.frames = 0
        self.rejects: Counter[str] = Counter()
        self.details: dict[str, str] = {}
        self._latencies: deque[tuple[float, float]] = deque(maxlen=1000)  # steady time, latency in s

    @property
    def waiting(self) -> int:
        """Images received that are neither frame nor reject yet."""
        with self._lock:
            return self._waiting()

    def offer(self, refuse: str | None = None) -> bool:
        """Count an image that has arrived; whether there is room for it. `refuse`: a reason to reject it at once."""
        with self._lock:
            self.images += 1
            reason = refuse or ("queue_full" if self._waiting() > self._limit else None)
            if reason is not None:
                self.rejects[reason] += 1
            return reason is None

    def frame(self, arrived_s: float) -> None:
        """An image that arrived at this steady time is a frame on disk."""
        now_s = time.monotonic()
        with self._lock:
            self.frames += 1
            self._latencies.append((now_s, now_s - arrived_s))

    def reject(self, reason: str, detail: str = "") -> None:
        """An image that was let in gives no frame."""
        with self._lock:
            self.rejects[reason] += 1
            if detail:
                self.details[reason] = detail

    def snapshot(self) -> tuple[int, int, dict[str, int], int]:
        """Images, frames, rejects by reason and images waiting, all of one moment."""
        with self._lock:
            return self.images, self.frames, dict(self.rejects), self._waiting()

    def latencies_s(self) -> list[float]:
        """From arrival to being on disk, of the frames of the last seconds."""
        start_s = time.monotonic() - LATENCY_WINDOW_S
        with self._lock:
            return [latency for at, latency in self._latencies if at >= start_s]

    def _waiting(self) -> int:
        return self.images - self.frames - sum(self.rejects.values())


def median_latency_s(tallies: list[Tally]) -> float:
    """Of all cameras; NaN without frames lately."""
    values = [value for tally in tallies for value in tally.latencies_s()]
    return statistics.median(values) if values else float("nan")
