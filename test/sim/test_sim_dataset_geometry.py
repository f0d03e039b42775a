"""The geometry of a synthetic dataset, proven from its files alone: one frame seen from another through depth."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.reprojection import Agreement, Picture, reproject
from support.sim_datasets import BUSY, LOOP, SMALL

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.sim.dataset import write_sim_dataset

PAIRS = [(2, 3), (5, 6), (11, 10), (20, 21), (14, 16), (25, 23)]


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    """A loop around the middle of the city, from 40 m above the ground, with traffic."""
    path = tmp_path_factory.mktemp("sim") / "loop"
    write_sim_dataset(path, replace(SMALL, frames=32, size=256, supersample=2, city=BUSY.city, flight=LOOP))
    return path


def picture(dataset: Dataset, index: int) -> Picture:
    return Picture(dataset.rgb(index), dataset.depth(index), dataset.T_map_cam[index])


def turned(picture: Picture, degrees: float) -> Picture:
    """As if the camera had been turned about its vertical axis."""
    T = np.eye(4)
    T[:3, :3] = cv2.Rodrigues(np.array([0.0, np.deg2rad(degrees), 0.0]))[0]
    return replace(picture, T_map_cam=picture.T_map_cam @ T)


def moved(picture: Picture, metres: float) -> Picture:
    """As if the camera had been farther to the right and farther ahead."""
    T = np.eye(4)
    T[[0, 2], 3] = metres / np.sqrt(2)
    return replace(picture, T_map_cam=picture.T_map_cam @ T)


def check_true(found: Agreement) -> None:
    assert found.points > 10_000
    assert found.seen > 0.5
    assert found.agreeing > 0.995
    assert found.depth_error_m < 0.01
    assert found.colour_error < 0.35 * found.colour_by_chance


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_frames_agree_through_depth_poses_and_intrinsics(path, source, target):
    dataset = Dataset(path / "mover_free")
    check_true(reproject(picture(dataset, source), picture(dataset, target), dataset.camera))


@pytest.mark.parametrize(("source", "target"), PAIRS[:2])
@pytest.mark.parametrize(
    ("wrong", "worse"), [(lambda p: turned(p, 0.5), 2.0), (lambda p: moved(p, 0.3), 1.3)], ids=["0.5 degrees", "0.3 m"]
)
def test_a_slightly_wrong_pose_is_found(path, source, target, wrong, worse):
    dataset = Dataset(path / "mover_free")
    true = reproject(picture(dataset, source), picture(dataset, target), dataset.camera)
    found = reproject(picture(dataset, source), wrong(picture(dataset, target)), dataset.camera)
    assert found.depth_error_m > 10 * true.depth_error_m
    assert found.agreeing < 0.9
    assert found.colour_error > worse * true.colour_error


def test_wrong_intrinsics_are_found(path):
    dataset = Dataset(path / "mover_free")
    pair = picture(dataset, 5), picture(dataset, 6)
    true = reproject(*pair, dataset.camera)
    longer = replace(dataset.camera, fx=1.02 * dataset.camera.fx, fy=1.02 * dataset.camera.fy)
    found = reproject(*pair, longer)
    assert found.depth_error_m > 5 * true.depth_error_m


def test_transforms_json_says_the_same_in_the_axes_of_opengl(path):
    """Read as nerfstudio does: pixel centres at half integers, camera axes x right, y up, z back."""
    told = json.loads((path / "mover_free" / "transforms.json").read_text())
    camera = Camera(told["w"], told["h"], told["fl_x"], told["fl_y"], told["cx"] - 0.5, told["cy"] - 0.5)
    pictures = []
    for frame in told["frames"][4:6]:
        rgb = cv2.imread(str(path / "mover_free" / frame["file_path"]))
        counts = cv2.imread(str(path / "mover_free" / frame["depth_file_path"]), cv2.IMREAD_UNCHANGED)
        depth_m = np.where(counts > 0, counts * told["depth_unit_scale_factor"], np.nan)
        T_map_opengl = np.array(frame["transform_matrix"])
        pictures.append(Picture(rgb, depth_m, T_map_opengl @ np.diag([1.0, -1.0, -1.0, 1.0])))
    check_true(reproject(*pictures, camera))
