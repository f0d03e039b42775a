"""What is set down many times: lamps, and trees in rows along avenues, in groves, gardens and woods."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.geometry.arrays import Bool, Float32, Float64, Int64
from pose2rgbd_ros.sim.city import shapes
from pose2rgbd_ros.sim.city.buildings import Plan
from pose2rgbd_ros.sim.city.config import CROWNS, SEASON_COLOURS, TREES, WOODS, CityConfig, stream
from pose2rgbd_ros.sim.city.ground import GRASS, PAVED, GroundPicture
from pose2rgbd_ros.sim.city.layout import ALLEY, AVENUE, KERB_M, Ground, Layout
from pose2rgbd_ros.sim.city.shapes import UNIT_UV, MeshBuilder, Shape, TextureArray, frustum

CLEARANCE_TEXELS = 1024


def poses_on(ground: Ground, plan: Float64, heading_plan: Float64, base_m: float = 0.0) -> Float64:
    """Poses (N, 4, 4) in the map on the ground at plan points (N, 2), x along a plan heading (N, 2), tilted like the
    ground.

    `base_m`: length over which the tilt is measured; 0 keeps things upright.
    """
    heading = heading_plan / np.linalg.norm(heading_plan, axis=-1, keepdims=True)
    reach = max(base_m / 2, 0.5)
    ahead, behind = plan + reach * heading, plan - reach * heading
    points = [
        np.concatenate([ground.layout.warp.to_map(p), ground.plan_height_m(p)[:, None]], axis=-1)
        for p in (ahead, behind)
    ]
    along = points[0] - points[1]
    if not base_m:
        along[:, 2] = 0.0
        middle = np.concatenate([ground.layout.warp.to_map(plan), ground.plan_height_m(plan)[:, None]], axis=-1)
    else:
        middle = (points[0] + points[1]) / 2
    return frames(middle, along)


def frames(origin_m: Float64, forward: Float64) -> Float64:
    """Poses (N, 4, 4) with x along `forward` (N, 3) and y level."""
    T = np.zeros((len(forward), 4, 4))
    level = np.sqrt(forward[:, 0] ** 2 + forward[:, 1] ** 2)
    length = np.sqrt(level**2 + forward[:, 2] ** 2)
    cosine, sine = level / length, forward[:, 2] / length
    T[:, :3, 0] = forward / length[:, None]
    T[:, 0, 1], T[:, 1, 1] = -forward[:, 1] / level, forward[:, 0] / level
    T[:, 0, 2], T[:, 1, 2], T[:, 2, 2] = -sine * T[:, 1, 1], sine * T[:, 0, 1], cosine
    T[:, :3, 3] = origin_m
    T[:, 3, 3] = 1.0
    return T


def scaled(T: Float64, scale: npt.ArrayLike) -> Float64:
    """Poses with their axes stretched: by (N,) or by (N, 3)."""
    scale = np.asarray(scale, float)
    T = T.copy()
    T[:, :3, :3] *= (scale[:, None] if scale.ndim == 1 else scale)[:, None, :]
    return T


class Clearance:
    """Distance from any point of the plan to the nearest building, on a raster."""

    def __init__(self, rects: Float64, half_m: float) -> None:
        self._half, self._per_m = half_m, CLEARANCE_TEXELS / (2 * half_m)
        free = np.full((CLEARANCE_TEXELS, CLEARANCE_TEXELS), 255, np.uint8)
        for x0, y0, x1, y1 in np.rint((rects + half_m) * self._per_m).astype(int).tolist():
            free[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = 0
        distance = cv2.distanceTransform(free, cv2.DIST_L2, 5)
        self._distance_m: Float32 = (distance / self._per_m).astype(np.float32)

    def m(self, plan: Float64) -> Float32:
        """(N,) of (N, 2), short by up to a texel."""
        column, row = np.clip((plan + self._half) * self._per_m, 0, CLEARANCE_TEXELS - 1).astype(int).T
        return self._distance_m[row, column]


def spread(plan: Float64, apart_m: float) -> Bool:
    """Which of the points (N, 2) to keep so that no two lie in a square of this side, or close across its edge."""
    keep = np.zeros(len(plan), bool)
    for shift in (0.0, 0.5):
        cell = np.floor(plan / apart_m + shift).astype(int)
        _, first = np.unique(cell, axis=0, return_index=True)
        mask = np.zeros(len(plan), bool)
        mask[first] = True
        keep = mask if shift == 0.0 else keep & mask
    return keep


# Street lamps.


HEIGHT_M = 6.4
REACH_M = 1.6  # how far the arm reaches, about
APART_M = 28.5
FROM_KERB_M = 0.4


def lamps(layout: Layout, ground: Ground, builder: MeshBuilder) -> Float64:
    """Add lamps at the kerbs, on either side in turn; returns their feet (N, 3) in the map."""
    spots, headings = [], []
    for axis, (along, across) in enumerate(((layout.y, layout.x), (layout.x, layout.y))):
        for number, (kind, middle) in enumerate(across.streets):
            if kind is ALLEY:
                continue
            for index, (begin, end) in enumerate(along.blocks):
                if (axis, number, index) in layout.closed:
                    continue
                run = np.arange(begin + 3.0, end - 2.0, APART_M / 2)
                side = np.where(np.arange(len(run)) % 2, 1.0, -1.0)
                cross = middle + side * (kind.road_m / 2 + FROM_KERB_M)
                spots.append(np.stack([cross, run] if axis == 0 else [run, cross], axis=-1))
                nothing = np.zeros_like(side)
                headings.append(np.stack([-side, nothing] if axis == 0 else [nothing, -side], axis=-1))
    if not spots:
        return np.zeros((0, 3))
    T = poses_on(ground, np.concatenate(spots), np.concatenate(headings))
    _lamp().place(builder, T, np.tile([92.0, 96.0, 100.0], (len(T), 1)))
    return T[:, :3, 3]


def _lamp() -> Shape:
    """A mast, and an arm with a head along x."""
    shape = Shape()
    turn = 2 * np.pi * np.arange(3) / 3
    foot = np.stack([0.085 * np.cos(turn), 0.085 * np.sin(turn), np.full(3, -0.1)], axis=-1)
    top = foot * [0.6, 0.6, 0] + [0, 0, HEIGHT_M]
    following = [1, 2, 0]
    shape.add(np.stack([foot, foot[following], top[following], top], axis=1), UNIT_UV, 0)
    arm = frustum((-0.1, -0.06, 1.4, 0.06), HEIGHT_M - 0.16, (-0.05, -0.05, 1.35, 0.05), HEIGHT_M + 0.04)
    shape.add(arm, UNIT_UV, 0)
    below = arm[0][[0, 1]], arm[2][[0, 1]]
    floor = np.array([[below[0][1], below[0][0], below[1][1], below[1][0]]])
    shape.add(floor, UNIT_UV, 0, np.array([250, 240, 210]) / 255, tinted=False)
    return shape


# How high things reach: a raster over the built square and its surroundings that no static thing rises above.


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
                cv2.fillConvexPoly(raster, np.rint(corners * 2**_FINE).astype(np.int32), top, cv2.LINE_8, _FINE)
            # An outline may touch a cell without holding its middle.
            self._raster = cv2.dilate(raster, np.ones((3, 3), np.uint8)).astype(np.float32)
        return self._raster


# Trees: rows along avenues, groves in parks and gardens, woods in the country.

BROAD, TALL, CONIFER = range(3)
VARIANTS = 3  # crowns modelled of each kind


@dataclass(frozen=True, eq=False)
class Trees:
    """Plan positions (N, 2), radii of the crowns and heights (N,) in metres, kinds (N,)."""

    plan: Float64
    radius_m: Float64
    height_m: Float64
    kind: Int64


def plant(
    config: CityConfig, layout: Layout, ground: Ground, plan: Plan, picture: GroundPicture, clear: Clearance
) -> Trees:
    """Decide where trees grow in the built square and around it."""
    rng = stream(config.seed, TREES)
    street = _along_avenues(rng, layout, ground)
    spots, density = [], ((plan.parks, 44.0), (plan.gardens, 105.0), (plan.squares, 170.0))
    for rects, area in density:
        for x0, y0, x1, y1 in rects:
            count = int(2.2 * max(x1 - x0, 0) * max(y1 - y0, 0) / area)
            spots.append(rng.uniform([x0, y0], [max(x1, x0), max(y1, y0)], (count, 2)))
    free = np.concatenate(spots or [np.zeros((0, 2))])
    material = picture.material_at(free)
    in_square = np.zeros(len(free), bool)
    for x0, y0, x1, y1 in plan.squares:
        in_square |= (free >= [x0 + 3, y0 + 3]).all(axis=1) & (free <= [x1 - 3, y1 - 3]).all(axis=1)
    free = free[(material == GRASS) | (in_square & (material == PAVED))]
    free = free[spread(free, 5.0)]
    free = free[clear.m(free) > 2.2]
    around = rng.uniform(-1, 1, (300, 2)) * (layout.half_m + 95)
    around = around[np.abs(around).max(axis=1) > layout.half_m + 3]
    around = around[~_on_road(layout, around)]
    at = np.concatenate([street, free, around])
    radius = rng.uniform(1.7, 3.4, len(at))
    radius[: len(street)] = rng.uniform(1.7, 2.3, len(street))
    kind = rng.choice([BROAD, TALL, CONIFER], len(at), p=[0.72, 0.12, 0.16])
    kind[: len(street)] = BROAD
    inside = np.abs(at).max(axis=1) < layout.half_m
    radius = np.where(inside, np.minimum(radius, np.maximum(clear.m(at) - 0.45, 1.0)), radius)
    height = 2.32 * radius * np.choose(kind, [1.22, 1.9, 1.62])
    return Trees(at, radius, height, kind)


def _along_avenues(rng: np.random.Generator, layout: Layout, ground: Ground) -> Float64:
    """Rows near the kerbs, with gaps at the crossings."""
    rows = []
    for axis, (along, across) in enumerate(((layout.y, layout.x), (layout.x, layout.y))):
        for kind, middle in across.streets:
            if kind is not AVENUE:
                continue
            for begin, end in along.blocks:
                count = max(int((end - begin - 12) / 9.5), 0)
                run = np.linspace(begin + 7.5, end - 7.5, count + 1)
                for side in (-1, 1):
                    cross = np.full_like(run, middle + side * (kind.road_m / 2 + 0.75))
                    row = np.stack([cross, run] if axis == 0 else [run, cross], axis=-1)
                    rows.append(row[rng.random(len(row)) < 0.92])
    return np.concatenate(rows or [np.zeros((0, 2))])


def _on_road(layout: Layout, plan: Float64) -> np.ndarray:
    """Whether points lie on a street's course, also beyond the city."""
    hit = np.zeros(len(plan), bool)
    for axis, across in enumerate((layout.x, layout.y)):
        for kind, middle in across.streets:
            hit |= np.abs(plan[:, axis] - middle) < kind.width_m / 2 + 2.5
    return hit


def grow(trees: Trees, ground: Ground, builder: MeshBuilder, textures: TextureArray, config: CityConfig) -> None:
    """Add the trees to a mesh."""
    rng = stream(config.seed, CROWNS)
    season = SEASON_COLOURS[config.season]
    turn = rng.uniform(0, 2 * np.pi, len(trees.plan))
    heading = np.stack([np.cos(turn), np.sin(turn)], axis=-1)
    T = poses_on(ground, trees.plan, heading)
    variant = rng.integers(0, VARIANTS, len(T))
    leaf = np.array(season.leaves)[rng.integers(0, len(season.leaves), len(T))]
    tint = np.clip(leaf * rng.uniform(0.85, 1.12, (len(T), 1)) * 1.18, 0, 255)
    needle = np.clip(np.array(season.conifer) * rng.uniform(0.85, 1.15, (len(T), 1)) * 1.2, 0, 255)
    for number in range(VARIANTS):
        broad = shapes.bare_tree(textures, rng) if season.bare else shapes.broad_tree(textures, rng)
        for kind, shape, top in (
            (BROAD, broad, 2.32),
            (TALL, broad, 2.32),
            (CONIFER, shapes.conifer(textures, rng), 3.4),
        ):
            which = (trees.kind == kind) & (variant == number)
            wide = trees.radius_m[which] * (0.62 if kind != BROAD else 1.0)
            size = np.stack([wide, wide, trees.height_m[which] / top], axis=-1)
            shape.place(builder, scaled(T[which], size), (needle if kind == CONIFER else tint)[which])


def woods(
    ground: Ground, builder: MeshBuilder, textures: TextureArray, config: CityConfig
) -> tuple[Float64, Float64, Float64]:
    """Add clumps of merged crowns in the country; returns their middles (N, 2), radii and tops (N,) in the map."""
    rng = stream(config.seed, WOODS)
    season, half = SEASON_COLOURS[config.season], ground.layout.half_m
    centres: list[Float64] = []
    while len(centres) < 24:
        turn, reach = rng.uniform(0, 2 * np.pi), half * 1.45 + 1300 * rng.random() ** 1.6
        centres.append(reach * np.array([np.cos(turn), np.sin(turn)]))
    clumps = []
    for centre in centres:
        count = int(rng.integers(7, 20))
        long = rng.uniform(30, 100) * np.array([1.0, rng.uniform(0.25, 0.7)])
        turn = rng.uniform(0, np.pi)
        spread_m = rng.normal(0, 0.55, (count, 2)) * long
        c, s = np.cos(turn), np.sin(turn)
        clumps.append(centre + spread_m @ np.array([[c, s], [-s, c]]))
    at = np.concatenate(clumps)
    at = at[(np.abs(at).max(axis=1) > half + 40) & ~_on_road(ground.layout, at)]
    wide, tall = rng.uniform(9, 17, len(at)), rng.uniform(4.5, 7.0, len(at))
    T = poses_on(ground, at, np.tile([1.0, 0.0], (len(at), 1)))
    T[:, 2, 3] -= 4.0  # rooted well below the slope
    evergreen = rng.random(len(at)) < 0.35
    leaf = np.array(season.leaves)[rng.integers(0, len(season.leaves), len(at))]
    tint = np.where(evergreen[:, None], np.array(season.conifer), leaf) * rng.uniform(0.85, 1.1, (len(at), 1)) * 1.15
    shape = shapes.broad_tree(textures, rng, sides=5)
    shape.parts = shape.parts[:1]  # no trunk under a canopy
    shape.place(builder, scaled(T, np.stack([wide, wide, tall], axis=-1)), np.clip(tint, 0, 255))
    return T[:, :2, 3], wide * 1.15, T[:, 2, 3] + 2.4 * tall
