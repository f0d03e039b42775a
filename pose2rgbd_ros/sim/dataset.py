"""`pose2rgbd sim dataset`: a flight over the city as a dataset with exact poses and depth; one machine writes the same bytes."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from pose2rgbd_ros import settings
from pose2rgbd_ros.dataset.frames import RawImages
from pose2rgbd_ros.dataset.meta import DatasetMeta, DepthMeta, software
from pose2rgbd_ros.errors import counted
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.settings import setting
from pose2rgbd_ros.sim import state
from pose2rgbd_ros.sim.city.city import City, CityConfig
from pose2rgbd_ros.sim.dataset_folder import SimFolder, check_folder
from pose2rgbd_ros.sim.dataset_frames import Recipe, Shot, SimDepthFormat, cores, take_all
from pose2rgbd_ros.sim.flights import FlightConfig, make_flight
from pose2rgbd_ros.sim.flights.config import resolve
from pose2rgbd_ros.sim.gl.context import require_opengl

logger = logging.getLogger(__name__)


@dataclass
class SimDatasetConfig:
    """What `pose2rgbd sim dataset` makes; by default as many frames as the paper's synthetic dataset has."""

    frames: int = setting(11085, "frames, at equal steps of time along the whole flight", ge=1, le=10_000_000)
    size: int = setting(512, "width and height of the images in pixels", ge=16, le=4096)
    fov_deg: float = setting(60.0, "field of view in degrees, across and down", ge=10.0, le=150.0)
    supersample: int = setting(2, "colour samples along each side of a pixel", ge=1, le=4)
    image: RawImages = setting("jpeg", "colour files: jpeg (quality 95, 4:4:4) or png")
    depth: SimDepthFormat = setting(
        "cm", "depth files: 16 bit counts of cm (up to 655 m) or mm (up to 65 m), or float"
    )
    processes: int = setting(
        0, "processes that render, 0: one per core; the files are the same", ge=0, le=1024
    )
    resume: bool = setting(False, "complete a dataset that was interrupted")
    city: CityConfig = field(default_factory=CityConfig)
    flight: FlightConfig = field(default_factory=FlightConfig)

    def recipe(self) -> Recipe:
        """How each frame is made."""
        camera = Camera.from_fov(self.size, self.size, self.fov_deg)
        return Recipe(self.city, camera, self.supersample, self.image, self.depth)

    def provenance(self) -> dict[str, Any]:
        """What decides the files, for sim.yaml."""
        values = settings.to_yaml_dict(replace(self, flight=resolve(self.flight)))
        for name in ("processes", "resume"):
            del values[name]
        return {"software": software(), **values}


@dataclass(frozen=True)
class Made:
    """What was done: frames in all, and those that this run rendered."""

    path: Path
    frames: int
    rendered: int

    def summary(self) -> str:
        """In one line."""
        before = self.frames - self.rendered
        return f"{self.path}: {counted(self.frames, 'frame')}" + (
            f", {before} of them from before" if before else ""
        )


def write_sim_dataset(out: Path, config: SimDatasetConfig) -> Made:
    """Fly, and write the dataset `out`; with `config.resume` complete one that was interrupted.

    Whatever ends it (Ctrl-C, kill -9, a full disk), the frames so far are a dataset, and resuming gives the very files
    that an uninterrupted run would have given.

    Raises:
        UserError: settings out of bounds, a flight below the roofs, a folder that holds something else or a dataset of
            other settings, another process at work in it, no OpenGL, a full disk, a rendering process that was killed.
    """
    settings.check(config)
    check_folder(out, config.provenance(), config.resume)
    require_opengl()
    city = City(config.city)
    flight = make_flight(config.flight, city)
    t_s = np.arange(config.frames) * (flight.duration_s / config.frames)
    poses = flight.T_map_cam(t_s)
    shots = [Shot(state.true_stamp_ns(t), float(t), T) for t, T in zip(t_s, poses, strict=True)]
    movers = bool(city.scene.movers)
    del city  # the processes that render build their own
    with SimFolder(out, _meta(config), config.provenance(), config.resume, movers) as folder:
        folder.begin_source(f"{flight.name} flight over the simulated city")
        missing = [shot for shot in shots if not folder.holds(shot)]
        try:
            _fill(folder, config, missing, len(shots))
        except KeyboardInterrupt:
            logger.info("the frames so far are a dataset; the same command with --resume completes it")
            raise
        folder.write_split([shot.stamp_ns for shot in shots], flight.split(t_s).tolist())
    return Made(out, len(shots), len(missing))


def _fill(folder: SimFolder, config: SimDatasetConfig, missing: list[Shot], total: int) -> None:
    """Render the missing frames and store them in order."""
    progress = tqdm(
        total=total, initial=total - len(missing), desc="rendering", unit="frame", mininterval=1.0
    )
    taken = take_all(config.recipe(), missing, config.processes or cores())
    with progress, contextlib.closing(taken):
        for shot, frame in zip(missing, taken, strict=True):
            folder.add(shot, frame)
            progress.update()


def _meta(config: SimDatasetConfig) -> DatasetMeta:
    unit_m = {"cm": 0.01, "mm": 0.001, "float": None}[config.depth]
    return DatasetMeta(
        camera=config.recipe().camera,
        map_frame=state.MAP,
        camera_frame=state.CAMERA,
        depth=DepthMeta("metric", "float" if unit_m is None else "counts", unit_m),
        datum=state.DATUM,
        simulation=config.provenance(),
    )
