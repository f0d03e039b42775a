"""Reading a dataset: frames in time order, images one by one."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from pose2rgbd_ros.dataset import layout, splits
from pose2rgbd_ros.dataset.depth_files import read_depth, read_image
from pose2rgbd_ros.dataset.meta import DatasetMeta, read_meta
from pose2rgbd_ros.dataset.records import Record, read_associations, read_pose_lines
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float32, Float64, Int64, UInt8
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.depth import DepthKind


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
            raise UserError(
                f"{self.path}: {counted(len(missing), 'image file')} missing, the first: {missing[0]}"
            )

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
