"""`pose2rgbd sim dataset`: a flight over the city as a dataset with exact poses and depth; one machine writes the
same bytes.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import cv2
import numpy as np
import yaml
from tqdm import tqdm

from pose2rgbd_ros import settings
from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.encode import DepthEncoder, EncodedFrame, RawImages, encode_image
from pose2rgbd_ros.dataset.layout import write_split
from pose2rgbd_ros.dataset.meta import DatasetMeta, DepthMeta, software
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.settings import setting
from pose2rgbd_ros.sim import state
from pose2rgbd_ros.sim.city.city import City
from pose2rgbd_ros.sim.city.config import CityConfig
from pose2rgbd_ros.sim.flights.config import FlightConfig, resolve
from pose2rgbd_ros.sim.flights.make import make_flight
from pose2rgbd_ros.sim.gl.renderer import SceneRenderer, View, require_opengl

# Frames of a synthetic dataset, rendered and encoded, by one process or several: the same bytes either way.


SimDepthFormat = Literal["cm", "mm", "float"]
AHEAD = 3  # frames under way per process: enough to keep it busy, few enough to hold in memory


@dataclass(frozen=True)
class Recipe:
    """All that decides what a frame's files hold, but for where and when it is taken."""

    city: CityConfig
    camera: Camera
    supersample: int
    image: RawImages
    depth: SimDepthFormat


@dataclass(frozen=True, eq=False)
class Shot:
    """One frame to take: its stamp, its time into the flight and the pose (4, 4) of the optical frame."""

    stamp_ns: int
    t_s: float
    T_map_cam: Float64


@dataclass(frozen=True)
class Taken:
    """A frame's files.

    `labels`: PNG of what moves, None in a city where nothing does. `mover_free`: the same view without the movers,
    None where that is the frame itself.
    """

    frame: EncodedFrame
    labels: bytes | None = None
    mover_free: EncodedFrame | None = None


class Studio:
    """The city of a recipe and a renderer of it. Belongs to the thread that made it, as its OpenGL context does."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        scene = City(recipe.city).scene
        self._has_movers = bool(scene.movers)
        self._renderer = SceneRenderer(scene, recipe.camera, recipe.supersample)

    def take(self, shot: Shot) -> Taken:
        """Render and encode one frame."""
        view = self._renderer.render(shot.T_map_cam, shot.t_s)
        frame = self._encode(view)
        if not self._has_movers:
            return Taken(frame)
        labels = _png(view.labels)
        if not view.labels.any():
            return Taken(frame, labels)
        return Taken(frame, labels, self._encode(self._renderer.render(shot.T_map_cam, shot.t_s, movers=False)))

    def close(self) -> None:
        """Let go of the OpenGL context."""
        self._renderer.close()

    def _encode(self, view: View) -> EncodedFrame:
        recipe = self._recipe
        depth = DepthEncoder(DepthMeta(), recipe.depth).encode(view.depth_m)
        return EncodedFrame(encode_image(view.rgb, recipe.camera, recipe.image), depth)


def take_all(recipe: Recipe, shots: Sequence[Shot], processes: int) -> Generator[Taken, None, None]:
    """The frames of `shots` in order. Close the generator to stop early: it waits for the frames under way.

    UserError: no OpenGL here, or a process was ended from outside.
    """
    if not shots:
        return
    if processes == 1:
        studio = Studio(recipe)
        try:
            yield from map(studio.take, shots)
        finally:
            studio.close()
        return
    # An OpenGL context does not survive a fork, so the processes start afresh.
    pool = ProcessPoolExecutor(
        min(processes, len(shots)), multiprocessing.get_context("spawn"), initializer=_begin_process
    )
    try:
        under_way: deque[Future[Taken]] = deque()
        for shot in shots:
            under_way.append(pool.submit(_take, recipe, shot))
            if len(under_way) > AHEAD * processes:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    except BrokenProcessPool as error:
        raise UserError(
            "a rendering process was ended from outside (out of memory?); the frames so far are safe: "
            "continue with --resume, perhaps with fewer --processes"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _begin_process() -> None:
    """Leave Ctrl-C to the parent, and end with it, however it ends; Mesa's threads would be in each other's way."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("LP_NUM_THREADS", "1")
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()


# Made by the first frame rather than by the initializer, whose errors would not reach the parent.
_studio = functools.lru_cache(maxsize=1)(Studio)


def _take(recipe: Recipe, shot: Shot) -> Taken:
    return _studio(recipe).take(shot)


def _png(labels: np.ndarray) -> bytes:
    _, data = cv2.imencode(".png", labels, [cv2.IMWRITE_PNG_COMPRESSION, 6])
    return data.tobytes()


# The folder of a synthetic dataset: the frames, what they were made with, and what of them moves.


SETTINGS = "sim.yaml"
MOVERS = "movers"  # labels of what moves, one PNG a frame
MOVER_FREE = "mover_free"  # the same dataset without what moves


def check_folder(out: Path, values: dict[str, Any], resume: bool) -> None:
    """Look, before any work, whether a dataset of these settings can be put or completed there. Nothing is touched.

    UserError: it holds something else, frames without `resume`, or frames of other settings (the first one is named).
    """
    frames = layout.require_room(out, resume)
    if frames and not (out / SETTINGS).is_file():
        raise UserError(f"{out} holds a dataset that no simulator made (no {SETTINGS}); choose another folder")
    if resume and (out / SETTINGS).is_file():
        _check_same(settings.flat_dict(settings.read_yaml(out / SETTINGS)), settings.flat_dict(values), out)


class SimFolder:
    """Writes frames with their labels and their mover-free twins; one process at a time.

    A frame's line in the lists of the dataset itself is written last, so a frame that is there is there in full.
    """

    def __init__(self, out: Path, meta: DatasetMeta, values: dict[str, Any], resume: bool, movers: bool) -> None:
        """Open the folder for the frames described by `meta`, made with the settings `values`.

        `movers`: keep labels and twins. UserError as DatasetWriter.
        """
        self._out = out
        self._movers = movers
        with contextlib.ExitStack() as stack:
            self._frames = stack.enter_context(DatasetWriter(out, meta, resume))
            self._writers = [self._frames]
            text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
            self._frames.write_file(SETTINGS, text.encode())
            if movers:
                twin = DatasetWriter(out / MOVER_FREE, replace(meta, sources=[]), resume)
                self._writers.append(stack.enter_context(twin))
            self._stack = stack.pop_all()

    def begin_source(self, name: str) -> None:
        """As DatasetWriter.begin_source."""
        for writer in self._writers:
            writer.begin_source(name)

    def holds(self, shot: Shot) -> bool:
        """Whether this frame is there in full; then it is counted. UserError when it was taken from elsewhere."""
        if not all(shot.stamp_ns in writer for writer in self._writers):
            return False
        if self._movers and not layout.has_content(self._out / _labels(shot)):
            return False
        for writer in self._writers:
            self._require_same_pose(writer.seen(shot.stamp_ns, shot.T_map_cam), shot)
        return True

    def add(self, shot: Shot, taken: Taken) -> None:
        """Store a frame. UserError when the disk is full or failing; all earlier frames are safe."""
        if taken.labels is not None:
            self._frames.write_file(_labels(shot), taken.labels)
        for writer in reversed(self._writers):
            frame = taken.frame if writer is self._frames else taken.mover_free or taken.frame
            self._require_same_pose(writer.add(shot.stamp_ns, shot.T_map_cam, frame), shot)
        if self._movers and taken.mover_free is None:
            for name in _files(shot, taken.frame):
                _share(self._out / name, self._out / MOVER_FREE / name)

    def write_split(self, stamps_ns: Sequence[int], labels: Sequence[str]) -> None:
        """Say which frames are held out; nothing where none are, or all. UserError when the disk is full."""
        if not {"train", "test"} <= set(labels):
            return
        for writer in self._writers:
            with writer.disk():
                write_split(writer.path / layout.SPLIT, stamps_ns, labels)

    def __enter__(self) -> SimFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _require_same_pose(self, answer: str | None, shot: Shot) -> None:
        if answer == "collision":
            raise UserError(
                f"{self._out}: the frame {shot.stamp_ns} is there from another pose, so the flight is not the same "
                "(another file of waypoints?); choose another folder"
            )


def _labels(shot: Shot) -> str:
    return f"{MOVERS}/{shot.stamp_ns}.png"


def _files(shot: Shot, frame: EncodedFrame) -> list[str]:
    """Names of a frame's files in its dataset."""
    encoded = {layout.RGB: frame.image, layout.DEPTH["metric"]: frame.depth}
    return [f"{folder}/{shot.stamp_ns}{file[0]}" for folder, file in encoded.items() if file is not None]


def _share(path: Path, copy: Path) -> None:
    """Let `copy` be the very file `path`, which has the same contents; where links cannot be made, it stays a copy."""
    temporary = copy.with_name(f".{copy.name}.tmp")
    with contextlib.suppress(OSError):
        if not copy.samefile(path):  # else the renaming would do nothing, and leave the temporary name
            temporary.unlink(missing_ok=True)
            os.link(path, temporary)
            temporary.replace(copy)


def _check_same(stored: dict[str, Any], given: dict[str, Any], out: Path) -> None:
    for name in [*given, *(name for name in stored if name not in given)]:
        was, now = stored.get(name), given.get(name)
        if was != now:
            raise UserError(
                f"{out} was begun with {name} {was!r}, not {now!r}; resume with the same settings, or choose another "
                "folder"
            )


logger = logging.getLogger(__name__)


@dataclass
class SimDatasetConfig:
    """What `pose2rgbd sim dataset` makes; by default as many frames as the paper's synthetic dataset has."""

    frames: int = setting(11085, "frames, at equal steps of time along the whole flight", ge=1, le=10_000_000)
    size: int = setting(512, "width and height of the images in pixels", ge=16, le=4096)
    fov_deg: float = setting(60.0, "field of view in degrees, across and down", ge=10.0, le=150.0)
    supersample: int = setting(2, "colour samples along each side of a pixel", ge=1, le=4)
    image: RawImages = setting("jpeg", "colour files: jpeg (quality 95, 4:4:4) or png")
    depth: SimDepthFormat = setting("cm", "depth files: 16 bit counts of cm (up to 655 m) or mm (up to 65 m), or float")
    processes: int = setting(0, "processes that render, 0: one per core; the files are the same", ge=0, le=1024)
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
        return f"{self.path}: {counted(self.frames, 'frame')}" + (f", {before} of them from before" if before else "")


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
    progress = tqdm(total=total, initial=total - len(missing), desc="rendering", unit="frame", mininterval=1.0)
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
