"""Of a relief in tiles: which tiles a view needs, in which part of its picture, and which of them shows a pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import AnyArray, Bool, Float32, Float64
from pose2rgbd_ros.models.relief.config import TiledReliefConfig

CELL_PX = 16  # pictures are looked at in cells, and windows begin at one: the shader takes pixels together


class Window(NamedTuple):
    """The part of a picture that a tile may show."""

    tile: int
    rows: slice
    columns: slice


def windows(config: TiledReliefConfig, T_map_cam: Float64, rays_cam: AnyArray) -> list[Window]:
    """What a view at T_map_cam (4, 4) with rays (H, W, 3) needs: each pixel is in a window of every tile in whose core,
    between floor and top, its ray is somewhere.

    The tile the camera is over comes first. It also shows what looks up or meets no tile, and where the camera is
    within the height of the volume it has all of the picture: it says whether the camera is inside something.
    """
    y, x = (np.append(np.arange(0, size - 1, CELL_PX), size - 1) for size in rays_cam.shape[:2])
    T_vol_cam = se3.inverse(config.T_map_vol) @ T_map_cam
    ray = np.asarray(rays_cam[np.ix_(y, x)], np.float64) @ T_vol_cam[:3, :3].T
    eye = T_vol_cam[:3, 3]
    home = config.home(eye)
    corner_ray = np.stack([ray[:-1, :-1], ray[:-1, 1:], ray[1:, 1:], ray[1:, :-1]], axis=2)
    open_cell = np.asarray(np.isnan(corner_ray).any((-2, -1)))
    corner_ray = np.nan_to_num(corner_ray)
    view = _seen_between(config, eye, corner_ray)
    row, column, alone = _pixels_of(open_cell, y, x, rays_cam)
    lone_view = _seen_between(config, eye, (alone @ T_vol_cam[:3, :3].T)[:, None, None].repeat(4, axis=2))

    def met(number: int) -> Bool:
        mask = view.meets(config, number)
        np.logical_or.at(mask, (row, column), lone_view.meets(config, number)[:, 0])
        return mask

    meets = {number: mask for number in range(config.count) if (mask := met(number)).any()}
    none = ~np.any([*meets.values()], axis=0) if meets else np.ones(corner_ray.shape[:2], bool)
    meets[home] = meets.get(home, False) | none | (corner_ray[..., 2] >= 0).any(-1)
    if eye[2] <= config.size_m[2]:
        meets[home][:] = True
    found = [
        Window(number, _pixels(mask.max(1), y), _pixels(mask.max(0), x)) for number, mask in meets.items() if mask.any()
    ]
    return sorted(found, key=lambda window: window.tile != home)


@dataclass(frozen=True, eq=False)
class _Cells:
    """What the rays of each cell of a picture meet between floor and top, seen from above with the eye at the origin.

    eye_m: (2,) in the first tile's volume. toward: (h, w, 4, 2) horizontal directions of the corners' rays. low_m,
        high_m: (h, w, 2) rectangle that the rays are in, infinite for none. reach_m: nothing ends beyond.
    """

    eye_m: Float64
    toward: Float64
    low_m: Float64
    high_m: Float64
    reach_m: float

    def meets(self, config: TiledReliefConfig, number: int) -> Bool:
        """Which cells (h, w) a tile's core may be seen in: all in which it is, and few more."""
        # Rays of lenses are not quite between those of the corners.
        low, high = (
            np.clip(bound + config.corner_m(number)[:2] - self.eye_m + margin, -self.reach_m, self.reach_m)
            for bound, margin in zip(config.core_m(number), (-config.cell_m, config.cell_m), strict=True)
        )
        met = np.asarray(((self.low_m <= high) & (self.high_m >= low)).all(-1))
        if met.any():
            rectangle = np.array([low, [high[0], low[1]], high, [low[0], high[1]]])
            met[met] = ~_parted(self.toward[met], rectangle)
        return np.asarray(met)


def _pixels_of(open_cell: Bool, y: AnyArray, x: AnyArray, rays: AnyArray) -> tuple[AnyArray, AnyArray, Float64]:
    """Row and column (n,) of the cell, and ray (n, 3), of every pixel of cells to one of whose corners the lens has
    no ray.
    """
    rows = np.minimum(np.arange(rays.shape[0]) // CELL_PX, len(y) - 2)
    columns = np.minimum(np.arange(rays.shape[1]) // CELL_PX, len(x) - 2)
    v, u = np.nonzero(open_cell[np.ix_(rows, columns)] & np.isfinite(rays[..., 0]))
    return rows[v], columns[u], np.asarray(rays[v, u], np.float64)


def _seen_between(config: TiledReliefConfig, eye: Float64, corner_ray: Float64) -> _Cells:
    """Of cells with rays (h, w, 4, 3) at their corners. The rays within are sums of those at the corners, so what they
    meet at a height is between what those meet there; where some never meet it, what lies between goes on for ever."""
    reach_m = 4 * float(np.abs(eye[:2]).max() + np.abs(config.corner_m(config.count - 1)).max() + sum(config.size_m))
    up = corner_ray[..., 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        first, second = -eye[2] / up, (config.size_m[2] - eye[2]) / up
    within = 0 <= eye[2] <= config.size_m[2]
    near, far = np.fmin(first, second) * (not within), np.fmax(first, second)
    misses = ((up == 0) & (not within)) | (far < 0)
    endless = misses.any(-1) | (np.sign(up) != np.sign(up[..., :1])).any(-1) | (up == 0).any(-1)
    length = np.linalg.norm(corner_ray[..., :2], axis=-1)
    most = reach_m / np.maximum(length, 1e-9)
    far = np.where(endless[..., None], most, np.minimum(far, most))
    near = np.where(misses, far, np.minimum(near, far))
    ends = np.concatenate([corner_ray[..., :2] * t[..., None] for t in (near, far)], axis=2)
    nothing = misses.all(-1)[..., None]
    low, high = np.where(nothing, np.inf, ends.min(2)), np.where(nothing, -np.inf, ends.max(2))
    return _Cells(eye[:2], corner_ray[..., :2], low, high, reach_m)


def _parted(toward: Float64, rectangle: Float64) -> Bool:
    """Whether a line from the origin along one of the directions (n, 4, 2) has the others on one side and the
    rectangle's corners (4, 2) on the other."""

    def side(of: Float64) -> Float64:
        """(n, direction, corner): above 0 for what lies to the left of a direction."""
        return np.asarray(toward[:, :, None, 0] * of[..., None, :, 1] - toward[:, :, None, 1] * of[..., None, :, 0])

    cone, box = side(toward), side(rectangle)
    left, right = (cone >= 0).all(-1) & (box < 0).all(-1), (cone <= 0).all(-1) & (box > 0).all(-1)
    return np.asarray((left | right).any(-1))


def _pixels(mask: Bool, at: AnyArray) -> slice:
    """From the first cell told to the last; the last of all has the last pixel as well."""
    told = np.flatnonzero(mask)
    end = int(at[told[-1] + 1])
    return slice(int(at[told[0]]), end + 1 if told[-1] + 2 == len(at) else end)


def off_core(where: Float32, low_m: Float64, high_m: Float64) -> Float32:
    """How far (...) points (..., 2) lie beside the rectangle from low to high (2,), along the worse axis; 0 within."""
    beside = np.maximum(low_m.astype(np.float32) - where, where - high_m.astype(np.float32)).max(-1)
    return np.maximum(beside, np.float32(0))


class Owners:
    """Which tile shows a pixel: of those whose ray ends in their core the nearest, else the one whose end is least
    beside.

    So a surface at the border of two cores, which each of them may take for the other's, is shown by one. What meets
    nothing stays with the first tile that had it.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._off: Float32 = np.full(shape, np.inf, np.float32)
        self._t, self._free = self._off.copy(), np.ones(shape, bool)

    def take(self, rows: slice, columns: slice, t: Float32, off: Float32) -> Bool:
        """Which pixels (h, w) of a window a tile shows, by where its rays end: t, NaN for none, and `off` its core."""
        window = rows, columns
        best_off, best_t, free = self._off[window], self._t[window], self._free[window]
        nothing = np.isnan(t)
        off, t = np.where(nothing, np.float32(np.inf), off), np.where(nothing, np.float32(np.inf), t)
        mine = np.asarray(free | (off < best_off) | ((off == best_off) & (t < best_t)))
        best_off[mine], best_t[mine], free[mine] = off[mine], t[mine], False
        return mine
