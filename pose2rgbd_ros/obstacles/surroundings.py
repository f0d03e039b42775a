"""All that is reported about obstacles at one moment: a slice as ranges per bearing, and the nearer of prediction and
live sensors.

The slice is for cameras that look ahead: a slab around the horizontal plane of the level body frame. An obstacle counts
wherever it is in the slab. A bin is said to be free only where every ray that is still in the slab at `near_m` is
known: nearer than that a camera sees too little above and below for any such word, and the sky right above the horizon
would leave nothing known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import AnyArray, Bool, Float32, Float64, UInt16
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
from pose2rgbd_ros.obstacles.view import DepthView
from pose2rgbd_ros.settings import setting

# Scans as autopilots take them: 72 bins of 5 degrees, clockwise from straight ahead.


BINS = 72  # of px4_msgs/ObstacleDistance and MAVLink's OBSTACLE_DISTANCE
INCREMENT_DEG = 360 / BINS
UNKNOWN_CM = 65535
LARGEST_M = 650.0  # so that the maximum and the count for "clear" stay below the one for unknown


def pooled(ranges_m: Float32, bins: int = BINS) -> Float32:
    """A scan (n,) of :func:`laser_scan` in fewer bins: the least of each, unknown if any of them is.

    n must be an odd multiple of `bins`, so that a wide bin is made of whole narrow ones around the same bearing.
    """
    factor, rest = divmod(len(ranges_m), bins)
    if rest or factor % 2 == 0:
        raise UserError(
            f"a scan of {len(ranges_m)} bearings cannot be pooled to {bins}: take an odd multiple, such as 360"
        )
    grouped = np.roll(ranges_m, factor // 2).reshape(bins, factor)
    least: Float32 = grouped.min(axis=1)  # NaN wins
    return least


def clockwise(ranges_m: Float32) -> Float32:
    """The scan (72,) of these bearings as autopilots count: from straight ahead, to the right, bins :func:`overlapped`.

    ranges_m begins behind the body, at -pi, and goes counter-clockwise.
    """
    pooled_m = overlapped(pooled(ranges_m))
    ahead: Float32 = np.roll(pooled_m[::-1], BINS // 2 + 1)
    return ahead


def overlapped(ranges_m: Float32) -> Float32:
    """Each of these bins (n,) all around with both its neighbours: the least of the three, unknown if any of them is.

    PX4's Collision Prevention keeps 36 sectors of 10 degrees and reads every other bin of a message for them: without
    this, what stands in an odd bin alone would not be seen. Source: PX4-Autopilot, CollisionPrevention.cpp.
    """
    least: Float32 = np.minimum(ranges_m, np.minimum(np.roll(ranges_m, 1), np.roll(ranges_m, -1)))  # NaN wins
    return least


def obstacle_distances_cm(ranges_m: Float32, range_max_m: float) -> UInt16:
    """The field `distances` (72,) uint16 of px4_msgs/ObstacleDistance in BODY_FRD, of a scan of n bearings.

    Centimetres, rounded down; 65535 unknown, max + 1 clear. Element i is the bearing 5 i degrees clockwise from
    straight ahead.
    Source: PX4-Autopilot msg/ObstacleDistance.msg.
    """
    ranges = clockwise(ranges_m)
    most_cm = int(min(range_max_m, LARGEST_M) * 100)
    with np.errstate(invalid="ignore"):
        counts = np.where(ranges <= range_max_m, np.minimum(np.floor(ranges * 100), most_cm), most_cm + 1)
    return np.where(np.isnan(ranges), UNKNOWN_CM, counts).astype(np.uint16)


def mavros_ranges(ranges_m: Float32, range_max_m: float) -> Float32:
    """`ranges` (72,) float32 of the LaserScan that MAVROS' obstacle_distance plugin takes: clockwise from straight
    ahead.

    The plugin takes the angles as they are for those of BODY_FRD, NaN for unknown, and +inf too: what is clear is
    therefore given as a centimetre and a half beyond range_max, which it turns into MAVLink's max + 1. Source:
    mavros_extras, obstacle_distance.cpp.
    """
    ranges = clockwise(ranges_m)
    most_m = min(range_max_m, LARGEST_M)
    clear = np.float32(int(most_m * 100) / 100 + 0.015)
    with np.errstate(invalid="ignore"):
        return np.where(np.isposinf(ranges) | (ranges > most_m), clear, ranges).astype(np.float32)


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


def laser_scan(sight: DepthView, settings: ScanSettings) -> Float32:
    """Horizontal distance (bins,) float32 from the body's origin to the nearest obstacle in the slice, by bearing.

    +inf: every ray of the bin is known and nothing is within range_max_m. NaN: unknown, that is outside the view or
    only partly inside it, or more than `unknown_share` of the bin's rays are of unknown depth (and with any unknown
    ray a bin is never +inf). Bin i is about bearing ``bearings(bins)[i]``.
    """
    pixels = _near_slab(sight, settings)
    rays, lower = sight.rays.reshape(-1, 3)[pixels], sight.lower_m.ravel()[pixels]
    flat = np.hypot(rays[:, 0], rays[:, 1])
    enter, leave = _in_slab(sight, settings, pixels)
    with np.errstate(invalid="ignore"):
        begins = np.maximum(enter, lower)
        hit = np.flatnonzero((begins <= leave) & (begins * flat <= 2 * settings.range_max_m))
        reaches = (flat * leave >= settings.near_m) & (flat * enter <= settings.range_max_m) & (enter <= leave)
    nearest = _nearest(sight, settings, pixels[hit], begins[hit], leave[hit])
    unknowns = _count(sight, settings, pixels[reaches & np.isnan(lower)])
    closed = unknowns > 0
    if settings.unknown_share > 0:
        rays_of_bin = _count(sight, settings, pixels[reaches])
        closed &= (unknowns > settings.unknown_share * rays_of_bin) | np.isinf(nearest)
    nearest[closed | ~_in_view(sight, settings)] = np.nan
    return nearest


def _near_slab(sight: DepthView, settings: ScanSettings) -> AnyArray:
    """The pixels (n,) that the slab may be a matter of: in it at near_m, or where they end. Saves most of the work."""
    height = abs(float(sight.origin_m[2])) + max(settings.above_m, settings.below_m)
    steep = np.abs(sight.rays[..., 2]) - sight.half_pixel(_UP)
    flat = np.hypot(sight.rays[..., 0], sight.rays[..., 1])
    # What is nearer than `least` where the ray passes near_m, or ends: a camera beside the body's origin sees it
    # sooner.
    least = np.float32(max(settings.near_m - float(np.hypot(*sight.origin_m[:2])), 0.0))
    with np.errstate(invalid="ignore"):
        return np.flatnonzero((steep * least <= height * flat) | (steep * sight.lower_m <= height))


def _in_slab(sight: DepthView, settings: ScanSettings, pixels: AnyArray) -> tuple[Float32, Float32]:
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


def _nearest(sight: DepthView, settings: ScanSettings, pixels: AnyArray, begins: Float32, leave: Float32) -> Float32:
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


def _count(sight: DepthView, settings: ScanSettings, pixels: AnyArray) -> AnyArray:
    """How many of these pixels (N,) lie in each bin somewhere between near_m and range_max_m: (bins,) int."""
    rays, origin = sight.rays.reshape(-1, 3)[pixels, :2], sight.origin_m[:2]
    flat = np.maximum(np.hypot(rays[:, 0], rays[:, 1]), np.float32(1e-6))[:, None]
    ends = [origin + rays * (np.float32(at_m) / flat) for at_m in (settings.near_m, settings.range_max_m)]
    bins, _ = _bins(_bearing(ends[0]), _bearing(ends[1]), _half_width(sight, pixels), settings.bins)
    return np.bincount(bins, minlength=settings.bins)


def _bearing(points: AnyArray) -> AnyArray:
    angle: AnyArray = np.arctan2(points[:, 1], points[:, 0])
    return angle


def _half_width(sight: DepthView, pixels: AnyArray) -> Float32:
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


def _in_view(sight: DepthView, settings: ScanSettings) -> Bool:
    """Which bins (bins,) lie wholly inside the image: their edges, over the slab's height at near_m and range_max_m."""
    edges = (np.arange(settings.bins + 1) - 0.5) * (2 * np.pi / settings.bins) - np.pi
    heights = np.array([settings.above_m, 0.0, -settings.below_m])
    corners = []
    for at_m in (settings.near_m, settings.range_max_m):
        ring = np.stack([np.cos(edges), np.sin(edges)], axis=-1) * at_m
        flat = np.broadcast_to(ring[:, None], (len(edges), 3, 2))
        corners.append(np.concatenate([flat, np.broadcast_to(heights[:, None], (len(edges), 3, 1))], axis=-1))
    seen: Bool = np.asarray(sight.sees(np.concatenate(corners, axis=1)).all(axis=1))
    return seen[:-1] & seen[1:]


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
    """ranges (bins,): as of :func:`laser_scan`. The others are those of the message ObstacleStatus, NaN unknown."""

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
    sights = (predicted, settings.range_max_m, PREDICTED), (live, live_range_m, LIVE)
    said = [_by_sight(sight, reach_m, source, body, settings) for sight, reach_m, source in sights if sight is not None]
    said += [_by_reading(reading, body, settings) for reading in readings]
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
