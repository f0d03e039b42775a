"""Trees: rows along avenues, groves in parks and gardens, woods in the country."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pose2rgbd_ros.geometry.arrays import Float64, Int64
from pose2rgbd_ros.sim.city import shapes
from pose2rgbd_ros.sim.city.builder import MeshBuilder, TextureArray
from pose2rgbd_ros.sim.city.config import CROWNS, SEASON_COLOURS, TREES, WOODS, CityConfig, stream
from pose2rgbd_ros.sim.city.extras import Clearance, poses_on, scaled, spread
from pose2rgbd_ros.sim.city.ground import GRASS, PAVED, GroundPicture
from pose2rgbd_ros.sim.city.layout import AVENUE, Layout
from pose2rgbd_ros.sim.city.plots import Plan
from pose2rgbd_ros.sim.city.terrain import Ground

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
