"""Quaternions against transforms3d, and between two of them the closed form of SLERP."""

from __future__ import annotations

import math

import numpy as np
import pytest
import transforms3d
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import quaternions as quat
from pose2rgbd_ros.geometry import trajectory

component = st.floats(-1.0, 1.0, allow_nan=False)
quaternion = (
    hnp.arrays(np.float64, 4, elements=component).filter(lambda q: np.linalg.norm(q) > 1e-3).map(quat.normalize)
)
fraction = st.floats(0.0, 1.0)


def wxyz(q: np.ndarray) -> np.ndarray:
    """transforms3d's order."""
    return q[[3, 0, 1, 2]]


def slerp(a: np.ndarray, b: np.ndarray, u: float) -> np.ndarray:
    """The orientation a part `u` of the way."""
    return np.array(trajectory.interpolate_linear(math, (0, 0, 0, *a), (0, 0, 0, *b), u)[3:])


@given(quaternion)
def test_matrix_is_the_one_of_transforms3d(q: np.ndarray) -> None:
    np.testing.assert_allclose(quat.to_matrix(q), transforms3d.quaternions.quat2mat(wxyz(q)), atol=1e-12)


@given(quaternion)
def test_matrix_round_trip_keeps_the_rotation(q: np.ndarray) -> None:
    back = quat.from_matrix(quat.to_matrix(q))
    assert min(np.abs(back - q).max(), np.abs(back + q).max()) < 1e-9


@given(quaternion, quaternion)
def test_multiply_applies_the_second_first(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_allclose(quat.to_matrix(quat.multiply(a, b)), quat.to_matrix(a) @ quat.to_matrix(b), atol=1e-12)
    np.testing.assert_allclose(quat.to_matrix(quat.multiply(a, quat.inverse(a))), np.eye(3), atol=1e-12)


@given(quaternion, quaternion)
def test_canonical_picks_one_of_the_two_signs(q: np.ndarray, reference: np.ndarray) -> None:
    positive = quat.canonical(q)
    assert positive[3] >= 0
    assert min(np.abs(positive - q).max(), np.abs(positive + q).max()) < 1e-12
    assert quat.canonical(-q, reference) @ reference >= 0


@given(st.floats(-3.1, 3.1), st.floats(-1.5, 1.5), st.floats(-3.1, 3.1))
def test_rpy_is_the_fixed_axis_convention_of_ros(roll: float, pitch: float, yaw: float) -> None:
    q = quat.from_euler_rpy([roll, pitch, yaw])
    expected = transforms3d.euler.euler2quat(roll, pitch, yaw, "sxyz")
    assert min(np.abs(wxyz(q) - expected).max(), np.abs(wxyz(q) + expected).max()) < 1e-9
    np.testing.assert_allclose(quat.to_euler_rpy(q), [roll, pitch, yaw], atol=1e-6)


def test_rpy_survives_gimbal_lock() -> None:
    q = quat.from_euler_rpy([0.3, np.pi / 2, 0.1])
    np.testing.assert_allclose(quat.to_matrix(quat.from_euler_rpy(quat.to_euler_rpy(q))), quat.to_matrix(q), atol=1e-6)


@given(quaternion, quaternion, fraction)
def test_slerp_takes_the_shortest_path_at_constant_speed(a: np.ndarray, b: np.ndarray, u: float) -> None:
    angle = quat.angle_between_rad(a, b)
    here = slerp(a, b, u)
    assert angle <= np.pi + 1e-12
    assert quat.angle_between_rad(a, here) == pytest.approx(u * angle, abs=1e-7)
    assert quat.angle_between_rad(here, b) == pytest.approx((1 - u) * angle, abs=1e-7)


@given(quaternion, quaternion, fraction)
def test_slerp_is_the_closed_form(a: np.ndarray, b: np.ndarray, u: float) -> None:
    b = b if a @ b >= 0 else -b
    theta = np.arccos(np.clip(a @ b, -1, 1))
    if not 0.01 < theta < np.pi / 2 - 0.01:  # the closed form divides by sin(theta); at pi/2 the sign of b is open
        return
    expected = (np.sin((1 - u) * theta) * a + np.sin(u * theta) * b) / np.sin(theta)
    np.testing.assert_allclose(slerp(a, b, u), expected, atol=1e-9)


@given(quaternion, quaternion, fraction)
def test_slerp_does_not_care_for_the_sign_of_its_ends(a: np.ndarray, b: np.ndarray, u: float) -> None:
    if abs(a @ b) < 1e-6:  # half a turn apart: either way round is shortest
        return
    np.testing.assert_allclose(quat.to_matrix(slerp(a, -b, u)), quat.to_matrix(slerp(a, b, u)), atol=1e-7)


def test_batches_broadcast() -> None:
    many = quat.from_euler_rpy(np.random.default_rng(0).normal(size=(5, 3, 3)))
    assert quat.to_matrix(many).shape == (5, 3, 3, 3)
    assert quat.angle_between_rad(many, many[0, 0]).shape == (5, 3)
    assert quat.normalize(np.zeros((0, 4))).shape == (0, 4)


@pytest.mark.parametrize("bad", [[0, 0, 0, 0], [np.nan, 0, 0, 1], [np.inf, 0, 0, 0]])
def test_a_quaternion_that_is_none_is_refused(bad: list[float]) -> None:
    with pytest.raises(UserError, match="zero or not finite"):
        quat.normalize(bad)


def test_very_small_and_very_large_quaternions_are_normalised() -> None:
    for scale in (1e-300, 1e300):
        np.testing.assert_allclose(quat.normalize([0, 0, scale, scale]), [0, 0, np.sqrt(0.5), np.sqrt(0.5)])


@pytest.mark.parametrize("bad", [np.diag([1.0, 1, -1]), np.eye(3) * 1.1, np.full((3, 3), np.nan), np.zeros((3, 3))])
def test_a_matrix_that_is_no_rotation_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(UserError, match="no rotation"):
        quat.from_matrix(bad)


def test_three_numbers_are_no_quaternion() -> None:
    with pytest.raises(UserError, match="x, y, z, w order"):
        quat.normalize([0, 0, 1])


@given(st.integers(0, 2**32 - 1), st.floats(0, np.pi), st.sampled_from([None, 0, 1, 2]))
def test_one_matrix_is_read_like_many(seed: int, angle: float, about: int | None) -> None:
    """The way for a single exact matrix gives what the library gives; half turns and tiny ones too."""
    axis = np.random.default_rng(seed).normal(size=3) if about is None else np.eye(3)[about]
    matrix = Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).as_matrix()
    one, many = quat.from_matrix(matrix), quat.from_matrix(matrix[None])[0]
    sign = np.sign(one @ many) if one[3] < 1e-9 else 1.0  # of a half turn both signs are right
    np.testing.assert_allclose(one, sign * many, atol=1e-12)
    assert one[3] >= 0


def test_one_matrix_that_is_a_little_off_is_made_orthogonal_like_many() -> None:
    matrix = Rotation.from_rotvec([0.4, -1.0, 2.0]).as_matrix() + 1e-4 * np.arange(9).reshape(3, 3)
    np.testing.assert_array_equal(quat.from_matrix(matrix), quat.from_matrix(matrix[None])[0])
