"""Sigmas of cameras and focal length: against the inverse of the whole problem, and for many cameras."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.sfm import certainty as module
from pose2rgbd_ros.sfm import dissection
from pose2rgbd_ros.sfm.certainty import certainty
from pose2rgbd_ros.sfm.reconstruct import SparseMap

HEIGHT_M, SPACING_M = 50.0, 20.0
SIGMA_M, SIGMA_RAD = np.array([1.0, 1.5, 2.0]), 0.1


def survey(rows: int, columns: int, points: int, noise_px: float = 0.5) -> SparseMap:
    """Cameras in rows 50 m above hilly ground, each of which sees the points within 30 m."""
    rng, count = np.random.default_rng(0), rows * columns
    place = SPACING_M * np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2)
    position = np.column_stack([place, np.full(count, HEIGHT_M)]) + rng.normal(0, 1, (count, 3))
    turned = Rotation.from_euler("xz", rng.normal([180, 0], [5, 90], (count, 2)), degrees=True)
    T_map_cam = se3.make(position, turned.as_quat())
    camera = Camera.from_fov(400, 400, 62)
    ground = rng.uniform([-30, -30, -4], [30 + place[-1, 0], 30 + place[-1, 1], 4], (points, 3))
    ground = ground[KDTree(position[:, :2]).query_ball_point(ground[:, :2], 30.0, return_length=True) > 2]
    sees = KDTree(ground[:, :2]).query_ball_point(position[:, :2], 30.0)
    frame, point = np.repeat(np.arange(count), [len(row) for row in sees]), np.concatenate(sees).astype(np.int64)
    T_cam_map = se3.inverse(T_map_cam)[frame]
    p = np.einsum("nij,nj->ni", T_cam_map[:, :3, :3], ground[point]) + T_cam_map[:, :3, 3]
    return SparseMap(
        np.arange(count), T_map_cam, camera, ground, np.zeros(ground.shape, np.uint8),
        np.bincount(point, minlength=len(ground)), frame, point,
        camera.project(p) + rng.normal(0, noise_px, (len(p), 2)), noise_px, Path(),
    )  # fmt: skip


def whole_inverse(found: SparseMap, is_bad: np.ndarray) -> np.ndarray:
    """(N, 6, 6) by the dense inverse of cameras, lens and points together, derivatives by differences."""
    count, step = len(found.frames), 1e-6
    pose = se3.inverse(found.T_sfm_cam)

    def image(cameras: np.ndarray, lens: np.ndarray, points: np.ndarray) -> np.ndarray:
        """(2 M,): the rotation is of the camera's own axes, the position in the map."""
        R = Rotation.from_matrix(pose[:, :3, :3].transpose(0, 2, 1)) * Rotation.from_rotvec(cameras[:, :3])
        away = points[found.seen_point] - (found.T_sfm_cam[:, :3, 3] + cameras[:, 3:])[found.seen_frame]
        p = R[found.seen_frame].inv().apply(away)
        ray = p[:, :2] / p[:, 2:]
        radial = np.exp(lens[0]) * (1 + lens[1] * np.sum(ray**2, axis=1, keepdims=True))
        return (found.camera.fx * ray * radial).ravel()

    start = np.concatenate([np.zeros(6 * count + 2), found.points.ravel()])

    def at(x: np.ndarray) -> np.ndarray:
        return image(x[: 6 * count].reshape(-1, 6), x[6 * count : 6 * count + 2], x[6 * count + 2 :].reshape(-1, 3))

    steps = step * np.eye(len(start))
    J = np.stack([(at(start + d) - at(start - d)) / (2 * step) for d in steps], axis=1)
    middle = [found.camera.cx, found.camera.cy]
    sigma_px = np.sqrt(np.mean((at(start) - (found.seen_px - middle).ravel()) ** 2))
    information = J.T @ J / sigma_px**2
    prior = np.zeros((count, 6))
    prior[:, :3], prior[~is_bad, 3:] = 1 / (count * SIGMA_RAD**2), 1 / SIGMA_M**2
    information[range(6 * count), range(6 * count)] += prior.ravel()
    inverse = np.linalg.inv(information)
    return np.stack([inverse[6 * i : 6 * i + 6, 6 * i : 6 * i + 6] for i in range(count)])


def test_it_is_the_inverse_of_the_whole_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    found = survey(3, 8, 90)
    is_bad = np.arange(24) % 5 == 0
    exact = whole_inverse(found, is_bad)
    for parted, chunk in ((100, 10**6), (3, 50)):  # at once; and in many fronts, of a few points at a time
        monkeypatch.setattr(dissection, "PARTED", parted)
        monkeypatch.setattr(module, "_CHUNK", chunk)
        sure = certainty(found, SIGMA_M, SIGMA_RAD, is_bad, 10 * 10**9 * found.frames)
        assert sure is not None
        np.testing.assert_allclose(sure.covariance, exact, rtol=2e-3, atol=1e-3 * np.abs(exact).min(axis=0).max())


def test_memory_grows_with_the_number_of_cameras() -> None:
    peaks = []
    for rows in (8, 32):
        found = survey(rows, 50, 400 * rows)
        tracemalloc.start()
        sure = certainty(found, SIGMA_M, SIGMA_RAD, np.zeros(50 * rows, bool), 10 * 10**9 * found.frames)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert sure is not None
        assert (np.diagonal(sure.covariance, axis1=1, axis2=2) > 0).all()
    assert peaks[1] < 5 * peaks[0]  # 16 times as much for the whole matrix
