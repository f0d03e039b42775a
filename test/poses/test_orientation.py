"""Orientation from the course over ground and from gimbals; two sources of one pose."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import quaternions
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.poses import orientation
from pose2rgbd_ros.poses.settings import PoseSettings
from pose2rgbd_ros.streams.synchronizer import PoseAnswer, RecordedPoses

S = 1_000_000_000


def yaws(trajectory: Trajectory) -> np.ndarray:
    return quaternions.to_euler_rpy(trajectory.quat_xyzw)[:, 2]


def track(n: int, rate_hz: float, velocity) -> tuple[np.ndarray, np.ndarray]:
    t_s = np.arange(n) / rate_hz
    return np.rint(t_s * S).astype(np.int64), t_s[:, None] * np.append(velocity, 0.0)


@given(st.floats(-3.1, 3.1), st.floats(1.5, 30.0), st.sampled_from([1.0, 5.0, 10.0]), st.floats(0.0, 5.0))
@settings(max_examples=60)
def test_a_straight_course_is_the_heading(yaw: float, speed: float, rate_hz: float, smoothing_s: float) -> None:
    stamps, position = track(30, rate_hz, speed * np.array([np.cos(yaw), np.sin(yaw)]))
    course = orientation.course(stamps, position, 1.0, smoothing_s)
    turned = quaternions.angle_between_rad(course.trajectory.quat_xyzw, quaternions.from_euler_rpy([0.0, 0.0, yaw]))
    assert np.all(turned < 1e-6)
    assert not course.held.any()


def test_a_hover_holds_the_heading_before_it_and_begins_with_the_first() -> None:
    """Still, then east, then still, then north."""
    east, north = track(20, 10.0, (5.0, 0.0))[1], track(20, 10.0, (0.0, 5.0))[1]
    still = np.zeros((20, 3))
    position = np.vstack([still, east, east[-1] + still, east[-1] + north])
    stamps = np.arange(len(position)) * S // 10
    course = orientation.course(stamps, position, 1.0, 0.2)
    np.testing.assert_allclose(yaws(course.trajectory)[[5, 30, 50]], 0.0, atol=0.01)
    np.testing.assert_allclose(yaws(course.trajectory)[75], np.pi / 2, atol=0.01)
    assert course.held[[5, 50]].all()


def test_a_stamp_of_1970_leaves_the_course_of_the_others_as_it_is() -> None:
    stamps, position = track(200, 10.0, (3.0, 4.0))
    stamps = np.append(1, stamps + 1_700_000_000 * S)
    course = orientation.course(stamps, np.vstack([position[:1], position]), 1.0, 1.0, 0.3)
    alone = orientation.course(stamps[1:], position, 1.0, 1.0, 0.3)
    np.testing.assert_allclose(yaws(course.trajectory)[1:], np.arctan2(4, 3), atol=1e-6)
    np.testing.assert_allclose(course.sigma_rad[2:], alone.sigma_rad[1:], rtol=1e-3)
    assert not course.held[2:].any()


def test_the_reported_uncertainty_is_that_of_noisy_fixes() -> None:
    rng = np.random.default_rng(1)
    stamps, position = track(4000, 5.0, (6.0, 2.0))
    sigma_m = 0.4
    course = orientation.course(stamps, position + rng.normal(0, sigma_m, position.shape), 1.0, 1.0, sigma_m)
    off = yaws(course.trajectory) - np.arctan2(2.0, 6.0)
    assert np.std(off) == pytest.approx(np.median(course.sigma_rad), rel=0.15)


def test_a_body_that_never_moves_has_no_course() -> None:
    with pytest.raises(UserError, match="never moves at 1 m/s"):
        orientation.course(*track(10, 1.0, (0.1, 0.0)), 1.0, 1.0)


def test_a_gimbal_on_a_heading() -> None:
    """Straight down from a body that is rolled and heads 40 degrees: only the heading counts."""

    def turned(rpy: list[float], stamps: np.ndarray) -> RecordedPoses:
        quats = np.tile(quaternions.from_euler_rpy(rpy), (len(stamps), 1))
        return RecordedPoses(Trajectory(stamps, np.zeros((len(stamps), 3)), quats), S)

    stamps = np.arange(5) * S
    poses = orientation.GimbalPoses(turned([0.0, np.pi / 2, 0.0], stamps), turned([0.3, 0.2, 0.7], stamps[:4]))
    R = poses.pose_at(S // 3).T[:3, :3]
    np.testing.assert_allclose(R[:, 0], [0, 0, -1], atol=1e-9)
    np.testing.assert_allclose(R[:, 2], [np.cos(0.7), np.sin(0.7), 0], atol=1e-9)
    assert poses.pose_at(4 * S).reason == "after_last_pose", "of the heading"
    assert poses.pose_at(-1).reason == "before_first_pose"


def test_positions_and_orientations_of_two_sources() -> None:
    """Each with its own gap; the antenna's lever arm is taken off as the body turns."""
    stamps = np.arange(11) * S
    level = np.tile([0.0, 0.0, 0.0, 1.0], (11, 1))
    positions = RecordedPoses(Trajectory(stamps, np.arange(33.0).reshape(11, 3), level), 2 * S)
    quarter = quaternions.from_euler_rpy([0.0, 0.0, np.pi / 2])
    turns = RecordedPoses(Trajectory(stamps[:6], np.zeros((6, 3)), np.tile(quarter, (6, 1))), S)
    both = orientation.TurnedPoses(positions, turns, np.array([1.0, 0.0, 0.0]))
    T = both.pose_at(S // 2).T
    np.testing.assert_allclose(T[:3, 3], [1.5, 1.5, 3.5])  # the antenna is ahead, which is north
    np.testing.assert_allclose(T[:3, 0], [0, 1, 0], atol=1e-12)
    assert both.pose_at(8 * S).reason == "orientation_after_last_pose"
    assert both.pose_at(-S).reason == "before_first_pose"


def test_two_live_sources_wait_together() -> None:
    class Fixed:
        def __init__(self, answer: PoseAnswer) -> None:
            self.answer, self.heard = answer, []

        def pose_at(self, stamp_ns: int) -> PoseAnswer:
            return self.answer

        def jumped_back(self, stamp_ns: int) -> None:
            self.heard.append(stamp_ns)

    known, unknown = PoseAnswer(np.eye(4)), PoseAnswer(None, "no_pose", wait=True)
    better = PoseAnswer(np.eye(4), wait=True)
    assert orientation.TurnedPoses(Fixed(known), Fixed(unknown)).pose_at(0).wait
    assert orientation.TurnedPoses(Fixed(unknown), Fixed(known)).pose_at(0).reason == "no_pose"
    assert orientation.TurnedPoses(Fixed(known), Fixed(better)).pose_at(0).wait
    parts = Fixed(known), Fixed(known)
    orientation.TurnedPoses(*parts).jumped_back(7)
    assert parts[0].heard == parts[1].heard == [7]


def test_a_lever_arm_as_text() -> None:
    assert PoseSettings().antenna() is None
    np.testing.assert_array_equal(PoseSettings(antenna_m="0.1 -0.2, 0.3").antenna(), [0.1, -0.2, 0.3])
    for bad in ("0 0", "a b c", "0 0 nan"):
        with pytest.raises(UserError, match="expected auto or 'x y z'"):
            PoseSettings(antenna_m=bad).antenna()
