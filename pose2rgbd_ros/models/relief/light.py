"""The light that recorded frames were in, and the one that a view from beside them is shown in.

A camera that sets its exposure and white balance by what it sees makes a surface brighter here than there. Relief
learns the place in the average light, and for each training frame a gain and an offset per colour channel. A view is
shown as the camera would have: in the light of the frames near it, weighed by distance and direction, so far as frames
of this recording tell one another's light at all. No torch in here: training and runtime ask the same function.
"""

from __future__ import annotations

import numpy as np

from pose2rgbd_ros.geometry.arrays import Float32, Float64

# Distances count in medians of the depth, directions in radians; REACH is where a frame's say has fallen to 0.6.
TURN_WEIGHT, REACH = 0.3, 0.2
MOST_ASKED = 300  # frames by which is found whether others tell their light: it is asked again and again in a training


def viewpoints(T_vol_cam: Float64) -> Float32:
    """Of poses (T, 4, 4): where they are and where they look, (T, 6)."""
    return np.concatenate([T_vol_cam[:, :3, 3], T_vol_cam[:, :3, 2]], 1).astype(np.float32)


def light_at(frames: Float32, views: Float32, T_vol_cam: Float64, scale_m: float) -> Float32:
    """Factor and summand (2, 3), per colour channel, of what is shown at a pose (4, 4).

    Args:
        frames: (T, 2, 3), each frame's logarithm of the gain, and offset (of 1); of none the light is the average.
        views: (T, 6) of them, as :func:`viewpoints` has it.
        scale_m: the median of the depth.
    """
    if len(frames) == 0:
        return np.array([[1.0] * 3, [0.0] * 3], np.float32)
    cost = _costs(views, viewpoints(np.asarray(T_vol_cam)[None]), scale_m)[0]
    weight = _weights(cost - cost.min())
    log_gain, offset = np.tensordot(weight / weight.sum(), frames.astype(np.float64), 1)
    return np.stack([np.exp(log_gain), offset]).astype(np.float32)


def neighbours_tell(frames: Float32, views: Float32, scale_m: float) -> float:
    """By how much (0..1) of what the frames near it have a frame's light differs from the average.

    The slope of each frame's light (T, 2, 3), at a colour of a half, over what the others have on average: 0 where
    light changes from frame to frame as it likes.
    """
    if len(frames) < 2:
        return 0.0
    light = (np.exp(frames[:, 0]) - 1) / 2 + frames[:, 1]
    light = light - light.mean(0)
    asked = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), MOST_ASKED)).round().astype(np.int64))
    cost = _costs(views, views[asked], scale_m)
    cost[np.arange(len(asked)), asked] = np.inf
    weight = _weights(cost - cost.min(1, keepdims=True))
    told = weight @ light / weight.sum(1, keepdims=True)
    return float(np.clip((told * light[asked]).sum() / max((told * told).sum(), 1e-12), 0.0, 1.0))


def _costs(views: Float32, asked: Float32, scale_m: float) -> Float64:
    """(A, T): how unlike viewpoints (A, 6) are to frames (T, 6)."""
    units = np.repeat([1 / scale_m, np.sqrt(TURN_WEIGHT)], 3)
    # Measured from one of them, so that nothing is lost where all lie far from the origin.
    here, there = ((values.astype(np.float64) - views[0]) * units for values in (asked, views))
    square = (here**2).sum(1)[:, None] + (there**2).sum(1) - 2 * here @ there.T
    return np.maximum(square, 0.0)


def _weights(cost: Float64) -> Float64:
    weight: Float64 = np.exp(-cost / (2 * REACH**2))
    return weight
