"""The guard, the bounds of depth, and the files of a calibration."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import support.small_relief as small_relief
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.rendering.calibration import (
    CALIBRATION_FILE,
    TABLES_FILE,
    Calibration,
    load_calibration,
    save_calibration,
)
from pose2rgbd_ros.rendering.intervals import FEATURES, IntervalTable, cells_of, depth_spread
from pose2rgbd_ros.rendering.pose_score import PoseScore, hull_distance
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.training.checkpoint import load_checkpoint, save_checkpoint

DOWN = Rotation.from_euler("x", 180, degrees=True).as_matrix()


def table(seed: int = 0) -> IntervalTable:
    generator = np.random.default_rng(seed)
    edges = tuple(
        np.array(values, np.float32) for values in ([0.6, 0.8], [0.05, 0.2, 0.5], [9.0, 11.5], [1.0])
    )
    shape = tuple(len(edge) + 1 for edge in edges)
    lower = generator.uniform(0, 0.5, shape).astype(np.float32)
    lower[generator.random(shape) < 0.1] = np.nan
    return IntervalTable(edges, lower, np.where(np.isnan(lower), np.nan, lower / 2), 50.0, 32.0)


def calibration(weights_sha256: str, limit: float = 3.0) -> Calibration:
    return Calibration(weights_sha256, 0.9, 0.005, 2.0, limit, 12.0, table(), {"unit": "lines"})


def survey(lines: int = 7, apart_m: float = 20.0) -> np.ndarray:
    """(N, 4, 4): parallel lines of 200 m at 50 m, flown there and back, the camera turned with the vehicle."""
    poses = []
    for line in range(lines):
        along = np.linspace(-100, 100, 41) * (1 if line % 2 == 0 else -1)
        T = np.tile(np.eye(4), (len(along), 1, 1))
        T[:, :3, 3] = np.stack([along, np.full(41, line * apart_m), np.full(41, 50.0)], axis=-1)
        T[:, :3, :3] = Rotation.from_euler("z", 0 if line % 2 == 0 else 180, degrees=True).as_matrix() @ DOWN
        poses.append(T)
    return np.concatenate(poses)


def at(x: float, y: float, z: float, yaw_deg: float = 0.0, pitch_deg: float = 0.0) -> np.ndarray:
    T = np.eye(4)
    T[:3, 3] = x, y, z
    T[:3, :3] = Rotation.from_euler("zy", [yaw_deg, pitch_deg], degrees=True).as_matrix() @ DOWN
    return T


depths = arrays(np.float32, (9, 11), elements=st.floats(np.float32(0.5), np.float32(60.0), width=32))
holes = arrays(np.bool_, (9, 11))


@settings(max_examples=30)
@given(depths, holes, arrays(np.float32, (9, 11), elements=st.floats(0, 1, width=32)), st.floats(0, 5))
def test_bounds_enclose_depth_and_are_unknown_with_it(depth, hole, confidence, score):
    depth = np.where(hole, np.float32(np.nan), depth)
    before, lower, upper = depth.copy(), np.empty_like(depth), np.empty_like(depth)
    sure = confidence.copy()
    table().bound(depth, confidence, score, 32.0, lower, upper)
    known = np.isfinite(depth)
    assert (confidence[known] == sure[known]).all()
    assert (confidence[np.isfinite(before) & ~known] == 0).all(), "what is forgotten is not sure"
    assert (np.isnan(lower) == ~known).all()
    assert (np.isnan(upper) == ~known).all()
    assert not known[hole].any(), "what the model does not know stays unknown"
    assert (depth[known] == before[known]).all()
    assert ((lower[known] >= 0) & (lower[known] <= depth[known]) & (depth[known] <= upper[known])).all()
    assert not known[before > 50.0].any(), "farther than any calibrated depth"


def test_compiled_and_array_way_agree():
    generator = np.random.default_rng(1)
    depth = generator.uniform(5, 14, (20, 30)).astype(np.float32)
    confidence = generator.uniform(0.5, 1, (20, 30)).astype(np.float32)
    lower, upper, chosen = np.empty_like(depth), np.empty_like(depth), table()
    spread = depth_spread(depth, 2)
    score = np.full(depth.shape, 1.5, np.float32)
    of_pixel = tuple(values.ravel() for values in (confidence, spread, depth, score))
    share = chosen.lower.reshape(-1)[cells_of(chosen.edges, of_pixel)].reshape(depth.shape)
    expected = np.where(np.isnan(share), np.nan, depth * (1 - share))
    chosen.bound(depth, confidence, 1.5, 32.0, lower, upper)
    np.testing.assert_allclose(lower, expected, rtol=1e-5)
    assert 0 < np.isnan(lower).mean() < 0.5


def test_spread_sees_an_edge_and_no_farther_than_its_radius():
    depth = np.full((9, 9), 10.0, np.float32)
    depth[:, 6:] = 30.0
    depth[0, 0] = np.nan
    spread = depth_spread(depth, 2)
    assert spread[4, 3] == 0.0
    assert spread[4, 4] == pytest.approx(2.0)
    assert np.isnan(spread[0, 0])
    assert spread[1, 1] == 0.0, "an unknown neighbour is no edge"


@settings(max_examples=25)
@given(st.integers(0, 10**6))
def test_hull_distance_of_a_box(seed):
    generator = np.random.default_rng(seed)
    corners = np.array(np.meshgrid([0, 4], [0, 5], [0, 6])).reshape(3, -1).T.astype(float)
    point = generator.uniform(-5, 10, 3)
    expected = np.linalg.norm(np.maximum(np.maximum(-point, point - [4, 5, 6]), 0))
    assert hull_distance(corners - point, 2000, 1e-6) == pytest.approx(expected, abs=0.02)


def test_between_lines_is_inside_beyond_them_and_turned_is_not():
    score = PoseScore(survey(), 50.0)
    between = max(score(at(x, 30.0, 50.0)).score for x in np.linspace(-90, 90, 7))
    outside = [at(0, 140.0, 50), at(0, -20.0, 50), at(0, 60, 67), at(0, 60, 33), at(118, 60, 50)]
    turned = [at(0, 60, 50, yaw_deg=90), at(40, 30, 50, yaw_deg=-60), at(0, 60, 50, pitch_deg=60)]
    assert between < 8.0
    for T in (*outside, *turned):
        assert score(T).score > between + 4.0
    assert score(at(0, 60, 67)).beyond_m == pytest.approx(17.0, abs=0.5)
    assert np.isinf(score(np.full((4, 4), np.nan)).score)


def test_a_hole_in_the_flight_is_no_inside():
    ring = np.stack([at(150 * np.cos(a), 150 * np.sin(a), 50) for a in np.linspace(0, 6.2, 200)])
    score = PoseScore(ring, 50.0)
    assert score(at(0, 0, 50)).beyond_m > 45.0
    assert score(at(150, 0, 50)).beyond_m < 1.0


def test_the_training_poses_that_look_most_alike():
    near, turned, far = at(2, 0, 50), at(0, 0, 50, yaw_deg=90), at(60, 0, 50)
    score = PoseScore(np.stack([turned, far, near]), 50.0)
    assert np.allclose(score.most_alike(at(0, 0, 50), 2), [near, far])
    assert np.allclose(score.most_alike(at(0, 0, 50, yaw_deg=85), 9)[0], turned)
    assert len(score.most_alike(at(0, 0, 50), 9)) == 3


def test_a_single_training_pose_is_enough():
    score = PoseScore(at(0, 0, 50)[None], 50.0)
    assert score(at(0, 0, 50)).score < 0.01
    assert score(at(30, 0, 50)).score > 20.0


def test_files_come_back_as_they_went(tmp_path: Path):
    save_calibration(tmp_path, calibration("abc"))
    found = load_calibration(tmp_path, "abc")
    assert found is not None
    assert dataclasses.replace(found, table=None) == dataclasses.replace(calibration("abc"), table=None)
    np.testing.assert_array_equal(found.table.lower, table().lower)
    assert [len(edges) for edges in found.table.edges] == [2, 3, 2, 1]
    assert len(FEATURES) == 4
    assert load_calibration(tmp_path / "elsewhere", "abc") is None


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda folder: (folder / TABLES_FILE).unlink(), "cannot be read"),
        (lambda folder: (folder / CALIBRATION_FILE).unlink(), "does not exist"),
        (lambda folder: (folder / TABLES_FILE).write_bytes(b"\x80\x04pickle"), "pickle"),
        (lambda folder: save_tables_of_another(folder), "not of one calibration"),
        (lambda folder: replace_text(folder, "guard_limit: 3.0", "guard_limit: .nan"), "damaged"),
        (lambda folder: replace_text(folder, "guard_limit: 3.0", "guard_limit: [1]"), "damaged"),
        (lambda folder: replace_text(folder, "level: 0.9\n", ""), "damaged"),
        (
            lambda folder: replace_text(folder, "format_version: 1", "format_version: 7"),
            "format_version is 7",
        ),
    ],
)
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, damage, told: str):
    save_calibration(tmp_path, calibration("abc"))
    damage(tmp_path)
    with pytest.raises(UserError, match=told) as refused:
        load_calibration(tmp_path, "abc")
    assert "\n" not in str(refused.value)


def save_tables_of_another(folder: Path) -> None:
    text = (folder / CALIBRATION_FILE).read_text()
    save_calibration(folder, dataclasses.replace(calibration("abc"), table=table(1)))
    (folder / CALIBRATION_FILE).write_text(text)


def replace_text(folder: Path, old: str, new: str) -> None:
    text = (folder / CALIBRATION_FILE).read_text()
    assert old in text
    (folder / CALIBRATION_FILE).write_text(text.replace(old, new))


def test_the_renderer_fills_bounds_withholds_and_refuses(tmp_path: Path):
    path = small_relief.write_small_relief(tmp_path / "model")
    loaded = load_checkpoint(path)
    plain = Renderer(path, "cpu", threads=1)
    assert (plain.calibration, plain.render(loaded.training_T_map_cam[0]).depth_lower) == (None, None)
    save_calibration(path, calibration(loaded.weights_sha256))
    renderer = Renderer(path, "cpu", threads=1)
    for camera in (renderer.camera, Camera.from_fov(48, 40, 70.0)):
        images = renderer.render_for_camera(loaded.training_T_map_cam[:2], camera)
        known = np.isfinite(images.depth)
        assert known.mean() > 0.1
        for bound in (images.depth_lower, images.depth_upper):
            assert bound.dtype == np.float32
            assert (np.isfinite(bound) == known).all()
        assert (images.depth_lower[known] <= images.depth[known]).all()
        assert (images.depth_upper[known] >= images.depth[known]).all()
    far = loaded.training_T_map_cam[0].copy()
    far[0, 3] += 8.0
    answer = renderer.guard_score(far)
    assert (answer.inside, answer.limit) == (False, 3.0)
    assert "beyond the poses flown" in answer.reason
    images = renderer.render(far)
    for withheld in (images.depth, images.depth_lower, images.depth_upper):
        assert np.isnan(withheld).all()
    assert (images.confidence == 0).all()
    assert np.isfinite(Renderer(path, "cpu", threads=1, guard=False).render(far).depth).any()
    again = renderer.render(loaded.training_T_map_cam[0])
    assert np.isfinite(renderer.render(loaded.training_T_map_cam[1], out=again).depth).any(), (
        "out is filled anew"
    )


def test_weights_and_calibration_belong_together(tmp_path: Path):
    path = small_relief.write_small_relief(tmp_path / "model")
    save_calibration(path, calibration("of other weights"))
    with pytest.raises(UserError, match="of other weights than the checkpoint"):
        Renderer(path, "cpu")
    loaded = load_checkpoint(path)
    save_checkpoint(path, loaded)
    assert not (path / CALIBRATION_FILE).exists(), "a checkpoint written anew has no calibration"
    assert Renderer(path, "cpu", threads=1).calibration is None
