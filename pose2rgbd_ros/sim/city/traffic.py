"""Cars at the kerb, cars that drive and people who walk.

Traffic keeps right and only ever goes round a block clockwise, in the lane next to it: no two rounds share a lane or
cross, and all cars of one round follow the same course in time, so nothing ever collides. People go round on the
pavements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.sim.city import shapes
from pose2rgbd_ros.sim.city.buildings import Plan
from pose2rgbd_ros.sim.city.config import CARS, PARKED, PEOPLE, CityConfig, stream
from pose2rgbd_ros.sim.city.greenery import frames, poses_on
from pose2rgbd_ros.sim.city.layout import Axis, Block, Ground, Layout
from pose2rgbd_ros.sim.city.shapes import MeshBuilder, TextureArray
from pose2rgbd_ros.sim.scene import Mover

HEADWAY_S = 3.2  # least time between two cars of one round
CORNER_MPS = 3.6
ACCELERATION_MPS2 = 1.3
PERSON_APART_M = 1.6
GRID_S = 0.1
VAN_HEIGHT_M = 2.1


@dataclass(frozen=True, eq=False)
class Parked:
    """Parked cars: poses (N, 4, 4), which of them are vans (N,), and colours (N, 3)."""

    T: Float64
    van: np.ndarray
    tint: Float64


def park(config: CityConfig, layout: Layout, ground: Ground, plan: Plan) -> Parked:
    """Fill most of the places along the kerbs and some of those in the yards."""
    rng = stream(config.seed, PARKED)
    spots, headings = [], []
    for axis, (along, across) in enumerate(((layout.y, layout.x), (layout.x, layout.y))):
        for number, (kind, middle) in enumerate(across.streets):
            strip = kind.road_m / 2 - kind.lane_m
            if strip < 1.5:
                continue
            for index, (begin, end) in enumerate(along.blocks):
                if (axis, number, index) in layout.closed:
                    continue
                places = np.arange(begin + 9.5, end - 9.0, 5.9)
                for side in (-1, 1):
                    here = places[rng.random(len(places)) < 0.46]
                    here = here + rng.uniform(-0.35, 0.35, len(here))
                    cross = middle + side * (kind.lane_m + strip / 2) + rng.uniform(-0.05, 0.03, len(here))
                    # Looking along +y the right-hand kerb is at larger x, along +x at smaller y.
                    forward = side if axis == 0 else -side
                    spots.append(np.stack([cross, here] if axis == 0 else [here, cross], axis=-1))
                    headings.append(np.tile([0.0, forward] if axis == 0 else [forward, 0.0], (len(here), 1)))
    for x0, y0, x1, y1 in plan.yards:
        if min(x1 - x0, y1 - y0) < 12:
            continue
        bays = np.arange(x0 + 0.5 + 1.25, x1 - 1.6, 2.5)
        for y, way in ((y0 + 2.6, 1), (y1 - 2.6, -1)):
            here = bays[rng.random(len(bays)) < 0.36]
            spots.append(np.stack([here, np.full_like(here, y)], axis=-1))
            headings.append(np.tile([0.0, way * (1.0 if rng.random() < 0.5 else -1.0)], (len(here), 1)))
    at, heading = np.concatenate(spots), np.concatenate(headings)
    van = rng.random(len(at)) < 0.10
    tint = shapes.CAR_TINTS[rng.integers(0, len(shapes.CAR_TINTS), len(at))]
    return Parked(poses_on(ground, at, heading, base_m=2.7), van, tint)


def set_down(parked: Parked, builder: MeshBuilder, textures: TextureArray) -> None:
    """Add the parked cars to a mesh."""
    for van in (False, True):
        which = parked.van == van
        shapes.car(textures, van).place(builder, parked.T[which], parked.tint[which])


class Round:
    """A closed course in the map, as a function of time.

    Args:
        plan: (K, 2) points of the closed course on the plan, densely and evenly spaced, the first not repeated.
        speed_mps: (K,) at each point.
    """

    def __init__(self, ground: Ground, plan: Float64, speed_mps: Float64) -> None:
        z = ground.plan_height_m(plan)
        points = np.concatenate([ground.layout.warp.to_map(plan), z[:, None]], axis=-1)
        closed = np.concatenate([points, points[:1]])
        step = np.linalg.norm(np.diff(closed, axis=0), axis=1)
        self.length_m = float(step.sum())
        speed = np.append(speed_mps, speed_mps[0])
        time = np.concatenate([[0.0], np.cumsum(2 * step / (speed[1:] + speed[:-1]))])
        self.period_s = float(time[-1])
        course = CubicSpline(time, closed, bc_type="periodic")
        # The same on an even grid of times, which needs no search: this runs for each mover in each frame.
        count = int(np.ceil(self.period_s / GRID_S))
        grid = np.linspace(0.0, self.period_s, count + 1)
        even = course(grid)
        even[-1] = even[0]
        self.step_s = self.period_s / count
        self.cubics = np.ascontiguousarray(CubicSpline(grid, even, bc_type="periodic").c.transpose(1, 0, 2))

    def T(self, t_s: Float64) -> Float64:
        """Poses (N, 4, 4), x along the course."""
        at = np.mod(t_s, self.period_s) / self.step_s
        piece = np.minimum(at.astype(int), len(self.cubics) - 1)
        return _poses(self.cubics[piece], (at - piece) * self.step_s)


@dataclass(frozen=True, eq=False)
class Way:
    """One mover's poses (N, 4, 4) at times (N,): along a round, behind others on it."""

    course: Round
    delay_s: float

    def __call__(self, t_s: Float64) -> Float64:
        return self.course.T(np.atleast_1d(np.asarray(t_s, float)) + self.delay_s)


class Ways:
    """The poses (N, 4, 4) of N movers at one time, in one go: one by one they would cost more than to draw them."""

    def __init__(self, ways: Sequence[Way]) -> None:
        rounds = list(dict.fromkeys(way.course for way in ways))
        begin = np.cumsum([0, *(len(course.cubics) for course in rounds)])
        first = {course: int(at) for course, at in zip(rounds, begin[:-1], strict=True)}
        self._cubics = np.concatenate([course.cubics for course in rounds])
        self._first = np.array([first[way.course] for way in ways])
        self._last = np.array([len(way.course.cubics) - 1 for way in ways])
        self._delay_s = np.array([way.delay_s for way in ways])
        self._period_s = np.array([way.course.period_s for way in ways])
        self._step_s = np.array([way.course.step_s for way in ways])

    def __call__(self, t_s: float) -> Float64:
        at = np.mod(t_s + self._delay_s, self._period_s) / self._step_s
        piece = np.minimum(at.astype(int), self._last)
        return _poses(self._cubics[self._first + piece], (at - piece) * self._step_s)


def _poses(cubics: Float64, h: Float64) -> Float64:
    """Poses (N, 4, 4) on cubics (N, 4, 3), highest power first, at times (N,) into them."""
    a, b, c, d = cubics.transpose(1, 0, 2)
    h = h[:, None]
    return frames(((a * h + b) * h + c) * h + d, (3 * a * h + 2 * b) * h + c)


def cars(config: CityConfig, layout: Layout, ground: Ground, textures: TextureArray) -> list[Mover]:
    """The cars that drive; UserError when the streets do not hold so many."""
    if not config.cars:
        return []
    rng = stream(config.seed, CARS)
    rounds = [_car_round(block, layout, ground) for block in layout.blocks if block.inner]
    places = [(course, slot) for course in rounds for slot in range(int(course.period_s / HEADWAY_S))]
    _require(config.cars, places, "cars")
    models = (shapes.car(textures), shapes.car(textures, van=True))
    movers = []
    for index in rng.permutation(len(places))[: config.cars]:
        course, slot = places[index]
        delay = slot * course.period_s / int(course.period_s / HEADWAY_S)
        tint = shapes.CAR_TINTS[rng.integers(len(shapes.CAR_TINTS))]
        movers.append(_mover("car", models[int(rng.random() < 0.12)], tint, Way(course, delay)))
    return movers


def people(config: CityConfig, layout: Layout, ground: Ground, textures: TextureArray) -> list[Mover]:
    """The people who walk; UserError when the pavements do not hold so many."""
    if not config.people:
        return []
    rng = stream(config.seed, PEOPLE)
    rounds = []
    for block in (block for block in layout.blocks if block.inner):
        for share, pace, way in ((0.25, 1.35, 1), (0.60, 1.15, -1)):
            low, high, _ = _around(block, layout, share)
            plan = _rounded(low, high, 0.9)[::way]
            rounds.append(Round(ground, plan, np.full(len(plan), pace)))
    places = [(course, slot) for course in rounds for slot in range(int(course.length_m / PERSON_APART_M))]
    _require(config.people, places, "people")
    model = shapes.person(textures)
    movers = []
    for index in rng.permutation(len(places))[: config.people]:
        course, slot = places[index]
        delay = slot * course.period_s / int(course.length_m / PERSON_APART_M)
        movers.append(
            _mover("person", model, shapes.COAT_TINTS[rng.integers(len(shapes.COAT_TINTS))], Way(course, delay))
        )
    return movers


def all_ways(movers: Sequence[Mover]) -> Ways | None:
    """The ways of the movers of `cars` and `people`, together; None without any."""
    ways = [mover.T_map_mover for mover in movers if isinstance(mover.T_map_mover, Way)]
    return Ways(ways) if ways else None


def _require(wanted: int, places: list[tuple[Round, int]], what: str) -> None:
    if wanted > len(places):
        raise UserError(f"{what} is {wanted}; the streets of this city hold {len(places)}: fewer, or a larger extent_m")


def _mover(kind: str, model: shapes.Shape, tint: Float64, way: Way) -> Mover:
    builder = MeshBuilder()
    model.place(builder, np.eye(4)[None], np.asarray(tint, float)[None])
    return Mover(kind, builder.mesh(), way)


def _car_round(block: Block, layout: Layout, ground: Ground) -> Round:
    low, high, speeds = _around(block, layout, -0.5)
    plan = _rounded(low, high, 4.2)[::-1]  # clockwise: the block is on the right
    # The speed of the street that is driven on, slower where the course bends.
    straight = np.full(len(plan), min(speeds))
    bend = _turning(plan) > 0.02
    straight[bend] = CORNER_MPS
    step = np.linalg.norm(np.diff(plan, axis=0, append=plan[:1]), axis=1)
    for _ in range(2):  # twice round, since the course is closed
        for k in range(len(plan)):
            straight[k] = min(straight[k], np.sqrt(straight[k - 1] ** 2 + 2 * ACCELERATION_MPS2 * step[k - 1]))
        for k in range(len(plan) - 1, -1, -1):
            after = (k + 1) % len(plan)
            straight[k] = min(straight[k], np.sqrt(straight[after] ** 2 + 2 * ACCELERATION_MPS2 * step[k]))
    return Round(ground, plan, straight)


def _turning(plan: Float64) -> Float64:
    """Angle between the steps before and after each point."""
    before, after = plan - np.roll(plan, 1, axis=0), np.roll(plan, -1, axis=0) - plan
    cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    return np.abs(np.arctan2(cross, (before * after).sum(axis=1)))


def _around(block: Block, layout: Layout, share: float) -> tuple[Float64, Float64, list[float]]:
    """Low and high corner of a round beside a block, and the speeds of its four streets.

    `share` of 0..1: that part of the pavement's width away from the block; -0.5: in the middle of the lane next to it.
    """
    low, high, speeds = np.array(block.low), np.array(block.high), []

    def distance(axis: Axis, street: int) -> float:
        kind = axis.streets[street][0]
        speeds.append(kind.speed_mps)
        if share >= 0:
            return share * kind.walk_m
        return kind.walk_m + kind.road_m / 2 + share * kind.lane_m

    for k, (axis, (first, last)) in enumerate(((layout.x, block.columns), (layout.y, block.rows))):
        low[k] -= distance(axis, first - 1)
        high[k] += distance(axis, last)
    return low, high, speeds


def _rounded(low: Float64, high: Float64, radius: float, step_m: float = 0.8) -> Float64:
    """A rectangle with rounded corners, counter-clockwise, as evenly spaced points (K, 2)."""
    turn = np.linspace(0, np.pi / 2, 17)
    outline = []
    for quarter, corner in enumerate(((high[0], low[1]), (high[0], high[1]), (low[0], high[1]), (low[0], low[1]))):
        inward = np.array([(-1, 1), (-1, -1), (1, -1), (1, 1)][quarter])
        angle = turn + (quarter - 1) * np.pi / 2
        outline.append(np.array(corner) + radius * inward + radius * np.stack([np.cos(angle), np.sin(angle)], axis=-1))
    points = np.concatenate(outline)
    closed = np.concatenate([points, points[:1]])
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    count = max(int(length[-1] / step_m), 8)
    at = np.arange(count) * length[-1] / count
    return np.stack([np.interp(at, length, closed[:, k]) for k in (0, 1)], axis=-1)
