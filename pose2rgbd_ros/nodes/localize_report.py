"""What the localize node says about itself: the state and figures of LocalizationStatus, and the values for /diagnostics."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from pose2rgbd.msg import LocalizationStatus

from pose2rgbd_ros.geometry.arrays import UInt8
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.localization.estimate import Estimate
from pose2rgbd_ros.nodes import diagnostics
from pose2rgbd_ros.nodes.conversions import to_stamp

RATE_WINDOW_S = 3.0
LEVELS = {LocalizationStatus.OK: diagnostics.OK, LocalizationStatus.ERROR: diagnostics.ERROR}


@dataclass(frozen=True)
class Situation:
    """A state of LocalizationStatus and the line that explains it."""

    state: int
    message: str = ""

    @property
    def level(self) -> bytes:
        """The level of DiagnosticStatus; a pose that comes with a remark is a warning."""
        if self.state == LocalizationStatus.OK and self.message:
            return diagnostics.WARN
        return LEVELS.get(self.state, diagnostics.WARN)


@dataclass(frozen=True, eq=False)
class Located:
    """What was found for the image `rgb` of `stamp_ns`, taken by `camera` in `frame_id`, and in what time."""

    estimate: Estimate
    stamp_ns: int
    frame_id: str
    regress_ms: float = math.nan
    refine_ms: float = 0.0
    rgb: UInt8 | None = None
    camera: Camera | None = None


class Tally:
    """Figures of the last images; all methods belong to the executor's thread."""

    def __init__(self, model: str = "") -> None:
        self.model = model
        self.located = self.rejected = self.skipped = self.jumps = 0
        self.without_transform = 0  # poses given up, for it was not known where the body is
        self.last: Located | None = None
        self.latency_s = math.nan
        self._at: deque[float] = deque()
        self._told_at = -math.inf

    def told(self, located: Located, latency_s: float, published: bool) -> None:
        """Take down what was found for an image, how long after its stamp, and whether its pose was published."""
        self.located += published
        self.rejected += not located.estimate.accepted
        self.last, self.latency_s, self._told_at = located, latency_s, time.monotonic()
        if published:
            self._at.append(self._told_at)

    @property
    def silent_for_s(self) -> float:
        """Seconds since an image was looked at."""
        return time.monotonic() - self._told_at

    def message(self, situation: Situation, stamp_ns: int = 0, frame_id: str = "") -> LocalizationStatus:
        """The status, with the figures of the last image looked at."""
        last = self.last
        found = last.estimate if last is not None else Estimate(None)
        message = LocalizationStatus(
            state=situation.state, message=situation.message, model=self.model,
            score=found.score, limit=found.limit, verification=found.verification, refined=found.refined,
            position_sigma_m=found.position_sigma_m, rotation_sigma_deg=float(np.degrees(found.rotation_sigma_rad)),
            latency_s=self.latency_s, rate_hz=self._rate_hz(),
            regress_ms=last.regress_ms if last else math.nan, refine_ms=last.refine_ms if last else math.nan,
            images_located=self.located, images_rejected=self.rejected, images_skipped=self.skipped,
        )  # fmt: skip
        message.header.stamp, message.header.frame_id = to_stamp(stamp_ns), frame_id
        return message

    def values(self, message: LocalizationStatus, **more: Any) -> dict[str, Any]:
        """The figures for /diagnostics."""
        names = ("model", "rate_hz", "latency_s", "regress_ms", "refine_ms", "score", "limit", "verification",
                 "position_sigma_m", "rotation_sigma_deg", "images_located", "images_rejected",
                 "images_skipped")  # fmt: skip
        own = {"poses_without_transform": self.without_transform, "time_jumps": self.jumps}
        return {**{name: getattr(message, name) for name in names}, **own, **more}

    def _rate_hz(self) -> float:
        while self._at and self._at[0] < time.monotonic() - RATE_WINDOW_S:
            self._at.popleft()
        return (len(self._at) - 1) / (self._at[-1] - self._at[0]) if len(self._at) > 1 else 0.0
