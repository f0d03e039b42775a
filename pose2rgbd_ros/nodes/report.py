"""What a render node knows about itself, as RenderStatus messages and diagnostics."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from pose2rgbd.msg import RenderStatus

from pose2rgbd_ros.nodes import diagnostics
from pose2rgbd_ros.nodes.conversions import to_stamp
from pose2rgbd_ros.rendering.guard import GuardAnswer

RATE_WINDOW_S = 3.0
LEAST_KNOWN = 0.05  # of a view; below it the model knows nothing worth showing
LEVELS = {
    RenderStatus.OK: diagnostics.OK,
    RenderStatus.NO_SUBSCRIBERS: diagnostics.OK,
    RenderStatus.WAITING_FOR_TF: diagnostics.WARN,
    RenderStatus.WAITING_FOR_CAMERA: diagnostics.WARN,
    RenderStatus.STALE_TF: diagnostics.WARN,
    RenderStatus.OUTSIDE_VOLUME: diagnostics.WARN,
    RenderStatus.TIME_JUMP: diagnostics.WARN,
    RenderStatus.ERROR: diagnostics.ERROR,
}


@dataclass(frozen=True)
class Situation:
    """A state of RenderStatus and the line that explains it."""

    state: int
    message: str

    @property
    def level(self) -> bytes:
        """The level of DiagnosticStatus."""
        return LEVELS[self.state]


def of_pose(check: GuardAnswer, age_s: float, max_age_s: float, known: float | None = None) -> Situation:
    """The situation as far as the pose at hand, its age and its picture tell it.

    known: share of the picture whose depth is known; None: not such a model; NaN: not rendered yet.
    """
    if abs(age_s) > max_age_s:
        when = f"{age_s:.1f} s old" if age_s > 0 else f"{-age_s:.1f} s in the future"
        hint = "is it still published, and by the same clock (use_sim_time)?"
        return Situation(RenderStatus.STALE_TF, f"the newest transform is {when}; {hint}")
    if not check.inside:
        text = f"outside the trained volume, depth is unknown: {check.reason}"
        return Situation(RenderStatus.OUTSIDE_VOLUME, text)
    if known is not None and known < LEAST_KNOWN:
        text = f"depth is known in {known:.0%} of the view: the camera looks at what was never seen, or is inside something"
        return Situation(RenderStatus.OUTSIDE_VOLUME, text)
    return Situation(RenderStatus.OK, "")


class Report:
    """Figures of the rendering, written by the worker and read by the executor."""

    def __init__(
        self, model: str = "", backend: str = "", metric_depth: bool = False, guard_limit: float = math.nan
    ) -> None:
        self._lock = threading.Lock()
        self._model = {"model": model, "backend": backend, "metric_depth": metric_depth}
        self._published_at: deque[float] = deque()
        self._check = GuardAnswer(False, math.nan, guard_limit, "")  # no pose yet
        self._tf_age_s = self._render_ms = math.nan
        self._rendered = 0
        self.known: float | None = None  # share of the last picture with known depth
        self.skipped = 0  # poses overtaken by a newer one
        self.jumps = 0  # times the clock or TF went back

    def pose(self, check: GuardAnswer, tf_age_s: float) -> None:
        """Take down the pose at hand."""
        with self._lock:
            self._check, self._tf_age_s = check, tf_age_s

    def published(self, is_new: bool, render_ms: float | None) -> None:
        """Take down that images went out: of a new stamp or not, rendered for it (`render_ms`) or not (None)."""
        with self._lock:
            if is_new:
                self._rendered += 1
                self._published_at.append(time.monotonic())
            self._render_ms = self._render_ms if render_ms is None else render_ms

    @property
    def silent_for_s(self) -> float:
        """Seconds since images went out, infinite if none did lately."""
        with self._lock:
            return time.monotonic() - self._published_at[-1] if self._published_at else math.inf

    def message(
        self, situation: Situation, stamp_ns: int, frame_id: str, check: GuardAnswer | None = None
    ) -> RenderStatus:
        """The status about the images of `stamp_ns`; `check` is that of the newest pose unless given."""
        with self._lock:
            check = check or self._check
            message = RenderStatus(
                state=situation.state, message=situation.message, **self._model, **_guarded(check),
                distance_to_training_m=check.distance_m, heading_to_training_deg=check.heading_deg,
                known=math.nan if self.known is None else self.known,
                tf_age_s=self._tf_age_s, render_ms=self._render_ms, rate_hz=self._rate_hz(),
                frames_rendered=self._rendered, frames_skipped=self.skipped,
            )  # fmt: skip
        message.header.stamp, message.header.frame_id = to_stamp(stamp_ns), frame_id
        return message

    def values(self, message: RenderStatus) -> dict[str, Any]:
        """The figures for /diagnostics."""
        names = ("model", "backend", "metric_depth", "rate_hz", "render_ms", "tf_age_s", "inside_volume",
                 "distance_to_training_m", "heading_to_training_deg", "calibrated", "guard_score", "guard_limit",
                 "frames_rendered", "frames_skipped")  # fmt: skip
        figures = {**{name: getattr(message, name) for name in names}, "time_jumps": self.jumps}
        return figures if self.known is None else {**figures, "known_percent": round(100 * self.known, 1)}

    def _rate_hz(self) -> float:
        times = self._published_at
        while times and times[0] < time.monotonic() - RATE_WINDOW_S:
            times.popleft()
        return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0


def _guarded(check: GuardAnswer) -> dict[str, Any]:
    """What the status says of the guard. Uncalibrated, inside_volume is nearness, whether depth hangs on it or not."""
    return {
        "inside_volume": check.inside if check.is_calibrated else check.is_near,
        "calibrated": check.is_calibrated,
        "guard_score": check.score,
        "guard_limit": check.limit,
    }
