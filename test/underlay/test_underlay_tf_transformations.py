"""tf_transformations against scipy, which has its own code for the same mathematics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tf_transformations as tft
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

angles = st.floats(-math.pi, math.pi, allow_subnormal=False)
components = st.floats(-1.0, 1.0, allow_subnormal=False)


@st.composite
def unit_quaternions(draw) -> np.ndarray:
    xyzw = np.array(draw(st.tuples(*[components] * 4)))
    length = np.linalg.norm(xyzw)
    assume(length > 0.1)
    return xyzw / length


def same_rotation(a, b) -> bool:
    return abs(abs(np.dot(a, b)) - 1.0) < 1e-9


@given(roll=angles, pitch=angles, yaw=angles)
def test_quaternion_from_euler(roll, pitch, yaw):
    found = tft.quaternion_from_euler(roll, pitch, yaw)
    assert len(found) == 4
    assert same_rotation(found, Rotation.from_euler("xyz", [roll, pitch, yaw]).as_quat())


def test_yaw_is_about_z():
    x, y, z, w = tft.quaternion_from_euler(0.0, 0.0, math.pi / 2)
    assert [x, y, z, w] == pytest.approx([0.0, 0.0, math.sqrt(0.5), math.sqrt(0.5)])


@given(roll=angles, pitch=st.floats(-1.5, 1.5), yaw=angles)
def test_euler_there_and_back(roll, pitch, yaw):
    assume(max(abs(roll), abs(yaw)) < math.pi - 1e-6)
    quaternion = tft.quaternion_from_euler(roll, pitch, yaw)
    assert tft.euler_from_quaternion(quaternion) == pytest.approx((roll, pitch, yaw), abs=1e-9)
    matrix = tft.euler_matrix(roll, pitch, yaw)
    assert tft.euler_from_matrix(matrix) == pytest.approx((roll, pitch, yaw), abs=1e-9)


@pytest.mark.parametrize(("axes", "scipy_axes"), [("sxyz", "xyz"), ("rzyx", "ZYX"), ("szxz", "zxz"), ("rxyz", "XYZ")])
def test_axis_sequences(axes, scipy_axes):
    expected = Rotation.from_euler(scipy_axes, [0.3, -0.4, 1.2])
    assert tft.euler_matrix(0.3, -0.4, 1.2, axes)[:3, :3] == pytest.approx(expected.as_matrix())
    assert same_rotation(tft.quaternion_from_euler(0.3, -0.4, 1.2, axes=axes), expected.as_quat())
    assert tft.euler_matrix(*tft.euler_from_quaternion(expected.as_quat(), axes), axes)[:3, :3] == pytest.approx(
        expected.as_matrix()
    )


@given(quaternion=unit_quaternions())
def test_quaternion_and_matrix(quaternion):
    matrix = tft.quaternion_matrix(quaternion)
    assert matrix[:3, :3] == pytest.approx(Rotation.from_quat(quaternion).as_matrix(), abs=1e-9)
    assert matrix[3].tolist() == [0.0, 0.0, 0.0, 1.0]
    assert matrix[:3, 3].tolist() == [0.0, 0.0, 0.0]
    assert same_rotation(tft.quaternion_from_matrix(matrix), quaternion)


def test_quaternion_from_a_matrix_that_moves_and_scales():
    quaternion = tft.quaternion_from_euler(0.1, 0.2, 0.3)
    matrix = tft.concatenate_matrices(tft.translation_matrix((4, 5, 6)), tft.quaternion_matrix(quaternion))
    matrix[:3, :3] *= 2.0
    assert same_rotation(tft.quaternion_from_matrix(matrix), quaternion)


def test_quaternion_matrix_normalizes():
    assert tft.quaternion_matrix((0.0, 0.0, 2.0, 2.0)) == pytest.approx(tft.rotation_matrix(math.pi / 2, (0, 0, 1)))


@given(first=unit_quaternions(), second=unit_quaternions())
def test_multiplication_and_inverse(first, second):
    product = tft.quaternion_multiply(second, first)
    expected = (Rotation.from_quat(second) * Rotation.from_quat(first)).as_quat()
    assert same_rotation(product, expected)
    identity = tft.quaternion_multiply(first, tft.quaternion_inverse(first))
    assert identity == pytest.approx([0.0, 0.0, 0.0, 1.0], abs=1e-9)


def test_conjugate_and_inverse_of_any_length():
    assert tft.quaternion_conjugate((1.0, 2.0, 3.0, 4.0)).tolist() == [-1.0, -2.0, -3.0, 4.0]
    assert tft.quaternion_inverse((0.0, 0.0, 0.0, 2.0)) == pytest.approx([0.0, 0.0, 0.0, 0.5])
    assert tft.quaternion_multiply((1, -2, 3, 4), (-5, 6, 7, 8)) == pytest.approx((-44, -14, 48, 28))


def test_about_axis():
    expected = Rotation.from_rotvec(0.7 * np.array([0.6, 0.0, 0.8]))
    assert same_rotation(tft.quaternion_about_axis(0.7, (0.6, 0.0, 0.8)), expected.as_quat())
    assert tft.rotation_matrix(0.7, (0.6, 0.0, 0.8))[:3, :3] == pytest.approx(expected.as_matrix())


@given(first=unit_quaternions(), second=unit_quaternions(), fraction=st.floats(0.0, 1.0))
def test_slerp(first, second, fraction):
    assume(abs(np.dot(first, second)) > 1e-3)  # at half a turn both ways are shortest
    found = tft.quaternion_slerp(first, second, fraction)
    expected = Slerp([0.0, 1.0], Rotation.from_quat([first, second]))(fraction).as_quat()
    assert abs(np.dot(found, expected)) == pytest.approx(1.0, abs=1e-7)


def test_slerp_may_take_the_long_way():
    start, end = (0.0, 0.0, 0.0, 1.0), (0.0, 0.0, -math.sin(1.0), -math.cos(1.0))
    short, long = (tft.quaternion_slerp(start, end, 0.5), tft.quaternion_slerp(start, end, 0.5, shortestpath=False))
    assert short == pytest.approx([0.0, 0.0, math.sin(0.5), math.cos(0.5)])
    assert abs(np.dot(short, long)) == pytest.approx(0.0, abs=1e-9)


def test_slerp_ends_are_normalized_copies():
    start, end = np.array([0.0, 0.0, 0.0, 2.0]), np.array([0.0, 3.0, 0.0, 0.0])
    assert tft.quaternion_slerp(start, end, 0.0).tolist() == [0.0, 0.0, 0.0, 1.0]
    assert tft.quaternion_slerp(start, end, 1.0).tolist() == [0.0, 1.0, 0.0, 0.0]
    assert start.tolist() == [0.0, 0.0, 0.0, 2.0]


def test_matrices():
    moved = tft.translation_matrix((1.0, 2.0, 3.0))
    assert moved[:3, 3].tolist() == [1.0, 2.0, 3.0]
    assert tft.translation_from_matrix(moved) == pytest.approx([1.0, 2.0, 3.0])
    turned = tft.rotation_matrix(math.pi / 2, (0.0, 0.0, 1.0))
    both = tft.concatenate_matrices(moved, turned)
    assert both @ [1.0, 0.0, 0.0, 1.0] == pytest.approx([1.0, 3.0, 3.0, 1.0])
    assert tft.inverse_matrix(both) @ both == pytest.approx(tft.identity_matrix())
    assert tft.concatenate_matrices() == pytest.approx(np.identity(4))


def test_rotation_about_a_point():
    matrix = tft.rotation_matrix(math.pi, (0.0, 0.0, 1.0), point=(1.0, 0.0, 0.0))
    assert matrix @ [0.0, 0.0, 0.0, 1.0] == pytest.approx([2.0, 0.0, 0.0, 1.0])
    angle, direction, point = tft.rotation_from_matrix(matrix)
    assert tft.is_same_transform(tft.rotation_matrix(angle, direction, point), matrix)
    assert not tft.is_same_transform(matrix, np.identity(4))


def test_random_rotations():
    quaternion = tft.random_quaternion()
    assert quaternion.shape == (4,)
    assert np.linalg.norm(quaternion) == pytest.approx(1.0)
    assert np.array_equal(tft.random_quaternion([0.1, 0.2, 0.3]), tft.random_quaternion([0.1, 0.2, 0.3]))
    assert tft.random_quaternion([0.0, 0.25, 0.0]) == pytest.approx([1.0, 0.0, 0.0, 0.0])
    assert tft.random_quaternion([1.0, 0.0, 0.25]) == pytest.approx([0.0, 0.0, 1.0, 0.0])
    matrix = tft.random_rotation_matrix()
    assert matrix.T @ matrix == pytest.approx(np.identity(4))


def test_vectors():
    assert tft.vector_norm([3.0, 4.0]) == 5.0
    assert tft.vector_norm([]) == 0.0
    assert tft.vector_norm([[3.0, 4.0], [6.0, 8.0]], axis=1).tolist() == [5.0, 10.0]
    assert tft.vector_norm([[1.0, 2.0], [2.0, 4.0]]).tolist() == [5.0], "of all numbers, as an array of one"
    original = np.array([0.0, 2.0])
    assert tft.unit_vector(original).tolist() == [0.0, 1.0]
    assert original.tolist() == [0.0, 2.0]
    assert tft.unit_vector([[0.0, 2.0], [3.0, 0.0]], axis=1).tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert tft.unit_vector([[1.0, 2.0], [2.0, 4.0]]) == pytest.approx(np.array([[0.2, 0.4], [0.4, 0.8]]))


@pytest.mark.parametrize("axis", [0, 1, -1, (0, 2), None])
def test_vectors_along_any_axes_and_into_an_array(axis):
    data = np.random.default_rng(1).normal(size=(5, 4, 3))
    norms = np.sqrt((data**2).sum(axis=axis))
    assert tft.vector_norm(data, axis) == pytest.approx(np.atleast_1d(norms))
    out = np.full_like(norms, 7.0)
    assert tft.vector_norm(data, axis=axis, out=out) is None
    assert out == pytest.approx(norms)
    units = data / np.sqrt((data**2).sum(axis=axis, keepdims=True))
    assert tft.unit_vector(data, axis) == pytest.approx(units)
    out = np.full_like(data, 7.0)
    assert tft.unit_vector(data, axis=axis, out=out) is None
    assert out == pytest.approx(units)
    assert tft.unit_vector(out, axis, out) is None, "in place"
    assert out == pytest.approx(units)


def test_several_rotations_at_once():
    quaternions = tft.random_quaternion(np.random.default_rng(2).random((3, 5)))
    assert quaternions.shape == (4, 5)
    assert np.linalg.norm(quaternions, axis=0) == pytest.approx(np.ones(5))
    assert tft.random_vector((2, 3)).shape == (2, 3)


def test_what_is_not_three_numbers_is_refused():
    for direction in ((1.0, 2.0), (1.0, 2.0, 3.0, 1.0)):
        with pytest.raises(ValueError, match="shape"):
            tft.translation_matrix(direction)
