"""The waypoint file: x y z [yaw_deg [pitch_deg]] a line, metres in the map, `#` begins a comment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64, Int64
from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.sim.flights.route import Route, check_length, course_rad, passing_radii_m, rounded
from pose2rgbd_ros.sim.flights.terrain import Terrain

MISS_M = 1.0  # how far from a waypoint its rounded corner may pass
NEAREST_M = 1.0  # parts of the path that are not neighbours stay this far apart
_AROUND_CORNER_M = 4.0  # parts of the path nearer along it than this are neighbours
_SAME_M = 0.1
_CHECK_EVERY_M = 0.25
_SHARPEST_RAD = np.deg2rad(175.0)
_MOST = 100_000


@dataclass(frozen=True, eq=False)
class Waypoints:
    """A file's waypoints, K of them: `position_m` (K, 3), `line` (K,) where in the file, and what all or none tell:
    `yaw_rad` (K,) unwrapped and `down_rad` (K,), how far the camera looks below the horizon."""

    path: Path
    position_m: Float64
    line: Int64
    yaw_rad: Float64 | None
    down_rad: Float64 | None


def waypoint_route(config: FlightConfig, terrain: Terrain | None) -> Route:
    """Through the file's waypoints, passing each within a metre; a line from each to the next.

    UserError: what `read_waypoints` raises, a waypoint outside the city, a path that crosses itself or turns back.
    """
    points = read_waypoints(Path(config.waypoints))
    length_m = float(np.linalg.norm(np.diff(points.position_m, axis=0), axis=1).sum())
    check_length(length_m, config.speed_mps)
    if terrain is not None:
        _check_inside(points, terrain)
    _check_turns(points)
    _check_crossings(points)
    legs = len(points.position_m) - 1
    position, line = rounded(points.position_m, list(range(legs)), passing_radii_m(points.position_m, MISS_M))
    at = _passed(position, line, points.position_m)
    waypoint = np.arange(legs + 1)
    yaw = course_rad(position) if points.yaw_rad is None else np.interp(at, waypoint, points.yaw_rad)
    if points.down_rad is None:
        down = np.full(len(position), np.deg2rad(config.camera_pitch_deg))
    else:
        down = np.interp(at, waypoint, points.down_rad)
    return Route(position, yaw, down, line, (range(legs),))


def read_waypoints(path: Path) -> Waypoints:
    """Read a waypoint file. UserError names the file, and the line that is wrong."""
    if str(path) in ("", "."):
        raise UserError("plan 'waypoints' needs a file: give its name as waypoints")
    try:
        text = path.read_text(encoding="utf-8-sig")  # editors on Windows put a mark first
    except FileNotFoundError:
        raise UserError(
            f"{path} does not exist; write x y z [yaw_deg [pitch_deg]], one waypoint a line"
        ) from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; give a text file of waypoints") from None
    except (OSError, ValueError) as error:  # a ValueError: no UTF-8, or no file name
        raise UserError(f"{path} cannot be read as text ({error})") from error
    rows = [
        (number, _parse(path, number, content))
        for number, line in enumerate(text.splitlines(), 1)
        if (content := line.split("#")[0].strip())
    ]
    if len(rows) < 2:
        found = f"only one waypoint (line {rows[0][0]})" if rows else "no waypoints"
        raise UserError(f"{path} holds {found}; a flight needs at least 2")
    if len(rows) > _MOST:
        raise UserError(f"{path} holds {len(rows)} waypoints; at most {_MOST} are flown")
    lengths = np.array([len(row) for _, row in rows])
    odd = np.flatnonzero(lengths != lengths[0])
    if len(odd):
        raise UserError(
            f"{path}:{rows[odd[0]][0]}: {lengths[odd[0]]} numbers, but line {rows[0][0]} has {lengths[0]}; give yaw, or "
            "yaw and pitch, to all waypoints or to none"
        )
    table, line = np.array([row for _, row in rows]), np.array([number for number, _ in rows])
    for k in np.flatnonzero(np.linalg.norm(np.diff(table[:, :3], axis=0), axis=1) < _SAME_M):
        raise UserError(f"{path}:{line[k + 1]}: the same place as line {line[k]}; remove one of them")
    yaw = np.unwrap(np.deg2rad(table[:, 3])) if lengths[0] > 3 else None
    return Waypoints(path, table[:, :3], line, yaw, np.deg2rad(table[:, 4]) if lengths[0] > 4 else None)


def _parse(path: Path, number: int, content: str) -> list[float]:
    fields = content.replace(",", " ").split()
    where = f"{path}:{number}"
    if not 3 <= len(fields) <= 5:
        raise UserError(
            f"{where}: {len(fields)} numbers in {content!r}; expected x y z [yaw_deg [pitch_deg]]"
        )
    try:
        values = [float(field) for field in fields]
    except ValueError:
        raise UserError(f"{where}: {content!r} is not x y z [yaw_deg [pitch_deg]]") from None
    if not np.isfinite(values).all():
        raise UserError(f"{where}: {content!r} is not finite; give metres and degrees")
    if np.abs(values[:3]).max() > 1e5:
        raise UserError(f"{where}: {content!r} is more than 100 km away; coordinates are metres in the map")
    if len(values) > 3 and abs(values[3]) > 36_000:
        raise UserError(f"{where}: a yaw of {values[3]:g}; give degrees, counter-clockwise from east")
    if len(values) == 5 and not -90 <= values[4] <= 90:
        raise UserError(
            f"{where}: a pitch of {values[4]:g}; it must lie between -90 (up) and 90 degrees (down)"
        )
    return values


def _check_inside(points: Waypoints, terrain: Terrain) -> None:
    low, high = (np.asarray(corner, float)[:2] for corner in terrain.bounds_m)
    xy = points.position_m[:, :2]
    for k in np.flatnonzero(((xy < low) | (xy > high)).any(axis=1)):
        raise UserError(
            f"{points.path}:{points.line[k]}: x {xy[k, 0]:g}, y {xy[k, 1]:g} lies outside the city, which reaches from "
            f"{low[0]:.0f} to {high[0]:.0f} in x and from {low[1]:.0f} to {high[1]:.0f} in y"
        )


def _check_turns(points: Waypoints) -> None:
    along = np.diff(points.position_m, axis=0)
    along /= np.linalg.norm(along, axis=1)[:, None]
    angle = np.arccos(np.clip((along[:-1] * along[1:]).sum(axis=1), -1, 1))
    for k in np.flatnonzero(angle > _SHARPEST_RAD):
        raise UserError(
            f"{points.path}:{points.line[k + 1]}: the path turns straight back here, onto itself; lead it back beside "
            "where it came"
        )


def _check_crossings(points: Waypoints) -> None:
    """UserError for a path that meets itself other than where its end closes it to a ring."""
    vertices = points.position_m
    steps = np.diff(vertices, axis=0)
    length = np.linalg.norm(steps, axis=1)
    spacing_m = max(_CHECK_EVERY_M, float(length.sum()) / 400_000)
    counts = np.ceil(length / spacing_m).astype(int)
    leg = np.repeat(np.arange(len(counts)), counts)
    share = np.concatenate([np.arange(n) / n for n in counts])
    samples = vertices[leg] + share[:, None] * steps[leg]
    along_m = np.concatenate([[0.0], np.cumsum(length)])[leg] + share * length[leg]
    pairs = cKDTree(samples).query_pairs(max(NEAREST_M, spacing_m), output_type="ndarray")
    apart_m = np.abs(along_m[pairs[:, 0]] - along_m[pairs[:, 1]])
    if np.linalg.norm(vertices[0] - vertices[-1]) < _SAME_M:
        apart_m = np.minimum(apart_m, length.sum() - apart_m)
    pairs = pairs[apart_m > max(_AROUND_CORNER_M, 4 * spacing_m)]
    if not len(pairs):
        return
    distance = np.linalg.norm(samples[pairs[:, 0]] - samples[pairs[:, 1]], axis=1)
    first, second = sorted(pairs[int(distance.argmin())])
    x, y, z = samples[first]
    a, b = points.line[leg[first]], points.line[leg[second]]
    to_a, to_b = points.line[leg[first] + 1], points.line[leg[second] + 1]
    raise UserError(
        f"{points.path}: the path from line {a} to line {to_a} and the path from line {b} to line {to_b} come within "
        f"{distance.min():.1f} m of each other near x {x:.1f}, y {y:.1f}, z {z:.1f}; keep them more than "
        f"{NEAREST_M:g} m apart"
    )


def _passed(position: Float64, line: Int64, vertices: Float64) -> Float64:
    """How many waypoints each sample (N,) has passed, as a fraction between them; arcs go evenly from leg to leg."""
    straight = np.flatnonzero(line >= 0)
    leg = line[straight]
    step = vertices[leg + 1] - vertices[leg]
    share = ((position[straight] - vertices[leg]) * step).sum(axis=1) / (step**2).sum(axis=1)
    known = np.concatenate([[0.0], leg + share, [len(vertices) - 1.0]])
    return np.interp(np.arange(len(position)), np.concatenate([[-1], straight, [len(position)]]), known)
