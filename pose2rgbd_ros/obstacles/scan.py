"""A slice through what a camera sees, as ranges per bearing around the body: for cameras that look ahead.

The slice is a slab around the horizontal plane of the level body frame. An obstacle counts wherever it is in the slab. A bin is
said to be free only where every ray that is still in the slab at `near_m` is known: nearer than that a camera sees too little
above and below for any such word, and the sky right above the horizon would leave nothing known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pose2rgbd_ros.geometry.arrays import AnyArray, Bool, Float32, Float64
from pose2rgbd_ros.obstacles.sight import Sight
from pose2rgbd_ros.settings import setting

_UP = np.array([0.0, 0.0, 1.0])
_INSIDE = 0.999  # of a pixel's width: its edge on the edge of a bin is not yet in the next one


@dataclass
class ScanSettings:
    """The slice: its height, how far it reaches, and into how many bearings it is cut."""

    bins: Literal[72, 360, 1080] = setting(360, "bearings of the scan, all around")
    range_max_m: float = setting(30.0, "farther obstacles are left out of the scan", ge=0.5, le=600.0)
    above_m: float = setting(0.5, "height of the slice above the body's origin", ge=0.01, le=100.0)
    below_m: float = setting(0.5, "depth of the slice below the body's origin", ge=0.01, le=100.0)
    near_m: float = setting(
        10.0,
        "a ray of unknown depth that leaves the slice (or the body's tube) nearer than this does not make it unknown",
        ge=0.1,
        le=100.0,
    )
    unknown_share: float = setting(
        0.0,
        "a bearing with more of its rays unknown is unknown, whatever its nearest known obstacle; 0 is the safe one",
        ge=0.0,
        le=1.0,
    )


def bearings(bins: int) -> Float64:
    """Bearing (bins,) of the middle of each bin in radians, counter-clockwise from the body's x axis, from -pi on."""
    return np.arange(bins, dtype=np.float64) * (2 * np.pi / bins) - np.pi


def laser_scan(sight: Sight, settings: ScanSettings) -> Float32:
    """Horizontal distance (bins,) float32 from the body's origin to the nearest obstacle in the slice, by bearing.

    +inf: every ray of the bin is known and nothing is within range_max_m. NaN: unknown, that is outside the view or only
    partly inside it, or more than `unknown_share` of the bin's rays are of unknown depth (and with any unknown ray a bin
    is never +inf). Bin i is about bearing ``bearings(bins)[i]``.
    """
    pixels = _near_slab(sight, settings)
    rays, lower = sight.rays.reshape(-1, 3)[pixels], sight.lower_m.ravel()[pixels]
    flat = np.hypot(rays[:, 0], rays[:, 1])
    enter, leave = _in_slab(sight, settings, pixels)
    with np.errstate(invalid="ignore"):
        begins = np.maximum(enter, lower)
        hit = np.flatnonzero((begins <= leave) & (begins * flat <= 2 * settings.range_max_m))
        reaches = (
            (flat * leave >= settings.near_m) & (flat * enter <= settings.range_max_m) & (enter <= leave)
        )
    nearest = _nearest(sight, settings, pixels[hit], begins[hit], leave[hit])
    unknowns = _count(sight, settings, pixels[reaches & np.isnan(lower)])
    closed = unknowns > 0
    if settings.unknown_share > 0:
        rays_of_bin = _count(sight, settings, pixels[reaches])
        closed &= (unknowns > settings.unknown_share * rays_of_bin) | np.isinf(nearest)
    nearest[closed | ~_in_view(sight, settings)] = np.nan
    return nearest


def _near_slab(sight: Sight, settings: ScanSettings) -> AnyArray:
    """The pixels (n,) that the slab may be a matter of: in it at near_m, or where they end. Saves most of the work."""
    height = abs(float(sight.origin_m[2])) + max(settings.above_m, settings.below_m)
    steep = np.abs(sight.rays[..., 2]) - sight.half_pixel(_UP)
    flat = np.hypot(sight.rays[..., 0], sight.rays[..., 1])
    # What is nearer than `least` where the ray passes near_m, or ends: a camera beside the body's origin sees it sooner.
    least = np.float32(max(settings.near_m - float(np.hypot(*sight.origin_m[:2])), 0.0))
    with np.errstate(invalid="ignore"):
        return np.flatnonzero((steep * least <= height * flat) | (steep * sight.lower_m <= height))


def _in_slab(sight: Sight, settings: ScanSettings, pixels: AnyArray) -> tuple[Float32, Float32]:
    """The depths (n,) at which rays, as thick as their pixels, enter and leave the slab; after leaving: never."""
    height, up = sight.origin_m[2], sight.rays.reshape(-1, 3)[pixels, 2]
    thick = np.broadcast_to(sight.half_pixel(_UP), sight.lower_m.shape).ravel()[pixels]
    below_top = _where_below(up - thick, np.float32(settings.above_m) - height)
    above_floor = _where_below(-up - thick, np.float32(settings.below_m) + height)
    return np.maximum(below_top[0], above_floor[0]), np.minimum(below_top[1], above_floor[1])


def _where_below(slope: Float32, limit: np.float32) -> tuple[Float32, Float32]:
    """First and last t (N,), from 0 on, with slope t <= limit; the last before the first where there is none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = limit / slope
    inf = np.float32(np.inf)
    first = np.where(slope < 0, np.maximum(crossing, 0), np.float32(0 if limit >= 0 else inf))
    last = np.where(slope > 0, crossing, inf if limit >= 0 else np.where(slope < 0, inf, -inf))
    return first, last


def _nearest(
    sight: Sight, settings: ScanSettings, pixels: AnyArray, begins: Float32, leave: Float32
) -> Float32:
    """The least range (bins,) of rays that may meet something between two depths; +inf where there are none."""
    rays, origin = sight.rays.reshape(-1, 3)[pixels, :2], sight.origin_m[:2]
    squared = np.maximum((rays**2).sum(axis=1), np.float32(1e-12))
    first = origin + rays * np.clip(-(rays @ origin) / squared, begins, leave)[:, None]
    ranges = np.hypot(first[:, 0], first[:, 1])
    within = np.flatnonzero(ranges <= settings.range_max_m)
    first, ranges, rays = first[within], ranges[within], rays[within]
    # What is met may lie farther on, where a camera beside the body's origin sees it at another bearing.
    out = np.maximum(np.float32(settings.range_max_m) / np.sqrt(squared[within]), begins[within])
    last = origin + rays * np.minimum(leave[within], out)[:, None]
    bins, of = _bins(_bearing(first), _bearing(last), _half_width(sight, pixels[within]), settings.bins)
    nearest = np.full(settings.bins, np.inf, np.float32)
    np.minimum.at(nearest, bins, ranges[of])
    return nearest


def _count(sight: Sight, settings: ScanSettings, pixels: AnyArray) -> AnyArray:
    """How many of these pixels (N,) lie in each bin somewhere between near_m and range_max_m: (bins,) int."""
    rays, origin = sight.rays.reshape(-1, 3)[pixels, :2], sight.origin_m[:2]
    flat = np.maximum(np.hypot(rays[:, 0], rays[:, 1]), np.float32(1e-6))[:, None]
    ends = [origin + rays * (np.float32(at_m) / flat) for at_m in (settings.near_m, settings.range_max_m)]
    bins, _ = _bins(_bearing(ends[0]), _bearing(ends[1]), _half_width(sight, pixels), settings.bins)
    return np.bincount(bins, minlength=settings.bins)


def _bearing(points: AnyArray) -> AnyArray:
    angle: AnyArray = np.arctan2(points[:, 1], points[:, 0])
    return angle


def _half_width(sight: Sight, pixels: AnyArray) -> Float32:
    """Half the bearing (N,) that pixels cover, in radians."""
    rays = sight.rays.reshape(-1, 3)[pixels]
    width = np.zeros(len(pixels), np.float32)
    for step in (sight.step_u, sight.step_v):
        by = step if step.ndim == 1 else step.reshape(-1, 3)[pixels]
        width += np.abs(rays[:, 0] * by[..., 1] - rays[:, 1] * by[..., 0])
    flat = np.maximum((rays[:, :2] ** 2).sum(axis=1), np.float32(1e-12))
    return np.minimum(np.float32(_INSIDE / 2) * width / flat, np.float32(np.pi))


def _bins(first: AnyArray, last: AnyArray, half: AnyArray, count: int) -> tuple[AnyArray, AnyArray]:
    """All bins that bearings between `first` and `last`, widened by `half`, touch; and whose each is."""
    turn = (last - first + np.pi) % (2 * np.pi) - np.pi
    low, high = first + np.minimum(turn, 0) - half, first + np.maximum(turn, 0) + half
    scale = count / (2 * np.pi)
    begin = np.floor((low + np.pi) * scale + 0.5).astype(np.intp)
    end = np.minimum(np.floor((high + np.pi) * scale + 0.5).astype(np.intp), begin + count - 1)
    each = end - begin + 1
    of = np.repeat(np.arange(len(each)), each)
    offset = np.arange(len(of)) - np.repeat(np.cumsum(each) - each, each)
    return (begin[of] + offset) % count, of


def _in_view(sight: Sight, settings: ScanSettings) -> Bool:
    """Which bins (bins,) lie wholly inside the image: their edges, over the slab's height at near_m and at range_max_m."""
    edges = (np.arange(settings.bins + 1) - 0.5) * (2 * np.pi / settings.bins) - np.pi
    heights = np.array([settings.above_m, 0.0, -settings.below_m])
    corners = []
    for at_m in (settings.near_m, settings.range_max_m):
        ring = np.stack([np.cos(edges), np.sin(edges)], axis=-1) * at_m
        flat = np.broadcast_to(ring[:, None], (len(edges), 3, 2))
        corners.append(np.concatenate([flat, np.broadcast_to(heights[:, None], (len(edges), 3, 1))], axis=-1))
    seen: Bool = np.asarray(sight.sees(np.concatenate(corners, axis=1)).all(axis=1))
    return seen[:-1] & seen[1:]
