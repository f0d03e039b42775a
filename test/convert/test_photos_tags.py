"""Tags of photographs: what they mean, and damaged ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.aerial import DATUM, PhotoFacts, dji_xmp, write_photo, xmp_packet

from pose2rgbd_ros.convert.exif import Lens, Photo, read_photo, read_xmp
from pose2rgbd_ros.convert.photo_poses import course_deg
from pose2rgbd_ros.errors import UserError

DJI = "http://www.dji.com/drone-dji/1.0/"


def photo(path: Path, **facts: object) -> Photo:
    """What is read of a small photo with these facts."""
    write_photo(path, np.zeros((24, 32, 3), np.uint8), PhotoFacts(**facts))  # type: ignore[arg-type]
    return read_photo(path)


def test_a_place_comes_back_to_the_centimetre(tmp_path: Path) -> None:
    found = photo(tmp_path / "a.jpg", place_enu_m=(0, 0, 50))
    assert found.latitude_deg == pytest.approx(DATUM.latitude_deg, abs=1e-8)
    assert found.longitude_deg == pytest.approx(DATUM.longitude_deg, abs=1e-8)
    assert found.altitude_m == pytest.approx(450)
    assert found.has_position
    assert not photo(tmp_path / "b.jpg", place_enu_m=None).has_position


@pytest.mark.parametrize(("code", "name"), [(0, "msl"), (1, "msl"), (2, "ellipsoid"), (None, "unknown")])
def test_what_heights_count_from(tmp_path: Path, code: int | None, name: str) -> None:
    found = photo(tmp_path / "a.jpg", altitude_reference=code)
    assert found.altitude_reference == name
    assert found.altitude_m == pytest.approx(-450 if code == 1 else 450)


def test_the_more_exact_place_of_dji_counts(tmp_path: Path) -> None:
    packet = dji_xmp(0.0, GpsLatitude="47.123456789", GpsLongtitude="-8.123456789", RtkFlag="50")
    found = photo(tmp_path / "a.jpg", xmp=packet)
    assert (found.latitude_deg, found.longitude_deg, found.rtk) == (47.123456789, -8.123456789, "50")
    zero = photo(tmp_path / "b.jpg", place_enu_m=None, xmp=dji_xmp(0.0, GpsLatitude="0.0", GpsLongitude="0.0"))
    assert not zero.has_position


def test_properties_come_as_attributes_and_as_elements() -> None:
    element = xmp_packet(DJI, {"d:A": "1"}, "d").replace("/></rdf:RDF>", "><d:B> 2 </d:B></rdf:Description></rdf:RDF>")
    assert read_xmp(element) == {"dji:A": "1", "dji:B": "2"}
    assert read_xmp(element.encode() + b"\0\0") == {"dji:A": "1", "dji:B": "2"}
    assert read_xmp(None) == read_xmp(b"<x:xmpmeta") == read_xmp("no packet") == {}


def test_packets_that_explode_are_left_out() -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>'
    bomb += '<x:xmpmeta xmlns:x="adobe:ns:meta/">&b;</x:xmpmeta>'
    assert read_xmp(bomb) == {}


def test_nothing_but_a_picture_is_enough_to_be_read(tmp_path: Path) -> None:
    found = photo(tmp_path / "a.jpg", taken=None, place_enu_m=None, altitude_reference=None, focal_35mm=None)
    assert (found.stamp_ns, found.has_position, found.gimbal, found.lens) == (None, False, None, Lens())


def test_the_course_at_the_ends_of_lines_is_that_of_the_line() -> None:
    lines = [(0, 0), (0, 10), (0, 20), (8, 20), (8, 10), (8, 0)]
    position = np.array([(*place, 50.0) for place in lines], dtype=float)
    np.testing.assert_allclose(np.abs(course_deg(position)), [0, 0, 0, 180, 180, 180], atol=1e-9)
    assert np.isnan(course_deg(position[:1])).all()
    assert np.isnan(course_deg(position[[0, 0, 0]])).all()


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_tags_are_as_if_they_were_not_there(tmp_path: Path, data: st.DataObject) -> None:
    whole = tmp_path / "whole.jpg"
    if not whole.exists():
        photo(whole, subsec="5", zone="+02:00", focal_mm=8.8, exif_width=4000, xmp=dji_xmp(30.0))
    raw = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(2, min(len(raw), 2000) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del raw[data.draw(st.integers(0, len(raw))) :]
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(raw)
    try:
        found = read_photo(damaged)
    except UserError:
        return
    for value in (found.latitude_deg, found.longitude_deg, found.altitude_m, *(found.gimbal or ())):
        assert value is None or np.isfinite(value)
