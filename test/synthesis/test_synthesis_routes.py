"""Virtual routes: where they lead and where cameras look."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.synthesis.route import DOWN_RAD, linear_route, parabola_route, route_along_file

numbers = st.floats(-50.0, 50.0)
points = st.tuples(numbers, numbers, numbers).map(np.array)
twists = st.tuples(*[st.floats(-1.0, 1.0)] * 3).map(lambda w: np.array([0.0, 0.0, 0.0, *w]))


def pose(position_m: np.ndarray, twist: np.ndarray) -> np.ndarray:
    T = se3.exponential(twist)
    T[:3, 3] = position_m
    return T


@settings(max_examples=40)
@given(points, points, twists, twists, st.floats(-2.0, 2.0))
def test_routes_join_the_two_poses(
    a: np.ndarray, b: np.ndarray, turn_a: np.ndarray, turn_b: np.ndarray, bend: float
) -> None:
    if np.linalg.norm(b - a) < 0.1:
        return
    ends = pose(a, turn_a), pose(b, turn_b)
    for route in (linear_route(*ends, 9), parabola_route(*ends, 9, bend)):
        np.testing.assert_allclose(route[[0, -1]], ends, atol=1e-9)
        R = route[:, :3, :3]
        np.testing.assert_allclose(R @ R.swapaxes(1, 2), np.broadcast_to(np.eye(3), R.shape), atol=1e-9)
    straight, bent = linear_route(*ends, 9)[:, :3, 3], parabola_route(*ends, 9, bend)[:, :3, 3]
    np.testing.assert_allclose(np.diff(straight, axis=0), np.tile((b - a) / 8, (8, 1)), atol=1e-9)
    off = bent - straight
    np.testing.assert_allclose(np.linalg.norm(off, axis=1).max(), abs(bend) * np.linalg.norm(b - a), atol=1e-6)
    if np.linalg.norm((b - a)[:2]) > 0.1:
        np.testing.assert_allclose(off[:, :2] @ (b - a)[:2], 0.0, atol=1e-6)
    np.testing.assert_allclose(off[:, 2], 0.0, atol=1e-9)


def test_a_parabola_bends_to_the_left() -> None:
    ends = pose(np.zeros(3), np.zeros(6)), pose(np.array([10.0, 0.0, 0.0]), np.zeros(6))
    np.testing.assert_allclose(parabola_route(*ends, 3, 0.5)[1, :3, 3], [5.0, 5.0, 0.0], atol=1e-12)


def test_a_route_of_no_length_is_refused() -> None:
    T = pose(np.ones(3), np.zeros(6))
    with pytest.raises(UserError, match="same place"):
        linear_route(T, T, 5)


def test_waypoints_are_passed_at_an_even_pace(tmp_path: Path) -> None:
    file = tmp_path / "way.txt"
    file.write_text("0 0 10 0 0\n30 0 10 0 90\n30 10 10 90 90\n")
    T = route_along_file(file, 5)
    np.testing.assert_allclose(T[:, :3, 3], [[0, 0, 10], [10, 0, 10], [20, 0, 10], [30, 0, 10], [30, 10, 10]])
    # Ahead to the east with the image's top up; at the end straight down with the top to the north, right to the east.
    np.testing.assert_allclose(T[0, :3, :3].T, [[0, -1, 0], [0, 0, -1], [1, 0, 0]], atol=1e-12)
    np.testing.assert_allclose(T[-1, :3, :3].T, [[1, 0, 0], [0, -1, 0], [0, 0, -1]], atol=1e-12)


def test_cameras_look_along_waypoints_that_tell_no_yaw(tmp_path: Path) -> None:
    file = tmp_path / "way.txt"
    file.write_text("0 0 10\n0 20 10\n")
    ahead = route_along_file(file, 3)[:, :3, 2]
    np.testing.assert_allclose(ahead[:, :2] / np.cos(DOWN_RAD), [[0.0, 1.0]] * 3, atol=1e-12)
