"""Paths resampled and twists carried on, against what geometry demands."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.linalg import expm

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import quaternions, se3
from pose2rgbd_ros.obstacles.paths import Waypoints, along, carried_on, faced, resampled

QUICK = settings(max_examples=40)
metres = st.floats(-50, 50, allow_nan=False, width=32)
routes = st.integers(1, 8).flatmap(lambda n: arrays(np.float64, (n, 3), elements=metres))
twists = arrays(np.float64, 6, elements=st.floats(-3, 3, allow_nan=False, width=32))


def points_of(position_m, quat_xyzw=None, time_s=None) -> Waypoints:
    position = np.atleast_2d(np.asarray(position_m, float))
    quat = np.tile([0.0, 0.0, 0.0, 1.0], (len(position), 1)) if quat_xyzw is None else np.asarray(quat_xyzw, float)
    times = np.full(len(position), np.nan) if time_s is None else np.asarray(time_s, float)
    return Waypoints(position, quat, times)


def nearest_on(route, place):
    """Distance of a place to a polyline."""
    if len(route) == 1:
        return np.linalg.norm(place - route[0])
    start, chord = route[:-1], np.diff(route, axis=0)
    share = np.clip(np.sum((place - start) * chord, 1) / np.maximum(np.sum(chord**2, 1), 1e-12), 0, 1)
    return np.linalg.norm(start + share[:, None] * chord - place, axis=1).min()


@QUICK
@given(routes, st.floats(0.5, 40))
@example(np.array([[1.8955882787704468, 0, 0], [0, 0, 0]]), 1.895588235470619)
def test_poses_lie_on_the_path_and_never_farther_apart(route, spacing_m):
    path = resampled(faced(points_of(route), "path"), spacing_m)
    position = path.T_map_body[:, :3, 3]
    assert np.all(np.diff(path.distance_m) > 0)
    assert np.all(np.diff(path.distance_m) <= spacing_m * (1 + 1.001e-6))
    np.testing.assert_allclose(position[[0, -1]], route[[0, -1]], atol=1e-6)
    assert max(nearest_on(route, place) for place in position) < 1e-5
    R = path.T_map_body[:, :3, :3]
    np.testing.assert_allclose(R @ R.swapaxes(1, 2), np.broadcast_to(np.eye(3), R.shape), atol=1e-9)
    np.testing.assert_allclose(R[:, 2, 2], 1.0, atol=1e-9)  # level


@QUICK
@given(routes, st.floats(0.5, 40), st.floats(0, 1))
def test_a_place_on_the_path_is_found_again(route, spacing_m, share):
    points = points_of(route)
    s = share * points.arc_m[-1]
    place = resampled(points, spacing_m, s).T_map_body[0, :3, 3]
    found = along(points, place, 0.0, 1e9)
    again = resampled(points, spacing_m, found).T_map_body[0, :3, 3]
    np.testing.assert_allclose(again, place, atol=1e-5)


def test_orientations_turn_evenly_and_times_are_interpolated():
    yaw = quaternions.from_euler_rpy([[0, 0, 0], [0, 0, 1.0]])
    path = resampled(points_of([[0, 0, 0], [4, 0, 0]], yaw, [1.0, 3.0]), 1.0)
    rpy = quaternions.to_euler_rpy(se3.split(path.T_map_body)[1])
    np.testing.assert_allclose(rpy[:, 2], [0, 0.25, 0.5, 0.75, 1.0], atol=1e-12)
    np.testing.assert_allclose(path.time_s, [1.0, 1.5, 2.0, 2.5, 3.0])
    np.testing.assert_allclose(path.direction, np.tile([1.0, 0, 0], (5, 1)))


def test_a_path_without_orientations_looks_where_it_goes():
    corner = [[0, 0, 0], [10, 0, 0], [10, 10, 0], [10, 10, 20]]
    for blank in (np.zeros((4, 4)), np.tile([0.0, 0.0, 0.0, 1.0], (4, 1))):
        quat = faced(points_of(corner, blank), "auto").quat_xyzw
        yaw = np.degrees(quaternions.to_euler_rpy(quat)[:, 2])
        np.testing.assert_allclose(yaw, [0, 90, 90, 90], atol=1e-9)  # straight up: as before
    np.testing.assert_array_equal(faced(points_of(corner), "given").quat_xyzw, points_of(corner).quat_xyzw)


def test_turning_on_the_spot_leaves_the_last_orientation():
    quat = quaternions.from_euler_rpy([[0, 0, 0], [0, 0, 0], [0, 0, 1.5], [0, 0, 1.5]])
    path = resampled(points_of([[0, 0, 0], [2, 0, 0], [2, 0, 0], [4, 0, 0]], quat), 1.0)
    yaw = quaternions.to_euler_rpy(se3.split(path.T_map_body)[1])[:, 2]
    np.testing.assert_allclose(yaw, [0, 0, 1.5, 1.5, 1.5], atol=1e-9)


def test_a_path_of_one_place_has_no_direction():
    for route in ([[1, 2, 3]], [[1, 2, 3], [1, 2, 3]]):
        path = resampled(points_of(route), 1.0)
        np.testing.assert_array_equal(path.T_map_body[-1, :3, 3], [1, 2, 3])
        assert np.isnan(path.direction).all()


def test_bad_paths_are_told():
    with pytest.raises(UserError, match="the path is empty"):
        points_of(np.zeros((0, 3)))
    with pytest.raises(UserError, match="pose 1 of the path holds NaN or infinity \\(1 of 2 do\\)"):
        points_of([[0, 0, 0], [np.nan, 0, 0]])
    with pytest.raises(UserError, match="pose 0 of the path has an orientation that is all zero"):
        faced(points_of([[0, 0, 0], [1, 0, 0]], [[0, 0, 0, 0], [0, 0, 1, 0]]), "auto")
    with pytest.raises(UserError, match="at most 10000 are rendered"):
        resampled(points_of([[0, 0, 0], [1e6, 0, 0]]), 0.001)
    with pytest.raises(UserError, match="at most 10000 are rendered"):
        resampled(points_of(np.zeros((10001, 3))), 0.0)
    assert len(resampled(points_of(np.zeros((10000, 3))), 0.0)) == 10000


def test_a_path_is_cut_where_the_look_ahead_ends():
    points = points_of([[0, 0, 0], [100, 0, 0]])
    path = resampled(points, 2.0, first_m=30.0, most=4, cut=True)
    np.testing.assert_allclose(path.T_map_body[:, 0, 3], [30, 32, 34, 36])
    np.testing.assert_allclose(path.distance_m, [0, 2, 4, 6])
    own = resampled(points_of([[0, 0, 0], [10, 0, 0], [30, 0, 0]]), 0.0, first_m=5.0, most=16, cut=True)
    np.testing.assert_allclose(own.T_map_body[:, 0, 3], [5, 10, 30])
    np.testing.assert_allclose(own.distance_m, [0, 5, 25])


def test_a_path_that_crosses_itself_is_followed_in_order():
    loop = points_of([[0, 0, 0], [20, 0, 0], [20, 20, 0], [10, 20, 0], [10, -20, 0]])
    crossing = [10, 0, 0]
    assert along(loop, crossing, 5.0, 10.0) == pytest.approx(10.0)
    assert along(loop, crossing, 50.0, 30.0) == pytest.approx(70.0)


@QUICK
@given(twists, st.floats(0.0, 3.0))
def test_the_exponential_of_a_twist_is_that_of_its_matrix(twist, seconds):
    v, w = twist[:3], twist[3:]
    matrix = np.zeros((4, 4))
    matrix[:3, :3] = [[0, -w[2], w[1]], [w[2], 0, -w[0]], [-w[1], w[0], 0]]
    matrix[:3, 3] = v
    np.testing.assert_allclose(se3.exponential(twist * seconds), expm(matrix * seconds), atol=1e-8)


@QUICK
@given(twists, st.floats(1e-9, 1e-3))
def test_slow_turns_are_exact_too(twist, scale):
    xi = twist * [1, 1, 1, scale, scale, scale]
    half = se3.exponential(xi / 2)
    np.testing.assert_allclose(half @ half, se3.exponential(xi), atol=1e-12)


@QUICK
@given(twists, st.integers(2, 20))
def test_the_way_of_a_constant_twist(twist, count):
    start = se3.make([3.0, -2.0, 40.0], quaternions.from_euler_rpy([0.1, -0.2, 2.0]))
    path = carried_on(start, twist, 4.0, count)
    speed = np.linalg.norm(twist[:3])
    np.testing.assert_allclose(path.T_map_body[0], start, atol=1e-12)
    if len(path) == 1:
        assert speed < 0.05
        return
    assert len(path) == count
    np.testing.assert_allclose(path.distance_m, speed * path.time_s)
    fine = carried_on(start, twist, 4.0, 2001)
    walked = np.linalg.norm(np.diff(fine.T_map_body[:, :3, 3], axis=0), axis=1).sum()
    assert walked == pytest.approx(4.0 * speed, rel=1e-3, abs=1e-6)
    if speed >= 0.05:
        step = np.diff(fine.T_map_body[:2, :3, 3], axis=0)[0]
        np.testing.assert_allclose(step / np.linalg.norm(step), path.direction[0], atol=1e-2)


def test_a_body_at_rest_stays_where_it_is():
    path = carried_on(np.eye(4), np.zeros(6), 4.0, 16)
    assert len(path) == 1
    assert np.isnan(path.direction).all()
    with pytest.raises(UserError, match="twist holds NaN"):
        carried_on(np.eye(4), [np.nan, 0, 0, 0, 0, 0], 4.0, 16)


def test_a_circle_closes():
    path = carried_on(np.eye(4), [2.0, 0, 0, 0, 0, 1.0], 2 * np.pi, 9)
    np.testing.assert_allclose(path.T_map_body[-1], np.eye(4), atol=1e-12)
    np.testing.assert_allclose(path.T_map_body[4, :3, 3], [0, 4, 0], atol=1e-12)
