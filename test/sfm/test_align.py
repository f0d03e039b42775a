"""`pose2rgbd align` on a flight over the simulated city whose poses, lens and one image were spoilt."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest
from scipy.spatial.transform import Rotation
from support.photographs import FRAMES, SIZE

from pose2rgbd_ros.cli.data import settled_warnings
from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.cli.run import _candidates, align_dataset
from pose2rgbd_ros.dataset.meta import DatasetMeta, PosesMeta, read_meta, write_meta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.sfm.align import align, choose_pairs, plan
from pose2rgbd_ros.sfm.reconstruct import AlignSettings, _mapped, colmap_camera, our_camera

SIGMA_M, SIGMA_DEG = (1.5, 1.5, 1.0), 4.0
LISTS = ("groundtruth.txt", "associations.txt", "meta.yaml", "transforms.json")


def write_joinless(folder: Path, kind: str = "noise", position: str = "gps") -> Path:
    """Five images that have nothing in common."""
    rng = np.random.default_rng(1)
    meta = DatasetMeta(camera=Camera.from_fov(192, 192, 60), poses=PosesMeta(position=position))
    with DatasetWriter(folder, meta) as writer:
        for i in range(5):
            image = rng.integers(0, 256 if kind == "noise" else 1, (192, 192, 3), dtype=np.uint8)
            writer.add((i + 1) * 10**9, se3.make([5.0 * i, 0, 50], [1, 0, 0, 0]), image)
    return folder


def write_rough(truth: Dataset, out: Path, frames: int = FRAMES, noisy: int = 1) -> Path:
    """Colour alone, positions and orientations off, the focal length 4 % too long, and at last images of noise."""
    rng, camera = np.random.default_rng(0), truth.camera
    rough = replace(camera, fx=1.04 * camera.fx, fy=1.04 * camera.fy)
    meta = DatasetMeta(camera=rough, poses=PosesMeta(position="gps"))
    with DatasetWriter(out, meta) as writer:
        for i, stamp_ns in enumerate(truth.stamps_ns[:frames].tolist()):
            T_map_cam = truth.T_map_cam[i].copy()
            T_map_cam[:3, 3] += rng.normal(0, SIGMA_M)
            T_map_cam[:3, :3] @= Rotation.from_rotvec(np.deg2rad(rng.normal(0, SIGMA_DEG, 3))).as_matrix()
            writer.add(stamp_ns, T_map_cam, truth.rgb(i))
        for i in range(noisy):
            noise = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
            writer.add(int(truth.stamps_ns[-1]) + (i + 1) * 10**9, T_map_cam, noise)
    return out


def errors(found: Dataset, truth: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Of positions (N, 3) in metres, and of orientations (N,) in degrees."""
    T_map_cam = truth.T_map_cam[np.searchsorted(truth.stamps_ns, found.stamps_ns)]
    turn = Rotation.from_matrix(found.T_map_cam[:, :3, :3]).inv() * Rotation.from_matrix(T_map_cam[:, :3, :3])
    return found.T_map_cam[:, :3, 3] - T_map_cam[:, :3, 3], np.rad2deg(turn.magnitude())


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in LISTS}


@pytest.fixture(scope="module")
def aligned(truth: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """The dataset after `pose2rgbd align`, and what its lists held before."""
    folder = write_rough(truth, tmp_path_factory.mktemp("aligned") / "flight")
    before = bytes_of(folder)
    assert main(["align", str(folder), "--image-size", str(SIZE)]) == 0
    return folder, before


def test_poses_and_lens_come_from_the_images(aligned: tuple[Path, dict[str, bytes]], truth: Dataset) -> None:
    found = Dataset(aligned[0])
    position_m, turn_deg = errors(found, truth)
    assert len(found) == FRAMES  # all but the noise
    assert np.median(np.linalg.norm(position_m, axis=1)) < 1.0  # 2.2 m before
    assert np.median(turn_deg) < 1.2  # 6.2 degrees before, most of it left is common to all: GPS turns the whole map
    relative = turn_deg.max() - turn_deg.min()
    assert relative < 0.3
    assert found.camera.fx == pytest.approx(truth.camera.fx, rel=0.01)
    assert found.meta.poses is not None
    assert found.meta.poses.position.startswith("sfm")


def test_sigmas_are_those_of_the_errors(aligned: tuple[Path, dict[str, bytes]], truth: Dataset) -> None:
    with (aligned[0] / "pose_sigma.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    position_m, turn_deg = errors(Dataset(aligned[0]), truth)
    sigma_m = np.array([[float(row[f"sigma_{axis}_m"]) for axis in "xyz"] for row in rows])
    sigma_deg = np.array([float(row["sigma_rotation_deg"]) for row in rows])
    # The errors of all frames are nearly one: that of the whole map. So few draws of it may be two sigmas off.
    assert 0.1 < np.sqrt(np.mean((position_m / sigma_m) ** 2)) < 2.5
    assert 0.1 < np.sqrt(np.mean((turn_deg / sigma_deg) ** 2)) < 2.5
    assert (sigma_m < SIGMA_M).all()


def test_sparse_points_lie_on_the_city(aligned: tuple[Path, dict[str, bytes]], truth: Dataset) -> None:
    """Seen from the aligned cameras they are as far as the exact depth says, to the scale's uncertainty."""
    found, points = Dataset(aligned[0]), np.load(aligned[0] / "sparse_points.npz")
    ratios = []
    for i, stamp_ns in enumerate(found.stamps_ns.tolist()):
        seen = points["seen_stamp_ns"] == stamp_ns
        depth_m = se3.transform_points(se3.inverse(found.T_map_cam[i]), points["points"][points["seen_point"][seen]])[
            :, 2
        ]
        column, row = points["seen_px"][seen].round().astype(int).T
        exact_m = truth.depth(int(np.searchsorted(truth.stamps_ns, stamp_ns)))[row, column]
        ratios.append(depth_m / exact_m)
    ratio = np.concatenate(ratios)
    assert len(ratio) > 3000
    middle = np.nanmedian(ratio)
    assert middle == pytest.approx(1.0, abs=0.03)
    assert np.nanmedian(np.abs(ratio / middle - 1)) < 0.005


def test_a_frame_without_overlap_is_left_out_with_a_reason(aligned: tuple[Path, dict[str, bytes]]) -> None:
    page = (aligned[0] / "align" / "report.html").read_text()
    assert "no matches with other images" in page
    assert "1 frame left out" in page


@pytest.mark.parametrize("step", [pytest.param("features", marks=pytest.mark.slow), "map"])
def test_an_interrupted_run_goes_on(step: str, truth: Dataset, tmp_path: Path) -> None:
    folder = write_rough(truth, tmp_path / "flight")
    before = bytes_of(folder)
    command = [sys.executable, "-m", "pose2rgbd_ros.cli.main", "align", str(folder), "--image-size", str(SIZE)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ)
    deadline = time.monotonic() + 300
    begun = {"features": lambda: features(folder) >= 3, "map": lambda: "Running" in mapping_log(folder)}[step]
    while not begun() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130
    done = features(folder)
    assert done >= 3
    assert not list(folder.glob(".cache/sfm/*/map_*/made_of.json"))
    assert bytes_of(folder) == before
    Dataset(folder)
    assert not (folder / "recorded").exists()
    found = align(folder, AlignSettings(image_size=SIZE), progress=False)
    assert len(found.frames) == FRAMES
    assert features(folder) == FRAMES + 1


def mapping_log(folder: Path) -> str:
    """What the global mapper logged."""
    return "".join(path.read_text() for path in folder.glob(".cache/sfm/*/map_global/log.txt"))


def test_the_bar_of_a_mapping_moves(aligned: tuple[Path, dict[str, bytes]], tmp_path: Path) -> None:
    lines = mapping_log(aligned[0]).splitlines(keepends=True)
    shares = []
    for count in range(0, len(lines), 20):
        (tmp_path / "log.txt").write_text("".join(lines[:count]))
        shares.append(_mapped(tmp_path / "log.txt", FRAMES))
    assert shares == sorted(shares)
    assert len(set(shares)) > 10
    assert 0.6 < shares[-1] < 1
    (tmp_path / "log.txt").write_text("Registering image #7 (num_reg_frames=6)\n")  # the incremental mapper
    assert _mapped(tmp_path / "log.txt", FRAMES) == pytest.approx(6 / FRAMES)


def test_the_time_left_heeds_how_long_the_features_took(truth: Dataset) -> None:
    planned = plan(truth, AlignSettings(threads=1), progress=False)
    few, many = dict.fromkeys(range(FRAMES), 1000.0), dict.fromkeys(range(FRAMES), planned.features)
    as_planned = planned.minutes_left(many, None)
    assert as_planned == pytest.approx((planned.match_s + planned.map_s) / 60)
    assert planned.minutes_left(few, None) < as_planned
    assert planned.minutes_left(many, 3 * planned.extract_s) == pytest.approx(3 * as_planned)


def features(folder: Path) -> int:
    """Images in the database that have features."""
    files = list(folder.glob(".cache/sfm/*/database.db"))
    if not files:
        return 0
    try:
        with sqlite3.connect(f"file:{files[0]}?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT COUNT(*) FROM keypoints").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


@pytest.mark.parametrize(("kind", "problem"), [("noise", "could not be joined"), ("black", "hardly any features")])
def test_images_that_cannot_be_joined_leave_the_dataset_as_it_was(kind: str, problem: str, tmp_path: Path) -> None:
    folder = write_joinless(tmp_path / "flight", kind)
    before = bytes_of(folder)
    with pytest.raises(UserError, match=problem):
        align(folder, AlignSettings(), progress=False)
    assert bytes_of(folder) == before


def test_run_aligns_what_only_gps_placed_and_goes_on_where_that_fails(
    aligned: tuple[Path, dict[str, bytes]], truth: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps: list[str] = []

    def run_step(name: str, inputs: Any, job: Callable[[bool], Any]) -> None:
        steps.append(name)
        job(False)

    folder = write_joinless(tmp_path / "gps")
    before = bytes_of(folder)
    align_dataset(run_step, folder, "never")
    align_dataset(run_step, truth.path, "auto")  # it has depth, and exact poses
    align_dataset(run_step, write_joinless(tmp_path / "odometry", position="odometry"), "auto")
    assert steps == []
    align_dataset(run_step, folder, "auto", later_min=5.0)
    assert steps == ["align"]
    said = capsys.readouterr().out
    assert "aligning 5 images, 10 pairs: about 1 min; all to the end about 5 min" in said
    assert "warning: not aligned" in said
    assert "could not be joined" in said
    assert bytes_of(folder) == before
    assert _candidates(folder) == ["base"]
    assert _candidates(aligned[0]) == ["relief", "base"]
    mostly_noise = write_rough(truth, tmp_path / "noise", frames=8, noisy=10)
    before = bytes_of(mostly_noise)
    align_dataset(run_step, mostly_noise, "auto")
    assert re.search(r"not aligned: only [5-8] of 18 frames could be joined", capsys.readouterr().out)
    assert bytes_of(mostly_noise) == before


def test_what_an_alignment_settled_is_no_warning_any_more(
    aligned: tuple[Path, dict[str, bytes]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "flight"
    shutil.copytree(aligned[0], folder)
    assert settled_warnings(folder) == []
    recorded = read_meta(folder / "recorded")
    write_meta(folder / "recorded", replace(recorded, camera=Camera(SIZE, SIZE, 0.0, 0.0, 0.0, 0.0)))
    (settled,) = settled_warnings(folder)
    assert "the camera is not calibrated" in settled
    assert main(["inspect", str(folder)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"poses .*\(median\) [\d., ]+ m along x, y, z, [\d.]+ degrees, scale [\d.]+%", said)
    assert "not calibrated" not in said


def test_two_frames_are_too_few(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "flight", DatasetMeta(camera=Camera.from_fov(192, 192, 60))) as writer:
        for i in range(2):
            writer.add((i + 1) * 10**9, se3.make([5.0 * i, 0, 50], [1, 0, 0, 0]), np.zeros((192, 192, 3), np.uint8))
    with pytest.raises(UserError, match="needs three"):
        align(tmp_path / "flight", AlignSettings(), progress=False)


def test_neighbours_are_compared_and_so_are_frames_that_follow_each_other() -> None:
    rng = np.random.default_rng(2)
    T_map_cam = np.tile(np.eye(4), (200, 1, 1))
    T_map_cam[:, :2, 3] = rng.uniform(0, 400, (200, 2))
    T_map_cam[::2, :3, :3] = Rotation.from_euler("x", 180, degrees=True).as_matrix()  # every other one looks down
    pairs = choose_pairs(T_map_cam, 12)
    assert {(i, i + 1) for i in range(199)} <= set(pairs)
    assert all(a < b for a, b in pairs)
    assert len(pairs) < 200 * 20
    compared, place = set(pairs), T_map_cam[::2, :3, 3]
    missing = 0
    for i, row in enumerate(np.linalg.norm(place[:, None] - place, axis=2).argsort(axis=1)[:, 1:6]):
        missing += sum((2 * min(i, j), 2 * max(i, j)) not in compared for j in row.tolist())
    assert missing < 0.02 * 5 * len(place)  # the nearest of those that look the same way


@pytest.mark.parametrize(
    ("model", "distortion"),
    [("none", ()), ("plumb_bob", (0.1, 0.0, 0.0, 0.0)), ("plumb_bob", (0.1, -0.02, 1e-3, 2e-3)),
     ("equidistant", (0.01, 0.02, 0.0, 0.0)), ("rational_polynomial", (0.1, 0.2, 0.0, 0.0, 0.1, 0.2, 0.1, 0.0))],
)  # fmt: skip
def test_cameras_survive_the_way_to_colmap_and_back(model: str, distortion: tuple[float, ...]) -> None:

    camera = Camera(640, 480, 500.0, 500.0, 310.0, 245.0, model, distortion)
    name, parameters = colmap_camera(camera, "auto")
    there = pycolmap.Camera(model=name, width=640, height=480, params=parameters)
    point = np.array([[0.3, -0.2, 1.0], [0.0, 0.0, 2.0], [-0.4, 0.3, 1.5]])
    np.testing.assert_allclose(there.img_from_cam(point), camera.project(point) + 0.5, atol=1e-6)
    np.testing.assert_allclose(our_camera(there).project(point), camera.project(point), atol=1e-6)


def test_what_was_recorded_is_kept_and_comes_back(
    aligned: tuple[Path, dict[str, bytes]], truth: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, before = aligned
    assert bytes_of(folder / "recorded") == before
    once = bytes_of(folder)
    mapped = [path.stat().st_mtime_ns for path in folder.glob(".cache/sfm/*/map_global/0/points3D.bin")]
    assert main(["align", str(folder), "--image-size", str(SIZE)]) == 0  # begins from what was recorded again
    assert [path.stat().st_mtime_ns for path in folder.glob(".cache/sfm/*/map_global/0/points3D.bin")] == mapped
    assert bytes_of(folder / "recorded") == before
    position_m, _ = errors(Dataset(folder), truth)
    assert np.median(np.linalg.norm(position_m, axis=1)) < 1.0
    assert main(["align", str(folder), "--restore"]) == 0
    assert bytes_of(folder) == before
    assert once != before
    assert main(["align", str(folder), "--restore"]) == 2
    assert "was not aligned" in capsys.readouterr().err
