"""Two views of random points, with exact matches."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera

CAMERA = Camera(320, 240, 250.0, 245.0, 158.0, 121.0)

# Directions of a translation, and turns in radians.
steps = st.tuples(*[st.floats(-1.0, 1.0)] * 3).filter(lambda t: np.linalg.norm(t) > 0.3)
turns = st.tuples(*[st.floats(-0.1, 0.1)] * 3)


class TwoViews(NamedTuple):
    """T_second_first (4, 4) with a translation of length 1; points (M, 3) in the first camera; their pixels (M, 2)."""

    T_second_first: np.ndarray
    points: np.ndarray
    first: np.ndarray
    second: np.ndarray


def motion(step: tuple[float, ...], turn: tuple[float, ...]) -> np.ndarray:
    """A motion (4, 4) with a translation of length 1 along `step`, or of none, and a rotation vector `turn`."""
    T = se3.exponential([0.0, 0.0, 0.0, *turn])
    T[:3, 3] = np.array(step) / max(float(np.linalg.norm(step)), 1e-12)
    return T


def two_views(T_second_first: np.ndarray, count: int = 300, seed: int = 0, noise_px: float = 0.0) -> TwoViews:
    """Points 4 to 20 baselines away that both cameras see."""
    rng = np.random.default_rng(seed)
    pixels = rng.uniform((0, 0), (CAMERA.width - 1, CAMERA.height - 1), (20 * count, 2))
    points = CAMERA.unproject(pixels) * rng.uniform(4.0, 20.0, (20 * count, 1))
    moved = se3.transform_points(T_second_first, points)
    second = CAMERA.project(moved)
    with np.errstate(invalid="ignore"):
        seen = (moved[:, 2] > 1) & ((second >= 0) & (second <= (CAMERA.width - 1, CAMERA.height - 1))).all(axis=1)
    chosen = np.flatnonzero(seen)[:count]
    assert len(chosen) == count
    noise = rng.normal(0.0, noise_px, (count, 2)) if noise_px else 0.0
    return TwoViews(T_second_first, points[chosen], pixels[chosen], second[chosen] + noise)
