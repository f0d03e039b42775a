"""Poses of odometry and TF, with measured depth: refined where they drift, kept where they are as good."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.dataset.meta import DatasetMeta, DepthMeta, PosesMeta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.se3 import umeyama

FRAMES = 16


def drifting(T_map_cam: Float64, scale: float = 1.03, deg: float = 0.25, sigma_m: float = 0.1) -> Float64:
    """Poses (N, 4, 4) as odometry has them: each step too long, turned a little more, off a little."""
    rng, found = np.random.default_rng(0), T_map_cam.copy()
    for i in range(1, len(found)):
        turn = Rotation.from_euler("z", deg * i, degrees=True).as_matrix()
        step = T_map_cam[i, :3, 3] - T_map_cam[i - 1, :3, 3]
        found[i, :3, 3] = found[i - 1, :3, 3] + scale * turn @ step + rng.normal(0, sigma_m, 3)
        found[i, :3, :3] = turn @ T_map_cam[i, :3, :3]
    return found


def write(truth: Dataset, folder: Path, T_map_cam: Float64, position: str = "pose") -> Path:
    """The flight with its depth, and these poses."""
    meta = DatasetMeta(camera=truth.camera, depth=DepthMeta(), poses=PosesMeta(position=position))
    with DatasetWriter(folder, meta) as writer:
        for i, T in enumerate(T_map_cam):
            writer.add(int(truth.stamps_ns[i]), T, truth.rgb(i), truth.depth(i))
    return folder


def errors(found: Float64, exact: Float64) -> tuple[float, float, float]:
    """Positions in metres and orientations in degrees (median) once the gauge is that of the truth; the scale."""
    scale, R, t = umeyama(found[:, :3, 3], exact[:, :3, 3])
    off = np.linalg.norm(scale * found[:, :3, 3] @ R.T + t - exact[:, :3, 3], axis=1)
    turn = Rotation.from_matrix(R @ found[:, :3, :3] @ exact[:, :3, :3].transpose(0, 2, 1)).magnitude()
    return float(np.median(off)), float(np.rad2deg(np.median(turn))), 1 / scale


def test_drift_goes_and_measured_depth_gives_the_size(
    truth: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exact = truth.T_map_cam[:FRAMES]
    folder = write(truth, tmp_path / "flight", drifting(exact))
    before = errors(Dataset(folder).T_map_cam, exact)
    # Several threads share out their random samples by chance: one run in twenty ends twice as far off.
    assert main(["align", str(folder), "--threads", "1"]) == 0
    said = capsys.readouterr().out
    assert "size by measured depth" in said
    found = Dataset(folder)
    assert len(found) == FRAMES
    position_m, turn_deg, scale = errors(found.T_map_cam, exact)
    assert before[0] > 0.2
    assert position_m < 0.15
    assert turn_deg < 0.2
    assert scale == pytest.approx(1.0, abs=0.01)
    assert found.has_depth


@pytest.mark.slow
def test_poses_that_are_as_good_stay(truth: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(truth, tmp_path / "flight", truth.T_map_cam[:FRAMES])
    assert main(["align", str(folder)]) == 2
    said = capsys.readouterr().err
    assert "is as before, its recorded poses are as good" in said
    assert np.array_equal(Dataset(folder).T_map_cam, truth.T_map_cam[:FRAMES])
    assert not (folder / "recorded").exists()
