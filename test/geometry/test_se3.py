"""Rigid transforms: round trips and the conventions of REP-103."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import quaternions, se3

metres = hnp.arrays(np.float64, 3, elements=st.floats(-1e4, 1e4))
quaternion = (
    hnp.arrays(np.float64, 4, elements=st.floats(-1, 1))
    .filter(lambda q: np.linalg.norm(q) > 1e-3)
    .map(quaternions.canonical)
)
transform = st.builds(se3.make, metres, quaternion)


@given(metres, quaternion)
def test_make_and_split_are_inverse(position: np.ndarray, quat: np.ndarray) -> None:
    p, q = se3.split(se3.make(position, quat))
    np.testing.assert_array_equal(p, position)
    assert min(np.abs(q - quat).max(), np.abs(q + quat).max()) < 1e-9


@given(transform)
def test_inverse_undoes(T: np.ndarray) -> None:
    np.testing.assert_allclose(se3.compose(T, se3.inverse(T)), np.eye(4), atol=1e-9)
    np.testing.assert_allclose(se3.inverse(T), np.linalg.inv(T), atol=1e-8)


@given(transform, transform, hnp.arrays(np.float64, (5, 3), elements=st.floats(-100, 100)))
def test_compose_is_one_after_the_other(T_a_b: np.ndarray, T_b_c: np.ndarray, points: np.ndarray) -> None:
    together = se3.transform_points(se3.compose(T_a_b, T_b_c), points)
    np.testing.assert_allclose(together, se3.transform_points(T_a_b, se3.transform_points(T_b_c, points)), atol=1e-6)


def test_points_keep_their_shape() -> None:
    rng = np.random.default_rng(0)
    T = se3.make(rng.normal(size=(4, 3)), rng.normal(size=(4, 4)))
    assert se3.transform_points(T[0], rng.normal(size=3)).shape == (3,)
    assert se3.transform_points(T[0], rng.normal(size=(6, 7, 3))).shape == (6, 7, 3)
    many = rng.normal(size=(4, 6, 3))
    moved = se3.transform_points(T, many)
    assert moved.shape == (4, 6, 3)
    np.testing.assert_allclose(moved[2], se3.transform_points(T[2], many[2]))


def test_optical_axes_in_the_body_follow_rep_103() -> None:
    forward, right, down = [0, 0, 1], [1, 0, 0], [0, 1, 0]
    np.testing.assert_array_equal(se3.transform_points(se3.T_BODY_OPTICAL, forward), [1, 0, 0])
    np.testing.assert_array_equal(se3.transform_points(se3.T_BODY_OPTICAL, right), [0, -1, 0])
    np.testing.assert_array_equal(se3.transform_points(se3.T_BODY_OPTICAL, down), [0, 0, -1])
    with pytest.raises(ValueError, match="read-only"):
        se3.T_BODY_OPTICAL[0, 0] = 5


@given(metres, metres)
def test_look_at_puts_the_target_on_the_optical_axis(eye: np.ndarray, target: np.ndarray) -> None:
    distance = np.linalg.norm(target - eye)
    if distance < 1e-3:
        return
    T = se3.look_at(eye, target)
    assert np.linalg.det(T[:3, :3]) == pytest.approx(1)
    np.testing.assert_allclose(se3.transform_points(se3.inverse(T), target), [0, 0, distance], atol=1e-6)
    assert T[2, 1] <= 1e-9  # image down never points up


def test_looking_straight_down_has_north_on_top() -> None:
    T = se3.look_at([1, 2, 30], [1, 2, 0])
    np.testing.assert_allclose(T[:3, :3] @ [0, -1, 0], [0, 1, 0], atol=1e-12)  # top of the image: north
    np.testing.assert_allclose(T[:3, :3] @ [1, 0, 0], [1, 0, 0], atol=1e-12)  # right: east


def test_look_at_takes_batches_and_refuses_its_own_eye() -> None:
    assert se3.look_at(np.random.default_rng(0).normal(size=(7, 3)), [0, 0, 0]).shape == (7, 4, 4)
    with pytest.raises(UserError, match="same point"):
        se3.look_at([1, 1, 1], [1, 1, 1])


@given(transform, metres, st.floats(0.0, np.pi), st.sampled_from("xyz"))
def test_apart_is_metres_and_the_angle_of_the_turn(
    T: np.ndarray, moved: np.ndarray, angle_rad: float, axis: str
) -> None:
    """2 acos |q1 . q2|, whatever the signs; from matrices a hair above half a turn is one below."""
    turned = T @ se3.make(np.zeros(3), Rotation.from_euler(axis, angle_rad).as_quat())
    turned[:3, 3] += moved
    metres_apart, radians = se3.apart(turned[None], T)
    assert metres_apart.shape == radians.shape == (1,)
    assert metres_apart[0] == pytest.approx(np.linalg.norm(moved), rel=1e-9, abs=1e-8)
    assert radians[0] == pytest.approx(angle_rad, abs=1e-6)


@given(st.integers(0, 1000))
def test_a_mean_lies_between(seed: int) -> None:
    rng = np.random.default_rng(seed)
    turns = Rotation.random(random_state=seed) * Rotation.from_rotvec(rng.uniform(-0.3, 0.3, (3, 3)))
    T = se3.make(rng.uniform(-5, 5, (3, 3)), turns.as_quat() * [[1.0], [-1.0], [1.0]])
    weights = np.array([0.2, 0.5, 0.3])
    mixed = se3.mean(T, weights)
    np.testing.assert_allclose(mixed[:3, 3], weights @ T[:, :3, 3])
    np.testing.assert_allclose(mixed[:3, :3], Rotation.from_matrix(T[:, :3, :3]).mean(weights).as_matrix())
    assert se3.apart(T, mixed)[1].max() <= se3.apart(T[[0, 0, 1]], T[[1, 2, 2]])[1].max()
    np.testing.assert_allclose(se3.mean(T, [0.0, 1.0, 0.0]), T[1], atol=1e-9)
    np.testing.assert_allclose(se3.mean(T), se3.mean(T, np.full(3, 1 / 3)), atol=1e-9)


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(UserError, match=r"\(\.\.\., 4, 4\)"):
        se3.inverse(np.eye(3))
    with pytest.raises(UserError, match="positions"):
        se3.make([1, 2], [0, 0, 0, 1])
    with pytest.raises(UserError, match="points"):
        se3.transform_points(np.eye(4), [1, 2])
