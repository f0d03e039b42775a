"""The city: everything of one seed, put together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pose2rgbd_ros import settings
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.sim.city.builder import MeshBuilder
from pose2rgbd_ros.sim.city.buildings import Built, raise_buildings
from pose2rgbd_ros.sim.city.config import TEXTURES, CityConfig, stream
from pose2rgbd_ros.sim.city.layout import make_layout
from pose2rgbd_ros.sim.city.paint_surfaces import paint_surfaces
from pose2rgbd_ros.sim.city.paint_walls import paint_walls
from pose2rgbd_ros.sim.city.plots import make_plan
from pose2rgbd_ros.sim.city.seasons import SEASONS, light
from pose2rgbd_ros.sim.city.solids import Solids
from pose2rgbd_ros.sim.city.streets import Street, Surface, streets
from pose2rgbd_ros.sim.city.terrain import Ground, Relief
from pose2rgbd_ros.sim.city.textures import TextureArray
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
        season = SEASONS[config.season]
        textures = TextureArray()
        rng = stream(config.seed, TEXTURES)
        paint_walls(textures, rng)
        paint_surfaces(textures, rng, season)
        self._layout = make_layout(config)
        self._ground = Ground(self._layout, Relief(config))
        chunks, land = MeshBuilder(), MeshBuilder()
        Surface(self._ground, textures, config.seed).lay(chunks, land)
        plan = make_plan(config, self._layout)
        built = Built(plan.buildings, self._ground)
        solids = Solids(chunks, self._layout.warp)
        raise_buildings(built, solids, textures, config.seed)
        self.streets: list[Street] = streets(self._layout, self._ground)
        self._built = built
        ground_rgb = np.full((2048, 2048, 3), season.grass, np.uint8)
        self.scene = Scene(chunks.chunks(CHUNK_M), land.mesh(), ground_rgb, textures.array(), light(config))

    @property
    def bounds_m(self) -> tuple[Float64, Float64]:
        half = self.config.extent_m / 2
        return np.array([-half, -half]), np.array([half, half])

    def ground_height_m(self, xy_m: npt.ArrayLike) -> Float64:
        """Height (N,) of the ground, kerbs and pavements included, at points (N, 2) of the map."""
        return self._ground.height_m(np.asarray(xy_m, float))

    def surface_height_m(self, xy_m: npt.ArrayLike) -> Float64:
        """A height (N,) at points (N, 2) that nothing static rises above."""
        xy_m = np.asarray(xy_m, float)
        return self._ground.height_m(xy_m) + self.config.max_height_m + 3.0
