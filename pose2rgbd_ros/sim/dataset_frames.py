"""Frames of a synthetic dataset, rendered and encoded, by one process or several: the same bytes either way."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from pose2rgbd_ros.dataset.depth_files import DepthEncoder
from pose2rgbd_ros.dataset.frames import EncodedFrame, RawImages, encode_image
from pose2rgbd_ros.dataset.meta import DepthMeta
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.sim.city.city import City, CityConfig
from pose2rgbd_ros.sim.gl.renderer import SceneRenderer, View

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
        return Taken(
            frame, labels, self._encode(self._renderer.render(shot.T_map_cam, shot.t_s, movers=False))
        )

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
    """Leave Ctrl-C to the parent, and end with it, however it ends; Mesa's threads would only be in each other's way."""
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
