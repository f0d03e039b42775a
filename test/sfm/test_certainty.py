"""How sure a map is of lens and shutter: on maps of exact points seen with a known lens, row by row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pycolmap
import pytest
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.dataset.meta import PosesMeta
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.sfm.align import place
from pose2rgbd_ros.sfm.reconstruct import AlignSettings, SparseMap, _read, colmap_camera
from pose2rgbd_ros.sim.sensors.noise import GaussMarkov

CAMERA = Camera(720, 480, 600.0, 600.0, 359.5, 239.5, "plumb_bob", (-0.05, 0.0, 0.0, 0.0))
STEP_S = 0.2


def fast(t_s: np.ndarray) -> np.ndarray:
    """Poses (N, 4, 4) of a drone in a hurry: 12 m/s, ahead and down, rocking."""
    tilt = np.column_stack([5 * np.sin(3 * t_s), 125 + 4 * np.sin(4 * t_s + 1), 3 * np.sin(2 * t_s)])
    T_map_cam = np.tile(np.eye(4), (len(t_s), 1, 1))
    T_map_cam[:, :3, :3] = Rotation.from_euler("zxy", tilt * [1, -1, 1], degrees=True).as_matrix()
    T_map_cam[:, :3, 3] = np.column_stack([np.sin(t_s), 12 * t_s, 40 + np.sin(0.7 * t_s)])
    return T_map_cam


def flight(folder: Path, camera: Camera, readout_s: float, relief_m: float, path: Any = fast, count: int = 30) -> Any:
    """A map of what this camera sees (0.3 px off), its frames' names, and what was recorded of its poses."""
    rng, t_s = np.random.default_rng(0), np.arange(count) * STEP_S
    truth = path(t_s)
    low, high = truth[:, :2, 3].min(axis=0) - 40, truth[:, :2, 3].max(axis=0) + 60
    points = np.column_stack([rng.uniform(low, high, (1500, 2)), relief_m * rng.uniform(0, 1, 1500)])
    native = pycolmap.Reconstruction()
    model, parameters = colmap_camera(camera, "auto")
    native.add_camera_with_trivial_rig(
        pycolmap.Camera(model=model, width=camera.width, height=camera.height, params=parameters, camera_id=1)
    )
    tracks: dict[int, list[tuple[int, int]]] = {}
    for i, middle_s in enumerate(t_s):
        row = np.full(len(points), camera.height / 2)
        for _ in range(4):  # the row in which a point is seen depends on when it is exposed
            when = middle_s + readout_s * ((row + 0.5) / camera.height - 0.5)
            T_cam_map = se3.inverse(path(when))
            point_cam = (T_cam_map[:, :3, :3] @ points[:, :, None])[:, :, 0] + T_cam_map[:, :3, 3]
            pixel = camera.project(point_cam)
            row = np.clip(np.nan_to_num(pixel[:, 1]), 0, camera.height)
        inside = ((pixel > 0) & (pixel < [camera.width - 1, camera.height - 1])).all(axis=1)
        inside &= (np.abs(camera.unproject(pixel) * point_cam[:, 2:] - point_cam) < 1e-3).all(axis=1)  # not folded back
        which = np.flatnonzero(inside)
        R, t = se3.inverse(truth[i])[:3, :3], se3.inverse(truth[i])[:3, 3]
        image = pycolmap.Image(
            name=f"{i}.jpg", keypoints=pixel[which] + 0.5 + rng.normal(0, 0.3, (len(which), 2)), camera_id=1,
            image_id=i + 1,
        )  # fmt: skip
        native.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pycolmap.Rotation3d(R), t))
        for k, point in enumerate(which.tolist()):
            tracks.setdefault(point, []).append((i + 1, k))
    for point, seen in tracks.items():
        if len(seen) >= 3:
            native.add_point3D(points[point], pycolmap.Track([pycolmap.TrackElement(*each) for each in seen]))
    folder.mkdir()
    native.write(folder)
    names = [f"{i}.jpg" for i in range(count)]
    rough = truth.copy()
    rough[:, :3, 3] += rng.normal(0, 0.5, (count, 3))
    stamps_ns = (t_s * 1e9).astype(np.int64)
    return (
        _read(native, names, folder),
        names,
        SimpleNamespace(
            T_map_cam=rough, stamps_ns=stamps_ns, truth=truth, meta=SimpleNamespace(poses=None), depth_kind=None
        ),
    )


def turn_error_deg(found: SparseMap, truth: np.ndarray) -> float:
    """How far orientations are off (median), whatever is common to all."""
    off = Rotation.from_matrix(found.T_sfm_cam[:, :3, :3] @ truth[:, :3, :3].transpose(0, 2, 1))
    return float(np.rad2deg(np.median((off * off.mean().inv()).magnitude())))


def test_a_rolling_shutter_is_found_and_heeded(tmp_path: Path) -> None:
    found, names, recorded = flight(tmp_path / "map", CAMERA, 0.025, 15.0)
    rolling = place(found, recorded, names, AlignSettings())
    ignored = place(found, recorded, names, AlignSettings(readout_ms=0.0))
    assert rolling.sure is not None
    assert rolling.readout_s == pytest.approx(0.025, rel=0.1)
    assert rolling.sure.readout_s == pytest.approx(0.025, abs=4 * rolling.sure.readout_sigma_s)
    assert turn_error_deg(rolling.map, recorded.truth) < 0.03 < 0.1 < turn_error_deg(ignored.map, recorded.truth)


def creeping(t_s: np.ndarray) -> np.ndarray:
    """Poses (N, 4, 4) of 1 m/s along a line, looking level at the same angle: parallax of 6 m, and little else."""
    T_map_cam = fast(0 * np.atleast_1d(t_s))
    T_map_cam[:, 0, 3] += t_s
    return T_map_cam


def test_a_shutter_that_nothing_shows_is_not_made_up(tmp_path: Path) -> None:
    lens = replace(CAMERA, distortion=(-0.05, 0.02, 0.001, 0.0))
    found, names, recorded = flight(tmp_path / "map", lens, 0.0, 5.0, creeping)
    placed = place(found, recorded, names, AlignSettings())
    assert placed.sure is not None
    assert placed.readout_s == 0
    assert abs(placed.sure.readout_s) < placed.sure.readout_sigma_s  # features err alike, and so it is wider


def test_a_global_shutter_is_left_alone(tmp_path: Path) -> None:
    found, names, recorded = flight(tmp_path / "map", CAMERA, 0.0, 15.0)
    placed = place(found, recorded, names, AlignSettings())
    assert placed.sure is not None
    assert placed.readout_s == 0
    assert abs(placed.sure.readout_s) + 2 * placed.sure.readout_sigma_s < 0.003


def over_a_field(t_s: np.ndarray) -> np.ndarray:
    """Poses (N, 4, 4) of a survey: straight down, level, to and fro."""
    t_s = np.atleast_1d(t_s)
    along, line = np.mod(t_s, 2.0), np.floor(t_s / 2.0)
    T_map_cam = np.tile(np.eye(4), (len(t_s), 1, 1))
    yaw = np.where(line % 2 == 0, 0.0, 180.0)
    T_map_cam[:, :3, :3] = Rotation.from_euler(
        "zx", np.column_stack([yaw, np.full(len(t_s), 180.0)]), degrees=True
    ).as_matrix()
    T_map_cam[:, :3, 3] = np.column_stack([15 * line, 20 * np.where(line % 2 == 0, along, 2.0 - along), 0 * t_s + 50])
    return T_map_cam


@pytest.mark.parametrize(("path", "relief_m", "is_known"), [(fast, 15.0, True), (over_a_field, 0.0, False)])
def test_a_survey_straight_down_leaves_the_focal_length_open(
    path: Any, relief_m: float, is_known: bool, tmp_path: Path
) -> None:
    """Level cameras at one height see the same whether lens and heights are long or short."""
    found, names, recorded = flight(tmp_path / "map", CAMERA, 0.0, relief_m, path)
    sure = place(found, recorded, names, AlignSettings()).sure
    assert sure is not None
    assert (sure.focal_sigma < 0.005) == is_known
    assert (sure.focal_sigma > 0.05) == (not is_known)


def test_attitudes_of_odometry_hold_what_positions_along_a_line_leave_open(tmp_path: Path) -> None:
    found, names, recorded = flight(tmp_path / "map", CAMERA, 0.0, 15.0)
    recorded.meta.poses = PosesMeta(position="pose")
    adjusted = place(found, recorded, names, AlignSettings()).map
    turn = Rotation.from_matrix(adjusted.T_sfm_cam[:, :3, :3] @ recorded.truth[:, :3, :3].transpose(0, 2, 1))
    assert np.rad2deg(np.median(turn.magnitude())) < 0.3


def test_gps_that_wanders_along_a_line_does_not_turn_the_map_in_the_adjustment(tmp_path: Path) -> None:
    found, names, recorded = flight(tmp_path / "map", CAMERA, 0.0, 15.0)
    wander = GaussMarkov(np.random.default_rng(3), 4.0, 60.0)
    recorded.T_map_cam[:, :3, 3] += [wander.at(STEP_S * i) for i in range(len(names))]
    adjusted = place(found, recorded, names, AlignSettings()).map
    turn = Rotation.from_matrix(adjusted.T_sfm_cam[:, :3, :3] @ recorded.truth[:, :3, :3].transpose(0, 2, 1))
    assert np.rad2deg(np.median(turn.magnitude())) < 5
