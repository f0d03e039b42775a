"""A prediction beside what a live sensor measures: the nearer of both, and unknown only where neither knows.

A live sensor may say that space is free where the prediction knows nothing; the other way round the prediction only says so up to
its lower bound.
"""

from __future__ import annotations

import math

import numpy as np

from pose2rgbd_ros.geometry.arrays import AnyArray, Float32, Float64
from pose2rgbd_ros.obstacles.clearance import Nearest
from pose2rgbd_ros.obstacles.scan import bearings


def live_lower(depth: AnyArray) -> Float32:
    """A live depth image (H, W) in metres, by REP-117, as lower bounds: NaN says nothing, +inf is beyond the sensor's range,
    -inf nearer than it can measure (0 here). Zero and negative numbers are what drivers send for no measurement: NaN."""
    depth = np.asarray(depth, np.float32)
    with np.errstate(invalid="ignore"):
        said_nothing = ~(depth > 0) & ~np.isneginf(depth)
    return np.where(said_nothing, np.float32(np.nan), np.maximum(depth, np.float32(0)))


def nearer(predicted_m: AnyArray, live_m: AnyArray, live_range_m: float, range_max_m: float) -> AnyArray:
    """The nearer of two arrays of ranges, of any equal shape; NaN only where both are.

    +inf means nothing within reach: range_max_m for the prediction, live_range_m for the sensor. Where only the sensor knows,
    and it reaches less far, its word holds up to its reach: the range is live_range_m.
    """
    alone = np.isposinf(live_m) & np.isnan(predicted_m)
    if live_range_m < range_max_m:
        live_m = np.where(alone, np.asarray(live_m).dtype.type(live_range_m), live_m)
    return np.fmin(predicted_m, live_m)


def nearer_of(first: Nearest, second: Nearest) -> Nearest:
    """The nearer of two obstacles; one that is not known is none."""
    if math.isnan(second.distance_m) or first.distance_m <= second.distance_m:
        return first
    return second


def range_in_scan(
    range_m: float,
    fov_rad: float,
    T_body_sensor: Float64,
    slab_m: tuple[float, float],
    range_max_m: float,
    bins: int,
) -> Float32:
    """What a single range reading (along the sensor's x axis) says of a scan: ranges (bins,), NaN where nothing.

    The reading is an obstacle in every bearing of its cone, as near as the cone allows; slab_m: the height of the scan's
    slice below and above the body's origin. A sensor that looks past the slice says nothing, and one that measures nothing
    (NaN or +inf) says nothing either: a cone is not the whole height of a bin. -inf is nearer than it can measure.
    """
    ranges = np.full(bins, np.nan, np.float32)
    if math.isnan(range_m) or range_m == math.inf:
        return ranges
    range_m = max(range_m, 0.0)
    axis, origin = T_body_sensor[:3, 0], T_body_sensor[:3, 3]
    point = origin + axis * range_m
    spread_m = range_m * math.sin(min(fov_rad / 2, math.pi / 2))
    if not -slab_m[0] - spread_m <= point[2] <= slab_m[1] + spread_m:
        return ranges
    least = max(float(np.hypot(point[0], point[1])) - spread_m * abs(float(axis[2])), 0.0)
    if least > range_max_m:
        return ranges
    off = (bearings(bins) - math.atan2(axis[1], axis[0]) + np.pi) % (2 * np.pi) - np.pi
    ranges[np.abs(off) <= fov_rad / 2 + np.pi / bins] = least
    return ranges


def range_along(range_m: float, fov_rad: float, T_body_sensor: Float64, direction: Float64) -> float:
    """How far a range reading says it is along a direction (3,) from the body's origin; NaN when it looks elsewhere.

    NaN for +inf too: a beam that meets nothing is no proof of room for a body wider than it, as in :func:`range_in_scan`.
    The answer is that for a body of no size.
    """
    axis = T_body_sensor[:3, 0]
    unit = np.asarray(direction, np.float64) / np.linalg.norm(direction)
    if math.isnan(range_m) or range_m == math.inf or not float(axis @ unit) >= math.cos(fov_rad / 2):
        return math.nan
    return max(float((T_body_sensor[:3, 3] + axis * max(range_m, 0.0)) @ unit), 0.0)
