"""Depth images as files: 16 bit PNG counts or 32 bit float TIFF, chosen per dataset."""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import Literal

import cv2
import numpy as np

from pose2rgbd_ros.dataset.meta import DepthMeta
from pose2rgbd_ros.dataset.png_files import encode_png
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import depth as rules
from pose2rgbd_ros.geometry.arrays import AnyArray, Float32, UInt16
from pose2rgbd_ros.streams.samples import DepthSample

DepthFormat = Literal["auto", "mm", "cm", "float"]
UNITS_M = {"mm": 0.001, "cm": 0.01}
# "auto": the first known depths decide, each unit holding what it can (65.5 m, 655 m) with a little to spare.
AUTO_REACH_M = {"mm": 60.0, "cm": 600.0}

_TIFF = [
    cv2.IMWRITE_TIFF_COMPRESSION,
    cv2.IMWRITE_TIFF_COMPRESSION_ADOBE_DEFLATE,
    cv2.IMWRITE_TIFF_PREDICTOR,
    cv2.IMWRITE_TIFF_PREDICTOR_FLOATINGPOINT,
]


class DepthEncoder:
    """Turns depth images into files of one dataset, and decides their unit where that was left open."""

    def __init__(self, meta: DepthMeta, depth_format: DepthFormat = "auto") -> None:
        """`meta.storage` other than "undecided" (a resumed dataset) overrides `depth_format`."""
        if depth_format not in ("auto", *UNITS_M, "float"):
            raise UserError(f"depth format {depth_format!r}; choose one of: auto, mm, cm, float")
        self.meta = meta
        self.too_far_pixels = 0  # known depths that the fixed unit could not hold
        self._counting = Lock()  # encode may run in several threads once the unit is decided
        self._lossless = depth_format == "auto"
        if meta.storage == "undecided":
            if meta.kind == "relative" or depth_format == "float":
                meta.storage = "float"
            elif depth_format in UNITS_M:
                meta.storage, meta.unit_m = "counts", UNITS_M[depth_format]

    def encode(self, depth: DepthSample | AnyArray) -> tuple[str, bytes]:
        """Suffix and contents of the file of one image: a sample, or metres (H, W) with NaN unknown."""
        counts = depth.counts if isinstance(depth, DepthSample) else None
        unit_m = depth.unit_m if isinstance(depth, DepthSample) else None
        values = rules.known(depth.depth_m if isinstance(depth, DepthSample) else depth)
        if self.meta.storage == "undecided":
            self._decide(values, unit_m if counts is not None else None)
        if self.meta.storage == "float":
            return ".tiff", encode_float(values)
        if counts is not None and unit_m == self.meta.unit_m:
            file = depth.png if isinstance(depth, DepthSample) else None
            return ".png", file or encode_counts(counts)
        if (
            self.meta.unit_m is None
        ):  # undecided still: nothing known in the image, and 0 means that in every unit
            return ".png", encode_counts(np.zeros(values.shape, np.uint16))
        too_far = int((values > (rules.MAX_COUNT + 0.5) * self.meta.unit_m).sum())
        if too_far and self._lossless:
            return ".tiff", encode_float(values)
        with self._counting:
            self.too_far_pixels += too_far
        return ".png", encode_counts(rules.to_counts(values, self.meta.unit_m))

    def _decide(self, values: Float32, count_unit_m: float | None) -> None:
        if count_unit_m is not None:
            self.meta.storage, self.meta.unit_m = "counts", count_unit_m
        elif np.isfinite(values).any():
            farthest = float(np.nanmax(values))
            fitting = [name for name, reach_m in AUTO_REACH_M.items() if farthest <= reach_m]
            if fitting:
                self.meta.storage, self.meta.unit_m = "counts", UNITS_M[fitting[0]]
            else:
                self.meta.storage = "float"


def encode_counts(counts: UInt16) -> bytes:
    """16 bit PNG of counts (H, W)."""
    return encode_png(np.asarray(counts, dtype=np.uint16))


def encode_float(depth: Float32) -> bytes:
    """Deflated 32 bit float TIFF of depth (H, W), lossless."""
    return _encode(".tiff", np.ascontiguousarray(depth, dtype=np.float32), _TIFF)


def read_depth(path: Path, meta: DepthMeta) -> Float32:
    """Depth (H, W) float32 of a file, NaN unknown. UserError when it is missing, damaged or not what `meta` says."""
    image = read_image(path, cv2.IMREAD_UNCHANGED)
    if image.ndim == 2 and image.dtype == np.float32:
        return rules.known(image)
    if image.ndim == 2 and image.dtype == np.uint16:
        if meta.unit_m is not None:
            return rules.from_counts(image, meta.unit_m)
        if not image.any():  # written before a unit was decided; nothing known is the same in every unit
            return np.full(image.shape, np.nan, np.float32)
    raise UserError(
        f"{path} holds {image.dtype} pixels of shape {image.shape}, which does not fit a dataset of "
        f"{meta.kind} depth stored as {meta.storage}; convert the recording again"
    )


def read_image(path: Path, flags: int) -> AnyArray:
    """An image file, as OpenCV decodes it with `flags`. UserError when it is missing or damaged."""
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); restore it or convert again") from error
    image = cv2.imdecode(data, flags) if data.size else None
    if image is None:
        raise UserError(f"{path} is not a readable image ({data.size} bytes); restore it or convert again")
    return image


def _encode(suffix: str, image: AnyArray, parameters: list[int]) -> bytes:
    done, data = cv2.imencode(suffix, image, parameters)
    if not done:
        raise UserError(f"a depth image of shape {image.shape} cannot be written as {suffix[1:].upper()}")
    return data.tobytes()
