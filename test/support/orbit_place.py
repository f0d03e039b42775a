"""A flight over a block world, and networks that learnt it in seconds: one that finds poses, one that renders them."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
from support.blockworld import BlockWorld
from support.orbit_flight import OrbitFlight

from pose2rgbd_ros.dataset.meta import DatasetMeta, DepthMeta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.posegan.config import PoseGANSettings
from pose2rgbd_ros.training.families import train_config
from pose2rgbd_ros.training.trainer import train

CAMERA = Camera.from_fov(36, 36, 90.0)
SHARP = Camera.from_fov(48, 48, 90.0)
WORLD = BlockWorld(seed=1)
FLIGHT = OrbitFlight(seed=1, loops=0.5)


class OrbitPlace:
    """model: run of a PoseNet that errs by 3 m in the median. T: views from between its frames, (N, 4, 4)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        times_s = np.linspace(0.0, 90.0, 120)
        self.dataset = Dataset(self._fly("flight", times_s, CAMERA))
        config = train_config(model="posenet", size=32, epochs=60, keep="last", posegan=PoseGANSettings(width=0.25))
        train(folder / "flight", folder / "run", config)
        self.model = folder / "run"
        self.T = FLIGHT.T_map_cam(times_s[8:-8:4] + 0.38)

    @cached_property
    def relief(self) -> Path:
        """Run of a renderer of the place."""
        data = self._fly("flight_rgbd", np.linspace(0.0, 90.0, 60), SHARP, DepthMeta(kind="metric"))
        config = train_config(model="relief", size=48, epochs=6, tensorboard=False)
        train(data, self._folder / "relief", config)
        return self._folder / "relief"

    @staticmethod
    def view(T_map_cam: np.ndarray, camera: Camera = CAMERA) -> np.ndarray:
        """The image (H, W, 3) from a pose (4, 4)."""
        return WORLD.render(T_map_cam, camera, max_depth_m=45.0)[0]

    def _fly(self, name: str, times_s: np.ndarray, camera: Camera, depth: DepthMeta | None = None) -> Path:
        with DatasetWriter(self._folder / name, DatasetMeta(camera=camera, depth=depth)) as writer:
            for index, T in enumerate(FLIGHT.T_map_cam(times_s)):
                rgb, depth_m = WORLD.render(T, camera, max_depth_m=45.0)
                writer.add((index + 1) * 250_000_000, T, rgb, None if depth is None else depth_m)
        return self._folder / name
