"""How alike the camera's image and a rendering are: a robust normalised cross-correlation, for verification."""

from __future__ import annotations

import cv2
import numpy as np

from pose2rgbd_ros.geometry.arrays import Float32
from pose2rgbd_ros.localization.refine_views import Memory, Picture

WINDOW_SHARE = 0.12  # of the picture's side: the standard deviation of the window, where likeness is told
_NOISE = 3.0  # levels: a window with less contrast says nothing


def likeness(query: Picture, memory: Memory) -> float:
    """-1..1: the middle of the windows' normalised cross-correlations; 1 for equal pictures, about 0 for unrelated ones.

    A window sees its own gain and offset, so light does not matter, and what both pictures share in the large, a bright sky
    over dark ground, does not help. Only pixels of known depth and seen by the camera count; windows count by how many of
    those they hold, and flat ones of the camera's image not at all. NaN where nothing can be compared.
    """
    known = (np.isfinite(memory.depth_m) & query.seen).astype(np.float32)
    side = max(known.shape)
    sigma = WINDOW_SHARE * side
    correlation, weight = [], []
    inside = _blur(known, sigma)
    for channel in _channels(query.rgb, memory.rgb):
        seen, shown = channel
        mean_a, mean_b = (_mean(values * known, inside, sigma) for values in (seen, shown))
        var_a = _mean(seen**2 * known, inside, sigma) - mean_a**2
        var_b = _mean(shown**2 * known, inside, sigma) - mean_b**2
        both = _mean(seen * shown * known, inside, sigma) - mean_a * mean_b
        spread = np.sqrt(np.maximum(var_a, 0) + _NOISE**2) * np.sqrt(np.maximum(var_b, 0) + _NOISE**2)
        correlation.append(both / spread)
        weight.append(inside * (var_a > _NOISE**2))
    values, weights = np.stack(correlation).ravel(), np.stack(weight).ravel()
    if weights.sum() < 0.1 * known.size:
        return float("nan")
    return float(np.clip(np.average(values, weights=weights), -1.0, 1.0))


def _channels(seen: np.ndarray, shown: np.ndarray) -> list[tuple[Float32, Float32]]:
    """Grey pictures, slightly smoothed: a pixel of misalignment is no other place."""
    smooth = [
        cv2.GaussianBlur(
            cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), max(rgb.shape[1] / 128, 0.3)
        )
        for rgb in (seen, shown)
    ]
    return [(np.asarray(smooth[0], np.float32), np.asarray(smooth[1], np.float32))]


def _blur(values: Float32, sigma: float) -> Float32:
    return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT), np.float32)


def _mean(values: Float32, inside: Float32, sigma: float) -> Float32:
    return np.asarray(_blur(values, sigma) / np.maximum(inside, 1e-3), np.float32)
