"""Optical flow of a stream of images: how fast each part of the picture moves.

Dense flow between successive images at a small size, averaged over the cells of a coarse grid. A minute at 15 Hz takes
some 400 kB, so a whole flight fits; what the picture as a whole does is fitted later (`flow_channels`).
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from pose2rgbd_ros.alignment.signals import SECOND
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import AnyArray, Bool, Float32, Float64, Int64, UInt8
from pose2rgbd_ros.geometry.depth import decode_file
from pose2rgbd_ros.settings import setting
from pose2rgbd_ros.streams.samples import ImageSample, compressed_size

ROWS, COLUMNS = 6, 8  # of cells
_LEAST_TEXTURE = 4.0  # squared grey levels a pixel: below, a cell shows nothing that could move
_REDUCED = {8: cv2.IMREAD_REDUCED_GRAYSCALE_8, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4, 2: cv2.IMREAD_REDUCED_GRAYSCALE_2}


@dataclass(frozen=True)
class FlowConfig:
    """How flow is measured."""

    width_px: int = setting(320, "images are reduced to about this width", ge=48, le=1024)
    max_rate_hz: float = setting(15.0, "images in between are skipped", ge=0.5, le=240.0)
    max_gap_s: float = setting(0.5, "no flow across a longer silence", ge=0.01)


@dataclass(frozen=True, eq=False)
class FlowSignal:
    """Flow of N pairs of images.

    `stamps_ns` (N,) int64, in the middle between the two images; `interval_s` (N,) between them; `cells` (N, ROWS,
    COLUMNS, 2) float32: right and down, pixels per second of a picture `width_px` wide; `weight` (N, ROWS, COLUMNS):
    how much texture there was, 0 none.
    """

    stamps_ns: Int64
    interval_s: Float64
    cells: Float32
    weight: Float32
    width_px: int
    height_px: int

    def __len__(self) -> int:
        return len(self.stamps_ns)

    @property
    def quality(self) -> Float64:
        """Share of the picture (N,) that had texture."""
        return np.asarray((self.weight > 0).mean(axis=(1, 2)), dtype=np.float64)

    def chosen(self, mask: Bool) -> FlowSignal:
        """The pairs of a mask (N,)."""
        return replace(
            self,
            stamps_ns=self.stamps_ns[mask],
            interval_s=self.interval_s[mask],
            cells=self.cells[mask],
            weight=self.weight[mask],
        )

    def in_cells(self, rows: slice, columns: slice) -> FlowSignal:
        """What a part of the picture shows: the other cells count as without texture."""
        weight = np.zeros_like(self.weight)
        weight[:, rows, columns] = self.weight[:, rows, columns]
        return replace(self, weight=weight)

    def coarser(self) -> FlowSignal:
        """The flow of two successive pairs joined into that of one, as of half as many images a second."""
        count = len(self) // 2 * 2
        first, second = slice(0, count, 2), slice(1, count, 2)
        a, b = (self.interval_s[part, None, None, None] for part in (first, second))
        stamps_ns = self.stamps_ns[first] + (self.stamps_ns[second] - self.stamps_ns[first]) // 2
        joined = replace(
            self,
            stamps_ns=stamps_ns,
            interval_s=(a + b).reshape(-1),
            cells=((a * self.cells[first] + b * self.cells[second]) / (a + b)).astype(np.float32),
            weight=np.minimum(self.weight[first], self.weight[second]),
        )
        apart_s = (self.stamps_ns[second] - self.stamps_ns[first]) / SECOND
        return joined.chosen(apart_s < 0.75 * joined.interval_s)  # no silence in between

    def shifted(self, offset_ns: int) -> FlowSignal:
        """The same with `offset_ns` added to all stamps."""
        return replace(self, stamps_ns=self.stamps_ns + offset_ns)


class FlowMeter:
    """Measures flow image by image. Keeps the last image and what it measured, `keep_s` back (None: all)."""

    def __init__(self, config: FlowConfig | None = None, keep_s: float | None = None) -> None:
        self.config = config or FlowConfig()
        self._keep_ns = None if keep_s is None else round(keep_s * SECOND)
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._flow.setUseSpatialPropagation(True)
        self._last: tuple[int, UInt8] | None = None
        self._size: tuple[int, int] | None = None
        self._stamps_ns, self._interval_s = array("q"), array("d")
        self._numbers = array("f")

    def __len__(self) -> int:
        return len(self._stamps_ns)

    def wants(self, stamp_ns: int) -> bool:
        """Whether an image of this stamp would be used: decode it only then."""
        least_ns = 0.9 * SECOND / self.config.max_rate_hz
        return self._last is None or abs(stamp_ns - self._last[0]) >= least_ns

    def add(self, stamp_ns: int, grey: UInt8) -> None:
        """Take an image (H, W) uint8. One that goes back in time begins anew; sizes may differ, shapes should not."""
        if not self.wants(stamp_ns):
            return
        if self._size is None:
            width = min(self.config.width_px, grey.shape[1])
            self._size = width, max(16, round(grey.shape[0] * width / grey.shape[1]))
        small = grey if grey.shape[::-1] == self._size else cv2.resize(grey, self._size, interpolation=cv2.INTER_AREA)
        last, self._last = self._last, (stamp_ns, np.asarray(small, dtype=np.uint8))
        if last is not None and 0 < stamp_ns - last[0] <= self.config.max_gap_s * SECOND:
            self._measure(*last, stamp_ns, np.asarray(small, dtype=np.uint8))

    def _measure(self, before_ns: int, before: UInt8, now_ns: int, now: UInt8) -> None:
        interval_s = (now_ns - before_ns) / SECOND
        flow = self._flow.calc(before, now, np.zeros((*now.shape, 2), np.float32))
        texture = _texture(before)
        texture[texture < _LEAST_TEXTURE] = 0.0
        cells: AnyArray = cv2.resize(
            np.dstack([flow * texture[..., None], texture]), (COLUMNS, ROWS), interpolation=cv2.INTER_AREA
        )
        weight = cells[..., 2:]
        cells[..., :2] /= np.maximum(weight, 1e-6) * interval_s
        self._stamps_ns.append((before_ns + now_ns) // 2)
        self._interval_s.append(interval_s)
        self._numbers.frombytes(np.ascontiguousarray(cells, dtype=np.float32).tobytes())
        if self._keep_ns is None:
            return
        most = int(1.2 * self._keep_ns / SECOND * self.config.max_rate_hz) + 8
        if len(self) > most or now_ns - self._stamps_ns[0] > 1.2 * self._keep_ns:
            self._forget(now_ns - self._keep_ns, len(self) - most)

    def _forget(self, before_ns: int, least: int) -> None:
        """Drop what is older, in pieces, so that it costs little; of stamps that make no sense the `least` first."""
        count = max(least, int(np.searchsorted(np.array(self._stamps_ns), before_ns)))
        del self._stamps_ns[:count], self._interval_s[:count], self._numbers[: count * ROWS * COLUMNS * 3]

    def signal(self) -> FlowSignal:
        """What was measured so far, in order of stamps."""
        stamps = np.array(self._stamps_ns, dtype=np.int64)
        order = np.argsort(stamps, kind="stable")
        cells = np.array(self._numbers, dtype=np.float32).reshape(-1, ROWS, COLUMNS, 3)[order]
        width, height = self._size or (self.config.width_px, self.config.width_px)
        return FlowSignal(
            stamps[order], np.array(self._interval_s)[order], cells[..., :2], cells[..., 2], width, height
        )


def grey_image(image: ImageSample, width_px: int) -> UInt8:
    """Grey pixels (H, W), at least `width_px` wide where the image is; JPEGs are decoded at reduced size.

    UserError for damaged images.
    """
    data = image.compressed_bytes
    if data is None:
        return np.asarray(cv2.cvtColor(image.rgb(), cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    return grey_file(data, width_px)


def grey_file(data: bytes, width_px: int) -> UInt8:
    """The same of a JPEG, PNG or other image file in memory."""
    found = compressed_size(data)
    factor = max((n for n in _REDUCED if found and found[1] // n >= width_px), default=1)
    grey: Any = decode_file(data, _REDUCED.get(factor, cv2.IMREAD_GRAYSCALE) | cv2.IMREAD_IGNORE_ORIENTATION)
    if grey is None:
        raise UserError(f"a compressed image of {len(data)} bytes cannot be decoded; it is damaged")
    return np.asarray(grey, dtype=np.uint8)


def _texture(grey: UInt8) -> Float32:
    """How well a pixel's motion can be known (H, W): the smaller eigenvalue of the mean outer product of gradients."""
    return np.asarray(cv2.cornerMinEigenVal(grey, 5, ksize=3), dtype=np.float32) * 255.0**2
