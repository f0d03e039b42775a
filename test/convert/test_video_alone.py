"""Videos without a log: poses of the pictures alone, refined, and depth by them; nothing of it has a unit."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from support.aerial import nadir_pose, write_video

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.convert.settings import VideoSettings
from pose2rgbd_ros.convert.video import PictureTrack, convert_videos
from pose2rgbd_ros.dataset.inspect import inspect
from pose2rgbd_ros.dataset.meta import read_meta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.picture_track import follow_pictures
from pose2rgbd_ros.sfm.picture_poses import drift

SECONDS, FOV_DEG = 4.0, 62.0  # of aerial.view's focal length of 160 px at 192


def pose(time_s: float) -> np.ndarray:
    """40 m above the ground, along it and slowly climbing, so that the way is no line."""
    return nadir_pose(4.0 * time_s, 3.0 * np.sin(time_s), 40.0 + time_s, 90.0)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "a.mp4"
    write_video(path, pose, SECONDS, rate_hz=6.0)
    return path


def test_without_a_log_a_video_needs_to_be_told_to_go_by_its_pictures(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(video), str(tmp_path / "out")]) == 2
    assert "--video.poses pictures" in capsys.readouterr().err
    assert main(["convert", str(video), str(tmp_path / "out"), "--video.poses", "log", "--depth", "stereo"]) == 2
    assert "has no log" in capsys.readouterr().err


def test_frames_get_the_poses_of_a_track_and_its_labels(video: Path, tmp_path: Path) -> None:
    stamps_ns = np.array([0, 1, 4], np.int64) * 10**9
    track = PictureTrack(
        stamps_ns, np.stack([pose(0.0), pose(1.0), pose(4.0)]), "as drawn", Camera.from_fov(96, 64, 62.0), "a guess"
    )
    report = convert_videos([video], tmp_path / "out", tracks={video: track})
    assert "poses: as drawn; they have no unit, and drift" in report.summary()
    found = Dataset(tmp_path / "out")
    assert (found.meta.has_metres, found.meta.camera_from, found.camera.width) == (False, "a guess", 192)
    at = int(np.argmin(np.abs(found.stamps_ns - 10**9)))
    np.testing.assert_allclose(found.T_map_cam[at], pose(1.0), atol=0.02)
    assert "in no unit, whatever metres" in inspect(found, tmp_path / "look", 2).text
    assert len(found) == 24, "also far from the poses that are there"


def test_drift_is_of_a_part_of_the_way() -> None:
    T = np.stack([pose(time_s) for time_s in np.linspace(0, 20, 81)])
    assert drift(T, T).translation == pytest.approx(0, abs=1e-9)
    longer = T.copy()
    longer[:, :3, 3] *= 3.0
    assert drift(longer, T).translation == pytest.approx(0, abs=1e-9), "sizes of wholes are made alike"
    bent = T.copy()
    bent[40:, :3, 3] += 0.5 * (T[40:, :3, 3] - T[40, :3, 3])
    assert 0.1 < drift(bent, T).translation < 0.5


@pytest.mark.slow
def test_poses_of_pictures_alone_are_refined_and_have_no_unit(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["convert", str(video), str(out), "--video.poses", "pictures", "--fov-deg", str(FOV_DEG)]) == 0
    said = capsys.readouterr().out
    assert "they have no unit, and drift" in said
    meta = read_meta(out)
    assert not meta.has_metres
    assert meta.camera_from == f"a field of view of {FOV_DEG:g} degrees, as given"
    assert meta.poses is not None
    assert meta.poses.position == "pictures, refined"
    assert meta.poses.accuracy is not None
    assert meta.poses.accuracy["drift_before"]["translation"] < 0.5
    found = Dataset(out)
    truth = np.stack([pose(stamp / 1e9) for stamp in found.stamps_ns])
    scale, R, t = se3.umeyama(found.T_map_cam[:, :3, 3], truth[:, :3, 3])
    off = scale * found.T_map_cam[:, :3, 3] @ R.T + t - truth[:, :3, 3]
    assert np.linalg.norm(off, axis=1).max() < 0.05 * np.linalg.norm(np.ptp(truth[:, :3, 3], axis=0))


def test_a_camera_that_stands_still_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", lambda _: pose(0.0), 1.0)
    with pytest.raises(UserError, match="its camera cannot be followed by its pictures"):
        follow_pictures(tmp_path / "a.mp4", VideoSettings(), FOV_DEG, progress=False)


@pytest.mark.slow
def test_frames_of_a_long_video_stream_by(tmp_path: Path) -> None:
    """Six times as many frames take no more memory."""
    peaks = []
    for seconds in (1.5, 9.0):
        path = tmp_path / f"{seconds}.mp4"
        write_video(path, lambda time_s: nadir_pose(6.0 * (time_s % 3), 0.0, 40.0, 90.0), seconds, size=(96, 64))
        tracemalloc.start()
        follow_pictures(path, VideoSettings(), FOV_DEG, progress=False)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 1_000_000, "bytes"
