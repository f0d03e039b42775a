"""A start for a relief: the training frames' depth and colour, fused into its volume before any learning.

Depth is fused as truncated signed distances along the rays (after Curless and Levoy, "A volumetric method for building
complex models from range images", 1996), colour as means level by level. What no ray tells is solid below a surface
and empty elsewhere. The start of the study behind this model; everything is learned further from here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float32, Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.relief.config import DIRECT_CHANNELS
from pose2rgbd_ros.models.relief.lookup import bilinear
from pose2rgbd_ros.models.relief.march_numba import compiled
from pose2rgbd_ros.models.relief.network import Relief
from pose2rgbd_ros.models.relief.scene_box import Frames

TRUNCATION_LAYERS = 1.5
SURE_LOGIT = 3.0  # of a vertex all rays call empty, or solid
GUESSED_LOGIT = 0.5  # of a vertex no ray tells anything about
MOST_RAYS = 2_000_000


class SeenPoints(NamedTuple):
    """Rays of training pixels in `vol`: origin, direction per unit of depth (M, 3), depth (M,), colour (M, 3) in 0..1."""

    origin: Float32
    direction: Float32
    depth: Float32
    rgb: Float32


def seen_points(
    relief: Relief,
    T_map_cam: Float64,
    camera: Camera,
    rgb: Frames,
    depth: Frames,
    frames: np.ndarray,
    most: int = MOST_RAYS,
) -> Iterator[SeenPoints]:
    """Pixels of known depth of the frames, at most about `most`, each frame on another lattice.

    rgb (N, S, S, 3) uint8 and depth (N, S, S) may be memory maps; T_map_cam (N, 4, 4).
    """
    rays = camera.rays().reshape(-1, 3)
    step = max(1, round(len(frames) * len(rays) / most))
    T_vol_cam = se3.inverse(relief.config.T_map_vol) @ T_map_cam
    for number, frame in enumerate(frames):
        start = (number * 7919) % step  # 7919 is prime: the lattices differ
        z = np.asarray(depth[frame], np.float32).reshape(-1)[start::step]
        known = np.isfinite(z) & (z > 0) & np.isfinite(rays[start::step, 0])
        R, position = T_vol_cam[frame, :3, :3], T_vol_cam[frame, :3, 3]
        direction = (rays[start::step][known] @ R.T).astype(np.float32)
        origin = np.broadcast_to(position.astype(np.float32), direction.shape)
        colour = np.asarray(rgb[frame]).reshape(-1, 3)[start::step][known].astype(np.float32) / 255.0
        yield SeenPoints(origin, direction, z[known], colour)


def fuse(relief: Relief, points: list[SeenPoints]) -> None:
    """Set occupancy, what was seen, and the colours of the features, in place."""
    joined = SeenPoints(*(np.concatenate(parts) for parts in zip(*points, strict=True)))
    with torch.no_grad():
        fuse_depth(relief, joined)
        fuse_colour(relief, joined)


def fuse_depth(relief: Relief, points: SeenPoints) -> None:
    """Occupancy logits and seen vertices."""
    config = relief.config
    step = np.array(config.step_m, np.float32)
    total, count = np.zeros(config.shape, np.float32), np.zeros(config.shape, np.float32)
    near = np.zeros(config.shape, np.uint8)
    truncation = np.float32(TRUNCATION_LAYERS * config.layer_m)
    in_cells = points.origin / step, points.direction / step
    add_rays(total, count, near, *in_cells, points.direction, points.depth, truncation)
    told = count > 0
    mean = np.where(told, total / np.maximum(count, 1e-6), 0.0)
    # Nobody looked there: inside something if a surface is above, else in the air.
    below = np.flip(np.maximum.accumulate(np.flip(told & (mean > 0), 0), 0), 0)
    logits = np.where(told, SURE_LOGIT * mean, np.where(below, GUESSED_LOGIT, -GUESSED_LOGIT))
    relief.volume.logits.copy_(torch.from_numpy(logits.astype(np.float32)))
    relief.volume.seen.copy_(grown(torch.from_numpy(near)))


@compiled
def add_rays(total, count, near, origin, direction, metric, depth, truncation):
    """Add what rays tell to the vertices nearest to their samples, as sampled by the march.

    total, count: (L, Y, X) sum and number of signed distances as a share of `truncation`, > 0 behind the surface.
    near: set to 1 within the truncation. origin, direction: (M, 3) in grid units; metric: the direction in metres.
    """
    sizes = (total.shape[2], total.shape[1], total.shape[0])
    for ray in range(len(depth)):
        axis = 0
        for other in (1, 2):
            if abs(direction[ray, other]) > abs(direction[ray, axis]):
                axis = other
        d = direction[ray, axis]
        length = np.sqrt(metric[ray, 0] ** 2 + metric[ray, 1] ** 2 + metric[ray, 2] ** 2)
        t_last = depth[ray] + truncation / length
        # From behind the surface back to the camera, or to where the ray enters the box.
        step = -1 if d > 0 else 1
        last = origin[ray, axis] + t_last * d
        plane = int(np.floor(last)) if d > 0 else int(np.ceil(last))
        while True:
            t = (plane - origin[ray, axis]) / d
            if t <= 0:
                break
            if 0 <= plane < sizes[axis]:
                i = int(np.floor(origin[ray, 0] + t * direction[ray, 0] + 0.5))
                j = int(np.floor(origin[ray, 1] + t * direction[ray, 1] + 0.5))
                k = int(np.floor(origin[ray, 2] + t * direction[ray, 2] + 0.5))
                if 0 <= i < sizes[0] and 0 <= j < sizes[1] and 0 <= k < sizes[2]:
                    distance = (t - depth[ray]) * length / truncation
                    total[k, j, i] += max(distance, np.float32(-1.0))
                    count[k, j, i] += np.float32(1.0)
                    if distance > -1.0:
                        near[k, j, i] = 1
                elif t < depth[ray]:
                    break
            elif t < depth[ray]:
                break
            plane += step


def grown(mask: Tensor) -> Tensor:
    """A mask (L, Y, X) with the neighbours of its vertices: rays between the training ones meet the same surface."""
    spread = torch.nn.functional.max_pool3d(mask[None, None].float(), 3, stride=1, padding=1)
    return spread[0, 0].to(mask.dtype)


def fuse_colour(relief: Relief, points: SeenPoints) -> None:
    """The features' direct colours: the coarse volume's means, then what each map from the coarsest on still lacks."""
    config, features = relief.config, relief.features
    surface = torch.from_numpy(points.origin + points.depth[:, None] * points.direction)
    lacking = torch.from_numpy(points.rgb) - 0.5
    layers, rows, columns = config.coarse_shape
    step = torch.tensor([config.coarse_cell_m, config.coarse_cell_m, config.coarse_layer_m])
    last = torch.tensor([columns - 1, rows - 1, layers - 1])
    cell = (surface / step).round().long().clamp(min=torch.zeros_like(last), max=last)
    index = (cell[:, 2] * rows + cell[:, 1]) * columns + cell[:, 0]
    features.coarse[:, :DIRECT_CHANNELS] = means(index, lacking, len(features.coarse))
    lacking = lacking - features.volume(surface)[:, :DIRECT_CHANNELS]
    for level in reversed(range(config.levels)):
        shape, start = config.map_shape(level), features.starts[level]
        index, weight = bilinear(surface[:, :2] / config.texel_m(level), shape)
        nearest = index.gather(1, weight.argmax(1, keepdim=True))[:, 0]
        rows_of_level = features.maps[start : start + shape[0] * shape[1], :DIRECT_CHANNELS]
        rows_of_level.copy_(means(nearest, lacking, len(rows_of_level)))
        lacking = lacking - (rows_of_level[index] * weight[..., None]).sum(1)


def means(index: Tensor, values: Tensor, size: int) -> Tensor:
    """Means (size, C) of values (M, C) by index (M,); 0 where there is none, drawn to 0 where there are few."""
    total = torch.zeros(size, values.shape[1]).index_add_(0, index, values)
    number = torch.zeros(size).index_add_(0, index, torch.ones(len(index)))
    return total / (number + 0.5)[:, None]
