"""All that is told about obstacles at one moment, from a prediction and from live sensors: the nearer of both."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pose2rgbd_ros.geometry.arrays import Float32, Float64
from pose2rgbd_ros.obstacles.clearance import (
    AT_REST_MPS,
    DOWN,
    NONE_KNOWN,
    Nearest,
    nearest_obstacle,
    room_along,
    room_below,
    time_to_collision_s,
)
from pose2rgbd_ros.obstacles.fusion import nearer, nearer_of, range_along, range_in_scan
from pose2rgbd_ros.obstacles.scan import ScanSettings, laser_scan
from pose2rgbd_ros.obstacles.sight import Sight

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
class Reading:
    """What a live range sensor measures along the x axis of its frame; NaN, +inf and -inf as REP-117 has them."""

    range_m: float
    fov_rad: float
    range_max_m: float
    T_body_sensor: Float64


@dataclass(frozen=True, eq=False)
class Surroundings:
    """ranges (bins,): as of :func:`laser_scan`. The other figures are those of the message ObstacleStatus, NaN unknown."""

    ranges: Float32
    nearest: Nearest = NONE_KNOWN
    ahead_m: float = math.nan
    below_m: float = math.nan
    speed_mps: float = math.nan
    time_to_collision_s: float = math.nan
    known: float = 0.0
    sources: int = 0


@dataclass(frozen=True, eq=False)
class _Said:
    """What one source says; +inf: nothing within its reach."""

    ranges: Float32
    nearest: Nearest
    ahead_m: float
    below_m: float
    reach_m: float
    source: int


def look_around(
    predicted: Sight | None,
    live: Sight | None,
    live_range_m: float,
    readings: Sequence[Reading],
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
    predicted: Sight | None,
    live: Sight | None,
    live_range_m: float,
    readings: Sequence[Reading],
    body: Body,
    settings: ScanSettings,
) -> Iterator[_Said]:
    if predicted is not None:
        yield _by_sight(predicted, settings.range_max_m, PREDICTED, body, settings)
    if live is not None:
        yield _by_sight(live, live_range_m, LIVE, body, settings)
    for reading in readings:
        yield _by_reading(reading, body, settings)


def _by_sight(sight: Sight, reach_m: float, source: int, body: Body, settings: ScanSettings) -> _Said:
    most_m = min(reach_m, settings.range_max_m)
    rules = (body.radius_m, settings.near_m, most_m, settings.unknown_share)
    ahead_m = math.nan
    if body.velocity_mps is not None and body.speed_mps >= AT_REST_MPS:
        ahead_m = room_along(sight, body.velocity_mps, *rules)
    below_m = room_below(sight, *rules)
    ahead_m, below_m = (math.inf if room_m >= most_m else room_m for room_m in (ahead_m, below_m))
    return _Said(laser_scan(sight, settings), nearest_obstacle(sight), ahead_m, below_m, reach_m, source)


def _by_reading(reading: Reading, body: Body, settings: ScanSettings) -> _Said:
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
    return _Said(ranges, nearest, ahead_m, below_m, reading.range_max_m, LIVE)
