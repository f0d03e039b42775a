"""Plans without parallel lines: loops around a point, and a random walk."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.sim.flights.route import NO_LINE, STEP_M, Route, check_length, course_rad, rounded

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
    """Straight legs of random length, direction and height inside the area, joined by wide bends; each leg is a line."""
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
