"""Each plan flies what it says: the paper's facts, parallel lines at one speed, loops that look at their point,
streets.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.town import STREET_HALF_M, STREET_MIDDLES_M, Town

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import quaternions
from pose2rgbd_ros.sim.flights import make
from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.sim.flights.flight import Flight
from pose2rgbd_ros.sim.flights.make import make_flight


def times(flight: Flight, count: int = 4000) -> np.ndarray:
    return np.linspace(0, flight.duration_s, count)


def looks_at_ground(flight: Flight, t_s: np.ndarray) -> np.ndarray:
    """Where the optical axis meets z = 0, (N, 2); NaN where it looks at the sky."""
    T = flight.T_map_cam(t_s)
    distance = np.where(T[:, 2, 2] < 0, -T[:, 2, 3] / T[:, 2, 2], np.nan)
    return T[:, :2, 3] + distance[:, None] * T[:, :2, 2]


def test_the_papers_flight_has_what_is_known_of_it():
    flight = make_flight(FlightConfig())
    t = np.linspace(0, flight.duration_s, 11_085)
    position, line = flight.position_m(t), flight.line(t)
    np.testing.assert_allclose(position[:, 2], 55.0, atol=1e-9)
    np.testing.assert_allclose(np.ptp(position[line >= 0, :2], axis=0), 300.0, atol=4.0)
    seen = looks_at_ground(flight, t)
    assert np.isfinite(seen).all()
    assert (np.abs(seen) < 210).all(axis=1).mean() > 0.98, "it always looks towards the city"
    on_lines = line >= 0
    rpy = np.rad2deg(quaternions.to_euler_rpy(quaternions.from_matrix(flight.T_map_body(t)[:, :3, :3])))
    off_course = (rpy[on_lines, 2] + 45) % 90 - 45
    for angle in (rpy[on_lines, 0], rpy[on_lines, 1], off_course):
        assert 3.0 < angle.std() < 5.0, "all three angles vary"
    frames_m = flight.duration_s / len(t) * 8.0
    assert frames_m < 2.0, "dense along the lines"


def test_the_papers_flight_covers_the_square_from_four_sides():
    flight = make_flight(FlightConfig(attitude_jitter_deg=0.0))
    t = times(flight, 20_000)
    t = t[flight.line(t) >= 0]
    course = np.round(np.arctan2(*flight.velocity_mps(t)[:, 1::-1].T) / (np.pi / 2)).astype(int) % 4
    cell = np.floor((flight.position_m(t)[:, :2] + 150 - 1e-6) / 50).clip(0, 5).astype(int)
    counts = np.zeros((6, 6, 4), int)
    np.add.at(counts, (cell[:, 0], cell[:, 1], course), 1)
    assert counts.min() > 0


@pytest.mark.parametrize("plan", ["lawnmower", "survey", "paper"])
def test_lines_are_straight_parallel_and_flown_at_one_speed(plan):
    flight = make_flight(FlightConfig(plan=plan, wander_m=0.0, attitude_jitter_deg=0.0))
    speed = {"survey": 5.0}.get(plan, 8.0)
    t = times(flight, 8000)
    line, position, velocity = flight.line(t), flight.position_m(t), flight.velocity_mps(t)
    assert set(line) == {-1, *range(flight.lines)}
    middles = []
    for number in range(flight.lines):
        here = line == number
        np.testing.assert_allclose(np.linalg.norm(velocity[here], axis=1), speed, rtol=5e-3)
        across = int(np.ptp(position[here], axis=0)[:2].argmin())
        np.testing.assert_allclose(position[here, across], position[here, across].mean(), atol=0.01)
        middles.append((across, position[here, across].mean()))
    spacing = {"paper": 12.0, "lawnmower": 15.0, "survey": 16.0}[plan]
    for axis in {axis for axis, _ in middles}:
        steps = np.abs(np.diff([middle for a, middle in middles if a == axis]))
        np.testing.assert_allclose(steps, spacing, atol=0.02)


def test_the_survey_is_the_papers_real_flight_and_its_passes_are_u_shaped():
    flight = make_flight(FlightConfig(plan="survey"))
    t = times(flight)
    position = flight.position_m(t)
    on = flight.line(t) >= 0
    np.testing.assert_allclose(np.ptp(position[on, :2], axis=0), [260, 150], atol=10)
    np.testing.assert_allclose(position[:, 2], 50.0, atol=1.5)
    assert 9 * 60 < flight.duration_s < 13 * 60
    down = np.rad2deg(np.arcsin(-flight.T_map_cam(t)[:, 2, 2]))
    assert down.std() < 1.0, "almost one angle"
    # Between the two corners of a U the drone flies straight across.
    turn = flight.velocity_mps(t[~on])
    across = np.abs(turn[:, 1]) > 0.995 * np.linalg.norm(turn, axis=1) - 1e-9
    assert across.mean() > 0.1


@settings(max_examples=15)
@given(
    radius=st.floats(10, 120),
    altitude=st.floats(20, 100),
    climb=st.floats(0, 30),
    x=st.floats(-50, 50),
    pitch=st.sampled_from([-1.0, 30.0]),
)
def test_an_orbit_always_looks_at_its_point(radius, altitude, climb, x, pitch):
    aim = np.array([x, -7.0, 4.0])
    flight = make_flight(
        FlightConfig(
            plan="orbit", radius_m=radius, altitude_m=altitude, climb_m=climb, loops=3, camera_pitch_deg=pitch,
            aim_x_m=aim[0], aim_y_m=aim[1], aim_z_m=aim[2], wander_m=0.0, attitude_jitter_deg=0.0,
        )
    )  # fmt: skip
    T = flight.T_map_cam(times(flight, 300))
    towards = aim - T[:, :3, 3]
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    # The spline rounds a circle off by what it turns within a second or so; the camera sits a hand's breadth ahead.
    assert np.rad2deg(np.arccos(np.clip((towards * T[:, :3, 2]).sum(axis=1), -1, 1))).max() < 1.5
    position = flight.position_m(times(flight, 300))
    assert np.abs(np.linalg.norm(position[:, :2] - aim[:2], axis=1) - radius).max() < 0.03 * radius + 0.1
    np.testing.assert_allclose(position[[0, -1], 2], [altitude, altitude + climb], atol=1e-6)


def test_neighbouring_loops_of_an_orbit_are_close():
    flight = make_flight(FlightConfig(plan="orbit", loops=6, climb_m=6.0, wander_m=0.0))
    t = times(flight, 6000)
    line, position = flight.line(t), flight.position_m(t)
    for k in range(flight.lines - 1):
        first, second = position[line == k], position[line == k + 1]
        gap = np.linalg.norm(first[::20, None] - second[None], axis=2).min(axis=1)
        assert gap.max() < 1.2


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31 - 1), width=st.floats(60, 300), distance=st.floats(300, 3000))
@example(seed=2123288, width=288.0, distance=300.0)  # sharp bends
def test_a_walk_stays_inside_its_area(seed, width, distance):
    flight = make_flight(
        FlightConfig(plan="walk", seed=seed, area_m=200.0, width_m=width, distance_m=distance, wander_m=0.0)
    )
    position = flight.position_m(times(flight))
    assert np.abs(position[:, 0]).max() <= 100.0
    assert np.abs(position[:, 1]).max() <= width / 2
    assert position[:, 2].min() >= 50.0 - 1e-9
    assert position[:, 2].max() <= 65.0 + 1e-9
    length = np.linalg.norm(np.diff(position, axis=0), axis=1).sum()
    assert 0.98 * distance < length < distance + 120


@pytest.mark.parametrize("seed", range(4))
def test_a_street_flight_keeps_to_the_streets_and_above_the_ground(seed):
    town = Town(closed=(3, 12))
    flight = make_flight(FlightConfig(plan="street", seed=seed), town)
    t = times(flight, 6000)
    position = flight.position_m(t)
    off = np.abs(position[:, :2, None] - STREET_MIDDLES_M).min(axis=2)
    assert off.min(axis=1).max() < STREET_HALF_M
    on = flight.line(t) >= 0
    assert np.median(off.min(axis=1)[on]) < 0.3
    np.testing.assert_allclose(position[:, 2] - town.ground_height_m(position), 12.0, atol=0.6)
    assert (position[:, 2] > town.surface_height_m(position[:, :2])).all()
    T = flight.T_map_cam(t)
    forward = (T[:, :2, 2] * flight.velocity_mps(t)[:, :2]).sum(axis=1)
    assert (forward[100:-100] > 0).all(), "it looks where it flies"
    assert flight.lines > 10
    assert np.linalg.norm(np.diff(position, axis=0), axis=1).sum() > 2200


def test_a_street_flight_leaves_out_where_there_is_no_room():
    town = Town(closed=(4,))  # the west-east street through the middle, bridged within 20 m of it
    low = make_flight(FlightConfig(plan="street", altitude_m=6.0, seed=1, distance_m=6000.0), town)
    position = low.position_m(times(low, 10_000))
    bridged = (np.abs(position[:, 0]) < 15) & (np.abs(position[:, 1]) < 3)
    along = np.abs(low.velocity_mps(times(low, 10_000))[:, 0]) > 1
    assert not (bridged & along).any()
    high = make_flight(FlightConfig(plan="street", altitude_m=9.0, seed=1, distance_m=6000.0), town)
    position = high.position_m(times(high, 10_000))
    assert ((np.abs(position[:, 0]) < 15) & (np.abs(position[:, 1]) < 3)).any()


def test_narrow_streets_have_narrow_corners():
    """At 8 m of radius the flight would come within 2 m of the corner houses; it takes a radius that keeps away."""
    for half_m, least_m in ((3.6, 2.4), (STREET_HALF_M, 4.0)):
        town = Town(half_m=half_m)
        flight = make_flight(FlightConfig(plan="street", wander_m=0.0, distance_m=600.0), town)
        off = flight.position_m(times(flight))[:, :2, None] - STREET_MIDDLES_M
        nearest = np.abs(off).min(axis=2)  # to the middles of both kinds of streets
        to_house = np.linalg.norm(np.maximum(half_m - nearest, 0.0), axis=1)
        inside = (nearest > half_m).all(axis=1)
        assert not inside.any()
        both = nearest.max(axis=1) < half_m  # on a crossing: the way to its corner
        assert np.where(both, to_house, half_m - nearest.min(axis=1)).min() > least_m
        assert flight.lines > 3


def test_a_street_flight_that_cannot_turn_says_how_far_it_gets(monkeypatch):
    monkeypatch.setattr(make, "CORNER_RADII_M", (30.0,))  # cuts through the houses of every corner
    with pytest.raises(UserError, match=r"with room 12 m above the ground lead 320 m far, not 2500 m"):
        make_flight(FlightConfig(plan="street"), Town())


def test_a_street_flight_needs_streets_with_room():
    with pytest.raises(UserError, match="needs a city"):
        make_flight(FlightConfig(plan="street"))
    with pytest.raises(UserError, match=r"no street of this city has room for a flight 3 m above the ground"):
        make_flight(FlightConfig(plan="street", altitude_m=3.0), Town())


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"plan": "zigzag"}, "plan is 'zigzag'; choose one of: paper, lawnmower"),
        ({"speed_mps": 500.0}, "speed_mps is 500.0; it must be at most 30"),
        ({"speed_mps": 0.01}, r"speed_mps is 0\.01; it must be at least 0\.2, or -1"),
        ({"altitude_m": float("nan")}, "altitude_m is nan; it must be a finite number"),
        ({"altitude_m": 0.0}, "altitude_m is 0; it must be at least 1"),
        ({"area_m": 1e9}, "area_m is 1000000000.0; it must be at most 5000"),
        ({"area_m": 0.0}, "area_m is 0; it must be at least 5"),
        ({"line_spacing_m": 0.0}, r"line_spacing_m is 0; it must be at least 0\.5"),
        ({"line_spacing_m": 400.0}, "that is one line; give a smaller spacing"),
        ({"camera_pitch_deg": 91.0}, r"camera_pitch_deg is 91\.0; it must be at most 90"),
        ({"camera_pitch_deg": -0.5}, r"camera_pitch_deg is -0\.5; it must be at least 0, or -1"),
        ({"guard_m": -0.5}, r"guard_m is -0\.5; it must be at least 0, or -1"),
        ({"holdout": 0.9}, r"holdout is 0\.9; it must be at most 0\.5"),
        ({"area_m": 5000.0, "line_spacing_m": 0.5}, "would be .* km long and take .* h; at most 6 h are flown"),
        ({"plan": "orbit", "loops": 500, "radius_m": 2000.0}, "at most 6 h are flown"),
        ({"plan": "walk", "distance_m": 200_000.0}, "at most 6 h are flown"),
        ({"plan": "orbit", "loops": 0}, "loops is 0; it must be at least 1"),
        ({"waypoints": "points.txt"}, "waypoints are given, but the plan is 'paper'"),
    ],
)  # fmt: skip
def test_absurd_settings_are_named(changes, wrong):
    with pytest.raises(UserError, match=wrong):
        make_flight(FlightConfig(**changes))


def test_the_width_follows_the_area_in_the_plans_proportion():
    flight = make_flight(FlightConfig(plan="survey", area_m=130.0))
    t = times(flight)
    size = np.ptp(flight.position_m(t[flight.line(t) >= 0])[:, :2], axis=0)
    np.testing.assert_allclose(size, [130, 75], atol=12)
