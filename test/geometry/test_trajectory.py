"""Interpolation of poses in time, and what happens to poses as badly recorded as they come."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import quaternions, se3
from pose2rgbd_ros.geometry.trajectory import Trajectory

T0 = 1_700_000_000_000_000_000  # an epoch stamp does not fit float64 to the nanosecond
stamps = st.lists(st.integers(0, 10**12), min_size=2, max_size=30, unique=True).map(lambda s: np.sort(s) + T0)


def random_trajectory(stamps_ns: np.ndarray, seed: int = 0) -> Trajectory:
    rng = np.random.default_rng(seed)
    return Trajectory(stamps_ns, rng.normal(size=(len(stamps_ns), 3)) * 50, rng.normal(size=(len(stamps_ns), 4)))


@given(stamps, st.integers(0, 99))
def test_a_recorded_stamp_gives_the_recorded_pose_exactly(stamps_ns: np.ndarray, seed: int) -> None:
    track = random_trajectory(stamps_ns, seed)
    at = track.interpolate(track.stamps_ns, max_gap_ns=1)  # however far apart its neighbours are
    assert at.valid.all()
    assert at.reason == [None] * len(track)
    np.testing.assert_array_equal(at.T, track.T)


@given(stamps, st.integers(0, 99), st.floats(0, 1))
def test_between_two_poses_lies_the_line_and_the_arc(stamps_ns: np.ndarray, seed: int, where: float) -> None:
    track = random_trajectory(stamps_ns, seed)
    asked = int(stamps_ns[0]) + round(where * int(stamps_ns[1] - stamps_ns[0]))
    u = (asked - int(stamps_ns[0])) / (int(stamps_ns[1]) - int(stamps_ns[0]))
    position, quat = se3.split(track.interpolate([asked]).T[0])
    p, arc = track.position_m, Slerp([0, 1], Rotation.from_quat(track.quat_xyzw[:2]))
    np.testing.assert_allclose(position, p[0] + u * (p[1] - p[0]), atol=1e-9)
    assert quaternions.angle_between_rad(quat, arc(u).as_quat()) < 1e-7


def test_constant_motion_is_followed_to_the_nanosecond() -> None:
    stamps_ns = T0 + np.arange(11) * 100_000_000
    yaw = np.linspace(0, 1, 11)
    track = Trajectory(stamps_ns, np.outer(yaw, [10, 0, 0]), quaternions.from_euler_rpy(np.outer(yaw, [0, 0, 1])))
    asked = T0 + np.array([1, 123_456_789, 999_999_999])
    position, quat = se3.split(track.interpolate(asked).T)
    np.testing.assert_allclose(position[:, 0], (asked - T0) * 1e-8, atol=1e-12)
    np.testing.assert_allclose(quaternions.to_euler_rpy(quat)[:, 2], (asked - T0) * 1e-9, atol=1e-12)


def test_what_cannot_be_interpolated_says_why() -> None:
    track = random_trajectory(T0 + np.array([0, 10, 1000, 1010]))
    asked = T0 + np.array([-1, 5, 500, 1000, 1005, 1011])
    at = track.interpolate(asked, max_gap_ns=100)
    assert at.reason == ["before_first_pose", None, "pose_gap", None, None, "after_last_pose"]
    np.testing.assert_array_equal(at.valid, [False, True, False, True, True, False])
    assert np.isnan(at.T[~at.valid]).all()
    assert np.isfinite(at.T[at.valid]).all()
    assert track.interpolate(asked).reason[2] is None  # no limit asked for


def test_a_gap_of_exactly_the_limit_is_accepted() -> None:
    track = random_trajectory(T0 + np.array([0, 100]))
    assert track.interpolate([T0 + 50], max_gap_ns=100).valid.all()
    assert track.interpolate([T0 + 50], max_gap_ns=99).reason == ["pose_gap"]


def test_one_pose_answers_for_its_own_stamp_only() -> None:
    track = random_trajectory(np.array([T0]))
    assert track.interpolate([T0 - 1, T0, T0 + 1]).reason == ["before_first_pose", None, "after_last_pose"]
    assert track.interpolate([]).T.shape == (0, 4, 4)


@given(stamps, st.integers(0, 99))
def test_jittered_order_changes_nothing(stamps_ns: np.ndarray, seed: int) -> None:
    track = random_trajectory(stamps_ns, seed)
    order = np.random.default_rng(seed).permutation(len(track))
    sorted_again, counts = Trajectory.from_unsorted(
        track.stamps_ns[order], track.position_m[order], track.quat_xyzw[order]
    )
    np.testing.assert_array_equal(sorted_again.position_m, track.position_m)
    assert set(counts) <= {"out_of_order"}
    assert ("out_of_order" in counts) == bool(np.any(np.diff(order) < 0))


def test_bad_poses_are_dropped_and_counted() -> None:
    stamps_ns = T0 + np.array([0, 10, 10, 5, 20, 30, 40, 50])
    position = np.arange(24.0).reshape(8, 3)
    quat = np.tile([0.0, 0, 0, 1], (8, 1))
    position[4, 1] = np.nan
    quat[5] = 0
    quat[6, 2] = np.inf
    track, counts = Trajectory.from_unsorted(stamps_ns, position, quat)
    assert counts == {"non_finite_pose": 3, "duplicate_stamp": 1, "out_of_order": 1}
    np.testing.assert_array_equal(track.stamps_ns, T0 + np.array([0, 5, 10, 50]))
    np.testing.assert_array_equal(track.position_m[2], position[1])  # the first of the two received


def test_a_bag_played_twice_counts_its_backward_stamps() -> None:
    stamps_ns = np.concatenate([T0 + np.arange(10), T0 + np.arange(10)])
    track, counts = Trajectory.from_unsorted(stamps_ns, np.zeros((20, 3)), np.tile([0.0, 0, 0, 1], (20, 1)))
    assert len(track) == 10
    assert counts == {"out_of_order": 9, "duplicate_stamp": 10}  # its last stamp is the highest: not backward


def test_nothing_usable_is_an_error() -> None:
    with pytest.raises(UserError, match="no usable pose among 2"):
        Trajectory.from_unsorted([1, 2], np.full((2, 3), np.nan), np.ones((2, 4)))
    with pytest.raises(UserError, match="at least one pose"):
        Trajectory(np.array([]), np.zeros((0, 3)), np.zeros((0, 4)))


@pytest.mark.parametrize("stamps_ns", [[1, 1], [2, 1]])
def test_the_constructor_wants_increasing_stamps(stamps_ns: list[int]) -> None:
    with pytest.raises(UserError, match="must increase"):
        Trajectory(stamps_ns, np.zeros((2, 3)), np.tile([0.0, 0, 0, 1], (2, 1)))


def test_the_constructor_refuses_nan_and_wrong_shapes() -> None:
    with pytest.raises(UserError, match="not finite"):
        Trajectory(np.array([1]), np.full((1, 3), np.nan), np.array([[0.0, 0, 0, 1]]))
    with pytest.raises(UserError, match=r"positions \(N, 3\)"):
        Trajectory(np.array([1, 2]), np.zeros((1, 3)), np.zeros((2, 4)))


def test_a_hundred_thousand_stamps_at_once() -> None:
    """How fast is measured by bench/synchronizer.py; looked for one by one in the whole track they would take
    minutes.
    """
    track = random_trajectory(T0 + np.arange(100_000) * 10_000_000)
    asked = track.stamps_ns + 3_000_000
    at = track.interpolate(asked, max_gap_ns=20_000_000)
    assert at.valid.sum() == 99_999
