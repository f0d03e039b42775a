"""Small datasets whose every pixel can be computed again from the stamp."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pose2rgbd_ros.dataset.meta import DatasetMeta, DepthMeta
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.streams.samples import DepthSample

CAMERA = Camera(32, 24, 30.0, 31.0, 15.2, 12.1)
START_NS = 1_700_000_000_123_456_789
STEP_NS = 33_333_333


def stamp(index: int) -> int:
    return START_NS + index * STEP_NS


def pose(stamp_ns: int) -> np.ndarray:
    t = (stamp_ns - START_NS) / 1e9
    eye = np.array([10 * np.cos(t / 3), 10 * np.sin(t / 3), 5 + 0.1 * t])
    return se3.look_at(eye, np.array([0.0, 0.0, 1.0]))


def rgb(stamp_ns: int) -> np.ndarray:
    return np.random.default_rng(stamp_ns).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def counts(stamp_ns: int) -> np.ndarray:
    """Millimetres up to 9 m; the left column unknown."""
    values = np.random.default_rng(stamp_ns + 1).integers(500, 9000, (24, 32), dtype=np.uint16)
    values[:, 0] = 0
    return values


def depth_sample(stamp_ns: int) -> DepthSample:
    return DepthSample.from_counts(stamp_ns, "camera", counts(stamp_ns))


def meta(depth: str | None = "metric", **changes: object) -> DatasetMeta:
    return DatasetMeta(**{"camera": CAMERA, "depth": DepthMeta(depth) if depth else None, **changes})


@pytest.fixture
def toy() -> SimpleNamespace:
    """The functions above: camera, stamp(i), pose(ns), rgb(ns), counts(ns), depth_sample(ns), meta(...)."""
    return SimpleNamespace(
        camera=CAMERA, stamp=stamp, pose=pose, rgb=rgb, counts=counts, depth_sample=depth_sample, meta=meta
    )


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Path]:
    """make_dataset(n, depth="metric" | "relative" | None, name="set", first=0) -> its folder."""

    def make(n: int = 12, depth: str | None = "metric", name: str = "set", first: int = 0) -> Path:
        with DatasetWriter(tmp_path / name, meta(depth)) as writer:
            for t in map(stamp, range(first, first + n)):
                image_depth = counts(t) * np.float32(0.37) if depth == "relative" else depth_sample(t)
                assert writer.add(t, pose(t), rgb(t), image_depth if depth else None) == "written"
        return tmp_path / name

    return make


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 KiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)  # a failing test may hold files open
