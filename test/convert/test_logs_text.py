"""Flight logs as text: GPX, CSV and DJI's subtitles, in the dialects that loggers write, and spoiled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pose2rgbd_ros.convert.logs.flight_log import FlightLog
from pose2rgbd_ros.convert.logs.text import meaning_of, read_log, time_of
from pose2rgbd_ros.errors import UserError

NOON_NS = 1_714_564_800_000_000_000  # 2024-05-01 12:00:00 UTC
GPX = """<?xml version="1.0"?><gpx version="1.1" creator="test" xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg>
<trkpt lat="47.1" lon="8.5"><ele>430.5</ele><time>2024-05-01T12:00:00Z</time></trkpt>
<trkpt lat="47.2" lon="8.5"><ele>431.5</ele><time>2024-05-01T12:00:01.250Z</time></trkpt>
</trkseg><trkseg>
<trkpt lat="47.3" lon="8.5"><ele>432.5</ele><time>2024-05-01T14:00:02+02:00</time></trkpt>
<trkpt lat="47.4" lon="8.5"></trkpt>
</trkseg></trk></gpx>"""
AIRDATA = """time(millisecond),datetime(utc),latitude,longitude,height_above_takeoff(feet),\
altitude_above_seaLevel(feet),speed(mph),compass_heading(degrees), pitch(degrees), roll(degrees),\
gimbal_heading(degrees),gimbal_pitch(degrees),\
gimbal_roll(degrees),isVideo
200,2024-05-01 12:00:00,47.1,8.5,0,1000,0,10,1,2,90,-45,0,0
700,2024-05-01 12:00:00,47.2,8.5,10,1010,10,11,1,2,91,-45,0,1
1200,2024-05-01 12:00:01,47.3,8.5,20,1020,10,12,1,2,92,-45,0,1
"""
SRT_BRACKETS = """1
00:00:00,000 --> 00:00:00,033
<font size="28">FrameCnt: 1, DiffTime: 33ms
2024-05-01 12:00:00.250
[iso: 100] [shutter: 1/500.0] [latitude: 47.1] [longitude: 8.5] [rel_alt: 12.300 abs_alt: 412.3] \
[gb_yaw: 33.1 gb_pitch: -90.0 gb_roll: 0.0] </font>

2
00:00:00,033 --> 00:00:00,066
2024-05-01 12:00:00.283
[latitude: 47.2] [longitude: 8.5] [rel_alt: 13.300 abs_alt: 413.3] [gb_yaw: 34.1 gb_pitch: -90.0 gb_roll: 0.0]
"""
SRT_MAVIC_AIR = """1
00:00:00,000 --> 00:00:00,033
<font size="36">SrtCnt : 1, DiffTime : 33ms
2024-05-01 12:00:00,250,123
[iso : 110] [shutter : 1/200.0] [fnum : 280] [latitude : 47.1] [longtitude : 8.5] [altitude: 412.3] </font>

2
00:00:00,033 --> 00:00:00,066
[latitude : 47.2] [longtitude : 8.5] [altitude: 413.3]
"""
SRT_PHANTOM = """1
00:00:01,000 --> 00:00:02,000
HOME(8.4,47.0) 2024.05.01 12:00:01
GPS(8.5,47.1,16) BAROMETER:12.3
ISO:100 Shutter:60 EV: Fnum:2.2

2
00:00:02,000 --> 00:00:03,000
HOME(8.4,47.0) 2024.05.01 12:00:02
GPS(8.5,47.2,16) BAROMETER:13.3
"""
SRT_MAVIC_2 = """1
00:00:01,000 --> 00:00:02,000
F/2.8, SS 206.14, ISO 150, EV 0, GPS (8.5, 47.1, 15), D 0.00m, H 12.30m, H.S 0.00m/s, V.S 0.00m/s, \
F.PRY (1.0°, 2.0°, 3.0°), G.PRY (-90.0°, 0.5°, 33.1°)

2
00:00:02,000 --> 00:00:03,000
F/2.8, SS 206.14, ISO 150, EV 0, GPS (8.5, 47.2, 15), D 0.00m, H 13.30m, H.S 0.00m/s, V.S 0.00m/s
"""
SRT_AUTEL = """1
00:00:01,000 --> 00:00:02,000
HOME(W: 8.4, N: 47.0) 2024-05-01 12:00:01
GPS(W: 8.5, N: 47.1, 412.3m) ISO:100

2
00:00:02,000 --> 00:00:03,000
GPS(W: 8.5, N: 47.2, 413.3m) ISO:100
"""


def read(folder: Path, name: str, text: str) -> FlightLog:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return read_log(path)


def test_gpx_points_of_all_segments_by_time(tmp_path: Path) -> None:
    log = read(tmp_path, "a.gpx", GPX)
    assert (log.stamps_ns - NOON_NS).tolist() == [0, 1_250_000_000, 2_000_000_000]
    np.testing.assert_array_equal(log.latitude_deg, [47.1, 47.2, 47.3])
    np.testing.assert_array_equal(log.altitude_m, [430.5, 431.5, 432.5])
    assert log.problems == {"no_time": 1}
    assert log.clock == "utc"


def test_points_of_another_age_are_left_out_and_counted(tmp_path: Path) -> None:
    log = read(tmp_path, "a.gpx", GPX.replace("2024-05-01T12:00:00Z", "1970-01-01T00:00:00Z"))
    assert (log.stamps_ns - NOON_NS).tolist() == [1_250_000_000, 2_000_000_000]
    assert log.problems == {"wrong_time": 1, "no_time": 1}


def test_gpx_that_was_cut_off_is_read_up_to_there(tmp_path: Path) -> None:
    log = read(tmp_path, "a.gpx", GPX[: GPX.index("47.3") + 3])
    assert len(log) == 2
    assert log.warnings == ("a.gpx is cut off; it was read up to there",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<gpx>", "not a readable GPX file"),
        ("", "not a readable GPX file"),
        ('<!DOCTYPE gpx [<!ENTITY a "aaaa">]><gpx>&a;</gpx>', "entities"),
        ('<gpx xmlns="http://www.topografix.com/GPX/1/1" version="1.1"></gpx>', "no track point"),
        (GPX.replace("<time>", "<x>").replace("</time>", "</x>"), "points without a time"),
        (GPX.replace('lat="47.', 'lat="north'), "not a readable GPX file"),
    ],
)
def test_gpx_of_no_use_is_refused_in_a_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, "a.gpx", text)


def test_airdata_csv_with_its_units_angles_and_recordings(tmp_path: Path) -> None:
    log = read(tmp_path, "air.csv", AIRDATA)
    # Dates are cut to the second: the row of 1.2 s is the first of the second second.
    assert (log.stamps_ns - NOON_NS).tolist() == [0, 500_000_000, 1_000_000_000]
    np.testing.assert_allclose(log.altitude_m, np.array([1000, 1010, 1020]) * 0.3048)
    np.testing.assert_allclose(log.relative_altitude_m, np.array([0, 10, 20]) * 0.3048)
    assert log.body is not None
    assert log.camera is not None
    np.testing.assert_array_equal(log.body.deg, [[10, 1, 2], [11, 1, 2], [12, 1, 2]])
    np.testing.assert_array_equal(log.camera.deg, [[90, -45, 0], [91, -45, 0], [92, -45, 0]])
    assert log.recordings_ns == ((NOON_NS + 500_000_000, NOON_NS + 1_000_000_000),)


@pytest.mark.parametrize(
    "text",
    [
        "timestamp,lat,lon,alt\n1714564800,47.1,8.5,400\n1714564801.5,47.2,8.5,401\n",
        "sep=;\ntime;latitude;longitude;altitude\n1714564800000;47,1;8,5;400\n1714564801500;47,2;8,5;401\n",
        "# logger 3\ntimestamp\tlat\tlon\talt_m\n1714564800000000\t47.1\t8.5\t400\n1714564801500000\t47.2\t8.5\t401\n",
        "Date,Time,Latitude,Longitude,Altitude "
        "(m)\n2024-05-01,12:00:00,47.1,8.5,400\n2024-05-01,12:00:01.5,47.2,8.5,401\n",
        "datetime,lat,lng,elevation\n"
        "2024-05-01T14:00:00+02:00,47.1,8.5,400\n2024-05-01T14:00:01.5+02:00,47.2,8.5,401\n",
        "time_utc,lat,lon,alt\n"
        "1714564800000000000,471000000,85000000,400\n1714564801500000000,472000000,85000000,401\n",
    ],
    ids=["seconds", "semicolons", "tabs", "date and time", "zone", "integers"],
)
def test_csv_of_many_hands_say_the_same(tmp_path: Path, text: str) -> None:
    log = read(tmp_path, "a.csv", text.replace("time_utc", "utc"))
    assert (log.stamps_ns - NOON_NS).tolist() == [0, 1_500_000_000]
    np.testing.assert_allclose(log.latitude_deg, [47.1, 47.2])
    np.testing.assert_allclose(log.longitude_deg, [8.5, 8.5])
    np.testing.assert_allclose(log.altitude_m, [400, 401])
    assert log.clock == "utc"


def test_csv_of_a_clock_of_its_own(tmp_path: Path) -> None:
    text = (
        "elapsed_ms,lat,lon,speed_kmh,course_deg\n1500,47.1,8.5,36,90\n500,47.2,8.5,36,0\nx,47,8,1,1\n1500,47,8,1,1\n"
    )
    log = read(tmp_path, "a.csv", text)
    assert log.clock == "own"
    assert log.stamps_ns.tolist() == [500_000_000, 1_500_000_000]
    np.testing.assert_allclose(log.velocity_enu_mps, [[0, 10, 0], [10, 0, 0]], atol=1e-12)
    assert log.problems == {"unreadable_row": 1, "out_of_order": 1, "duplicate_stamp": 1}
    assert np.isnan(log.altitude_m).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no line names columns for latitude"),
        ("a,b\n1,2\n", "no line names columns for latitude .* the first line is 'a,b'"),
        ("lat,lon\n47,8\n", "no column is a time"),
        ("time,lat,lon\nnoon,47,8\n", "no row has a time that can be read; times are read as seconds"),
        ("time,lat,lon\n05/01/2024 12:00,47,8\n", "no row has a time that can be read"),
        ("time,lat,lon\n1,147,8\n2,0,0\n3,,\n", "no usable position among 3 rows"),
    ],
)
def test_csv_of_no_use_is_refused_in_a_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, "a.csv", text)


def test_rows_without_a_fix_do_not_hide_that_degrees_are_integers(tmp_path: Path) -> None:
    rows = ["0,0,0", *(f"{i},{470_000_000 + i},80_000_000" for i in range(1, 4))]
    (tmp_path / "px4.csv").write_text("\n".join(["t,lat,lon", *rows]).replace("_", ""))
    log = read_log(tmp_path / "px4.csv")
    np.testing.assert_allclose(log.latitude_deg, 47 + 1e-7 * np.arange(1, 4))
    assert log.problems == {"no_position": 1}


def test_local_metres_are_not_taken_for_degrees(tmp_path: Path) -> None:
    (tmp_path / "local.csv").write_text("t,x,y,z\n0,1,2,3\n1,2,3,4\n")
    with pytest.raises(UserError, match="no line names columns for latitude"):
        read_log(tmp_path / "local.csv")


def test_names_and_units_of_columns() -> None:
    assert meaning_of("Altitude (ft)") == ("altitude", 0.3048, "ft")
    assert meaning_of("yaw_rad")[:2] == ("yaw", pytest.approx(57.29578))
    assert meaning_of("GPS_lat") == ("latitude", 1.0, "")
    assert meaning_of("speed [km/h]")[1] == pytest.approx(1 / 3.6)
    assert meaning_of("battery (%)")[0] == ""


@given(st.integers(10**8 * 10**9, 4 * 10**18))
def test_times_are_exact_in_every_unit(stamp_ns: int) -> None:
    assert time_of(str(stamp_ns), "ns") == (stamp_ns, True)
    assert time_of(f"{stamp_ns // 10**9}.{stamp_ns % 10**9:09d}") == (stamp_ns, True)


@pytest.mark.parametrize(
    ("text", "first_ns", "altitude", "height", "camera"),
    [
        (SRT_BRACKETS, 0, [412.3, 413.3], [12.3, 13.3], [[33.1, -90, 0], [34.1, -90, 0]]),
        (SRT_MAVIC_AIR, 0, [412.3, 413.3], [np.nan] * 2, None),
        (SRT_PHANTOM, 10**9, [np.nan] * 2, [12.3, 13.3], None),
        (SRT_MAVIC_2, 10**9, [np.nan] * 2, [12.3, 13.3], [[33.1, -90, 0.5]]),
        (SRT_AUTEL, 10**9, [412.3, 413.3], [np.nan] * 2, None),
    ],
    ids=["brackets", "mavic air", "phantom", "mavic 2", "autel"],
)
def test_subtitles_of_drones(
    tmp_path: Path,
    text: str,
    first_ns: int,
    altitude: list[float],
    height: list[float],
    camera: list[list[float]] | None,
) -> None:
    log = read(tmp_path, "a.srt", text)
    assert log.on_video_time
    assert log.stamps_ns[0] == first_ns
    np.testing.assert_allclose(log.latitude_deg, [47.1, 47.2])
    np.testing.assert_allclose(np.abs(log.longitude_deg), 8.5)
    assert (log.longitude_deg < 0).all() == ("W:" in text)
    np.testing.assert_allclose(log.altitude_m, altitude)
    np.testing.assert_allclose(log.relative_altitude_m, height)
    assert (log.camera is None) == (camera is None)
    if camera is not None and log.camera is not None:
        np.testing.assert_allclose(log.camera.deg, camera)
    if text is SRT_BRACKETS or text is SRT_MAVIC_AIR:
        assert log.utc_at_zero_ns == NOON_NS + 250_000_000


def test_positions_that_a_subtitle_repeats_are_kept_once_a_second(tmp_path: Path) -> None:
    blocks = [
        f"{i}\n00:00:{i // 10:02d},{i % 10}00 --> 00:00:59,000\n[latitude: {47 + i // 5 / 10}] [longitude: 8.5]\n"
        for i in range(20)
    ]
    log = read(tmp_path, "a.srt", "\n".join(blocks))
    assert (log.stamps_ns // 10**6).tolist() == [0, 500, 1000, 1500]
    assert log.problems == {"repeated_position": 16}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello", "holds no subtitles"),
        ("1\n00:00:00,000 --> 00:00:01,000\nHello there.\n", "none of 1 subtitles has a position"),
        ("1\n00:00:00,000 --> 00:00:01,000\n[latitude: 0.0] [longitude: 0.0]\n", "no usable position among 1 row"),
    ],
)
def test_subtitles_of_no_use_are_refused_in_a_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, "a.srt", text)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_spoiled_logs_are_read_or_refused_in_a_line(tmp_path: Path, data: st.DataObject) -> None:
    """Cut, doubled, overwritten, with absurd numbers: never anything but a log or a UserError."""
    suffix, text = data.draw(
        st.sampled_from(
            [(".gpx", GPX), (".csv", AIRDATA), (".srt", SRT_BRACKETS), (".srt", SRT_MAVIC_2), (".srt", SRT_PHANTOM)]
        )
    )
    raw = bytearray(text.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw)))
        change = data.draw(st.sampled_from(["cut", "bytes", "number", "drop"]))
        if change == "cut":
            del raw[at:]
        elif change == "bytes":
            raw[at:at] = data.draw(st.binary(max_size=12))
        elif change == "number":
            raw[at:at] = data.draw(st.sampled_from([b"9" * 40, b"-1e308", b"nan", b"inf", b"1e-400", b"99:99:99,999"]))
        else:
            del raw[at : at + data.draw(st.integers(1, 30))]
    path = tmp_path / f"log{suffix}"
    path.write_bytes(bytes(raw))
    try:
        log = read_log(path)
    except UserError as error:
        said = str(error)
    else:
        said = ""
        assert (np.diff(log.stamps_ns) > 0).all()
        assert np.isfinite(log.latitude_deg).all()
    assert "\n" not in said


def test_what_is_wrong_is_told_in_one_line_even_of_a_number_with_a_line_break(tmp_path: Path) -> None:
    path = tmp_path / "log.gpx"
    path.write_bytes(GPX.replace("<ele>430.5", "<ele>4\r\n30.5", 1).encode())
    with pytest.raises(UserError, match="could not convert") as refused:
        read_log(path)
    assert len(str(refused.value).splitlines()) == 1
