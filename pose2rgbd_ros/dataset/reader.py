"""Reading a dataset: frames in time order, images one by one."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from tqdm import tqdm

from pose2rgbd_ros.dataset import layout, splits
from pose2rgbd_ros.dataset.encode import read_depth, read_image
from pose2rgbd_ros.dataset.frame_maps import SealedFrames, Shapes, frame_maps, users_cache
from pose2rgbd_ros.dataset.layout import Record, read_associations, read_pose_lines
from pose2rgbd_ros.dataset.meta import DatasetMeta, read_meta
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import AnyArray, Bool, Float32, Float64, Int64, UInt8
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.depth import DepthKind, resize_depth, resize_nearest


class Dataset:
    """A dataset folder, also while it is being written: the frames finished by now.

    Attributes:
        meta: the facts of meta.yaml.
        records: the frames' files, in time order.
        stamps_ns: (N,) int64, strictly increasing.
        T_map_cam: (N, 4, 4) float64, pose of the camera's optical frame in the map.

    Raises:
        UserError: not a dataset, an empty or a damaged one; it names the file and line.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.meta: DatasetMeta = read_meta(self.path)
        self.records: list[Record] = sorted(read_associations(self.path), key=lambda record: record.stamp_ns)
        if not self.records:
            raise UserError(f"{self.path} holds no frames; convert a recording into it")
        self._check_files()
        self.stamps_ns: Int64 = np.array([record.stamp_ns for record in self.records], dtype=np.int64)
        self.T_map_cam: Float64 = self._poses()

    def __len__(self) -> int:
        return len(self.records)

    @property
    def camera(self) -> Camera:
        """The camera of the colour images as stored."""
        return self.meta.camera

    @property
    def has_depth(self) -> bool:
        """Whether every frame has a depth image."""
        return self.meta.depth is not None

    @property
    def depth_kind(self) -> DepthKind | None:
        """ "metric" or "relative"; None without depth."""
        return self.meta.depth.kind if self.meta.depth else None

    def rgb(self, index: int) -> UInt8:
        """RGB uint8 (H, W, 3) of a frame. UserError when its file is missing, damaged or of another size."""
        path = self.path / self.records[index].rgb
        image = read_image(path, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if image.shape[:2] != (self.camera.height, self.camera.width):
            raise UserError(
                f"{path} has {image.shape[1]} x {image.shape[0]} pixels; "
                f"the dataset's camera has {self.camera.width} x {self.camera.height}"
            )
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)

    def depth(self, index: int) -> Float32:
        """Depth float32 (H, W) of a frame, NaN unknown; metres when metric. UserError without depth, or damaged."""
        name = self.records[index].depth
        if self.meta.depth is None or name is None:
            raise UserError(f"{self.path} has no depth images; train on it with output 'rgb'")
        return read_depth(self.path / name, self.meta.depth)

    def segments(self) -> list[Int64]:
        """Frame indices of each recording, parted by pauses (see `splits.recordings`)."""
        runs = splits.recordings(self.stamps_ns)
        return [np.flatnonzero(runs == run) for run in range(int(runs[-1]) + 1)]

    def _check_files(self) -> None:
        present = {
            f"{name}/{path.name}"
            for name in (layout.RGB, *layout.DEPTH.values())
            if (self.path / name).is_dir()
            for path in (self.path / name).iterdir()
        }
        for record in self.records:
            if self.meta.depth is not None and record.depth is None:
                raise UserError(f"{self.path}: frame {record.stamp_ns} has no depth image; convert again")
        names = [name for record in self.records for name in (record.rgb, record.depth) if name]
        missing = [name for name in names if name not in present and not (self.path / name).is_file()]
        if missing:
            raise UserError(f"{self.path}: {counted(len(missing), 'image file')} missing, the first: {missing[0]}")

    def _poses(self) -> Float64:
        lines = read_pose_lines(self.path)
        missing = [record.stamp_ns for record in self.records if record.stamp_ns not in lines]
        if missing:
            raise UserError(
                f"{self.path / layout.GROUNDTRUTH} has no pose for {counted(len(missing), 'frame')}, the first at "
                f"{layout.stamp_text(missing[0])}; the stamps must agree to the nanosecond"
            )
        poses = np.array([layout.parse_pose(lines[record.stamp_ns]) for record in self.records])
        return se3.make(poses[:, :3], poses[:, 3:])


# All frames of a dataset at training resolution, as memory maps that may be deleted at any time.


Fit = Literal["square", "crop"]
FORMAT_VERSION = 1
RESIZED = 2  # how frames get their size: other caches are made anew
_QUIET_FRAMES = 200  # fewer are done before a progress bar could be read
_THREADS = 8
_RGB, _DEPTH = "rgb.u8", "depth.f32"


@dataclass(frozen=True, eq=False)
class FrameCache:
    """Frames in the dataset's order; read-only memory maps.

    Attributes:
        rgb: uint8 (N, S, S, 3).
        depth: float32 (N, S, S), NaN unknown, or None.
        camera: the camera of these images (no longer square pixels when fit is "square").
    """

    rgb: UInt8
    depth: Float32 | None
    camera: Camera

    def __len__(self) -> int:
        return len(self.rgb)

    def sealed(self, readable: Bool) -> FrameCache:
        """The same frames, of which only those that are `readable`, (N,), can be read."""
        depth: Any = None if self.depth is None else SealedFrames(self.depth, readable)
        rgb: Any = SealedFrames(self.rgb, readable)
        return replace(self, rgb=rgb, depth=depth)


def frame_cache(dataset: Dataset, size: int, fit: Fit = "square", margin: int = 0) -> FrameCache:
    """The cache of a dataset, built when missing, unfinished or of another state of the dataset.

    With a `margin` the frames are resized to ``size + 2 * margin``, and the middle of them is what the cache shows.

    Colour is averaged (INTER_AREA), depth is what the middle of a pixel shows (`resize_depth`). "square" resizes
    the whole image, so that fx and fy differ (the paper's way); "crop" takes the largest centred square first. It is
    kept in `.cache` inside the dataset, or in the user's cache folder where the dataset cannot be written. Several
    processes may call this at once: one builds, the others wait.

    Raises:
        UserError: a size below 1, an unknown fit, a damaged image, a full disk.
    """
    if size < 1:
        raise UserError(f"a training resolution of {size} pixels; choose at least 1")
    if margin:
        return centre(frame_cache(dataset, size + 2 * margin, fit), margin)
    window = _window(dataset.camera, fit)
    camera = dataset.camera.cropped(*window).resized(size, size)
    n = len(dataset)
    shapes: Shapes = {_RGB: (np.uint8, (n, size, size, 3))}
    if dataset.has_depth:
        shapes[_DEPTH] = (np.float32, (n, size, size))

    def fill(arrays: dict[str, Any]) -> None:
        _fill(dataset, size, window, arrays)

    maps = frame_maps(cache_root(dataset), f"{fit}-{size}", f"{state(dataset)}-{RESIZED}", shapes, fill)
    return FrameCache(maps[_RGB], maps.get(_DEPTH), camera)


def centre(cache: FrameCache, margin: int) -> FrameCache:
    """The same frames without `margin` pixels at each side; nothing is copied."""
    side = cache.camera.width - 2 * margin
    inner = (slice(None), slice(margin, margin + side), slice(margin, margin + side))
    depth = None if cache.depth is None else cache.depth[inner]
    return FrameCache(cache.rgb[inner], depth, cache.camera.cropped(margin, margin, side, side))


def _window(camera: Camera, fit: str) -> tuple[int, int, int, int]:
    """x0, y0, width, height of the part of the image that is kept."""
    if fit == "square":
        return 0, 0, camera.width, camera.height
    if fit == "crop":
        side = min(camera.width, camera.height)
        return (camera.width - side) // 2, (camera.height - side) // 2, side, side
    raise UserError(f"fit is {fit!r}; choose square (whole image) or crop (centre)")


def state(dataset: Dataset) -> str:
    """A short hash that changes when the frames, the camera or the meaning of the depth files change."""
    facts = {
        "format": FORMAT_VERSION,
        "camera": dataset.camera.to_dict(),
        "depth": dataset.meta.to_dict()["depth"],
        "frames": [
            (record.line(), *((dataset.path / name).stat().st_size for name in (record.rgb, record.depth) if name))
            for record in dataset.records
        ],
    }
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def cache_root(dataset: Dataset) -> Path:
    """The folder for what is made from a dataset: its own, or the user's where that cannot be written."""
    return dataset.path / layout.CACHE if os.access(dataset.path, os.W_OK) else users_cache(dataset.path)


def _fill(dataset: Dataset, size: int, window: tuple[int, int, int, int], arrays: dict[str, Any]) -> None:
    def fill(i: int) -> None:
        arrays[_RGB][i] = _resized_rgb(dataset.rgb(i), window, size)
        if _DEPTH in arrays:
            arrays[_DEPTH][i] = _resized_depth(dataset.depth(i), window, dataset.camera, size)

    n = len(dataset)
    pool = ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1))  # decoding and resizing run outside the GIL
    try:
        quiet = True if n < _QUIET_FRAMES else None  # None: quiet where there is no terminal
        for _ in tqdm(pool.map(fill, range(n)), "caching frames", n, unit="frame", disable=quiet, leave=False):
            pass
    finally:
        pool.shutdown(cancel_futures=True)


def _resized_rgb(image: UInt8, window: tuple[int, int, int, int], size: int) -> AnyArray:
    x0, y0, width, height = window
    # INTER_AREA averages when shrinking; enlarged it would repeat pixels in blocks.
    way = cv2.INTER_AREA if size <= min(width, height) else cv2.INTER_LINEAR
    return cv2.resize(image[y0 : y0 + height, x0 : x0 + width], (size, size), interpolation=way)


def _resized_depth(image: Float32, window: tuple[int, int, int, int], camera: Camera, size: int) -> AnyArray:
    if image.shape != (camera.height, camera.width):
        image = resize_nearest(image, camera.width, camera.height)
    x0, y0, width, height = window
    return resize_depth(image[y0 : y0 + height, x0 : x0 + width], size, size)
