"""The city: everything of one seed, put together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pose2rgbd_ros import settings
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.sim.city.buildings import CLUTTER_M, Built, Plan, furnish_roofs, make_plan, raise_buildings
from pose2rgbd_ros.sim.city.config import SEASON_COLOURS, TEXTURES, CityConfig, light, stream
from pose2rgbd_ros.sim.city.greenery import HEIGHT_M, REACH_M, Clearance, Skyline, grow, lamps, plant, woods
from pose2rgbd_ros.sim.city.ground import GroundPicture
from pose2rgbd_ros.sim.city.layout import Ground, Relief, make_layout
from pose2rgbd_ros.sim.city.shapes import MeshBuilder, Solids, TextureArray, corners, grown
from pose2rgbd_ros.sim.city.streets import Street, Surface, streets
from pose2rgbd_ros.sim.city.surfaces import paint_surfaces, paint_walls
from pose2rgbd_ros.sim.city.traffic import VAN_HEIGHT_M, all_ways, cars, park, people, set_down
from pose2rgbd_ros.sim.scene import Scene

CHUNK_M = 50.0

__all__ = ["City", "CityConfig", "Street"]


class City:
    """A city, the same for the same settings.

    Attributes:
        config: its settings.
        scene: what a renderer needs.
        streets: middles and widths of the streets.
        bounds_m: lower and upper corner of the built square; the outermost gardens may lie a little outside it.

    Raises:
        UserError: a setting is out of its bounds, or there are more cars or people than the streets hold.
    """

    def __init__(self, config: CityConfig = CityConfig()) -> None:  # noqa: B008  (frozen)
        settings.check(config)
        self.config = config
        season = SEASON_COLOURS[config.season]
        textures = TextureArray()
        rng = stream(config.seed, TEXTURES)
        paint_walls(textures, rng)
        paint_surfaces(textures, rng, season)
        layout = make_layout(config)
        self._ground = ground = Ground(layout, Relief(config))
        self._skyline = Skyline(ground)
        self.streets: list[Street] = streets(layout, ground)
        chunks, land = MeshBuilder(), MeshBuilder()
        Surface(ground, textures, config.seed, snow=season.snow > 0).lay(chunks, land)
        plan = make_plan(config, layout)
        picture = self._build(plan, chunks, textures)
        self._plant(plan, picture, chunks, textures)
        self._park(plan, chunks, textures)
        self._light(chunks)
        movers = (*cars(config, layout, ground, textures), *people(config, layout, ground, textures))
        self.scene = Scene(
            chunks.chunks(CHUNK_M),
            land.mesh(),
            picture.rgb(),
            textures.array(),
            light(config),
            movers,
            all_ways(movers),
        )

    def _build(self, plan: Plan, chunks: MeshBuilder, textures: TextureArray) -> GroundPicture:
        """Raise the buildings, and draw the land around them."""
        self._built = built = Built(plan.buildings, self._ground)
        warp = self._ground.layout.warp
        solids = Solids(chunks, warp)
        raise_buildings(built, solids, textures, self.config.seed, SEASON_COLOURS[self.config.season].snow)
        furnish_roofs(built, solids, textures, self.config.seed)
        self._skyline.add(warp.to_map(corners(grown(built.rects, 0.5))), built.top_m + CLUTTER_M)
        return GroundPicture(self.config, plan, built.rects)

    def _plant(self, plan: Plan, picture: GroundPicture, chunks: MeshBuilder, textures: TextureArray) -> None:
        """Trees in and around the city, woods far out."""
        config, ground = self.config, self._ground
        clear = Clearance(self._built.rects, ground.layout.half_m)
        trees = plant(config, ground.layout, ground, plan, picture, clear)
        grow(trees, ground, chunks, textures, config)
        top = ground.plan_height_m(trees.plan) + 1.05 * trees.height_m
        self._skyline.add_discs(ground.layout.warp.to_map(trees.plan), 1.15 * trees.radius_m, top)
        self._skyline.add_discs(*woods(ground, chunks, textures, config))

    def _light(self, chunks: MeshBuilder) -> None:
        foot = lamps(self._ground.layout, self._ground, chunks)
        self._skyline.add_discs(foot[:, :2], np.full(len(foot), REACH_M), foot[:, 2] + HEIGHT_M + 0.2)

    def _park(self, plan: Plan, chunks: MeshBuilder, textures: TextureArray) -> None:
        parked = park(self.config, self._ground.layout, self._ground, plan)
        set_down(parked, chunks, textures)
        at = parked.T[:, :3, 3]
        self._skyline.add_discs(at[:, :2], np.full(len(at), 2.75), at[:, 2] + VAN_HEIGHT_M + 0.2)

    @property
    def bounds_m(self) -> tuple[Float64, Float64]:
        half = self.config.extent_m / 2
        return np.array([-half, -half]), np.array([half, half])

    def ground_height_m(self, xy_m: npt.ArrayLike) -> Float64:
        """Height (N,) of the ground, kerbs and pavements included, at points (N, 2) of the map."""
        return self._ground.height_m(np.asarray(xy_m, float))

    def surface_height_m(self, xy_m: npt.ArrayLike) -> Float64:
        """A height (N,) at points (N, 2) that nothing static rises above."""
        return self._skyline.height_m(np.asarray(xy_m, float))
