"""Places: which frames are shown in which colours, the scene's frame, and what is no place."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from viewer.conftest import FRAMES, SMALL

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.training.checkpoint import load_checkpoint
from pose2rgbd_ros.viewer import place as places
from pose2rgbd_ros.viewer.place import CHOOSING, JUDGING, TRAINING, Place, split_paths
from pose2rgbd_ros.viewer.scene import picked_frame
from pose2rgbd_ros.viewer.settings import ViewSettings


def test_frames_have_the_kind_that_the_training_gave_them(place: Place, warp: Path, flight: Path) -> None:
    checkpoint, dataset = load_checkpoint(warp), Dataset(flight)
    kind = dict(zip(dataset.stamps_ns[place.track.frame].tolist(), place.track.kind, strict=True))
    assert {stamp for stamp, one in kind.items() if one == TRAINING} == set(checkpoint.training_stamps_ns.tolist())
    choosing = checkpoint.choosing_stamps_ns
    assert choosing is not None
    assert len(choosing)
    assert {stamp for stamp, one in kind.items() if one == CHOOSING} == set(choosing.tolist())
    assert JUDGING in kind.values()


def test_without_a_dataset_the_track_is_what_was_trained_on(warp: Path) -> None:
    place = Place([warp], None, SMALL)
    assert set(place.track.kind) == {TRAINING}
    np.testing.assert_array_equal(place.track.T_map_cam, load_checkpoint(warp).training_T_map_cam)


def test_many_frames_are_thinned_and_it_is_said(warp: Path, flight: Path) -> None:
    place = Place([warp], flight, ViewSettings(most_frames=7))
    assert place.track.note == f"7 of {FRAMES} frames are drawn"
    assert place.track.frame[[0, -1]].tolist() == [0, FRAMES - 1]
    assert np.ptp(np.diff(place.track.frame)) <= 1
    assert len(places._thinned(100_000, 2000)) == 2000


@given(st.tuples(*[st.floats(-1e4, 1e4)] * 3), st.tuples(*[st.floats(-1, 1)] * 4))
def test_the_scene_and_the_map_are_one_to_one(position: tuple[float, ...], quat: tuple[float, ...]) -> None:
    if np.linalg.norm(quat) < 0.1:
        return
    place = object.__new__(Place)
    place.centre_m, place.units_per_m = np.array([7.0, -3.0, 40.0]), 0.13
    T = se3.make(position, np.array(quat) / np.linalg.norm(quat))
    back = place.map_pose(*place.scene_pose(T))
    assert back is not None
    np.testing.assert_allclose(back, T, atol=1e-6)


@pytest.mark.parametrize(
    ("position", "quat"),
    [
        ([np.nan, 0, 0], [1, 0, 0, 0]), ([0, 0, 0], [np.inf, 0, 0, 0]), ([1e9, 0, 0], [1, 0, 0, 0]),
        ([0, 0, 0], [0, 0, 0, 0]), ([0, 0], [1, 0, 0, 0]), ([0, 0, 0], [1, 0, 0]),
    ],
)  # fmt: skip
def test_poses_that_are_none(place: Place, position: list[float], quat: list[float]) -> None:
    assert place.map_pose(np.array(position), np.array(quat)) is None


@pytest.mark.parametrize(("aspect", "fov"), [(np.nan, 1), (0, 1), (1e6, 1), (1, 0), (1, np.nan), (1, 4), (1, -1)])
def test_views_that_are_none(aspect: float, fov: float) -> None:
    assert places.view_camera(256, aspect, fov) is None


@given(st.floats(0.2, 5.0), st.floats(0.2, 2.5))
def test_a_view_has_about_the_pixels_that_were_asked_for(aspect: float, fov: float) -> None:
    camera = places.view_camera(256, aspect, fov)
    assert camera is not None
    assert camera.width * camera.height == pytest.approx(256**2, rel=0.05)
    assert 2 * np.arctan(camera.height / 2 / camera.fy) == pytest.approx(fov)


@given(st.floats(0.3, 3.0))
def test_all_that_a_frame_saw_fits_into_the_page(aspect: float) -> None:
    frame = Camera(640, 480, 500.0, 510.0, 320.0, 240.0)
    camera = places.view_camera(256, aspect, places.fitting_fov_rad(frame, aspect))
    assert camera is not None
    assert camera.width / camera.fx >= 0.99 * frame.width / frame.fx
    assert camera.height / camera.fy >= 0.99 * frame.height / frame.fy


def test_a_click_on_a_camera_means_it(place: Place) -> None:
    position, _ = place.scene_pose(place.track.T_map_cam)
    eye = position.mean(axis=0) + np.array([0.0, 0.0, 3.0])
    for number in (0, 17, FRAMES - 1):
        picked = picked_frame(place, eye, (position[number] - eye) / np.linalg.norm(position[number] - eye))
        assert picked is not None
        assert np.linalg.norm(position[picked] - position[number]) < 0.3
    assert picked_frame(place, eye, np.array([0.0, 0.0, 1.0])) is None, "the sky is no camera"


def test_a_dataset_of_another_place_is_refused(relief: Path, flight: Path, tmp_path: Path) -> None:
    far = tmp_path / "far"
    shutil.copytree(flight, far)
    lines = (far / "groundtruth.txt").read_text().splitlines()
    moved = [
        line if line.startswith("#") else " ".join([w[0], str(float(w[1]) + 5000), *w[2:]])
        for line in lines
        for w in [line.split()]
    ]
    (far / "groundtruth.txt").write_text("\n".join(moved) + "\n")
    with pytest.raises(UserError, match="far is of another place: it comes no nearer than"):
        Place([relief], far, SMALL)


def test_runs_and_the_dataset_are_told_apart(warp: Path, relief: Path, flight: Path) -> None:
    assert split_paths([warp], None) == ([warp], None)
    assert split_paths([warp, flight], None) == ([warp], flight)
    assert split_paths([warp, relief], None) == ([warp, relief], None)
    assert split_paths([warp, relief], flight) == ([warp, relief], flight)
    with pytest.raises(UserError, match="which model"):
        Place([], None, SMALL)


def test_a_recording_without_images_is_one_line(warp: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="empty"):
        Place([warp], empty, SMALL)
