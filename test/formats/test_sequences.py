"""Any source as sequences of frames: what people have on disk, written here as its makers write it, and damaged."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.aerial import write_video
from support.foreign_datasets import FRAMES, HEIGHT, WIDTH, kitti, rgb, tum, write, write_image

from pose2rgbd_ros.depth_from_images.snippets import SnippetData
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.formats.sequences import GUESSED_HFOV_DEG, open_sequences
from pose2rgbd_ros.geometry.camera import Camera


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def hover(time_s: float) -> np.ndarray:
    T = np.diag([1.0, -1.0, -1.0, 1.0])
    T[:3, 3] = [4 * time_s, 0.0, 30.0]
    return T


# KITTI raw: camera 2 stands 0.06 m to the left of camera 0; the scanner 0.27 m ahead of it and 0.08 m below.

POINTS = [[10.0, 0.0, 0.0], [10.5, 0.0, 0.0], [8.0, -1.6, 0.4], [-5.0, 0.0, 0.0], [6.0, 60.0, 0.0]]


def write_drive(day: Path, name: str = "2011_09_26_drive_0001_sync", missing: tuple[int, ...] = ()) -> Path:
    drive = day / name
    for camera in ("image_02", "image_03"):
        for i in range(FRAMES):
            if i not in missing:
                write_image(drive / camera / f"data/{i:010d}.png", i)
        times = "".join(f"2011-09-26 13:02:25.{100 * i + 64389445:09d}\n" for i in range(FRAMES))
        write(drive / camera / "timestamps.txt", times)
    identity = "1 0 0 0 1 0 0 0 1"
    P = "2.000000e+01 0 7.5 {} 0 2.000000e+01 5.5 0 0 0 1 0"
    write(
        day / "calib_cam_to_cam.txt",
        f"calib_time: 09-Jan-2012 13:57:47\ncorner_dist: 9.95e-02\nS_rect_02: {WIDTH} {HEIGHT}\nR_rect_00: {identity}\n"
        f"P_rect_02: {P.format(1.2)}\nP_rect_03: {P.format(-9.6)}\n",
    )
    write(day / "calib_velo_to_cam.txt", "calib_time: x\nR: 0 -1 0 0 0 -1 1 0 0\nT: 0.0 -0.08 -0.27\ndelta_f: 0 0\n")
    write(day / "calib_imu_to_velo.txt", f"calib_time: x\nR: {identity}\nT: -0.81 0.32 -0.8\n")
    for i in range(FRAMES):
        scan = np.column_stack([POINTS, np.zeros(len(POINTS))]).astype(np.float32)
        (drive / "velodyne_points/data").mkdir(parents=True, exist_ok=True)
        scan.tofile(drive / f"velodyne_points/data/{i:010d}.bin")
        # Eastward, 1e-5 degrees of longitude a frame at the equator: 1.1131949 m.
        attitude = "0.0 0.2 1.5707963267948966" if i == 3 else "0 0 0"  # at last northward, and downhill
        write(drive / f"oxts/data/{i:010d}.txt", f"0.0 {8 + 1e-5 * i:.6f} 100.0 {attitude} " + "0 " * 24)
    return drive


def test_kitti_raw_is_read_with_its_times_scans_and_poses(tmp_path: Path) -> None:
    drive = write_drive(tmp_path / "2011_09_26")
    left, right = open_sequences(drive)
    assert (left.name, right.name) == (f"{drive.name}/image_02", f"{drive.name}/image_03")
    assert (np.diff(left.stamps_ns) == 100).all()
    assert left.stamps_ns[0] == 1317042145 * 10**9 + 64389445
    assert left.camera == Camera(WIDTH, HEIGHT, 20.0, 20.0, 7.5, 5.5)
    assert np.array_equal(left.rgb(2), rgb(2))
    depth = left.depth(1)
    assert depth is not None
    # (10, 0, 0) of the scanner is (0, -0.08, 9.73) of camera 0 and (0.06, -0.08, 9.73) of camera 2.
    u, v = round(7.5 + 20 * 0.06 / 9.73), round(5.5 - 20 * 0.08 / 9.73)
    assert depth[v, u] == pytest.approx(9.73), "the nearer of the two that lie there"
    u, v = round(7.5 + 20 * 1.66 / 7.73), round(5.5 - 20 * 0.48 / 7.73)
    assert depth[v, u] == pytest.approx(7.73)
    assert np.isfinite(depth).sum() == 2, "not what is behind or beside the image"
    eigen = left.depth(1, published=True)
    assert eigen is not None
    assert eigen[v - 1, u - 1] == pytest.approx(8.0), "forward of the scanner, pixels from one"
    T = left.T_map_cam
    assert T is not None
    assert np.allclose(np.diff(T[:3, :3, 3], axis=0), [1.1131949, 0, 0], atol=1e-5)
    assert np.allclose(T[0, :3, 2], [1, 0, 0], atol=1e-6), "it looks where it drives"
    assert np.allclose(T[0, :3, 1], [0, 0, -1], atol=1e-6)
    assert np.allclose(T[3, :3, 2], [0, np.cos(0.2), -np.sin(0.2)], atol=1e-6)
    # In the scanner's frame camera 2 is at (0.27, 0.06, -0.08), the inertial unit at (-0.81, 0.32, -0.8).
    assert np.allclose(T[0, :3, 3], [1.08, -0.26, 0.72], atol=1e-6)


def test_a_day_a_drive_and_a_camera_of_kitti_raw(tmp_path: Path) -> None:
    day = tmp_path / "2011_09_26"
    write_drive(day)
    second = write_drive(day, "2011_09_26_drive_0002_sync", missing=(1,))
    assert [each.name[-13:] for each in open_sequences(day)] == ["sync/image_02", "sync/image_03"] * 2
    assert len(open_sequences(tmp_path)) == 4
    (one,) = open_sequences(second / "image_03")
    assert np.diff(one.stamps_ns).tolist() == [200, 100], "a frame that is missing leaves its time open"
    assert np.array_equal(one.rgb(1), rgb(2))
    (day / "calib_cam_to_cam.txt").write_text("R_rect_00: 1 0 0 0 1 0 0 0 1\n")
    with pytest.raises(UserError, match=r"calib_cam_to_cam\.txt has no 3 x 4 matrix P_rect_02; restore it"):
        open_sequences(second)
    (day / "calib_cam_to_cam.txt").unlink()
    with pytest.raises(UserError, match=r"calib_cam_to_cam\.txt does not exist"):
        open_sequences(second)


def test_kitti_odometry_with_and_without_poses(tmp_path: Path) -> None:
    kitti(tmp_path)
    (known,) = open_sequences(tmp_path / "sequences/04")
    assert known.camera.fx == 20
    assert known.T_map_cam is not None
    assert np.allclose(known.T_map_cam[0, :3, 2], [1, 0, 0]), "z is up, x ahead"
    assert np.diff(known.stamps_ns) == pytest.approx(103735900)
    shutil.rmtree(tmp_path / "poses")
    (unknown,) = open_sequences(tmp_path / "sequences/04")
    assert unknown.T_map_cam is None
    assert len(unknown) == FRAMES
    assert np.array_equal(unknown.stamps_ns, known.stamps_ns)
    assert np.array_equal(unknown.rgb(1), rgb(1))


def test_tum_and_the_lens_that_its_makers_publish(tmp_path: Path) -> None:
    tum(tmp_path / "rgbd_dataset_freiburg2_desk")
    (found,) = open_sequences(tmp_path / "rgbd_dataset_freiburg2_desk")
    assert (found.camera.fx, found.camera.distortion[0]) == (520.9, 0.2312)
    assert any("TUM publishes for freiburg2" in note for note in found.notes)
    depth = found.depth(0)
    assert depth is not None
    assert np.isnan(depth[0, 0])
    tum(tmp_path / "mine")
    (found,) = open_sequences(tmp_path / "mine", 70.0)
    assert found.camera == Camera.from_fov(WIDTH, HEIGHT, 70.0)
    assert found.camera_from == "a field of view of 70 degrees, as given"


def test_nyu_in_folders_of_scenes(tmp_path: Path) -> None:
    for scene in ("kitchen_0001", "office_0002"):
        for i in range(3):
            image = cv2.resize(rgb(i), (640, 480))
            (tmp_path / scene).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / scene / f"rgb_{i:05d}.jpg"), image)
            depth = np.full((480, 640), 1500 + i, np.uint16)
            depth[0, 0] = 0
            if i != 1:
                cv2.imwrite(str(tmp_path / scene / f"sync_depth_{i:05d}.png"), depth)
    found = open_sequences(tmp_path)
    assert [each.name for each in found] == ["kitchen_0001", "office_0002"]
    assert len(found[0]) == 3
    assert found[0].camera.fx == pytest.approx(518.86, abs=0.01)
    depth = found[0].depth(2)
    assert depth is not None
    assert depth[5, 5] == pytest.approx(1.502)
    assert np.isnan(depth[0, 0])
    data = SnippetData.of(found, (24, 32), frames=2)
    prepared = data.depth(np.array([0, 1]))
    assert prepared is not None
    assert np.nanmax(prepared[0]) == pytest.approx(1.5)
    assert np.isnan(prepared[1]).all(), "an image without depth is an image all the same"


def test_a_folder_of_images_whose_sizes_differ(tmp_path: Path) -> None:
    for i in range(8):
        write_image(tmp_path / f"shot{i:03d}.png", i)
    cv2.imwrite(str(tmp_path / "shot003.png"), np.zeros((30, 40, 3), np.uint8))
    (tmp_path / "shot006.png").write_bytes((tmp_path / "shot005.png").read_bytes()[:40])
    (found,) = open_sequences(tmp_path)
    assert found.camera == Camera.from_fov(WIDTH, HEIGHT, GUESSED_HFOV_DEG)
    assert found.camera_from.startswith("a guess: 65 degrees across; --hfov-deg")
    data = SnippetData.of([found], (6, 8), frames=2)
    assert np.flatnonzero(data.runs < 0).tolist() == [3, 6]
    assert any("its lens is a guess" in note for note in data.notes)
    assert any("at 30 frames a second" in note for note in data.notes)
    assert not any("--rate-hz" in note for note in data.notes), "an option of import"
    (left_out,) = [note for note in data.notes if "left out" in note]
    assert "2 frames of 8 left out" in left_out
    assert "frame 3 of " in left_out
    assert "has 40 x 30 pixels, the sequence's camera 16 x 12" in left_out


# Videos.


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_a_video_gives_its_frames_in_any_order(tmp_path: Path, suffix: str) -> None:
    times = write_video(tmp_path / f"a{suffix}", hover, 2.4, size=(64, 48))
    (found,) = open_sequences(tmp_path / f"a{suffix}", 70.0)
    assert found.stamps_ns == pytest.approx(np.array(times) * 1e9, abs=1e6)
    assert found.camera == Camera.from_fov(64, 48, 70.0)
    in_order = [found.rgb(i) for i in range(len(found))]
    assert all((a != b).any() for a, b in pairwise(in_order))
    for i in (17, 3, 3, 4, 23, 0):
        assert np.array_equal(found.rgb(i), in_order[i])
    data = SnippetData.of([found], (48, 64))
    assert np.array_equal(data.rgb(np.array([5, 20])), np.stack([in_order[5], in_order[20]]))


def test_a_video_of_varying_rate_keeps_its_times_and_its_gap(tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.15, 0.3, 0.4, 0.5, 1.5, 1.6, 1.72, 1.8, 1.9]
    write_video(tmp_path / "a.mp4", hover, 0, size=(64, 48), times_s=times)
    (found,) = open_sequences(tmp_path / "a.mp4")
    assert found.stamps_ns == pytest.approx(np.array(times) * 1e9, abs=2e6)
    data = SnippetData.of([found], (24, 32))
    assert set(data.members(data.split.train)[:, 0]) <= {0, 1, 2, 3, 6, 7, 8}
    assert any("1 gap of time" in note for note in data.notes)


def test_of_a_damaged_video_what_is_left_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, hover, 4.0, size=(64, 48))
    (whole,) = open_sequences(path)
    images = [whole.rgb(i) for i in range(40)]
    raw = bytearray(path.read_bytes())
    at = raw.index(b"mdat") + 4
    end = at + int.from_bytes(raw[at - 8 : at - 4], "big") - 8
    raw[at + (end - at) // 3 : at + (end - at) // 2] = bytes((end - at) // 2 - (end - at) // 3)
    (tmp_path / "b.mp4").write_bytes(raw)
    (found,) = open_sequences(tmp_path / "b.mp4")
    assert len(found) == 40, "the index is whole"
    data = SnippetData.of([found], (24, 32))
    (note,) = [note for note in data.notes if "left out" in note]
    assert "cannot be decoded; the file is damaged or cut off there" in note
    left = np.flatnonzero(data.runs >= 0)
    assert 20 < len(left) < 35
    assert {0, 39} <= set(left.tolist()), "what comes before and after the damage is whole"
    for i in left:  # not what the decoder guessed up to the next key frame
        assert np.array_equal(found.rgb(int(i)), images[i])


def test_what_is_no_source_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere does not exist"):
        open_sequences(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"is no source of video: a dataset, a video, KITTI raw"):
        open_sequences(tmp_path)
    (tmp_path / "flight.mcap").write_bytes(b"")
    with pytest.raises(UserError, match=r"mcap is no video .*a recording is converted first: pose2rgbd convert"):
        open_sequences(tmp_path / "flight.mcap")
    (tmp_path / "a.mp4").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"a\.mp4 cannot be opened as a video"):
        open_sequences(tmp_path / "a.mp4")
    with pytest.raises(UserError, match=r"holds 1 video; name them: .*a\.mp4"):
        open_sequences(tmp_path)


def test_datasets_bring_their_poses_depth_and_split(flight_dataset, tmp_path: Path) -> None:
    path = flight_dataset(tmp_path / "flight", 12)
    (found,) = open_sequences(path)
    assert found.T_map_cam is not None
    assert found.split is None
    assert found.cache == path / ".cache"
    assert found.camera_from == "the source's calibration"
    stamps = [line.split()[0] for line in (path / "associations.txt").read_text().splitlines() if line[0] != "#"]
    write(path / "split.txt", "".join(f"{at} {'test' if i < 4 else 'train'}\n" for i, at in enumerate(stamps)))
    data = SnippetData.of(open_sequences(path), (20, 24))
    assert data.split.train.tolist() == list(range(5, 11))
    assert data.split.judge.tolist() == [1, 2]
    depth = data.depth(np.array([7]))
    assert depth is not None
    assert np.isfinite(depth).any()


def test_real_sources(real_data: Path) -> None:
    (video,) = open_sequences(real_data / "karma_drone_video/karma.mp4")
    assert len(video) == 362
    assert np.median(np.diff(video.stamps_ns)) == pytest.approx(1e9 / 29.97, rel=1e-3)
    reference = cv2.VideoCapture(str(real_data / "karma_drone_video/karma.mp4"))
    frame = reference.read()[1][..., ::-1].astype(float)
    assert np.abs(video.rgb(0) - frame).mean() < 3
    (grey,) = open_sequences(real_data / "kitti_sequence_1")
    assert len(grey) == 51
    assert grey.rgb(50).shape == (370, 1226, 3)
