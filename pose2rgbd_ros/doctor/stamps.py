"""How regular a stream of messages is, by stamps and reception: rate, gaps, losses, jumps of the clock, delays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pose2rgbd_ros.convert.clocks import StampLog, find_jumps
from pose2rgbd_ros.geometry.arrays import Float64, Int64

SECOND_NS = 1_000_000_000
# An interval of this many usual ones is a gap; the messages that are missing in it were not lost one by one.
GAP_INTERVALS = 10.0
# Intervals scatter by less than this part of the usual one (median) where messages come at a rate.
_REGULAR = 0.3
_TREND_PARTS = 10  # of the recording, between whose first and last delays are compared


@dataclass(frozen=True)
class Regularity:
    """Of one stream of N messages.

    Attributes:
        interval_s: the usual one between stamps; NaN of fewer than two messages.
        jitter: how intervals scatter, as a part of the usual one (median absolute deviation).
        lost: messages that are missing one by one among regular ones; 0 where nothing is regular.
        gaps: (seconds after the first stamp, length in seconds) of each silence, by stamp.
        repeated: messages with the stamp of the one before.
        backwards: messages with a stamp before that of the one before, by less than a jump.
        jumps_s: by how much the stamping clock was set, at each time it was.
        late_s: median of the reception after the stamp; `late_growth_s` how much larger it is at the end than at the
            beginning; `late_spread_s` from its 5th to its 95th percentile.
        unstamped: messages whose header stamp is 0.
        received_stamps: the share of messages stamped within 0.2 ms of their reception.
    """

    count: int
    duration_s: float
    interval_s: float
    jitter: float
    lost: int
    gaps: tuple[tuple[float, float], ...]
    repeated: int
    backwards: int
    jumps_s: tuple[float, ...]
    late_s: float
    late_growth_s: float
    late_spread_s: float
    unstamped: int
    received_stamps: float

    @property
    def rate_hz(self) -> float:
        """The usual rate."""
        return 1.0 / self.interval_s if self.interval_s > 0 else float("nan")

    @property
    def longest_gap_s(self) -> float:
        """The longest silence; the usual interval where there was none."""
        return max((length for _, length in self.gaps), default=self.interval_s)

    @property
    def lost_share(self) -> float:
        """Of the messages that should be there."""
        return self.lost / (self.count + self.lost) if self.count else 0.0


def regularity(header_ns: Int64, received_ns: Int64, least_gap_s: float = 0.5) -> Regularity:
    """Of messages in the order of their reception; a header stamp of 0 counts as the reception, as converting does.

    Args:
        header_ns, received_ns: (N,) int64.
        least_gap_s: shorter silences are no gaps.
    """
    count = len(header_ns)
    unstamped = int(np.count_nonzero(header_ns == 0))
    stamps = np.where(header_ns == 0, received_ns, header_ns)
    log = StampLog(stamps, received_ns)
    jumps = find_jumps(log) if count > 2 else np.zeros(0, np.int64)
    step_ns = np.diff(stamps)
    inside = np.ones(len(step_ns), dtype=bool)
    inside[jumps - 1] = False
    forward_s = step_ns[inside & (step_ns > 0)] / SECOND_NS
    interval_s = float(np.median(forward_s)) if len(forward_s) else float("nan")
    jitter = float(np.median(np.abs(forward_s - interval_s)) / interval_s) if len(forward_s) else 0.0
    ordered = np.sort(stamps if not len(jumps) else received_ns)  # over jumps only the recorder knows what was silent
    steps_s = np.diff(ordered) / SECOND_NS
    limit_s = max(least_gap_s, GAP_INTERVALS * interval_s) if np.isfinite(interval_s) else np.inf
    silent = np.flatnonzero(steps_s > limit_s)
    late_s = (received_ns - stamps) / SECOND_NS
    return Regularity(
        count=count,
        duration_s=float(ordered[-1] - ordered[0]) / SECOND_NS if count else 0.0,
        interval_s=interval_s,
        jitter=jitter,
        lost=_lost(steps_s, interval_s, limit_s) if jitter < _REGULAR else 0,
        gaps=tuple((float(ordered[i] - ordered[0]) / SECOND_NS, float(steps_s[i])) for i in silent),
        repeated=int(np.count_nonzero(step_ns == 0)),
        backwards=int(np.count_nonzero(inside & (step_ns < 0))),
        jumps_s=tuple(float(log.early_ns[i] - log.early_ns[i - 1]) / SECOND_NS for i in jumps),
        late_s=float(np.median(late_s)) if count else float("nan"),
        late_growth_s=_growth(late_s) if not len(jumps) else 0.0,
        late_spread_s=float(np.ptp(np.percentile(late_s, [5, 95]))) if count and not len(jumps) else 0.0,
        unstamped=unstamped,
        received_stamps=float(np.mean(np.abs(late_s) < 2e-4)) if count else 0.0,
    )


def _lost(steps_s: Float64, interval_s: float, limit_s: float) -> int:
    """How many messages are missing one by one: intervals that are whole multiples of the usual one."""
    if not interval_s > 0:
        return 0
    parts = steps_s[steps_s <= limit_s] / interval_s
    missing = np.rint(parts) - 1
    return int(missing[(missing > 0) & (np.abs(parts - np.rint(parts)) < 0.3)].sum())


def _growth(late_s: Float64) -> float:
    """By how much later messages are received in the last part of the recording than in the first."""
    if len(late_s) < 2 * _TREND_PARTS:
        return 0.0
    part = len(late_s) // _TREND_PARTS
    return float(np.median(late_s[-part:]) - np.median(late_s[:part]))
