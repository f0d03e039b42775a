"""Colour and depth files of an export: copied or linked as they are where that will do, else encoded anew."""

from __future__ import annotations

import os
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from pose2rgbd_ros.dataset.depth_files import encode_counts, encode_float
from pose2rgbd_ros.dataset.formats.layouts import Flight
from pose2rgbd_ros.dataset.frames import encode_image
from pose2rgbd_ros.geometry import depth as rules
from pose2rgbd_ros.geometry.arrays import Float32
from pose2rgbd_ros.geometry.camera import resample, resample_map

T = TypeVar("T")
_THREADS = min(8, os.cpu_count() or 1)


class FrameFiles:
    """Writes the files of single frames into `folder`; threads may share it.

    `depth_unit_m`: unit of the depth counts to write; None leaves depth files as they are.
    """

    def __init__(self, flight: Flight, folder: Path, depth_unit_m: float | None) -> None:
        self.too_far_pixels = 0
        self._flight = flight
        self._folder = folder
        self._unit_m = depth_unit_m
        self._lock = threading.Lock()
        camera = flight.dataset.camera
        self._undistorted = flight.camera != camera
        self._map = resample_map(camera, flight.camera) if self._undistorted else None
        self._depth_map: Float32 | None = None

    def write(self, job: tuple[int, str, str | None]) -> None:
        """The frame's index, the file for its colour, and the one for its depth (or None)."""
        i, image, depth = job
        self._colour(i, self._folder / image)
        if depth is not None:
            self._depth(i, self._folder / depth)

    def _colour(self, i: int, file: Path) -> None:
        dataset = self._flight.dataset
        source = dataset.path / dataset.records[i].rgb
        if self._map is not None:
            rgb = resample(dataset.rgb(i), self._map, nearest=False)
        elif source.suffix == file.suffix:
            self._put(source, file)
            return
        else:
            rgb = dataset.rgb(i)
        file.write_bytes(encode_image(rgb, self._flight.camera, "png")[1])

    def _depth(self, i: int, file: Path) -> None:
        dataset, meta = self._flight.dataset, self._flight.dataset.meta.depth
        source = dataset.path / str(dataset.records[i].depth)
        same_unit = meta is not None and (meta.unit_m == self._unit_m or meta.storage == "undecided")
        if not self._undistorted and source.suffix == file.suffix and (same_unit or file.suffix == ".tiff"):
            self._put(source, file)
            return
        depth = dataset.depth(i)
        if self._undistorted:
            depth = resample(depth, self._map_of_depth(depth), nearest=True, fill=np.nan)
        if file.suffix == ".tiff" or self._unit_m is None:
            file.write_bytes(encode_float(depth))
            return
        too_far = int((depth > (rules.MAX_COUNT + 0.5) * self._unit_m).sum())
        if too_far:
            with self._lock:
                self.too_far_pixels += too_far
        file.write_bytes(encode_counts(rules.to_counts(depth, self._unit_m)))

    def _map_of_depth(self, depth: Float32) -> Float32:
        with self._lock:
            if self._depth_map is None:
                height, width = depth.shape
                cameras = self._flight.dataset.camera, self._flight.camera
                self._depth_map = resample_map(*(camera.resized(width, height) for camera in cameras))
            return self._depth_map

    def _put(self, source: Path, file: Path) -> None:
        if self._flight.config.link:
            try:
                os.link(source.resolve(), file)
                return
            except OSError:  # another file system, or one without links
                pass
        shutil.copyfile(source, file)


def in_parallel(job: Callable[[T], None], items: Sequence[T]) -> Iterator[None]:
    """Run `job` on each item in a few threads (encoders leave Python's lock), and yield as they are done, in order.

    The first error stops it.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        waiting: deque[Future[None]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(job, item))
                if len(waiting) > 4 * _THREADS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
