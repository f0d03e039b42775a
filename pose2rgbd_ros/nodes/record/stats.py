"""What arrives on one topic, in figures: rate, gaps between stamps, time from stamp to arrival."""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections import Counter, deque

from pose2rgbd_ros.streams.samples import PoseSample

# Poses that arrive and are of no use: not numbers, or standing still while their twist says that one moves.


WINDOW = 50  # poses looked at
FEWEST = 10
MOVES_MPS = 0.5


class PoseWatch:
    """Looks at the last poses of one topic. The worker feeds it; any thread may ask."""

    def __init__(self) -> None:
        self._seen: deque[tuple[tuple[float, ...], float]] = deque(maxlen=WINDOW)  # numbers, speed

    def saw(self, pose: PoseSample, speed_mps: float) -> None:
        """Take down a pose, and the speed that its twist says (NaN: none)."""
        self._seen.append(((*map(float, pose.position_m), *map(float, pose.quat_xyzw)), speed_mps))

    def problem(self) -> str:
        """What is the matter in one line, "" for nothing."""
        seen = list(self._seen)
        if len(seen) < FEWEST:
            return ""
        good = [(numbers, speed) for numbers, speed in seen if _is_pose(numbers)]
        if 2 * len(good) < len(seen):
            return (
                f"{len(seen) - len(good)} of its last {len(seen)} poses are of no use (NaN, or an orientation of zeros)"
            )
        speeds = [speed for _, speed in good if math.isfinite(speed)]
        if len({numbers for numbers, _ in good}) > 1 or not speeds or statistics.median(speeds) < MOVES_MPS:
            return ""
        return (
            f"its pose never changes, though its twist says {statistics.median(speeds):.1f} m/s: it knows no pose; "
            "remap odom to one that does"
        )


def _is_pose(numbers: tuple[float, ...]) -> bool:
    return all(map(math.isfinite, numbers)) and any(numbers[3:])


# What became of the images of one camera: every one is a frame, a reject with its reason, or still waiting.


LATENCY_WINDOW_S = 3.0


class Stats:
    """Counts of one camera in one recording; safe from any thread. `images == frames + all rejects + waiting`,
    always.
    """

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


def median_latency_s(tallies: list[Stats]) -> float:
    """Of all cameras; NaN without frames lately."""
    values = [value for tally in tallies for value in tally.latencies_s()]
    return statistics.median(values) if values else float("nan")


WINDOW_S = 3.0
KEPT = 4000  # arrivals looked at, however fast they come


class TopicWatch:
    """Figures of one topic. Belongs to the executor's thread; `forget_stamps` may be called from any."""

    def __init__(self) -> None:
        self.messages = 0
        self.lost = 0  # received, and dropped before they were looked at: the recorder was too slow
        self.longest_gap_s = 0.0
        self.last_s: float | None = None
        self.published_s: float | None = None  # since when it has a publisher, as long as nothing arrives
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
