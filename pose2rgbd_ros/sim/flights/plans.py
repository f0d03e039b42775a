"""Plans of parallel lines: lawnmower, U-shaped survey, and the paper's pattern of two crossing lawnmowers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.sim.flights.route import NO_LINE, STEP_M, Route, check_length, course_rad, rounded

# Plans without parallel lines: loops around a point, and a random walk.


_SEAM = 0.05  # share of an orbit's loop that counts as the turn to the next one
_WALK = 4  # stream of random numbers
_LEG = (0.15, 0.35)  # length of a leg of the walk, as a share of the area's shorter side
_BEND_RAD = (np.deg2rad(60.0), np.deg2rad(130.0))  # standard deviation and limit of its turns
_TRIES = 100


def orbit(config: FlightConfig) -> Route:
    """Loops around the aim point, each a little higher, always looking at it; neighbouring loops are close."""
    circumference_m = 2 * np.pi * config.radius_m
    check_length(config.loops * circumference_m, config.speed_mps)
    turn = np.linspace(0, config.loops, int(np.ceil(config.loops * circumference_m / STEP_M)) + 1)
    angle = 2 * np.pi * turn
    aim = np.array([config.aim_x_m, config.aim_y_m, config.aim_z_m])
    position = aim + config.radius_m * np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=-1)
    position[:, 2] = config.altitude_m + config.climb_m * turn / config.loops
    down = np.arctan2(position[:, 2] - aim[2], config.radius_m)
    line = np.minimum(turn.astype(np.int64), config.loops - 1)
    within = turn - line
    if config.loops > 1:
        line[(within < _SEAM / 2) | (within > 1 - _SEAM / 2)] = NO_LINE
    return Route(position, angle + np.pi, down, line, (range(config.loops),), config.climb_m / config.loops)


def walk(config: FlightConfig) -> Route:
    """Straight legs of random length, direction and height inside the area, joined by wide bends; each leg is a
    line.
    """
    check_length(config.distance_m, config.speed_mps)
    wandering = _wander(config, np.random.default_rng([config.seed, _WALK]))
    radius_m = config.speed_mps**2 / config.acceleration_mps2  # of bends that need no slowing down
    vertices, lacking_m = [next(wandering)], config.distance_m
    while lacking_m > 0:  # bends cut corners: what they save is flown as well
        while lacking_m > 0:
            vertices.append(next(wandering))
            lacking_m -= float(np.linalg.norm(vertices[-1] - vertices[-2]))
        legs = len(vertices) - 1
        position, line = rounded(np.array(vertices), list(range(legs)), radius_m)
        lacking_m = config.distance_m - float(np.linalg.norm(np.diff(position, axis=0), axis=1).sum())
    down = np.full(len(position), np.deg2rad(config.camera_pitch_deg))
    return Route(position, course_rad(position), down, line, (range(legs),))


def _wander(config: FlightConfig, rng: np.random.Generator) -> Iterator[Float64]:
    """Vertices (3,) of the walk, without end."""
    half = np.array([config.area_m, config.width_m]) / 2
    shorter_m = 2 * float(half.min())

    def height_m() -> float:
        return config.altitude_m + config.climb_m * rng.random()

    here, heading = rng.uniform(-half, half) / 2, rng.uniform(-np.pi, np.pi)
    yield np.append(here, height_m())
    while True:
        for _ in range(_TRIES):
            bend = np.clip(_BEND_RAD[0] * rng.standard_normal(), -_BEND_RAD[1], _BEND_RAD[1])
            leg_m = shorter_m * rng.uniform(*_LEG)
            there = here + leg_m * np.array([np.cos(heading + bend), np.sin(heading + bend)])
            if (np.abs(there) <= half).all():
                break
        else:  # cornered: home
            there = rng.uniform(-half, half) / 4
        step = there - here
        heading, here = np.arctan2(step[1], step[0]), there
        yield np.append(here, height_m())


_U_TURN_RADIUS_M = 4.0  # of the corners of a U-shaped pass


def paper(config: FlightConfig) -> Route:
    """Two crossing lawnmowers, west-east lines and then north-south ones: a reconstruction.

    The paper shows its synthetic flight in a picture (Figure 3) and describes it in a sentence: 300 x 300 m at a
    constant 55 m or so, all three angles varied by a random factor, always looking towards the city. Crossing lines
    are our reading of it: they cover the square densely and show each place from four sides.
    """
    radius = config.line_spacing_m / 2
    east_west = _lines(config, config.area_m, config.width_m, radius)
    north_south = _lines(config, config.width_m, config.area_m, radius)
    east = 1.0 if len(east_west) % 2 else -1.0  # on which side the first part ends; the second begins there, southwards
    turned = np.stack([-east * north_south[..., 1], -north_south[..., 0]], axis=-1)
    corner = np.array([east_west[-1, -1, 0], turned[0, 0, 1]])
    vertices = np.concatenate([east_west.reshape(-1, 2), corner[None], turned.reshape(-1, 2)])
    first, second = len(east_west), len(north_south)
    numbers = [*_numbers(0, first), NO_LINE, NO_LINE, *_numbers(first, second)]
    groups = (range(first), range(first, first + second))
    return _route(vertices, numbers, groups, radius, config)


def lawnmower(config: FlightConfig) -> Route:
    """Parallel west-east lines, each flown against its neighbours, joined by half circles."""
    return _parallel(config, config.line_spacing_m / 2)


def survey(config: FlightConfig) -> Route:
    """As the lawnmower, with U-shaped passes: the drone slows down and flies two corners from line to line."""
    return _parallel(config, min(_U_TURN_RADIUS_M, config.line_spacing_m / 2))


def _parallel(config: FlightConfig, radius_m: float) -> Route:
    lines = _lines(config, config.area_m, config.width_m, radius_m)
    groups = (range(len(lines)),)
    return _route(lines.reshape(-1, 2), _numbers(0, len(lines)), groups, radius_m, config)


def _lines(config: FlightConfig, length_m: float, width_m: float, radius_m: float) -> Float64:
    """Vertices (L, 4, 2) of lines along x, the first at the least y: turn, begin, end, turn.

    Before and behind each line there is room to change speed, so that the line itself is flown at one speed.
    """
    count = int(np.floor(width_m / config.line_spacing_m + 1e-9)) + 1
    if count < 2:
        raise UserError(
            f"line_spacing_m is {config.line_spacing_m:g} in an area {width_m:g} m wide: that is one line; "
            "give a smaller spacing or a larger area"
        )
    slowed_mps = min(config.speed_mps, np.sqrt(config.acceleration_mps2 * radius_m))
    braking_m = (config.speed_mps**2 - slowed_mps**2) / (2 * config.acceleration_mps2)
    outer_m = length_m / 2 + 0.5 * config.speed_mps + braking_m + radius_m
    check_length(count * (2 * outer_m + config.line_spacing_m), config.speed_mps)
    stations = np.array([-outer_m, -length_m / 2, length_m / 2, outer_m])
    vertices = np.zeros((count, 4, 2))
    vertices[0::2, :, 0], vertices[1::2, :, 0] = stations, -stations
    vertices[:, :, 1] = ((np.arange(count) - (count - 1) / 2) * config.line_spacing_m)[:, None]
    return vertices


def _numbers(first: int, count: int) -> list[int]:
    """Line numbers of the segments between the vertices of `count` lines."""
    return [n for k in range(first, first + count) for n in (NO_LINE, k, NO_LINE, NO_LINE)][:-1]


def _route(
    xy_m: Float64, numbers: list[int], groups: tuple[range, ...], radius_m: float, config: FlightConfig
) -> Route:
    vertices = np.concatenate([xy_m, np.full((len(xy_m), 1), config.altitude_m)], axis=1)
    position, line = rounded(vertices, numbers, radius_m)
    down = np.full(len(position), np.deg2rad(config.camera_pitch_deg))
    return Route(position, course_rad(position), down, line, groups, config.line_spacing_m)
