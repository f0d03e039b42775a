"""A small dataset with everything a format could carry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from pose2rgbd_ros.dataset.encode import encode_image
from pose2rgbd_ros.dataset.layout import write_split
from pose2rgbd_ros.dataset.meta import DatasetMeta, DepthMeta
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.streams.samples import DepthSample, ImageSample

CAMERA = Camera(24, 16, 20.5, 21.25, 11.3, 7.9)
START_NS, STEP_NS = 1_700_000_000_123_456_789, 33_333_333
LABELS = ["train", "train", "unused", "test", "test", "unused", "train", "train"]


def flight_poses(n: int) -> np.ndarray:
    """A turn round a tower, looking at it from above."""
    angle = 0.2 * np.arange(n)
    eyes = np.stack([1000 + 30 * np.cos(angle), -2000 + 30 * np.sin(angle), 50 + angle], axis=-1)
    return se3.look_at(eyes, np.array([1000.0, -2000.0, 10.0]))


@pytest.fixture
def make_flight(tmp_path: Path) -> Callable[..., Path]:
    """make_flight(name="flight", camera=..., poses=..., jpeg=False, depth="mm" | "float" | "relative" | None,
    split=...).
    """

    def make(
        name: str = "flight",
        camera: Camera = CAMERA,
        poses: np.ndarray | None = None,
        jpeg: bool = False,
        depth: str | None = "mm",
        split: Sequence[str] = (),
        n: int = 8,
        folder: Path | None = None,
    ) -> Path:
        path = (folder or tmp_path) / name
        poses = flight_poses(n) if poses is None else poses
        kind = DepthMeta("relative" if depth == "relative" else "metric") if depth else None
        stamps = [START_NS + i * STEP_NS for i in range(len(poses))]
        with DatasetWriter(path, DatasetMeta(camera=camera, depth=kind)) as writer:
            for i, stamp in enumerate(stamps):
                rng = np.random.default_rng(i)
                rgb = rng.integers(0, 256, (camera.height, camera.width, 3), dtype=np.uint8)
                counts = rng.integers(100, 13_000, rgb.shape[:2], dtype=np.uint16)
                counts[0, 0] = 0
                data = encode_image(rgb, camera, "jpeg" if jpeg else "png")[1]
                metres = (counts * np.float32(0.37)).astype(np.float32)
                values = DepthSample.from_counts(stamp, "", counts) if depth == "mm" else metres
                image = ImageSample.from_compressed(stamp, "", data)
                assert writer.add(stamp, poses[i], image, values if depth else None) == "written"
        if split:
            write_split(path / "split.txt", stamps, split)
        return path

    return make
