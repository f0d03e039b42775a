"""Frames between two recorded ones without any model: what synthesised ones have to beat."""

from __future__ import annotations

import cv2
import numpy as np

from pose2rgbd_ros.geometry.arrays import AnyArray, UInt8
from pose2rgbd_ros.geometry.camera import pixel_grid


def hold(before: AnyArray, after: AnyArray, share: float) -> UInt8:
    """The frame that is shown until the next one comes: what a recording itself looks like."""
    return np.asarray(before, dtype=np.uint8)


def cross_fade(before: AnyArray, after: AnyArray, share: float) -> UInt8:
    """The two frames blended, `share` of the way."""
    return np.asarray(cv2.addWeighted(before, 1.0 - share, after, share, 0.0), dtype=np.uint8)


def flow(before: AnyArray, after: AnyArray, share: float) -> UInt8:
    """Both frames moved along the optical flow between them, and blended.

    Dense inverse search (Kroeger et al. 2016) as OpenCV has it, in both directions; a pixel of the picture is taken to
    move as the pixel in its place does in the recorded frames (the flow is not projected into the picture's time).
    """
    grey = [cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY) for image in (before, after)]
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    forward = search.calc(grey[0], grey[1], np.zeros((*grey[0].shape, 2), np.float32))
    backward = search.calc(grey[1], grey[0], np.zeros((*grey[0].shape, 2), np.float32))
    grid = pixel_grid(before.shape[1], before.shape[0]).astype(np.float32)
    from_before = _looked_up(before, grid - np.float32(share) * forward)
    from_after = _looked_up(after, grid - np.float32(1.0 - share) * backward)
    return cross_fade(from_before, from_after, share)


def _looked_up(image: AnyArray, at: AnyArray) -> AnyArray:
    return cv2.remap(image, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


WAYS = {"hold": hold, "cross-fade": cross_fade, "optical flow": flow}
