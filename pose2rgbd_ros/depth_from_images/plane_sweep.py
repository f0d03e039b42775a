"""Depth from the pictures and poses alone: every frame against its neighbours, plane by plane across the volume's axis.

The planes are those the relief is made of. After Collins, "A space-sweep approach to true multi-image matching", 1996;
the best half of the neighbours counts, so that what one of them cannot see does no harm (Kang et al., "Handling
occlusions in dense multi-view stereo", 2001).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from scipy.spatial import KDTree

from pose2rgbd_ros.depth_from_images.multi_view import MOST_TURN_DEG
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import AnyArray, Float32, Float64, Frames, Int64
from pose2rgbd_ros.geometry.camera import Camera, resample, resample_map

NEIGHBOURS = 4
# Shares of the distance to the plane agreed on: how far below it and above it surfaces are looked for.
BELOW, ABOVE = 0.15, 0.75
PLANES = 64
BASELINES = (0.12, 0.3, 0.6)  # of the distance: least, best, most
WINDOW_PX, WIDE_PX = 5, 11
LARGEST_COST = 1.5  # of locally normalised grey: a worse match is as bad as none
# A match is kept whose cost is at most this, and at most this share of the best cost three planes off or more.
MOST_COST, MOST_RATIO = 0.75, 0.85


@dataclass(frozen=True)
class Sweep:
    """Planes normal . p = heights_m, from the nearest to the cameras to the farthest."""

    normal: Float64  # (3,)
    heights_m: Float64  # (P,)
    distance_m: float  # of the cameras from the plane agreed on


def make_sweep(T_map_cam: Float64, normal: Float64, distance_m: float, planes: int = PLANES) -> Sweep:
    """Planes around the one `distance_m` below the cameras (N, 4, 4), equal steps of disparity apart."""
    camera_height = float(np.median(T_map_cam[:, :3, 3] @ normal))
    distances = 1.0 / np.linspace(1 / ((1 - ABOVE) * distance_m), 1 / ((1 + BELOW) * distance_m), planes)
    return Sweep(normal, camera_height - distances, distance_m)


def swept_depth(rgb: Frames, T_map_cam: Float64, camera: Camera, sweep: Sweep, frames: Int64) -> Float32:
    """Depth (len(frames), H, W) of frames, NaN where no plane stands out.

    Args:
        rgb: N of (H, W, 3) uint8, all frames that may serve as neighbours.
        T_map_cam: (N, 4, 4).
        camera: of these images; distortion is undone before and redone after.
        frames: whose depth is wanted.
    """
    ideal = replace(camera, distortion_model="none", distortion=())
    to_ideal = resample_map(camera, ideal) if camera.is_distorted else None
    normalized: dict[int, Float32] = {}

    def picture(index: int) -> Float32:
        if index not in normalized:
            image = np.asarray(rgb[index])
            normalized[index] = _normalized(image if to_ideal is None else resample(image, to_ideal, nearest=False))
        return normalized[index]

    partners = neighbours(T_map_cam, sweep.distance_m)
    rays = ideal.rays()
    depths = np.full((len(frames), camera.height, camera.width), np.nan, np.float32)
    for row, index in enumerate(frames):
        others = partners(int(index))
        if len(others) < 2:
            continue
        cost = _costs(
            picture(int(index)), [picture(other) for other in others], T_map_cam, int(index), others, ideal, sweep
        )
        height = _best_height(cost, sweep.heights_m)
        T = T_map_cam[index]
        depth = (height - T[:3, 3] @ sweep.normal) / (rays @ (T[:3, :3].T @ sweep.normal))
        depths[row] = np.where(depth > 0, depth, np.nan)
    if camera.is_distorted:
        back = resample_map(ideal, camera)
        depths = np.stack([resample(depth, back, nearest=True, fill=np.nan) for depth in depths])
    return depths


def neighbours(T_map_cam: Float64, distance_m: float) -> Callable[[int], list[int]]:
    """A function: index of a frame -> list of at most NEIGHBOURS others that look the same way, from different
    sides.
    """
    position, forward = T_map_cam[:, :3, 3], T_map_cam[:, :3, 2]
    tree = KDTree(position)
    least, best, most = (share * distance_m for share in BASELINES)

    def of(index: int) -> list[int]:
        near = np.array(tree.query_ball_point(position[index], most))
        offset = position[near] - position[index]
        length = np.linalg.norm(offset, axis=1)
        good = (length > least) & (forward[near] @ forward[index] > np.cos(np.radians(MOST_TURN_DEG)))
        near, offset, length = near[good], offset[good], length[good]
        chosen: list[int] = []
        taken = np.zeros(len(near))
        for _ in range(min(NEIGHBOURS, len(near))):
            # As near to the best baseline as can be, and not in a direction that is taken already.
            at = int((np.abs(np.log(length / best)) + taken).argmin())
            chosen.append(int(near[at]))
            along = offset @ offset[at] / (length * length[at])
            taken += np.maximum(along, 0.0)
            taken[at] = np.inf
        return chosen

    return of


def _normalized(image: AnyArray) -> Float32:
    """Grey with local mean 0 and deviation about 1: light and vignetting drop out."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    size = (2 * WINDOW_PX - 1, 2 * WINDOW_PX - 1)
    mean = cv2.blur(grey, size)
    deviation = np.sqrt(np.maximum(cv2.blur(grey * grey, size) - mean * mean, 0.0))
    return ((grey - mean) / (deviation + 3.0)).astype(np.float32)


def _costs(
    one: Float32,
    pictures: list[Float32],
    T_map_cam: Float64,
    index: int,
    others: list[int],
    camera: Camera,
    sweep: Sweep,
) -> Float32:
    """(P, H, W) matching costs, averaged over the better half of the neighbours."""
    K, K_inverse = camera.K, np.linalg.inv(camera.K)
    T = T_map_cam[index]
    n_cam = T[:3, :3].T @ sweep.normal
    to_other = [se3.inverse(T_map_cam[other]) @ T for other in others]
    size = (camera.width, camera.height)
    result = np.empty((len(sweep.heights_m), camera.height, camera.width), np.float32)
    for p, height in enumerate(sweep.heights_m):
        offset = float(height - T[:3, 3] @ sweep.normal)  # n_cam . x_cam = offset
        each = []
        for there, T_other in zip(pictures, to_other, strict=True):
            H = K @ (T_other[:3, :3] + np.outer(T_other[:3, 3], n_cam) / offset) @ K_inverse
            seen = cv2.warpPerspective(there, H, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderValue=1e3)
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


def _best_height(cost: Float32, heights_m: Float64) -> Float64:
    """(H, W) height of the best plane, between planes by a parabola; NaN where it does not stand out."""
    count = len(cost)
    best = cost.argmin(axis=0)
    inner = best.clip(1, count - 2)
    before, here, after = (np.take_along_axis(cost, (inner + step)[None], axis=0)[0] for step in (-1, 0, 1))
    bend = before - 2 * here + after
    between = np.where(bend > 1e-6, 0.5 * (before - after) / np.maximum(bend, 1e-6), 0.0).clip(-0.5, 0.5)
    # Planes are equal steps of disparity apart, so positions between them are nearly linear in height too.
    height = np.interp((inner + between).ravel(), np.arange(count), heights_m).reshape(best.shape)
    apart = np.abs(np.arange(count)[:, None, None] - best) >= 3
    second = np.where(apart, cost, np.inf).min(axis=0)
    lowest = cost.min(axis=0)
    sure = (lowest < MOST_COST) & (lowest < MOST_RATIO * second) & (best > 0) & (best < count - 1)
    return np.where(sure, height, np.nan)
