"""How sure an adjusted map is: parts of the inverse of the normal equations, points eliminated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation, RotationSpline

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Bool, Float64, Int64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.sfm.dissection import SIZE, diagonal_blocks
from pose2rgbd_ros.sfm.reconstruct import SparseMap

LEAST_SIGMA_PX = 0.2  # of a feature; what is left of it after the adjustment is less
NEIGHBOUR_S = 2.0  # from frames so near in time a camera's velocity is known,
VELOCITY_SIGMA = 0.05  # to this share, where it turns and sways as drones do
INDEPENDENT = 30  # features of an image, as far as lens and shutter go: rows and lens model err alike all over it
_STIFF, _STEP = 1e-9, 1e-4
_CHUNK = 100_000  # observations at once


@dataclass(frozen=True, eq=False)
class Certainty:
    """How sure cameras and lens are, and how long the rows of an image are exposed one after the other.

    Attributes:
        covariance: (N, 6, 6) of each camera: rotation vector in its own axes (rad), position (m).
        focal_sigma: of the focal length, as a share of it.
        readout_s: time from the first row to the last by what is left of the features, with its sigma; inf where
            nothing says it.
        rolled_px: (M, 2) by how much this moved what is seen; its root mean square is `rolled_rms_px`.
    """

    covariance: Float64
    focal_sigma: float
    readout_s: float
    readout_sigma_s: float
    rolled_px: Float64

    @property
    def rolled_rms_px(self) -> float:
        """Of all features along each axis."""
        return float(np.sqrt(np.mean(self.rolled_px**2)))


def certainty(
    found: SparseMap,
    sigma_m: Float64,
    sigma_rad: float,
    is_bad: Bool,
    stamps_ns: Int64,
    *,
    focal_known: float | None = None,
    readout_s: float = 0.0,
) -> Certainty | None:
    """How sure an adjusted map in metres is, whose frames were taken at `stamps_ns` (N,).

    Features have the scatter that the adjustment left; positions are tied to recorded ones of `sigma_m` (3,) but for
    those that are bad, which is what holds the map in its place (Triggs et al. 2000, section 6), and orientations of
    all together to recorded ones of `sigma_rad`, for their errors may be one. The lens is unknown too, but for a focal
    length that is `focal_known` to this share. `readout_s` is what the map was adjusted for: the estimate is one
    step on from there. None for a map without points, or where too many cameras see the same.
    """
    if not len(found.points):
        return None
    count, camera = len(found.frames), np.searchsorted(found.frames, found.seen_frame)
    equations = _Equations(found, camera, _velocities(found.T_sfm_cam, stamps_ns), readout_s)
    sigma_px = max(float(np.sqrt(equations.error2_px / max(equations.used, 1) / 2)), LEAST_SIGMA_PX)
    matrix = sparse.csr_array(equations.matrix / sigma_px**2)
    prior = np.zeros((matrix.shape[0] // SIZE, SIZE))
    prior[:count, :3] = 1 / (count * sigma_rad**2)
    prior[:count, 3:] = np.where(is_bad[:, None], 0, 1 / sigma_m**2)
    if focal_known is not None:
        prior[count, 0] = 1 / focal_known**2
    prior.flat[SIZE * count + equations.others :] = 1  # what fills up the last block
    # A camera without points is known to 1 km and not more.
    diagonal = prior.ravel() + 1e-6 + _STIFF * (matrix.diagonal() + prior.ravel())
    sees = sparse.csr_array((np.ones(len(camera), np.float32), (found.seen_point, camera)), (len(found.points), count))
    matrix = sparse.csr_array(matrix + sparse.diags_array(diagonal))
    blocks = diagonal_blocks(matrix, sparse.csr_array(sees.T @ sees), found.T_sfm_cam[:, :3, 3])
    if blocks is None:
        return None
    variance = np.diagonal(blocks[count:], axis1=1, axis2=2).ravel()[: equations.others]
    # Cameras, lens and points are where nothing pulls at them any more: the readout alone is yet to be moved.
    readout_s -= float(variance[-1] * equations.pull / sigma_px**2)
    alike = np.sqrt(max(equations.used / (INDEPENDENT * count), 1.0))
    focal_sigma = float(alike * np.sqrt(variance[0]))
    sigma_s = np.hypot(alike * np.sqrt(variance[-1]), VELOCITY_SIGMA * readout_s) if equations.rolled.any() else np.inf
    return Certainty(
        blocks[:count], min(focal_sigma, focal_known or np.inf), readout_s, float(sigma_s),
        equations.rolled * readout_s,
    )  # fmt: skip


class _Equations:
    """Normal equations of cameras, lens and readout, for features of 1 px; points are eliminated, some at a time.

    Attributes:
        matrix: cameras (6 each), then `others` unknowns: those of the lens and the readout (s), filled up to blocks.
        rolled: (M, 2) px/s by which a rolling shutter moves what is seen.
        pull: of the readout.
        error2_px: sum of squares over `used` observations.
    """

    def __init__(self, found: SparseMap, camera: Int64, velocity: Float64, readout_s: float) -> None:
        self.found, self.camera, self.velocity, self.readout_s = found, camera, velocity, readout_s
        self.others = _lens_columns(found.camera, np.array([[0.0, 0.0, 1.0]])).shape[2] + 1
        self.blocks = len(found.frames) + -(-self.others // SIZE)
        self.matrix = sparse.csr_array((SIZE * self.blocks,) * 2)
        self.rolled, self.pull, self.error2_px, self.used = np.zeros((len(camera), 2)), 0.0, 0.0, 0
        last = np.cumsum(np.bincount(found.seen_point, minlength=len(found.points)))
        ends = last[np.flatnonzero(np.diff(last // _CHUNK, append=-1))]  # whole points at once
        for which in np.split(np.argsort(found.seen_point, kind="stable"), ends[:-1]):
            self._add(which)

    def _add(self, which: Int64) -> None:
        """Some observations, all of their points."""
        found, cam = self.found, self.camera[which]
        number, point = np.unique(found.seen_point[which], return_inverse=True)
        T_cam_map = se3.inverse(found.T_sfm_cam[cam])
        R = T_cam_map[:, :3, :3]
        p = (R @ found.points[number][point][:, :, None])[:, :, 0] + T_cam_map[:, :3, 3]
        projection = np.stack([slope(found.camera.project, p, axis) for axis in range(3)], axis=-1)  # (M, 2, 3)
        x, y, z = p.T
        zero = np.zeros_like(x)
        cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(-1, 3, 3)
        to_camera = np.concatenate([projection @ cross, -projection @ R], axis=2)  # (M, 2, 6)
        row = ((found.seen_px[which, 1] + 0.5) / found.camera.height - 0.5)[:, None]
        rolled = (to_camera @ self.velocity[cam][:, :, None])[:, :, 0] * row  # (M, 2) px/s
        error_px = found.camera.project(p) - found.seen_px[which] + rolled * self.readout_s
        near = (p[:, 2] > 1e-6) & (np.abs(error_px) < 10).all(axis=1) & np.isfinite(rolled).all(axis=1)
        self.rolled[which] = rolled = np.nan_to_num(rolled)
        cam, point, p, error_px, rolled = cam[near], point[near], p[near], error_px[near], rolled[near]
        to_point = projection[near] @ R[near]  # (M, 2, 3)
        others = np.concatenate([_lens_columns(found.camera, p), rolled[:, :, None]], axis=2)  # (M, 2, K)
        A = _blocks(to_camera[near], cam, self.blocks)
        for k in range(0, self.others, SIZE):
            padded = np.zeros((len(cam), 2, SIZE))
            padded[:, :, : self.others - k] = others[:, :, k : k + SIZE]
            A = A + _blocks(padded, np.full(len(cam), len(found.frames) + k // SIZE), self.blocks)
        B = _blocks(to_point, point, len(number))
        V = np.zeros((len(number), 3, 3))
        np.add.at(V, point, np.einsum("nij,nik->njk", to_point, to_point))
        V += np.eye(3) * (_STIFF * np.trace(V, axis1=1, axis2=2)[:, None, None] + 1e-12)
        V_inverse = sparse.bsr_array((np.linalg.inv(V), np.arange(len(V)), np.arange(len(V) + 1)))
        W = sparse.csr_array(A.T @ B)
        self.matrix = sparse.csr_array(self.matrix + A.T @ A - W @ (V_inverse @ W.T))
        self.pull += float(np.sum(rolled * error_px))
        self.error2_px, self.used = self.error2_px + float(np.sum(error_px**2)), self.used + len(cam)


def slope(project: Callable[[Float64], Float64], p: Float64, axis: int) -> Float64:
    """(M, 2) pixels per metre that points (M, 3) move along an axis of the camera."""
    step = np.zeros_like(p)
    step[:, axis] = _STEP * np.linalg.norm(p, axis=1)
    return np.asarray((project(p + step) - project(p - step)) / (2 * step[:, axis, None]))


def _lens_columns(camera: Camera, p: Float64) -> Float64:
    """(M, 2, K): what the unknowns of a lens do to pixels of points (M, 3): log focal length, then distortion; last,
    where they are two, log fy.
    """
    uv = camera.project(p)
    away = uv - (camera.cx, camera.cy)
    model = camera.distortion_model if camera.distortion else "plumb_bob"
    k = np.array(camera.distortion or [0.0] * 4)
    radial = model == "plumb_bob" and not k[1:].any()
    columns = [away]
    for i in range(1 if radial else min(len(k), 8)):
        more = replace(camera, distortion_model=model, distortion=tuple(k + _STEP * (np.arange(len(k)) == i)))
        columns.append((more.project(p) - uv) / _STEP)
    if not radial:
        columns.append(away * [0.0, 1.0])
    return np.stack(columns, axis=-1)


def _velocities(T_map_cam: Float64, stamps_ns: Int64) -> Float64:
    """(N, 6) of cameras (N, 4, 4) in order of time: rad/s in their own axes, m/s in the map; by splines through the
    frames, 0 where the next one is farther than NEIGHBOUR_S.
    """
    seconds = (stamps_ns - stamps_ns[0]) / 1e9
    R = Rotation.from_matrix(T_map_cam[:, :3, :3])
    turn_rad = RotationSpline(seconds, R)(seconds, 1)
    velocity = np.concatenate([turn_rad, CubicSpline(seconds, T_map_cam[:, :3, 3])(seconds, 1)], axis=1)
    gap = np.diff(seconds) > NEIGHBOUR_S
    velocity[np.append(gap, False) | np.insert(gap, 0, False)] = 0.0
    return np.asarray(velocity)


def _blocks(values: Float64, columns: Int64, count: int) -> sparse.csr_array:
    """Blocks (M, 2, K), each in its own two rows and at block column `columns` (M,) of `count`."""
    rows, width = values.shape[0], values.shape[2]
    row = np.repeat(np.arange(2 * rows), width)
    column = (columns[:, None, None] * width + np.arange(width) + np.zeros((1, 2, 1), int)).ravel()
    return sparse.csr_array((values.ravel(), (row, column)), shape=(2 * rows, count * width))
