"""Scans as autopilots take them: 72 bins of 5 degrees, clockwise from straight ahead."""

from __future__ import annotations

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float32, UInt16

BINS = 72  # of px4_msgs/ObstacleDistance and MAVLink's OBSTACLE_DISTANCE
INCREMENT_DEG = 360 / BINS
UNKNOWN_CM = 65535
LARGEST_M = 650.0  # so that the maximum and the count for "clear" stay below the one for unknown


def pooled(ranges_m: Float32, bins: int = BINS) -> Float32:
    """A scan (n,) of :func:`scan.laser_scan` in fewer bins: the least of each, unknown if any of them is.

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

    PX4's Collision Prevention keeps 36 sectors of 10 degrees and reads every other bin of a message for them: without this, what
    stands in an odd bin alone would not be seen. Source: PX4-Autopilot, CollisionPrevention.cpp.
    """
    least: Float32 = np.minimum(ranges_m, np.minimum(np.roll(ranges_m, 1), np.roll(ranges_m, -1)))  # NaN wins
    return least


def obstacle_distances_cm(ranges_m: Float32, range_max_m: float) -> UInt16:
    """The field `distances` (72,) uint16 of px4_msgs/ObstacleDistance in BODY_FRD, of a scan of n bearings.

    Centimetres, rounded down; 65535 unknown, max + 1 clear. Element i is the bearing 5 i degrees clockwise from straight ahead.
    Source: PX4-Autopilot msg/ObstacleDistance.msg.
    """
    ranges = clockwise(ranges_m)
    most_cm = int(min(range_max_m, LARGEST_M) * 100)
    with np.errstate(invalid="ignore"):
        counts = np.where(ranges <= range_max_m, np.minimum(np.floor(ranges * 100), most_cm), most_cm + 1)
    return np.where(np.isnan(ranges), UNKNOWN_CM, counts).astype(np.uint16)


def mavros_ranges(ranges_m: Float32, range_max_m: float) -> Float32:
    """`ranges` (72,) float32 of the LaserScan that MAVROS' obstacle_distance plugin takes: clockwise from straight ahead.

    The plugin takes the angles as they are for those of BODY_FRD, NaN for unknown, and +inf too: what is clear is therefore
    given as a centimetre and a half beyond range_max, which it turns into MAVLink's max + 1. Source: mavros_extras,
    obstacle_distance.cpp.
    """
    ranges = clockwise(ranges_m)
    most_m = min(range_max_m, LARGEST_M)
    clear = np.float32(int(most_m * 100) / 100 + 0.015)
    with np.errstate(invalid="ignore"):
        return np.where(np.isposinf(ranges) | (ranges > most_m), clear, ranges).astype(np.float32)
