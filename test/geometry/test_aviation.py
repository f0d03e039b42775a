"""Aviation's axes to those of ROS."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import geodesy, quaternions

NORTH, EAST, UP = np.array([0.0, 1, 0]), np.array([1.0, 0, 0]), np.array([0.0, 0, 1])
angle = st.floats(-180, 180)
unit = st.tuples(*[st.floats(-1, 1)] * 4).map(np.array).filter(lambda q: np.linalg.norm(q) > 0.1)


def axes(yaw, pitch, roll) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where right, down and ahead of the image point to in ENU."""
    R = quaternions.to_matrix(geodesy.gimbal_to_quat_map_cam(yaw, pitch, roll))
    return R[:, 0], R[:, 1], R[:, 2]


def test_a_level_gimbal_looks_along_its_yaw() -> None:
    right, down, ahead = axes(0, 0, 0)
    np.testing.assert_allclose([right, down, ahead], [EAST, -UP, NORTH], atol=1e-12)
    np.testing.assert_allclose(axes(90, 0, 0)[2], EAST, atol=1e-12)
    np.testing.assert_allclose(axes(-90, 0, 0)[2], -EAST, atol=1e-12)


def test_straight_down_the_top_of_the_image_points_along_the_yaw() -> None:
    for yaw, top in ((0, NORTH), (90, EAST), (180, -NORTH), (-132, None)):
        right, down, ahead = axes(yaw, -90, 0)
        np.testing.assert_allclose(ahead, -UP, atol=1e-12)
        expected = top if top is not None else [np.sin(np.radians(yaw)), np.cos(np.radians(yaw)), 0]
        np.testing.assert_allclose(-down, expected, atol=1e-12)
        np.testing.assert_allclose(right, np.cross(ahead, -down), atol=1e-12)


def test_half_down_and_rolled() -> None:
    _, down, ahead = axes(0, -45, 0)
    np.testing.assert_allclose(ahead, (NORTH - UP) / np.sqrt(2), atol=1e-12)
    np.testing.assert_allclose(-down, (NORTH + UP) / np.sqrt(2), atol=1e-12)
    np.testing.assert_allclose(axes(0, 0, 90)[0], -UP, atol=1e-12)  # right side down


@given(angle, angle)
@settings(max_examples=50)
def test_roll_adds_to_yaw_straight_down(yaw: float, roll: float) -> None:
    rolled, turned = (geodesy.gimbal_to_quat_map_cam(*item) for item in ((yaw, -90, roll), (yaw + roll, -90, 0)))
    assert quaternions.angle_between_rad(rolled, turned) < 1e-6


@given(angle, st.floats(-89, 89))
@settings(max_examples=50)
def test_without_roll_the_horizon_is_level(yaw: float, pitch: float) -> None:
    right, down, ahead = axes(yaw, pitch, 0)
    assert abs(right[2]) < 1e-9
    assert down[2] < 0
    assert ahead[2] == pytest.approx(np.sin(np.radians(pitch)), abs=1e-9)
    assert (
        np.arctan2(ahead[0], ahead[1])
        == pytest.approx(np.arctan2(np.sin(np.radians(yaw)), np.cos(np.radians(yaw))), abs=1e-7)
        or abs(abs(yaw) - 180) < 1e-6
    )


@given(unit, st.tuples(*[st.floats(-100, 100)] * 3))
@settings(max_examples=100)
def test_vectors_and_orientations_agree(quat, vector) -> None:
    """A vector of the body reaches the map by either road; converting twice gives back the first."""
    R_ned_frd = Rotation.from_quat(quat)
    R_enu_flu = Rotation.from_quat(geodesy.quat_ned_frd_to_enu_flu(quat))
    by_ned = geodesy.ned_to_enu(R_ned_frd.apply(vector))
    np.testing.assert_allclose(R_enu_flu.apply(geodesy.frd_to_flu(vector)), by_ned, atol=1e-9)
    np.testing.assert_allclose(geodesy.ned_to_enu(geodesy.ned_to_enu(vector)), vector)
    np.testing.assert_allclose(geodesy.ned_to_enu(vector), geodesy.R_ENU_NED @ vector, atol=1e-9)
    there = geodesy.quat_ned_frd_to_enu_flu(quat)
    assert quaternions.angle_between_rad(geodesy.quat_ned_frd_to_enu_flu(there), quat) < 1e-7
    turn = Rotation.from_quat(geodesy.quat_frd_to_flu(quat))
    np.testing.assert_allclose(
        turn.apply(geodesy.frd_to_flu(vector)), geodesy.frd_to_flu(R_ned_frd.apply(vector)), atol=1e-9
    )


def test_an_autopilot_at_rest_facing_north() -> None:
    R = quaternions.to_matrix(geodesy.quat_ned_frd_to_enu_flu([0, 0, 0, 1]))
    np.testing.assert_allclose(R.T, [NORTH, -EAST, UP], atol=1e-12)  # forward, left, up


def test_many_at_once_and_bad_angles() -> None:
    quat = geodesy.gimbal_to_quat_map_cam([10.0, 20.0], -90.0, 0.0)
    assert quat.shape == (2, 4)
    np.testing.assert_allclose(quat[1], geodesy.gimbal_to_quat_map_cam(20, -90, 0))
    with pytest.raises(UserError, match="gimbal angle"):
        geodesy.gimbal_to_quat_map_cam(np.nan, 0, 0)
