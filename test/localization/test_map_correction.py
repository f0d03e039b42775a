"""map -> odom from poses and odometry: covariances that follow a lever, and a correction that does not believe
everything.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.localization.map_correction import (
    CorrectionSettings,
    MapCorrection,
    covariance_at,
    difference,
    moved,
)

STEP_NS = 33_000_000
T_MAP_ODOM = se3.make([12.0, -7.0, 2.0], [0.0, 0.0, np.sin(0.4), np.cos(0.4)])
SIGMA_M, SIGMA_RAD = 0.5, np.deg2rad(2.0)
COVARIANCE = np.diag([SIGMA_M**2] * 3 + [SIGMA_RAD**2] * 3)
numbers = st.floats(-2.0, 2.0)
vectors = st.lists(numbers, min_size=3, max_size=3).map(np.array)


def flight(count: int) -> list[np.ndarray]:
    """T_odom_cam of a flight at 3 m/s, turning."""
    return [
        se3.make([0.1 * i, 20 * np.sin(i / 200), 40.0], [0.0, 0.0, np.sin(i / 400), np.cos(i / 400)])
        for i in range(count)
    ]


def noisy(T: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return moved(T, rng.normal(size=6) * np.sqrt(np.diag(COVARIANCE)))


@given(vectors, vectors, vectors)
def test_difference_undoes_moved(position, turn, shift):
    angle = float(np.linalg.norm(turn))
    turn = turn * min(1.0, 3.1 / max(angle, 1e-9))  # beyond half a turn it is another one
    T = se3.make(position, [0.0, 0.0, 0.6, 0.8])
    step = np.concatenate([shift, turn])
    np.testing.assert_allclose(difference(T, moved(T, step)), step, atol=1e-9)


@given(vectors, st.integers(0, 100))
def test_a_covariance_at_a_lever_is_that_of_the_points_there(lever_m, seed):
    root = np.random.default_rng(seed).normal(size=(6, 6))
    covariance = root @ root.T
    T, tip = se3.make([3.0, 4.0, 5.0], [0.0, 0.0, 0.6, 0.8]), np.eye(4)
    tip[:3, 3] = T[:3, :3].T @ lever_m  # fixed to the body, lever_m away along the map's axes
    steps = np.eye(6) * 1e-6
    J = np.stack([difference(T @ tip, moved(T, step) @ tip) / 1e-6 for step in steps], axis=1)
    np.testing.assert_allclose(covariance_at(covariance, lever_m), J @ covariance @ J.T, atol=1e-3)


def test_noise_is_averaged_and_the_covariance_holds():
    """Independent errors of images a second apart: the correction is better than each, by about what it says."""
    off, said = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        correction = MapCorrection(CorrectionSettings(memory_s=0.0))
        for index, T_odom_cam in enumerate(flight(150)[::5]):
            correction.add(noisy(T_MAP_ODOM @ T_odom_cam, rng), COVARIANCE, T_odom_cam, index * 1_000_000_000)
        assert correction.current is not None
        off.append(difference(T_MAP_ODOM @ T_odom_cam, correction.current.T_map_cam))
        said.append(np.sqrt(np.diag(correction.current.covariance)))
    rms = np.sqrt(np.mean(np.square(off), axis=0))
    assert rms[:3].max() < SIGMA_M / 1.5
    assert rms[3:].max() < SIGMA_RAD / 1.5
    assert np.all(rms < 2 * np.mean(said, axis=0))
    assert np.all(rms > 0.25 * np.mean(said, axis=0))


@pytest.mark.parametrize("apart_s", [0.1, 3.0])
@pytest.mark.parametrize("axis", [0, 5])
def test_what_contradicts_by_hand(apart_s: float, axis: int):
    """A pose whose squared distance, by both covariances and the walk of the odometry, is beyond the gate."""
    settings = CorrectionSettings(agreeing=1, gate=9.0)
    walk = [settings.walk_m_per_sqrt_s**2] * 3 + [np.deg2rad(settings.turn_deg_per_sqrt_s) ** 2] * 3
    sigma = np.sqrt(2 * COVARIANCE[axis, axis] + apart_s * walk[axis])
    for share, believed in ((0.99, True), (1.01, False)):
        correction, T = MapCorrection(settings), flight(1)[0]
        assert correction.add(T_MAP_ODOM @ T, COVARIANCE, T, 0)
        settings.agreeing = 2
        off = moved(T_MAP_ODOM @ T, np.eye(6)[axis] * 3.0 * sigma * share)
        assert correction.add(off, COVARIANCE, T, round(apart_s * 1e9)) == believed
        assert correction.set_aside == (not believed)
        settings.agreeing = 1


def test_on_the_way_a_correction_grows_less_certain_by_hand():
    """Over 30 m in 4 s, seen by a pose that tells nothing: drift and walk of the odometry, and what a turn is at that
    lever.
    """
    correction, start = MapCorrection(CorrectionSettings(agreeing=1, memory_s=0.0)), flight(1)[0]
    correction.add(T_MAP_ODOM @ start, COVARIANCE, start, 0)
    ahead = moved(start, np.array([0.0, 30.0, 0.0, 0.0, 0.0, 0.0]))
    assert correction.add(T_MAP_ODOM @ ahead, 1e9 * np.eye(6), ahead, 4_000_000_000)
    way = T_MAP_ODOM[:3, 1]  # the odometry's y in the map
    shift = SIGMA_M**2 + 4 * 0.05**2 + (0.02 * 30) ** 2
    lever = (30 * SIGMA_RAD) ** 2 * (np.eye(3) - np.outer(way, way))  # a turn shifts across the way
    found = correction.current.covariance
    assert np.allclose(found[:3, :3], shift * np.eye(3) + lever, rtol=1e-6)
    assert np.allclose(found[3:, 3:], (SIGMA_RAD**2 + 4 * np.deg2rad(0.2) ** 2) * np.eye(3), rtol=1e-6)


@pytest.mark.parametrize(("apart_s", "alike"), [(0.5, 4.0), (2.0, 1.0), (5.0, 1.0)])
def test_what_the_second_of_two_poses_counts_by_hand(apart_s: float, alike: float):
    """Nearer in time than `memory_s` (2 s) it is worth as much less; the mean of both is weighed by their
    covariances.
    """
    settings = CorrectionSettings(agreeing=1, memory_s=2.0, walk_m_per_sqrt_s=1e-6, turn_deg_per_sqrt_s=1e-6)
    correction, T = MapCorrection(settings), flight(1)[0]
    correction.add(T_MAP_ODOM @ T, COVARIANCE, T, 0)
    off = np.array([0.3, 0.0, 0.0, 0.0, 0.0, 0.03])
    assert correction.add(moved(T_MAP_ODOM @ T, off), 2 * COVARIANCE, T, round(apart_s * 1e9))
    gain = 1 / (1 + 2 * alike)
    assert np.allclose(difference(T_MAP_ODOM @ T, correction.current.T_map_cam), gain * off, atol=1e-6)
    assert np.allclose(correction.current.covariance, (1 - gain) * COVARIANCE, atol=1e-6)


def test_a_pose_without_covariance_is_as_uncertain_as_the_settings_say():
    correction, T = MapCorrection(CorrectionSettings(agreeing=1, sigma_m=2.0, sigma_deg=3.0)), flight(1)[0]
    assert correction.add(T_MAP_ODOM @ T, None, T, 0)
    assert np.allclose(correction.current.covariance, np.diag([4.0] * 3 + [np.deg2rad(3.0) ** 2] * 3))


def test_images_close_in_time_do_not_make_it_certain():
    """Thirty images a second that all err alike: after a second no more is known than one of them tells."""
    correction = MapCorrection(CorrectionSettings())
    wrong = moved(T_MAP_ODOM @ flight(1)[0], np.array([0.4, 0.0, 0.0, 0.0, 0.0, 0.0]))
    for index in range(30):
        correction.add(wrong, COVARIANCE, flight(1)[0], index * STEP_NS)
    assert np.sqrt(correction.current.covariance[0, 0]) > 0.5 * SIGMA_M


def test_single_wrong_poses_are_set_aside():
    rng = np.random.default_rng(1)
    correction = MapCorrection(CorrectionSettings())
    believed = []
    for index, T_odom_cam in enumerate(flight(120)):
        wrong = index % 10 == 9
        T = moved(noisy(T_MAP_ODOM @ T_odom_cam, rng), np.array([30.0 * wrong, 0, 0, 0, 0, 0]))
        believed.append(correction.add(T, COVARIANCE, T_odom_cam, index * STEP_NS))
    assert not any(believed[index] for index in range(9, 120, 10))
    assert correction.set_aside >= 11
    assert correction.jumps == 0
    assert np.abs(difference(T_MAP_ODOM @ T_odom_cam, correction.current.T_map_cam)[:3]).max() < 1.0


def test_it_jumps_when_several_agree_and_begins_no_sooner():
    settings = CorrectionSettings(agreeing=4)
    correction = MapCorrection(settings)
    T_odom_cam = flight(1)[0]
    began = [correction.add(T_MAP_ODOM @ T_odom_cam, COVARIANCE, T_odom_cam, i * STEP_NS) for i in range(5)]
    assert began == [False, False, False, True, True]
    elsewhere = moved(T_MAP_ODOM, np.array([25.0, 0, 0, 0, 0, 0]))  # the odometry began anew
    jumped = [correction.add(elsewhere @ T_odom_cam, COVARIANCE, T_odom_cam, (5 + i) * STEP_NS) for i in range(5)]
    assert jumped == [False, False, False, True, True]
    assert (correction.set_aside, correction.jumps) == (4, 1)
    np.testing.assert_allclose(correction.current.T_map_odom, elsewhere, atol=1e-6)


def test_a_single_stray_pose_does_not_hinder_a_jump():
    """What contradicts it as well is where the next agreement begins."""
    correction, T = MapCorrection(CorrectionSettings(agreeing=3)), flight(1)[0]
    stray, elsewhere = (moved(T_MAP_ODOM, np.array([x, 0, 0, 0, 0, 0])) for x in (-40.0, 25.0))
    places = [T_MAP_ODOM] * 3 + [stray] + [elsewhere] * 3
    believed = [correction.add(place @ T, COVARIANCE, T, i * 1_000_000_000) for i, place in enumerate(places)]
    assert believed == [False, False, True, False, False, False, True]
    assert (correction.set_aside, correction.jumps) == (4, 1)


def test_wrong_poses_that_do_not_agree_never_make_a_jump():
    rng = np.random.default_rng(2)
    correction = MapCorrection(CorrectionSettings())
    T_odom_cam = flight(1)[0]
    for index in range(10):
        correction.add(T_MAP_ODOM @ T_odom_cam, COVARIANCE, T_odom_cam, index * STEP_NS)
    for index in range(10, 60):
        scattered = moved(T_MAP_ODOM @ T_odom_cam, np.r_[rng.uniform(-100, 100, 3), 0, 0, 0])
        assert not correction.add(scattered, COVARIANCE, T_odom_cam, index * STEP_NS)
    assert correction.jumps == 0


def test_drifting_odometry_is_followed_and_older_images_change_nothing():
    correction = MapCorrection(CorrectionSettings(drift=0.05))
    T_map_cam = [T_MAP_ODOM @ T for T in flight(600)]
    for index, T in enumerate(T_map_cam):
        drifted = se3.make([0.002 * index, 0.0, 0.0], [0, 0, 0, 1])  # 1.2 m over 60 m
        correction.add(T, COVARIANCE, se3.inverse(T_MAP_ODOM @ drifted) @ T, index * STEP_NS)
    off_m = np.linalg.norm(correction.current.T_map_cam[:3, 3] - T_map_cam[-1][:3, 3])
    assert off_m < 0.4
    before = correction.current
    assert not correction.add(T_map_cam[0], None, np.eye(4), 0)
    assert correction.current is before


def test_one_image_told_again_and_again_is_no_agreement():
    correction, T_odom_cam = MapCorrection(CorrectionSettings(agreeing=3)), flight(1)[0]
    believed = [correction.add(T_MAP_ODOM @ T_odom_cam, COVARIANCE, T_odom_cam, 7 * STEP_NS) for _ in range(9)]
    assert not any(believed)
    assert correction.current is None
