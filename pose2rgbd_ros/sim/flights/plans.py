"""Routes of the plans that need no file and no streets."""

from __future__ import annotations

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64, Int64
from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.sim.flights.route import NO_LINE, STEP_M, Route, course_rad, rounded

MAX_HOURS = 6.0
_U_TURN_RADIUS_M = 4.0  # of the corners of a U-shaped pass
_SEAM = 0.05  # share of an orbit's loop that counts as the turn to the next one


def lawnmower(config: FlightConfig) -> Route:
    """Parallel east-west lines, each flown against its neighbours, joined by half circles."""
    vertices, lines = parallel_lines(config, config.line_spacing_m / 2)
    return _along_course(vertices, lines, config.line_spacing_m / 2, config)


def survey(config: FlightConfig) -> Route:
    """As the lawnmower, with U-shaped passes: the drone slows down and flies two corners from line to line."""
    radius = min(_U_TURN_RADIUS_M, config.line_spacing_m / 2)
    vertices, lines = parallel_lines(config, radius)
    return _along_course(vertices, lines, radius, config)


def orbit(config: FlightConfig) -> Route:
    """Loops around the aim point, each a little higher, always looking at it; neighbouring loops are close."""
    circumference = 2 * np.pi * config.radius_m
    check_length(config.loops * circumference, config)
    turn = np.linspace(0, config.loops, int(np.ceil(config.loops * circumference / STEP_M)) + 1)
    aim = np.array([config.aim_x_m, config.aim_y_m, config.aim_z_m])
    angle = 2 * np.pi * turn
    offset = config.radius_m * np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=-1)
    position = aim + offset
    position[:, 2] = config.altitude_m + config.climb_m * turn / config.loops
    down = np.arctan2(position[:, 2] - aim[2], config.radius_m)
    line = np.minimum(turn.astype(np.int64), config.loops - 1)
    within = turn - line
    if config.loops > 1:
        line[(within < _SEAM / 2) | (within > 1 - _SEAM / 2)] = NO_LINE
    return Route(position, angle + np.pi, down, line, (range(config.loops),), config.climb_m / config.loops)


def parallel_lines(config: FlightConfig, radius_m: float) -> tuple[Float64, list[int]]:
    """Vertices (K, 3) of parallel lines with their turns, and the line number of each segment.

    Before and behind each line there is room to change speed, so that the line itself is flown at one speed.
    """
    count = int(np.floor(config.width_m / config.line_spacing_m + 1e-9)) + 1
    if count < 2:
        raise UserError(
            f"line_spacing_m is {config.line_spacing_m:g} in an area {config.width_m:g} m wide: that is one line; "
            "give a smaller spacing or a larger area"
        )
    slowed = min(config.speed_mps, np.sqrt(config.acceleration_mps2 * radius_m))
    runway = 0.5 * config.speed_mps + (config.speed_mps**2 - slowed**2) / (2 * config.acceleration_mps2)
    check_length(count * (config.area_m + 2 * runway + config.line_spacing_m), config)
    north = (np.arange(count) - (count - 1) / 2) * config.line_spacing_m
    half, outer = config.area_m / 2, config.area_m / 2 + runway + radius_m
    stations = np.array([-outer, -half, half, outer])
    vertices = np.zeros((count, 4, 3))
    vertices[0::2, :, 0], vertices[1::2, :, 0] = stations, stations[::-1]
    vertices[:, :, 1], vertices[:, :, 2] = north[:, None], config.altitude_m
    lines = [number for k in range(count) for number in (NO_LINE, k, NO_LINE, NO_LINE)][:-1]
    return vertices.reshape(-1, 3), lines


def check_length(length_m: float, config: FlightConfig) -> None:
    """UserError for a flight of more than 6 hours."""
    hours = length_m / config.speed_mps / 3600
    if hours > MAX_HOURS:
        raise UserError(
            f"this flight would be {length_m / 1000:.0f} km long and take {hours:.1f} h; at most {MAX_HOURS:g} h are "
            "flown: choose a smaller area, wider spacing or more speed"
        )


def _along_course(vertices: Float64, lines: list[int], radius_m: float, config: FlightConfig) -> Route:
    position, line = rounded(vertices, lines, radius_m)
    count = int(line.max()) + 1
    down = np.full(len(position), np.deg2rad(config.camera_pitch_deg))
    return Route(position, course_rad(position), down, line, (range(count),), config.line_spacing_m)


def numbered(line: Int64) -> Int64:
    """The line numbers with the holes closed that short segments, all arc, leave."""
    kept = np.unique(line[line >= 0])
    return np.where(line >= 0, np.searchsorted(kept, line), NO_LINE).astype(np.int64)
