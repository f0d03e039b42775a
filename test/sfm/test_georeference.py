"""A map of structure from motion is tied to rough positions: exactly without noise, robustly with wrong ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.se3 import umeyama
from pose2rgbd_ros.sfm.georeference import Georeference, georeference
from pose2rgbd_ros.sim.sensors.noise import GaussMarkov

SECOND = 10**9


def flight(rng: np.random.Generator, count: int, line: bool = False) -> np.ndarray:
    """Poses (N, 4, 4) of a camera that looks down, over 400 m; or along a line."""
    T_map_cam = np.tile(np.eye(4), (count, 1, 1))
    angles = np.column_stack([rng.uniform(-180, 180, count), rng.normal(0, 8, (count, 2))])
    down = Rotation.from_euler("x", 180, degrees=True)
    T_map_cam[:, :3, :3] = (Rotation.from_euler("zyx", angles, degrees=True) * down).as_matrix()
    if line:
        T_map_cam[:, :3, 3] = np.linspace([-200, 0, 60], [200, 0, 60], count)
    else:
        T_map_cam[:, :3, 3] = np.column_stack([rng.uniform(-200, 200, (count, 2)), rng.normal(60, 3, count)])
    return T_map_cam


def elsewhere(T_map_cam: np.ndarray, scale: float, R: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The cameras in a frame from which x_map = scale R x + t leads back."""
    T_sfm_cam = T_map_cam.copy()
    T_sfm_cam[:, :3, :3] = R.T @ T_map_cam[:, :3, :3]
    T_sfm_cam[:, :3, 3] = (T_map_cam[:, :3, 3] - t) @ R / scale
    return T_sfm_cam


def recorded(rng: np.random.Generator, T_map_cam: np.ndarray, sigma_m: float = 1.5, deg: float = 5.0) -> np.ndarray:
    """What a GPS and an attitude say of the poses."""
    rough = T_map_cam.copy()
    rough[:, :3, 3] += rng.normal(0, sigma_m, (len(rough), 3))
    rough[:, :3, :3] = (
        rough[:, :3, :3] @ Rotation.from_rotvec(np.deg2rad(rng.normal(0, deg, (len(rough), 3)))).as_matrix()
    )
    return rough


def tied(T_map_cam: np.ndarray, rough: np.ndarray, step_s: int = 6) -> tuple[Georeference, np.ndarray]:
    """The reference of a map turned and shrunk by 37, and the errors (N,) in metres that it leaves."""
    T_sfm_cam = elsewhere(T_map_cam, 37.0, Rotation.random(random_state=3).as_matrix(), np.array([3.0, -2.0, 5.0]))
    found = georeference(T_sfm_cam, rough, np.arange(len(rough)) * step_s * SECOND)
    return found, np.linalg.norm(found.poses(T_sfm_cam)[:, :3, 3] - T_map_cam[:, :3, 3], axis=1)


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.floats(0.01, 1000), st.integers(3, 40))
def test_exact_positions_give_the_exact_similarity(seed: int, scale: float, count: int) -> None:
    rng = np.random.default_rng(seed)
    T_map_cam, R = flight(rng, count), Rotation.random(random_state=seed % 1000).as_matrix()
    t = rng.normal(0, 100, 3)
    found = georeference(elsewhere(T_map_cam, scale, R, t), T_map_cam, np.arange(count) * SECOND)
    assert found.scale == pytest.approx(scale, rel=1e-5)
    np.testing.assert_allclose(found.poses(elsewhere(T_map_cam, scale, R, t)), T_map_cam, atol=1e-2)


@settings(max_examples=10)
@given(st.integers(0, 10**6))
def test_noise_averages_out_and_the_uncertainty_says_by_how_much(seed: int) -> None:
    rng = np.random.default_rng(seed)
    T_map_cam = flight(rng, 160)
    found, error_m = tied(T_map_cam, recorded(rng, T_map_cam))
    assert np.median(error_m) < 0.6
    assert found.sigma_m == pytest.approx(np.full(3, 1.5), rel=0.3)
    assert abs(found.scale / 37 - 1) < 5 * found.scale_sigma < 0.05
    assert not found.is_bad.sum() > 3
    predicted_m = np.sqrt(np.trace(found.moved_by(found.covariance, T_map_cam[:, :3, 3]), axis1=1, axis2=2))
    assert np.median(error_m / predicted_m) < 3


def test_a_part_that_is_off_by_50_m_is_found_and_does_not_count() -> None:
    rng = np.random.default_rng(1)
    T_map_cam = flight(rng, 160)
    rough = recorded(rng, T_map_cam)
    rough[10:50, 0, 3] += 50
    found, error_m = tied(T_map_cam, rough)
    assert np.median(error_m) < 0.6
    assert found.is_bad[10:50].all()
    assert found.is_bad.sum() < 44


def test_heights_that_drift_are_found_and_taken_out() -> None:
    rng = np.random.default_rng(2)
    T_map_cam = flight(rng, 160)
    rough = recorded(rng, T_map_cam)
    drift_m = 12 * (np.arange(160) / 159 - 0.5)
    rough[:, 2, 3] += drift_m
    found, error_m = tied(T_map_cam, rough)
    assert found.height_drift_m == pytest.approx(12, abs=1.5)
    assert np.median(error_m) < 0.6
    undrifted = found.undrifted(rough[:, :3, 3], np.arange(160) * 6 * SECOND)
    np.testing.assert_allclose(rough[:, 2, 3] - undrifted[:, 2], drift_m, atol=0.8)


@pytest.mark.parametrize("mount_deg", [0.0, 10.0])
def test_along_a_line_the_attitudes_hold_the_map_upright(mount_deg: float) -> None:
    """Positions on a line leave the turn about it open; a mount that is off by ten degrees tilts it by so much."""
    rng = np.random.default_rng(3)
    T_map_cam = flight(rng, 160, line=True)
    rough = recorded(rng, T_map_cam)
    rough[:, :3, :3] = rough[:, :3, :3] @ Rotation.from_euler("y", mount_deg, degrees=True).as_matrix()
    found, error_m = tied(T_map_cam, rough)
    assert np.median(error_m) < 0.8
    T_sfm_cam = elsewhere(T_map_cam, 37.0, Rotation.random(random_state=3).as_matrix(), np.array([3.0, -2.0, 5.0]))
    turn = Rotation.from_matrix(found.poses(T_sfm_cam)[0, :3, :3].T @ T_map_cam[0, :3, :3]).magnitude()
    assert np.rad2deg(turn) < 1.5 + mount_deg
    assert np.rad2deg(np.sqrt(found.covariance[1, 1])) > 0.5  # and the uncertainty of that turn says so


def test_errors_that_last_make_the_answer_less_sure() -> None:
    rng = np.random.default_rng(4)
    T_map_cam = flight(rng, 160)
    independent, lasting = recorded(rng, T_map_cam), recorded(rng, T_map_cam, 0.2)
    lasting[:, :3, 3] += np.repeat(rng.normal(0, 1.5, (10, 3)), 16, axis=0)
    sure, unsure = (tied(T_map_cam, rough)[0] for rough in (independent, lasting))
    assert unsure.correlation.min() > 2 > 1.5 > sure.correlation.max()
    assert unsure.covariance[4, 4] > 2 * sure.covariance[4, 4]  # of the place; the size is as sure, places being random


def lines(count: int) -> np.ndarray:
    """Poses (N, 4, 4), looking down, of a survey to and fro in strips of 100 m, 4 m from frame to frame."""
    T_map_cam = flight(np.random.default_rng(0), count)
    strip, along = np.divmod(np.arange(count) * 4.0, 100.0)
    T_map_cam[:, 0, 3] = np.where(strip % 2, 100 - along, along)
    T_map_cam[:, 1, 3] = 20 * strip
    return T_map_cam


def test_stated_sigmas_hold_for_positions_whose_errors_last() -> None:
    """Of GPS that wanders, by a metre in half a minute, 90 % of the errors lie within 1.645 sigma, or nearly so."""
    T_map_cam, inside, errors_m = lines(90), [], []
    for seed in range(8):
        rng = np.random.default_rng([seed, 7])
        wander = GaussMarkov(rng, 0.8, 30.0)
        rough = recorded(rng, T_map_cam, 0.3)
        rough[:, :3, 3] += [wander.at(2.0 * i) for i in range(90)]
        found, _ = tied(T_map_cam, rough, step_s=2)
        offset_m = found.centre_map - T_map_cam[:, :3, 3].mean(axis=0)
        errors_m.append(offset_m)
        inside.append(np.abs(offset_m) < 1.645 * np.sqrt(np.diag(found.covariance)[4:]))
    assert np.sqrt(np.mean(np.square(errors_m))) > 0.2  # three times what independent errors would leave
    assert np.mean(inside) > 0.7


def test_a_mount_that_is_only_assumed_does_not_turn_a_map_whose_positions_spread() -> None:
    """Attitudes that are all off by the same seven degrees count as one, not as each of 300."""
    rng = np.random.default_rng(8)
    T_map_cam = lines(300)
    rough = recorded(rng, T_map_cam, 1.0, 0.3)
    rough[:, :3, :3] = Rotation.from_euler("z", 7, degrees=True).as_matrix() @ rough[:, :3, :3]
    found, _ = tied(T_map_cam, rough)
    T_sfm_cam = elsewhere(T_map_cam, 37.0, Rotation.random(random_state=3).as_matrix(), np.array([3.0, -2.0, 5.0]))
    turn = Rotation.from_matrix(found.poses(T_sfm_cam)[0, :3, :3] @ T_map_cam[0, :3, :3].T).magnitude()
    assert np.rad2deg(turn) < 0.3


def test_a_short_video_along_a_line_stays_upright_and_level() -> None:
    """GPS that wanders for a few seconds neither turns it about the line, nor is the pitch that was assumed wrongly
    taken for a drift of the heights."""
    for seed in range(4):
        rng = np.random.default_rng([seed, 9])
        T_map_cam = flight(rng, 34, line=True)
        T_map_cam[:, :3, 3] *= [0.12, 1.0, 0.2]  # 48 m in 12 s
        T_map_cam[:, :3, :3] = Rotation.from_euler("yz", [105, -90], degrees=True).as_matrix()
        wander = GaussMarkov(rng, [0.8, 0.8, 1.3], 60.0)
        rough = recorded(rng, T_map_cam, 0.1, 0.5)
        rough[:, :3, 3] += [wander.at(0.35 * i) for i in range(34)]
        rough[:, :3, :3] = Rotation.from_euler("y", -15, degrees=True).as_matrix() @ rough[:, :3, :3]
        R = Rotation.random(random_state=3).as_matrix()
        T_sfm_cam = elsewhere(T_map_cam, 37.0, R, np.array([3.0, -2.0, 5.0]))
        found = georeference(T_sfm_cam, rough, np.arange(34) * 35 * SECOND // 100)
        turn = Rotation.from_matrix(found.poses(T_sfm_cam)[0, :3, :3] @ T_map_cam[0, :3, :3].T).magnitude()
        assert np.rad2deg(turn) < 8
        assert found.height_drift_m == 0


def test_weights_count_in_the_closed_form() -> None:
    rng = np.random.default_rng(5)
    points = rng.normal(size=(20, 3))
    target = 2.0 * points + [1.0, 2.0, 3.0]
    target[0] += 100
    scale, R, t = umeyama(points, target, np.r_[0.0, np.ones(19)])
    assert scale == pytest.approx(2.0)
    np.testing.assert_allclose(R, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(t, [1, 2, 3], atol=1e-9)


@pytest.mark.parametrize(("count", "spread_m", "problem"), [(2, 100.0, "3 are needed"), (10, 0.0, "at one place")])
def test_what_cannot_place_a_map_is_said(count: int, spread_m: float, problem: str) -> None:
    rng = np.random.default_rng(6)
    T_map_cam = flight(rng, count)
    rough = T_map_cam.copy()
    rough[:, :3, 3] *= spread_m / 100
    with pytest.raises(UserError, match=problem):
        tied(T_map_cam, rough)
