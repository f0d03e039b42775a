"""Of a video some frames make the map; those between are found by following its points, to a pixel."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from support.aerial import nadir_pose
from support.roofs import Roofs

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.dataset.meta import DatasetMeta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.sfm.reconstruct import SparseMap
from pose2rgbd_ros.sfm.video import FEWEST, choose_keyframes, find_between

FRAMES, SIZE = 100, 256


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Three short lines over the city at a few hertz, with exact poses and depth."""
    folder = tmp_path_factory.mktemp("video") / "flight"
    flight = [
        "--flight.plan",
        "lawnmower",
        "--flight.area-m",
        "24",
        "--flight.line-spacing-m",
        "12",
        "--flight.speed-mps",
        "3",
    ]
    size = ["--frames", str(FRAMES), "--size", str(SIZE), "--supersample", "1"]
    assert main(["sim", "dataset", str(folder), *size, *flight, "--processes", "1"]) == 0
    return Dataset(folder)


def exact_map(video: Dataset, keyframes: np.ndarray) -> SparseMap:
    """What structure from motion would ideally make of the key frames: corners at their true places."""
    points, frames, pixels = [], [], []
    for frame in keyframes.tolist():
        grey = cv2.cvtColor(video.rgb(frame), cv2.COLOR_RGB2GRAY)
        corners = cv2.goodFeaturesToTrack(grey, 300, 0.01, 5).reshape(-1, 2)
        column, row = corners.round().astype(int).T
        depth_m = video.depth(frame)[row, column]
        known = np.isfinite(depth_m)
        rays = video.camera.rays()[row[known], column[known]] * depth_m[known, None]
        points.append(se3.transform_points(video.T_map_cam[frame], rays))
        pixels.append(np.column_stack([column, row])[known])
        frames.append(np.full(known.sum(), frame))
    place = np.concatenate(points)
    count = len(place)
    return SparseMap(
        keyframes, video.T_map_cam[keyframes], video.camera, place, np.zeros((count, 3), np.uint8),
        np.full(count, 3), np.concatenate(frames), np.arange(count), np.concatenate(pixels).astype(float), 0.5, Path(),
    )  # fmt: skip


def test_key_frames_overlap_and_are_few(video: Dataset) -> None:
    keyframes = choose_keyframes(video, progress=False)
    assert keyframes[0] == 0
    assert keyframes[-1] == len(video) - 1
    assert (np.diff(keyframes) > 0).all()
    assert len(keyframes) < 0.7 * FRAMES
    apart_m = np.linalg.norm(np.diff(video.T_map_cam[keyframes, :3, 3], axis=0), axis=1)
    assert apart_m.max() < 12  # of a view that is 60 m wide


def test_a_camera_that_stands_still_needs_two(video: Dataset, tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "hover", DatasetMeta(camera=video.camera)) as writer:
        for i in range(FEWEST):
            writer.add(int(i * 1e8) + 1, video.T_map_cam[0], video.rgb(0))
    assert choose_keyframes(Dataset(tmp_path / "hover"), progress=False).tolist() == [0, FEWEST - 1]


def test_photographs_are_all_key_frames(video: Dataset, tmp_path: Path) -> None:
    with DatasetWriter(tmp_path / "slow", DatasetMeta(camera=video.camera)) as writer:
        for i in range(FEWEST):
            writer.add((i + 1) * 10**9, video.T_map_cam[i], video.rgb(i))
    assert len(choose_keyframes(Dataset(tmp_path / "slow"), progress=False)) == FEWEST


def test_frames_between_are_found_by_the_points_of_the_map(video: Dataset) -> None:
    keyframes = np.arange(0, FRAMES, 5)
    between = np.setdiff1d(np.arange(FRAMES), keyframes)
    found = dict(find_between(video, exact_map(video, keyframes), between, progress=False))
    assert len(found) >= 0.95 * len(between)
    frames = np.array(sorted(found))
    T_map_cam = np.stack([found[frame] for frame in frames.tolist()])
    error_m = np.linalg.norm(T_map_cam[:, :3, 3] - video.T_map_cam[frames, :3, 3], axis=1)
    turn = Rotation.from_matrix(T_map_cam[:, :3, :3]).inv() * Rotation.from_matrix(video.T_map_cam[frames, :3, :3])
    assert np.median(error_m) < 0.25  # a pixel on the ground
    assert np.median(np.rad2deg(turn.magnitude())) < 0.25
    assert np.quantile(error_m, 0.95) < 1.0


class Spoilt(Dataset):
    """A video of which one frame shows something else where `mask` (H, W) is set."""

    def __init__(self, path: Path, frame: int, shows: np.ndarray, mask: np.ndarray) -> None:
        super().__init__(path)
        self._frame, self._shows, self._mask = frame, shows, mask

    def rgb(self, index: int) -> np.ndarray:
        image = super().rgb(index)
        return np.where(self._mask[:, :, None], self._shows, image) if index == self._frame else image


def columns(begin: float, end: float) -> np.ndarray:
    mask = np.zeros((SIZE, SIZE), bool)
    mask[:, int(begin * SIZE) : int(end * SIZE)] = True
    return mask


def elsewhere(video: Dataset) -> np.ndarray:
    """Another city, as textured as this one."""
    return Roofs(4).view(nadir_pose(0, 0, 60, 0), video.camera)


@pytest.mark.parametrize("kind", ["noise", "city"])
def test_a_frame_of_another_place_is_not_found(video: Dataset, kind: str) -> None:
    noise = np.random.default_rng(2).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    spoilt = Spoilt(video.path, 2, noise if kind == "noise" else elsewhere(video), columns(0, 1))
    found = dict(find_between(spoilt, exact_map(video, np.array([0, 5])), np.array([1, 2, 4]), progress=False))
    assert 2 not in found
    assert {1, 4} <= set(found)


def test_what_passes_before_the_camera_does_not_count(video: Dataset) -> None:
    """Three quarters of a frame are covered: what is left says where it was, and the points that were lost do not."""
    covered = Spoilt(video.path, 1, elsewhere(video), columns(0.32, 1))
    found = dict(find_between(covered, exact_map(video, np.array([0])), np.array([1]), progress=False))
    assert np.linalg.norm(found[1][:3, 3] - video.T_map_cam[1, :3, 3]) < 1.0


def test_a_sliver_of_this_place_is_not_enough(video: Dataset) -> None:
    """Points that survive by chance, or stand on the image, are as many."""
    covered = Spoilt(video.path, 1, elsewhere(video), columns(0.22, 1))
    assert not list(find_between(covered, exact_map(video, np.array([0])), np.array([1]), progress=False))


def test_a_damaged_frame_costs_itself_and_those_behind_it(video: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(video.path, folder)
    for frame in (2, 12):
        (folder / video.records[frame].rgb).write_bytes(b"")
    damaged = Dataset(folder)
    found = dict(find_between(damaged, exact_map(video, np.array([0, 5])), np.arange(1, 5), progress=False))
    assert sorted(found) == [1, 3, 4]
    keyframes = choose_keyframes(damaged, progress=False)
    assert not {2, 12} & set(keyframes.tolist())
    assert keyframes[-1] == len(video) - 1
