"""Virtual routes: poses where nobody was."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import interpolation, se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.sim.flights.waypoints import read_waypoints

DOWN_RAD = np.deg2rad(50.0)  # how far cameras look below the horizon where a waypoint file does not say


def between(start: Float64, end: Float64, share: Float64) -> Float64:
    """Poses (N, 4, 4) at parts `share` (N,) of the way: position on the line, rotation on the shortest arc.

    `start` and `end` (4, 4). The paper's frame interpolation (section 6.2) and its linear route (section 5.3).
    """
    ends = [np.concatenate(se3.split(T))[:, None] for T in (start, end)]
    found = np.array(interpolation.linear(np, ends[0], ends[1], np.asarray(share, dtype=np.float64)))
    return se3.make(found[:3].T, found[3:].T)


def linear(start: Float64, end: Float64, count: int) -> Float64:
    """Route A of the paper's figure 5: (count, 4, 4) from one pose to another. UserError: both in one place."""
    _require_apart(start, end)
    return between(start, end, np.linspace(0.0, 1.0, count))


def parabola(start: Float64, end: Float64, count: int, bend: float) -> Float64:
    """Route B of the paper's figure 5: the same, bent sideways by `bend` of its length at its middle, left if positive.

    How far and to which side the paper's parabola bends it does not say: this is a reconstruction. It bends in the
    horizontal plane, or along map x where the way leads straight up. UserError: both poses in one place.
    """
    route = linear(start, end, count)
    chord = end[:3, 3] - start[:3, 3]
    left = np.array([-chord[1], chord[0], 0.0])
    length = np.linalg.norm(left)
    left = left / length if length > 1e-6 * np.linalg.norm(chord) else np.array([1.0, 0.0, 0.0])
    u = np.linspace(0.0, 1.0, count)
    route[:, :3, 3] += (4 * u * (1 - u) * bend * np.linalg.norm(chord))[:, None] * left
    return route


def along_file(path: Path, count: int) -> Float64:
    """Poses (count, 4, 4) evenly along the lines through a waypoint file, `x y z [yaw_deg [pitch_deg]]` in the map.

    Cameras are level; without yaw they look along the way, without pitch 50 degrees down. UserError: a bad file.
    """
    points = read_waypoints(path)
    steps = np.diff(points.position_m, axis=0)
    passed = np.concatenate([[0.0], np.cumsum(np.linalg.norm(steps, axis=1))])
    at = np.interp(np.linspace(0.0, passed[-1], count), passed, np.arange(len(passed)))
    known = np.arange(len(passed))
    position = np.stack([np.interp(at, known, values) for values in points.position_m.T], axis=-1)
    if points.yaw_rad is None:
        course = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
        yaw = course[np.minimum(at.astype(int), len(steps) - 1)]
    else:
        yaw = np.interp(at, known, points.yaw_rad)
    down = np.full(count, DOWN_RAD) if points.down_rad is None else np.interp(at, known, points.down_rad)
    return _level(position, yaw, down)


def _level(position_m: Float64, yaw_rad: Float64, down_rad: Float64) -> Float64:
    """Optical frames (N, 4, 4) whose x axis is horizontal; the top of a camera looking straight down is ahead."""
    ahead = np.stack([np.cos(yaw_rad), np.sin(yaw_rad), np.zeros_like(yaw_rad)], axis=-1)
    up = np.array([0.0, 0.0, 1.0])
    T = np.tile(np.eye(4), (len(position_m), 1, 1))
    T[:, :3, 2] = np.cos(down_rad)[:, None] * ahead - np.sin(down_rad)[:, None] * up
    T[:, :3, 1] = -np.sin(down_rad)[:, None] * ahead - np.cos(down_rad)[:, None] * up
    T[:, :3, 0] = np.cross(T[:, :3, 1], T[:, :3, 2])
    T[:, :3, 3] = position_m
    return T


def _require_apart(start: Float64, end: Float64) -> None:
    if np.linalg.norm(end[:3, 3] - start[:3, 3]) < 1e-6:
        raise UserError(
            "the route starts and ends in the same place; choose other frames with --start and --end"
        )
