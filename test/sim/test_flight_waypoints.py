"""Waypoint files: flown past every point, and every mistake named with its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.integrate import trapezoid
from support.town import Town

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import quaternions
from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.sim.flights.flight import Flight
from pose2rgbd_ros.sim.flights.make import make_flight


def fly(folder: Path, text: str, city: Town | None = None, **changes: object) -> Flight:
    path = folder / "points.txt"
    path.write_text(text)
    quiet = {"attitude_jitter_deg": 0.0, "wander_m": 0.0, **changes}
    return make_flight(FlightConfig(plan="waypoints", waypoints=str(path), **quiet), city)  # type: ignore[arg-type]


@settings(max_examples=40)
@given(
    points=st.lists(
        st.tuples(st.integers(-4, 4), st.integers(-4, 4), st.integers(10, 14)), min_size=2, max_size=6, unique=True
    ),
    speed=st.floats(1.0, 15.0),
)  # fmt: skip
def test_every_waypoint_is_passed_closely_and_the_ends_are_reached(tmp_path_factory, points, speed):
    table = 25.0 * np.array(points)
    text = "\n".join(" ".join(map(str, row)) for row in table)
    try:
        flight = fly(tmp_path_factory.mktemp("points"), text, speed_mps=speed)
    except UserError as error:
        assume("come within" not in str(error) and "turns straight back" not in str(error))
        raise
    position = flight.position_m(np.linspace(0, flight.duration_s, 4000))
    for point in table:
        assert np.linalg.norm(position - point, axis=1).min() < 1.6
    np.testing.assert_allclose(position[[0, -1]], table[[0, -1]], atol=1e-6)
    assert flight.lines == len(table) - 1


def test_comments_blank_lines_and_commas_are_read(tmp_path):
    flight = fly(tmp_path, "# a flight\n\n0 0 50  # start\n40, 0, 50\n\t40 40 5.5e1\n")
    np.testing.assert_allclose(flight.position_m(flight.duration_s)[0], [40, 40, 55])


def test_yaw_and_pitch_are_flown_where_they_are_given(tmp_path):
    flight = fly(tmp_path, "0 0 50 90 0\n60 0 50 170 45\n60 60 50 -170 90\n", camera_pitch_deg=30.0)
    T = flight.T_map_body([0.0, flight.duration_s])
    yaw = np.rad2deg(quaternions.to_euler_rpy(quaternions.from_matrix(T[:, :3, :3]))[:, 2])
    np.testing.assert_allclose(yaw, [90, -170], atol=1e-6)
    t = np.linspace(0, flight.duration_s, 2000)
    down = np.rad2deg(np.arcsin(np.clip(-flight.T_map_cam(t)[:, 2, 2], -1, 1)))
    np.testing.assert_allclose(down[[0, -1]], [0, 90], atol=1e-5)
    at_corner = np.linalg.norm(flight.position_m(t) - [60, 0, 50], axis=1).argmin()
    assert down[at_corner] == pytest.approx(45, abs=3)
    turned = np.rad2deg(np.abs(flight.angular_velocity_body_radps(t)[:, 2]))
    assert trapezoid(turned, t) < 115, "yaw goes the shorter way, through 180 degrees"


def test_without_yaw_it_looks_along_its_course_also_when_it_climbs_straight_up(tmp_path):
    flight = fly(tmp_path, "0 0 50\n0 60 50\n0 60 90\n60 60 90\n")
    t = np.linspace(0, flight.duration_s, 3000)
    forward = flight.T_map_body(t)[:, :3, 0]
    position, velocity = flight.position_m(t), flight.velocity_mps(t)
    climbs = (position[:, 2] > 53) & (position[:, 2] < 85)
    np.testing.assert_allclose(forward[climbs, :2], np.tile([0, 1], (climbs.sum(), 1)), atol=0.02)
    level = np.linalg.norm(velocity[:, :2], axis=1) > 4
    assert (np.sum(forward * velocity, axis=1)[level] > 3.9).all()
    assert np.abs(flight.angular_velocity_body_radps(t)).max() < 1.3, "it stops to turn"


def test_a_closed_ring_is_no_crossing(tmp_path):
    flight = fly(tmp_path, "0 0 50\n50 0 50\n50 50 50\n0 50 50\n0 0 50\n")
    np.testing.assert_allclose(flight.position_m(0.0), flight.position_m(flight.duration_s), atol=1e-6)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", r"points\.txt holds no waypoints; a flight needs at least 2"),
        ("# nothing\n\n", "holds no waypoints"),
        ("\n1 2 50\n", r"holds only one waypoint \(line 2\); a flight needs at least 2"),
        ("0 0 50\nten 0 50\n", r"points\.txt:2: 'ten 0 50' is not x y z"),
        ("0 0 50\n9 9\n", r"points\.txt:2: 2 numbers in '9 9'; expected x y z"),
        ("0 0 50\n9 9 9 9 9 9\n", r"points\.txt:2: 6 numbers"),
        ("0 0 50\n9 nan 50\n", r"points\.txt:2: '9 nan 50' is not finite"),
        ("0 0 50\n9 inf 50\n", r"points\.txt:2: .* is not finite"),
        ("0 0 50\n9e9 0 50\n", r"points\.txt:2: .* is more than 100 km away"),
        ("0 0 50 0\n9 9 50\n", r"points\.txt:2: 3 numbers, but line 1 has 4; give yaw"),
        ("0 0 50 0\n9 9 50 1e300\n", r"points\.txt:2: a yaw of 1e\+300; give degrees"),
        ("0 0 50 0 0\n9 9 50 0 95\n", r"points\.txt:2: a pitch of 95; it must lie between"),
        ("0 0 50\n\n0 0 50\n9 9 50", r"points\.txt:3: the same place as line 1; remove one"),
        ("0 0 50\n50 0 50\n10 0 50\n", r"points\.txt:2: the path turns straight back here"),
        (
            "0 0 50\n50 0 50\n50 50 50\n25 50 50\n25 -50 50\n",
            r"from line 1 to line 2 and the path from line 4 to line 5 come within 0\.\d m of each other near x "
            r"2\d\.\d, y",
        ),
        (
            "0 0 50\n50 0 50\n50 0.7 55\n0 0.7 50\n",
            r"from line 1 to line 2 and the path from line 3 to line 4 come within 0\.7 m",
        ),
        ("0 0 50\n90000 0 50\n0 90 50\n", "would be 180 km long and take 10.0 h; at most 6 h are flown"),
    ],
)  # fmt: skip
def test_a_bad_file_is_named_with_its_line(tmp_path, text, wrong):
    with pytest.raises(UserError, match=wrong) as told:
        fly(tmp_path, text)
    assert "\n" not in str(told.value)


def test_files_that_cannot_be_read(tmp_path):
    for name, wrong in [
        ("none.txt", "none.txt does not exist"),
        ("", "is a folder; give a text file"),
        ("binary", "cannot be read as text"),
    ]:
        (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x80")
        with pytest.raises(UserError, match=wrong):
            make_flight(FlightConfig(plan="waypoints", waypoints=str(tmp_path / name)))
    with pytest.raises(UserError, match="needs a file"):
        make_flight(FlightConfig(plan="waypoints"))


def test_files_from_other_editors(tmp_path):
    path = tmp_path / "points.txt"
    path.write_bytes("\ufeff0\t0\t50\r\n90,\t0, 50\r\n".encode())
    flight = make_flight(FlightConfig(plan="waypoints", waypoints=str(path), attitude_jitter_deg=0.0))
    np.testing.assert_allclose(flight.position_m([0.0, 1e9]), [[0, 0, 50], [90, 0, 50]], atol=1e-6)


def test_paths_that_pass_above_each_other_are_fine(tmp_path):
    fly(tmp_path, "0 0 50\n50 0 50\n50 50 60\n25 50 60\n25 -50 60\n")


def test_a_dense_track_is_no_crossing(tmp_path):
    turn = np.linspace(0, 1.9 * np.pi, 400)
    rows = [f"{30 * np.cos(a):.4f} {30 * np.sin(a):.4f} 50" for a in turn]
    flight = fly(tmp_path, "\n".join(rows))
    assert flight.lines >= 1
    position = flight.position_m(np.linspace(0, flight.duration_s, 500))
    np.testing.assert_allclose(np.linalg.norm(position[:, :2], axis=1), 30, atol=0.3)


def test_waypoints_outside_the_city_or_below_its_roofs(tmp_path):
    with pytest.raises(UserError, match=r"points\.txt:3: x 20, y 250 lies outside the city, which reaches from -200"):
        fly(tmp_path, "0 0 50\n20 20 50\n20 250 50\n", Town())
    with pytest.raises(UserError, match=r"what stands there reaches 2\d\.\d m.*raise the waypoints there to 2\d m"):
        fly(tmp_path, "0 0 50\n20 20 20\n", Town())
