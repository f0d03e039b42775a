"""How sure the cameras of an adjusted map are: the inverse of the normal equations, points and lens eliminated."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Bool, Float64, Int64
from pose2rgbd_ros.sfm.reconstruct import SparseMap

MOST_FRAMES = 1500  # of more the matrix to invert is too large
LEAST_SIGMA_PX = 0.2  # of a feature; what is left of it after the adjustment is less
_STIFF = 1e-9


def camera_covariance(found: SparseMap, sigma_m: Float64, is_bad: Bool) -> Float64 | None:
    """Covariance (N, 6, 6) of each camera of a map in metres: rotation vector in its own axes (rad), position (m).

    Features have the scatter that the adjustment left; positions are tied to recorded ones of `sigma_m` (3,) but for
    those that are bad, which is what holds the map in its place (Triggs et al. 2000, section 6). Focal length and the
    first term of distortion are unknowns too. None for more than MOST_FRAMES frames.
    """
    count = len(found.frames)
    if count > MOST_FRAMES or not len(found.points):
        return None
    cam = np.searchsorted(found.frames, found.seen_frame).astype(np.int64)
    T_cam_map = se3.inverse(found.T_sfm_cam)[cam]
    R = T_cam_map[:, :3, :3]
    p = (R @ found.points[found.seen_point][:, :, None])[:, :, 0] + T_cam_map[:, :3, 3]
    error_px = found.camera.project(p) - found.seen_px
    near = (p[:, 2] > 1e-6) & (np.abs(error_px) < 10).all(axis=1)
    cam, point, R, p, error_px = cam[near], found.seen_point[near], R[near], p[near], error_px[near]
    sigma_px = max(float(np.sqrt(np.mean(error_px**2))), LEAST_SIGMA_PX)
    x, y, z = p.T
    zero, fx, fy = np.zeros_like(x), found.camera.fx, found.camera.fy
    projection = np.stack([fx / z, zero, -fx * x / z**2, zero, fy / z, -fy * y / z**2], axis=-1).reshape(-1, 2, 3)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(-1, 3, 3)
    to_camera = np.concatenate([projection @ cross, -projection @ R], axis=2) / sigma_px  # (M, 2, 6)
    to_point = projection @ R / sigma_px  # (M, 2, 3)
    r2 = (x**2 + y**2) / z**2
    ray = np.stack([x / z, y / z], axis=-1)
    to_lens = np.stack([ray * fx, ray * fx * r2[:, None]], axis=-1) / sigma_px  # (M, 2, 2): log focal length, k1
    A = sparse.hstack([_blocks(to_camera, cam, count), sparse.csr_matrix(to_lens.reshape(-1, 2))]).tocsr()
    B = _blocks(to_point, point, len(found.points))
    V = np.zeros((len(found.points), 3, 3))
    np.add.at(V, point, np.einsum("nij,nik->njk", to_point, to_point))
    V += np.eye(3) * (_STIFF * np.trace(V, axis1=1, axis2=2)[:, None, None] + 1e-12)
    V_inverse = sparse.block_diag(list(np.linalg.inv(V)), format="csr")
    W = (A.T @ B).tocsr()
    S = (A.T @ A - W @ V_inverse @ W.T).toarray()
    tied = np.flatnonzero(~is_bad)
    for axis in range(3):
        S[6 * tied + 3 + axis, 6 * tied + 3 + axis] += 1 / sigma_m[axis] ** 2
    S += np.diag(np.diag(S)) * _STIFF + 1e-6 * np.eye(len(S))  # a camera without points is known to 1 km and not more
    whole = np.linalg.inv(S)
    return np.stack([whole[6 * i : 6 * i + 6, 6 * i : 6 * i + 6] for i in range(count)])


def _blocks(values: Float64, columns: Int64, count: int) -> sparse.csr_matrix:
    """Blocks (M, 2, K), each in its own two rows and at block column `columns` (M,) of `count`."""
    rows, width = values.shape[0], values.shape[2]
    row = np.repeat(np.arange(2 * rows), width)
    column = (columns[:, None, None] * width + np.arange(width) + np.zeros((1, 2, 1), int)).ravel()
    return sparse.csr_matrix((values.ravel(), (row, column)), shape=(2 * rows, count * width))
