"""What is built on a block, and how buildings rise: plinths, storeys, roofs and what stands on them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.geometry.arrays import AnyArray, Float64
from pose2rgbd_ros.sim.city.config import BLOCKS, FACADES, ROOFS, CityConfig, stream
from pose2rgbd_ros.sim.city.layout import Block, Ground, Layout
from pose2rgbd_ros.sim.city.shapes import Solids, TextureArray, corners, grown, metric_uv, side_lengths

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


# What is built on a block: perimeter rows, slabs, towers, terraces with gardens, parks and squares.

Rect = tuple[float, float, float, float]

WALLS = ((238, 226, 200), (232, 214, 178), (214, 196, 168), (240, 234, 222), (222, 202, 190), (204, 214, 204),
         (236, 206, 172), (206, 178, 150), (226, 222, 214), (196, 202, 210), (240, 222, 186),
         (218, 170, 140))  # fmt: skip
TILES = ((206, 122, 92), (190, 104, 80), (214, 140, 108), (172, 98, 80), (196, 128, 104), (160, 108, 92))
SLATES = ((200, 204, 212), (180, 182, 190), (214, 210, 206))
OLD = ("wall_plain", "wall_tall", "wall_ornate", "wall_pair", "wall_brick", "wall_stone", "wall_clinker")
NEW = ("wall_balcony", "wall_panel", "wall_modern", "wall_clinker")
WORK = ("wall_office", "wall_glass", "wall_panel")
COLOURED = {"wall_brick", "wall_clinker", "wall_stone", "wall_church", "wall_glass", "wall_office"}  # take little tint
SHOPS = ("shop_a", "shop_b")


@dataclass
class Plan:
    """What stands and grows where, in the plan."""

    buildings: list[Building] = field(default_factory=list)
    parks: list[Rect] = field(default_factory=list)
    squares: list[Rect] = field(default_factory=list)
    gardens: list[Rect] = field(default_factory=list)  # green land with some trees
    yards: list[Rect] = field(default_factory=list)  # paved, for cars


def make_plan(config: CityConfig, layout: Layout) -> Plan:
    """Decide every block's use, and lay out its buildings."""
    rng = stream(config.seed, BLOCKS)
    plan = Plan()
    uses = _uses(rng, layout, config)
    for block, use in zip(layout.blocks, uses, strict=True):
        _Plot(block, plan, rng, config.max_height_m).build(use)
    return plan


def _uses(rng: np.random.Generator, layout: Layout, config: CityConfig) -> list[str]:
    """Denser towards the middle; always at least a park and a square."""
    names = ("perimeter", "terraces", "slabs", "towers", "mixed", "park")
    uses = []
    for block in layout.blocks:
        centre = np.add(block.low, block.high) / 2
        out = np.linalg.norm(centre) / layout.half_m
        weight = np.array([1.25 - 0.8 * out, 0.1 + 0.7 * out, 0.15 + 0.3 * out, 0.22 - 0.1 * out, 0.3, 0.05])
        weight = np.clip(weight, 0.02, None)
        uses.append(str(rng.choice(names, p=weight / weight.sum())))
    inner = [i for i, block in enumerate(layout.blocks) if block.inner] or list(range(len(layout.blocks)))
    square, park = rng.choice(inner, 2, replace=False) if len(inner) > 1 else (0, 1)
    uses[int(square)], uses[int(park)] = "square", "park"
    return uses


class _Plot:
    """One block being built upon."""

    def __init__(self, block: Block, plan: Plan, rng: np.random.Generator, max_height_m: float) -> None:
        self.plan, self.rng = plan, rng
        self.most = max(int((max_height_m - 4.0) / STOREY_M), 2)  # storeys below a flat roof
        self.limit_m = max_height_m
        self.x0, self.y0, self.x1, self.y1 = (*block.low, *block.high)

    def build(self, use: str) -> None:
        getattr(self, use)()

    def put(self, rect: Rect, storeys: int, facades: tuple[str, ...], roof: str = "flat", **more: Any) -> None:
        """A building; its facade, colours and cover are drawn unless they are given."""
        rng = self.rng
        facade = str(rng.choice(facades))
        facade = more.pop("facade", facade)
        wall = np.array(WALLS[rng.integers(len(WALLS))]) * rng.uniform(0.92, 1.02)
        if facade in COLOURED:
            wall = 0.25 * wall + 0.75 * np.array([248, 246, 242])
        cover, cover_tint = self._cover(roof)
        building = Building(
            rect,
            int(np.clip(storeys, 1, self.most)),
            facade,
            _rgb(wall),
            roof,
            more.pop("cover", cover),
            _rgb(more.pop("cover_tint", cover_tint)),
            **more,
        )
        self.plan.buildings.append(self._below_limit(building))

    def _cover(self, roof: str) -> tuple[str, Float64]:
        """What covers a roof, and its colour."""
        rng = self.rng
        if roof == "flat":
            return str(rng.choice(["gravel", "bitumen", "gravel", "metal"])), np.full(3, 235.0) * rng.uniform(0.8, 1.05)
        slate = roof == "mansard" or rng.random() < 0.22
        tints = SLATES if slate else TILES
        tint = np.array(tints[rng.integers(len(tints))]) * rng.uniform(0.88, 1.08)
        return "slate" if slate else "tiles", tint

    def _below_limit(self, building: Building) -> Building:
        """Without the storeys that would reach above the highest roof allowed."""
        rise = building.rise_m + CLUTTER_M + STEP_M + 0.3
        while building.storeys > 1 and building.eaves_m + rise > self.limit_m:
            building = replace(building, storeys=building.storeys - 1)
        return building

    def perimeter(self) -> None:
        """Closed rows of houses along all streets around a courtyard."""
        rng, depth = self.rng, self.rng.uniform(10.5, 13.0)
        if min(self.x1 - self.x0, self.y1 - self.y0) < 3.0 * depth:
            depth = min(self.x1 - self.x0, self.y1 - self.y0) / 3.2
        storeys = int(rng.integers(3, 6))
        base = 0
        for side in range(4):
            self._corner(side, depth, storeys)
            base = self._row(side, depth, storeys, base)
        inner = (self.x0 + depth + 1.5, self.y0 + depth + 1.5, self.x1 - depth - 1.5, self.y1 - depth - 1.5)
        if rng.random() < 0.45:
            self.plan.yards.append(inner)
            self._back_building(inner)
        else:
            self.plan.gardens.append(inner)

    def _corner(self, side: int, depth: float, storeys: int) -> None:
        d = depth
        x = self.x0 + 0.2 if side in (0, 3) else self.x1 - d - 0.2
        y = self.y0 + 0.2 if side in (0, 1) else self.y1 - d - 0.2
        blank = [
            (False, True, True, False),
            (False, False, True, True),
            (True, False, False, True),
            (True, True, False, False),
        ]
        roof = str(self.rng.choice(["hip", "mansard", "flat"], p=[0.5, 0.3, 0.2]))
        self.put((x, y, x + d, y + d), storeys + int(self.rng.integers(0, 2)), OLD, roof,
                 base=str(self.rng.choice(SHOPS)), base_m=4.3, blank=blank[side], pitch=0.6, step_m=0.05)  # fmt: skip

    def _row(self, side: int, depth: float, storeys: int, base: int) -> int:
        """The houses between two corners; each differs a little in front line, depth and height from its neighbours."""
        rng = self.rng
        along_x = side in (0, 2)
        begin = (self.x0 if along_x else self.y0) + depth + 0.2
        end = (self.x1 if along_x else self.y1) - depth - 0.2
        count = max(1, round((end - begin) / rng.uniform(10.5, 15.5)))
        edges = begin + (end - begin) * np.linspace(0, 1, count + 1)
        edges[1:-1] += rng.uniform(-1.6, 1.6, count - 1)
        for k in range(count):
            base += 1
            front = (0.05, 0.13, 0.09)[base % 3]
            back = depth - 0.4 - (0.1, 0.9, 0.5)[base % 3]
            low, high = edges[k] - 0.04, edges[k + 1] + 0.04
            rect = {
                0: (low, self.y0 + front, high, self.y0 + back),
                1: (self.x1 - back, low, self.x1 - front, high),
                2: (low, self.y1 - back, high, self.y1 - front),
                3: (self.x0 + front, low, self.x0 + back, high),
            }[side]
            roof = str(rng.choice(["gable", "mansard", "flat"], p=[0.66, 0.16, 0.18]))
            blank = (False, True, False, True) if along_x else (True, False, True, False)
            self.put(rect, storeys + int(rng.integers(-1, 2)), OLD, roof, ridge="x" if along_x else "y", party=True,
                     base=str(rng.choice(["entrance", "shop_a", "shop_b"], p=[0.5, 0.25, 0.25])), blank=blank,
                     base_m=3.7, step_m=0.1 * (base % 3),
                     pitch=0.62 + 0.08 * (base % 3) + float(rng.uniform(0, 0.05)))  # fmt: skip
        return base

    def _back_building(self, inner: Rect) -> None:
        width, height = inner[2] - inner[0], inner[3] - inner[1]
        if min(width, height) < 16:
            return
        x, y = inner[0] + 0.3 * width, inner[1] + 0.35 * height
        self.put((x, y, x + 0.4 * width, y + 0.28 * height), 2, ("wall_brick", "wall_plain"), "gable", pitch=0.5)

    def terraces(self) -> None:
        """Rows of small houses with gardens between them."""
        rng = self.rng
        deep, long_x = 9.0, (self.x1 - self.x0) >= (self.y1 - self.y0)
        run = (self.x0, self.x1) if long_x else (self.y0, self.y1)
        cross = (self.y0, self.y1) if long_x else (self.x0, self.x1)
        self.plan.gardens.append((self.x0, self.y0, self.x1, self.y1))
        lines = [cross[0] + 4.0, cross[1] - 4.0 - deep]
        if cross[1] - cross[0] > 62:
            lines.insert(1, (cross[0] + cross[1] - deep) / 2)
        for line in lines:
            at, base = run[0] + 5.0, 0
            while at < run[1] - 16:
                group = int(rng.integers(1, 6))
                storeys = int(rng.integers(2, 4))
                facade = str(rng.choice(("wall_plain", "wall_brick", "wall_tall", "wall_clinker")))
                for k in range(group):
                    wide = float(rng.uniform(6.4, 8.2)) if group > 1 else 11.0
                    if at + wide > run[1] - 4:
                        break
                    base += 1
                    shift = 0.25 * (base % 3)
                    low, high = at - (0.04 if k else 0), at + wide
                    rect = (
                        (low, line + shift, high, line + deep + shift)
                        if long_x
                        else (line + shift, low, line + deep + shift, high)
                    )
                    self.put(rect, storeys, OLD, "gable" if group > 1 else "hip", facade=facade, base_m=3.1,
                             ridge="x" if long_x else "y", step_m=0.1 * (base % 3), party=group > 1,
                             pitch=0.72 + 0.06 * (base % 3) + float(rng.uniform(0, 0.03)))  # fmt: skip
                    at += wide
                at += float(rng.uniform(4.0, 7.0))

    def slabs(self) -> None:
        """Parallel blocks of flats in the green."""
        rng = self.rng
        self.plan.gardens.append((self.x0, self.y0, self.x1, self.y1))
        long_x = rng.random() < 0.5
        run, cross = ((self.x0, self.x1), (self.y0, self.y1))[:: 1 if long_x else -1]
        length = cross[1] - cross[0]
        count = max(1, int((length - 6) // 27))
        facade, storeys = str(rng.choice(NEW)), int(rng.integers(4, 9))
        for k in range(count):
            middle = cross[0] + (k + 0.5) * length / count
            inset = float(rng.uniform(4, 9)), float(rng.uniform(4, 9))
            a, b = run[0] + inset[0], run[1] - inset[1]
            rect = (a, middle - 6, b, middle + 6) if long_x else (middle - 6, a, middle + 6, b)
            self.put(rect, storeys + int(rng.integers(-1, 2)), NEW, facade=facade, base_m=3.3)

    def towers(self) -> None:
        """A tower or two on a podium."""
        rng = self.rng
        width, height = self.x1 - self.x0, self.y1 - self.y0
        base_m = 5.0
        rect = (self.x0 + 2.5, self.y0 + 2.5, self.x1 - 2.5, self.y1 - 2.5)
        podium = (rect[0], rect[1], rect[2], rect[1] + min(0.62 * height, 40.0))
        self.put(podium, 1, WORK, base="shop_a" if rng.random() < 0.5 else "lobby", base_m=base_m, cover="gravel")
        self.plan.yards.append((rect[0], podium[3] + 2, rect[2], rect[3]))
        slots = 2 if width > 52 and rng.random() < 0.6 else 1
        for k in range(slots):
            wide, deep = (float(rng.uniform(15, 19)), min(float(rng.uniform(15, 20)), podium[3] - podium[1] - 4))
            room = (podium[2] - podium[0]) / slots
            x = podium[0] + (k + 0.5) * room - wide / 2 + float(rng.uniform(-2, 2))
            y = podium[1] + float(rng.uniform(1.5, max(podium[3] - podium[1] - deep - 1.5, 1.6)))
            self.put((x, y, x + wide, y + deep), self.most - int(rng.integers(1, 4)), WORK, on_m=base_m - 1.0,
                     base="lobby", base_m=STOREY_M + 1.6)  # fmt: skip

    def mixed(self) -> None:
        """L-shaped offices and flats with a car park behind them."""
        rng = self.rng
        width, height = self.x1 - self.x0, self.y1 - self.y0
        deep = float(rng.uniform(13, 16))
        storeys = int(rng.integers(3, 8))
        facades = WORK if rng.random() < 0.6 else NEW
        facade = str(rng.choice(facades))
        self.put(
            (self.x0 + 2, self.y0 + 2, self.x1 - 2, self.y0 + 2 + deep),
            storeys,
            facades,
            facade=facade,
            base="lobby",
            base_m=4.0,
        )
        wing = (self.x0 + 2.2, self.y0 + 2 + deep - 0.1, self.x0 + 1.8 + deep, self.y1 - 3)
        self.put(wing, storeys - 1, facades, facade=facade, base="lobby", base_m=4.1, step_m=0.1)
        court = (self.x0 + deep + 5, self.y0 + deep + 5, self.x1 - 3, self.y1 - 3)
        if min(court[2] - court[0], court[3] - court[1]) > 42 or width * height > 5200:
            middle = (court[1] + court[3]) / 2
            self.put((court[0] + 8, middle, court[2] - 4, middle + 13), 3, NEW, base_m=3.5)
            court = (court[0], court[1], court[2], middle - 2)
        self.plan.yards.append(court)

    def park(self) -> None:
        self.plan.parks.append((self.x0, self.y0, self.x1, self.y1))

    def square(self) -> None:
        """A paved square with a church."""
        self.plan.squares.append((self.x0, self.y0, self.x1, self.y1))
        width, height = self.x1 - self.x0, self.y1 - self.y0
        x, y = self.x0 + 0.5 * width, self.y0 + 0.56 * height
        long, wide = min(30.0, 0.55 * width), min(13.0, 0.3 * height)
        stone: dict[str, Any] = {"facade": "wall_church", "base": "bare", "clutter": False, "cover": "slate"}
        green = (148, 196, 178)  # old copper
        self.put((x - long / 2, y, x + long / 2, y + wide), 3, OLD, "gable", pitch=1.25, base_m=2.2, **stone)
        side = 7.0
        pitch = float(np.clip((self.limit_m - 14.0) / 4.0, 0.8, 3.4))
        spare = self.limit_m - 2.7 - pitch * side / 2 - 4.2
        left, low = x - long / 2 - side + 0.8, y + wide / 2 - side / 2
        storeys = max(2, int(min(spare, 22.0) / STOREY_M) + 1)
        self.put((left, low, left + side, low + side), storeys, OLD, "hip", pitch=pitch, base_m=4.2, step_m=0.1,
                 cover_tint=green, **stone)  # fmt: skip


def _rgb(values: npt.ArrayLike) -> tuple[float, float, float]:
    red, green, blue = np.asarray(values, float).tolist()
    return red, green, blue
