"""The stand-in for tf_transformations: quaternions in ROS order (x, y, z, w), 4x4 matrices, angles in radians.

A thin layer over transforms3d, which has the scalar part first. Euler axes are named as there: `sxyz` (the
default, roll-pitch-yaw about fixed axes) and 23 more. See underlay/README.md for what is left out.
"""

from __future__ import annotations

import math

import numpy as np
from transforms3d import affines, axangles, euler, quaternions

_EPS = 4.0 * np.finfo(float).eps


def _wxyz(xyzw):
    x, y, z, w = xyzw
    return w, x, y, z


def _xyzw(wxyz):
    w, x, y, z = wxyz
    return x, y, z, w


def _homogeneous(rotation):
    matrix = np.identity(4)
    matrix[:3, :3] = rotation
    return matrix


def identity_matrix():
    """The 4x4 identity."""
    return np.identity(4)


def translation_matrix(direction):
    """The 4x4 matrix that moves by (x, y, z)."""
    return affines.compose(direction, np.identity(3), np.ones(3))


def translation_from_matrix(matrix):
    """The translation (x, y, z) of a 4x4 matrix."""
    return affines.decompose(matrix)[0]


def rotation_matrix(angle, direction, point=None):
    """The 4x4 matrix that turns by an angle about an axis through a point (default: the origin)."""
    return axangles.axangle2aff(direction, angle, point=point)


def rotation_from_matrix(matrix):
    """Angle, axis and a point on the axis of a 4x4 rotation matrix."""
    direction, angle, point = axangles.aff2axangle(matrix)
    return angle, direction, point


def euler_matrix(ai, aj, ak, axes="sxyz"):
    """The 4x4 matrix of three Euler angles."""
    return _homogeneous(euler.euler2mat(ai, aj, ak, axes=axes))


def euler_from_matrix(matrix, axes="sxyz"):
    """Three Euler angles of a 3x3 or 4x4 rotation matrix."""
    return euler.mat2euler(matrix, axes=axes)


def euler_from_quaternion(quaternion, axes="sxyz"):
    """Three Euler angles of a quaternion."""
    return euler_from_matrix(quaternion_matrix(quaternion), axes)


def quaternion_from_euler(ai, aj, ak, axes="sxyz"):
    """The quaternion of three Euler angles."""
    return _xyzw(euler.euler2quat(ai, aj, ak, axes=axes))


def quaternion_about_axis(angle, axis):
    """The quaternion that turns by an angle about an axis."""
    return _xyzw(quaternions.axangle2quat(axis, angle))


def quaternion_matrix(quaternion):
    """The 4x4 rotation matrix of a quaternion, which need not have unit length."""
    return _homogeneous(quaternions.quat2mat(_wxyz(quaternion)))


def quaternion_from_matrix(matrix):
    """The quaternion of the rotation in a 4x4 matrix, which may also scale and move."""
    return _xyzw(quaternions.mat2quat(affines.decompose(matrix)[1]))


def quaternion_multiply(quaternion1, quaternion0):
    """quaternion1 * quaternion0: first turn by quaternion0, then by quaternion1."""
    return _xyzw(quaternions.qmult(_wxyz(quaternion1), _wxyz(quaternion0)))


def quaternion_conjugate(quaternion):
    """The quaternion with the vector part reversed."""
    return np.array((-quaternion[0], -quaternion[1], -quaternion[2], quaternion[3]), dtype=float)


def quaternion_inverse(quaternion):
    """The quaternion that undoes it, for any length."""
    return quaternion_conjugate(quaternion) / np.dot(quaternion, quaternion)


def quaternion_slerp(quat0, quat1, fraction, spin=0, shortestpath=True):
    """From quat0 (fraction 0) to quat1 (fraction 1) on the great arc, with `spin` extra half turns."""
    start, end = unit_vector(quat0[:4]), unit_vector(quat1[:4])
    if fraction == 0.0:
        return start
    if fraction == 1.0:
        return end
    cosine = np.dot(start, end)
    if abs(abs(cosine) - 1.0) < _EPS:
        return start
    if shortestpath and cosine < 0.0:
        cosine, end = -cosine, -end
    angle = math.acos(cosine) + spin * math.pi
    if abs(angle) < _EPS:
        return start
    return (math.sin((1.0 - fraction) * angle) * start + math.sin(fraction * angle) * end) / math.sin(angle)


def random_quaternion(rand=None):
    """A uniformly random rotation, from three numbers in [0, 1) (Shoemake, Graphics Gems III) or of its own."""
    # the original's generator, so that np.random.seed reaches it
    u, v, w = np.random.rand(3) if rand is None else map(np.asarray, rand)  # noqa: NPY002
    a, b = np.sqrt(1.0 - u), np.sqrt(u)
    v, w = 2.0 * math.pi * v, 2.0 * math.pi * w
    return np.array((a * np.sin(v), a * np.cos(v), b * np.sin(w), b * np.cos(w)))


def random_rotation_matrix(rand=None):
    """The 4x4 matrix of `random_quaternion`."""
    return quaternion_matrix(random_quaternion(rand))


def random_vector(size):
    """Random numbers in [0, 1), as many or of the shape that `size` says."""
    return np.random.random(size)  # noqa: NPY002


def vector_norm(data, axis=None, out=None):
    """Euclidean length: a float for one vector, else an array along `axis`, of all numbers without one.

    With `out` the lengths are written there and nothing is returned.
    """
    data = np.asarray(data, dtype=float)
    if out is not None:
        np.sqrt(np.sum(data * data, axis=axis, out=out), out=out)
        return None
    if data.ndim == 1:
        return math.sqrt(np.dot(data, data))
    return np.sqrt(np.atleast_1d(np.sum(data * data, axis=axis)))


def unit_vector(data, axis=None, out=None):
    """The vector, or the vectors along `axis`, with length 1; with `out` written there, and nothing is returned."""
    if out is None:
        data = np.array(data, dtype=float)
        return data / (math.sqrt(np.dot(data, data)) if data.ndim == 1 else _lengths(data, axis))
    out[:] = data
    out /= _lengths(out, axis)
    return None


def _lengths(data, axis):
    """Of the vectors along an axis, kept as an axis of one; of all numbers without one."""
    return np.sqrt(np.sum(data * data, axis=axis, keepdims=axis is not None))


def inverse_matrix(matrix):
    """The inverse of a square matrix."""
    return np.linalg.inv(matrix)


def concatenate_matrices(*matrices):
    """The product of matrices, the last one applied first."""
    product = np.identity(4)
    for matrix in matrices:
        product = product @ matrix
    return product


def is_same_transform(matrix0, matrix1):
    """Whether two 4x4 matrices do the same, up to scale and rounding."""
    matrix0, matrix1 = np.asarray(matrix0, dtype=float), np.asarray(matrix1, dtype=float)
    return np.allclose(matrix0 / matrix0[3, 3], matrix1 / matrix1[3, 3])
