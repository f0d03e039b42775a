"""How much room there is: the nearest obstacle, and the free way of a ball along a direction, from lower bounds of depth."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from pose2rgbd_ros.geometry.arrays import AnyArray, Float32, Float64
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
        unknown_share: of the rays that reach farther, how many may be unknown beside something known to stand in the way.

    NaN, unknown, where the tube at `near_m` is not wholly in the image, or more of its rays are of unknown depth, or where
    any is and nothing known ends the way: room is never told beyond what is known.
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


class _Tube(NamedTuple):
    """Of the pixels (n,) that matter: way along the axis per metre of depth, depths at which the ray enters and leaves (after
    leaving: never), and how much thicker the pixel gets per metre of depth, across and along the axis."""

    pixels: AnyArray
    along: Float32
    enter: Float32
    leave: Float32
    across: Float32
    ahead: Float32


def _in_tube(sight: Sight, axis: Float64, radius_m: float, near_m: float) -> _Tube:
    """Where rays, as thick as their pixels, are in an endless tube around the axis."""
    u = axis.astype(np.float32)
    offset = sight.origin_m - (sight.origin_m @ u) * u
    pixels = _near_tube(sight, u, radius_m + float(np.linalg.norm(offset)), near_m)
    rays = sight.rays.reshape(-1, 3)[pixels]
    along = rays @ u
    sideways = rays - along[:, None] * u
    across, ahead = (
        np.broadcast_to(part, sight.lower_m.shape).ravel()[pixels] for part in _thickness(sight, u)
    )
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


def _near_tube(sight: Sight, u: Float32, within_m: float, near_m: float) -> AnyArray:
    """The pixels (n,) that the tube may be a matter of: in it at near_m, or where they end. Saves most of the work."""
    along = sight.rays @ u
    sideways = np.sqrt(np.maximum((sight.rays**2).sum(axis=-1) - along**2, 0)) - _thickness(sight, u)[0]
    least = np.float32(max(near_m - float(sight.origin_m @ u), 0.0))
    with np.errstate(invalid="ignore"):
        reaches = (along > 0) & (sideways * least <= within_m * along)
        return np.flatnonzero(reaches | (sideways * sight.lower_m <= within_m))


def _thickness(sight: Sight, u: Float32) -> tuple[AnyArray, AnyArray]:
    """Half a pixel's size across an axis, and along it, per metre of depth: () or (H, W) each."""
    across = []
    for step in (sight.step_u, sight.step_v):
        sideways = step - (step @ u)[..., None] * u
        across.append(np.sqrt((sideways**2).sum(axis=-1)))
    return np.float32(0.5) * (across[0] + across[1]), sight.half_pixel(u.astype(np.float64))


def _contact(sight: Sight, axis: Float64, radius_m: float, tube: _Tube) -> float:
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
