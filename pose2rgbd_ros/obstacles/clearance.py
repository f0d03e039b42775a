"""How much room there is: the nearest obstacle, and the free way of a ball along a direction, from lower bounds of depth."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from pose2rgbd_ros.geometry.arrays import Float32, Float64
from pose2rgbd_ros.obstacles.sight import BEYOND_M, Sight

AT_REST_MPS = 0.05
DOWN = np.array([0.0, 0.0, -1.0])
_RING = np.array([(math.cos(a), math.sin(a)) for a in np.linspace(0, 2 * np.pi, 16, endpoint=False)])


class Nearest(NamedTuple):
    """Distance to the nearest known obstacle from the body's origin, and the unit vector (3,) to it; NaN: none known."""

    distance_m: float
    direction: Float64


NONE_KNOWN = Nearest(math.nan, np.full(3, np.nan))


def nearest_obstacle(sight: Sight) -> Nearest:
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


def room_along(
    sight: Sight,
    direction: Float64,
    radius_m: float,
    near_m: float,
    range_max_m: float,
    unknown_share: float = 0.0,
) -> float:
    """How far a ball of `radius_m` at the body's origin can go in this direction before it may touch something, in metres.

    Args:
        direction: (3,) in the body frame; its length does not matter.
        near_m: rays of unknown depth that leave the ball's tube nearer than this do not make it unknown.
        range_max_m: the answer where nothing is met; never more.
        unknown_share: of the rays that reach farther, how many may be unknown.

    NaN, unknown, where the tube at `near_m` is not wholly in the image, or more of its rays are of unknown depth.
    """
    axis = np.asarray(direction, np.float64) / np.linalg.norm(direction)
    if not sight.sees(_tube_corners(axis, radius_m, near_m, range_max_m)).all():
        return math.nan
    rays, lower = sight.rays.reshape(-1, 3), sight.lower_m.ravel()
    along, enter, leave = _in_tube(rays, sight.origin_m, axis, radius_m)
    start = float(sight.origin_m @ axis)
    with np.errstate(invalid="ignore"):
        reaches = (enter <= leave) & (start + along * leave >= near_m) & (along > 0)
    unknown = int(np.count_nonzero(reaches & np.isnan(lower)))
    if unknown > unknown_share * np.count_nonzero(reaches) or not reaches.any():
        return math.nan
    return min(_contact(rays, lower, sight.origin_m, axis, radius_m, (along, enter, leave)), range_max_m)


def room_below(
    sight: Sight, radius_m: float, near_m: float, range_max_m: float, unknown_share: float = 0.0
) -> float:
    """:func:`room_along` straight down, plus the radius: height of the body's origin above what is below it; NaN unknown."""
    room = room_along(sight, DOWN, radius_m, near_m, range_max_m - radius_m, unknown_share)
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


def _in_tube(
    rays: Float32, origin: Float32, axis: Float64, radius_m: float
) -> tuple[Float32, Float32, Float32]:
    """Way along the axis per metre of depth, and the depths at which rays enter and leave the endless tube, each (N,)."""
    u = axis.astype(np.float32)
    along = rays @ u
    across, offset = rays - along[:, None] * u, origin - (origin @ u) * u
    a = np.maximum(np.einsum("ij,ij->i", across, across), np.float32(1e-12))
    b = across @ offset
    c = float(offset @ offset) - radius_m**2
    with np.errstate(invalid="ignore"):
        root = np.sqrt(b * b - a * np.float32(c))  # NaN: the ray passes by
    return along, np.maximum((-b - root) / a, np.float32(0)), (-b + root) / a


def _contact(
    rays: Float32,
    lower: Float32,
    origin: Float32,
    axis: Float64,
    radius_m: float,
    tube: tuple[Float32, Float32, Float32],
) -> float:
    """The least way of the ball to anything that known rays may meet in front of it; inf where there is nothing."""
    along, enter, leave = tube
    start = float(origin @ axis)
    with np.errstate(invalid="ignore", divide="ignore"):
        begins = np.maximum(enter, lower)
        level = -start / along  # depth at which the ray passes the ball's middle
        begins = np.where(along > 0, np.maximum(begins, level), begins)
        ends = np.where(along > 0, leave, np.minimum(leave, level))
        met = np.flatnonzero(begins <= ends)
    if len(met) == 0:
        return math.inf
    point = origin + rays[met] * begins[met][:, None]
    ahead = point @ axis.astype(np.float32)
    across = point - ahead[:, None] * axis.astype(np.float32)
    beside = np.einsum("ij,ij->i", across, across)
    diverges = (along[met] > 0) & (np.einsum("ij,ij->i", across, rays[met]) >= 0)
    # A ray that comes nearer to the axis, or back, may meet the ball's front anywhere later: the least it can be.
    least = np.minimum(ahead, start + along[met] * np.minimum(ends[met], np.float32(BEYOND_M)))
    touch = np.where(diverges, ahead - np.sqrt(np.maximum(radius_m**2 - beside, 0)), least - radius_m)
    return max(float(touch.min()), 0.0)
