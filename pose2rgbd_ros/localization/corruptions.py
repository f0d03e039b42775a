"""Images as a failing camera gives them, to show and to measure what is rejected; nothing is fitted to them."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from pose2rgbd_ros.geometry.arrays import UInt8


def _black(rgb: UInt8) -> UInt8:
    """A covered lens: sensor noise of a grey level or two."""
    noise = np.random.default_rng(0).normal(2.0, 1.5, rgb.shape)
    return np.clip(noise, 0, 255).astype(np.uint8)


def _dark(rgb: UInt8) -> UInt8:
    return np.asarray(rgb * 0.2, np.uint8)


def _overexposed(rgb: UInt8) -> UInt8:
    return np.clip(rgb * 3.0 + 60.0, 0, 255).astype(np.uint8)


def _blurred(rgb: UInt8) -> UInt8:
    """Out of focus: a blur of 2 % of the image's width (standard deviation)."""
    return np.asarray(cv2.GaussianBlur(rgb, (0, 0), 0.02 * rgb.shape[1]), np.uint8)


def _moved(rgb: UInt8) -> UInt8:
    """Motion blur over 6 % of the width."""
    length = max(3, round(0.06 * rgb.shape[1]))
    kernel = np.full((1, length), 1.0 / length, np.float32)
    return np.asarray(cv2.filter2D(rgb, -1, kernel), np.uint8)


def _noise(rgb: UInt8) -> UInt8:
    return np.random.default_rng(0).integers(0, 256, rgb.shape, dtype=np.uint8)


def _upside_down(rgb: UInt8) -> UInt8:
    return np.ascontiguousarray(rgb[::-1])


CORRUPTIONS: dict[str, Callable[[UInt8], UInt8]] = {
    "black": _black,
    "dark": _dark,
    "overexposed": _overexposed,
    "out of focus": _blurred,
    "motion blur": _moved,
    "noise": _noise,
    "mirrored": _upside_down,
}
