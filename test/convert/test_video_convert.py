"""Videos with a flight log: times, poses, and what cannot be used."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.aerial import DATUM, nadir_pose, write_video

from pose2rgbd_ros.convert.settings import ConvertConfig, VideoSettings
from pose2rgbd_ros.convert.video import convert_videos, pair_with_logs
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.geodesy import enu_to_wgs84
from pose2rgbd_ros.streams.video_file import VideoFile

SECOND = 10**9
BEGUN_NS = 1_714_564_800 * SECOND  # 2024-05-01 12:00:00 UTC
BEGUN = {"creation_time": "2024-05-01T12:00:00.000000Z"}
IN_ENU = ConvertConfig(
    datum=(DATUM.latitude_deg, DATUM.longitude_deg, DATUM.altitude_m), body_to_camera="nadir", max_fix_gap_s=3.0
)


def east_m(time_s: float | np.ndarray) -> np.ndarray:
    """A flight along the ground: slow, fast, slow; its speed changes like no other moment's."""
    time = np.asarray(time_s, dtype=np.float64)
    return 3.0 * time - 6.0 * np.cos(0.35 * time) - 2.0 * np.cos(0.9 * time + 1.0) - 30.0


def pose(time_s: float) -> np.ndarray:
    """40 m up, looking down, its top eastwards: where it flies to."""
    return nadir_pose(float(east_m(time_s)), 5.0, 40.0, 90.0)


def gpx(path: Path, times_s: np.ndarray, clock_s: float = 0.0) -> Path:
    """The flight as a track, whose clock is ahead by `clock_s`."""
    place = np.stack([east_m(times_s), np.full(len(times_s), 5.0), np.full(len(times_s), 40.0)], axis=1)
    points = [
        f'<trkpt lat="{latitude:.9f}" lon="{longitude:.9f}"><ele>{altitude:.3f}</ele>'
        f"<time>{_iso(time_s + clock_s)}</time></trkpt>"
        for time_s, latitude, longitude, altitude in zip(times_s, *enu_to_wgs84(place, DATUM), strict=True)
    ]
    path.write_text(
        '<gpx version="1.1" creator="test" xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>'
        + "".join(points)
        + "</trkseg></trk></gpx>"
    )
    return path


def _iso(since_begun_s: float) -> str:
    return str(np.datetime64(BEGUN_NS + round(since_begun_s * 1e3) * 10**6, "ns"))[:23] + "Z"


def srt(path: Path, times_s: np.ndarray, angles: bool = True) -> Path:
    """The flight as DJI's subtitles."""
    place = np.stack([east_m(times_s), np.full(len(times_s), 5.0), np.full(len(times_s), 40.0)], axis=1)
    gimbal = " [gb_yaw: 90.0 gb_pitch: -90.0 gb_roll: 0.0]" if angles else ""
    blocks = [
        f"{i}\n00:00:{time_s:06.3f} --> 00:00:59,000\n[latitude: {latitude:.9f}] [longitude: {longitude:.9f}] "
        f"[rel_alt: 30.0 abs_alt: {altitude:.3f}]{gimbal}\n"
        for i, (time_s, latitude, longitude, altitude) in enumerate(
            zip(times_s, *enu_to_wgs84(place, DATUM), strict=True)
        )
    ]
    path.write_text("\n".join(blocks))
    return path


def expected(dataset: Dataset, begun_ns: int = BEGUN_NS) -> np.ndarray:
    """The true poses at the frames' stamps."""
    return np.stack([pose((stamp - begun_ns) / SECOND) for stamp in dataset.stamps_ns])


def test_a_video_with_the_subtitles_beside_it(tmp_path: Path) -> None:
    times = write_video(tmp_path / "DJI_1.mp4", pose, 4.0, metadata=BEGUN)
    srt(tmp_path / "DJI_1.SRT", np.arange(0, 4.01, 0.1))
    report = convert_videos([tmp_path / "DJI_1.mp4"], tmp_path / "out", IN_ENU)
    dataset = Dataset(tmp_path / "out")
    assert (report.frames_written, report.rejects) == (40, {})
    assert dataset.stamps_ns.tolist() == [BEGUN_NS + round(time * 1000) * 10**6 for time in times]
    np.testing.assert_allclose(dataset.T_map_cam, expected(dataset), atol=0.01)
    assert any("the log has the video's own time" in note for note in report.notes)
    assert dataset.meta.poses is not None
    assert (dataset.meta.poses.position, dataset.meta.poses.orientation) == ("gps", "gimbal")


def test_subtitles_inside_the_video_are_a_log(tmp_path: Path) -> None:
    times = np.arange(0, 2.01, 0.1)
    place = np.stack([east_m(times), np.full(len(times), 5.0), np.full(len(times), 40.0)], axis=1)
    subtitles = [
        (
            float(time),
            f"[latitude: {latitude:.9f}] [longitude: {longitude:.9f}] [rel_alt: 30.0 abs_alt: {altitude:.3f}]",
        )
        for time, latitude, longitude, altitude in zip(times, *enu_to_wgs84(place, DATUM), strict=True)
    ]
    write_video(tmp_path / "a.mp4", pose, 2.0, metadata=BEGUN, subtitles=subtitles)
    report = convert_videos([tmp_path / "a.mp4"], tmp_path / "out", IN_ENU)
    dataset = Dataset(tmp_path / "out")
    assert report.frames_written == 20
    np.testing.assert_allclose(dataset.T_map_cam[:, :3, 3], expected(dataset)[:, :3, 3], atol=0.01)


def test_without_angles_the_camera_points_along_its_course(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", pose, 4.0, metadata=BEGUN)
    srt(tmp_path / "a.srt", np.arange(0, 4.01, 0.2), angles=False)
    report = convert_videos([tmp_path / "a.mp4", tmp_path / "a.srt"], tmp_path / "out", IN_ENU)
    dataset = Dataset(tmp_path / "out")
    np.testing.assert_allclose(dataset.T_map_cam, expected(dataset), atol=0.08)
    assert any("course over ground, level" in note and "camera mount nadir" in note for note in report.notes)
    with pytest.raises(UserError, match=r"a\.srt has no angles of a gimbal"):
        convert_videos(
            [tmp_path / "a.mp4"], tmp_path / "other", ConvertConfig(orientation="gimbal", body_to_camera="nadir")
        )


def test_the_pictures_motion_finds_when_a_video_was_taken(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", lambda time: pose(time + 10.0), 20.0, rate_hz=8.0)
    log = gpx(tmp_path / "track.gpx", np.arange(0, 40.01, 0.25))
    report = convert_videos([tmp_path / "a.mp4", log], tmp_path / "out", IN_ENU)
    (note,) = [note for note in report.notes if note.startswith("time:")]
    assert "the picture's motion against the log's" in note
    dataset = Dataset(tmp_path / "out")
    assert report.frames_written == 160
    # Stamps count from the beginning of the log; the offset is that of the video's beginning.
    assert dataset.meta.poses is not None
    assert dataset.meta.poses.image_time_offset_s == pytest.approx(10.0, abs=0.06)
    np.testing.assert_allclose(
        dataset.T_map_cam[:, 0, 3], east_m((dataset.stamps_ns - BEGUN_NS) / SECOND + 10), atol=0.4
    )


def test_a_steady_flight_says_nothing_about_its_time(tmp_path: Path) -> None:
    def steady(time_s: float) -> np.ndarray:
        return nadir_pose(3.0 * time_s - 20, 5.0, 40.0, 90.0)

    write_video(tmp_path / "a.mp4", steady, 8.0)
    times = np.arange(0, 20.01, 0.25)
    place = np.stack([3.0 * times - 30, np.full(len(times), 5.0), np.full(len(times), 40.0)], axis=1)
    rows = [
        f"{BEGUN_NS / 1e9 + time},{latitude:.9f},{longitude:.9f},{altitude}"
        for time, latitude, longitude, altitude in zip(times, *enu_to_wgs84(place, DATUM), strict=True)
    ]
    log = tmp_path / "log.csv"
    log.write_text("timestamp,lat,lon,alt\n" + "\n".join(rows))
    with pytest.raises(
        UserError, match=r"when it was taken cannot be found .*--video\.clock log lets both begin"
    ) as told:
        convert_videos([tmp_path / "a.mp4", log], tmp_path / "out", IN_ENU)
    assert "\n" not in str(told.value)
    by_hand = ConvertConfig(datum=IN_ENU.datum, body_to_camera="nadir", image_time_offset_s=2.5)
    convert_videos([tmp_path / "a.mp4", log], tmp_path / "by_hand", by_hand, VideoSettings(clock="log"))
    dataset = Dataset(tmp_path / "by_hand")
    seconds = (dataset.stamps_ns - dataset.stamps_ns[0]) / SECOND
    np.testing.assert_allclose(dataset.T_map_cam[:, 0, 3], 3.0 * (seconds + 2.5) - 30, atol=0.01)


def test_the_creation_time_counts_when_asked_or_when_nothing_else_is_known(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", pose, 3.0, metadata=BEGUN)
    log = gpx(tmp_path / "a.gpx", np.arange(-2, 6.01, 0.25))
    for clock in ("creation", "auto"):
        settings = VideoSettings(clock=clock)  # type: ignore[arg-type]
        convert_videos([tmp_path / "a.mp4", log], tmp_path / clock, IN_ENU, settings)
        dataset = Dataset(tmp_path / clock)
        assert dataset.stamps_ns[0] == BEGUN_NS
        np.testing.assert_allclose(
            dataset.T_map_cam[:, 0, 3], east_m((dataset.stamps_ns - BEGUN_NS) / SECOND), atol=0.5
        )
    late = gpx(tmp_path / "late.gpx", np.arange(0, 9, 0.25), clock_s=7200)
    with pytest.raises(
        UserError, match=r"creation time is -2\.00 h from the beginning of the log; it may be local time"
    ):
        convert_videos([tmp_path / "a.mp4", late], tmp_path / "out", IN_ENU, VideoSettings(clock="flow"))


def test_a_log_that_knows_of_the_recording(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", pose, 5.0)
    times = np.arange(-8, 20, 0.2)
    place = np.stack([east_m(times), np.full(len(times), 5.0), np.full(len(times), 40.0)], axis=1)
    rows = [
        f"{round(1000 * (time + 8))},{_iso(time)[:19]},{latitude:.9f},{longitude:.9f},{altitude},"
        f"{int(0 <= time + 1e-9 <= 5)}"
        for time, latitude, longitude, altitude in zip(times, *enu_to_wgs84(place, DATUM), strict=True)
    ]
    log = tmp_path / "air.csv"
    log.write_text("time(millisecond),datetime(utc),latitude,longitude,altitude(m),isVideo\n" + "\n".join(rows))
    report = convert_videos([tmp_path / "a.mp4", log], tmp_path / "out", IN_ENU)
    assert any("the log says when the video was begun" in note for note in report.notes)
    dataset = Dataset(tmp_path / "out")
    assert dataset.stamps_ns[0] == BEGUN_NS
    np.testing.assert_allclose(dataset.T_map_cam[:, 0, 3], east_m((dataset.stamps_ns - BEGUN_NS) / SECOND), atol=0.05)


def test_frames_keep_their_own_uneven_times_and_some_can_be_left_out(tmp_path: Path) -> None:
    uneven = [0.0, 0.1, 0.15, 0.4, 0.45, 0.9, 1.0, 1.6, 1.7, 2.4]
    write_video(tmp_path / "a.mp4", pose, 0, times_s=uneven, metadata=BEGUN)
    srt(tmp_path / "a.srt", np.arange(0, 3.01, 0.1))

    def kept(name: str, options: VideoSettings, config: ConvertConfig = IN_ENU) -> list[float]:
        convert_videos([tmp_path / "a.mp4"], tmp_path / name, config, options)
        return [round((stamp - BEGUN_NS) / SECOND, 3) for stamp in Dataset(tmp_path / name).stamps_ns]

    assert kept("all", VideoSettings()) == uneven
    assert kept("slow", VideoSettings(max_rate_hz=2.0)) == [0.0, 0.9, 1.6, 2.4]
    assert kept("part", VideoSettings(start_s=0.4, end_s=1.6)) == [0.4, 0.45, 0.9, 1.0, 1.6]
    assert kept("keys", VideoSettings(keyframes=True)) == [0.0, 0.9]
    with pytest.raises(UserError, match="must be later than its start_s"):
        kept("none", VideoSettings(start_s=2.0, end_s=1.0))


def test_frames_can_be_made_smaller_and_lossless(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", pose, 1.0, metadata=BEGUN)
    srt(tmp_path / "a.srt", np.arange(0, 1.01, 0.1))
    config = ConvertConfig(datum=IN_ENU.datum, fov_deg=60.0)
    convert_videos([tmp_path / "a.mp4"], tmp_path / "out", config, VideoSettings(image_height=64, images="png"))
    dataset = Dataset(tmp_path / "out")
    assert (dataset.camera.width, dataset.camera.height) == (96, 64)
    assert dataset.camera.fx == pytest.approx(48 / np.tan(np.radians(30)))
    assert dataset.records[0].rgb.endswith(".png")


def test_frames_are_as_good_as_asked_for(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", pose, 0.3, metadata=BEGUN)
    srt(tmp_path / "a.srt", np.arange(0, 0.41, 0.1))
    sizes = []
    for quality in (40, 95):
        config = ConvertConfig(datum=IN_ENU.datum, jpeg_quality=quality)
        convert_videos([tmp_path / "a.mp4"], tmp_path / str(quality), config)
        dataset = Dataset(tmp_path / str(quality))
        sizes.append((dataset.path / dataset.records[0].rgb).stat().st_size)
    assert sizes[0] < 0.5 * sizes[1]


def test_a_video_that_was_cut_off_gives_what_can_be_decoded(tmp_path: Path) -> None:
    write_video(tmp_path / "a.avi", pose, 4.0)
    whole = (tmp_path / "a.avi").read_bytes()
    (tmp_path / "a.avi").write_bytes(whole[: len(whole) // 2])
    srt(tmp_path / "a.srt", np.arange(0, 4.01, 0.1))
    report = convert_videos([tmp_path / "a.avi"], tmp_path / "out", IN_ENU)
    assert 10 < report.frames_written < 40
    write_video(tmp_path / "c.avi", pose, 4.0)  # its end is overwritten
    whole = (tmp_path / "c.avi").read_bytes()
    (tmp_path / "c.avi").write_bytes(whole[: len(whole) // 3] + bytes(len(whole) // 3) + whole[2 * len(whole) // 3 :])
    srt(tmp_path / "c.srt", np.arange(0, 4.01, 0.1))
    report = convert_videos([tmp_path / "c.avi"], tmp_path / "out_c", IN_ENU)
    assert any("the video's pictures end at" in text for text in report.warnings)
    write_video(tmp_path / "b.mp4", pose, 1.0)
    whole = (tmp_path / "b.mp4").read_bytes()
    (tmp_path / "b.mp4").write_bytes(whole[: whole.index(b"moov")])
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(UserError, match=r"empty\.mp4 is empty; expected a video"):
        convert_videos([tmp_path / "empty.mp4"], tmp_path / "out3", IN_ENU)
    with pytest.raises(UserError, match=r"b\.mp4 cannot be opened as a video.*its index \(moov\)") as told:
        convert_videos([tmp_path / "b.mp4"], tmp_path / "out2", IN_ENU)
    assert "\n" not in str(told.value)


def test_an_interrupted_conversion_goes_on(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", pose, 2.0, metadata=BEGUN)
    srt(tmp_path / "a.srt", np.arange(0, 2.01, 0.1))
    convert_videos([tmp_path / "a.mp4"], tmp_path / "out", IN_ENU, VideoSettings(end_s=0.9))
    again = ConvertConfig(body_to_camera="nadir", resume=True)
    report = convert_videos([tmp_path / "a.mp4"], tmp_path / "out", again)
    assert (report.frames_written, report.frames_already_there) == (10, 10)


def test_which_log_belongs_to_which_video(tmp_path: Path) -> None:
    a, b, c = (tmp_path / name for name in ("a.mp4", "b.mp4", "c.mp4"))
    assert pair_with_logs([a, b, tmp_path / "b.srt", tmp_path / "A.SRT"]) == [
        (a, tmp_path / "A.SRT"),
        (b, tmp_path / "b.srt"),
    ]
    assert pair_with_logs([a, b, tmp_path / "flight.gpx"]) == [
        (a, tmp_path / "flight.gpx"),
        (b, tmp_path / "flight.gpx"),
    ]
    assert pair_with_logs([a]) == [(a, None)]
    with pytest.raises(UserError, match="none is named c"):
        pair_with_logs([c, tmp_path / "a.srt", tmp_path / "b.srt"])
    with pytest.raises(UserError, match="is a flight log; name the video"):
        pair_with_logs([tmp_path / "a.srt"])


def test_a_video_without_a_log_is_refused_in_a_line(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", pose, 0.5)
    with pytest.raises(UserError, match="has no log: none was given"):
        convert_videos([tmp_path / "a.mp4"], tmp_path / "out")
    (tmp_path / "b.mp4").write_text("not a video")
    with pytest.raises(UserError, match=r"b\.mp4 cannot be opened as a video"):
        VideoFile(tmp_path / "b.mp4")
    with pytest.raises(UserError, match="given 2 times"):
        convert_videos([tmp_path / "a.mp4", tmp_path / "a.mp4"], tmp_path / "out")


def test_a_beginning_after_the_end_is_told(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", pose, 0.5)
    srt(tmp_path / "a.srt", np.arange(0, 0.51, 0.1))
    with pytest.raises(UserError, match=r"0\.5 s long; --video\.start-s 3 is after its end"):
        convert_videos([tmp_path / "a.mp4"], tmp_path / "out", IN_ENU, VideoSettings(start_s=3.0))
    with pytest.raises(UserError, match="at most 86400"):
        convert_videos([tmp_path / "a.mp4"], tmp_path / "out", IN_ENU, VideoSettings(start_s=1e15))


def test_what_is_in_the_way_of_every_frame_is_said(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", pose, 2.0, metadata=BEGUN)
    sparse = gpx(tmp_path / "sparse.gpx", np.arange(-15, 21, 10.0))
    video, by_creation = tmp_path / "a.mp4", VideoSettings(clock="creation")
    with pytest.raises(UserError, match=r"none of 20 frames .* \(20 pose_gap\); .*--max-fix-gap-s bridges"):
        convert_videos([video, sparse], tmp_path / "out", IN_ENU, by_creation)
    late = gpx(tmp_path / "late.gpx", np.arange(0, 9, 0.25), clock_s=60)
    with pytest.raises(UserError, match=r"the video begins -60\.0 s after its log, --image-time-offset-s shifts it"):
        convert_videos([video, late], tmp_path / "out2", IN_ENU, by_creation)
    srt(tmp_path / "a.srt", np.arange(0, 2.01, 0.1))
    with pytest.raises(UserError, match=r"a\.srt has the video's own time; --video\.clock creation means nothing"):
        convert_videos([video], tmp_path / "out3", IN_ENU, by_creation)
    far = ConvertConfig(datum=(DATUM.latitude_deg + 1, DATUM.longitude_deg, 0.0), body_to_camera="nadir")
    with pytest.raises(UserError, match=r"a\.mp4: by GPS it lies 111 km from the map's datum"):
        convert_videos([video], tmp_path / "out4", far)


def test_frames_are_turned_as_the_file_asks_players_to(tmp_path: Path) -> None:
    path = tmp_path / "upright.mp4"
    write_video(path, pose, 0.3)
    (upright, *_) = VideoFile(path).frames()
    file = bytearray(path.read_bytes())
    at = file.index(b"tkhd") + 44
    one = 0x10000
    assert struct.unpack_from(">9i", file, at) == (one, 0, 0, 0, one, 0, 0, 0, 0x40000000)
    struct.pack_into(">9i", file, at, 0, one, 0, -one, 0, 0, 0, 0, 0x40000000)  # a quarter turn clockwise
    (tmp_path / "turned.mp4").write_bytes(file)
    (turned, *_) = VideoFile(tmp_path / "turned.mp4").frames()
    np.testing.assert_array_equal(turned.rgb(), np.rot90(upright.rgb(), -1))
    assert turned.rgb(96).shape == (96, 64, 3)
    assert turned.grey(64).shape == (64, 43)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_videos_give_frames_or_one_line(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "whole.avi"
    if not path.exists():
        write_video(path, pose, 0.8, size=(64, 48))
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    if data.draw(st.booleans()):
        del raw[data.draw(st.integers(0, len(raw))) :]
    damaged = tmp_path / "damaged.avi"
    damaged.write_bytes(raw)
    try:
        video = VideoFile(damaged)
        times = [frame.media_ns for frame in video.frames()]
    except UserError as error:
        said = str(error)
    else:
        said = ""
        assert (np.diff(times) > 0).all()
    assert "\n" not in said
