"""Photographs by a lens of 170 degrees, drawn of the city from the faces of a cube."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from support.sim_datasets import CITY, city_of

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.dataset.meta import DatasetMeta, PosesMeta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.geometry.arrays import Float64, UInt8
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.sfm.reconstruct import colmap_camera
from pose2rgbd_ros.sim.gl.renderer import SceneRenderer

LENS = Camera(360, 360, 121.0, 121.0, 179.5, 179.5, "equidistant", (0.0, 0.0, 0.0, 0.0))
FACE = Camera.from_fov(240, 240, 92.0)
FACES = [Rotation.from_rotvec(np.array(axis) * np.pi / 2) for axis in
         ([0, 0, 0], [0, 1, 0], [0, -1, 0], [1, 0, 0], [-1, 0, 0])]  # fmt: skip


def fisheye(renderer: SceneRenderer, T_map_cam: Float64) -> UInt8:
    """What the lens sees, RGB (H, W, 3)."""
    rays, picture, best = LENS.rays(), np.zeros((LENS.height, LENS.width, 3), np.uint8), np.full((360, 360), -1.0)
    rays /= np.linalg.norm(rays, axis=2, keepdims=True)
    for turn in FACES:
        T = T_map_cam.copy()
        T[:3, :3] = T_map_cam[:3, :3] @ turn.as_matrix()
        there = rays @ turn.as_matrix()
        where = np.nan_to_num(FACE.project(there), nan=-1e4).astype(np.float32)
        face = cv2.remap(renderer.render(T, 0.0).rgb, where[..., 0], where[..., 1], cv2.INTER_LINEAR)
        nearer = there[..., 2] > best
        picture[nearer], best[nearer] = face[nearer], there[..., 2][nearer]
    return picture


@pytest.fixture(scope="module")
def flight() -> tuple[Float64, list[UInt8]]:
    """Twelve poses (12, 4, 4), 12 m apart and tilted by 15 degrees, and what is seen there."""
    rng, T_map_cam = np.random.default_rng(0), np.tile(np.eye(4), (12, 1, 1))
    angles = np.column_stack([rng.uniform(-180, 180, 12), rng.normal(180, 15, 12), rng.normal(0, 15, 12)])
    T_map_cam[:, :3, :3] = Rotation.from_euler("zxy", angles, degrees=True).as_matrix()
    T_map_cam[:, :3, 3] = [(12.0 * (i % 4) - 18, 12.0 * (i // 4) - 12, 35 + i % 3) for i in range(12)]
    with SceneRenderer(city_of(CITY).scene, FACE, 1) as renderer:
        return T_map_cam, [fisheye(renderer, T) for T in T_map_cam]


def write(folder: Path, flight: tuple[Float64, list[UInt8]], camera: Camera) -> Path:
    """The flight as GPS and a rough gimbal have it."""
    rng = np.random.default_rng(1)
    with DatasetWriter(folder, DatasetMeta(camera=camera, poses=PosesMeta(position="gps"))) as writer:
        for i, (T, rgb) in enumerate(zip(*flight, strict=True)):
            rough = T.copy()
            rough[:3, 3] += rng.normal(0, 0.5, 3)
            writer.add((i + 1) * 3 * 10**9, rough, rgb)
    return folder


@pytest.mark.parametrize("given", [pytest.param("off by 4 %", marks=pytest.mark.slow), "field of view"])
def test_a_lens_of_170_degrees_is_found(given: str, flight: tuple[Float64, list[UInt8]], tmp_path: Path) -> None:
    rough = replace(LENS, fx=1.04 * LENS.fx, fy=1.04 * LENS.fy)
    camera = rough if given == "off by 4 %" else Camera.from_fov(LENS.width, LENS.height, 168.0)
    folder = write(tmp_path / "flight", flight, camera)
    assert main(["align", str(folder)]) == 0
    found = Dataset(folder)
    assert len(found) == 12
    assert found.camera.distortion_model == "equidistant"
    pixels = np.array([[60.0, 180.0], [120.0, 180.0], [180.0, 100.0], [250.0, 300.0]])
    exact, rays = (camera.unproject(pixels) for camera in (LENS, found.camera))
    angle = np.arccos(np.sum(exact * rays, 1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rays, axis=1))
    assert np.rad2deg(angle.max()) < 0.3
    assert not (folder / "recorded" / "rgb").exists()  # it is one lens
    turn = Rotation.from_matrix(found.T_map_cam[:, :3, :3] @ flight[0][:, :3, :3].transpose(0, 2, 1))
    assert np.rad2deg(np.median((turn * turn.mean().inv()).magnitude())) < 0.2


def test_a_wide_field_of_view_begins_as_a_fisheye_that_sees_as_much() -> None:
    model, (f, *_) = colmap_camera(Camera.from_fov(400, 300, 170.0), "auto")
    assert model == "OPENCV_FISHEYE"
    assert f == pytest.approx(200 / np.deg2rad(85))
