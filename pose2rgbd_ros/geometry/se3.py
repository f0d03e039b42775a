"""Rigid transforms as 4x4 matrices, float64, shape (..., 4, 4).

`T_map_cam` takes points of the camera frame to the map frame and is the pose of the camera in the map:
``p_map = T_map_cam @ p_cam`` and ``T_a_c = T_a_b @ T_b_c``.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import quaternions
from pose2rgbd_ros.geometry.arrays import Float64

# Pose of an optical frame (z forward, x right, y down) in a body frame (x forward, y left, z up), REP-103.
T_BODY_OPTICAL: Float64 = np.array(
    [[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)
T_BODY_OPTICAL.setflags(write=False)


def make(position_m: npt.ArrayLike, quat_xyzw: npt.ArrayLike) -> Float64:
    """Transforms (..., 4, 4) of positions (..., 3) and quaternions (..., 4), broadcast."""
    position = np.asarray(position_m, dtype=np.float64)
    if position.ndim == 0 or position.shape[-1] != 3:
        raise UserError(f"positions have shape (..., 3), not {position.shape}")
    rotation = quaternions.to_matrix(quat_xyzw)
    shape = np.broadcast_shapes(position.shape[:-1], rotation.shape[:-2])
    T = np.zeros((*shape, 4, 4))
    T[..., :3, :3], T[..., :3, 3], T[..., 3, 3] = rotation, position, 1.0
    return T


def split(T: npt.ArrayLike) -> tuple[Float64, Float64]:
    """Positions (..., 3) and quaternions (..., 4) with w >= 0."""
    T = _transforms(T)
    return T[..., :3, 3].copy(), quaternions.from_matrix(T[..., :3, :3])


def inverse(T: npt.ArrayLike) -> Float64:
    """The inverse transforms, by transposing the rotation."""
    T = _transforms(T)
    result = np.zeros_like(T)
    R_t = T[..., :3, :3].swapaxes(-1, -2)
    result[..., :3, :3], result[..., 3, 3] = R_t, 1.0
    result[..., :3, 3] = -(R_t @ T[..., :3, 3:])[..., 0]
    return result


def compose(*transforms: npt.ArrayLike) -> Float64:
    """The product of the transforms from left to right, broadcast: compose(T_a_b, T_b_c) = T_a_c."""
    return functools.reduce(np.matmul, [_transforms(T) for T in transforms], np.eye(4))


def transform_points(T: npt.ArrayLike, points: npt.ArrayLike) -> Float64:
    """Points taken through T: (4, 4) with points (..., 3), or (B, 4, 4) with points (N, 3) or (B, N, 3)."""
    T, xyz = _transforms(T), np.asarray(points, dtype=np.float64)
    if xyz.ndim == 0 or xyz.shape[-1] != 3:
        raise UserError(f"points have shape (..., 3), not {xyz.shape}")
    offset = T[:3, 3] if T.ndim == 2 else T[..., None, :3, 3]
    moved: Float64 = xyz @ T[..., :3, :3].swapaxes(-1, -2) + offset
    return moved


def apart(first: npt.ArrayLike, second: npt.ArrayLike) -> tuple[Float64, Float64]:
    """How far transforms (..., 4, 4) are from others, broadcast: metres (...), and radians of the turn (...)."""
    (position_m, quat), (other_m, other) = split(first), split(second)
    return np.linalg.norm(position_m - other_m, axis=-1), quaternions.angle_between_rad(quat, other)


def mean(T: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Float64:
    """The mean (4, 4) of transforms (N, 4, 4), alike or by weights (N,) that sum to 1.

    Of rotations: the largest eigenvector of sum w q q^T (Markley et al., "Averaging quaternions", 2007).
    """
    position_m, quat = split(T)
    w = np.full(len(quat), 1 / len(quat)) if weights is None else np.asarray(weights, dtype=np.float64)
    return make(w @ position_m, np.linalg.eigh((quat.T * w) @ quat)[1][:, -1])


def umeyama(
    source: Float64, target: Float64, weights: Float64 | None = None, with_scale: bool = True
) -> tuple[float, Float64, Float64]:
    """Scale, R (3, 3) and t (3,) that carry points (N, 3) onto others with the least squared error (Umeyama 1991).

    Of motions that keep lengths (not `with_scale`) the scale is 1.
    """
    weights = np.ones(len(source)) if weights is None else weights
    weights = weights / weights.sum()
    mean_source, mean_target = weights @ source, weights @ target
    from_mean = source - mean_source
    U, spread, Vt = np.linalg.svd((target - mean_target).T @ (from_mean * weights[:, None]))
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(U @ Vt))])
    R = U * sign @ Vt
    scale = 1.0
    if with_scale:
        scale = float((spread * sign).sum() / max(float(weights @ (from_mean**2).sum(axis=1)), 1e-18))
        scale = max(scale, 1e-9)
    return scale, R, mean_target - scale * R @ mean_source


def exponential(twist: npt.ArrayLike) -> Float64:
    """Motions (..., 4, 4) of constant twists (..., 6) over a unit of time: velocity (m), then turning (rad).

    Both are in the moving frame, as in nav_msgs/Odometry: the pose after t seconds is T @ exponential(t * twist). The
    exponential of SE(3), an arc or a helix.
    """
    xi = np.asarray(twist, dtype=np.float64)
    if xi.ndim == 0 or xi.shape[-1] != 6:
        raise UserError(f"twists have shape (..., 6), not {xi.shape}")
    v, w = xi[..., :3], xi[..., 3:]
    angle = np.linalg.norm(w, axis=-1)[..., None, None]
    W = np.zeros((*xi.shape[:-1], 3, 3))
    W[..., 2, 1], W[..., 0, 2], W[..., 1, 0] = w[..., 0], w[..., 1], w[..., 2]
    W = W - W.swapaxes(-1, -2)
    small = angle < 1e-4  # there the closed forms lose digits; the next terms are below 1e-17
    safe = np.where(small, 1.0, angle)
    half_sine = np.sin(safe / 2) / (safe / 2)
    once = np.where(small, 1 - angle**2 / 6, np.sin(safe) / safe)
    twice = np.where(small, 0.5 - angle**2 / 24, 0.5 * half_sine**2)
    thrice = np.where(small, 1 / 6 - angle**2 / 120, (1 - np.sin(safe) / safe) / safe**2)
    T = np.zeros((*xi.shape[:-1], 4, 4))
    WW = W @ W
    T[..., :3, :3] = np.eye(3) + once * W + twice * WW
    T[..., :3, 3] = ((np.eye(3) + twice * W + thrice * WW) @ v[..., None])[..., 0]
    T[..., 3, 3] = 1.0
    return T


def look_at(eye_m: npt.ArrayLike, target_m: npt.ArrayLike, up: npt.ArrayLike = (0.0, 0.0, 1.0)) -> Float64:
    """T_map_cam of cameras at `eye_m` (..., 3) looking at `target_m`, `up` pointing to the top of the image.

    Where the view is parallel to `up` (a camera looking straight down), the top of the image points to map +y,
    north in ENU. UserError when eye and target coincide.
    """
    eye, target = np.broadcast_arrays(np.asarray(eye_m, dtype=np.float64), np.asarray(target_m, dtype=np.float64))
    forward = target - eye
    distance = np.linalg.norm(forward, axis=-1, keepdims=True)
    if not np.all(distance > 0):
        raise UserError("look_at: the eye and the target are the same point")
    z = forward / distance
    right = np.cross(z, np.broadcast_to(np.asarray(up, dtype=np.float64), z.shape))
    parallel = np.linalg.norm(right, axis=-1, keepdims=True) < 1e-9
    right = np.where(parallel, np.cross(z, np.broadcast_to([0.0, 1.0, 0.0], z.shape)), right)
    x = right / np.linalg.norm(right, axis=-1, keepdims=True)
    T = np.zeros((*eye.shape[:-1], 4, 4))
    T[..., :3, 0], T[..., :3, 1], T[..., :3, 2] = x, np.cross(z, x), z
    T[..., :3, 3], T[..., 3, 3] = eye, 1.0
    return T


def _transforms(T: npt.ArrayLike) -> Float64:
    matrix = np.asarray(T, dtype=np.float64)
    if matrix.shape[-2:] != (4, 4):
        raise UserError(f"transforms have shape (..., 4, 4), not {matrix.shape}")
    return matrix
