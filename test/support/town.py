"""A town of straight streets and flat-roofed blocks on a slope, whose every height can be computed by hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ROOF_M = 24.0
STREET_MIDDLES_M = np.arange(-160.0, 161.0, 40.0)
STREET_HALF_M = 6.0


@dataclass(frozen=True)
class TownStreet:
    points_m: np.ndarray
    width_m: float


class Town:
    """Streets every 40 m in both directions, blocks of one height between them, on ground that rises to the east.

    The streets are `half_m` wide to each side. Streets listed in `closed` (their numbers, west-east ones first) are
    bridged at 5 m above the ground.
    """

    bounds_m = (np.array([-200.0, -200.0]), np.array([200.0, 200.0]))

    def __init__(self, closed: tuple[int, ...] = (), half_m: float = STREET_HALF_M) -> None:
        along = np.arange(-180.0, 181.0, 4.0)
        self.streets = []
        for axis in (1, 0):
            for middle in STREET_MIDDLES_M:
                xy = np.full((len(along), 2), middle)
                xy[:, 1 - axis] = along
                points = np.concatenate([xy, self.ground_height_m(xy)[:, None]], axis=1)
                self.streets.append(TownStreet(points, 2 * half_m))
        self._closed, self._half_m = closed, half_m

    def ground_height_m(self, xy_m: np.ndarray) -> np.ndarray:
        return 0.02 * xy_m[:, 0]

    def surface_height_m(self, xy_m: np.ndarray) -> np.ndarray:
        count = len(STREET_MIDDLES_M)
        above = np.full(len(xy_m), ROOF_M)
        for axis, first in ((1, 0), (0, count)):
            nearest = np.abs(xy_m[:, axis, None] - STREET_MIDDLES_M).argmin(axis=1)
            on = np.abs(xy_m[:, axis] - STREET_MIDDLES_M[nearest]) <= self._half_m
            bridged = np.isin(first + nearest, self._closed) & (np.abs(xy_m[:, 1 - axis]) < 20.0)
            above = np.where(on, np.minimum(above, np.where(bridged, 5.0, 2.0)), above)
        return self.ground_height_m(xy_m) + above
