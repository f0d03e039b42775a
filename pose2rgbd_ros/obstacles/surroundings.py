"""All that is reported about obstacles at one moment, from a prediction and from live sensors: the nearer of both."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pose2rgbd_ros.geometry.arrays import AnyArray, Float32, Float64
from pose2rgbd_ros.obstacles.clearance import (
    AT_REST_MPS,
    DOWN,
    NONE_KNOWN,
    Nearest,
    free_distance_along,
    height_above_ground,
    nearest_obstacle,
    time_to_collision_s,
)
from pose2rgbd_ros.obstacles.scan import ScanSettings, bearings, laser_scan
from pose2rgbd_ros.obstacles.view import DepthView

# A prediction beside what a live sensor measures: the nearer of both, and unknown only where neither knows.
#
# A live sensor may say that space is free where the prediction knows nothing; the other way round the prediction only
# says so up to its lower bound.


def live_lower(depth: AnyArray) -> Float32:
    """A live depth image (H, W) in metres, by REP-117, as lower bounds: NaN says nothing, +inf is beyond the sensor's
    range,
    -inf nearer than it can measure (0 here). Zero and negative numbers are what drivers send for no measurement:
    NaN."""
    depth = np.asarray(depth, np.float32)
    with np.errstate(invalid="ignore"):
        said_nothing = ~(depth > 0) & ~np.isneginf(depth)
    return np.where(said_nothing, np.float32(np.nan), np.maximum(depth, np.float32(0)))


def nearer(predicted_m: AnyArray, live_m: AnyArray, live_range_m: float, range_max_m: float) -> AnyArray:
    """The nearer of two arrays of ranges, of any equal shape; NaN only where both are.

    +inf means nothing within reach: range_max_m for the prediction, live_range_m for the sensor. Where only the
    sensor knows, and it reaches less far, its word holds up to its reach: the range is live_range_m.
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
    range_m: float, fov_rad: float, T_body_sensor: Float64, slab_m: tuple[float, float], range_max_m: float, bins: int
) -> Float32:
    """What a single range reading (along the sensor's x axis) says of a scan: ranges (bins,), NaN where nothing.

    The reading is an obstacle in every bearing of its cone, as near as the cone allows; slab_m: the height of the
    scan's slice below and above the body's origin. A sensor that looks past the slice says nothing, and one that
    measures nothing (NaN or +inf) says nothing either: a cone is not the whole height of a bin. -inf is nearer than
    it can measure.
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

    NaN for +inf too: a beam that meets nothing is no proof of room for a body wider than it, as in
    :func:`range_in_scan`. The answer is that for a body of no size.
    """
    axis = T_body_sensor[:3, 0]
    unit = np.asarray(direction, np.float64) / np.linalg.norm(direction)
    if math.isnan(range_m) or range_m == math.inf or not float(axis @ unit) >= math.cos(fov_rad / 2):
        return math.nan
    return max(float((T_body_sensor[:3, 3] + axis * max(range_m, 0.0)) @ unit), 0.0)


PREDICTED, LIVE = 1, 2  # as in the message ObstacleStatus


@dataclass(frozen=True)
class Body:
    """radius_m: of the ball around the vehicle. velocity_mps: (3,) in the frame of the sights; None: not known."""

    radius_m: float
    velocity_mps: Float64 | None = None

    @property
    def speed_mps(self) -> float:
        """NaN: not known."""
        return math.nan if self.velocity_mps is None else float(np.linalg.norm(self.velocity_mps))


@dataclass(frozen=True, eq=False)
class RangeMeasurement:
    """What a live range sensor measures along the x axis of its frame; NaN, +inf and -inf as REP-117 has them."""

    range_m: float
    fov_rad: float
    range_max_m: float
    T_body_sensor: Float64


@dataclass(frozen=True, eq=False)
class Surroundings:
    """ranges (bins,): as of :func:`laser_scan`. The other figures are those of the message ObstacleStatus, NaN
    unknown.
    """

    ranges: Float32
    nearest: Nearest = NONE_KNOWN
    ahead_m: float = math.nan
    below_m: float = math.nan
    speed_mps: float = math.nan
    time_to_collision_s: float = math.nan
    known: float = 0.0
    sources: int = 0


@dataclass(frozen=True, eq=False)
class _SourceResult:
    """What one source says; +inf: nothing within its reach."""

    ranges: Float32
    nearest: Nearest
    ahead_m: float
    below_m: float
    reach_m: float
    source: int


def summarize_obstacles(
    predicted: DepthView | None,
    live: DepthView | None,
    live_range_m: float,
    readings: Sequence[RangeMeasurement],
    body: Body,
    settings: ScanSettings,
) -> Surroundings:
    """What is around the body, in the frame of the sights.

    predicted, live: None where there is none at the moment. live_range_m: how far the live camera sees at most.
    """
    said = [*_all_said(predicted, live, live_range_m, readings, body, settings)]
    ranges, nearest = np.full(settings.bins, np.nan, np.float32), NONE_KNOWN
    rooms = np.full(2, np.nan)
    for part in said:
        ranges = nearer(ranges, part.ranges, part.reach_m, settings.range_max_m)
        rooms = nearer(rooms, np.array([part.ahead_m, part.below_m]), part.reach_m, settings.range_max_m)
        nearest = nearer_of(nearest, part.nearest)
    ahead_m, below_m = np.minimum(rooms, settings.range_max_m).tolist()
    return Surroundings(
        ranges,
        nearest,
        ahead_m,
        below_m,
        body.speed_mps,
        time_to_collision_s(ahead_m, body.speed_mps),
        0.0 if predicted is None else predicted.known,
        sum({part.source for part in said}),
    )


def _all_said(
    predicted: DepthView | None,
    live: DepthView | None,
    live_range_m: float,
    readings: Sequence[RangeMeasurement],
    body: Body,
    settings: ScanSettings,
) -> Iterator[_SourceResult]:
    if predicted is not None:
        yield _by_sight(predicted, settings.range_max_m, PREDICTED, body, settings)
    if live is not None:
        yield _by_sight(live, live_range_m, LIVE, body, settings)
    for reading in readings:
        yield _by_reading(reading, body, settings)


def _by_sight(sight: DepthView, reach_m: float, source: int, body: Body, settings: ScanSettings) -> _SourceResult:
    most_m = min(reach_m, settings.range_max_m)
    rules = (body.radius_m, settings.near_m, most_m, settings.unknown_share)
    ahead_m = math.nan
    if body.velocity_mps is not None and body.speed_mps >= AT_REST_MPS:
        ahead_m = free_distance_along(sight, body.velocity_mps, *rules)
    below_m = height_above_ground(sight, *rules)
    ahead_m, below_m = (math.inf if room_m >= most_m else room_m for room_m in (ahead_m, below_m))
    return _SourceResult(laser_scan(sight, settings), nearest_obstacle(sight), ahead_m, below_m, reach_m, source)


def _by_reading(reading: RangeMeasurement, body: Body, settings: ScanSettings) -> _SourceResult:
    about = (reading.range_m, reading.fov_rad, reading.T_body_sensor)
    slab_m = (settings.below_m, settings.above_m)
    ranges = range_in_scan(*about, slab_m, settings.range_max_m, settings.bins)
    ahead_m = math.nan
    if body.velocity_mps is not None and body.speed_mps >= AT_REST_MPS:
        ahead_m = max(range_along(*about, body.velocity_mps) - body.radius_m, 0.0)
    below_m = range_along(*about, DOWN)
    nearest = NONE_KNOWN
    if reading.range_m < math.inf:  # -inf, nearer than it can measure, is an obstacle that touches the sensor
        axis = reading.T_body_sensor[:3, 0]
        point = reading.T_body_sensor[:3, 3] + axis * max(reading.range_m, 0.0)
        distance_m = float(np.linalg.norm(point))
        nearest = Nearest(distance_m, point / distance_m if distance_m > 0 else axis)
    return _SourceResult(ranges, nearest, ahead_m, below_m, reading.range_max_m, LIVE)
