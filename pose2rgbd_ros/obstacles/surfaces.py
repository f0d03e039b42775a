"""Where the surfaces that one view shows may be, for poses elsewhere: between the bounds of depth along each ray."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from pose2rgbd_ros.geometry.arrays import Bool, Float32, Float64
from pose2rgbd_ros.geometry.camera import Camera

FARTHEST_M = 1e4  # what lies farther is no surface to heed
SMOOTH = 0.05  # lower bounds of a block that differ by this share are of one surface
_TINY_M = 1e-9
FINEST_SIDE = 64  # images are pooled to at most this many blocks a side: hundreds of views are compared


@dataclass(frozen=True, eq=False)
class Surfaces:
    """M spindles in the map: from `start_m` (M, 3) along `way_m` (M, 3), `reach_m` (M,) to all sides.

    Seen from the camera a surface lies no nearer than the lower bound. Seen from elsewhere that point bounds nothing: the
    surface may lie anywhere up to the upper bound, and so nearer to who stands there. Hence the whole way between.
    """

    start_m: Float64
    way_m: Float64
    reach_m: Float64

    def __len__(self) -> int:
        return len(self.start_m)

    def near(self, place_m: Float64) -> Nearby:
        """The surfaces as seen from a place (3,) of the map."""
        offset = self._middle_m - place_m
        return Nearby(self, place_m, offset, _dot(offset, offset))

    @cached_property
    def _middle_m(self) -> Float64:
        return self.start_m + self.way_m / 2

    @cached_property
    def ball_m(self) -> Float64:
        """Radius (M,) of the ball around each spindle."""
        return np.sqrt(_dot(self.way_m, self.way_m)) / 2 + self.reach_m


@dataclass(frozen=True, eq=False)
class Nearby:
    """Surfaces about a place; `offset` (M, 3) to their middles, `square` (M,) of its length.

    Both questions are asked of the balls around the spindles first, which leaves few spindles to be looked at.
    """

    surfaces: Surfaces
    place_m: Float64
    offset: Float64
    square: Float64

    @cached_property
    def distance_m(self) -> float:
        """Least distance of any surface; inf: there are none."""
        if len(self.surfaces) == 0:
            return float("inf")
        middle, ball = np.sqrt(self.square), self.surfaces.ball_m
        return max(0.0, float(self._distances_m(middle - ball <= (middle + ball).min()).min()))

    def contact_m(self, direction: Float64, radius_m: float) -> float:
        """How far a ball at the place goes along a unit vector (3,) until it touches a surface; inf: never.

        Each surface is a capsule for that: the first of its two ends and its barrel that the widened ball meets.
        """
        forward, ball = self.offset @ direction, self.surfaces.ball_m + radius_m
        which = (self.square - forward**2 <= ball**2) & (forward + ball >= 0)
        if not which.any():
            return float("inf")
        wide, way = self.surfaces.reach_m[which] + radius_m, self.surfaces.way_m[which]
        to_start = self.surfaces.start_m[which] - self.place_m
        met = [_barrel_m(to_start, way, direction, wide)]
        for to_end in (to_start, to_start + way):
            met.append(_first_root(1.0, to_end @ direction, _dot(to_end, to_end) - wide**2))
        touched = self._distances_m(which) <= radius_m
        return float(np.where(touched, 0.0, np.minimum.reduce(met)).min())

    def _distances_m(self, which: Bool) -> Float64:
        """Of some of them."""
        way, to_place = self.surfaces.way_m[which], self.place_m - self.surfaces.start_m[which]
        share = np.clip(_dot(to_place, way) / np.maximum(_dot(way, way), _TINY_M), 0.0, 1.0)
        away = to_place - share[:, None] * way
        distance_m: Float64 = np.maximum(np.sqrt(_dot(away, away)) - self.surfaces.reach_m[which], 0.0)
        return distance_m


class SurfaceFinder:
    """Finds the surfaces in images of one camera; the rays are computed once."""

    def __init__(self, camera: Camera) -> None:
        """UserError: the camera is not calibrated."""
        self._block = -(-max(camera.width, camera.height) // FINEST_SIDE)
        h, w = (-(-side // self._block) for side in (camera.height, camera.width))
        middle = self._block / 2 - 0.5
        u, v = np.meshgrid(np.arange(w) * self._block + middle, np.arange(h) * self._block + middle)
        self._rays = camera.unproject(np.stack([u, v], axis=-1))
        self._slope = (
            np.sqrt(0.5) * self._block / min(camera.fx, camera.fy)
        )  # half a block's diagonal per metre

    def surfaces(self, lower_m: Float32, upper_m: Float32, T_map_cam: Float64) -> Surfaces:
        """Of bounds of depth (H, W), NaN unknown, at a pose: at most two spindles for each block of pixels.

        Where a block's lower bounds differ much, those nearer and farther than their middle are kept apart, or the edge of a roof
        would reach to the ground. Every pixel's bounds lie within a spindle.
        """
        lower = _blocks(np.where(lower_m < FARTHEST_M, lower_m, np.float32(np.nan)), self._block, "constant")
        upper = np.fmin(np.fmax(_blocks(upper_m, self._block, "constant"), lower), np.float32(FARTHEST_M))
        known = np.isfinite(lower)
        least, most = (
            np.where(known, lower, np.inf).min(axis=-1),
            np.where(known, lower, -np.inf).max(axis=-1),
        )
        with np.errstate(invalid="ignore"):
            one = most - least <= SMOOTH * least
            is_near = lower <= np.where(one, most, (least + most) / 2)[..., None]
        parts = [
            self._spindles(lower, upper, which, T_map_cam) for which in (known & is_near, known & ~is_near)
        ]
        return Surfaces(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    def _spindles(
        self, lower: Float32, upper: Float32, which: Bool, T_map_cam: Float64
    ) -> tuple[Float64, Float64, Float64]:
        """Start, way and reach of what some pixels of each block (h, w, pixels) may be."""
        begin = np.where(which, lower, np.float32(np.inf)).min(axis=-1)
        end = np.where(which, upper, np.float32(-np.inf)).max(axis=-1)
        there = np.isfinite(begin) & np.isfinite(self._rays).all(axis=-1)
        rays, begin, end = (
            self._rays[there] @ T_map_cam[:3, :3].T,
            begin[there].astype(np.float64),
            end[there].astype(np.float64),
        )
        start: Float64 = T_map_cam[:3, 3] + rays * begin[:, None]
        return start, rays * (end - begin)[:, None], self._slope * end


def coarser(lower_m: Float32, camera: Camera, most: int) -> tuple[Float32, Camera]:
    """Lower bounds (H, W) in blocks, at most `most` a side, and their camera: the least of each, NaN if one is unknown."""
    block = -(-max(camera.width, camera.height) // most)
    if block == 1:
        return lower_m, camera
    least = _blocks(lower_m, block, "edge").min(axis=-1)  # NaN wins
    h, w = least.shape
    scaled = replace(camera, width=w, height=h, fx=camera.fx / block, fy=camera.fy / block,
                     cx=(camera.cx + 0.5) / block - 0.5, cy=(camera.cy + 0.5) / block - 0.5)  # fmt: skip
    return least, scaled


def _blocks(image_m: Float32, block: int, beyond: Literal["edge", "constant"]) -> Float32:
    """An image cut into blocks, (h, w, pixels of a block); beyond its edge as at it, or NaN."""
    rows, columns = (-side % block for side in image_m.shape)
    how: dict[str, float] = {"constant_values": np.nan} if beyond == "constant" else {}
    padded = np.pad(image_m, ((0, rows), (0, columns)), mode=beyond, **how)  # type: ignore[call-overload]
    h, w = padded.shape[0] // block, padded.shape[1] // block
    blocks: Float32 = padded.reshape(h, block, w, block).swapaxes(1, 2).reshape(h, w, block * block)
    return blocks


def _barrel_m(to_start: Float64, way: Float64, direction: Float64, wide: Float64) -> Float64:
    """Where a ray enters cylinders about `way` (M, 3) between their ends, (M,); inf where it does not."""
    length = np.sqrt(_dot(way, way))
    axis = way / np.maximum(length, _TINY_M)[:, None]
    turned, begun = axis @ direction, _dot(to_start, axis)
    across, offset = direction - turned[:, None] * axis, to_start - begun[:, None] * axis
    entry = _first_root(_dot(across, across), _dot(offset, across), _dot(offset, offset) - wide**2)
    with np.errstate(invalid="ignore"):
        height = entry * turned - begun
        return np.where((height >= 0) & (height <= length), entry, np.inf)


def _first_root(a: Float64 | float, b: Float64, c: Float64) -> Float64:
    """The first t >= 0 at which a t^2 - 2 b t + c falls through zero; inf where it does not."""
    square = b * b - a * c
    with np.errstate(invalid="ignore", divide="ignore"):
        t = (b - np.sqrt(square)) / a
    return np.where((square >= 0) & (t >= 0) & np.isfinite(t), t, np.inf)


def _dot(a: Float64, b: Float64) -> Float64:
    product: Float64 = np.einsum("ij,ij->i", a, b)
    return product
