"""Raises buildings from their descriptions: plinths, ground floors, storeys, roofs and what stands on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pose2rgbd_ros.geometry.arrays import AnyArray, Float64
from pose2rgbd_ros.sim.city.builder import TextureArray
from pose2rgbd_ros.sim.city.config import FACADES, ROOFS, stream
from pose2rgbd_ros.sim.city.layout import Ground
from pose2rgbd_ros.sim.city.shapes import Solids, corners, grown, metric_uv, side_lengths

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
        self.eaves_m = np.ceil((self.floor_m + self.column("eaves_m")) / STEP_M) * STEP_M + self.column("step_m")
        self.roof = self.column("roof")
        self.rise_m = self.column("rise_m")
        self.top_m = self.eaves_m + self.rise_m

    def column(self, name: str) -> AnyArray:
        """One field of all buildings."""
        return np.array([getattr(b, name) for b in self.buildings])


def raise_buildings(built: Built, solids: Solids, textures: TextureArray, seed: int, snow: float = 0.0) -> None:
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
    ring = [solids.ring(built.rects, z) for z in (built.foot_m, floor, floor + on, floor + on + built.column("base_m"))]
    flat_top = np.where(built.roof == "flat", PARAPET_M, 0.0)
    top = solids.ring(built.rects, built.eaves_m + flat_top)
    below = ~standing
    solids.band(
        ring[0][below], ring[1][below], metric_uv(ring[0], ring[1], 4.0)[below], textures["plinth"], tint[below] * 0.9
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
        deck[:, ::-1], inner[:, ::-1], metric_uv(deck[:, ::-1], inner[:, ::-1], 4.0), textures["bare"], (215, 212, 206)
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
        over = np.where(along_x[:, None], np.stack([end, 0 * end + 0.45], 1), np.stack([0 * end + 0.45, end], 1))
        rects = (built.rects + np.concatenate([-over, over], axis=1))[which]
        foot, rise = built.eaves_m[which] - 0.15, built.rise_m[which]
        cover = textures.each(list(built.column("cover")[which]))
        tint = _whitened(built.column("cover_tint")[which], snow)
        if kind == "gable":
            wall = built.column("tint")[which]
            solids.gables(rects, foot, rise, along_x[which], cover, tint, np.full(len(rects), textures["bare"]), wall)
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


# What stands on roofs: chimneys, dormers, stair heads, machines.


def furnish_roofs(built: Built, solids: Solids, textures: TextureArray, seed: int) -> None:
    """Add it all."""
    rng = stream(seed, ROOFS)
    wanted = built.column("clutter")
    _chimneys(built, (built.roof == "gable") & wanted, solids, textures, rng)
    _dormers(built, wanted, solids, textures, rng)
    _machines(built, (built.roof == "flat") & wanted, solids, textures, rng)


def _chimneys(built: Built, which: AnyArray, solids: Solids, textures: TextureArray, rng: np.random.Generator) -> None:
    """One or two beside the ridge of a saddle."""
    index = np.repeat(np.nonzero(which)[0], 2)
    share = np.where(
        np.arange(len(index)) % 2, rng.uniform(0.12, 0.42, len(index)), rng.uniform(0.58, 0.88, len(index))
    )
    drawn = rng.random(len(index)) < 0.7
    index, share = index[drawn], share[drawn]
    rects, along_x = built.rects[index], (built.column("ridge") == "x")[index]
    size = rects[:, 2:] - rects[:, :2]
    beside = rng.choice([-0.9, 0.9], len(index))
    middle = (rects[:, :2] + rects[:, 2:]) / 2
    along = np.where(along_x, rects[:, 0] + share * size[:, 0], rects[:, 1] + share * size[:, 1])
    x = np.where(along_x, along, middle[:, 0] + beside)
    y = np.where(along_x, middle[:, 1] + beside, along)
    half_x, half_y = np.where(along_x, 0.6, 0.3), np.where(along_x, 0.3, 0.6)
    stacks = np.stack([x - half_x, y - half_y, x + half_x, y + half_y], axis=-1)
    top = built.top_m[index] + rng.uniform(0.4, 1.1, len(index))
    tint = np.array([255, 190, 160]) * rng.uniform(0.7, 1.0, (len(index), 1))
    solids.boxes(stacks, top - 3.0, top, textures["plinth"], tint, lid=np.full(len(index), textures["bitumen"]))


def _dormers(built: Built, wanted: AnyArray, solids: Solids, textures: TextureArray, rng: np.random.Generator) -> None:
    """Windows with a little roof of their own, looking out of steep roofs on both sides."""
    steep = (built.column("pitch") > 0.68) & (built.roof == "gable") & (rng.random(len(built.rects)) < 0.36)
    chosen = np.nonzero(wanted & (steep | (built.roof == "mansard")))[0]
    rects, faces = [], []
    owner = []
    for index in chosen.tolist():
        x0, y0, x1, y1 = built.rects[index]
        along_x = built.buildings[index].ridge == "x"
        begin, end = (x0, x1) if along_x else (y0, y1)
        count = int((end - begin - 2.5) / 2.9)
        deep = 1.35 if built.roof[index] == "mansard" else 2.3
        for at in np.linspace(begin + 2.2, end - 2.2, count) if count > 1 else []:
            for side in (0, 1):
                near = ((y0 + 0.35, y0 + 0.35 + deep), (y1 - 0.35 - deep, y1 - 0.35)) if along_x else (
                    (x0 + 0.35, x0 + 0.35 + deep), (x1 - 0.35 - deep, x1 - 0.35))  # fmt: skip
                low, high = near[side]
                rects.append((at - 0.7, low, at + 0.7, high) if along_x else (low, at - 0.7, high, at + 0.7))
                faces.append((0, 2)[side] if along_x else (3, 1)[side])
                owner.append(index)
    if not rects:
        return
    boxes, front, of = np.array(rects), np.array(faces), np.array(owner)
    foot, top = solids.ring(boxes, built.eaves_m[of] + 0.1), solids.ring(boxes, built.eaves_m[of] + 1.75)
    sides = np.arange(4)[None]
    looks_out, back = sides == front[:, None], sides == (front[:, None] + 2) % 4
    layer = np.where(looks_out, textures["dormer"], textures["bare"])
    uv = np.where(looks_out[..., None], np.array([0.0, 1.0, 0.0, 1.0]), metric_uv(foot, top, 4.0))
    solids.band(foot, top, uv, layer, np.tile([232.0, 230, 226], (len(boxes), 1)), ~back)
    solids.lid(top, textures["metal"], (150, 152, 158))


def _machines(built: Built, which: AnyArray, solids: Solids, textures: TextureArray, rng: np.random.Generator) -> None:
    """Stair heads and air handling units, clear of each other and of the parapet."""
    stairs: list[tuple[float, ...]] = []
    units: list[tuple[float, ...]] = []
    stair_of: list[int] = []
    unit_of: list[int] = []
    for index in np.nonzero(which)[0].tolist():
        if _carries(built, index):
            continue
        x0, y0, x1, y1 = built.rects[index] + np.array([1.2, 1.2, -1.2, -1.2])
        if min(x1 - x0, y1 - y0) < 4.5:
            continue
        columns = max(int((x1 - x0) / 5.5), 1)
        rows = max(int((y1 - y0) / 5.5), 1)
        cells = rng.permutation(columns * rows)
        for number, cell in enumerate(cells[: 1 + int(rng.integers(1, 6))].tolist()):
            cx = x0 + (cell % columns + 0.5) * (x1 - x0) / columns
            cy = y0 + (cell // columns + 0.5) * (y1 - y0) / rows
            half = np.array([1.9, 1.5]) if number == 0 else rng.uniform(0.4, 1.2, 2)
            (stairs if number == 0 else units).append((cx - half[0], cy - half[1], cx + half[0], cy + half[1]))
            (stair_of if number == 0 else unit_of).append(index)
    for rects, owner, high, layer, tint in (
        (stairs, stair_of, (1.9, 2.5), "bare", (214, 210, 202)),
        (units, unit_of, (0.7, 1.5), "metal", (225, 228, 230)),
    ):
        if rects:
            deck = built.eaves_m[owner]
            top = deck + rng.uniform(*high, len(rects))
            boxes: Float64 = np.array(rects)
            lid = textures["bitumen"] if layer == "bare" else textures["metal"]
            solids.boxes(boxes, deck - 0.2, top, textures[layer], tint, lid=lid, tile_m=4.0 if layer == "bare" else 1.2)


def _carries(built: Built, index: int) -> bool:
    """Whether another building stands on this one."""
    building = built.buildings[index]
    return building.storeys == 1 and building.base_m >= 5.0
