"""What other tools would make of our exports: each format's projection, written down from its own page.

None of our geometry is used to read the exports, so a mistake that exporter and importer share cannot hide.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from evo.tools import file_interface

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.formats.exporting import export_dataset
from pose2rgbd_ros.formats.settings import ExportConfig
from pose2rgbd_ros.geometry import se3

POINTS_CAM = np.array([[0.0, 0.0, 5.0], [1.0, -0.5, 4.0], [-2.0, 1.0, 7.0], [0.3, 2.0, 9.0]])
FRAME = 3


def rotation(w: float, x: float, y: float, z: float) -> np.ndarray:
    """The matrix of a unit quaternion, term by term."""
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def data_lines(file: Path) -> list[str]:
    return [line for line in file.read_text().splitlines() if not line.startswith("#")]


def through_colmap(root: Path, points: np.ndarray) -> np.ndarray:
    """u = fx x / z + cx of R p + t; centres of pixels at half integers."""
    name, model, _, _, fx, fy, cx, cy = data_lines(root / "sparse/0/cameras.txt")[0].split()
    fields = data_lines(root / "sparse/0/images.txt")[2 * FRAME].split()
    assert (name, model, fields[8]) == ("1", "PINHOLE", "1")
    w, x, y, z, *t = map(float, fields[1:8])
    at = points @ rotation(w, x, y, z).T + t
    pixel = at[:, :2] / at[:, 2:] * [float(fx), float(fy)] + [float(cx), float(cy)]
    return pixel - 0.5


def through_nerfstudio(root: Path, points: np.ndarray) -> np.ndarray:
    """A ray of pixel (i, j) goes through ((i + 0.5 - cx) / fx, -(j + 0.5 - cy) / fy, -1) of the camera's axes."""
    content = json.loads((root / "transforms.json").read_text())
    c2w = np.array(content["frames"][FRAME]["transform_matrix"])
    at = (points - c2w[:3, 3]) @ c2w[:3, :3]
    x, y = at[:, 0] / -at[:, 2], at[:, 1] / -at[:, 2]
    return np.stack([x * content["fl_x"] + content["cx"] - 0.5, -y * content["fl_y"] + content["cy"] - 0.5], axis=-1)


def pinhole(root: Path, at: np.ndarray) -> np.ndarray:
    """Formats without intrinsics: those that stand beside them in our own file."""
    camera = yaml.safe_load((root / "pose2rgbd.yaml").read_text())["camera"]
    return at[:, :2] / at[:, 2:] * [camera["fx"], camera["fy"]] + [camera["cx"], camera["cy"]]


def through_cambridge(root: Path, points: np.ndarray) -> np.ndarray:
    """As in the .nvm: R (X - C)."""
    _, *numbers = (root / "dataset_train.txt").read_text().splitlines()[3 + FRAME].split()
    x, y, z, w, p, q, r = map(float, numbers)
    return pinhole(root, (points - [x, y, z]) @ rotation(w, p, q, r).T)


def through_tum(root: Path, points: np.ndarray) -> np.ndarray:
    """tx ty tz is the optical centre, qx qy qz qw its orientation in the world."""
    _, tx, ty, tz, qx, qy, qz, qw = map(float, data_lines(root / "groundtruth.txt")[FRAME].split())
    return pinhole(root, (points - [tx, ty, tz]) @ rotation(qw, qx, qy, qz))


def through_seven_scenes(root: Path, points: np.ndarray) -> np.ndarray:
    """The pose is camera to world; the intrinsics stand in camera-intrinsics.txt."""
    pose = np.loadtxt(root / f"seq-01/frame-{FRAME:06d}.pose.txt")
    at = (np.linalg.inv(pose) @ np.c_[points, np.ones(len(points))].T).T[:, :3]
    homogeneous = at @ np.loadtxt(root / "camera-intrinsics.txt").T
    return homogeneous[:, :2] / homogeneous[:, 2:]


def through_euroc(root: Path, points: np.ndarray) -> np.ndarray:
    """World to body by the ground truth, body to camera by T_BS."""
    rows = list(csv.reader((root / "mav0/state_groundtruth_estimate0/data.csv").open()))[1:]
    _, x, y, z, qw, qx, qy, qz = map(float, rows[FRAME])
    sensor = yaml.safe_load((root / "mav0/cam0/sensor.yaml").read_text())
    T_BS = np.array(sensor["T_BS"]["data"]).reshape(4, 4)
    body = (points - [x, y, z]) @ rotation(qw, qx, qy, qz)
    at = (np.linalg.inv(T_BS) @ np.c_[body, np.ones(len(body))].T).T
    fu, fv, cu, cv = sensor["intrinsics"]
    return at[:, :2] / at[:, 2:3] * [fu, fv] + [cu, cv]


READERS = {
    "colmap": through_colmap,
    "nerfstudio": through_nerfstudio,
    "cambridge": through_cambridge,
    "tum": through_tum,
    "7scenes": through_seven_scenes,
    "euroc": through_euroc,
}


@pytest.mark.parametrize("name", READERS)
def test_points_are_seen_at_the_same_pixels(name: str, make_flight: Callable[..., Path], tmp_path: Path) -> None:
    flight = Dataset(make_flight(depth=None))
    export_dataset(flight.path, tmp_path / "there", ExportConfig(format=name))
    points_map = se3.transform_points(flight.T_map_cam[FRAME], POINTS_CAM)
    seen = READERS[name](tmp_path / "there", points_map)
    np.testing.assert_allclose(seen, flight.camera.project(POINTS_CAM), atol=1e-6)


def test_kitti_projects_points_of_the_first_camera(make_flight: Callable[..., Path], tmp_path: Path) -> None:
    flight = Dataset(make_flight(depth=None))
    root = tmp_path / "there"
    export_dataset(flight.path, root, ExportConfig(format="kitti"))
    points_map = se3.transform_points(flight.T_map_cam[FRAME], POINTS_CAM)
    points_first = (np.linalg.inv(flight.T_map_cam[0]) @ np.c_[points_map, np.ones(4)].T)[:3]
    pose = np.vstack([np.loadtxt(root / "poses/00.txt")[FRAME].reshape(3, 4), [0, 0, 0, 1]])
    label, *numbers = (root / "sequences/00/calib.txt").read_text().splitlines()[2].split()
    assert label == "P2:"
    P = np.array(numbers, dtype=float).reshape(3, 4)
    at = P @ np.linalg.inv(pose) @ np.vstack([points_first, np.ones(4)])
    np.testing.assert_allclose((at[:2] / at[2]).T, flight.camera.project(POINTS_CAM), atol=1e-6)


def test_evo_reads_our_trajectories(make_flight: Callable[..., Path], tmp_path: Path) -> None:
    flight = Dataset(make_flight(depth=None))
    for name in ("tum", "kitti", "euroc"):
        export_dataset(flight.path, tmp_path / name, ExportConfig(format=name))
    tum = file_interface.read_tum_trajectory_file(tmp_path / "tum/groundtruth.txt")
    euroc = file_interface.read_euroc_csv_trajectory(tmp_path / "euroc/mav0/state_groundtruth_estimate0/data.csv")
    for track in (tum, euroc):
        assert track.check()[0]
        np.testing.assert_allclose(track.timestamps, flight.stamps_ns / 1e9, rtol=0, atol=1e-6)
        np.testing.assert_allclose(track.poses_se3, flight.T_map_cam, atol=1e-8)
    kitti = file_interface.read_kitti_poses_file(tmp_path / "kitti/poses/00.txt")
    assert kitti.check()[0]
    np.testing.assert_allclose(kitti.poses_se3, np.linalg.inv(flight.T_map_cam[0]) @ flight.T_map_cam, atol=1e-8)


def test_points_made_of_depth_lie_on_the_surface(make_flight: Callable[..., Path], tmp_path: Path) -> None:
    """Each point of points3D.txt, seen by COLMAP's own projection, falls on its keypoint, and on its pixel's colour."""
    flight = Dataset(make_flight())
    root = tmp_path / "there"
    export_dataset(flight.path, root, ExportConfig(format="colmap", points=400))
    rows = [line.split() for line in data_lines(root / "sparse/0/points3D.txt")]
    assert len(rows) == 400
    mine = [row for row in rows if int(row[8]) == FRAME + 1]
    keypoints = np.array(data_lines(root / "sparse/0/images.txt")[2 * FRAME + 1].split(), dtype=float).reshape(-1, 3)
    assert [int(row[0]) for row in mine] == keypoints[:, 2].astype(int).tolist()
    assert [int(row[9]) for row in mine] == list(range(len(mine)))
    seen = through_colmap(root, np.array([row[1:4] for row in mine], dtype=float))
    np.testing.assert_allclose(seen + 0.5, keypoints[:, :2], atol=1e-3)
    columns, rows_ = np.rint(seen).astype(int).T
    np.testing.assert_array_equal(np.array([row[4:7] for row in mine], dtype=int), flight.rgb(FRAME)[rows_, columns])
