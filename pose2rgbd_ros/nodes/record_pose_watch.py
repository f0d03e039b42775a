"""Poses that arrive and are of no use: not numbers, or standing still while their twist says that one moves."""

from __future__ import annotations

import math
import statistics
from collections import deque

from pose2rgbd_ros.streams.samples import PoseSample

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
            return f"{len(seen) - len(good)} of its last {len(seen)} poses are of no use (NaN, or an orientation of zeros)"
        speeds = [speed for _, speed in good if math.isfinite(speed)]
        if len({numbers for numbers, _ in good}) > 1 or not speeds or statistics.median(speeds) < MOVES_MPS:
            return ""
        return (
            f"its pose never changes, though its twist says {statistics.median(speeds):.1f} m/s: it knows no pose; "
            "remap odom to one that does"
        )


def _is_pose(numbers: tuple[float, ...]) -> bool:
    return all(map(math.isfinite, numbers)) and any(numbers[3:])
