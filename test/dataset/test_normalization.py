"""Min-max to [-1, 1] and back, and what keeps it sane on real flights."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pose2rgbd_ros.dataset.normalization import Normalization, reference_quaternion
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import quaternions, se3


def poses(rng: np.random.Generator, n: int, spread_rad: float = 0.4, extent_m: float = 50.0) -> np.ndarray:
    """Random poses about a random rotation, as a recording with a mostly steady camera has."""
    base = rng.normal(size=4)
    turns = quaternions.from_euler_rpy(rng.uniform(-spread_rad, spread_rad, (n, 3)))
    quat = quaternions.multiply(np.broadcast_to(base / np.linalg.norm(base), (n, 4)), turns)
    return se3.make(rng.uniform(-extent_m, extent_m, (n, 3)), quat)


def down_looking(yaw_rad: np.ndarray, tilt_rad: float = 0.01, seed: int = 0) -> np.ndarray:
    """Optical frames of a camera that looks straight down, with a little wobble, 50 m up."""
    rng = np.random.default_rng(seed)
    n = len(yaw_rad)
    down = quaternions.from_euler_rpy(np.array([np.pi, 0.0, 0.0]))
    yaw = quaternions.from_euler_rpy(np.stack([np.zeros(n), np.zeros(n), yaw_rad], axis=1))
    wobble = quaternions.from_euler_rpy(rng.normal(0, tilt_rad, (n, 3)))
    quat = quaternions.multiply(quaternions.multiply(yaw, np.broadcast_to(down, (n, 4))), wobble)
    return se3.make(np.column_stack([np.linspace(0, 400, n), np.linspace(0, 300, n), np.full(n, 50.0)]), quat)


@pytest.mark.parametrize("rotation", ["quaternion", "euler"])
@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 40))
def test_poses_stay_within_one_and_come_back(rotation, seed, n):
    T = poses(np.random.default_rng(seed), n)
    norm = Normalization.fit(T, rotation=rotation)
    encoded = norm.encode_pose(T)
    assert encoded.dtype == np.float32
    assert encoded.shape == (n, norm.pose_dim) == (n, 7 if rotation == "quaternion" else 6)
    assert np.abs(encoded).max() <= 1.0
    decoded = norm.decode_pose(encoded)
    assert np.abs(decoded[:, :3, 3] - T[:, :3, 3]).max() < 1e-4
    assert np.abs(decoded[:, :3, :3] - T[:, :3, :3]).max() < 1e-4


def test_the_extremes_reach_both_ends():
    T = poses(np.random.default_rng(3), 200)
    encoded = Normalization.fit(T).encode_pose(T)
    np.testing.assert_allclose(encoded.min(axis=0), -1)
    np.testing.assert_allclose(encoded.max(axis=0), 1)


@pytest.mark.parametrize("rotation", ["quaternion", "euler"])
def test_with_a_joint_range_a_metre_is_as_long_along_each_axis(rotation):
    """A survey at a constant altitude, its camera steady but for its yaw: what hardly moves hardly counts."""
    T = down_looking(np.linspace(-0.8, 0.8, 60))
    T[:, 2, 3] += np.random.default_rng(0).uniform(-6, 6, 60)
    axis, joint = (Normalization.fit(T, rotation=rotation, pose_range=name) for name in ("axis", "joint"))
    metres = np.subtract(joint.position_max_m, joint.position_min_m)
    np.testing.assert_allclose(metres, 400.0)
    np.testing.assert_allclose(np.add(joint.position_max_m, joint.position_min_m) / 2, T[:, :3, 3].mean(axis=0), atol=3)
    turns = np.subtract(joint.rotation_max, joint.rotation_min)
    np.testing.assert_allclose(turns, turns[0])
    encoded = joint.encode_pose(T)
    assert np.ptp(encoded, axis=0)[[0, 2]] == pytest.approx([2.0, 2.0 * 12 / 400], rel=0.1)
    assert np.sort(np.ptp(encoded[:, 3:], axis=0))[[0, -1]] == pytest.approx([0.04, 2.0], abs=0.06)
    np.testing.assert_allclose(np.ptp(axis.encode_pose(T), axis=0), 2.0, rtol=0.02)
    decoded = joint.decode_pose(encoded)
    assert np.abs(decoded - T).max() < 1e-3


def test_a_pose_outside_is_not_clipped():
    T = poses(np.random.default_rng(4), 20)
    norm = Normalization.fit(T)
    far = T[:1].copy()
    far[0, 0, 3] = norm.position_max_m[0] + 100.0
    assert norm.encode_pose(far)[0, 0] > 1.5
    assert norm.decode_pose(norm.encode_pose(far))[0, 0, 3] == pytest.approx(far[0, 0, 3], rel=1e-5)


def test_millimetres_of_altitude_noise_are_not_blown_up():
    rng = np.random.default_rng(0)
    T = poses(rng, 300)
    T[:, 2, 3] = 55.0 + rng.normal(0, 0.001, 300)
    altitude = Normalization.fit(T).encode_pose(T)[:, 2]
    assert np.abs(altitude).max() < 0.01


def test_a_camera_that_never_moves_is_encoded_as_zero():
    T = np.repeat(poses(np.random.default_rng(1), 1), 30, axis=0)
    for rotation in ("quaternion", "euler"):
        norm = Normalization.fit(T, rotation=rotation)
        np.testing.assert_allclose(norm.encode_pose(T), 0.0, atol=1e-5)
        np.testing.assert_allclose(norm.decode_pose(norm.encode_pose(T)), T, atol=1e-6)


def test_steady_gimbal_angles_are_not_blown_up():
    T = down_looking(np.full(200, 0.3), tilt_rad=0.0005)
    for rotation in ("quaternion", "euler"):
        assert np.abs(Normalization.fit(T, rotation=rotation).encode_pose(T)[:, 3:]).max() < 0.3


@pytest.mark.parametrize("rotation", ["quaternion", "euler"])
def test_near_equal_rotations_of_a_down_looking_camera_stay_near(rotation):
    """w is about 0 and roll about 180 degrees there: the usual w >= 0 and (-pi, pi] would jump with noise."""
    T = down_looking(np.full(300, 1.0))
    norm = Normalization.fit(T, rotation=rotation)
    components = np.asarray(norm.rotation_max) - np.asarray(norm.rotation_min)
    assert components.max() < 0.15


@pytest.mark.parametrize("share_back", [0.3, 0.7])
def test_a_survey_flown_back_and_forth_has_no_sign_flips(share_back):
    n = 400
    yaw = np.where(np.arange(n) < share_back * n, np.pi, 0.0)
    T = down_looking(yaw)
    quat = se3.split(T)[1]
    mean = np.linalg.eigh(quat.T @ quat)[1][:, -1]
    assert np.abs(quat @ mean).min() < 0.05, "here the plain mean cuts through one heading"
    encoded = Normalization.fit(T).encode_pose(T)
    for heading in (yaw == 0, yaw != 0):
        assert np.ptp(encoded[heading][:, 3:5], axis=0).max() < 0.2


def test_the_reference_does_not_depend_on_signs():
    quat = se3.split(poses(np.random.default_rng(5), 50))[1]
    signs = np.random.default_rng(6).choice([-1.0, 1.0], (50, 1))
    np.testing.assert_allclose(np.abs(reference_quaternion(quat) @ reference_quaternion(quat * signs)), 1.0, atol=1e-9)


@settings(max_examples=40)
@given(
    depth=hnp.arrays(np.float32, (3, 4, 5), elements=st.floats(0, 700, width=32)),
    unknown=hnp.arrays(np.bool_, (3, 4, 5)),
)
def test_depth_keeps_its_unknowns_and_comes_back(depth, unknown):
    unknown[0, 0, 0] = False
    depth = np.where(unknown, np.float32(np.nan), depth)
    norm = Normalization.fit(poses(np.random.default_rng(0), 3), depth)
    encoded = norm.encode_depth(depth)
    assert encoded.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(encoded), unknown)
    assert np.nanmax(np.abs(encoded)) <= 1.0
    np.testing.assert_allclose(norm.decode_depth(encoded), depth, atol=2e-4)


def test_a_flat_wall_has_a_depth_range():
    depth = np.full((2, 3, 3), 4.0, np.float32)
    norm = Normalization.fit(poses(np.random.default_rng(0), 2), depth)
    np.testing.assert_allclose(norm.encode_depth(depth), 0.0, atol=1e-4)
    assert 0 <= norm.depth_min < 4.0 < norm.depth_max


def test_depth_extremes_span_all_chunks():
    depth = np.full((200, 2, 2), np.nan, np.float32)
    depth[0, 0, 0], depth[199, 1, 1] = 2.0, 90.0
    norm = Normalization.fit(poses(np.random.default_rng(0), 200), depth)
    assert (norm.depth_min, norm.depth_max) == (2.0, 90.0)
    depth[100] = 5.0
    norm = Normalization.fit(poses(np.random.default_rng(0), 200), depth, depth_frames=range(50, 200))
    assert (norm.depth_min, norm.depth_max) == (5.0, 90.0)


@pytest.mark.parametrize("rotation", ["quaternion", "euler"])
def test_the_dict_round_trip_is_exact(rotation):
    T = poses(np.random.default_rng(7), 30)
    norm = Normalization.fit(T, np.linspace(1, 9, 30).reshape(30, 1, 1), rotation)
    assert Normalization.from_dict(norm.to_dict()) == norm


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rotation": "axis-angle"}, "quaternion or euler"),
        ({"position_min_m": [0, 0]}, "position"),
        ({"position_min_m": [float("nan"), 0, 0]}, "position"),
        ({"rotation_max": [-9, -9, -9, -9]}, "min < max"),
        ({"depth_max": None}, "together"),
        ({"reference_quat_xyzw": [0, 0, 0, 0]}, "unit quaternion"),
        ({"colour": 1}, "expected the keys"),
        ({"position_min_m": ["a", "b", "c"]}, "normalization"),
    ],
)
def test_a_damaged_dict_is_refused(change, message):
    norm = Normalization.fit(poses(np.random.default_rng(7), 30), np.linspace(1, 9, 30).reshape(30, 1, 1))
    with pytest.raises(UserError, match=message):
        Normalization.from_dict({**norm.to_dict(), **change})


def test_bad_training_data_is_named():
    T = poses(np.random.default_rng(8), 3)
    with pytest.raises(UserError, match="no poses"):
        Normalization.fit(T[:0])
    with pytest.raises(UserError, match="NaN"):
        Normalization.fit(np.where(np.arange(3)[:, None, None] == 1, np.nan, T))
    with pytest.raises(UserError, match="no depth image"):
        Normalization.fit(T, np.full((3, 2, 2), np.nan))
    with pytest.raises(UserError, match="without depth"):
        Normalization.fit(T).encode_depth(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="pose"):
        Normalization.fit(T).decode_pose(np.zeros((2, 6)))


def test_what_other_processors_round_otherwise_agrees_and_other_frames_do_not():
    T_map_cam, depth = poses(np.random.default_rng(0), 12), np.linspace(2, 9, 12 * 4).reshape(12, 2, 2)
    mine = Normalization.fit(T_map_cam, depth)
    rounded = dataclasses.replace(
        mine, reference_quat_xyzw=tuple(x + 1e-16 for x in mine.reference_quat_xyzw), depth_max=mine.depth_max + 1e-7
    )
    assert mine.agrees(rounded)
    assert rounded.agrees(mine)
    assert not mine.agrees(Normalization.fit(T_map_cam))
    assert not mine.agrees(Normalization.fit(T_map_cam[:11], depth[:11]))
    assert not mine.agrees(Normalization.fit(T_map_cam, depth, rotation="euler"))
    assert not mine.agrees(dataclasses.replace(mine, depth_max=mine.depth_max + 0.01))
