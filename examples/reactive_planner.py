"""An example, not the product: a small planner that flies level to a goal on nothing but the scans of the avoid node.

It remembers scans in a grid of the flown height (free, obstacle, unknown), looks for a cheap way to the goal through
what is free or still unknown, and flies along it only as fast as it can stop within what is known to be free. Unknown
is never free: in front of it the planner slows down, turns its camera there, and after a while takes what stays
unknown for an obstacle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

UNKNOWN, FREE, OBSTACLE = 0, 1, 2
Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class PlannerConfig:
    """Lengths in metres, speeds in m/s, times in seconds."""

    cell_m: float = 1.0
    margin_m: float = 40.0  # of the grid around start and goal
    keep_m: float = 1.5  # between the body's middle and the nearest obstacle
    max_speed_mps: float = 4.0
    acceleration_mps2: float = 1.5  # half of what the vehicle can do: the rest is for delay and wind
    delay_s: float = 0.4  # between what was seen and what is flown
    max_yaw_rate_radps: float = 1.0
    goal_radius_m: float = 3.0
    replan_s: float = 0.6
    patience_s: float = 5.0  # in front of what stays unknown
    unknown_cost: float = 2.0  # of a metre through the unknown, in metres through what is free
    doubtful_cost: float = 15.0  # and through an obstacle seen from farther than `sure_m`: bounds get tighter nearby
    blocked_cost: float = 150.0  # and through one seen from nearby: no way, unless there is no other to try
    sure_m: float = 8.0


@dataclass(frozen=True)
class Command:
    """Velocity (2,) in the map and yaw rate; `note` says what the planner is doing."""

    velocity_mps: Float64
    yaw_rate_radps: float
    note: str


class ReactivePlanner:
    """Scans and poses in, commands out. Everything lives in the horizontal plane of the map, at the height that is
    flown.
    """

    def __init__(self, start_m: Float64, goal_m: Float64, config: PlannerConfig = PlannerConfig()) -> None:
        """Args: start_m, goal_m (2,) in the map."""
        self.config, self.goal_m = config, np.asarray(goal_m, float)
        ends = np.stack([np.asarray(start_m, float), self.goal_m])
        self._low = ends.min(axis=0) - config.margin_m
        size = np.ceil((ends.max(axis=0) + config.margin_m - self._low) / config.cell_m).astype(int)
        self.cells = np.full((size[1], size[0]), UNKNOWN, np.uint8)  # row: y, column: x
        self._seen_from_m = np.full(self.cells.shape, np.inf, np.float32)  # what is seen from nearby counts
        self._given_up = np.zeros(self.cells.shape, bool)
        self._to_go: Float64 | None = None
        self._planned_s = -math.inf
        self._moved_s, self._moved_from = 0.0, ends[0].copy()

    def command(self, t_s: float, position_m: Float64, yaw_rad: float, velocity_mps: Float64) -> Command:
        """What to do now.

        Args:
            position_m: (2,) in the map. velocity_mps: (2,) in the map.
        """
        config = self.config
        if np.linalg.norm(self.goal_m - position_m) < config.goal_radius_m:
            return Command(np.zeros(2), 0.0, "at the goal")
        if self._to_go is None and math.isinf(self._planned_s):
            self._free_where_it_is(position_m)  # once: later it only goes where scans have shown that it can
        if t_s - self._planned_s >= config.replan_s or self._to_go is None:
            self._to_go, self._planned_s = self._cost_to_go(), t_s
        way = self._way(position_m)
        if len(way) < 2:
            return self._wait(t_s, position_m, yaw_rad, self.goal_m, "no way")
        known_m, reach = self._known_along(way)
        look_at = way[min(len(way) - 1, max(2, reach))]
        target = way[max(1, self._straight_to(way, reach))]
        heading = target - position_m
        distance = float(np.linalg.norm(heading))
        speed = min(config.max_speed_mps, self._stoppable_mps(known_m - config.cell_m))
        ahead_rad = math.atan2(*(look_at - position_m)[::-1])
        turn = _wrapped(ahead_rad - yaw_rad)
        if abs(turn) > math.radians(40):
            speed = min(speed, 0.5)
        if speed < 0.3:
            return self._wait(t_s, position_m, yaw_rad, look_at, "looks at the unknown")
        if np.linalg.norm(position_m - self._moved_from) > 1.0:
            self._moved_s, self._moved_from = t_s, position_m.copy()
        wanted = heading / max(distance, 1e-6) * speed
        return Command(wanted, self._yaw_rate(turn), "flies")

    def see(self, position_m: Float64, yaw_rad: float, bearings_rad: Float64, ranges_m: Float32) -> None:
        """Remember a scan: ranges (N,) by bearing (N,) from the body's x axis; NaN unknown, +inf free up to
        `scan_range_m`.
        """
        known = ~np.isnan(ranges_m)
        if not known.any():
            return
        reach = np.where(np.isinf(ranges_m), self.scan_range_m, ranges_m)[known].astype(np.float64)
        angle = bearings_rad[known] + yaw_rad
        direction = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        steps = np.arange(0.0, self.scan_range_m, self.config.cell_m / 2)
        ray, along = np.nonzero(steps[None, :] < reach[:, None] - self.config.cell_m / 2)
        self._mark(position_m + direction[ray] * steps[along, None], steps[along], FREE)
        hit = np.isfinite(ranges_m[known])
        self._mark(position_m + direction[hit] * reach[hit, None], reach[hit], OBSTACLE)

    scan_range_m: float = 30.0

    # The grid -----------------------------------------------------------------------------------------------------

    def _index(self, points_m: Float64) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]:
        column, row = np.floor((points_m - self._low) / self.config.cell_m).astype(np.intp).T
        inside = (column >= 0) & (row >= 0) & (row < self.cells.shape[0]) & (column < self.cells.shape[1])
        return row, column, inside

    def _mark(self, points_m: Float64, from_m: Float64, state: int) -> None:
        """Bounds get tighter as one comes nearer: a cell believes the nearest look, and of one scan an obstacle."""
        row, column, inside = self._index(points_m)
        row, column, distance = row[inside], column[inside], from_m[inside].astype(np.float32)
        nearest = np.full(self.cells.shape, np.inf, np.float32)
        np.minimum.at(nearest, (row, column), distance)
        better = (nearest <= 1.05 * self._seen_from_m + 0.5) & np.isfinite(nearest)
        self.cells[better] = state
        self._seen_from_m[better] = np.minimum(self._seen_from_m, nearest)[better]

    def _free_where_it_is(self, position_m: Float64) -> None:
        row, column, inside = self._index(position_m[None])
        if inside[0]:
            around = self.cells[max(row[0] - 1, 0) : row[0] + 2, max(column[0] - 1, 0) : column[0] + 2]
            around[around == UNKNOWN] = FREE

    def _blocked(self, within_m: float = math.inf) -> NDArray[np.bool_]:
        """Cells nearer than `keep_m` to an obstacle that was seen from so near."""
        seen = (self.cells == OBSTACLE) & (self._seen_from_m <= within_m)
        obstacle = (seen | (self._given_up & (self.cells != FREE))).astype(np.uint8)
        radius = self.config.keep_m / self.config.cell_m
        count = math.ceil(radius)
        y, x = np.mgrid[-count : count + 1, -count : count + 1]
        return cv2.dilate(obstacle, (x * x + y * y <= radius * radius).astype(np.uint8)).astype(bool)

    # The way ------------------------------------------------------------------------------------------------------

    def _cost_to_go(self) -> Float64:
        """Cost (rows, columns) from every cell to the goal. It only advises: what is flown is known to be free."""
        blocked, config = self._blocked(), self.config
        near = cv2.distanceTransform((~blocked).astype(np.uint8), cv2.DIST_L2, 3) * config.cell_m
        cost = np.where(self.cells == FREE, 1.0, config.unknown_cost) + 1.5 / (1.0 + near)
        cost[blocked] = config.doubtful_cost
        cost[self._blocked(config.sure_m)] = config.blocked_cost
        rows, columns = self.cells.shape
        number = np.arange(rows * columns).reshape(rows, columns)
        begin, end, weight = [], [], []
        for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
            a = (slice(0, rows - dy), slice(max(0, -dx), columns - max(0, dx)))
            b = (slice(dy, rows), slice(max(0, dx), columns - max(0, -dx)))
            step = (cost[a] + cost[b]) / 2 * math.hypot(dx, dy) * config.cell_m
            begin.append(number[a].ravel()), end.append(number[b].ravel()), weight.append(step.ravel())
        graph = csr_array(
            (np.concatenate(weight), (np.concatenate(begin), np.concatenate(end))), shape=(number.size, number.size)
        )
        row, column, _ = self._index(self.goal_m[None])
        return np.asarray(dijkstra(graph, directed=False, indices=number[row[0], column[0]])).reshape(rows, columns)

    def _way(self, position_m: Float64) -> Float64:
        """Points (K, 2) down the cost from here towards the goal, some 25 m of them."""
        assert self._to_go is not None
        row, column, inside = self._index(position_m[None])
        if not inside[0]:
            return position_m[None]
        at = self._nearest_open(int(row[0]), int(column[0]))
        points = [position_m]
        for _ in range(int(25 / self.config.cell_m)):
            r, c = at
            window = self._to_go[max(r - 1, 0) : r + 2, max(c - 1, 0) : c + 2]
            best = np.unravel_index(int(window.argmin()), window.shape)
            following = (max(r - 1, 0) + int(best[0]), max(c - 1, 0) + int(best[1]))
            if following == at:
                break
            at = following
            points.append(self._low + (np.array([at[1], at[0]]) + 0.5) * self.config.cell_m)
        return np.stack(points)

    def _nearest_open(self, row: int, column: int) -> tuple[int, int]:
        """The cell itself, or, when it lies in an obstacle's margin, the nearest one outside."""
        r, blocked = 4, self._blocked()
        if not blocked[row, column]:
            return row, column
        window = blocked[max(row - r, 0) : row + r + 1, max(column - r, 0) : column + r + 1]
        y, x = np.nonzero(~window)
        if len(y) == 0:
            return row, column
        y, x = y + max(row - r, 0), x + max(column - r, 0)
        best = int(((y - row) ** 2 + (x - column) ** 2).argmin())
        return int(y[best]), int(x[best])

    def _known_along(self, way: Float64) -> tuple[float, int]:
        """How far the way is known to be free, in metres and points."""
        row, column, inside = self._index(way)
        blocked = self._blocked()
        free = inside & (
            self.cells[row.clip(0, self.cells.shape[0] - 1), column.clip(0, self.cells.shape[1] - 1)] == FREE
        )
        free &= ~blocked[row.clip(0, blocked.shape[0] - 1), column.clip(0, blocked.shape[1] - 1)]
        free[0] = True
        reach = int(np.argmin(free)) - 1 if not free.all() else len(way) - 1
        return float(np.linalg.norm(np.diff(way[: reach + 1], axis=0), axis=1).sum()), reach

    def _straight_to(self, way: Float64, reach: int) -> int:
        """The farthest point of the known way that a straight line through what is known reaches, within 6 m."""
        best, blocked = 1, self._blocked()
        for index in range(2, reach + 1):
            line = np.linspace(
                way[0], way[index], 2 + int(np.linalg.norm(way[index] - way[0]) / (self.config.cell_m / 2))
            )
            row, column, inside = self._index(line)
            if not inside.all() or np.linalg.norm(way[index] - way[0]) > 6.0:
                break
            ahead = slice(2, None)  # the first steps may leave an obstacle's margin
            if blocked[row[ahead], column[ahead]].any() or (self.cells[row[ahead], column[ahead]] != FREE).any():
                break
            best = index
        return min(best, len(way) - 1)

    # Motion -------------------------------------------------------------------------------------------------------

    def _stoppable_mps(self, distance_m: float) -> float:
        """The speed from which it stops within a distance, the delay included."""
        a, delay = self.config.acceleration_mps2, self.config.delay_s
        return max(0.0, -a * delay + math.sqrt((a * delay) ** 2 + 2 * a * max(distance_m, 0.0)))

    def _yaw_rate(self, turn_rad: float) -> float:
        return float(np.clip(1.5 * turn_rad, -self.config.max_yaw_rate_radps, self.config.max_yaw_rate_radps))

    def _wait(self, t_s: float, position_m: Float64, yaw_rad: float, look_at: Float64, note: str) -> Command:
        """Stand and look; what stays unknown in front for long is given up."""
        turn = _wrapped(math.atan2(*(look_at - position_m)[::-1]) - yaw_rad)
        if t_s - self._moved_s > self.config.patience_s:
            self._moved_s, self._to_go = t_s, None
            self._give_up(look_at)
        if note == "no way":  # look around
            return Command(np.zeros(2), self.config.max_yaw_rate_radps, note)
        return Command(np.zeros(2), self._yaw_rate(turn), note)

    def _give_up(self, point_m: Float64) -> None:
        row, column, inside = self._index(point_m[None])
        if inside[0]:
            part = (slice(max(row[0] - 2, 0), row[0] + 3), slice(max(column[0] - 2, 0), column[0] + 3))
            self._given_up[part] |= self.cells[part] != FREE


def _wrapped(angle_rad: float) -> float:
    return (angle_rad + math.pi) % (2 * math.pi) - math.pi
