"""Raises buildings from their descriptions: plinths, ground floors, storeys, roofs and what stands on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pose2rgbd_ros.geometry.arrays import AnyArray, Float64
from pose2rgbd_ros.sim.city.config import FACADES, stream
from pose2rgbd_ros.sim.city.solids import Solids, corners, grown, metric_uv, side_lengths
from pose2rgbd_ros.sim.city.terrain import Ground
from pose2rgbd_ros.sim.city.textures import TextureArray

BAY_M = 3.0
STOREY_M = 3.1
FOUNDATION_M = 0.7  # how far walls reach below the lowest ground beside them
PARAPET_M, MANSARD_M = 0.6, 2.9
CLUTTER_M = 2.6  # chimneys, stair heads and machines reach no further above a roof
STEP_M = 0.3  # eaves lie on multiples of this height, plus a share of it that differs between neighbours
Rgb = tuple[float, float, float]


@dataclass(frozen=True)
class Building:
    """What stands on a rectangle of the plan (x and y of the low corner, then of the high one).

    `storeys` count the ground floor, which is `base_m` high; `ridge` "x" or "y" is the direction of a saddle's ridge.
    `on_m` lifts the building onto another of that height. `blank` sides (south, east, north, west) have no windows.
    """

    rect: tuple[float, float, float, float]
    storeys: int
    facade: str
    tint: Rgb
    roof: str = "flat"  # flat, gable, hip, mansard
    cover: str = "gravel"
    cover_tint: Rgb = (255, 255, 255)
    ridge: str = "x"
    pitch: float = 0.75  # rise of a sloped roof over half its width
    base: str = "entrance"
    base_m: float = 3.6
    on_m: float = 0.0
    blank: tuple[bool, bool, bool, bool] = (False, False, False, False)
    party: bool = False  # neighbours at both ends of the ridge: the roof does not overhang there
    clutter: bool = True  # chimneys, boxes and machines on the roof
    step_m: float = 0.0  # 0 to 0.3, another than that of each neighbour: keeps their roofs out of one plane

    @property
    def eaves_m(self) -> float:
        """Height of the walls above the floor."""
        return self.on_m + self.base_m + (self.storeys - 1) * STOREY_M

    @property
    def rise_m(self) -> float:
        """Height of the roof above the eaves."""
        if self.roof in ("flat", "mansard"):
            return PARAPET_M if self.roof == "flat" else MANSARD_M
        width, depth = self.rect[2] - self.rect[0], self.rect[3] - self.rect[1]
        across = min(width, depth) if self.roof == "hip" else (depth if self.ridge == "x" else width)
        return self.pitch * across / 2


class Built:
    """The buildings of a city as arrays: plan rectangles (N, 4), floors, eaves and tops (N,) in map heights."""

    def __init__(self, buildings: list[Building], ground: Ground) -> None:
        self.buildings = buildings
        self.rects = np.array([b.rect for b in buildings], float).reshape(-1, 4)
        spots = np.concatenate([corners(self.rects), corners(self.rects).mean(axis=1, keepdims=True)], axis=1)
        z = ground.plan_height_m(spots)
        self.floor_m = z.max(axis=1) + 0.10
        self.foot_m = z.min(axis=1) - FOUNDATION_M
        self.eaves_m = np.ceil((self.floor_m + self.column("eaves_m")) / STEP_M) * STEP_M + self.column(
            "step_m"
        )
        self.roof = self.column("roof")
        self.rise_m = self.column("rise_m")
        self.top_m = self.eaves_m + self.rise_m

    def column(self, name: str) -> AnyArray:
        """One field of all buildings."""
        return np.array([getattr(b, name) for b in self.buildings])


def raise_buildings(
    built: Built, solids: Solids, textures: TextureArray, seed: int, snow: float = 0.0
) -> None:
    """Add walls and roofs of all buildings."""
    _walls(built, solids, textures, stream(seed, FACADES))
    _flat_roofs(built, solids, textures)
    _sloped_roofs(built, solids, textures, snow)
    _mansards(built, solids, textures, snow)


def _walls(built: Built, solids: Solids, textures: TextureArray, rng: np.random.Generator) -> None:
    count = len(built.rects)
    floor, tint = built.floor_m, built.column("tint")
    on = built.column("on_m")
    standing = on > 0
    ring = [
        solids.ring(built.rects, z)
        for z in (built.foot_m, floor, floor + on, floor + on + built.column("base_m"))
    ]
    flat_top = np.where(built.roof == "flat", PARAPET_M, 0.0)
    top = solids.ring(built.rects, built.eaves_m + flat_top)
    below = ~standing
    solids.band(
        ring[0][below],
        ring[1][below],
        metric_uv(ring[0], ring[1], 4.0)[below],
        textures["plinth"],
        tint[below] * 0.9,
    )
    length = side_lengths(ring[1])
    bays = np.maximum(np.round(length / BAY_M), 1)
    zero, one = np.zeros_like(length), np.ones_like(length)
    blank = built.column("blank")
    bare = textures["bare"]
    base = np.where(blank, bare, textures.each(list(built.column("base")))[:, None])
    start = rng.integers(0, 4, (count, 4))
    uv = np.stack([start / 4, (start + bays) / 4, zero, one], axis=-1)
    solids.band(ring[2], ring[3], uv, base, tint)
    first = rng.integers(0, 4, count)[:, None] * one
    storeys = (built.column("storeys")[:, None] - 1 + (flat_top / STOREY_M)[:, None]) * one
    upper = np.where(blank, bare, textures.each(list(built.column("facade")))[:, None])
    start = rng.integers(0, 4, (count, 4))
    uv = np.stack([start / 4, (start + bays) / 4, first / 4, (first + storeys) / 4], axis=-1)
    more = storeys[:, 0] > 0
    solids.band(ring[3][more], top[more], uv[more], upper[more], tint[more])


def _flat_roofs(built: Built, solids: Solids, textures: TextureArray) -> None:
    which = built.roof == "flat"
    rects, top = built.rects[which], built.eaves_m[which] + PARAPET_M
    tint, cover = built.column("cover_tint")[which], textures.each(list(built.column("cover")[which]))
    outer, inner = solids.ring(rects, top), solids.ring(grown(rects, -0.3), top)
    deck = solids.ring(grown(rects, -0.3), top - PARAPET_M + 0.05)
    _rims(solids, outer, inner, textures["bare"])
    # Seen from the roof the parapet looks inwards: the ring turned round.
    solids.band(
        deck[:, ::-1],
        inner[:, ::-1],
        metric_uv(deck[:, ::-1], inner[:, ::-1], 4.0),
        textures["bare"],
        (215, 212, 206),
    )
    solids.lid(deck, cover, tint, 6.0)


def _rims(solids: Solids, outer: Float64, inner: Float64, layer: int) -> None:
    """The tops of parapets."""
    solids.band(outer, inner, metric_uv(outer, inner, 4.0), layer, (228, 226, 222))


def _whitened(tint: Float64, snow: float) -> Float64:
    """The colour of a roof, which does not show through snow."""
    return tint + 1.1 * snow * (255.0 - tint)


def _sloped_roofs(built: Built, solids: Solids, textures: TextureArray, snow: float) -> None:
    along_x = built.column("ridge") == "x"
    party = built.column("party")
    for kind in ("gable", "hip"):
        which = built.roof == kind
        # Eaves overhang; ends do too, unless a neighbour stands there.
        # The gable stands a little before the wall below it, never in its plane.
        end = np.where(party, 0.03, 0.12 if kind == "gable" else 0.45)
        over = np.where(
            along_x[:, None], np.stack([end, 0 * end + 0.45], 1), np.stack([0 * end + 0.45, end], 1)
        )
        rects = (built.rects + np.concatenate([-over, over], axis=1))[which]
        foot, rise = built.eaves_m[which] - 0.15, built.rise_m[which]
        cover = textures.each(list(built.column("cover")[which]))
        tint = _whitened(built.column("cover_tint")[which], snow)
        if kind == "gable":
            wall = built.column("tint")[which]
            solids.gables(
                rects, foot, rise, along_x[which], cover, tint, np.full(len(rects), textures["bare"]), wall
            )
        else:
            solids.hips(rects, foot, rise, cover, tint)


def _mansards(built: Built, solids: Solids, textures: TextureArray, snow: float) -> None:
    which = built.roof == "mansard"
    rects, foot = built.rects[which], built.eaves_m[which] - 0.15
    over = np.where(built.column("party")[which], 0.05, 0.25)
    low = solids.ring(grown(rects, over), foot)
    high = solids.ring(grown(rects, -1.5), foot + MANSARD_M)
    tint = _whitened(built.column("cover_tint")[which], snow)
    solids.band(low, high, metric_uv(low, high, 4.0), textures["slate"], tint)
    solids.lid(high, textures["metal"], (210, 214, 216))
    solids.lid(low[:, ::-1], 0, 150)
