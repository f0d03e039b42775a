"""The light that recorded frames were in, and the one that a view from beside them is shown in.

A camera that sets its exposure and white balance by what it sees makes a surface brighter here than there. Relief
learns the place in the average light, and for each training frame a gain and an offset per colour channel. A view is
shown as the camera would have: in the light of the frames near it, weighed by distance and direction, so far as frames
of this recording tell one another's light at all. No torch in here: training and runtime ask the same function.
"""

from __future__ import annotations

import numpy as np

from pose2rgbd_ros.geometry.arrays import Float32, Float64

# Distances count in medians of the depth, directions in radians. At a reach a frame's say has fallen to 0.6.
TURN_WEIGHT = 0.3
REACHES = (0.05, 0.1, 0.2, 0.4)  # of a hand-held camera's frames, centimetres apart, to those of a mapping flight
MOST_ASKED = 300  # frames by which is found whether others tell their light: it is asked again and again in a training


def viewpoints(T_vol_cam: Float64) -> Float32:
    """Of poses (T, 4, 4): where they are and where they look, (T, 6)."""
    return np.concatenate([T_vol_cam[:, :3, 3], T_vol_cam[:, :3, 2]], 1).astype(np.float32)


def light_at(frames: Float32, views: Float32, T_vol_cam: Float64, scale_m: float, reach: float) -> Float32:
    """Factor and summand (2, 3), per colour channel, of what is shown at a pose (4, 4).

    Args:
        frames: (T, 2, 3), each frame's logarithm of the gain, and offset (of 1); of none the light is the average.
        views: (T, 6) of them, as :func:`viewpoints` has it.
        scale_m: the median of the depth.
        reach: how far frames have a say, see REACHES.
    """
    if len(frames) == 0:
        return np.array([[1.0] * 3, [0.0] * 3], np.float32)
    cost = _costs(views, viewpoints(np.asarray(T_vol_cam)[None]), scale_m)[0]
    weight = np.exp(-(cost - cost.min()) / (2 * reach**2))
    log_gain, offset = np.tensordot(weight / weight.sum(), frames.astype(np.float64), 1)
    return np.stack([np.exp(log_gain), offset]).astype(np.float32)


def neighbours_tell(frames: Float32, views: Float32, scale_m: float, reach: float) -> float:
    """By how much (0..1) of what the frames near it have a frame's light differs from the average.

    The slope of each frame's light (T, 2, 3), at a colour of a half, over what the others have on average: 0 where
    light changes from frame to frame as it likes.
    """
    if len(frames) < 2:
        return 0.0
    own, others = _beside_others((np.exp(frames[:, 0]) - 1) / 2 + frames[:, 1], views, scale_m, reach)
    return _slope(own, others)


def choose_reach(log_gain: Float32, views: Float32, scale_m: float) -> float:
    """By which of REACHES gains (T, 3) of frames are guessed best from those of the others."""
    if len(log_gain) < 2:
        return REACHES[0]

    def off(reach: float) -> float:
        own, others = _beside_others(log_gain, views, scale_m, reach)
        return float(np.square(own - _slope(own, others) * others).sum())

    return min(REACHES, key=off)


def _slope(own: Float64, others: Float64) -> float:
    return float(np.clip((others * own).sum() / max((others * others).sum(), 1e-12), 0.0, 1.0))


def _beside_others(values: Float32 | Float64, views: Float32, scale_m: float, reach: float) -> tuple[Float64, Float64]:
    """Of some frames (A,) their values (T, C), less the mean of all, and what the others near them have."""
    centred = values - values.mean(0, dtype=np.float64)
    asked = np.unique(np.linspace(0, len(values) - 1, min(len(values), MOST_ASKED)).round().astype(np.int64))
    cost = _costs(views, views[asked], scale_m)
    cost[np.arange(len(asked)), asked] = np.inf
    weight = np.exp(-(cost - cost.min(1, keepdims=True)) / (2 * reach**2))
    return centred[asked], weight @ centred / weight.sum(1, keepdims=True)


def _costs(views: Float32, asked: Float32, scale_m: float) -> Float64:
    """(A, T): how unlike viewpoints (A, 6) are to frames (T, 6)."""
    units = np.repeat([1 / scale_m, np.sqrt(TURN_WEIGHT)], 3)
    # Measured from one of them, so that nothing is lost where all lie far from the origin.
    here, there = ((values.astype(np.float64) - views[0]) * units for values in (asked, views))
    square = (here**2).sum(1)[:, None] + (there**2).sum(1) - 2 * here @ there.T
    return np.maximum(square, 0.0)
