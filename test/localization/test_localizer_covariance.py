"""Covariances that hold what they promise, in the map's axes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.localization import covariance
from pose2rgbd_ros.localization.reading import mean_pose

SHAPE = np.diag([2.0, 1.0, 0.1, 0.02, 0.03, 0.1]) ** 2


def drawn(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors whose size follows the first of three features, 20 frames a line."""
    generator = np.random.default_rng(seed)
    doubt = generator.normal(size=(count, 3))
    error = generator.multivariate_normal(np.zeros(6), SHAPE, count) * np.exp(0.8 * doubt[:, :1])
    return error, doubt, np.arange(count) // 20


def random_poses(count: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    T = np.tile(np.eye(4), (count, 1, 1))
    T[:, :3, :3] = Rotation.random(count, random_state=seed).as_matrix()
    T[:, :3, 3] = generator.normal(size=(count, 3)) * 10
    return T


def test_regions_hold_what_they_promise_on_other_frames_easy_and_hard():
    model = covariance.fit(*drawn(600, 0))
    error, doubt, _ = drawn(4000, 1)
    inside = covariance.inside(covariance.squared_distances(model, error, doubt))
    assert np.allclose(inside.mean(axis=0)[1], 0.9, atol=0.04)
    assert np.allclose(inside.mean(axis=0)[0], 0.5, atol=0.08)
    for part in (doubt[:, 0] < -1, doubt[:, 0] > 1):
        assert np.allclose(inside[part].mean(axis=0)[1], 0.9, atol=0.1)
    size = model.covariance_level(np.array([[-1.0, 0, 0], [1.0, 0, 0]]))[:, 0, 0]
    assert 2.5 < np.sqrt(size[1] / size[0]) < 6.0, "exp(1.6) = 5, less what the ridge takes"


def test_more_doubt_never_makes_a_covariance_smaller():
    error, doubt, unit = drawn(400, 2)
    model = covariance.fit(error, -doubt, unit)
    assert (model.weights[:, 1:] >= 0).all()


@given(st.integers(0, 10**6))
@settings(max_examples=30)
def test_errors_turned_to_the_map_are_the_estimates_convention(seed: int):
    """true rotation = exp(rotation) @ estimated, true position = estimated + translation, in the map's axes."""
    estimated, true = random_poses(3, seed), random_poses(3, seed + 1)
    error = covariance.errors(estimated, true)
    axes = covariance.level_axes(estimated)
    assert np.allclose(np.linalg.det(axes), 1.0)
    assert np.allclose(axes[:, :, 2], [0, 0, 1])
    moved, turned = ((axes @ error[:, part, None])[..., 0] for part in (slice(0, 3), slice(3, 6)))
    assert np.allclose(estimated[:, :3, 3] + moved, true[:, :3, 3])
    assert np.allclose(Rotation.from_rotvec(turned).as_matrix() @ estimated[:, :3, :3], true[:, :3, :3])


def test_the_covariance_turns_with_the_heading():
    model = covariance.fit(*drawn(400, 3))
    north, east = np.eye(4), np.eye(4)
    for T, yaw in ((north, 0.0), (east, -90.0)):
        T[:3, :3] = Rotation.from_euler("zx", [yaw, -140.0], degrees=True).as_matrix()
    first, second = (model.covariance_map(np.zeros(3), T) for T in (north, east))
    assert np.allclose(first, first.T)
    assert np.allclose(first[0, 0], second[1, 1])
    assert np.allclose(first[2, 2], second[2, 2])
    assert first[0, 0] > 2 * first[1, 1], "wrong to the right more than ahead"
    assert (np.linalg.eigvalsh(first) > 0).all()


def test_errors_of_lines_unlike_one_another_make_it_larger():
    error, doubt, unit = drawn(200, 4)
    alike = covariance.fit(error, doubt, np.arange(200) % 10)
    unlike = covariance.fit(error * np.where(unit % 2, 3.0, 0.5)[:, None], doubt, unit)
    scaled = np.sqrt(np.mean(np.where(unit % 2, 3.0, 0.5) ** 2))
    assert np.trace(unlike.scatter[:3, :3]) > 1.1 * scaled * np.trace(alike.scatter[:3, :3])


def test_the_mean_of_poses():
    T = random_poses(1, 5)[0]
    around = np.stack([T, T])
    for one, angle in zip(around, (0.2, -0.2), strict=True):
        one[:3, :3] = T[:3, :3] @ Rotation.from_rotvec([0, angle, 0]).as_matrix()
        one[:3, 3] += [angle, 0, 0]
    assert np.allclose(mean_pose(around), T)
