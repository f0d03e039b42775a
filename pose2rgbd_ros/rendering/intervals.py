"""Bounds of a predicted depth, pixel by pixel, from a table over what tells an easy pixel from a difficult one.

A pixel falls into a cell by four features: the model's confidence, how depth varies around it (silhouettes are where
errors sit), depth itself, and the pose's score. A cell holds two shares of depth: how much nearer and how much farther
the surface may be. A cell of which held-out frames say nothing, or nothing good, is unknown: NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pose2rgbd_ros.geometry.arrays import Float32
from pose2rgbd_ros.models.relief.march_numba import compiled

FEATURES = ("confidence", "spread", "depth", "score")
SPREAD_RADIUS_PX = 2  # at the size calibrated; at others the same angle


@dataclass(frozen=True)
class IntervalTable:
    """Edges between the cells and what each cell says.

    edges: of each of FEATURES, ascending; n edges make n + 1 cells. lower, upper: shares of depth >= 0, of the shape
    that the edges make; NaN where the cell is unknown. farthest: a depth beyond it is unknown.
    focal_px: of the camera calibrated with, for the size of the neighbourhood.
    """

    edges: tuple[Float32, ...]
    lower: Float32
    upper: Float32
    farthest: float
    focal_px: float

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(edges) + 1 for edges in self.edges)

    def bound(
        self,
        depth: Float32,
        confidence: Float32 | None,
        score: float,
        focal_px: float,
        lower: Float32,
        upper: Float32,
        forget: bool = True,
    ) -> None:
        """Fill `lower` and `upper` (H, W) for a depth (H, W); where a pixel is unknown all three become NaN and
        its confidence 0.

        confidence (H, W) is None of a model without. With `forget` false depth stays, and where a
        pixel is unknown the bounds are the widest there are: 0 and infinity.
        """
        spread = depth_spread(depth, radius_px(focal_px, self.focal_px))
        flat = (self.lower.reshape(-1), self.upper.reshape(-1))
        at_score = int(np.searchsorted(self.edges[3], score, side="right"))
        of_pixel = (depth, np.zeros((0, 0), np.float32) if confidence is None else confidence, spread)
        fill_bounds(*of_pixel, at_score, self.edges, *flat, np.float32(self.farthest), forget, lower, upper)


def radius_px(focal_px: float, calibrated_focal_px: float) -> int:
    """The neighbourhood's radius in pixels of a camera: the angle it had when calibrated."""
    if not (focal_px > 0 and calibrated_focal_px > 0):
        return SPREAD_RADIUS_PX
    return int(np.clip(round(SPREAD_RADIUS_PX * focal_px / calibrated_focal_px), 1, 32))


def depth_spread(depth: Float32, radius: int) -> Float32:
    """(H, W): the range of known depth in the square of `radius` around each pixel, as a share of its depth."""
    window = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    unknown = np.isnan(depth)
    farthest = cv2.dilate(np.where(unknown, np.float32(-np.inf), depth), window)
    nearest = cv2.erode(np.where(unknown, np.float32(np.inf), depth), window)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray((farthest - nearest) / np.maximum(depth, np.float32(1e-3)), np.float32)


def cells_of(edges: tuple[Float32, ...], features: tuple[Float32, ...]) -> np.ndarray:
    """Number (N,) of the cell of pixels by their features, each (N,); the same as the compiled way."""
    at = [np.searchsorted(edge, values, side="right") for edge, values in zip(edges, features, strict=True)]
    return np.asarray(np.ravel_multi_index(at, tuple(len(edge) + 1 for edge in edges)), np.int32)


@compiled
def place(edges, value):
    """How many of the ascending edges are at or below a value."""
    number = 0
    for edge in edges:
        if value >= edge:
            number += 1
    return number


@compiled
def fill_bounds(
    depth,
    confidence,
    spread,
    at_score,
    edges,
    lower_share,
    upper_share,
    farthest,
    forget,
    lower,
    upper,
):
    """See :meth:`IntervalTable.bound`; confidence of no rows is that of a model without."""
    of_confidence, of_spread, of_depth, of_score = edges
    nan, none, inf = np.float32(np.nan), np.float32(0), np.float32(np.inf)
    for y in range(depth.shape[0]):
        for x in range(depth.shape[1]):
            z = depth[y, x]
            if np.isnan(z):
                lower[y, x] = upper[y, x] = nan
                continue
            cell = place(of_confidence, confidence[y, x] if len(confidence) else none)
            cell = cell * (len(of_spread) + 1) + place(of_spread, spread[y, x])
            cell = cell * (len(of_depth) + 1) + place(of_depth, z)
            cell = cell * (len(of_score) + 1) + at_score
            down, up = lower_share[cell], upper_share[cell]
            if z <= farthest and not np.isnan(down):
                lower[y, x], upper[y, x] = max(z - z * down, none), z + z * up
            elif forget:
                depth[y, x] = lower[y, x] = upper[y, x] = nan
                if len(confidence):
                    confidence[y, x] = none
            else:
                lower[y, x], upper[y, x] = none, inf
