"""Tiny recordings of a camera that flies along x and turns about z, to be spoiled by the tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.bags.messages import MessageFactory, StampedTransform
from pose2rgbd_ros.bags.writer import BagWriter
from pose2rgbd_ros.geometry import se3

T0 = 1_700_000_000_000_000_000
MS = 1_000_000
K = np.array([[40.0, 0, 15.5], [0, 40.0, 11.5], [0, 0, 1]])
IMAGE, DEPTH, INFO, ODOM = "/camera/image", "/camera/depth", "/camera/camera_info", "/odom"

Entry = tuple[int, str, Any]  # receive stamp, topic, message


@dataclass
class Flight:
    """What is recorded: `frames` images at 10 Hz among odometry at 20 Hz, by the clock `start_ns`.

    `spoil` may change, drop or add messages before they are written.
    """

    frames: int = 8
    start_ns: int = T0
    jpeg: bool = True
    depth: str | None = "16UC1"
    calibrated: bool = True
    odometry: bool = True
    static_tf: bool = True
    size: tuple[int, int] = (32, 24)
    spoil: Callable[[MessageFactory, list[Entry]], list[Entry]] = field(default=lambda make, entries: entries)

    def image_stamps_ns(self) -> list[int]:
        """Between two odometry messages each, so that poses must be interpolated."""
        return [self.start_ns + (100 * i + 20) * MS for i in range(self.frames)]

    def body_pose(self, stamp_ns: int) -> tuple[np.ndarray, np.ndarray]:
        """Position and quaternion: 2 m/s along x, 0.5 rad/s about z, both linear between messages."""
        t = (stamp_ns - self.start_ns) / 1e9
        return np.array([2 * t, 1.0, 10.0]), Rotation.from_euler("z", 0.5 * t).as_quat()

    def T_map_cam(self, stamp_ns: int) -> np.ndarray:
        """The pose a dataset must hold: a camera 10 cm ahead of the body, looking down."""
        return se3.make(*self.body_pose(stamp_ns)) @ T_BODY_CAM

    def rgb(self, i: int) -> np.ndarray:
        """The i-th image: a ramp that moves."""
        width, height = self.size
        ramp = (np.arange(width)[None, :] * 5 + np.arange(height)[:, None] * 3 + 10 * i) % 200
        return np.stack([ramp, ramp // 2, 255 - ramp], axis=-1).astype(np.uint8)

    def image_bytes(self, i: int) -> bytes:
        """The i-th image as JPEG."""
        return cv2.imencode(".jpg", self.rgb(i)[..., ::-1])[1].tobytes()

    def depth_counts(self, i: int) -> np.ndarray:
        """The i-th depth image in millimetres, with a hole."""
        width, height = self.size
        counts = (9000 + 10 * i + np.arange(width * height).reshape(height, width)).astype(np.uint16)
        counts[3, 4] = 0
        return counts

    def entries(self, make: MessageFactory) -> list[Entry]:
        """All messages as received: images 5 ms, depth 8 ms after their stamp."""
        found: list[Entry] = []
        if self.static_tf:
            mount = StampedTransform(0, "base_link", "camera_optical", *se3.split(T_BODY_CAM))
            found.append((self.start_ns, "/tf_static", make.tf_message([mount])))
        if self.odometry:
            for i in range(2 * self.frames + 1):
                stamp = self.start_ns + 50 * i * MS
                pose = self.body_pose(stamp)
                found.append((stamp, ODOM, make.odometry(stamp, "map", "base_link", *pose)))
        for i, stamp in enumerate(self.image_stamps_ns()):
            found += self._frame(make, i, stamp)
        return sorted(self.spoil(make, found), key=lambda entry: entry[0])

    def _frame(self, make: MessageFactory, i: int, stamp: int) -> list[Entry]:
        frame = "camera_optical"
        if self.jpeg:
            image = (IMAGE + "/compressed", make.compressed_image(stamp, frame, self.image_bytes(i)))
        else:
            image = (IMAGE, make.image(stamp, frame, self.rgb(i), "rgb8"))
        found: list[Entry] = [(stamp + 5 * MS, *image)]
        if self.depth == "16UC1":
            found.append((stamp + 8 * MS, DEPTH, make.image(stamp, frame, self.depth_counts(i), "16UC1")))
        elif self.depth == "32FC1":
            metres = (self.depth_counts(i) / 1000).astype(np.float32)
            found.append((stamp + 8 * MS, DEPTH, make.image(stamp, frame, metres, "32FC1")))
        info = make.camera_info(stamp, frame, *self.size, K if self.calibrated else np.zeros((3, 3)))
        found.append((stamp + 5 * MS, INFO, info))
        return found

    def write(self, path: Path, **options: Any) -> Path:
        """Write the recording; `options` are those of BagWriter."""
        with BagWriter(path, **options) as bag:
            for received_ns, topic, message in self.entries(bag.make):
                bag.write(topic, message, received_ns)
        return path


# 10 cm ahead, looking down, the top of the image to the front.
T_BODY_CAM = np.array([[0, -1, 0, 0.1], [-1, 0, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1.0]])


@pytest.fixture
def flight() -> type[Flight]:
    """The recording's description, to be filled in by the test."""
    return Flight


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 kB; skipped where one may not be mounted."""
    import os
    import subprocess

    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
