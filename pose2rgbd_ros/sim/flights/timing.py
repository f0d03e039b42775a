"""When a route is where: as fast as asked, as slow as its bends and turns need, at rest at both ends."""

from __future__ import annotations

import numpy as np

from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.sim.flights.route import Route

TURN_RATE_RADPS = 1.0  # how fast yaw and pitch may change
_CRAWL_MPS = 1e-3


def sample_times_s(route: Route, speed_mps: float, acceleration_mps2: float) -> Float64:
    """Time (N,) of each sample of the route, from 0, strictly increasing.

    The speed is `speed_mps`, less where the way bends (acceleration across it) or the heading turns fast, and changes
    no faster than the acceleration allows: trapezoids on straight lines.
    """
    steps = np.diff(route.position_m, axis=0)
    length = np.linalg.norm(steps, axis=1)
    squared = np.minimum(_bend_limit(steps, length, acceleration_mps2), speed_mps**2)
    turn = np.maximum(np.abs(np.diff(route.yaw_rad)), np.abs(np.diff(route.down_rad)))
    turn_limit = (TURN_RATE_RADPS * length / np.maximum(turn, 1e-12)) ** 2
    squared[:-1] = np.minimum(squared[:-1], turn_limit)
    squared[1:] = np.minimum(squared[1:], turn_limit)
    squared[0] = squared[-1] = 0.0
    # v^2 grows by at most 2 a ds, forwards and backwards: a running minimum of v^2 -+ 2 a s.
    rise = 2 * acceleration_mps2 * np.concatenate([[0.0], np.cumsum(length)])
    squared = rise + np.minimum.accumulate(squared - rise)
    squared = np.minimum.accumulate((squared + rise)[::-1])[::-1] - rise
    speed = np.sqrt(np.maximum(squared, 0.0))
    speed[1:-1] = np.maximum(speed[1:-1], _CRAWL_MPS)
    return np.concatenate([[0.0], np.cumsum(2 * length / (speed[:-1] + speed[1:]))])


def _bend_limit(steps: Float64, length: Float64, acceleration_mps2: float) -> Float64:
    """Squared speed (N,) at which the acceleration across the way is the one allowed."""
    unit = steps / length[:, None]
    sine = np.linalg.norm(np.cross(unit[:-1], unit[1:]), axis=1)
    angle = np.arctan2(sine, (unit[:-1] * unit[1:]).sum(axis=1))
    curvature = angle / (0.5 * (length[:-1] + length[1:]))
    limit = np.full(len(steps) + 1, np.inf)
    limit[1:-1] = acceleration_mps2 / np.maximum(curvature, 1e-12)
    limit[1:-1][angle > np.pi / 2] = 0.0  # straight back: a stop, no bend
    return limit
