"""Covariances that hold what they promise, in the map's axes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from scipy.stats import chi2

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.localization import covariance
from pose2rgbd_ros.localization.predict import PosePrediction, Query

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


def test_position_and_rotation_grow_with_doubts_of_their_own():
    """Sizes that follow one doubt each exactly: its slope by hand, and none of the other."""
    generator = np.random.default_rng(11)
    doubt = generator.normal(size=(300, 2)) * [2.0, 0.5]
    doubt -= doubt.mean(axis=0)
    doubt[:, 1] -= doubt[:, 0] * (doubt[:, 0] @ doubt[:, 1]) / (doubt[:, 0] @ doubt[:, 0])
    way = generator.normal(size=(300, 2, 3))
    way /= np.linalg.norm(way, axis=2, keepdims=True)
    error = (way * np.exp([0.3, 0.9] * doubt + [0.0, -4.0])[..., None]).reshape(300, 6)
    model = covariance.fit(error, doubt, np.arange(300) // 20)
    slope = np.diag([0.3, 0.9] * doubt.std(axis=0)) / (1 + covariance.RIDGE)
    assert np.allclose(model.weights[:, 1:], slope)
    assert np.allclose(model.weights[:, 0], [0.0, -4.0])
    one = doubt.std(axis=0)[None]
    assert np.allclose(model.difficulty(one), np.exp(slope.diagonal() + np.array([0.0, -4.0])))


def test_a_bias_counts_as_error():
    error, doubt, unit = drawn(400, 12)
    error = 0.1 * error + [0.0, 3.0, 0.0, 0.0, 0.0, 0.0]
    model = covariance.fit(error, doubt, unit)
    sigma = np.sqrt(np.diag(model.scatter))
    assert sigma[1] > 5 * sigma[0], "though they scatter less ahead than to the right"


def test_axes_by_hand():
    """A camera that looks down with its image's top to the west has its right to the north and its ahead to the
    west.
    """
    T = np.eye(4)
    T[:3, :3] = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])  # x: north, y: east, z: down
    right, ahead, up = covariance.level_axes(T[None])[0].T
    assert np.allclose(right, [0, 1, 0])
    assert np.allclose(ahead, [-1, 0, 0])
    assert np.allclose(up, [0, 0, 1])
    true = T.copy()
    true[:3, 3] = 3.0, 5.0, 7.0
    true[:3, :3] = Rotation.from_rotvec([0.02, 0.03, 0.04]).as_matrix() @ T[:3, :3]
    assert np.allclose(covariance.errors(T[None], true[None])[0], [5.0, -3.0, 7.0, 0.03, -0.02, 0.04])
    model = covariance.CovarianceModel(
        np.diag([1.0, 4.0, 9.0, 0.1, 0.2, 0.3]), np.zeros((2, 2)), np.zeros(1), np.ones(1), *np.array([[-1.0], [1.0]])
    )
    of_map = np.diag(model.covariance_map(np.zeros(1), T))
    assert np.allclose(of_map, [4.0, 1.0, 9.0, 0.2, 0.1, 0.3]), "right is north here"
    rolled = np.eye(4)
    rolled[:3, :3] = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])  # its x points up
    assert np.allclose(covariance.level_axes(rolled[None])[0], np.eye(3))


def test_the_covariance_of_a_heading_by_hand():
    """A camera that looks down with its image's top 30 degrees west of north."""
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler("z", 30, degrees=True).as_matrix() @ np.diag([1.0, -1.0, -1.0])
    size = np.diag([1.0, 4.0, 9.0, 0.1, 0.2, 0.3])
    ones = np.array([[-1.0], [1.0]])
    model = covariance.CovarianceModel(size, np.zeros((2, 2)), np.zeros(1), np.ones(1), *ones)
    c, s = np.cos(np.radians(30)), np.sin(np.radians(30))
    along = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])  # columns: right, ahead, up in the map
    found = model.covariance_map(np.zeros(1), T)
    assert np.allclose(found[:3, :3], along @ size[:3, :3] @ along.T)
    assert np.allclose(found[3:, 3:], along @ size[3:, 3:] @ along.T)
    assert np.allclose(found[:3, 3:], 0)


def test_doubts_beyond_those_calibrated_on_are_not_extrapolated():
    error, doubt, unit = drawn(400, 6)
    model = covariance.fit(error, doubt, unit)
    beyond = np.full((1, 3), 50.0)
    assert np.allclose(model.difficulty(beyond), model.difficulty(doubt.max(axis=0)[None]))
    assert np.allclose(model.difficulty(-beyond), model.difficulty(doubt.min(axis=0)[None]))


def test_single_large_errors_do_not_stretch_the_ellipsoid():
    error, doubt, unit = drawn(600, 7)
    spoilt = error.copy()
    spoilt[::60, 1] *= 60.0  # ahead
    plain, robust = (covariance.fit(each, doubt, unit).scatter for each in (error, spoilt))
    ratio = (robust[1, 1] / robust[0, 0]) / (plain[1, 1] / plain[0, 0])
    assert 0.5 < ratio < 2.0


def test_position_and_rotation_have_a_factor_each():
    """Rotations with single large errors, positions without: the region of 90 % holds both."""
    generator = np.random.default_rng(9)

    def heavy(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        error = generator.multivariate_normal(np.zeros(6), SHAPE, count)
        error[:, 3:] *= np.where(generator.random(count) < 0.15, 12.0, 1.0)[:, None]
        return error, generator.normal(size=(count, 3)), np.arange(count) // 20

    model = covariance.fit(*heavy(2000))
    error, doubt, _ = heavy(4000)
    held = covariance.inside(covariance.squared_distances(model, error, doubt)).mean(axis=0)[1]
    assert np.allclose(held[:2], 0.9, atol=0.03)


def test_more_by_a_standard_error_among_lines():
    """The factor by hand: lines of 20, every other with errors of three times the size."""
    generator = np.random.default_rng(7)
    unit = np.arange(200) // 20
    squared = generator.chisquare(3, 200) * np.where(unit % 2, 9.0, 1.0)
    share = 0.9 * 201 / 200
    held = [np.mean(squared[unit == one] <= np.quantile(squared, share)) for one in range(10)]
    error = np.std(held, ddof=1) / np.sqrt(10)
    assert error > 0.02
    wanted = np.quantile(squared, share + error) / chi2.ppf(0.9, 3)
    assert covariance._factor(squared, unit) == pytest.approx(np.sqrt(wanted))
    rising = np.arange(200.0)  # the last line misses all: yet never more than the region of 95 %
    limit = np.quantile(rising, 0.95)
    assert covariance._factor(rising, unit) == pytest.approx(np.sqrt(limit / chi2.ppf(0.9, 3)))
    assert covariance._factor(squared, 0 * unit) == pytest.approx(
        np.sqrt(np.quantile(squared, share) / chi2.ppf(0.9, 3))
    ), "one line tells no error among lines"


def test_each_line_is_judged_by_a_model_without_it():
    """Doubts that tell lines apart are learnt by heart: only lines left out show what they are worth."""
    generator = np.random.default_rng(8)
    held = []
    for _ in range(6):
        unit = np.arange(48) // 8
        size = np.exp(generator.normal(0, 1.0, 6))[unit]
        error = generator.multivariate_normal(np.zeros(6), SHAPE, 48) * size[:, None]
        doubt = np.eye(6)[unit] + 0.01 * generator.normal(size=(48, 6))
        model = covariance.fit(error, doubt, unit)
        fresh = generator.multivariate_normal(np.zeros(6), SHAPE, 400) * np.exp(generator.normal(0, 1.0, (400, 1)))
        other = np.full((400, 6), 1 / 6) + 0.01 * generator.normal(size=(400, 6))
        held.append(covariance.inside(covariance.squared_distances(model, fresh, other))[:, 1, 0].mean())
    assert np.mean(held) > 0.85


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
    assert np.allclose(se3.mean(around), T)


def test_a_prediction_by_hand():
    """Of three crops: their mean pose, and how far they lie from that."""
    T = np.stack([np.eye(4)] * 3)
    T[:, 0, 3], T[:, 1, 3] = [0.0, 3.0, 6.0], [1.0, 1.0, 1.0]
    for one, angle in zip(T, (0.0, 0.1, -0.1), strict=True):
        one[:3, :3] = Rotation.from_euler("z", angle).as_matrix()
    image = np.zeros((2, 2, 3), np.uint8)
    query = Query(image, 0, features_view=image)
    found = PosePrediction.of(query, T, np.ones(4, np.float32), 0.5)
    assert np.allclose(found.T_map_cam[:3, 3], [3.0, 1.0, 0.0])
    assert np.allclose(found.T_map_cam[:3, :3], np.eye(3))
    assert np.allclose(found.spread, [np.sqrt(6), 0, 0, 0, 0, 0.1 * np.sqrt(2 / 3)])
