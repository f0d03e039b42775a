"""What a monitor counts: rate, latency, delivery, and errors against recorded images. Numpy only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from pose2rgbd_ros.geometry.arrays import Float32, UInt8
from pose2rgbd_ros.geometry.camera import Camera, resample, resample_map
from pose2rgbd_ros.geometry.depth import resize_nearest


@dataclass
class Figures:
    """Counters of one run; all stamps in nanoseconds."""

    received: dict[int, float] = field(default_factory=dict)  # stamp of a rendered image -> latency in s
    received_depth: set[int] = field(default_factory=set)  # stamps of rendered depth images
    states: Counter[str] = field(default_factory=Counter)
    first_status: tuple[int, int] | None = None  # (stamp, frames rendered by then)
    last_status: tuple[int, int] | None = None
    rgb_mae_px: list[float] = field(default_factory=list)
    depth_mae: list[float] = field(default_factory=list)
    pair_offset_s: list[float] = field(default_factory=list)

    def status(self, stamp_ns: int, frames_rendered: int, state: str) -> None:
        """Take down the status that follows a rendered image."""
        self.states[state] += 1
        if (
            self.first_status is None or frames_rendered < self.first_status[1]
        ):  # also: the node was restarted
            self.first_status = (stamp_ns, frames_rendered)
        self.last_status = (stamp_ns, frames_rendered)

    def rate_hz(self) -> float:
        """Images per second between the first and the last, by their stamps."""
        return (len(self.received) - 1) / self.duration_s() if len(self.received) > 1 else 0.0

    def duration_s(self) -> float:
        """Time between the stamps of the first and the last image."""
        return (max(self.received) - min(self.received)) / 1e9 if self.received else 0.0

    def latency_ms(self, percentile: float) -> float:
        """Percentile of the time from TF stamp to receipt; NaN without images."""
        values = list(self.received.values())
        return float(np.percentile(values, percentile) * 1e3) if values else float("nan")

    def published(self) -> int:
        """How many images the node says it published between the first and the last status."""
        if self.first_status is None or self.last_status is None:
            return 0
        return self.last_status[1] - self.first_status[1]

    def delivered(self, stamps_ns: Iterable[int]) -> int:
        """How many of these stamps of received images lie between the first and the last status."""
        if self.first_status is None or self.last_status is None:
            return 0
        return sum(self.first_status[0] < stamp_ns <= self.last_status[0] for stamp_ns in stamps_ns)

    def summary(self) -> dict[str, Any]:
        """Everything, rounded, ready for YAML; absent figures are left out."""
        published, delivered = self.published(), self.delivered(self.received)
        depth_delivered = self.delivered(self.received_depth)
        values: dict[str, Any] = {
            "images": len(self.received),
            "duration_s": self.duration_s(),
            "rate_hz": self.rate_hz(),
            "latency_p50_ms": self.latency_ms(50),
            "latency_p95_ms": self.latency_ms(95),
            "latency_max_ms": self.latency_ms(100),
            "published": published,
            "delivered": delivered,
            "delivered_percent": 100 * delivered / published if published else float("nan"),
            "depth_delivered_percent": (
                100 * depth_delivered / published if published and self.received_depth else float("nan")
            ),
            "compared": len(self.pair_offset_s),
            "rgb_mae_px": _mean(self.rgb_mae_px),
            "depth_mae": _mean(self.depth_mae),
            "states": dict(self.states),
        }
        rounded = {
            key: round(value, 3) if isinstance(value, float) else value for key, value in values.items()
        }
        return {key: value for key, value in rounded.items() if value == value}  # without NaN


class Reframe:
    """Brings recorded images into the rendered camera, so that they can be compared pixel by pixel."""

    def __init__(self, source: Camera | None, target: Camera) -> None:
        self._target = target
        squeezed = source.resized(target.width, target.height) if source else None
        calibrated = source is not None and source.is_calibrated and target.is_calibrated
        self._map = None
        if calibrated and not _alike(squeezed, target):
            self._map = resample_map(source, target)  # type: ignore[arg-type]

    def rgb(self, image: UInt8) -> UInt8:
        """Colour uint8 (h, w, 3) as the target sees it; black where the source saw nothing."""
        if self._map is not None:
            return resample(image, self._map, nearest=False, fill=0)
        return np.asarray(
            cv2.resize(image, (self._target.width, self._target.height), interpolation=cv2.INTER_AREA)
        )

    def depth(self, depth: Float32) -> Float32:
        """Depth (h, w) as the target sees it, never blended; NaN where unknown."""
        if self._map is not None:
            return resample(depth, self._map, nearest=True, fill=np.nan)
        return resize_nearest(depth, self._target.width, self._target.height)


def rgb_mae_px(first: UInt8, second: UInt8) -> float:
    """Mean absolute difference in levels of 0..255."""
    return float(cv2.absdiff(first, second).mean())


def depth_mae(first: Float32, second: Float32) -> float:
    """Mean absolute difference where both are known, in their unit; NaN where they never are."""
    difference = np.abs(first - second)
    known = np.isfinite(difference)
    return float(difference[known].mean()) if known.any() else float("nan")


def _alike(first: Camera | None, second: Camera) -> bool:
    if first is None or first.distortion != second.distortion:
        return False
    ours, theirs = (np.array([camera.fx, camera.fy, camera.cx, camera.cy]) for camera in (first, second))
    return bool(np.all(np.abs(ours - theirs) < 0.5))


def _mean(values: list[float]) -> float:
    known = [value for value in values if value == value]
    return float(np.mean(known)) if known else float("nan")
