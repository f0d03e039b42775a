"""The camera's image against memory: what has changed since the place was learned. Numpy and OpenCV alone.

the rendering at the found pose -> moved onto the camera's image (the pose is not exact)
                                -> given the camera's light (exposure, white balance)
the camera's image              -> as sharp as memory, which holds less detail
both -> by how much each spot leaves what the other holds near by -> against what is usual around: movers
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pose2rgbd_ros.geometry.arrays import Bool, Float32, UInt8
from pose2rgbd_ros.settings import setting

BLURS_PX = (0.0, 0.6, 0.9, 1.3, 1.8, 2.5, 3.5)  # how much more detail the camera may show than memory holds
SURROUNDINGS = 1 / 7  # of the width: what is usual is asked there, and is more than a mover takes up
USUAL_SHARE = 0.97  # differences above this quantile do not make anything usual
PEAK_SHARE = 0.2  # of its largest difference: there a patch ends
LEAST_SIDE_PX = 16  # of images that flow can be looked for in
THICKNESS_PX = 3  # thinner stripes are edges that do not quite meet


@dataclass
class ChangeSettings:
    """How the camera's image is compared with memory."""

    threshold: float = setting(
        13.0, "a patch is a change where it differs this many times more than is usual around it", ge=0.5, le=1000.0
    )
    edge: float = setting(4.0, "it extends as far as it differs this many times more", ge=0.1, le=1000.0)
    least_levels: float = setting(
        2.0, "what is usual is taken to be at least this, in levels of 0..255", ge=0.1, le=255.0
    )
    tolerance_px: int = setting(1, "memory may be this many pixels beside its place", ge=0, le=16)
    smoothing_px: float = setting(
        1.5, "differences are averaged over about this radius, in which noise cancels", ge=0.1, le=32.0
    )
    least_area_px: int = setting(12, "smaller patches are no change", ge=1, le=1_000_000)
    align_px: float = setting(
        8.0,
        "the rendering is moved by up to this many pixels (of an image 256 wide) onto the image; 0: not at all",
        ge=0.0,
        le=64.0,
    )


@dataclass(frozen=True, eq=False)
class Change:
    """difference: (H, W) float32, by how many times what is usual around the image leaves memory. mask: (H, W) bool,
    movers.

    reference: (H, W, 3) uint8, memory in the image's place and light: the view without movers. known: (H, W) bool,
        where memory shows anything.
    """

    difference: Float32
    mask: Bool
    reference: UInt8
    known: Bool

    def picture(self, rgb: UInt8) -> UInt8:
        """The image (H, W, 3) in grey, as dark as it was, with changes in its colours and outlined in red."""
        grey = cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        shown = np.where(self.mask[..., None], rgb, grey // 4 * 3 + 40).astype(np.uint8)
        around = cv2.dilate(self.mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & ~self.mask
        shown[around] = (255, 32, 32)
        return shown


def compare(rgb: UInt8, remembered: UInt8, known: Bool | None = None, settings: ChangeSettings | None = None) -> Change:
    """Compare an image (H, W, 3) with a rendering of the same size at its pose.

    known: (H, W) where the rendering shows the place; by default where it is not black.
    """
    settings = settings or ChangeSettings()
    shown = np.asarray(remembered.any(axis=-1) if known is None else known, np.bool_)
    if settings.align_px > 0 and min(shown.shape) >= LEAST_SIDE_PX:
        remembered, shown = aligned(rgb, remembered, shown, settings.align_px * rgb.shape[1] / 256)
    reference = relit(rgb, remembered, shown)
    softened = as_sharp(rgb, reference, shown)
    reference = relit(softened, remembered, shown)
    levels = apart(softened, reference, settings.tolerance_px, settings.smoothing_px)
    levels[~shown] = 0
    least = np.float32(settings.least_levels)
    difference = np.asarray(levels / np.maximum(usual(levels, shown), least), np.float32)
    mask = patches(difference, settings.threshold, settings.edge, settings.least_area_px)
    return Change(difference, mask, reference, shown)


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
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = search.calc(ours, theirs, np.zeros((*ours.shape, 2), np.float32))
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


def as_sharp(rgb: UInt8, reference: UInt8, known: Bool) -> UInt8:
    """The image (H, W, 3) with no more detail than memory holds: the blur by which it is most like it."""
    if not known.any():
        return rgb
    best, least = rgb, np.inf
    for sigma_px in BLURS_PX:
        blurred = rgb if sigma_px == 0 else np.asarray(cv2.GaussianBlur(rgb, (0, 0), sigma_px), np.uint8)
        off = cv2.absdiff(blurred, reference)[known].mean(axis=-1)
        error = float(np.minimum(off, np.quantile(off, 0.9)).mean())
        if error >= least:
            break
        best, least = blurred, error
    return best


def apart(rgb: UInt8, reference: UInt8, tolerance_px: int, smoothing_px: float) -> Float32:
    """By how many levels (H, W) the image leaves what memory holds within `tolerance_px`, or memory what the image
    holds.

    Both ways: something is there that was not, or is gone that was. With their signs the differences are averaged
        over a spot, where those of edges and texture cancel and those of a thing of another colour do not.
    """
    there, gone = _leaving(rgb, reference, tolerance_px), -_leaving(reference, rgb, tolerance_px)
    signed = cv2.GaussianBlur(np.where(np.abs(there) > np.abs(gone), there, gone), (0, 0), smoothing_px)
    return np.linalg.norm(signed, axis=-1).astype(np.float32)


def usual(levels: Float32, known: Bool) -> Float32:
    """The mean difference (H, W) around each pixel, without the few largest: memory is worse in some places than in
    others.
    """
    if not known.any():
        return levels
    side = max(3, round(levels.shape[1] * SURROUNDINGS))
    cap = float(np.quantile(levels[known], USUAL_SHARE))
    share = cv2.blur(known.astype(np.float32), (side, side))
    mean = cv2.blur(np.minimum(levels, np.float32(cap)), (side, side)) / np.maximum(share, np.float32(1e-3))
    return np.asarray(mean, np.float32)


def patches(difference: Float32, threshold: float, edge: float, least_area_px: int) -> Bool:
    """Where it is above `edge`, in patches (H, W) thick and large enough that are above `threshold` somewhere.

    A patch ends where the difference has fallen to a share of its peak: what is seen to differ was averaged over a
        spot.
    """
    square = np.ones((THICKNESS_PX, THICKNESS_PX), np.uint8)
    thick = cv2.morphologyEx((difference > edge).astype(np.uint8), cv2.MORPH_OPEN, square)
    count, labels, facts, _ = cv2.connectedComponentsWithStats(thick, connectivity=8)
    peak = np.zeros(count, np.float32)
    np.maximum.at(peak, np.asarray(labels, np.int64).ravel(), difference.ravel())
    kept = (peak > threshold) & (facts[:, cv2.CC_STAT_AREA] >= least_area_px)
    kept[0] = False
    mask: Bool = kept[labels] & (difference > PEAK_SHARE * peak[labels])
    return mask


def _leaving(image: UInt8, other: UInt8, tolerance_px: int) -> Float32:
    """Levels (H, W, 3), with their sign, outside the range that the other one has near by."""
    window = np.ones((2 * tolerance_px + 1,) * 2, np.uint8)
    low, high = cv2.erode(other, window), cv2.dilate(other, window)
    return cv2.subtract(image, high).astype(np.float32) - cv2.subtract(low, image).astype(np.float32)


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
