"""How far the scene is, by two views of it alone: the true distance is the one at which neighbours agree.

For images without depth (:func:`ground_distance`) and with depth whose unit is unknown (:class:`ScaledDepth`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np
import torch
from scipy.spatial import KDTree

from pose2rgbd_ros.depth_from_images import ImageSequence
from pose2rgbd_ros.depth_from_images.inverse_warp import inverse_warp
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import AnyArray, Float32, Float64, Frames, Int64
from pose2rgbd_ros.geometry.camera import Camera, resample, resample_map
from pose2rgbd_ros.geometry.depth import DepthEstimate, resize_nearest

# Of the distance, least, best and most: nearer views hardly move against each other, farther ones share nothing.
BASELINES = (0.12, 0.3, 0.6)
NEIGHBOURS = 4
MOST_TURN_DEG = 40.0
MOST_FRAMES = 400  # that are looked at
PAIRS = 24
CANDIDATES = 64
# Normalised correlation of the best candidate, and by how much it must stand out from those 1.3 times off or more.
LEAST_AGREEMENT, LEAST_CONTRAST = 0.35, 0.02
LEAST_OVERLAP = 0.15


@dataclass(frozen=True, eq=False)
class GreyViews:
    """Small images (N, H, W) float32 of an ideal pinhole, their numbers (N,) in the sequence and poses (N, 4, 4).

    undistort: (H, W, 2) where the pixels lie in an image of this size as it was taken; None: there.
    """

    grey: Float32
    frames: Int64
    T_map_cam: Float64
    camera: Camera
    undistort: Float32 | None

    @classmethod
    def of(cls, rgb: ImageSequence, camera: Camera, T_map_cam: Float64, size: int = 64) -> GreyViews:
        """At most MOST_FRAMES frames or a few more: stretches of the sequence, so that neighbours are among them."""
        frames = np.arange(len(rgb))[:: max(1, len(rgb) // MOST_FRAMES)]
        taken = camera.resized(size, size)
        ideal = replace(taken, distortion_model="none", distortion=())
        undistort = resample_map(taken, ideal) if taken.is_distorted else None
        grey = []
        for index in frames:
            image = cv2.cvtColor(np.asarray(rgb[int(index)]), cv2.COLOR_RGB2GRAY)
            small = np.asarray(cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA))
            grey.append(small if undistort is None else resample(small, undistort, nearest=False))
        return cls(np.stack(grey).astype(np.float32), frames, T_map_cam[frames], ideal, undistort)


class ScaledDepth:
    """Depth of another source, whose unit is unknown but the same for all frames, in the metres of the poses.

    Args:
        depth: N of (h, w), NaN unknown, for the frames of the sequence.
    """

    name = "scaled"

    def __init__(self, depth: Frames) -> None:
        self._depth = depth

    def unit_m(self, rgb: ImageSequence, camera: Camera, T_map_cam: Float64) -> float:
        """Metres in one unit of the depth.

        Raises:
            UserError: no unit makes neighbouring frames agree, or several do: then the scale must be given.
        """
        views = GreyViews.of(rgb, camera, T_map_cam)

        def shape_of(index: int) -> Float64:
            whole = np.asarray(self._depth[int(views.frames[index])], np.float32)
            small = resize_nearest(whole, views.camera.width, views.camera.height)
            if views.undistort is not None:
                small = resample(small, views.undistort, nearest=True, fill=np.nan)
            return np.asarray(small, np.float64)

        shapes = map(shape_of, _spread(len(views.frames), 32))
        known = [np.nanmedian(shape) for shape in shapes if np.isfinite(shape).any()]
        if not known:
            raise UserError("no pixel of the training frames has a known depth; train with --depth pictures")
        median = float(np.median(known))
        found = _best_distance(
            views, lambda index, distance: shape_of(index) * (distance / median), "the unit of the depth"
        )
        return found / median

    def estimate(
        self, rgb: ImageSequence, camera: Camera, T_map_cam: Float64 | None, frames: Int64
    ) -> Iterator[DepthEstimate]:
        """See :class:`DepthFromImages`; confidence is 1 where depth is known."""
        if T_map_cam is None:
            raise UserError("depth cannot be scaled to metres without the poses of the images")
        unit_m = self.unit_m(rgb, camera, T_map_cam)
        scaled = ((int(index), np.asarray(self._depth[int(index)] * unit_m, np.float32)) for index in frames)
        return (DepthEstimate(index, depth, np.isfinite(depth).astype(np.float32), 1.0) for index, depth in scaled)


def ground_distance(views: GreyViews, normal: Float64) -> float:
    """Typical distance (m) from the cameras to a plane that neighbours agree to see, across `normal` (3,) in the map.

    UserError as :meth:`ScaledDepth.unit_m`.
    """
    along = views.T_map_cam[:, :3, 3] @ normal
    rays = views.camera.rays()

    def shape_of(index: int, distance: float) -> Float64:
        height = along[index] - (np.median(along) - distance)
        down = -(rays @ views.T_map_cam[index, :3, :3].T) @ normal
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = height / down
        return np.where((depth > 0) & (depth < 6 * distance), depth, np.nan)

    return _best_distance(views, shape_of, "how far the ground is")


def agreement(views: GreyViews, pairs: list[tuple[int, int]], shape_of: Callable[[int], Float64]) -> float:
    """Mean normalised correlation (N frames with their partners) of what the one shows with what the other shows of the
    surface at these depths; 0 at worst.
    """
    if not pairs:
        return 0.0
    ones, others = (list(numbers) for numbers in zip(*pairs, strict=True))
    warped = inverse_warp(
        torch.from_numpy(views.grey[others, None]),
        torch.from_numpy(np.stack([shape_of(one) for one in ones]).astype(np.float32)),
        torch.from_numpy(se3.inverse(views.T_map_cam[others]) @ views.T_map_cam[ones]).float(),
        torch.from_numpy(views.camera.K).float(),
    )
    scores = [
        max(0.0, correlation(grey[valid], seen[valid])) if valid.mean() >= LEAST_OVERLAP else 0.0
        for grey, seen, valid in zip(views.grey[ones], warped.image[:, 0].numpy(), warped.valid.numpy(), strict=True)
    ]
    return float(np.mean(scores))


def correlation(a: Float32, b: Float32) -> float:
    """Normalised correlation of values (N,); 0 where one of them does not vary."""
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a * a).mean() * (b * b).mean()))
    return float((a * b).mean()) / scale if scale > 1e-3 else 0.0


def find_pairs(T_map_cam: Float64, distance_m: float, count: int = PAIRS) -> list[tuple[int, int]]:
    """Frames, evenly spaced, each with the neighbour whose baseline is best for this distance."""
    partner = neighbours(T_map_cam, distance_m, 1)
    return [(one, other) for one in map(int, _spread(len(T_map_cam), count)) for other in partner(one)]


def neighbours(T_map_cam: Float64, distance_m: float, most_of: int = NEIGHBOURS) -> Callable[[int], list[int]]:
    """A function: index of a frame -> at most `most_of` others that look the same way, from different sides."""
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
        for _ in range(min(most_of, len(near))):
            # As near to the best baseline as can be, and not in a direction that is taken already.
            at = int((np.abs(np.log(length / best)) + taken).argmin())
            chosen.append(int(near[at]))
            along = offset @ offset[at] / (length * length[at])
            taken += np.maximum(along, 0.0)
            taken[at] = np.inf
        return chosen

    return of


def _best_distance(views: GreyViews, shape_of: Callable[..., Float64], what: str) -> float:
    """The typical distance (m) at which pairs agree best, refined once; UserError where none stands out."""
    position = views.T_map_cam[:, :3, 3]
    extent = float(np.linalg.norm(np.ptp(position, axis=0)))
    if not extent > 0:
        raise UserError(f"all training frames were taken at one place, which does not show {what}")
    candidates = np.geomspace(extent / 300, 3 * extent, CANDIDATES)
    scores = np.array([_score(views, shape_of, distance) for distance in candidates])
    best = int(scores.argmax())
    others = scores[np.abs(np.log(candidates / candidates[best])) > np.log(1.3)]
    if scores[best] < LEAST_AGREEMENT or scores[best] - others.max(initial=0.0) < LEAST_CONTRAST:
        raise UserError(
            f"the frames do not show {what}: neighbouring views agree with a correlation of {scores[best]:.2f} at best "
            f"(at {candidates[best]:.3g} m) and {others.max(initial=0.0):.2f} elsewhere; poses too inexact, or views "
            "too few and too alike. Give metric depth"
        )
    fine = candidates[best] * np.geomspace(1 / 1.12, 1.12, 25)
    pairs = find_pairs(views.T_map_cam, float(candidates[best]))
    refined = [agreement(views, pairs, partial(shape_of, distance=distance)) for distance in fine]
    return float(fine[int(np.argmax(refined))])


def _score(views: GreyViews, shape_of: Callable[..., Float64], distance: float) -> float:
    pairs = find_pairs(views.T_map_cam, distance)
    # A distance at which few frames have a partner at all is not supported by the flight.
    share = min(1.0, 4 * len(pairs) / min(PAIRS, len(views.grey)))
    return share * agreement(views, pairs, partial(shape_of, distance=distance))


def _spread(count: int, most: int) -> AnyArray:
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))
