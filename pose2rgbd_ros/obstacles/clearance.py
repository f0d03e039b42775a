"""How much room there is: the nearest obstacle, and the free way of a ball along a direction, from lower bounds of
depth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

from pose2rgbd_ros.geometry.arrays import AnyArray, Bool, Float32, Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.obstacles.view import BEYOND_M, DepthView

AT_REST_MPS = 0.05
DOWN = np.array([0.0, 0.0, -1.0])
_RING = np.array([(math.cos(a), math.sin(a)) for a in np.linspace(0, 2 * np.pi, 16, endpoint=False)])


class Nearest(NamedTuple):
    """Distance to the nearest known obstacle from the body's origin, and its direction (3,); NaN: none known."""

    distance_m: float
    direction: Float64


NONE_KNOWN = Nearest(math.nan, np.full(3, np.nan))


def nearest_obstacle(sight: DepthView) -> Nearest:
    """The nearest point that an obstacle may have, by the lower bound along every known ray."""
    rays, origin = sight.rays.reshape(-1, 3), sight.origin_m
    squared = np.einsum("ij,ij->i", rays, rays)
    with np.errstate(invalid="ignore", divide="ignore"):
        depth = np.maximum(sight.lower_m.ravel(), -(rays @ origin) / squared)
        distance = squared * depth**2 + 2 * depth * (rays @ origin)
    distance[~(sight.lower_m.ravel() < BEYOND_M)] = np.nan
    if np.isnan(distance).all():
        return NONE_KNOWN
    index = int(np.nanargmin(distance))
    point = origin.astype(np.float64) + rays[index].astype(np.float64) * float(depth[index])
    length = float(np.linalg.norm(point))
    return Nearest(length, point / length if length > 0 else np.array([1.0, 0.0, 0.0]))


def free_distance_along(
    sight: DepthView, direction: Float64, radius_m: float, near_m: float, range_max_m: float, unknown_share: float = 0.0
) -> float:
    """How far a ball of `radius_m` at the body's origin can go in this direction before it may touch something, in
    metres.

    Args:
        direction: (3,) in the body frame; its length does not matter.
        near_m: rays of unknown depth that leave the ball's tube nearer than this do not make it unknown.
        range_max_m: the answer where nothing is met; never more.
        unknown_share: of the rays that reach farther, how many may be unknown beside something known to stand in the
            way.

    NaN, unknown, where the tube at `near_m` is not wholly in the image, or more of its rays are of unknown depth, or
    where any is and nothing known ends the way: no distance is given beyond what is known.
    """
    axis = np.asarray(direction, np.float64) / np.linalg.norm(direction)
    if not sight.sees(_tube_corners(axis, radius_m, near_m, range_max_m)).all():
        return math.nan
    tube = _in_tube(sight, axis, radius_m, near_m)
    start, unknown = float(sight.origin_m @ axis), np.isnan(sight.lower_m.ravel()[tube.pixels])
    with np.errstate(invalid="ignore"):
        reaches = (tube.enter <= tube.leave) & (start + tube.along * tube.leave >= near_m)
    reaches &= tube.along > 0
    unknowns, rays = np.count_nonzero(reaches & unknown), np.count_nonzero(reaches)
    if rays == 0 or unknowns > unknown_share * rays:
        return math.nan
    room_m = _contact(sight, axis, radius_m, tube)
    return math.nan if unknowns and room_m >= range_max_m else min(room_m, range_max_m)


def height_above_ground(
    sight: DepthView, radius_m: float, near_m: float, range_max_m: float, unknown_share: float = 0.0
) -> float:
    """Height of the body's origin above what is below it: free distance straight down plus the radius; NaN unknown."""
    room = free_distance_along(sight, DOWN, radius_m, near_m, range_max_m - radius_m, unknown_share)
    return room + radius_m


def time_to_collision_s(room_m: float, speed_mps: float) -> float:
    """Seconds until `room_m` is used up at this speed: inf at rest, NaN where the speed or the room is unknown."""
    if math.isnan(speed_mps):
        return math.nan
    return math.inf if speed_mps < AT_REST_MPS else room_m / speed_mps


def _tube_corners(axis: Float64, radius_m: float, near_m: float, range_max_m: float) -> Float64:
    """Points (32, 3) around the tube where it begins to count and where it ends."""
    side = np.cross(axis, [0.0, 0.0, 1.0] if abs(axis[2]) < 0.9 else [1.0, 0.0, 0.0])
    side /= np.linalg.norm(side)
    ring = radius_m * (_RING[:, :1] * side + _RING[:, 1:] * np.cross(axis, side))
    return np.concatenate([near_m * axis + ring, range_max_m * axis + ring])


class _Tube(NamedTuple):
    """Of the pixels (n,) that matter: way along the axis per metre of depth, depths at which the ray enters and
    leaves (after
    leaving: never), and how much thicker the pixel gets per metre of depth, across and along the axis."""

    pixels: AnyArray
    along: Float32
    enter: Float32
    leave: Float32
    across: Float32
    ahead: Float32


def _in_tube(sight: DepthView, axis: Float64, radius_m: float, near_m: float) -> _Tube:
    """Where rays, as thick as their pixels, are in an endless tube around the axis."""
    u = axis.astype(np.float32)
    offset = sight.origin_m - (sight.origin_m @ u) * u
    pixels = _near_tube(sight, u, radius_m + float(np.linalg.norm(offset)), near_m)
    rays = sight.rays.reshape(-1, 3)[pixels]
    along = rays @ u
    sideways = rays - along[:, None] * u
    across, ahead = (np.broadcast_to(part, sight.lower_m.shape).ravel()[pixels] for part in _thickness(sight, u))
    # |offset + t sideways| <= radius + t across, as a t^2 + 2 b t + c <= 0
    a = np.einsum("ij,ij->i", sideways, sideways) - across**2
    b = sideways @ offset - np.float32(radius_m) * across
    c = np.float32(float(offset @ offset) - radius_m**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        root = np.sqrt(b * b - a * c)
        low, high = (-b - root) / a, (-b + root) / a
        enter = np.where(a > 0, np.maximum(low, 0), np.float32(0))
        leave = np.where(a > 0, high, np.float32(np.inf))
        # A pixel that widens faster than it turns away stays inside from where it comes in.
        later = (a <= 0) & (c > 0)
        enter = np.where(later, np.where(a < 0, low, -c / (2 * b)), enter)
        leave = np.where(later & ~(enter > 0), np.float32(-np.inf), leave)
    return _Tube(
        pixels,
        along,
        np.maximum(np.nan_to_num(enter, nan=np.inf), 0),
        np.nan_to_num(leave, nan=-np.inf, posinf=np.inf),
        across,
        ahead,
    )


def _near_tube(sight: DepthView, u: Float32, within_m: float, near_m: float) -> AnyArray:
    """The pixels (n,) that the tube may be a matter of: in it at near_m, or where they end. Saves most of the work."""
    along = sight.rays @ u
    sideways = np.sqrt(np.maximum((sight.rays**2).sum(axis=-1) - along**2, 0)) - _thickness(sight, u)[0]
    least = np.float32(max(near_m - float(sight.origin_m @ u), 0.0))
    with np.errstate(invalid="ignore"):
        reaches = (along > 0) & (sideways * least <= within_m * along)
        return np.flatnonzero(reaches | (sideways * sight.lower_m <= within_m))


def _thickness(sight: DepthView, u: Float32) -> tuple[AnyArray, AnyArray]:
    """Half a pixel's size across an axis, and along it, per metre of depth: () or (H, W) each."""
    across = []
    for step in (sight.step_u, sight.step_v):
        sideways = step - (step @ u)[..., None] * u
        across.append(np.sqrt((sideways**2).sum(axis=-1)))
    return np.float32(0.5) * (across[0] + across[1]), sight.half_pixel(u.astype(np.float64))


def _contact(sight: DepthView, axis: Float64, radius_m: float, tube: _Tube) -> float:
    """The least way of the ball to anything that known rays may meet in front of it; inf where there is nothing."""
    start, u = float(sight.origin_m @ axis), axis.astype(np.float32)
    lower = sight.lower_m.ravel()[tube.pixels]
    with np.errstate(invalid="ignore", divide="ignore"):
        begins = np.maximum(tube.enter, lower)
        level = -start / tube.along  # depth at which the ray passes the ball's middle
        begins = np.where(tube.along > 0, np.maximum(begins, level), begins)
        ends = np.where(tube.along > 0, tube.leave, np.minimum(tube.leave, level))
        met = np.flatnonzero((begins <= ends) & (begins < BEYOND_M))
    if len(met) == 0:
        return math.inf
    begins, along = begins[met], tube.along[met]
    rays = sight.rays.reshape(-1, 3)[tube.pixels[met]]
    point = sight.origin_m + rays * begins[:, None]
    ahead = point @ u
    across = point - ahead[:, None] * u
    beside = np.maximum(np.sqrt(np.einsum("ij,ij->i", across, across)) - tube.across[met] * begins, 0)
    diverges = (along > 0) & (np.einsum("ij,ij->i", across, rays) >= 0)
    # A ray that comes nearer to the axis, or back, may meet the ball's front anywhere later: the least it can be.
    least = np.minimum(ahead, start + along * np.minimum(ends[met], np.float32(BEYOND_M)))
    front = ahead - np.sqrt(np.maximum(radius_m**2 - beside**2, 0))
    touch = np.where(diverges, front, least - radius_m) - tube.ahead[met] * begins
    return max(float(touch.min()), 0.0)


# Where the surfaces that one view shows may be, for poses elsewhere: between the bounds of depth along each ray.


FARTHEST_M = 1e4  # what lies farther is no surface to heed
SMOOTH = 0.05  # lower bounds of a block that differ by this share are of one surface
_TINY_M = 1e-9
FINEST_SIDE = 64  # images are pooled to at most this many blocks a side: hundreds of views are compared


@dataclass(frozen=True, eq=False)
class Surfaces:
    """M spindles in the map: from `start_m` (M, 3) along `way_m` (M, 3), `reach_m` (M,) to all sides.

    Seen from the camera a surface lies no nearer than the lower bound. Seen from elsewhere that point bounds nothing:
    the surface may lie anywhere up to the upper bound, and so nearer to who stands there. Hence the whole way between.
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
        self._slope = np.sqrt(0.5) * self._block / min(camera.fx, camera.fy)  # half a block's diagonal per metre

    def surfaces(self, lower_m: Float32, upper_m: Float32, T_map_cam: Float64) -> Surfaces:
        """Of bounds of depth (H, W), NaN unknown, at a pose: at most two spindles for each block of pixels.

        Where a block's lower bounds differ much, those nearer and farther than their middle are kept apart, or the
        edge of a roof would reach to the ground. Every pixel's bounds lie within a spindle.
        """
        lower = _blocks(np.where(lower_m < FARTHEST_M, lower_m, np.float32(np.nan)), self._block, "constant")
        upper = np.fmin(np.fmax(_blocks(upper_m, self._block, "constant"), lower), np.float32(FARTHEST_M))
        known = np.isfinite(lower)
        least, most = (np.where(known, lower, np.inf).min(axis=-1), np.where(known, lower, -np.inf).max(axis=-1))
        with np.errstate(invalid="ignore"):
            one = most - least <= SMOOTH * least
            is_near = lower <= np.where(one, most, (least + most) / 2)[..., None]
        parts = [self._spindles(lower, upper, which, T_map_cam) for which in (known & is_near, known & ~is_near)]
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
    """Lower bounds (H, W) in blocks, at most `most` a side, and the camera: the least of each, NaN if one is NaN."""
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
