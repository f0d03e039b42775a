"""A start for a relief: the training frames' depth and colour, fused into its volume before any learning.

Depth is fused as truncated signed distances along the rays (after Curless and Levoy, "A volumetric method for building
complex models from range images", 1996), colour as means level by level. What no ray tells is as beside it, farther
off solid below a surface and empty elsewhere. The start of the study behind this model; everything is learned further
from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import torch
from torch import Tensor

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Bool, Float32, Float64, Frames
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.backends import compiled
from pose2rgbd_ros.models.relief.charts import chart_means, layout
from pose2rgbd_ros.models.relief.config import DIRECT_CHANNELS, ReliefConfig, SeenPoints
from pose2rgbd_ros.models.relief.kernels import cell
from pose2rgbd_ros.models.relief.lookup import chart_codes
from pose2rgbd_ros.models.relief.network import Relief

TRUNCATION_LAYERS = 1.5
SURE_LOGIT = 3.0  # of a vertex all rays call empty, or solid
SPREAD_STEPS = 2
SPREAD_LEVELS = 4  # 2 to that many cells to the sides of a vertex goes what is told of it
GUESSED_LOGIT = 0.5  # of a vertex no ray tells anything about
# Rays for each texel of the finest map, and the most and fewest of all: more tell little more and take longer.
RAYS_A_TEXEL, FEWEST_RAYS, MOST_RAYS = 2.0, 1_000_000, 16_000_000


def seen_points(
    config: ReliefConfig,
    T_map_cam: Float64,
    camera: Camera,
    rgb: Frames,
    depth: Frames,
    frames: np.ndarray,
    most: int | None = None,
) -> Iterator[SeenPoints]:
    """Pixels of known depth of the frames one by one, at most about `most` in all, each frame on another lattice.

    As many as the finest feature map has need of, unless `most` says.
    rgb (N, S, S, 3) uint8 and depth (N, S, S) may be memory maps; T_map_cam (N, 4, 4).
    """
    rays = camera.rays().reshape(-1, 3)
    if most is None:
        texels = int(np.prod(config.map_shape(0)))
        most = int(np.clip(RAYS_A_TEXEL * texels, FEWEST_RAYS, MOST_RAYS))
    step = max(1, round(len(frames) * len(rays) / most))
    T_vol_cam = se3.inverse(config.T_map_vol) @ T_map_cam
    for number, frame in enumerate(frames):
        start = (number * 7919) % step  # 7919 is prime: the lattices differ
        z = np.asarray(depth[frame], np.float32).reshape(-1)[start::step]
        known = np.isfinite(z) & (z > 0) & np.isfinite(rays[start::step, 0])
        R, position = T_vol_cam[frame, :3, :3], T_vol_cam[frame, :3, 3]
        direction = (rays[start::step][known] @ R.T).astype(np.float32)
        origin = np.broadcast_to(position.astype(np.float32), direction.shape)
        colour = np.asarray(rgb[frame]).reshape(-1, 3)[start::step][known].astype(np.float32) / 255.0
        yield SeenPoints(origin, direction, z[known], colour)


@torch.no_grad()
def fuse(relief: Relief, points: Iterable[SeenPoints], start: bool = True) -> None:
    """Set what was seen and, for a start, occupancy and the colours of the features; in place."""
    config = relief.config
    step = np.array(config.step_m, np.float32)
    total, count = np.zeros(config.shape, np.float32), np.zeros(config.shape, np.float32)
    near = np.zeros(config.shape, np.uint8)
    truncation = np.float32(TRUNCATION_LAYERS * config.layer_m)
    surface, colour = [np.zeros((0, 3), np.float32)], [np.zeros((0, 3), np.float32)]
    for some in points:
        in_cells = some.origin / step, some.direction / step
        add_rays(total, count, near, *in_cells, some.direction, some.depth, truncation)
        if not start:
            continue
        surface.append(some.origin + some.depth[:, None] * some.direction)
        colour.append(some.rgb - np.float32(0.5))
    relief.volume.seen.copy_(grown(torch.from_numpy(near)))
    if not start:
        return
    relief.volume.logits.copy_(torch.from_numpy(occupancy(total, count)))
    fuse_colour(relief, np.concatenate(surface), np.concatenate(colour))


def occupancy(total: Float32, count: Float32) -> Float32:
    """Logits (L, Y, X) from the sums and numbers of signed distances that :func:`add_rays` found."""
    told = count > 0
    mean = np.where(told, total / np.maximum(count, 1e-6), 0.0)
    for layer in zip(mean, told, strict=True):
        spread_out(*layer)
    # Nobody looked there: inside something if a surface is above, else in the air.
    below = np.flip(np.maximum.accumulate(np.flip(told & (mean > 0), 0), 0), 0)
    logits = np.where(told, SURE_LOGIT * mean, np.where(below, GUESSED_LOGIT, -GUESSED_LOGIT))
    return logits.astype(np.float32)


def spread_out(values: Float32, told: Bool, levels: int = SPREAD_LEVELS) -> None:
    """Fill what is not told of a layer (Y, X) from what is told about it, the nearest first and in place: few rays
    would
    leave a surface full of holes. By halving the layer (Gortler et al., "The lumigraph", 1996, pull and push)."""
    for _ in range(SPREAD_STEPS):
        _grow(values, told)
    if levels == 0 or told.all() or not told.any():
        return
    full = told.shape[::-1]
    half = (full[0] + 1) // 2, (full[1] + 1) // 2
    share = cv2.resize(told.astype(np.float32), half, interpolation=cv2.INTER_AREA)
    sums = cv2.resize(np.where(told, values, np.float32(0.0)), half, interpolation=cv2.INTER_AREA)
    known = share > 0
    coarse = np.asarray(sums / np.maximum(share, np.float32(1e-9)), np.float32)
    spread_out(coarse, known, levels - 1)
    weight = cv2.resize(known.astype(np.float32), full, interpolation=cv2.INTER_LINEAR)
    sums = cv2.resize(np.where(known, coarse, np.float32(0.0)), full, interpolation=cv2.INTER_LINEAR)
    new = ~told & (weight > 0)
    values[new] = sums[new] / weight[new]
    told |= new


def _grow(values: Float32, told: Bool) -> None:
    """Tell the neighbours of what is told the mean of theirs, in place."""
    share = cv2.blur(told.astype(np.float32), (3, 3), borderType=cv2.BORDER_CONSTANT)
    new = ~told & (share > 0)
    if new.any():
        sums = cv2.blur(np.where(told, values, np.float32(0.0)), (3, 3), borderType=cv2.BORDER_CONSTANT)
        values[new] = sums[new] / share[new]
        told |= new


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


def fuse_colour(relief: Relief, surface: Float32, lacking: Float32) -> None:
    """The features' direct colours: the coarse volume's means, then what each map from the coarsest on still lacks, or
    likewise each level of the charts where there are any.

    surface, lacking: (M, 3) points in metres and their colours less 0.5; the latter is used up.
    """
    config, features = relief.config, relief.features
    step = (config.coarse_cell_m, config.coarse_cell_m, config.coarse_layer_m)
    coarse = means(surface, lacking, step, config.coarse_shape)
    features.coarse[:, :DIRECT_CHANNELS] = torch.from_numpy(coarse)
    if features.charts is not None:
        codes = chart_codes(features.chart_of, torch.from_numpy(surface), config.chart_m).numpy()
        where = layout(config.levels, config.chart_m)
        charted = chart_means(surface, lacking, codes, where, config.charts)
        features.charts[:, :DIRECT_CHANNELS] = torch.from_numpy(charted)
        surface, lacking = surface[codes < 0], lacking[codes < 0]
    for level in reversed(range(config.levels)):
        shape, start = (1, *config.map_shape(level)), features.starts[level]
        rows = means(surface, lacking, (config.texel_m(level),) * 3, shape)
        features.maps[start : start + len(rows), :DIRECT_CHANNELS] = torch.from_numpy(rows)


def means(points: Float32, values: Float32, step_m: tuple[float, float, float], shape: tuple[int, int, int]) -> Float32:
    """Means (cells, 3) of values (M, 3) at the points (M, 3) nearest to each cell of a grid (L, Y, X).

    They are drawn to 0 where there are few. What they explain, interpolated, is taken from the values.
    """
    steps = np.array(step_m, np.float32)
    total, count = np.zeros((int(np.prod(shape)), 3), np.float32), np.zeros(int(np.prod(shape)), np.float32)
    add_nearest(points, values, steps, shape, total, count)
    total /= (count + np.float32(0.5))[:, None]
    take_away(points, values, steps, shape, total)
    return total


@compiled
def nearest(position, size):
    """The vertex nearest to a position, clamped."""
    return min(max(int(position + np.float32(0.5)), 0), size - 1)


@compiled
def add_nearest(points, values, step, shape, total, count):
    """Add values (M, 3) to the cells nearest to their points."""
    layers, rows, columns = shape
    for n in range(len(points)):
        i, j = nearest(points[n, 0] / step[0], columns), nearest(points[n, 1] / step[1], rows)
        k = nearest(points[n, 2] / step[2], layers)
        index = (k * rows + j) * columns + i
        count[index] += np.float32(1)
        for c in range(3):
            total[index, c] += values[n, c]


@compiled
def take_away(points, values, step, shape, table):
    """Take from values (M, 3) what a table (cells, 3) says at the points, by linear interpolation."""
    layers, rows, columns = shape
    for n in range(len(points)):
        i, u = cell(points[n, 0] / step[0], columns)
        j, v = cell(points[n, 1] / step[1], rows)
        k, w = (0, np.float32(0)) if layers == 1 else cell(points[n, 2] / step[2], layers)
        for corner in range(4 if layers == 1 else 8):
            right, up, above = corner & 1, (corner >> 1) & 1, corner >> 2
            share = (u if right else np.float32(1) - u) * (v if up else np.float32(1) - v)
            share *= w if above else np.float32(1) - w
            index = ((k + above) * rows + j + up) * columns + i + right
            for c in range(3):
                values[n, c] -= share * table[index, c]
