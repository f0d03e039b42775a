"""Depth between the sparse points of structure from motion, and which of them a training may know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pose2rgbd_ros.dataset.meta import DatasetMeta, PosesMeta
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.depth_from_images.scene import SparseScene
from pose2rgbd_ros.depth_from_images.sparse_points import SparsePoints
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.relief.surface import surface_depth
from pose2rgbd_ros.sfm.align import POINTS
from pose2rgbd_ros.training.data import open_training_data
from pose2rgbd_ros.training.families import train_config

CAMERA = Camera.from_fov(64, 64, 60.0)
HEIGHT_M = 50.0


def track(count: int) -> Float64:
    """Cameras (N, 4, 4) in a line that look straight down on ground at z = 0."""
    eyes = np.stack([5.0 * np.arange(count), np.zeros(count), np.full(count, HEIGHT_M)], axis=-1)
    return se3.look_at(eyes, eyes - np.array([0.0, 0.0, 1.0]))


def ground(count: int, seed: int = 0) -> Float64:
    """Points (P, 3) that rise with x."""
    points = np.random.default_rng(seed).uniform([-40, -40, 0], [100, 40, 0], (count, 3))
    points[:, 2] = 0.1 * points[:, 0]
    return points


def test_between_points_the_surface_is_flat_and_far_from_them_unknown() -> None:
    T, points = track(3), ground(2000)
    points = points[~((np.abs(points[:, 0] - 5) < 12) & (np.abs(points[:, 1]) < 12))]  # a lake
    seen = np.tile(np.arange(len(points)), 3)
    method = SparsePoints(SparseScene(points, np.repeat(np.arange(3), len(points)), seen))
    found = {one.frame: one for one in method.estimate([], CAMERA, T, np.arange(3))}
    assert sorted(found) == [0, 1, 2]
    middle = found[1]
    assert middle.unit_m == 1.0
    assert np.isnan(middle.depth[26:38, 26:38]).all()
    np.testing.assert_array_equal(middle.confidence > 0, np.isfinite(middle.depth))
    known = np.isfinite(middle.depth)
    assert known.mean() > 0.7
    rays = CAMERA.rays() @ T[1, :3, :3].T
    true_m = (HEIGHT_M - 0.1 * T[1, 0, 3]) / (0.1 * rays[..., 0] - rays[..., 2])
    between = middle.confidence > 0.5
    np.testing.assert_allclose(middle.depth[between], true_m[between], rtol=1e-3)
    np.testing.assert_allclose(middle.depth[known], true_m[known], rtol=0.05)  # on the shore


def test_false_points_do_not_count_and_beside_the_outermost_ones_the_surface_goes_on() -> None:
    T, points = track(3), ground(2000)
    points = points[points[:, 0] < 10]  # the right edge of the middle picture has none
    false = T[1, :3, 3] + 0.2 * (points[::50] - T[1, :3, 3])  # the same pixels, five times nearer
    points = np.concatenate([points, false])
    seen = np.tile(np.arange(len(points)), 3)
    method = SparsePoints(SparseScene(points, np.repeat(np.arange(3), len(points)), seen))
    (found,) = method.estimate([], CAMERA, T, np.array([1]))
    assert np.nanmin(found.depth) > 40
    edge = round(float(CAMERA.project(np.array([[10 - T[1, 0, 3], 0.0, HEIGHT_M]]))[0, 0]))
    assert np.isfinite(found.depth[20:44, edge : edge + 3]).all()
    assert np.isnan(found.depth[:, edge + 8 :]).all()


@pytest.mark.parametrize("points", [ground(12), np.stack([np.linspace(-9, 9, 40), *np.zeros((2, 40))], axis=1)])
def test_few_points_or_points_on_one_line_are_an_estimate_of_nothing(points: Float64) -> None:
    scene = SparseScene(points, np.arange(len(points)) % 20, np.arange(len(points)))
    method = SparsePoints(scene)
    (found,) = method.estimate([], CAMERA, track(20), np.array([0]))
    assert np.isnan(found.depth).all()
    assert not found.confidence.any()
    with pytest.raises(UserError, match="need the poses"):
        method.estimate([], CAMERA, None, np.array([0]))
    with pytest.raises(UserError, match="only 0 points"):
        SparsePoints(scene, np.array([3])).estimate([], CAMERA, track(20), np.array([3]))


def test_a_relief_learns_from_points_that_training_frames_saw_and_from_no_others(tmp_path: Path) -> None:
    T, points = track(20), ground(3000)
    meta = DatasetMeta(camera=CAMERA, poses=PosesMeta(position="sfm, placed by gps", orientation="sfm"))
    with DatasetWriter(tmp_path / "flight", meta) as writer:
        for i in range(len(T)):
            writer.add((i + 1) * 10**9, T[i], np.full((64, 64, 3), i, np.uint8))
    config = train_config("relief", size=64)
    data = open_training_data(tmp_path / "flight", config)
    stamps_ns, train = data.dataset.stamps_ns, data.split.train
    rest = np.setdiff1d(np.arange(len(T)), train)
    false = ground(3000, seed=1) + np.array([0, 0, 20.0])  # one training frame and all held-out ones see these
    frames = [*((i, "true") for i in train), (train[0], "false"), *((i, "false") for i in rest)]
    of = {"true": np.arange(3000), "false": np.arange(3000, 6000)}
    np.savez_compressed(
        tmp_path / "flight" / POINTS,
        points=np.concatenate([points, false]).astype(np.float32),
        seen_stamp_ns=np.repeat([stamps_ns[i] for i, _ in frames], 3000),
        seen_point=np.concatenate([of[kind] for _, kind in frames]),
        colors=np.zeros((6000, 3), np.uint8),
        seen_px=np.zeros((3000 * len(frames), 2)),
    )
    depth = surface_depth(data, "auto")
    assert depth.source == "pictures"
    shown = depth[int(train[0])]
    assert np.isfinite(shown).mean() > 0.8
    assert np.nanmin(shown) > 38
    assert np.isnan(depth[int(rest[0])]).all()
    (tmp_path / "flight" / POINTS).write_bytes(b"no archive")
    with pytest.raises(UserError, match="align again"):
        surface_depth(data, "auto")
