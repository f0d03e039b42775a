"""Flights stay above what stands below them and inside the city, or say where they would not."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.town import ROOF_M, Town

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.sim.flights.make import make_flight
from pose2rgbd_ros.sim.flights.route import MARGIN_M


class Plain:
    """Flat ground with one mast."""

    bounds_m = (np.array([-200.0, -200.0]), np.array([200.0, 200.0]))
    streets = ()

    def __init__(self, mast_xy_m: tuple[float, float], mast_m: float, radius_m: float = 1.0) -> None:
        self._mast, self._mast_m, self._radius_m = np.array(mast_xy_m), mast_m, radius_m

    def ground_height_m(self, xy_m: np.ndarray) -> np.ndarray:
        return np.zeros(len(xy_m))

    def surface_height_m(self, xy_m: np.ndarray) -> np.ndarray:
        near = np.linalg.norm(xy_m - self._mast, axis=1) < self._radius_m
        return np.where(near, self._mast_m, 0.0)


LAWN = {"plan": "lawnmower", "area_m": 120.0, "width_m": 60.0, "wander_m": 0.0}


def test_a_flight_below_the_roofs_says_where_and_what_altitude_would_do():
    with pytest.raises(UserError) as told:
        make_flight(FlightConfig(altitude_m=20.0, **LAWN), Town())
    found = re.search(
        r"at x (\S+), y (\S+) the flight would be 20\.0 m high, and what stands there reaches (\S+) m; "
        r"with a margin of 3 m: fly with altitude_m (\d+) or more",
        str(told.value),
    )
    assert found is not None, str(told.value)
    x, _, roof, enough = map(float, found.groups())
    assert roof == pytest.approx(0.02 * x + ROOF_M, abs=0.1)
    with pytest.raises(UserError):
        make_flight(FlightConfig(altitude_m=enough - 1.1, **LAWN), Town())
    make_flight(FlightConfig(altitude_m=enough, **LAWN), Town())


@settings(max_examples=25)
@given(along=st.floats(-60, 60), line=st.integers(0, 4), aside=st.floats(-2.9, 2.9))
def test_a_single_mast_near_the_path_is_never_overlooked(along, line, aside):
    mast = (along, -30.0 + 15.0 * line + aside)
    with pytest.raises(UserError, match=r"reaches 54\.0 m.*fly with altitude_m 57 or more"):
        make_flight(FlightConfig(altitude_m=50.0, line_spacing_m=15.0, **LAWN), Plain(mast, 54.0))


def test_a_mast_between_the_lines_is_none_of_its_business():
    make_flight(FlightConfig(altitude_m=50.0, line_spacing_m=15.0, **LAWN), Plain((0.0, 7.5), 54.0))
    make_flight(FlightConfig(altitude_m=50.0, **LAWN), Plain((0.0, 0.0), 50.0 - MARGIN_M))


def test_an_orbit_meets_its_highest_obstacle_on_its_lowest_loop():
    config = FlightConfig(plan="orbit", altitude_m=30.0, climb_m=20.0, radius_m=50.0, wander_m=0.0)
    with pytest.raises(UserError, match=r"fly with altitude_m 38 or more"):
        make_flight(config, Plain((50.0, 0.0), 35.0, 3.0))


def test_flights_that_leave_the_city_are_refused():
    with pytest.raises(
        UserError, match=r"leaves the city at x .*; the city reaches from -200 to 200 in x.*smaller area_m"
    ):
        make_flight(FlightConfig(plan="lawnmower", area_m=420.0), Town())
    with pytest.raises(UserError, match="choose a smaller radius_m, aim_x_m"):
        make_flight(FlightConfig(plan="orbit", aim_x_m=170.0), Town())
    make_flight(FlightConfig(plan="lawnmower", area_m=390.0, width_m=200.0), Town())  # it may turn outside
