"""Training frames looked up by their features: words, mixes, PnP, and the refusal of what is no place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.poses import localize
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.localization.match import Features, match_features, solve
from pose2rgbd_ros.localization.retrieval import FrameIndex, Retrieval, Structure, StructureSettings

CAMERA = Camera(160, 120, 110.0, 112.0, 79.0, 60.5)
LENS = Camera(160, 120, 110.0, 112.0, 79.0, 60.5, "plumb_bob", (-0.2, 0.05, 0.001, -0.001))


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory, flight_dataset: Callable[..., Path]) -> Dataset:
    return Dataset(flight_dataset(tmp_path_factory.mktemp("lookup") / "flight", frames=40))


@pytest.fixture(scope="module")
def index(flight: Dataset) -> FrameIndex:
    return FrameIndex(flight, np.flatnonzero(np.arange(40) % 4 != 0))


def seen(T_map_cam: np.ndarray, camera: Camera, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Points of the map (N, 3), and where the camera sees them (N, 2)."""
    pixels = rng.uniform([4, 4], [camera.width - 5, camera.height - 5], (count, 2))
    points = camera.unproject(pixels) * rng.uniform(4.0, 30.0, count)[:, None]
    return se3.transform_points(T_map_cam, points), pixels


@given(seed=st.integers(0, 2**31), camera=st.sampled_from([CAMERA, LENS]))
@settings(max_examples=15)
def test_a_pose_is_found_among_wrong_matches(seed: int, camera: Camera) -> None:
    rng = np.random.default_rng(seed)
    T = se3.make(rng.uniform(-500, 500, 3), Rotation.random(random_state=seed % 2**31).as_quat())
    points, pixels = seen(T, camera, rng, 60)
    pixels[40:] = rng.uniform(0, 100, (20, 2))
    noisy = pixels + rng.normal(0, 0.3, pixels.shape)
    solved = solve(points, noisy, camera, threshold_px=2.0, iterations=2000, seed=1)
    assert solved is not None
    assert solved.inliers[:40].mean() > 0.9
    assert solved.inliers[40:].mean() < 0.3
    apart_m = np.linalg.norm(solved.T_map_cam[:3, 3] - T[:3, 3])
    assert apart_m < 5 * np.sqrt(np.trace(solved.covariance[:3, :3]))
    assert apart_m < 1.0
    again = solve(points, noisy, camera, threshold_px=2.0, iterations=2000, seed=1)
    assert again is not None
    np.testing.assert_array_equal(again.T_map_cam, solved.T_map_cam)


def test_the_covariance_is_that_of_the_errors() -> None:
    """Over many draws of the pixels' noise; in a frame turned against the map, so that axes cannot be confused."""
    rng = np.random.default_rng(3)
    T = se3.make([100.0, -50.0, 30.0], Rotation.from_euler("xyz", [200, 20, 60], degrees=True).as_quat())
    points, pixels = seen(T, CAMERA, rng, 80)
    errors, told = [], []
    for draw in range(120):
        noisy = pixels + rng.normal(0, 1.0, pixels.shape)
        solved = solve(points, noisy, CAMERA, threshold_px=8.0, iterations=50, seed=draw)
        assert solved is not None
        turn = Rotation.from_matrix(T[:3, :3] @ solved.T_map_cam[:3, :3].T).as_rotvec()
        errors.append(np.concatenate([T[:3, 3] - solved.T_map_cam[:3, 3], turn]))
        told.append(solved.covariance)
    whitened = np.array(errors) @ np.linalg.cholesky(np.linalg.inv(np.mean(told, axis=0)))
    np.testing.assert_allclose(np.cov(whitened.T), np.eye(6), atol=0.45)


def test_nothing_is_found_where_nothing_agrees() -> None:
    rng = np.random.default_rng(0)
    points, pixels = rng.uniform(-20, 20, (30, 3)), rng.uniform(0, 120, (30, 2))
    solved = solve(points, pixels, CAMERA, threshold_px=1.0, iterations=500, seed=0)
    assert solved is None or solved.inliers.sum() < 10
    assert solve(points[:5], pixels[:5], CAMERA, 1.0, 500, 0) is None


def test_matches_are_mutual_and_clear() -> None:
    rng = np.random.default_rng(5)
    roots = np.sqrt(rng.dirichlet(np.full(128, 0.2), 6))
    descriptors = np.rint(255 * roots).astype(np.uint8)
    query = Features(np.zeros((5, 2)), descriptors[[2, 0, 1, 3, 3]])  # 3 comes twice: neither is clearly better
    pairs = match_features(query, Features(np.zeros((4, 2)), descriptors[:4]))
    assert {(0, 2), (1, 0), (2, 1)} <= {tuple(pair) for pair in pairs.tolist()}
    doubled = Features(np.zeros((5, 2)), descriptors[[0, 1, 2, 3, 3]])
    assert 3 not in match_features(Features(np.zeros((4, 2)), descriptors[:4]), doubled)[:, 0]
    assert match_features(query, Features(np.zeros((0, 2)), descriptors[:0])).shape == (0, 2)


def test_a_training_frame_finds_itself_and_the_index_is_seeded(flight: Dataset, index: FrameIndex) -> None:
    said = localize(Retrieval(index), flight, index.frames[::5])
    np.testing.assert_allclose(said.T_found, said.T_true)
    again = FrameIndex(flight, index.frames)
    vlad = index.describe(index.features[3])
    np.testing.assert_array_equal(vlad, again.describe(again.features[3]))


def test_structure_beats_interpolation_and_that_beats_the_nearest_frame(flight: Dataset, index: FrameIndex) -> None:
    frames = np.setdiff1d(np.arange(2, 38), index.frames)
    few = StructureSettings(least_inliers=8, threshold_px=1.5)  # pictures of 48 px have some 50 features
    nearest, mixed, structure = (
        localize(finder, flight, frames) for finder in (Retrieval(index), Retrieval(index, 4), Structure(index, few))
    )
    assert nearest.accepted.all()
    assert np.median(mixed.position_m) < np.median(nearest.position_m)
    assert structure.accepted.mean() > 0.6
    assert np.median(structure.position_m[structure.accepted]) < 0.5 * np.median(nearest.position_m)
    covariances = [one.covariance for one in structure.estimates if one.accepted]
    assert all(one is not None and np.isfinite(one).all() for one in covariances)


def test_what_is_no_place_is_rejected_with_a_reason(flight: Dataset, index: FrameIndex) -> None:
    camera, structure = flight.camera, Structure(index)
    black = np.zeros((camera.height, camera.width, 3), np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, black.shape, np.uint8)
    for finder in (Retrieval(index), structure):
        estimate = finder.find(black, camera)
        assert not estimate.accepted
        assert "features; it is blank or blurred" in estimate.reason
    assert not structure.find(noise, camera).accepted
    strict = Structure(index, StructureSettings(least_inliers=10_000)).find(flight.rgb(4), camera)
    assert not strict.accepted
    assert "features agree with the pose, 10000 are needed" in strict.reason
    uncalibrated = Camera(camera.width, camera.height, 0.0, 0.0, 0.0, 0.0)
    assert structure.find(flight.rgb(4), uncalibrated).reason == "the image's camera is not calibrated"


def test_structure_asks_for_metric_depth(tmp_path: Path, flight_dataset: Callable[..., Path]) -> None:
    relative = Dataset(flight_dataset(tmp_path / "relative", frames=6, depth_kind="relative"))
    with pytest.raises(UserError, match="need metric depth"):
        Structure(FrameIndex(relative, np.arange(6)))
    with pytest.raises(UserError, match="no training frames"):
        FrameIndex(relative, np.zeros(0, int))
