"""Depth from images and poses alone: every frame against its neighbours, plane by plane across the volume's axis.

The planes are those the relief is made of. After Collins, "A space-sweep approach to true multi-image matching", 1996;
the best half of the neighbours counts, so that what one of them cannot see does no harm (Kang et al., "Handling
occlusions in dense multi-view stereo", 2001).
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from pose2rgbd_ros.depth_from_images import ImageSequence
from pose2rgbd_ros.depth_from_images.multi_view import GreyViews, ground_distance, neighbours
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import AnyArray, Float32, Float64, Int64
from pose2rgbd_ros.geometry.camera import Camera, resample, resample_map
from pose2rgbd_ros.geometry.depth import DepthEstimate

logger = logging.getLogger(__name__)

KEPT_IMAGES = 256  # ready to be compared; others are read again
# Shares of the distance to the plane agreed on: how far below it and above it surfaces are looked for.
BELOW, ABOVE = 0.15, 0.75
PLANES = 64
WINDOW_PX, WIDE_PX = 5, 11
LARGEST_COST = 1.5  # of locally normalised grey: a worse match is as bad as none
# A match is kept whose cost is at most this, and at most this share of the best cost three planes off or more.
MOST_COST, MOST_RATIO = 0.75, 0.85


@dataclass(frozen=True, eq=False)
class PlaneSweep:
    """Depth on planes normal . p = height, an equal step of disparity from each other.

    normal: (3,) away from the ground. distance_m: of the cameras from the plane that the planes lie about; None: from
    the one that neighbouring frames agree to see.
    """

    normal: Float64
    distance_m: float | None = None
    planes: int = PLANES
    name = "plane sweep"

    def estimate(
        self, rgb: ImageSequence, camera: Camera, T_map_cam: Float64 | None, frames: Int64
    ) -> Iterator[DepthEstimate]:
        """See :class:`DepthFromImages`. Confidence is how far the best plane's cost lies below that of others."""
        if T_map_cam is None:
            raise UserError("a plane sweep needs the poses of the images")
        distance_m = self.distance_m or ground_distance(GreyViews.of(rgb, camera, T_map_cam), self.normal)
        logger.info("depth comes from neighbouring images, around %.3g m from the cameras", distance_m)
        return self._swept(rgb, camera, T_map_cam, frames, distance_m)

    def _swept(
        self, rgb: ImageSequence, camera: Camera, T_map_cam: Float64, frames: Int64, distance_m: float
    ) -> Iterator[DepthEstimate]:
        ideal = replace(camera, distortion_model="none", distortion=())
        undistort, distort = (
            (resample_map(camera, ideal), resample_map(ideal, camera)) if camera.is_distorted else (None, None)
        )

        @functools.lru_cache(KEPT_IMAGES)
        def normalized(index: int) -> Float32:
            image = np.asarray(rgb[index])
            return _normalized(image if undistort is None else resample(image, undistort, nearest=False))

        partners = neighbours(T_map_cam, distance_m)
        nearest_m, farthest_m = (1 - ABOVE) * distance_m, (1 + BELOW) * distance_m
        below_m = 1.0 / np.linspace(1 / nearest_m, 1 / farthest_m, self.planes)
        heights_m = float(np.median(T_map_cam[:, :3, 3] @ self.normal)) - below_m
        rays = ideal.rays()
        for index in map(int, frames):
            others, T = partners(index), T_map_cam[index]
            depth = np.full((camera.height, camera.width), np.nan, np.float32)
            confidence = np.zeros_like(depth)
            if len(others) >= 2:
                seen = [(normalized(other), se3.inverse(T_map_cam[other]) @ T) for other in others]
                # n_cam . x_cam = offset for each plane
                n_cam, offsets = T[:3, :3].T @ self.normal, heights_m - T[:3, 3] @ self.normal
                cost = _costs(normalized(index), seen, n_cam, offsets, ideal.K)
                offset, confidence = _best_plane(cost, offsets)
                depth = (offset / (rays @ n_cam)).astype(np.float32)
                depth[~(depth > 0)] = np.nan
                confidence[np.isnan(depth)] = 0
                if distort is not None:
                    depth = resample(depth, distort, nearest=True, fill=np.nan)
                    confidence = resample(confidence, distort, nearest=True)
            yield DepthEstimate(index, depth, confidence, unit_m=1.0)


def _normalized(image: AnyArray) -> Float32:
    """Grey with local mean 0 and deviation about 1: light and vignetting drop out."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    size = (2 * WINDOW_PX - 1, 2 * WINDOW_PX - 1)
    mean = cv2.blur(grey, size)
    deviation = np.sqrt(np.maximum(cv2.blur(grey * grey, size) - mean * mean, 0.0))
    return ((grey - mean) / (deviation + 3.0)).astype(np.float32)


def _costs(
    one: Float32, others: list[tuple[Float32, Float64]], n_cam: Float64, offsets: Float64, K: Float64
) -> Float32:
    """(P, H, W) matching costs of an image with others, each with its T_other_one, over planes n_cam . x_cam = offset:
    averaged over the better half of the others."""
    K_inverse, size = np.linalg.inv(K), one.shape[::-1]
    result = np.empty((len(offsets), *one.shape), np.float32)
    for p, offset in enumerate(offsets):
        each = []
        for other, T in others:
            H = K @ (T[:3, :3] + np.outer(T[:3, 3], n_cam) / offset) @ K_inverse
            seen = cv2.warpPerspective(other, H, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderValue=1e3)
            each.append(np.minimum(cv2.absdiff(one, seen), LARGEST_COST))
        best = _lower_half([np.asarray(cv2.blur(cost, (WINDOW_PX, WINDOW_PX)), np.float32) for cost in each])
        result[p] = (2 * best + cv2.blur(best, (WIDE_PX, WIDE_PX))) / 3
    return result


def _lower_half(costs: list[Float32]) -> Float32:
    """Mean (H, W) of the lower half of two, three or four costs."""
    if len(costs) == 2:
        return np.minimum(*costs)
    first, second = np.minimum(costs[0], costs[1]), np.maximum(costs[0], costs[1])
    for cost in costs[2:]:
        second = np.minimum(second, np.maximum(first, cost))
        first = np.minimum(first, cost)
    return np.asarray((first + second) / 2, np.float32)


def _best_plane(cost: Float32, offsets: Float64) -> tuple[Float64, Float32]:
    """(H, W) offset of the best plane, between planes by a parabola, and confidence; NaN where it does not stand
    out."""
    count = len(cost)
    best = cost.argmin(axis=0)
    inner = best.clip(1, count - 2)
    before, here, after = (np.take_along_axis(cost, (inner + step)[None], axis=0)[0] for step in (-1, 0, 1))
    bend = before - 2 * here + after
    between = np.where(bend > 1e-6, 0.5 * (before - after) / np.maximum(bend, 1e-6), 0.0).clip(-0.5, 0.5)
    # Planes are equal steps of disparity apart, so positions between them are nearly linear in height too.
    offset = np.interp((inner + between).ravel(), np.arange(count), offsets).reshape(best.shape)
    apart = np.abs(np.arange(count)[:, None, None] - best) >= 3
    second = np.where(apart, cost, np.inf).min(axis=0)
    lowest = cost.min(axis=0)
    sure = (lowest < MOST_COST) & (lowest < MOST_RATIO * second) & (best > 0) & (best < count - 1)
    return np.where(sure, offset, np.nan), (1 - lowest / second).astype(np.float32)
