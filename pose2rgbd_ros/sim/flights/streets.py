"""A low flight along the streets, between the buildings, turning at crossings where there is room to."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64, Int64
from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.sim.flights.route import (
    STREET_MARGIN_M,
    Route,
    Street,
    Terrain,
    check_length,
    course_rad,
    highest_around_m,
    rounded,
)

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
