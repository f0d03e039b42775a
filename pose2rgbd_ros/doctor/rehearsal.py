"""A conversion that writes nothing: frames are taken and refused as a dataset does, and a sample of them is encoded."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pose2rgbd_ros.convert.settings import ConvertConfig
from pose2rgbd_ros.dataset.encode import BadFrame, DepthEncoder, check_depth, checked_pose, checked_stamp, encode_image
from pose2rgbd_ros.dataset.filters import FrameFilter
from pose2rgbd_ros.dataset.ingest import DUPLICATE_STAMP, WRITTEN, Depth, Outcome
from pose2rgbd_ros.dataset.meta import DatasetMeta
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.doctor.pictures import is_sampled
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64, Int64
from pose2rgbd_ros.streams.samples import DepthSample, ImageSample

ENCODED = 16  # frames that are encoded, for their size and the time it takes


class Rehearsal:
    """A `FrameSink` without a folder. `stamps_ns` and `T_map_cam` are those of the frames there would be."""

    out = Path()
    writer: DatasetWriter | None = None

    def __init__(
        self,
        config: ConvertConfig,
        expected: int,
        watch: Callable[[int, ImageSample], None] = lambda index, image: None,
    ) -> None:
        """`expected`: how many images there are, about. `watch` is called with number and image of every frame."""
        self.meta: DatasetMeta | None = None
        self._config, self._expected, self._watch = config, expected, watch
        self._filter: FrameFilter | None = None
        self._depth: DepthEncoder | None = None
        self._depth_size: tuple[int, int] | None = None
        self._poses: dict[int, Float64] = {}
        self._offered = 0
        self._bytes: list[int] = []
        self._encode_s: list[float] = []

    def begin(
        self, meta: DatasetMeta, source: Path | str, frame_filter: FrameFilter, recorded_from_ns: int | None = None
    ) -> None:
        """As `FrameIngest.begin`."""
        self.meta, self._filter = meta, frame_filter
        if meta.depth is not None:
            self._depth = DepthEncoder(meta.depth, self._config.depth_format)

    def offer(self, stamp_ns: int, T_map_cam: Any, image: ImageSample, depth: Depth = None) -> list[Outcome]:
        """What would become of the frame."""
        assert self.meta is not None
        assert self._filter is not None
        index, self._offered = self._offered, self._offered + 1
        if self._watch is not None:
            self._watch(index, image)
        try:
            T, stamp = checked_pose(T_map_cam), checked_stamp(stamp_ns)
            if refused := self._filter.reason(stamp, T, image):
                return [Outcome(stamp, *refused)]
            if stamp in self._poses:
                return [Outcome(stamp, DUPLICATE_STAMP, "another frame of this stamp is there")]
            if is_sampled(index, self._expected, ENCODED) or self._is_other(image):
                self._encode(image, depth)
        except BadFrame as error:
            return [Outcome(int(stamp_ns), error.reason, str(error))]
        self._poses[stamp] = T
        return [Outcome(stamp, WRITTEN)]

    def settled(self, wait: bool = False) -> list[Outcome]:
        """Nothing is under way."""
        return []

    def _is_other(self, image: ImageSample) -> bool:
        camera = self.meta.camera if self.meta else None
        return camera is not None and (image.width, image.height) != (camera.width, camera.height)

    def _encode(self, image: ImageSample, depth: Depth) -> None:
        """Make the frame's files, as far as there is something to learn. BadFrame as a dataset refuses it."""
        assert self.meta is not None
        begun = time.perf_counter()
        _, data = encode_image(image, self.meta.camera, self._config.raw_images, self._config.jpeg_quality)
        size = len(data)
        if depth is not None and self._depth is not None:
            sample = _decoded(depth)
            self._depth_size = check_depth(sample, self.meta.camera, self._depth_size)
            size += len(self._depth.encode(sample)[1])
        self._encode_s.append(time.perf_counter() - begun)
        self._bytes.append(size)

    @property
    def stamps_ns(self) -> Int64:
        """Of the frames (N,), sorted."""
        return np.array(sorted(self._poses), dtype=np.int64)

    @property
    def T_map_cam(self) -> Float64:
        """(N, 4, 4)."""
        return np.array([self._poses[stamp] for stamp in sorted(self._poses)]).reshape(-1, 4, 4)

    @property
    def frame_bytes(self) -> float:
        """Of a frame on disk, on average."""
        return float(np.mean(self._bytes)) if self._bytes else 0.0

    @property
    def encode_s(self) -> float:
        """What encoding all frames takes, with all cores."""
        cores = self._config.jobs or len(os.sched_getaffinity(0))
        return float(np.median(self._encode_s)) * len(self._poses) / cores if self._encode_s else 0.0


def _decoded(depth: DepthSample | Any) -> DepthSample:
    try:
        return depth() if callable(depth) else depth
    except BadFrame:
        raise
    except UserError as error:
        raise BadFrame("depth_unreadable", str(error)) from error
