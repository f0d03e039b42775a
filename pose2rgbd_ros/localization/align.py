"""Robust normal equations of a camera's pose from the differences of two pictures, and their solution step by step.

Gain and offset of every colour channel are unknowns too, eliminated by their Schur complement: exposure and white
    balance do not matter. Differences far above the usual one are weighed down (Huber 1964), so movers and what the
    rendering shows wrongly pull little.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from pose2rgbd_ros.depth_from_images.inverse_warp import inverse_warp
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float32, Float64, Int64
from pose2rgbd_ros.localization.match import pixel_motion
from pose2rgbd_ros.localization.views import Picture, RenderedMemory

HUBER = 1.345
LEAST_PIXELS = 40
NEAREST_M = 0.1
BLOCKS = 8  # per side; differences are alike within a block, so a block counts as one observation
_LEAST_SIGMA = 0.5  # levels: rounding alone makes as much
_MOST_DAMPING = 1e3


@dataclass(frozen=True, eq=False)
class Alignment:
    """T_map_cam: (4, 4). covariance: (6, 6) as in Estimate. used: share of the picture's pixels. spread: of their
    differences, in levels."""

    T_map_cam: Float64
    covariance: Float64
    used: float
    spread: float


@dataclass(frozen=True, eq=False)
class System:
    """Normal equations of a twist of the query camera: H step = -g; by blocks of the picture for the covariance."""

    H: Float64
    g: Float64
    scores: Float64
    cost: float
    used: float
    spread: float


def descend(
    system_at: Callable[[Float64], System | None], T_map_cam: Float64, iterations: int, distance_m: float
) -> Alignment | None:
    """Levenberg-Marquardt from a pose (4, 4) to where the pictures agree best (Levenberg 1944; Marquardt 1963).

    system_at: the normal equations at a T_cam_map, None where the pictures do not overlap enough. distance_m: a usual
    depth; steps below a thousandth of it are the end. None where nothing says where the camera is.
    """
    T_cam_map, damping = se3.inverse(T_map_cam), 1e-3
    system = system_at(T_cam_map)
    for _ in range(iterations):
        step = None if system is None else _step(system, damping)
        if system is None or step is None:
            return None
        moved = se3.exponential(step) @ T_cam_map
        tried = system_at(moved)
        if tried is not None and tried.cost <= system.cost * (1 + 1e-6):
            T_cam_map, system, damping = moved, tried, damping / 3
            if np.linalg.norm(step[:3]) < 1e-3 * distance_m and np.linalg.norm(step[3:]) < 2e-4:
                break
        else:
            damping *= 10
            if damping > _MOST_DAMPING:
                break
    if system is None:
        return None
    found = se3.inverse(T_cam_map)
    covariance = _covariance(system, found[:3, :3])
    return None if covariance is None else Alignment(found, covariance, system.used, system.spread)


def normal_equations(
    image: Float32, memory: Float32, jacobian: Callable[[int, float], Float64], block: Int64, used: float
) -> System:
    """Normal equations of the pixels' differences.

    Args:
        image, memory: (N, 3) levels of the pixels that are compared.
        jacobian: of a channel and the gain from memory to image: (N, 6), how the differences grow with a twist.
        block: (N,) of the picture, below BLOCKS ** 2.
        used: share of the picture's pixels.
    """
    H = np.zeros((6, 6))
    scores = np.zeros((BLOCKS * BLOCKS, 6))
    cost = spread = 0.0
    for channel in range(3):
        levels, remembered = image[:, channel], memory[:, channel]
        gain, offset, weight, sigma = _photometric(levels, remembered)
        difference = levels - gain * remembered - offset
        J = jacobian(channel, gain)
        light = np.stack([remembered, np.ones_like(remembered)], axis=1)
        weighted = weight[:, None] * light
        # What gain and offset could explain is taken out of J: the Schur complement of the two.
        J = J - light @ np.linalg.lstsq(weighted.T @ light, weighted.T @ J, rcond=None)[0]
        # The share that is unexplained: pictures that overlap less do not win by it.
        cost += float((weight * difference**2).mean()) / max(float(levels.var()), 1.0)
        certain = (weight / sigma**2)[:, None] * J
        H += certain.T @ J
        pulls = (difference[:, None] * certain).T
        scores += np.stack([np.bincount(block, pull, BLOCKS**2) for pull in pulls], axis=1)
        spread += sigma / 3
    return System(H, scores.sum(axis=0), scores, cost, used, spread)


def total(systems: Sequence[System]) -> System | None:
    """The normal equations of several pairs of pictures together; None of none."""
    if not systems:
        return None
    count = len(systems)
    # The sum of the blocks' pulls, not of their squares: all pairs share the image, so their errors are not
    # independent.
    return System(
        H=np.sum([system.H for system in systems], axis=0),
        g=np.sum([system.g for system in systems], axis=0),
        scores=np.sum([system.scores for system in systems], axis=0),
        cost=sum(system.cost for system in systems) / count,
        used=sum(system.used for system in systems) / count,
        spread=sum(system.spread for system in systems) / count,
    )


def block_of(rows: Int64, columns: Int64, height: int, width: int) -> Int64:
    """The block (N,) of each pixel."""
    found: Int64 = (rows * BLOCKS // height) * BLOCKS + columns * BLOCKS // width
    return found


def _photometric(levels: Float32, remembered: Float32) -> tuple[float, float, Float32, float]:
    """Gain and offset from memory to image, robust weights of the pixels, and the spread of the differences."""
    weight = np.ones_like(levels)
    gain, offset, sigma = 1.0, 0.0, 1.0
    for _ in range(3):
        total = weight.sum()
        mean, other = (weight * remembered).sum() / total, (weight * levels).sum() / total
        centred = remembered - mean
        gain = float((weight * centred * (levels - other)).sum() / max((weight * centred**2).sum(), 1e-6))
        gain = min(max(gain, 0.2), 5.0)
        offset = float(other - gain * mean)
        size = np.abs(levels - gain * remembered - offset)
        sigma = max(1.4826 * float(np.median(size)), _LEAST_SIGMA)
        weight = np.minimum(1.0, HUBER * sigma / np.maximum(size, 1e-6)).astype(np.float32)
    return gain, offset, weight, sigma


def _step(system: System, damping: float) -> Float64 | None:
    """The damped step."""
    try:
        step = -np.linalg.solve(system.H + damping * np.diag(np.diag(system.H)), system.g)
    except np.linalg.LinAlgError:
        return None
    return np.asarray(step) if np.isfinite(step).all() else None


def _covariance(system: System, R_map_cam: Float64) -> Float64 | None:
    """From the normal equations and the differences, about the map's axes.

    Neighbouring differences are alike, so pixels are no independent observations: the spread of the blocks' pulls takes
    the place of that of the pixels' differences (Liang and Zeger 1986, the "sandwich").
    """
    try:
        inverse = np.linalg.inv(system.H)
    except np.linalg.LinAlgError:
        return None
    covariance = inverse @ (system.scores.T @ system.scores) @ inverse
    turn = np.kron(np.eye(2), R_map_cam)
    covariance = turn @ covariance @ turn.T
    if not np.isfinite(covariance).all():
        return None
    return np.asarray(0.5 * (covariance + covariance.T))


# Direct alignment: the pose at which a rendering with depth, moved there, looks most like the camera's image.
#
# Gauss-Newton on SE(3) over the differences of brightness (Lucas and Kanade 1981; Baker and Matthews 2004), with the
# mean of both pictures' gradients (Malis 2004, "efficient second-order minimisation").


def align(query: Picture, memories: Sequence[RenderedMemory], T_map_cam: Float64, iterations: int) -> Alignment | None:
    """Move the query camera from `T_map_cam` until its image agrees with the renderings, moved there by their depth.

    Each rendering has a say of its own, so what one shows wrongly the others correct; one that does not overlap enough
    with the image has none. None where none does, or nothing says where the camera is.
    """
    pairs = [_Pair(query, memory) for memory in memories]

    def system_at(T_cam_map: Float64) -> System | None:
        return total([system for pair in pairs if (system := pair.system(T_cam_map)) is not None])

    return descend(system_at, T_map_cam, iterations, pairs[0].distance_m)


class _Pair:
    """What does not change from step to step."""

    def __init__(self, query: Picture, memory: RenderedMemory) -> None:
        depth = np.where(memory.depth_m > 0, memory.depth_m, np.nan).astype(np.float32)
        known = np.isfinite(depth)
        self.distance_m = float(np.median(depth[known])) if known.any() else 1.0
        self._T_map_memory, self._camera = memory.T_map_cam, query.camera
        self._centre = np.array([query.camera.cx, query.camera.cy], np.float32)
        self._focal = np.array([query.camera.fx, query.camera.fy], np.float32)
        self._depth, self._size = torch.from_numpy(depth)[None], known.size
        self._K = tuple(torch.from_numpy(camera.K).float() for camera in (memory.camera, query.camera))
        levels = memory.rgb.astype(np.float32)
        self._memory, *self._gradients = (part.reshape(-1, 3) for part in (levels, *_gradients(levels)))
        image = query.rgb.astype(np.float32)
        layers = np.dstack([image, *_gradients(image), query.seen.astype(np.float32)])
        self._query = torch.from_numpy(layers).permute(2, 0, 1)[None]
        self._block = block_of(*np.indices(known.shape), *known.shape).ravel()

    def system(self, T_cam_map: Float64) -> System | None:
        T_query_memory = torch.from_numpy((T_cam_map @ self._T_map_memory)[None]).float()
        seen = inverse_warp(self._query, self._depth, T_query_memory, *self._K)
        layers, valid, depth_m, pixels = (part[0].numpy() for part in seen)
        at = np.flatnonzero(valid & (layers[9] > 0.99) & (depth_m > NEAREST_M))
        if len(at) < LEAST_PIXELS:
            return None
        image, du, dv = np.split(layers[:9].reshape(9, -1)[:, at].T, 3, axis=1)
        shown_du, shown_dv = (part[at] for part in self._gradients)
        x, y = ((pixels.reshape(-1, 2)[at] - self._centre) / self._focal).T
        along_u, along_v = pixel_motion(x, y, depth_m.ravel()[at], self._camera)

        def jacobian(channel: int, gain: float) -> Float64:
            gu = 0.5 * (du[:, channel] + gain * shown_du[:, channel])
            gv = 0.5 * (dv[:, channel] + gain * shown_dv[:, channel])
            J: Float64 = gu[:, None] * along_u + gv[:, None] * along_v
            return J

        return normal_equations(image, self._memory[at], jacobian, self._block[at], len(at) / self._size)


def _gradients(image: Float32) -> tuple[Float32, Float32]:
    """Derivatives to the right and down, levels per pixel (Scharr)."""
    return tuple(  # type: ignore[return-value]
        np.asarray(cv2.Scharr(image, cv2.CV_32F, *way, scale=1 / 32, borderType=cv2.BORDER_REPLICATE))
        for way in ((1, 0), (0, 1))
    )
