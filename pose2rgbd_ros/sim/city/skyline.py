"""How high things reach: a raster over the built square and its surroundings that no static thing rises above."""

from __future__ import annotations

import cv2
import numpy as np

from pose2rgbd_ros.geometry.arrays import Float32, Float64
from pose2rgbd_ros.sim.city.terrain import KERB_M, Ground

CELL_M = 0.5
MARGIN_M = 120.0
WOODS_M = 18.0  # taller than any tree beyond the raster
_FINE = 4


class Skyline:
    """Upper bounds of the surface.

    Outlines are convex polygons (K, 2) in the map, with the height of the highest point above each.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._reach = ground.layout.half_m * 1.12 + MARGIN_M
        self._cells = int(np.ceil(2 * self._reach / CELL_M))
        self._outlines: list[tuple[float, Float64]] = []
        self._raster: Float32 | None = None

    def add(self, outlines_m: Float64, top_m: Float64) -> None:
        """Polygons (N, K, 2) and their tops (N,)."""
        self._outlines += [(float(top), outline) for outline, top in zip(outlines_m, top_m, strict=True)]
        self._raster = None

    def add_discs(self, centre_m: Float64, radius_m: Float64, top_m: Float64) -> None:
        """Discs around (N, 2)."""
        turn = 2 * np.pi * np.arange(12) / 12
        circle = np.stack([np.cos(turn), np.sin(turn)], axis=-1) / np.cos(np.pi / 12)
        self.add(centre_m[:, None] + radius_m[:, None, None] * circle, top_m)

    def height_m(self, xy_m: Float64) -> Float64:
        """Upper bounds (N,) at (N, 2)."""
        raster = self._drawn()
        ground = self._ground.height_m(xy_m) + KERB_M + 0.05  # a kerb may be anywhere within rounding
        cell = np.floor((xy_m + self._reach) / CELL_M).astype(int)
        inside = ((cell >= 0) & (cell < self._cells)).all(axis=-1)
        column, row = np.clip(cell, 0, self._cells - 1).T
        return np.where(inside, np.maximum(ground, raster[row, column]), ground + WOODS_M)

    def _drawn(self) -> Float32:
        if self._raster is None:
            raster = np.full((self._cells, self._cells), -1000.0, np.float32)
            for top, outline in sorted(self._outlines, key=lambda item: item[0]):
                corners = (outline + self._reach) / CELL_M - 0.5
                if corners.max() < 0 or corners.min() > self._cells:
                    continue
                # The higher ones are drawn last, so each cell keeps the highest.
                cv2.fillConvexPoly(
                    raster, np.rint(corners * 2**_FINE).astype(np.int32), top, cv2.LINE_8, _FINE
                )
            # An outline may touch a cell without holding its middle.
            self._raster = cv2.dilate(raster, np.ones((3, 3), np.uint8)).astype(np.float32)
        return self._raster
