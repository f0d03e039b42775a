"""Multi-view stereo: the depth at which a frame's neighbours show the same, kept where theirs agrees with it.

Coarse to fine. At half the size (small images: at their own) planes about that of the scene are swept (Collins, "A
space-sweep approach to true multi-image matching", 1996) and smoothed along eight directions (Hirschmueller, "Stereo
processing by semiglobal matching and mutual information", 2008); at the full size every pixel is then moved along its
ray. Of the neighbours the two that agree best count, so that what one cannot see does no harm. At last a depth must be
confirmed by the depths of other frames, looked up there and back.
"""

from __future__ import annotations

import functools
import logging
import os
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np

from pose2rgbd_ros.depth_from_images import ImageSequence
from pose2rgbd_ros.depth_from_images.metric_scale import LARGEST_SCALE_SIGMA
from pose2rgbd_ros.depth_from_images.multi_view import GreyViews, ground_distance
from pose2rgbd_ros.depth_from_images.scene import Outlook, Outlooks, SparseScene
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import AnyArray, Bool, Float32, Float64, Int64, UInt8
from pose2rgbd_ros.geometry.camera import Camera, pixel_grid, resample, resample_map
from pose2rgbd_ros.geometry.depth import DepthEstimate
from pose2rgbd_ros.settings import setting

logger = logging.getLogger(__name__)

UP = np.array([0.0, 0.0, 1.0])
SMALL_PX = 384  # images no larger are swept as they are
WINDOW_PX, COARSE_WINDOW_PX = 7, 5
LARGEST_COST = 1.5  # of locally normalised grey: a worse match is as bad as none
# Of neighbouring pixels one plane apart, and farther apart, in units of the cost.
STEP_COST, JUMP_COST = 0.04, 0.4
MOST_PLANES, FEWEST_PLANES = 160, 16
FINE_STEPS, FINE_PX = 4, 0.5  # to each side, and how far apart
LEAST_CORRELATION = 0.2
AGREE_PX = 1.0  # there and back
KEPT_FRAMES = 192  # ready to be looked at; others are read, or matched, again
SPECKLE_PX, SPECKLE_STEP = 60, 0.01  # regions of fewer pixels whose inverse depth steps by more at their edge are noise


@dataclass(frozen=True)
class StereoSettings:
    """How dense depth is made."""

    size: int = setting(512, "longer side in pixels at which images are compared", ge=32)
    views: int = setting(6, "other frames that a frame is compared with", ge=2, le=16)
    agree: int = setting(
        2,
        "other frames whose depth must confirm that of a pixel, one where at most half of `views` could see it; with "
        "fewer it is unknown",
        ge=1,
    )
    threads: int = setting(0, "processor threads; 0: one per core, at most 4", ge=0)


class Matched(NamedTuple):
    """Of one frame before it is confirmed: inverse depth (H, W), NaN unknown, and correlation (H, W) 0..1."""

    inverse: Float32
    correlation: Float32


@dataclass(frozen=True, eq=False)
class MultiViewStereo:
    """Dense depth of posed images.

    scene: sparse points; None: of the plane across `normal` that lies `distance_m` away, or (None) where neighbouring
        frames agree to see one.
    rank: (N,) a frame is compared with frames of its own rank and below; None: with all.
    scale_sigma: relative standard deviation of the poses' scale; None: not known.
    """

    settings: StereoSettings = StereoSettings()
    scene: SparseScene | None = None
    rank: Int64 | None = None
    normal: Float64 | None = None
    distance_m: float | None = None
    scale_sigma: float | None = None
    name = "multi-view stereo"

    def estimate(
        self, rgb: ImageSequence, camera: Camera, T_map_cam: Float64 | None, frames: Int64
    ) -> Iterator[DepthEstimate]:
        """See :class:`DepthFromImages`; depth has `settings.size` pixels, where that is less than the images'.

        Confidence is how many of the neighbours that could see a pixel confirm it and how closely, times how well its
        surroundings correlate.
        """
        if T_map_cam is None:
            raise UserError("multi-view stereo needs the poses of the images")
        if not camera.is_calibrated:
            raise UserError("multi-view stereo needs the camera's focal length; `pose2rgbd align` finds it")
        scale = min(1.0, self.settings.size / max(camera.width, camera.height))
        taken = camera.resized(max(2, round(camera.width * scale)), max(2, round(camera.height * scale)))
        ideal = replace(taken, distortion_model="none", distortion=())
        scene = self.scene
        if scene is None:
            normal = UP if self.normal is None else self.normal
            distance_m = self.distance_m or ground_distance(GreyViews.of(rgb, camera, T_map_cam), normal)
            logger.info("depth comes from neighbouring images, around %.3g m from the cameras", distance_m)
            scene = SparseScene.of_plane(T_map_cam, ideal, normal, distance_m)
        rank = np.zeros(len(T_map_cam), np.int64) if self.rank is None else self.rank
        outlooks = Outlooks(scene, T_map_cam, ideal, rank, self.settings.views)
        relative = self.scale_sigma is not None and self.scale_sigma > LARGEST_SCALE_SIGMA
        unit_m = None if relative else 1.0
        stereo = _Stereo(rgb, taken, ideal, T_map_cam, outlooks, self.settings)
        return (replace(found, unit_m=unit_m, unit_sigma=self.scale_sigma) for found in stereo.run(frames))


class _Stereo:
    """One estimate under way."""

    def __init__(
        self, rgb: ImageSequence, taken: Camera, ideal: Camera, T_map_cam: Float64, outlooks: Outlooks,
        settings: StereoSettings,
    ) -> None:  # fmt: skip
        self._rgb, self._taken, self._camera, self._T_map_cam = rgb, taken, ideal, T_map_cam
        self._settings = settings
        bent = taken.is_distorted
        self._undistort: Float32 | None = resample_map(taken, ideal) if bent else None
        self._distort: Float32 | None = resample_map(ideal, taken) if bent else None
        small = max(ideal.width, ideal.height) <= SMALL_PX
        self._coarse = ideal if small else ideal.resized(ideal.width // 2, ideal.height // 2)
        self._matched: OrderedDict[int, Matched | None] = OrderedDict()
        self._grey = functools.lru_cache(KEPT_FRAMES)(self._read)
        self._outlook = functools.lru_cache(None)(outlooks.of)

    def run(self, frames: Int64) -> Iterator[DepthEstimate]:
        """A few frames at a time: their own depth and that of their neighbours, and then what of it agrees."""
        threads = self._settings.threads or min(os.cpu_count() or 1, 4)
        before = cv2.getNumThreads()
        with ThreadPoolExecutor(threads) as pool:
            for some in np.array_split(frames, -(-len(frames) // (2 * threads))):
                cv2.setNumThreads(1)  # the frames are worked at side by side
                try:
                    needed = {int(i) for i in some} | {j for i in some for j in self._others(int(i))}
                    missing = sorted(needed - set(self._matched))
                    self._matched.update(zip(missing, pool.map(self._match, missing), strict=True))
                    done = list(pool.map(self._confirm, map(int, some)))
                finally:
                    cv2.setNumThreads(before)
                for index in needed:
                    self._matched.move_to_end(index)
                while len(self._matched) > max(KEPT_FRAMES, len(needed)):
                    self._matched.popitem(last=False)
                yield from done

    def _others(self, index: int) -> list[int]:
        outlook = self._outlook(index)
        return outlook.others if outlook is not None else []

    def _read(self, index: int) -> UInt8:
        """(H, W) grey of the ideal camera."""
        image = cv2.cvtColor(np.asarray(self._rgb[index]), cv2.COLOR_RGB2GRAY)
        small = cv2.resize(image, (self._taken.width, self._taken.height), interpolation=cv2.INTER_AREA)
        return np.asarray(small if self._undistort is None else resample(small, self._undistort, nearest=False))

    def _match(self, index: int) -> Matched | None:
        """Depth of a frame by its neighbours' images; None where they do not suffice."""
        outlook = self._outlook(index)
        if outlook is None:
            return None
        T = [se3.inverse(self._T_map_cam[other]) @ self._T_map_cam[index] for other in outlook.others]
        one, others = self._grey(index), [self._grey(other) for other in outlook.others]
        coarse = self._coarse
        small = [_normalized(cv2.resize(each, (coarse.width, coarse.height), interpolation=cv2.INTER_AREA))
                 for each in (one, *others)]  # fmt: skip
        rough, step = _sweep(small[0], small[1:], T, coarse, self._camera, outlook)
        start = cv2.resize(cv2.medianBlur(rough, 5), (one.shape[1], one.shape[0]), interpolation=cv2.INTER_LINEAR)
        return _refine(one, others, T, self._camera, np.asarray(start, np.float32), step * coarse.width / one.shape[1])

    def _confirm(self, index: int) -> DepthEstimate:
        matched = self._matched[index]
        if matched is None:
            unknown = np.full((self._taken.height, self._taken.width), np.nan, np.float32)
            return DepthEstimate(index, unknown, np.zeros_like(unknown), unit_m=1.0)
        others = [
            (found, se3.inverse(self._T_map_cam[other]) @ self._T_map_cam[index])
            for other in self._others(index)
            if (found := self._matched[other]) is not None
        ]
        inverse, confidence = _confirmed(matched, others, self._camera, self._settings)
        inverse = _without_speckles(inverse)
        depth = np.asarray(1 / inverse, np.float32)
        confidence[np.isnan(depth)] = 0
        if self._distort is not None:
            depth = resample(depth, self._distort, nearest=True, fill=np.nan)
            confidence = resample(confidence, self._distort, nearest=True)
        return DepthEstimate(index, depth, confidence, unit_m=1.0)


def _normalized(grey: AnyArray) -> Float32:
    """Local mean 0 and deviation about 1: light and vignetting drop out."""
    values = np.asarray(grey, np.float32)
    size = (2 * COARSE_WINDOW_PX - 1, 2 * COARSE_WINDOW_PX - 1)
    mean = cv2.blur(values, size)
    deviation = np.sqrt(np.maximum(cv2.blur(values * values, size) - mean * mean, 0.0))
    return np.asarray((values - mean) / (deviation + 3.0), np.float32)


def _sweep(
    one: Float32, others: list[Float32], T_other_one: list[Float64], camera: Camera, fine: Camera, outlook: Outlook
) -> tuple[Float32, float]:
    """Inverse depth (H, W) by planes parallel in it to the scene's, and how far apart these are."""
    height, width = one.shape
    # Pixels of the fine image as of the coarse one: the plane's coefficients change with them.
    sx, sy = fine.width / camera.width, fine.height / camera.height
    a, b, c = outlook.plane
    plane = np.array([a * sx, b * sy, c + a * (0.5 * sx - 0.5) + b * (0.5 * sy - 0.5)])
    step = 1 / max(_rate(T, camera, plane) for T in T_other_one)  # a pixel where it moves most
    count = int(np.clip(np.ceil((outlook.farther + outlook.nearer) / step) + 1, FEWEST_PLANES, MOST_PLANES))
    offsets = np.linspace(-outlook.farther, outlook.nearer, count)
    u, v = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    base = np.asarray(plane[0] * u + plane[1] * v + plane[2], np.float32)
    turned = [camera.K @ T[:3, :3] @ np.linalg.inv(camera.K) for T in T_other_one]
    moved = [camera.K @ T[:3, 3] for T in T_other_one]
    cost = np.empty((height, width, count), np.float32)
    for p, offset in enumerate(offsets):
        first: AnyArray = np.full(one.shape, LARGEST_COST, np.float32)
        second = first
        for other, H, t in zip(others, turned, moved, strict=True):
            whole = H + np.outer(t, plane + np.array([0, 0, offset]))
            seen = cv2.warpPerspective(
                other, whole, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderValue=1e3
            )
            off = np.minimum(cv2.absdiff(one, seen), np.float32(LARGEST_COST))
            each = cv2.blur(off, (COARSE_WINDOW_PX, COARSE_WINDOW_PX))
            first, second = cv2.min(first, each), cv2.min(second, cv2.max(first, each))
        cost[..., p] = (first + second) / 2
        cost[..., p][base + offset <= 0] = LARGEST_COST  # beyond infinity
    spacing = float(offsets[1] - offsets[0])
    return np.asarray(base + offsets[0] + spacing * _lowest(_smoothed(cost)), np.float32), spacing


def _rate(T_other_one: Float64, camera: Camera, plane: Float64) -> float:
    """Pixels that the plane's points move in another view, median, for one unit of inverse depth."""
    grid = np.stack(np.meshgrid(*(np.linspace(0, size - 1, 7) for size in (camera.width, camera.height))), axis=-1)
    inverse = grid @ plane[:2] + plane[2]
    rays = camera.unproject(grid)[inverse > 0]
    inverse = inverse[inverse > 0]
    R, t = T_other_one[:3, :3], T_other_one[:3, 3]
    here, there = (camera.project(rays @ R.T + t * (share * inverse)[:, None]) for share in (1.0, 1.01))
    rate = np.linalg.norm(there - here, axis=1) / (0.01 * inverse)
    return float(np.nanmedian(rate)) if np.isfinite(rate).any() else 1e-9


def _lowest(cost: Float32) -> Float32:
    """Where along the last axis (H, W, P) the lowest cost lies, between its places by a parabola."""
    inner = cost.argmin(axis=2).clip(1, cost.shape[2] - 2)
    before, here, after = (np.take_along_axis(cost, (inner + k)[..., None], axis=2)[..., 0] for k in (-1, 0, 1))
    bend = before - 2 * here + after
    between = np.where(bend > 1e-6, 0.5 * (before - after) / np.maximum(bend, 1e-6), 0.0).clip(-1, 1)
    return np.asarray(inner + between, np.float32)


def _smoothed(cost: Float32) -> Float32:
    """Costs (H, W, P) summed along eight directions, in which a step from plane to plane costs too."""
    height, width, planes = cost.shape
    total = np.zeros_like(cost)
    for dy, dx in ((1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)):
        _along(cost, total, range(height) if dy > 0 else range(height - 1, -1, -1), dx)
    across, across_total = np.swapaxes(cost, 0, 1).copy(), np.zeros((width, height, planes), np.float32)
    for rows in (range(width), range(width - 1, -1, -1)):
        _along(across, across_total, rows, 0)
    return total + np.swapaxes(across_total, 0, 1)


def _along(cost: Float32, total: Float32, rows: range, dx: int) -> None:
    """Add to `total` the costs of the paths that come from the row before, `dx` pixels aside."""
    path = cost[rows[0]].copy()
    total[rows[0]] += path
    padded = np.full((path.shape[0], path.shape[1] + 2), np.inf, np.float32)
    for row in rows[1:]:
        if dx:
            path = np.roll(path, dx, axis=0)
            path[0 if dx > 0 else -1] = 0  # nothing comes from beyond the edge
        least = path.min(axis=1, keepdims=True)
        padded[:, 1:-1] = path
        near = np.minimum(padded[:, :-2], padded[:, 2:])
        near += np.float32(STEP_COST)
        np.minimum(near, path, out=near)
        np.minimum(near, least + np.float32(JUMP_COST), out=near)
        near -= least
        near += cost[row]
        path = near
        total[row] += path


def _refine(
    one: UInt8, others: list[UInt8], T_other_one: list[Float64], camera: Camera, start: Float32, spacing: float
) -> Matched:
    """The correlation of windows that follow the surface, at some inverse depths around `start` (H, W)."""
    grey = one.astype(np.float32)
    window = (WINDOW_PX, WINDOW_PX)
    mean = cv2.blur(grey, window)
    deviation = np.sqrt(np.maximum(cv2.blur(grey * grey, window) - mean * mean, 0.0)) + 1.0
    uv = pixel_grid(camera.width, camera.height).reshape(-1, 2).T
    grid = np.concatenate([uv, np.ones_like(uv[:1])])
    looked = [other.astype(np.float32) for other in others]
    lines: list[tuple[AnyArray, AnyArray]] = []  # of a pixel's ray in another: where it begins to go, and where to
    for T in T_other_one:
        H, t = camera.K @ T[:3, :3] @ np.linalg.inv(camera.K), camera.K @ T[:3, 3]
        lines.append(((H @ grid).reshape(3, *grey.shape).astype(np.float32), t.astype(np.float32)))
    step = np.float32(spacing * FINE_PX)
    costs = []
    for k in range(-FINE_STEPS, FINE_STEPS + 1):
        inverse = start + k * step
        first: AnyArray = np.ones_like(grey)
        second = first
        for other, ((x, y, z), t) in zip(looked, lines, strict=True):
            depth = z + t[2] * inverse
            behind = depth <= 1e-6
            depth[behind] = 1.0
            at_x, at_y = (x + t[0] * inverse) / depth, (y + t[1] * inverse) / depth
            at_x[behind] = -2
            seen = cv2.remap(other, at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            outside = (at_x < 0) | (at_y < 0) | (at_x > grey.shape[1] - 1) | (at_y > grey.shape[0] - 1)
            seen_mean = cv2.blur(seen, window)
            seen_deviation = np.sqrt(np.maximum(cv2.blur(seen * seen, window) - seen_mean * seen_mean, 0.0)) + 1.0
            each = 1 - (cv2.blur(grey * seen, window) - mean * seen_mean) / (deviation * seen_deviation)
            each[outside] = 1.0
            first, second = cv2.min(first, each), cv2.min(second, cv2.max(first, each))
        costs.append((first + second) / 2)
    cost: Float32 = np.stack(costs, axis=2).astype(np.float32)
    inverse = start + step * (_lowest(cost) - FINE_STEPS)
    correlation = np.clip(1 - cost.min(axis=2), 0, 1)
    known = (correlation > LEAST_CORRELATION) & (inverse > 0)
    return Matched(np.where(known, inverse, np.nan).astype(np.float32), correlation.astype(np.float32))


def _confirmed(
    mine: Matched, others: list[tuple[Matched, Float64]], camera: Camera, settings: StereoSettings
) -> tuple[Float32, Float32]:
    """Inverse depth (H, W) averaged with that of the others that agree, NaN where too few do; and confidence.

    Looked up in another's depth and back again, a point must come out within AGREE_PX of its pixel. At the edge of a
    flight, which few frames see, one that agrees has to do: without a depth there is no picture of it at all.
    """
    rays = camera.rays().astype(np.float32)
    u, v = np.moveaxis(pixel_grid(camera.width, camera.height).astype(np.float32), -1, 0)
    known = np.isfinite(mine.inverse)
    depth = 1 / np.where(known, mine.inverse, np.float32(1))
    points = rays * depth[..., None]
    total, weight = np.where(known, mine.inverse, 0), known.astype(np.float32)
    votes, could, count = (np.zeros(depth.shape, np.float32) for _ in range(3))
    for other, T_other_one in others:
        R, t = T_other_one[:3, :3].astype(np.float32), T_other_one[:3, 3].astype(np.float32)
        there = points @ R.T + t
        z = np.maximum(there[..., 2], np.float32(1e-6))
        x, y = camera.fx * there[..., 0] / z + camera.cx, camera.fy * there[..., 1] / z + camera.cy
        inside = known & (x > -0.5) & (y > -0.5) & (x < camera.width - 0.5) & (y < camera.height - 0.5)
        inside &= there[..., 2] > 1e-6
        x, y = np.where(inside, x, 0).astype(np.float32), np.where(inside, y, 0).astype(np.float32)
        its = cv2.remap(other.inverse, np.rint(x), np.rint(y), cv2.INTER_NEAREST)
        met = inside & np.isfinite(its)
        its = np.where(met, its, np.float32(1))
        # The point that the other sees there, on its ray, in this camera.
        there = np.stack([(x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy, np.ones_like(x)], axis=-1)
        here = (there.astype(np.float32) / its[..., None] - t) @ R
        z = np.maximum(here[..., 2], np.float32(1e-6))
        off = np.hypot(camera.fx * here[..., 0] / z + camera.cx - u, camera.fy * here[..., 1] / z + camera.cy - v)
        near = met & (off < AGREE_PX) & (here[..., 2] > 1e-6)
        vote = np.where(near, np.exp(-2 * (off / AGREE_PX) ** 2), np.float32(0))
        could += inside
        count += near
        votes += vote
        total += vote / z
        weight += vote
    sure = known & (count >= np.where(could <= settings.views / 2, 1, settings.agree))
    inverse = np.where(sure, total / np.maximum(weight, 1e-6), np.nan).astype(np.float32)
    confidence = votes / np.maximum(could, settings.agree) * mine.correlation
    return inverse, np.where(sure, confidence, 0).astype(np.float32)


def _without_speckles(inverse: Float32) -> Float32:
    known: Bool = np.isfinite(inverse)
    if not known.any():
        return inverse
    top = float(np.median(inverse[known]))
    counts = np.where(known, np.clip(inverse / top * 4096, 1, 32767), 0).astype(np.int16)
    cv2.filterSpeckles(counts, 0, SPECKLE_PX, SPECKLE_STEP * 4096)
    return np.where(counts > 0, inverse, np.float32(np.nan))
