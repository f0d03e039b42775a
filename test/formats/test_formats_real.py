"""The real RGB-D and driving sequences, imported and exported again."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.formats.exporting import export_dataset
from pose2rgbd_ros.formats.importing import import_datasets
from pose2rgbd_ros.formats.settings import ExportConfig, ImportConfig


@pytest.fixture
def kitchen(real_data: Path, tmp_path: Path) -> Path:
    """The first five frames of the 7-Scenes sequence, beside its intrinsics."""
    source = real_data / "rgbd_7scenes_redkitchen"
    (tmp_path / "kitchen/seq-01").mkdir(parents=True)
    (tmp_path / "kitchen/camera-intrinsics.txt").symlink_to(source / "camera-intrinsics.txt")
    for i in range(0, 10, 2):
        for end in ("color.jpg", "depth.png", "pose.txt"):
            name = f"frame-{i:06d}.{end}"
            (tmp_path / "kitchen/seq-01" / name).symlink_to(source / "seq-01" / name)
    return tmp_path / "kitchen"


def test_kinect_sequence(kitchen: Path, tmp_path: Path) -> None:
    report = import_datasets([kitchen], tmp_path / "out")
    assert (report.frames_written, dict(report.rejects)) == (5, {})
    dataset = Dataset(tmp_path / "out")
    camera = dataset.camera
    assert (camera.fx, camera.fy, camera.cx, camera.cy, camera.width) == (585, 585, 320, 240, 640)
    assert dataset.meta.depth is not None
    assert dataset.meta.depth.unit_m == 0.001
    assert dataset.stamps_ns[-1] == round(8e9 / 30)
    for i, record in enumerate(dataset.records):
        base = kitchen / "seq-01" / f"frame-{2 * i:06d}"
        assert (dataset.path / record.rgb).read_bytes() == base.with_suffix(".color.jpg").read_bytes()
        original = cv2.imread(str(base.with_suffix(".depth.png")), cv2.IMREAD_UNCHANGED)
        original[original == 65535] = 0
        stored = cv2.imread(str(dataset.path / str(record.depth)), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(stored, original)
        np.testing.assert_allclose(dataset.T_map_cam[i], np.loadtxt(base.with_suffix(".pose.txt")), atol=5e-4)


@pytest.mark.parametrize("name", ["tum", "colmap", "7scenes"])
def test_kinect_sequence_there_and_back(kitchen: Path, tmp_path: Path, name: str) -> None:
    import_datasets([kitchen], tmp_path / "out")
    flight = Dataset(tmp_path / "out")
    export_dataset(flight.path, tmp_path / "there", ExportConfig(format=name, points=100))
    import_datasets([tmp_path / "there"], tmp_path / "back")
    back = Dataset(tmp_path / "back")
    np.testing.assert_allclose(back.T_map_cam, flight.T_map_cam, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(back.rgb(3), flight.rgb(3))
    if back.has_depth:
        np.testing.assert_allclose(back.depth(3), flight.depth(3), rtol=0, atol=1e-6)


def test_driving_sequence(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "kitti_sequence_1"
    report = import_datasets([source], tmp_path / "out")
    assert (report.frames_written, dict(report.rejects)) == (51, {})
    dataset = Dataset(tmp_path / "out")
    assert dataset.stamps_ns[1] == 100_000_000  # no times.txt; KITTI's ten a second
    assert (dataset.camera.fx, dataset.camera.cx, dataset.camera.cy) == (707.0912, 601.8873, 183.1104)
    first = sorted((source / "image_l").iterdir())[0]
    assert (dataset.path / dataset.records[0].rgb).read_bytes() == first.read_bytes()
    # The car drives where it looks: 60 m along x, with z up; turned back, the poses are the file's.
    np.testing.assert_allclose(dataset.T_map_cam[0][:3, 2], [1, 0, 0], atol=1e-6)
    assert 50 < dataset.T_map_cam[-1][0, 3] < 65
    import_datasets([source], tmp_path / "plain", ImportConfig(world="z-up"))
    poses = np.loadtxt(source / "poses.txt").reshape(-1, 3, 4)
    np.testing.assert_allclose(Dataset(tmp_path / "plain").T_map_cam[:, :3], poses, atol=1e-5)
