"""Recordings to play: a dataset folder or a rosbag, as the camera's poses over time and a stream of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from pose2rgbd_ros.bags import decode
from pose2rgbd_ros.bags.reader import open_bag
from pose2rgbd_ros.bags.topics import NONE, RequestedTopics, choose_topics
from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.importers.bag_track import FirstPass, TrackOptions
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.depth import DepthKind
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.streams.pose_settings import PoseSettings

PAUSE_NS = 5_000_000_000  # longer silences between poses are not played


@dataclass(frozen=True)
class Event:
    """An image ("rgb": uint8 (H, W, 3), "depth": float32 (H, W)) to be published when `stamp_ns` comes."""

    stamp_ns: int
    kind: str
    load: Callable[[], np.ndarray]


class Recording(Protocol):
    """What the player needs. `spans_ns` are the stretches (first, last) with poses, in time order."""

    map_frame: str
    camera_frame: str
    camera: Camera | None
    depth_kind: DepthKind | None
    spans_ns: list[tuple[int, int]]

    def T_map_cam(self, stamp_ns: int) -> Float64 | None:
        """The pose at a time, None where there is none."""

    def events(self, first_ns: int, last_ns: int) -> Iterator[Event]:
        """The images between two times, in order."""


def open_recording(path: Path, requested: RequestedTopics, max_gap_s: float) -> Recording:
    """The recording at `path`. UserError when it is neither a dataset nor a rosbag, or is a bad one."""
    if (path / layout.META).exists():
        return DatasetRecording(path, max_gap_s)
    if not path.exists():
        raise UserError(f"{path} does not exist; give a dataset folder or a rosbag")
    return BagRecording(path, requested, max_gap_s)


class DatasetRecording:
    """Frames of a dataset folder, poses interpolated between them."""

    def __init__(self, path: Path, max_gap_s: float) -> None:
        self._dataset = dataset = Dataset(path)
        self._trajectory = Trajectory(dataset.stamps_ns, *se3.split(dataset.T_map_cam))
        self._gap_ns = int(max_gap_s * 1e9)
        self.map_frame, self.camera_frame = dataset.meta.map_frame, dataset.meta.camera_frame
        self.camera: Camera | None = dataset.camera
        self.depth_kind: DepthKind | None = dataset.depth_kind
        self.spans_ns = spans(dataset.stamps_ns)

    def T_map_cam(self, stamp_ns: int) -> Float64 | None:
        """The pose at a time, None in a gap."""
        at = self._trajectory.interpolate([stamp_ns], self._gap_ns)
        return at.T[0] if at.valid[0] else None

    def events(self, first_ns: int, last_ns: int) -> Iterator[Event]:
        """Colour, then depth, of each frame."""
        dataset = self._dataset
        for index, stamp_ns in enumerate(dataset.stamps_ns.tolist()):
            if first_ns <= stamp_ns <= last_ns:
                yield Event(stamp_ns, "rgb", partial(dataset.rgb, index))
                if dataset.has_depth:
                    yield Event(stamp_ns, "depth", partial(dataset.depth, index))


class BagRecording:
    """Images of a rosbag as they were received, at their own stamps; the camera's poses as the converter reads them."""

    def __init__(self, path: Path, requested: RequestedTopics, max_gap_s: float) -> None:
        self._path = path
        with open_bag(path) as reader:
            self._topics = choose_topics(reader, requested)
            options = TrackOptions(PoseSettings(max_pose_gap_s=max_gap_s))
            first_pass = FirstPass(reader, self._topics, options)
            self._track = first_pass.track(str(path))
        self.map_frame, self.camera_frame = self._track.map_frame, self._track.camera_frame
        self.camera = first_pass.camera
        self.depth_kind: DepthKind | None = "metric" if self._topics.depth not in (None, NONE) else None
        self.spans_ns = spans(self._track.body.stamps_ns)

    def T_map_cam(self, stamp_ns: int) -> Float64 | None:
        """The pose at a time, None in a gap."""
        T, missing = self._track.T_map_cam(stamp_ns)
        return None if missing else T

    def events(self, first_ns: int, last_ns: int) -> Iterator[Event]:
        """Images of the colour and depth topics in the order they were recorded."""
        topics = {self._topics.image: "rgb"}
        if self.depth_kind is not None and self._topics.depth is not None:
            topics[self._topics.depth] = "depth"
        with open_bag(self._path) as reader:
            for topic, received_ns, message in reader.messages(list(topics)):
                stamp_ns = decode.header_stamp_ns(message.header) or received_ns
                if first_ns <= stamp_ns <= last_ns:
                    yield Event(stamp_ns, topics[topic], _loader(message, stamp_ns, topics[topic]))


def spans(stamps_ns: np.ndarray) -> list[tuple[int, int]]:
    """First and last stamp of each stretch of (N,) sorted stamps without a long pause."""
    breaks = np.flatnonzero(np.diff(stamps_ns) > PAUSE_NS)
    first, last = np.r_[0, breaks + 1], np.r_[breaks, len(stamps_ns) - 1]
    return [(int(stamps_ns[i]), int(stamps_ns[j])) for i, j in zip(first, last, strict=True)]


def _loader(message: object, stamp_ns: int, kind: str) -> Callable[[], np.ndarray]:
    if kind == "rgb":
        return lambda: decode.image_sample(message, stamp_ns).rgb()
    return lambda: decode.depth_sample(message, stamp_ns).depth_m
