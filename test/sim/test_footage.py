"""`pose2rgbd sim photos` and `sim video`: what the files say, read as a converter reads them, against the flight."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.sim_datasets import CITY, LOOP, city_of

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.convert.exif import read_photo
from pose2rgbd_ros.convert.logs.text import read_gpx
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.geodesy import wgs84_to_enu
from pose2rgbd_ros.sim import footage
from pose2rgbd_ros.sim.flights.make import make_flight
from pose2rgbd_ros.sim.footage import BEGUN, PhotosConfig, VideoConfig, write_sim_photos, write_sim_video
from pose2rgbd_ros.sim.gl.renderer import SceneRenderer
from pose2rgbd_ros.sim.state import DATUM
from pose2rgbd_ros.streams.video_file import VideoFile

PHOTOS = PhotosConfig(photos=4, width=96, height=64, gps_m=0.0, attitude_deg=0.0, city=CITY, flight=LOOP)
VIDEO = VideoConfig(duration_s=3.0, rate_hz=5.0, width=96, height=64, gps_m=0.0, city=CITY, flight=LOOP)
MS = 1_000_000


@pytest.fixture(scope="module", autouse=True)
def one_city():
    """The files of this module share their city."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(footage, "City", city_of)
        yield


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("footage") / "photos"
    assert write_sim_photos(folder, PHOTOS) == f"{folder}: 4 photographs"
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("footage") / "flight.mp4"
    assert write_sim_video(path, VIDEO).startswith(f"{path}: 3 s; {path.with_suffix('.gpx')}: ")
    return path


def flown(times: Float64) -> Float64:
    return make_flight(LOOP, city_of(CITY)).T_map_cam(times)


def rendered(T_map_cam: Float64, t_s: float, width: int, height: int) -> Float64:
    renderer = SceneRenderer(city_of(CITY).scene, Camera.from_fov(width, height, PHOTOS.fov_deg), supersample=2)
    try:
        return renderer.render(T_map_cam, t_s).rgb.astype(float)
    finally:
        renderer.close()


def places(found) -> Float64:
    """(N, 3) east, north, up in the simulator's map."""
    return np.array([wgs84_to_enu(it.latitude_deg, it.longitude_deg, it.altitude_m, DATUM) for it in found])


def test_photographs_say_where_when_and_how_they_were_taken(photos: list[Path]) -> None:
    assert [path.name for path in photos] == [f"DJI_{number:04d}.JPG" for number in (1, 2, 3, 4)]
    found = [read_photo(path) for path in photos]
    t_s = np.linspace(0.0, make_flight(LOOP, city_of(CITY)).duration_s, 4)
    T = flown(t_s)
    np.testing.assert_allclose(places(found), T[:, :3, 3], atol=5e-3)
    begun_ns = BEGUN.astype("datetime64[ns]").astype(np.int64)
    np.testing.assert_allclose([it.stamp_ns - begun_ns for it in found], 1e9 * t_s, atol=MS)
    assert all(it.zone_known and (it.width, it.height) == (96, 64) for it in found)
    for it, pose in zip(found, T, strict=True):
        assert it.gimbal is not None
        np.testing.assert_allclose(it.gimbal, footage.gimbal_angles(pose), atol=0.006)
    # As EXIF has it: of the diagonal of a film 36 x 24 mm, to a whole millimetre.
    fx = Camera.from_fov(96, 64, PHOTOS.fov_deg).fx
    assert found[0].lens.focal_35mm == pytest.approx(fx * np.hypot(36, 24) / np.hypot(96, 64), abs=0.5)


def test_a_photograph_shows_what_the_city_looks_like_from_there(photos: list[Path]) -> None:
    shown = cv2.imread(str(photos[1]))[..., ::-1].astype(float)
    t_s = make_flight(LOOP, city_of(CITY)).duration_s / 3
    assert np.abs(shown - rendered(flown(np.array([t_s]))[0], t_s, 96, 64)).mean() < 8.0
    elsewhere = rendered(flown(np.array([2 * t_s]))[0], 2 * t_s, 96, 64)
    assert np.abs(shown - elsewhere).mean() > 12.0


def test_gimbal_angles_turn_clockwise_from_north_and_look_down() -> None:
    def looking(yaw_deg: float, pitch_deg: float, roll_deg: float) -> Float64:
        yaw, pitch, roll = np.deg2rad([yaw_deg, pitch_deg, roll_deg])
        forward = np.array([np.sin(yaw) * np.cos(pitch), np.cos(yaw) * np.cos(pitch), np.sin(pitch)])
        level = np.array([np.cos(yaw), -np.sin(yaw), 0.0])
        below = np.cross(forward, level)
        right = np.cos(roll) * level + np.sin(roll) * below
        T = np.eye(4)
        T[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=-1)
        return T

    for angles in ((0, 0, 0), (90, -45, 0), (-120, -80, 0), (30, 10, 15), (170, -60, -20)):
        np.testing.assert_allclose(footage.gimbal_angles(looking(*angles)), angles, atol=1e-9)


def test_errors_have_the_sizes_asked_for_and_the_seed_draws_them(tmp_path: Path) -> None:
    config = replace(PHOTOS, photos=60, width=64, height=64, gps_m=2.0, attitude_deg=3.0)
    write_sim_photos(tmp_path / "a", config)
    found = [read_photo(path) for path in sorted((tmp_path / "a").iterdir())]
    T = flown(np.linspace(0.0, make_flight(LOOP, city_of(CITY)).duration_s, 60))
    apart_m = places(found) - T[:, :3, 3]
    np.testing.assert_allclose(apart_m.std(axis=0), [2.0, 2.0, 3.2], rtol=0.3)
    turned = np.array([it.gimbal for it in found]) - [footage.gimbal_angles(pose) for pose in T]
    np.testing.assert_allclose(((turned + 180) % 360 - 180).std(axis=0), 3.0, rtol=0.3)
    small = replace(config, photos=2)
    for name, seed in (("b", 1), ("c", 1), ("d", 2)):
        write_sim_photos(tmp_path / name, replace(small, seed=seed))
    b, c, d = ((tmp_path / name / "DJI_0002.JPG").read_bytes() for name in "bcd")
    assert b == c != d


def test_a_video_runs_at_its_rate_and_shows_the_middle_of_the_flight(video: Path) -> None:
    file = VideoFile(video)
    frames = list(file.frames())
    assert file.creation_ns == BEGUN.astype("datetime64[ns]").astype(np.int64)
    assert [frame.media_ns for frame in frames] == pytest.approx([200 * MS * number for number in range(15)], abs=MS)
    length_s = make_flight(LOOP, city_of(CITY)).duration_s
    for number in (0, 10):
        t_s = (length_s - 3.0) / 2 + number / 5.0
        shown = frames[number].rgb().astype(float)
        assert shown.shape == (64, 96, 3)
        assert np.abs(shown - rendered(flown(np.array([t_s]))[0], t_s, 96, 64)).mean() < 8.0


def test_the_log_is_of_the_whole_flight_by_a_clock_that_is_ahead(video: Path) -> None:
    log = read_gpx(video.with_suffix(".gpx"))
    length_s = make_flight(LOOP, city_of(CITY)).duration_s
    t_s = np.arange(0.0, length_s, 1.0)
    assert len(log) == len(t_s)
    first_picture_ns = BEGUN.astype("datetime64[ns]").astype(np.int64)
    by_video_s = (log.stamps_ns - first_picture_ns) / 1e9 + (length_s - 3.0) / 2
    np.testing.assert_allclose(by_video_s - t_s, VIDEO.clock_s, atol=2e-3)
    place_m = wgs84_to_enu(log.latitude_deg, log.longitude_deg, log.altitude_m, DATUM)
    np.testing.assert_allclose(place_m, flown(t_s)[:, :3, 3], atol=5e-3)


def test_a_video_is_no_longer_than_its_flight(tmp_path: Path) -> None:
    length_s = make_flight(LOOP, city_of(CITY)).duration_s
    write_sim_video(tmp_path / "all.mp4", replace(VIDEO, duration_s=1000.0, rate_hz=1.0, width=64))
    assert len(list(VideoFile(tmp_path / "all.mp4").frames())) == round(length_s)


def test_nothing_is_written_over(photos: list[Path], video: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds something already; name another folder"):
        write_sim_photos(photos[0].parent, PHOTOS)
    with pytest.raises(UserError, match=r"flight.mp4 exists already; name another file"):
        write_sim_video(video, VIDEO)
    (tmp_path / "other.gpx").touch()
    with pytest.raises(UserError, match=r"other.gpx exists already"):
        write_sim_video(tmp_path / "other.mp4", VIDEO)
    with pytest.raises(UserError, match=r"is no .mp4; name the video OUT.mp4"):
        write_sim_video(tmp_path / "film.avi", VIDEO)
    assert [path.name for path in tmp_path.iterdir()] == ["other.gpx"]


def test_bad_settings_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, says in (
        (["photos", str(tmp_path / "a"), "--photos", "1"], "photos is 1"),
        (["photos", str(tmp_path / "a"), "--gps-m", "-1"], "gps_m is -1"),
        (["video", str(tmp_path / "a.mp4"), "--rate-hz", "0"], "rate_hz is 0"),
        (
            ["video", str(tmp_path / "a.mp4"), "--flight.altitude-m", "3", "--flight.plan", "orbit"],
            "fly with altitude_m",
        ),
    ):
        assert main(["sim", *words]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert says in said
    assert list(tmp_path.iterdir()) == []
