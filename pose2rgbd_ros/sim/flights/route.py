"""A route: the way through space as densely sampled points with headings and line numbers, and its timing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64, Int64
from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.sim.flights.flight import Flight

STEP_M = 0.25  # between samples
NO_LINE = -1
MAX_HOURS = 6.0  # of a flight


@dataclass(frozen=True, eq=False)
class Route:
    """Samples of the way, N of them, no two neighbours in one place.

    `position_m` (N, 3) in the map; `yaw_rad` (N,) of the body, unwrapped; `down_rad` (N,) how far the camera looks
    below the horizon; `line` (N,) the line each sample is on, ascending, -1 on turns. `groups`: lines that lie side by
    side, in order, so that neighbours in a group are neighbours in space. `separation_m`: their distance.
    """

    position_m: Float64
    yaw_rad: Float64
    down_rad: Float64
    line: Int64
    groups: tuple[range, ...] = field(default=())
    separation_m: float = np.inf


def rounded(vertices_m: npt.ArrayLike, lines: Sequence[int], radius_m: npt.ArrayLike) -> tuple[Float64, Int64]:
    """A polyline with its corners replaced by arcs, sampled every 0.25 m.

    An arc's radius is `radius_m`, a number or (K,), or less where a neighbouring segment is too short for it.

    Args:
        vertices_m: (K, 3), no two neighbours equal.
        lines: (K - 1) the line number of each segment, -1 for none. Arcs get -1.

    Returns:
        positions (N, 3) and line numbers (N,).
    """
    vertices = np.asarray(vertices_m, float)
    along = np.diff(vertices, axis=0)
    length = np.linalg.norm(along, axis=1)
    along /= length[:, None]
    # Half the turn at each vertex; the arc begins radius * tan(half) before the corner and ends as much behind it.
    half = np.zeros(len(vertices))
    half[1:-1] = np.arccos(np.clip((along[:-1] * along[1:]).sum(axis=1), -1, 1)) / 2
    bent = half > 1e-6
    cut = np.where(bent, np.asarray(radius_m) * np.tan(np.minimum(half, np.pi / 2 - 1e-6)), 0.0)
    share = np.minimum(1.0, length / np.maximum(cut[:-1] + cut[1:], 1e-12))  # where two arcs share a short segment
    cut[1:-1] *= np.minimum(share[:-1], share[1:])
    pieces, labels = [vertices[:1]], [np.array([lines[0]])]
    for k in range(len(along)):
        start = vertices[k] + along[k] * cut[k]
        stop = vertices[k + 1] - along[k] * cut[k + 1]
        _append(pieces, labels, _straight(start, stop), lines[k])
        if bent[k + 1]:
            _append(pieces, labels, _arc(stop, along[k], along[k + 1], half[k + 1], cut[k + 1]), NO_LINE)
    return np.concatenate(pieces), np.concatenate(labels).astype(np.int64)


def passing_radii_m(vertices_m: Float64, miss_m: float) -> Float64:
    """Radius (K,) of the arc at each vertex (K, 3) that passes it at a distance; nearly 0 where it turns back."""
    along = np.diff(vertices_m, axis=0)
    along /= np.linalg.norm(along, axis=1)[:, None]
    half = np.zeros(len(vertices_m))
    half[1:-1] = np.arccos(np.clip((along[:-1] * along[1:]).sum(axis=1), -1, 1)) / 2
    return miss_m / np.maximum(1 / np.cos(np.minimum(half, np.pi / 2 - 1e-6)) - 1, 1e-4)


def course_rad(position_m: Float64) -> Float64:
    """Heading (N,) of the way at its samples, unwrapped; on vertical parts the heading before (or behind) them."""
    steps = np.gradient(position_m, axis=0)[:, :2]
    level = np.flatnonzero(np.linalg.norm(steps, axis=1) > 1e-6)
    if not len(level):
        return np.zeros(len(position_m))
    latest = level[np.clip(np.searchsorted(level, np.arange(len(steps)), side="right") - 1, 0, None)]
    return np.unwrap(np.arctan2(steps[latest, 1], steps[latest, 0]))


def without_holes(route: Route) -> Route:
    """The same with its lines numbered anew: a segment so short that it is all arc leaves no line."""
    kept = np.unique(route.line[route.line >= 0])
    line = np.where(route.line >= 0, np.searchsorted(kept, route.line), NO_LINE).astype(np.int64)
    bounds = [np.searchsorted(kept, (group.start, group.stop)) for group in route.groups]
    groups = tuple(range(int(start), int(stop)) for start, stop in bounds)
    return dataclasses.replace(route, line=line, groups=groups)


def check_length(length_m: float, speed_mps: float) -> None:
    """UserError for a flight of more than 6 hours."""
    hours = length_m / speed_mps / 3600
    if hours > MAX_HOURS:
        raise UserError(
            f"this flight would be {length_m / 1000:.0f} km long and take {hours:.1f} h; at most {MAX_HOURS:g} h are "
            "flown: choose a shorter one, wider spacing or more speed"
        )


def _append(pieces: list[Float64], labels: list[Int64], points: Float64, line: int) -> None:
    pieces.append(points)
    labels.append(np.full(len(points), line))


def _straight(start: Float64, stop: Float64) -> Float64:
    """Samples after `start` up to `stop`; none when they coincide."""
    distance = float(np.linalg.norm(stop - start))
    if distance < 1e-9:
        return np.zeros((0, 3))
    share = np.linspace(0, 1, int(np.ceil(distance / STEP_M)) + 1)[1:, None]
    return start + share * (stop - start)


def _arc(start: Float64, before: Float64, after: Float64, half: float, cut: float) -> Float64:
    """Samples of the arc from `start`, leaving along `before`, to where it meets `after`."""
    radius = cut / np.tan(half)
    inward = after - before * np.cos(2 * half)
    norm = np.linalg.norm(inward)
    if norm < 1e-9:  # straight back: no side to turn to
        return np.zeros((0, 3))
    inward /= norm
    count = max(2, int(np.ceil(radius * 2 * half / STEP_M)))
    angle = np.linspace(0, 2 * half, count + 1)[1:, None]
    points: Float64 = start + radius * (np.sin(angle) * before + (1 - np.cos(angle)) * inward)
    return points


# What a flight asks of the world below it: how high it is, where it ends, where its streets run.


MARGIN_M = 3.0  # kept from everything, above it and beside it
STREET_MARGIN_M = 1.5  # between buildings there is less room, and less speed
_CHECK_GROUND_EVERY_M = 1.0
_ROUNDING_M = 1e-6
_EIGHT = np.array([(np.cos(a), np.sin(a)) for a in np.arange(8) * np.pi / 4])
_AROUND = np.concatenate([[(0.0, 0.0)], 0.5 * _EIGHT, _EIGHT])


class Street(Protocol):
    """A street's middle (K, 3) on the ground, and its width."""

    @property
    def points_m(self) -> Float64: ...
    @property
    def width_m(self) -> float: ...


class Terrain(Protocol):
    """The city, as far as flights know it; see `sim.city.city.City`."""

    @property
    def streets(self) -> Sequence[Street]: ...
    @property
    def bounds_m(self) -> tuple[Float64, Float64]: ...
    def ground_height_m(self, xy_m: Float64) -> Float64:
        """Height (N,) of the ground at places (N, 2)."""
        ...

    def surface_height_m(self, xy_m: Float64) -> Float64:
        """Height (N,) below which there may be something at places (N, 2)."""
        ...


def highest_around_m(terrain: Terrain, xy_m: Float64, margin_m: float) -> Float64:
    """Height (N,) of the highest thing at places (N, 2) and `margin_m` around them."""
    around = xy_m[:, None] + margin_m * _AROUND
    heights = terrain.surface_height_m(around.reshape(-1, 2)).reshape(len(xy_m), -1)
    return np.asarray(heights.max(axis=1), dtype=np.float64)


def check_clearance(flight: Flight, terrain: Terrain, config: FlightConfig) -> None:
    """UserError when the flight comes too near to the ground, a roof or a tree: where, and how high it must be."""
    margin_m = STREET_MARGIN_M if config.plan == "street" else MARGIN_M
    count = int(np.ceil(flight.duration_s * config.speed_mps / _CHECK_GROUND_EVERY_M)) + 1
    position = flight.position_m(np.linspace(0.0, flight.duration_s, count))
    highest_m = highest_around_m(terrain, position[:, :2], margin_m)
    short_m = highest_m + margin_m - position[:, 2] - _ROUNDING_M
    worst = int(short_m.argmax())
    if short_m[worst] <= 0:
        return
    x, y, z = position[worst]
    if config.plan == "waypoints":
        advice = f"raise the waypoints there to {np.ceil(z + short_m[worst]):g} m"
    else:
        advice = f"fly with altitude_m {np.ceil(config.altitude_m + short_m[worst]):g} or more"
    raise UserError(
        f"at x {x:.1f}, y {y:.1f} the flight would be {z:.1f} m high, and what stands there reaches "
        f"{highest_m[worst]:.1f} m; with a margin of {margin_m:g} m: {advice}"
    )


def check_inside(position_m: Float64, terrain: Terrain, advice: str) -> None:
    """UserError when one of the places (N, 3) lies outside the city."""
    low, high = (np.asarray(corner, float)[:2] for corner in terrain.bounds_m)
    outside = np.flatnonzero(((position_m[:, :2] < low) | (position_m[:, :2] > high)).any(axis=1))
    if len(outside):
        x, y = position_m[outside[0], :2]
        raise UserError(
            f"the flight leaves the city at x {x:.1f}, y {y:.1f}; the city reaches from {low[0]:.0f} to {high[0]:.0f} "
            f"in x and from {low[1]:.0f} to {high[1]:.0f} in y: {advice}"
        )


# The waypoint file: x y z [yaw_deg [pitch_deg]] a line, metres in the map, `#` begins a comment.


MISS_M = 1.0  # how far from a waypoint its rounded corner may pass
NEAREST_M = 1.0  # parts of the path that are not neighbours stay this far apart
_AROUND_CORNER_M = 4.0  # parts of the path nearer along it than this are neighbours
_SAME_M = 0.1
_CHECK_WAYPOINTS_EVERY_M = 0.25
_SHARPEST_RAD = np.deg2rad(175.0)
_MOST = 100_000


@dataclass(frozen=True, eq=False)
class Waypoints:
    """A file's waypoints, K of them: `position_m` (K, 3), `line` (K,) where in the file, and what all or none give:
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
        raise UserError(f"{path} does not exist; write x y z [yaw_deg [pitch_deg]], one waypoint a line") from None
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
            f"{path}:{rows[odd[0]][0]}: {lengths[odd[0]]} numbers, but line {rows[0][0]} has {lengths[0]}; give yaw, "
            "or yaw and pitch, to all waypoints or to none"
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
        raise UserError(f"{where}: {len(fields)} numbers in {content!r}; expected x y z [yaw_deg [pitch_deg]]")
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
        raise UserError(f"{where}: a pitch of {values[4]:g}; it must lie between -90 (up) and 90 degrees (down)")
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
    spacing_m = max(_CHECK_WAYPOINTS_EVERY_M, float(length.sum()) / 400_000)
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


# When a route is where: as fast as asked, as slow as its bends and turns need, at rest at both ends.

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
