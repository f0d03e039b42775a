"""The camera's image against memory: what has changed since the place was learned. Numpy and OpenCV alone.

the rendering at the found pose -> moved onto the camera's image (the pose is not exact)
                                -> given the camera's light (exposure, white balance, a cloud)
-> how much each pixel differs from anything near its place in memory -> what is large enough: movers
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pose2rgbd_ros.geometry.arrays import Bool, Float32, UInt8
from pose2rgbd_ros.settings import setting


@dataclass
class ChangeSettings:
    """How the camera's image is compared with memory."""

    threshold: float = setting(
        5.0, "how many times the usual difference of this image makes a change", ge=0.5, le=100.0
    )
    least_levels: float = setting(
        12.0, "no smaller difference is a change, in levels of 0..255", ge=0.0, le=255.0
    )
    tolerance_px: int = setting(1, "memory may be this many pixels beside its place", ge=0, le=16)
    least_area_px: int = setting(12, "smaller patches are no change", ge=1, le=1_000_000)
    align_px: float = setting(
        8.0,
        "memory is moved by up to so many pixels (of an image 256 wide) onto the image; 0: not at all",
        ge=0.0,
        le=64.0,
    )


@dataclass(frozen=True, eq=False)
class Change:
    """difference: (H, W) float32, levels by which the image leaves what memory holds near by. mask: (H, W) bool, movers.

    reference: (H, W, 3) uint8, memory in the image's place and light: the view without movers. known: (H, W) bool, where
    memory shows anything.
    """

    difference: Float32
    mask: Bool
    reference: UInt8
    known: Bool

    def picture(self, rgb: UInt8) -> UInt8:
        """The image (H, W, 3) in grey, as dark as it was, with changes in its colours and outlined in red."""
        grey = cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        shown = np.where(self.mask[..., None], rgb, grey // 2 + 48).astype(np.uint8)
        around = cv2.dilate(self.mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & ~self.mask
        shown[around] = (255, 32, 32)
        return shown


def compare(
    rgb: UInt8, remembered: UInt8, known: Bool | None = None, settings: ChangeSettings | None = None
) -> Change:
    """Compare an image (H, W, 3) with a rendering of the same size at its pose.

    known: (H, W) where the rendering shows the place; by default where it is not black.
    """
    settings = settings or ChangeSettings()
    known = remembered.any(axis=-1) if known is None else known
    if settings.align_px > 0:
        remembered, known = aligned(rgb, remembered, known, settings.align_px * rgb.shape[1] / 256)
    reference = relit(rgb, remembered, known)
    difference = beyond(rgb, reference, settings.tolerance_px)
    difference[~known] = 0
    usual = float(np.median(difference[known])) if known.any() else 0.0
    limit = max(settings.threshold * usual, settings.least_levels)
    return Change(difference, patches(difference > limit, settings.least_area_px), reference, known)


def aligned(rgb: UInt8, remembered: UInt8, known: Bool, limit_px: float) -> tuple[UInt8, Bool]:
    """Memory moved onto the image by a smooth flow: a slightly wrong pose shifts near and far things differently.

    The flow of movers is voted down by that of their surroundings (a wide median); it never exceeds `limit_px`.
    """
    flow = smooth_flow(rgb, remembered, limit_px)
    height, width = known.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    x, y = x + flow[..., 0], y + flow[..., 1]
    moved = cv2.remap(remembered, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    seen = cv2.remap(known.astype(np.uint8), x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(moved, np.uint8), seen.astype(bool)


def smooth_flow(rgb: UInt8, remembered: UInt8, limit_px: float) -> Float32:
    """Where in memory each pixel of the image is found, as steps (H, W, 2) in x and y."""
    ours, theirs = (_structure(image) for image in (rgb, remembered))
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = search.calc(ours, theirs, None)
    height, width = ours.shape
    coarse = max(8, width // 32)
    small = (max(1, width // coarse), max(1, height // coarse))
    channels = []
    for axis in (0, 1):
        blocks = flow[: small[1] * coarse, : small[0] * coarse, axis]
        blocks = blocks.reshape(small[1], coarse, small[0], coarse).swapaxes(1, 2)
        medians = np.median(blocks.reshape(small[1], small[0], -1), axis=-1).astype(np.float32)
        medians = cv2.medianBlur(medians, 5)
        medians = cv2.GaussianBlur(medians, (0, 0), 1.5)
        channels.append(cv2.resize(medians, (width, height), interpolation=cv2.INTER_LINEAR))
    return np.clip(np.stack(channels, axis=-1), -limit_px, limit_px).astype(np.float32)


def relit(rgb: UInt8, remembered: UInt8, known: Bool) -> UInt8:
    """Memory in the light of the image: gain and offset of each channel, by a fit that leaves out what differs most."""
    if not known.any():
        return remembered
    relit_channels = []
    for channel in range(3):
        x = remembered[..., channel].astype(np.float32)
        a, b = _trimmed_line(x[known], rgb[..., channel][known].astype(np.float32))
        relit_channels.append(a * x + b)
    return np.clip(np.rint(np.stack(relit_channels, axis=-1)), 0, 255).astype(np.uint8)


def beyond(rgb: UInt8, reference: UInt8, tolerance_px: int) -> Float32:
    """By how many levels (H, W) the image leaves what memory holds within `tolerance_px`, or memory what the image holds.

    Both ways: a mover is there that was not, or something is gone that was. The largest of the channels counts.
    """
    window = np.ones((2 * tolerance_px + 1,) * 2, np.uint8)
    outside = _outside(rgb, reference, window)
    gone = _outside(reference, rgb, window)
    return np.maximum(outside, gone).max(axis=-1).astype(np.float32)


def patches(mask: Bool, least_area_px: int) -> Bool:
    """A mask without specks: closed over small gaps, patches below an area left out."""
    closed = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    _, labels, facts, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
    large = facts[:, cv2.CC_STAT_AREA] >= least_area_px
    large[0] = False
    kept: Bool = large[labels]
    return kept


def _outside(image: UInt8, other: UInt8, window: UInt8) -> Float32:
    low, high = cv2.erode(other, window), cv2.dilate(other, window)
    found: Float32 = np.maximum(cv2.subtract(image, high), cv2.subtract(low, image)).astype(np.float32)
    return found


def _structure(image: UInt8) -> UInt8:
    """Grey without slow changes of light, for matching."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    sigma = max(2.0, grey.shape[1] / 32)
    local = grey - cv2.GaussianBlur(grey, (0, 0), sigma)
    spread = np.sqrt(cv2.GaussianBlur(local * local, (0, 0), sigma)) + 4.0
    return np.clip(128 + 40 * local / spread, 0, 255).astype(np.uint8)


def _trimmed_line(x: Float32, y: Float32, rounds: int = 6) -> tuple[float, float]:
    """y = a x + b, least squares over the half that fits best, repeated."""
    a, b = 1.0, float(np.median(y - x))
    for _ in range(rounds):
        off = np.abs(y - a * x - b)
        near = off <= np.median(off)
        spread = float(np.var(x[near]))
        if spread < 1.0:
            return 1.0, float(np.median(y - x))
        a = float(np.clip(np.cov(x[near], y[near], bias=True)[0, 1] / spread, 0.2, 5.0))
        b = float(np.mean(y[near]) - a * np.mean(x[near]))
    return a, b
