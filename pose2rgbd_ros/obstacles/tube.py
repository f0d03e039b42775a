"""How far a body of some radius can go straight on through what views have seen free."""

from __future__ import annotations

import functools

import numpy as np

from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.obstacles.lower_view import LowerView

AROUND = 8  # places around the tube's axis that must be free with it, on its rim
COARSENING = 0.03  # farther places lie this share of their distance apart
NEAR_RADII = (
    2.0  # up to there the space may be out of every view: no camera sees what is beside its own vehicle
)


class Tube:
    """A tube from `start_m` (3,) along the unit vector `direction` (3,), all in the map; NaN: there is no direction.

    `room_m` is a lower bound of how far its axis can be followed: up to the first possible surface in the tube, or to
    the first place that no view has seen free. NaN when nothing is known beyond the near zone of two radii, within which
    alone a place may lie out of all views. `range_m` when it is free all along.
    """

    def __init__(self, start_m: Float64, direction: Float64, radius_m: float, range_m: float) -> None:
        self._start, self._direction, self._radius_m = start_m, direction, radius_m
        self._exists = bool(np.isfinite(direction).all())
        self._range_m, self._hit_m = range_m, np.inf
        self._steps = _steps(radius_m, range_m)
        if self._exists:
            shape = (len(self._steps), 1 + AROUND)
            self._places = _places(start_m, direction, radius_m, self._steps)
            self._seen, self._free = np.zeros(shape, bool), np.zeros(shape, bool)

    def look(self, view: LowerView, offset: Float64, square: Float64) -> None:
        """Heed a view. offset: (M, 3) its points as seen from the start; square: (M,) of their distances."""
        if not self._exists:
            return
        forward = offset @ self._direction
        touching = (square - forward**2 < (self._radius_m + view.reach_m) ** 2) & (forward + view.reach_m > 0)
        if touching.any():
            self._hit_m = min(self._hit_m, max(0.0, float((forward - view.reach_m)[touching].min())))
        open_ = ~self._free & (self._steps <= self._hit_m)[:, None]  # the rest is settled
        seen, self._free[open_] = view.sees(self._places[open_])
        self._seen[open_] |= seen

    @property
    def room_m(self) -> float:
        """The lower bound as the views so far give it."""
        if not self._exists:
            return float("nan")
        near_m = NEAR_RADII * self._radius_m
        good = np.asarray((self._free | (~self._seen & (self._steps <= near_m)[:, None])).all(axis=1))
        end = len(good) if good.all() else int(good.argmin())
        end_m = self._steps[end - 1] if end else 0.0
        if self._hit_m <= (self._steps[end] if end < len(good) else np.inf):
            return min(self._hit_m, self._range_m)
        return float(end_m) if end_m > near_m else float("nan")


@functools.lru_cache(maxsize=8)
def _steps(radius_m: float, range_m: float) -> Float64:
    """Distances along the axis: half a radius apart, farther on ever more, the range last."""
    steps = [0.0]
    while steps[-1] < range_m:
        steps.append(steps[-1] + max(radius_m / 2, COARSENING * steps[-1]))
    steps[-1] = range_m
    return np.array(steps)


def _places(start_m: Float64, direction: Float64, radius_m: float, steps: Float64) -> Float64:
    """Places (S, 1 + AROUND, 3) to look at: the axis and the rim."""
    least = np.eye(3)[np.abs(direction).argmin()]
    right = np.cross(direction, least)
    right /= np.linalg.norm(right)
    up = np.cross(right, direction)
    angle = np.arange(AROUND) * 2 * np.pi / AROUND
    rim = radius_m * (np.cos(angle)[:, None] * right + np.sin(angle)[:, None] * up)
    across = np.concatenate([np.zeros((1, 3)), rim])
    return start_m + steps[:, None, None] * direction + across
