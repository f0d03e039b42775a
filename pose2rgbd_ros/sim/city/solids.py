"""Boxes and roofs over rectangles of the plan, many at a time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.geometry.arrays import AnyArray, Float64
from pose2rgbd_ros.sim.city.builder import MeshBuilder
from pose2rgbd_ros.sim.city.layout import Warp


class Solids:
    """Adds solids to a builder. Rectangles are (N, 4): x and y of the low corner, then of the high one, on the plan."""

    def __init__(self, builder: MeshBuilder, warp: Warp) -> None:
        self._builder, self._warp = builder, warp

    def at(self, plan: Float64, z_m: npt.ArrayLike) -> Float64:
        """Points of the plan (..., 2), lifted to a height (...,) of the map: (..., 3)."""
        z = np.broadcast_to(np.asarray(z_m, float), plan.shape[:-1])
        return np.concatenate([self._warp.to_map(plan), z[..., None]], axis=-1)

    def ring(self, rects: Float64, z_m: npt.ArrayLike) -> Float64:
        """The corners (N, 4, 3) of rectangles at heights (N,), counter-clockwise from above."""
        return self.at(corners(rects), np.broadcast_to(np.asarray(z_m, float), len(rects))[:, None])

    def band(
        self,
        low: Float64,
        high: Float64,
        uv: Float64,
        layer: npt.ArrayLike,
        tint: npt.ArrayLike,
        sides: AnyArray | None = None,
    ) -> None:
        """Four faces between two rings (N, 4, 3), looking outwards.

        `uv` (N, 4, 4): for each side u at its begin and end, v at its foot and top. `layer` (N, 4) or one, `tint` (N, 3).
        `sides` (N, 4) tells which sides are wanted.
        """
        following = [1, 2, 3, 0]
        faces = np.stack([low, low[:, following], high[:, following], high], axis=2)
        coordinates = np.stack([uv[..., [0, 2]], uv[..., [1, 2]], uv[..., [1, 3]], uv[..., [0, 3]]], axis=2)
        count = len(low)
        layers = (
            np.broadcast_to(layer, (count, 4))
            if np.ndim(layer) != 1
            else np.repeat(np.asarray(layer)[:, None], 4, 1)
        )
        tints = np.repeat(np.broadcast_to(np.asarray(tint, float), (count, 3))[:, None], 4, axis=1)
        keep = np.ones((count, 4), bool) if sides is None else sides
        self._builder.add(faces[keep], coordinates[keep], layers[keep], tints[keep])

    def lid(self, ring: Float64, layer: npt.ArrayLike, tint: npt.ArrayLike, tile_m: float = 4.0) -> None:
        """A face over each ring (N, 4, 3), looking up; its texture lies along the first side."""
        self._builder.add(ring, along_first(ring, tile_m), layer, tint)

    def boxes(
        self,
        rects: Float64,
        foot_m: npt.ArrayLike,
        top_m: npt.ArrayLike,
        layer: npt.ArrayLike,
        tint: npt.ArrayLike,
        lid: npt.ArrayLike | None = None,
        tile_m: float = 4.0,
    ) -> None:
        """Boxes without floors."""  # fmt: skip
        if not len(rects):
            return
        low, high = self.ring(rects, foot_m), self.ring(rects, top_m)
        self.band(low, high, metric_uv(low, high, tile_m), layer, tint)
        self.lid(high, layer if lid is None else lid, tint, tile_m)

    def gables(
        self,
        rects: Float64,
        foot_m: Float64,
        rise_m: Float64,
        along_x: AnyArray,
        layer: npt.ArrayLike,
        tint: Float64,
        gable_layer: npt.ArrayLike,
        gable_tint: Float64,
        tile_m: float = 4.0,
    ) -> None:
        """Closed saddle roofs, their ridges along x or y of the plan."""  # fmt: skip
        self._roofs(
            rects, foot_m, rise_m, along_x, np.zeros(len(rects)), layer, tint, gable_layer, gable_tint, tile_m
        )

    def hips(
        self,
        rects: Float64,
        foot_m: Float64,
        rise_m: Float64,
        layer: npt.ArrayLike,
        tint: Float64,
        tile_m: float = 4.0,
    ) -> None:
        """Closed hip roofs, their ridges along the longer side; over squares they end in a point."""
        size = rects[:, 2:] - rects[:, :2]
        inset = size.min(axis=1) / 2
        along_x = size[:, 0] >= size[:, 1]
        self._roofs(rects, foot_m, rise_m, along_x, inset, layer, tint, layer, tint, tile_m)

    def _roofs(
        self, rects: Float64, foot_m: Float64, rise_m: Float64, along_x: AnyArray, inset: Float64, layer: npt.ArrayLike,
        tint: Float64, end_layer: npt.ArrayLike, end_tint: Float64, tile_m: float,
    ) -> None:  # fmt: skip
        if not len(rects):
            return
        # Turned so that the ridge runs from the middle of side 3 to the middle of side 1.
        turned = np.where(
            np.asarray(along_x)[:, None, None], corners(rects), np.roll(corners(rects), -1, axis=1)
        )
        foot = self.at(turned, foot_m[:, None])
        begin, end = (turned[:, 0] + turned[:, 3]) / 2, (turned[:, 1] + turned[:, 2]) / 2
        length = np.linalg.norm(end - begin, axis=-1)
        share = np.minimum(inset / length, 0.499)[
            :, None
        ]  # a point is a very short ridge, so that no face collapses
        ridge = self.at(
            np.stack([begin + share * (end - begin), end - share * (end - begin)], axis=1),
            (foot_m + rise_m)[:, None],
        )
        slopes = np.concatenate(
            [
                np.stack([foot[:, 0], foot[:, 1], ridge[:, 1], ridge[:, 0]], axis=1),
                np.stack([foot[:, 2], foot[:, 3], ridge[:, 0], ridge[:, 1]], axis=1),
            ]
        )
        self._builder.add(slopes, along_first(slopes, tile_m), _twice(layer), _twice(tint))
        ends = np.concatenate(
            [
                np.stack([foot[:, 1], foot[:, 2], ridge[:, 1]], axis=1),
                np.stack([foot[:, 3], foot[:, 0], ridge[:, 0]], axis=1),
            ]
        )
        self._builder.add(ends, along_first(ends, tile_m), _twice(end_layer), _twice(end_tint))
        floor = foot[:, ::-1]
        self._builder.add(floor, along_first(floor, tile_m), 0, 150)


def corners(rects: Float64) -> Float64:
    """(N, 4, 2), counter-clockwise from the low corner."""
    return rects[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)


def grown(rects: Float64, by_m: npt.ArrayLike) -> Float64:
    """Rectangles moved outwards on all sides; inwards with a negative length."""
    by = np.broadcast_to(np.asarray(by_m, float), len(rects))[:, None]
    return rects + by * [-1, -1, 1, 1]


def side_lengths(ring: Float64) -> Float64:
    """(N, 4) of a ring (N, 4, 3)."""
    return np.linalg.norm(np.roll(ring, -1, axis=1) - ring, axis=-1)


def metric_uv(low: Float64, high: Float64, tile_m: float) -> Float64:
    """uv of a band (N, 4, 4): lengths in tiles."""
    length = side_lengths(low) / tile_m
    height = np.linalg.norm(high - low, axis=-1) / tile_m
    zero = np.zeros_like(length)
    return np.stack([zero, length, zero, height], axis=-1)


def along_first(faces: Float64, tile_m: float) -> Float64:
    """Texture coordinates (N, K, 2) in the planes of faces (N, K, 3): u along the first side, v up from it."""
    first = faces[:, 1] - faces[:, 0]
    u = first / np.linalg.norm(first, axis=-1, keepdims=True)
    out = np.cross(first, faces[:, -1] - faces[:, 0])
    v = np.cross(out, u)
    v /= np.linalg.norm(v, axis=-1, keepdims=True)
    from_first = faces - faces[:, :1]
    return np.stack([np.einsum("nkc,nc->nk", from_first, a) for a in (u, v)], axis=-1) / tile_m


def _twice(values: npt.ArrayLike) -> AnyArray:
    array = np.asarray(values)
    return np.concatenate([array, array]) if array.ndim else array
