"""From settings to a flight: its plan, timing, noise, smooth motion, lines held out, clearance."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64, Int64
from pose2rgbd_ros.sim.flights.config import OWN, FlightConfig, resolve
from pose2rgbd_ros.sim.flights.flight import PERIOD_S, Flight, Lines, Motion, choose_lines, smooth_noise
from pose2rgbd_ros.sim.flights.route import (
    NO_LINE,
    STEP_M,
    STREET_MARGIN_M,
    Route,
    Street,
    Terrain,
    check_clearance,
    check_inside,
    check_length,
    course_rad,
    highest_around_m,
    rounded,
    sample_times_s,
    waypoint_route,
    without_holes,
)

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
    """Straight legs of random length, direction and height inside the area, joined by wide bends; a leg is a line."""
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


# A low flight along the streets, between the buildings, turning at crossings where there is room to.

CORNER_RADII_M = (8.0, 5.0, 3.0)  # the first with room is flown
_LEAST_SHARE = 0.8  # of the distance asked for
_STREET = 5  # stream of random numbers
_MEET_M = 1.0  # a street that ends this near to another one meets it
_SPACING_M = 0.5  # between the places looked at for clearance
_EXTRA_M = 1.0  # room for wander and for what the spline rounds off
_ATTEMPTS = 12


@dataclass(frozen=True)
class _Block:
    """A piece of street between two crossings: vertices (K, 2) from crossing `start` to crossing `stop`."""

    street: int
    start: int
    stop: int
    points_m: Float64 = field(compare=False)

    def reversed(self) -> _Block:
        return _Block(self.street, self.stop, self.start, self.points_m[::-1])

    @property
    def length_m(self) -> float:
        return float(np.linalg.norm(np.diff(self.points_m, axis=0), axis=1).sum())


def street(config: FlightConfig, terrain: Terrain | None) -> Route:
    """Along the middle of streets, `altitude_m` above the ground, until `distance_m` are flown.

    At each crossing one of the blocks flown least goes on. Blocks and corners without room at this height are left
    out. A line is a passage of one street, between two turns.

    UserError: no city, or no street with room at this height.
    """
    if terrain is None:
        raise UserError("plan 'street' needs a city with streets; choose another plan")
    check_length(config.distance_m, config.speed_mps)
    planner = _Planner(config, terrain)
    rng = np.random.default_rng([config.seed, _STREET])
    best: list[_Block] = []
    for _ in range(_ATTEMPTS):
        found = planner.wander(rng)
        if _length_m(found) > _length_m(best):
            best = found
        if _length_m(best) >= config.distance_m:
            break
    if not best:
        raise UserError(
            f"no street of this city has room for a flight {config.altitude_m:g} m above the ground; choose another "
            "altitude_m, or another city"
        )
    if _length_m(best) < _LEAST_SHARE * config.distance_m:
        raise UserError(
            f"the streets with room {config.altitude_m:g} m above the ground lead {_length_m(best):.0f} m far, not "
            f"{config.distance_m:g} m; give a smaller distance_m, another altitude_m or another city"
        )
    position, line = _path(best, [planner.corner_m(*pair) or 0.0 for pair in itertools.pairwise(best)])
    position[:, 2] = terrain.ground_height_m(position[:, :2]) + config.altitude_m
    down = np.full(len(position), np.deg2rad(config.camera_pitch_deg))
    return Route(position, course_rad(position), down, line, (range(int(line.max()) + 1),))


class _Planner:
    """The street network, as far as there is room in it at the flight's height."""

    def __init__(self, config: FlightConfig, terrain: Terrain) -> None:
        self._config, self._terrain = config, terrain
        self._corner_m: dict[tuple[_Block, _Block], float | None] = {}
        blocks = [block for block in _blocks(terrain.streets) if self._clear(block.points_m)]
        blocks = _without_dead_ends(blocks)
        self.leaving: dict[int, list[_Block]] = {}
        for block in blocks:
            for each in (block, block.reversed()):
                self.leaving.setdefault(each.start, []).append(each)

    def wander(self, rng: np.random.Generator) -> list[_Block]:
        """Blocks one after the other, long enough together unless it comes to a dead end. Empty without any."""
        if not self.leaving:
            return []
        begin = self.leaving[sorted(self.leaving)[int(rng.integers(len(self.leaving)))]]
        flown = [begin[int(rng.integers(len(begin)))]]
        often: dict[frozenset[int], int] = {frozenset((flown[0].start, flown[0].stop)): 1}
        length_m = flown[0].length_m
        while length_m < self._config.distance_m:
            here = flown[-1]
            ahead = [b for b in self.leaving[here.stop] if b.stop != here.start and self.corner_m(here, b)]
            if not ahead:
                break
            counts = [often.get(frozenset((b.start, b.stop)), 0) for b in ahead]
            least = [b for b, count in zip(ahead, counts, strict=True) if count == min(counts)]
            chosen = least[int(rng.integers(len(least)))]
            key = frozenset((chosen.start, chosen.stop))
            often[key] = often.get(key, 0) + 1
            flown.append(chosen)
            length_m += chosen.length_m
        return flown

    def corner_m(self, before: _Block, after: _Block) -> float | None:
        """The largest radius with which the corner between two blocks is clear; None without any."""
        key = before, after
        if key not in self._corner_m:
            self._corner_m[key] = next((r for r in CORNER_RADII_M if self._corner_clear(before, after, r)), None)
        return self._corner_m[key]

    def _corner_clear(self, before: _Block, after: _Block, radius_m: float) -> bool:
        corner = _path([before, after], [radius_m])[0][:, :2]
        near = np.linalg.norm(corner - before.points_m[-1], axis=1) < 2 * CORNER_RADII_M[0]
        return self._clear(corner[near])

    def _clear(self, points_m: Float64) -> bool:
        """Whether nothing stands too high along a polyline (K, 2)."""
        along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points_m, axis=0), axis=1))])
        at = np.linspace(0, along[-1], int(np.ceil(along[-1] / _SPACING_M)) + 1)
        xy = np.stack([np.interp(at, along, column) for column in points_m.T], axis=-1)
        margin_m = STREET_MARGIN_M + _EXTRA_M
        height_m = self._terrain.ground_height_m(xy) + self._config.altitude_m
        return bool((highest_around_m(self._terrain, xy, margin_m) + margin_m <= height_m).all())


def _path(blocks: list[_Block], corners_m: list[float]) -> tuple[Float64, Int64]:
    """Positions (N, 3) along the blocks at z = 0, and the passage (N,) each is on, -1 in turns.

    Around a turn, of radius `corners_m` between each two blocks, the middle's own vertices give way, so that the arc
    has straight segments to begin and end on.
    """
    turns = [a.street != b.street for a, b in itertools.pairwise(blocks)]
    before = [0.0, *(r if turn else 0.0 for r, turn in zip(corners_m, turns, strict=True))]
    vertices, numbers, radii, passage = [blocks[0].points_m[0]], [], [CORNER_RADII_M[0]], 0
    for k, block in enumerate(blocks):
        passage += int(k > 0 and turns[k - 1])
        behind_m = before[k + 1] if k + 1 < len(blocks) else 0.0
        points = block.points_m[1:]
        keep = np.linalg.norm(points - block.points_m[0], axis=1) >= before[k]
        keep &= np.linalg.norm(points - points[-1], axis=1) >= behind_m
        keep[-1] = True
        vertices += list(points[keep])
        numbers += [passage] * int(keep.sum())
        radii += [CORNER_RADII_M[0]] * (int(keep.sum()) - 1) + [behind_m or CORNER_RADII_M[0]]
    flat = np.concatenate([np.array(vertices), np.zeros((len(vertices), 1))], axis=1)
    return rounded(flat, numbers, np.array(radii))


def _blocks(streets: Sequence[Street]) -> list[_Block]:
    """The pieces of the streets between crossings; what lies beyond a street's last crossing is left out."""
    lines = [np.asarray(each.points_m, float)[:, :2] for each in streets]
    crossings: list[Float64] = []
    on_street: list[list[tuple[float, int]]] = [[] for _ in lines]
    for a in range(len(lines)):
        for b in range(a + 1, len(lines)):
            for along_a, along_b, place in _meetings(lines[a], lines[b]):
                on_street[a].append((along_a, len(crossings)))
                on_street[b].append((along_b, len(crossings)))
                crossings.append(place)
    blocks = []
    for number, (line, met) in enumerate(zip(lines, on_street, strict=True)):
        met.sort()
        for (begin, start), (end, stop) in itertools.pairwise(met):
            if end - begin < 1e-3:
                continue
            between = line[int(np.floor(begin)) + 1 : int(np.ceil(end))]
            far = np.linalg.norm(between[:, None] - [crossings[start], crossings[stop]], axis=2).min(axis=1)
            points = np.concatenate([crossings[start][None], between[far > _MEET_M], crossings[stop][None]])
            blocks.append(_Block(number, start, stop, points))
    return blocks


def _meetings(first: Float64, second: Float64) -> list[tuple[float, float, Float64]]:
    """Where two polylines cross or one ends on the other: vertex counts along each, as fractions, and the place."""
    p, r = first[:-1, None], np.diff(first, axis=0)[:, None]
    q, s = second[None, :-1], np.diff(second, axis=0)[None]
    with np.errstate(divide="ignore", invalid="ignore"):
        area = r[..., 0] * s[..., 1] - r[..., 1] * s[..., 0]
        d = q - p
        u = (d[..., 0] * s[..., 1] - d[..., 1] * s[..., 0]) / area
        v = (d[..., 0] * r[..., 1] - d[..., 1] * r[..., 0]) / area
        slack_u, slack_v = (_MEET_M / np.maximum(np.linalg.norm(x, axis=-1), 1e-9) for x in (r, s))
        inside = (u > -slack_u) & (u < 1 + slack_u) & (v > -slack_v) & (v < 1 + slack_v)
    found: list[tuple[float, float, Float64]] = []
    for i, j in np.argwhere(inside & (np.abs(area) > 1e-9)):
        place = first[i] + np.clip(u[i, j], 0, 1) * r[i, 0]
        if all(np.linalg.norm(place - other) > 2 * _MEET_M for _, _, other in found):
            found.append((float(i + np.clip(u[i, j], 0, 1)), float(j + np.clip(v[i, j], 0, 1)), place))
    return found


def _without_dead_ends(blocks: list[_Block]) -> list[_Block]:
    """The blocks that lead on at both ends."""
    while True:
        ends, counts = np.unique([end for b in blocks for end in (b.start, b.stop)], return_counts=True)
        dead = set(ends[counts < 2].tolist())
        kept = [b for b in blocks if b.start not in dead and b.stop not in dead]
        if len(kept) == len(blocks):
            return kept
        blocks = kept


def _length_m(blocks: list[_Block]) -> float:
    return sum(block.length_m for block in blocks)


CAMERA_OFFSET_M = (0.12, 0.0, -0.05)  # a little ahead of and below the body's centre
MOST_GUARD_M = 5.0
# Streams of random numbers: what one part draws never shifts another's. 4 and 5 are the walk's and the street's.
_ATTITUDE, _WANDER, _HOLDOUT = 1, 2, 3
_ATTITUDE_EVERY, _WANDER_EVERY = 6, 16  # nodes of the noise, in control points: 3 s and 8 s
_WANDER_AXES = np.array([1.0, 1.0, 0.3])  # height is kept better than place

_PLANS: dict[str, Callable[[FlightConfig, Terrain | None], Route]] = {
    "paper": lambda config, _: paper(config),
    "lawnmower": lambda config, _: lawnmower(config),
    "survey": lambda config, _: survey(config),
    "orbit": lambda config, _: orbit(config),
    "walk": lambda config, _: walk(config),
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
    lines = _lines_in_time(route, motion.control_time_s(0) + time_s, config)
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


def _lines_in_time(route: Route, time_s: Float64, config: FlightConfig) -> Lines:
    on = np.flatnonzero(route.line >= 0)  # lines ascend along the route
    numbers = np.arange(int(route.line.max()) + 1)
    starts = on[np.searchsorted(route.line[on], numbers, side="left")]
    stops = on[np.searchsorted(route.line[on], numbers, side="right") - 1]
    guard_m = min(MOST_GUARD_M, route.separation_m / 2) if config.guard_m == OWN else config.guard_m
    held_out = choose_lines(route.groups, config.holdout, np.random.default_rng([config.seed, _HOLDOUT]))
    return Lines(time_s[starts], time_s[stops], held_out, guard_m)
