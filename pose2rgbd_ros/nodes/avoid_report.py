"""What the avoid node says about itself: the state and figures of ObstacleStatus, and the values for /diagnostics."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import numpy as np
from pose2rgbd.msg import ObstacleStatus

from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.nodes import diagnostics
from pose2rgbd_ros.nodes.conversions import to_stamp
from pose2rgbd_ros.obstacles.surroundings import Surroundings

RATE_WINDOW_S = 3.0
LEVELS = {
    ObstacleStatus.OK: diagnostics.OK,
    ObstacleStatus.REFUSED: diagnostics.ERROR,
    ObstacleStatus.ERROR: diagnostics.ERROR,
}


@dataclass(frozen=True)
class Situation:
    """A state of ObstacleStatus and the line that explains it."""

    state: int
    message: str = ""

    @property
    def level(self) -> bytes:
        """The level of DiagnosticStatus."""
        return LEVELS.get(self.state, diagnostics.WARN)

    @property
    def serves(self) -> bool:
        """Whether predicted depth is used in this state; otherwise everything it would say is unknown."""
        return self.state in (ObstacleStatus.OK, ObstacleStatus.UNKNOWN, ObstacleStatus.SENSOR_LOST)


@dataclass
class Tally:
    """Figures of the last images; written by the worker, read by the executor."""

    compute_ms: float = float("nan")
    latency_s: float = float("nan")
    published: int = 0
    known: float = float("nan")
    _at: deque[float] = field(default_factory=lambda: deque(maxlen=400))

    def served(self, known: float, compute_ms: float, latency_s: float) -> None:
        """Take down that what a depth image shows went out."""
        self.known, self.compute_ms, self.latency_s = known, compute_ms, latency_s
        self.published += 1
        self._at.append(monotonic())

    @property
    def rate_hz(self) -> float:
        """Images a second over the last seconds."""
        times = [at for at in list(self._at) if at > monotonic() - RATE_WINDOW_S]
        return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0


def message(
    situation: Situation,
    seen: Surroundings,
    stamp_ns: int,
    body_frame: str,
    R_level_body: Float64,
    latency_s: float,
) -> ObstacleStatus:
    """The status about the depth of `stamp_ns`; directions are turned from the level frame into the body's own."""
    found = ObstacleStatus(
        state=situation.state, message=situation.message, nearest_m=seen.nearest.distance_m,
        time_to_collision_s=seen.time_to_collision_s, clearance_below_m=seen.below_m,
        clearance_ahead_m=seen.ahead_m, speed_mps=seen.speed_mps, known=seen.known,
        sources=seen.sources, latency_s=latency_s,
    )  # fmt: skip
    direction = R_level_body.T @ np.asarray(seen.nearest.direction, np.float64)
    found.direction.x, found.direction.y, found.direction.z = direction.tolist()
    found.header.stamp, found.header.frame_id = to_stamp(stamp_ns), body_frame
    return found


def values(tally: Tally, **more: Any) -> dict[str, Any]:
    """The figures for /diagnostics."""
    return {
        "rate_hz": tally.rate_hz,
        "compute_ms": tally.compute_ms,
        "latency_s": tally.latency_s,
        "known_percent": round(100 * tally.known, 1),
        "images_served": tally.published,
        **more,
    }
