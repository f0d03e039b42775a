"""Unit quaternions in ROS order (x, y, z, w): arrays of shape (..., 4), float64, thin over scipy's Rotation.

A rotation has two quaternions, q and -q. Results here have w >= 0 unless a function says otherwise; interpolation
and `canonical` with a reference choose the sign that is nearest instead, which a network must be fed with.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64

# A matrix whose elements lie this near to a rotation is one as it is.
_EXACT = 1e-12


def normalize(quat_xyzw: npt.ArrayLike) -> Float64:
    """The quaternions (..., 4) at length one, signs kept. UserError for a zero or non-finite one."""
    quat = _quaternions(quat_xyzw)
    scale = np.abs(quat).max(axis=-1, keepdims=True)  # scaled first, so that tiny and huge lengths do not overflow
    if not np.all(np.isfinite(quat)) or np.any(scale == 0):
        raise UserError("a quaternion is zero or not finite; orientations must be unit quaternions (x, y, z, w)")
    quat = quat / scale
    unit: Float64 = quat / np.linalg.norm(quat, axis=-1, keepdims=True)
    return unit


def canonical(quat_xyzw: npt.ArrayLike, reference_xyzw: npt.ArrayLike | None = None) -> Float64:
    """Unit quaternions (..., 4) with w >= 0, or in the hemisphere of `reference_xyzw` (broadcast)."""
    if reference_xyzw is None:
        rotation, shape = _rotation(quat_xyzw)
        return _as_quaternions(rotation, shape)
    quat = normalize(quat_xyzw)
    dot = np.sum(quat * _quaternions(reference_xyzw), axis=-1, keepdims=True)
    return np.where(dot < 0, -quat, quat)


def multiply(first_xyzw: npt.ArrayLike, second_xyzw: npt.ArrayLike) -> Float64:
    """Hamilton product first * second, broadcast over (..., 4): the rotation `second` followed by `first`."""
    first, second = np.broadcast_arrays(_quaternions(first_xyzw), _quaternions(second_xyzw))
    (a, shape), (b, _) = _rotation(first), _rotation(second)
    return _as_quaternions(a * b, shape)


def inverse(quat_xyzw: npt.ArrayLike) -> Float64:
    """The inverse rotations, (..., 4)."""
    rotation, shape = _rotation(quat_xyzw)
    return _as_quaternions(rotation.inv(), shape)


def angle_between_rad(first_xyzw: npt.ArrayLike, second_xyzw: npt.ArrayLike) -> Float64:
    """Smallest rotation angle between two orientations, (...), in [0, pi]."""
    first, second = np.broadcast_arrays(_quaternions(first_xyzw), _quaternions(second_xyzw))
    (a, shape), (b, _) = _rotation(first), _rotation(second)
    return np.asarray((a.inv() * b).magnitude(), dtype=np.float64).reshape(shape)


def from_matrix(rotation: npt.ArrayLike) -> Float64:
    """Quaternions (..., 4) of rotation matrices (..., 3, 3); slightly non-orthogonal ones are orthogonalised.

    UserError for a matrix that is no rotation: non-finite, mirrored, or off by more than 1 %.
    """
    matrix = np.asarray(rotation, dtype=np.float64)
    if matrix.shape[-2:] != (3, 3):
        raise UserError(f"a rotation matrix has shape (..., 3, 3), not {matrix.shape}")
    if matrix.ndim == 2:
        exact = _of_exact_matrix(matrix.tolist())
        if exact is not None:
            return np.array(exact)
    flat = matrix.reshape(-1, 3, 3)
    gram_error = np.abs(flat @ flat.swapaxes(-1, -2) - np.eye(3)).max(initial=0.0)
    if not gram_error < 0.02 or np.any(np.linalg.det(flat) < 0):
        raise UserError("a matrix is no rotation: its rows must be orthonormal and right-handed")
    return _as_quaternions(Rotation.from_matrix(flat), matrix.shape[:-2])


def _of_exact_matrix(rows: list[list[float]]) -> tuple[float, float, float, float] | None:
    """The quaternion of one matrix that is orthonormal as it is, in microseconds; None for any other.

    From the largest of the four components (Shepperd 1978); w is not negative, and of two signs the library's is taken.
    """
    (a, b, c), (d, e, f), (g, h, i) = rows
    squares = (1 + a - e - i, 1 - a + e - i, 1 - a - e + i, 1 + a + e + i)  # 4 x^2, 4 y^2, 4 z^2, 4 w^2
    largest = max(squares)
    if not largest < math.inf:
        return None
    k = squares.index(largest)
    quat = (
        (squares[0], b + d, c + g, h - f),
        (b + d, squares[1], f + h, c - g),
        (c + g, f + h, squares[2], d - b),
        (h - f, c - g, d - b, squares[3]),
    )[k]
    x, y, z, w = (value / (2 * math.sqrt(largest)) for value in quat)
    back = (
        *(1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        *(2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        *(2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    if max(abs(there - here) for there, here in zip(back, (a, b, c, d, e, f, g, h, i), strict=True)) > _EXACT:
        return None
    sign = -1.0 if (w, x, y, z) < (0.0, 0.0, 0.0, 0.0) else 1.0
    return sign * x, sign * y, sign * z, sign * w


def to_matrix(quat_xyzw: npt.ArrayLike) -> Float64:
    """Rotation matrices (..., 3, 3)."""
    rotation, shape = _rotation(quat_xyzw)
    return np.asarray(rotation.as_matrix(), dtype=np.float64).reshape(*shape, 3, 3)


def from_euler_rpy(rpy_rad: npt.ArrayLike) -> Float64:
    """Quaternions of roll, pitch, yaw (..., 3) about the fixed axes x, y, z in that order (REP-103)."""
    rpy = np.asarray(rpy_rad, dtype=np.float64)
    return _as_quaternions(Rotation.from_euler("xyz", rpy.reshape(-1, 3)), rpy.shape[:-1])


def to_euler_rpy(quat_xyzw: npt.ArrayLike) -> Float64:
    """Roll, pitch, yaw (..., 3) about fixed axes; yaw is set to 0 where pitch is +-90 degrees (gimbal lock)."""
    rotation, shape = _rotation(quat_xyzw)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Gimbal lock")
        return np.asarray(rotation.as_euler("xyz"), dtype=np.float64).reshape(*shape, 3)


def _quaternions(quat_xyzw: npt.ArrayLike) -> Float64:
    quat = np.asarray(quat_xyzw, dtype=np.float64)
    if quat.ndim == 0 or quat.shape[-1] != 4:
        raise UserError(f"quaternions have shape (..., 4) in x, y, z, w order, not {quat.shape}")
    return quat


def _rotation(quat_xyzw: npt.ArrayLike) -> tuple[Rotation, tuple[int, ...]]:
    """The quaternions as one flat scipy Rotation (older scipy takes no more than two axes) and their shape."""
    quat = normalize(quat_xyzw)
    return Rotation.from_quat(quat.reshape(-1, 4)), quat.shape[:-1]


def _as_quaternions(rotation: Rotation, shape: tuple[int, ...]) -> Float64:
    return np.asarray(rotation.as_quat(canonical=True), dtype=np.float64).reshape(*shape, 4)
