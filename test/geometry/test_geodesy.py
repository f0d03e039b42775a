"""WGS-84 <-> ENU over the globe."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.geodesy import Datum, enu_to_wgs84, wgs84_to_enu

latitude = st.floats(-90, 90) | st.sampled_from([-90.0, 0.0, 90.0, 89.9999999, -89.9999999])
longitude = st.floats(-180, 180)
datum = st.builds(Datum, latitude, longitude, st.floats(-500, 9000))
metres = st.floats(-1e5, 1e5)


@given(datum, metres, metres, metres)
def test_enu_round_trip_is_exact_to_a_micrometre(datum: Datum, east: float, north: float, up: float) -> None:
    back = wgs84_to_enu(*enu_to_wgs84([east, north, up], datum), datum)
    np.testing.assert_allclose(back, [east, north, up], rtol=0, atol=1e-6)


@given(datum, st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.floats(-500, 9000))
def test_fix_round_trip_is_exact_to_a_micrometre(datum: Datum, d_lat: float, d_lon: float, alt: float) -> None:
    lat, lon = float(np.clip(datum.latitude_deg + d_lat, -90, 90)), datum.longitude_deg + d_lon
    enu = wgs84_to_enu(lat, lon, alt, datum)
    again = wgs84_to_enu(*enu_to_wgs84(enu, datum), datum)  # compared in metres: at a pole any longitude is right
    np.testing.assert_allclose(again, enu, rtol=0, atol=1e-6)


@given(datum)
def test_the_datum_is_the_origin(datum: Datum) -> None:
    enu = wgs84_to_enu(datum.latitude_deg, datum.longitude_deg, datum.altitude_m, datum)
    np.testing.assert_allclose(enu, 0, atol=1e-8)
    assert enu_to_wgs84([0, 0, 0], datum)[2] == pytest.approx(datum.altitude_m, abs=1e-6)


def test_axes_point_east_north_and_up() -> None:
    origin = Datum(47.0, 8.0, 400.0)
    metre_deg = 180 / np.pi / 6_378_137
    east = wgs84_to_enu(47.0, 8.0 + 100 * metre_deg / np.cos(np.deg2rad(47)), 400.0, origin)
    north = wgs84_to_enu(47.0 + 100 * metre_deg, 8.0, 400.0, origin)
    np.testing.assert_allclose(east, [100, 0, 0], atol=0.3)  # the ellipsoid is 0.3 % off the sphere
    np.testing.assert_allclose(north, [0, 100, 0], atol=0.5)
    np.testing.assert_allclose(wgs84_to_enu(47.0, 8.0, 450.0, origin), [0, 0, 50], atol=1e-6)


def test_an_unknown_altitude_leaves_east_and_north() -> None:
    origin = Datum(47.0, 8.0, 400.0)
    enu = wgs84_to_enu([47.001, 47.001], 8.001, [np.nan, 400.0], origin)
    np.testing.assert_allclose(enu[0, :2], enu[1, :2])
    assert np.isnan(enu[0, 2])
    assert np.isfinite(enu[1, 2])


def test_a_datum_must_be_on_earth() -> None:
    with pytest.raises(UserError, match="latitude first"):
        Datum(122.4, 37.8, 0.0)  # longitude and latitude swapped
    with pytest.raises(UserError, match="give 0 as altitude"):
        Datum(47.0, 8.0, float("nan"))


def test_a_datum_survives_its_dict() -> None:
    origin = Datum(47.0, 8.0, 400.0)
    assert Datum.from_dict(origin.to_dict()) == origin
    with pytest.raises(UserError, match="altitude_m"):
        Datum.from_dict({"latitude_deg": 1, "longitude_deg": 2})
