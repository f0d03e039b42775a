"""From settings to a flight: route, timing, noise, smooth motion, lines held out, clearance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.sim.flights import plans
from pose2rgbd_ros.sim.flights.config import OWN, FlightConfig, resolve
from pose2rgbd_ros.sim.flights.flight import Flight, Lines, choose_lines
from pose2rgbd_ros.sim.flights.motion import PERIOD_S, Motion, smooth_noise
from pose2rgbd_ros.sim.flights.route import Route, Terrain, check_clearance, check_inside, waypoint_route, without_holes
from pose2rgbd_ros.sim.flights.streets import street
from pose2rgbd_ros.sim.flights.timing import sample_times_s

CAMERA_OFFSET_M = (0.12, 0.0, -0.05)  # a little ahead of and below the body's centre
MOST_GUARD_M = 5.0
# Streams of random numbers: what one part draws never shifts another's. 4 and 5 are the walk's and the street's.
_ATTITUDE, _WANDER, _HOLDOUT = 1, 2, 3
_ATTITUDE_EVERY, _WANDER_EVERY = 6, 16  # nodes of the noise, in control points: 3 s and 8 s
_WANDER_AXES = np.array([1.0, 1.0, 0.3])  # height is kept better than place

_PLANS: dict[str, Callable[[FlightConfig, Terrain | None], Route]] = {
    "paper": lambda config, _: plans.paper(config),
    "lawnmower": lambda config, _: plans.lawnmower(config),
    "survey": lambda config, _: plans.survey(config),
    "orbit": lambda config, _: plans.orbit(config),
    "walk": lambda config, _: plans.walk(config),
    "street": street,
    "waypoints": waypoint_route,
}
_SIZE = {"orbit": "radius_m, aim_x_m or aim_y_m", "waypoints": "the waypoints' coordinates"}


def make_flight(config: FlightConfig, city: Terrain | None = None) -> Flight:
    """The flight these settings describe, the same for the same settings.

    Args:
        config: -1 stands for the plan's own values.
        city: flown over; None: nothing to hit and no border (the street plan needs one).

    Raises:
        UserError: a value out of bounds, a bad waypoint file, a flight too long, out of the city or below its roofs.
    """
    config = resolve(config)
    if config.waypoints and config.plan != "waypoints":
        raise UserError(f"waypoints are given, but the plan is {config.plan!r}; set plan to 'waypoints'")
    route = without_holes(_PLANS[config.plan](config, city))
    if city is not None:
        advice = f"choose a smaller {_SIZE.get(config.plan, 'area_m or width_m')}, or a larger city"
        check_inside(route.position_m[route.line >= 0], city, advice)
    level_rad = route.down_rad.mean() if config.camera_pitch_deg == OWN else np.deg2rad(config.camera_pitch_deg)
    time_s = sample_times_s(route, config.speed_mps, config.acceleration_mps2)
    motion = Motion(_control(route, time_s, float(level_rad), config))
    lines = _lines(route, motion.control_time_s(0) + time_s, config)
    flight = Flight(config.plan, motion, camera_mount(float(level_rad)), lines)
    if city is not None:
        check_clearance(flight, city, config)
    return flight


def camera_mount(down_rad: float) -> Float64:
    """T_body_cam (4, 4) of a camera that looks this far down from the body's forward axis."""
    pitch = se3.make(CAMERA_OFFSET_M, [0.0, np.sin(down_rad / 2), 0.0, np.cos(down_rad / 2)])
    return se3.compose(pitch, se3.T_BODY_OPTICAL)


def _control(route: Route, time_s: Float64, mount_down_rad: float, config: FlightConfig) -> Float64:
    """Control points (n, 6) of the motion: the route at equal times, with its noise."""
    count = int(np.ceil(time_s[-1] / PERIOD_S)) + 1
    at = np.arange(count) * PERIOD_S
    columns = [*route.position_m.T, np.zeros(len(time_s)), route.down_rad - mount_down_rad, route.yaw_rad]
    control = np.stack([np.interp(at, time_s, column) for column in columns], axis=-1)
    wander = smooth_noise(np.random.default_rng([config.seed, _WANDER]), count, _WANDER_EVERY, 3)
    jitter = smooth_noise(np.random.default_rng([config.seed, _ATTITUDE]), count, _ATTITUDE_EVERY, 3)
    control[:, :3] += config.wander_m * _WANDER_AXES * wander
    control[:, 3:] += np.deg2rad(config.attitude_jitter_deg) * jitter
    return control


def _lines(route: Route, time_s: Float64, config: FlightConfig) -> Lines:
    on = np.flatnonzero(route.line >= 0)  # lines ascend along the route
    numbers = np.arange(int(route.line.max()) + 1)
    starts = on[np.searchsorted(route.line[on], numbers, side="left")]
    stops = on[np.searchsorted(route.line[on], numbers, side="right") - 1]
    guard_m = min(MOST_GUARD_M, route.separation_m / 2) if config.guard_m == OWN else config.guard_m
    held_out = choose_lines(route.groups, config.holdout, np.random.default_rng([config.seed, _HOLDOUT]))
    return Lines(time_s[starts], time_s[stops], held_out, guard_m)
