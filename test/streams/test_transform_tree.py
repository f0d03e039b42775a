"""Trajectories through recorded transforms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.streams.samples import PoseSample
from pose2rgbd_ros.streams.transform_tree import TransformTree

T0 = 1_700_000_000_000_000_000
UP = np.array([0.0, 0, 0, 1])


def random_transforms(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return se3.make(rng.normal(size=(n, 3)), rng.normal(size=(n, 4)))


def moving(tree: TransformTree, parent: str, child: str, stamps_ns: np.ndarray, T: np.ndarray) -> None:
    for stamp, transform in zip(stamps_ns.tolist(), T, strict=True):
        tree.add(stamp, parent, child, transform)


@settings(max_examples=30)
@given(st.integers(0, 1000))
def test_a_chain_of_static_and_moving_transforms_is_their_product(seed: int) -> None:
    stamps_ns = T0 + np.arange(5) * 10_000_000
    T_odom_base = random_transforms(5, seed)
    T_map_odom, T_base_mount, T_cam_mount = random_transforms(3, seed + 1)
    tree = TransformTree()
    tree.add(0, "map", "odom", T_map_odom, static=True)
    tree.add(0, "base", "mount", T_base_mount, static=True)
    tree.add(0, "cam", "mount", T_cam_mount, static=True)  # walked against its direction
    moving(tree, "odom", "base", stamps_ns, T_odom_base)
    track = tree.trajectory("map", "cam")
    np.testing.assert_array_equal(track.stamps_ns, stamps_ns)
    np.testing.assert_allclose(
        track.T, T_map_odom @ T_odom_base @ T_base_mount @ np.linalg.inv(T_cam_mount), atol=1e-9
    )
    backwards = tree.trajectory("cam", "map")
    np.testing.assert_allclose(backwards.T, np.linalg.inv(track.T), atol=1e-9)
    np.testing.assert_allclose(
        tree.static_transform("base", "cam"), T_base_mount @ np.linalg.inv(T_cam_mount), atol=1e-9
    )


def test_two_moving_transforms_are_sampled_at_the_stamps_of_both() -> None:
    tree = TransformTree()
    for stamp, x in ((0, 0.0), (100, 1.0), (200, 2.0)):  # slow
        tree.add(T0 + stamp, "map", "odom", se3.make([x, 0, 0], UP))
    for stamp in (-50, 50, 90, 150, 250):
        tree.add(T0 + stamp, "odom", "base", se3.make([0, stamp / 100, 0], UP))
    track = tree.trajectory("map", "base")
    np.testing.assert_array_equal(track.stamps_ns - T0, [0, 50, 90, 100, 150, 200])
    np.testing.assert_allclose(track.position_m[:, 0], [0, 0.5, 0.9, 1, 1.5, 2])
    np.testing.assert_allclose(track.position_m[:, 1], [0, 0.5, 0.9, 1, 1.5, 2])


def test_a_silence_of_one_transform_is_not_papered_over() -> None:
    tree = TransformTree()
    for stamp in (0, 10, 1000, 1010):
        tree.add(T0 + stamp, "map", "odom", np.eye(4))
    moving(tree, "odom", "base", T0 + np.arange(0, 1011, 5), random_transforms(203, 0))
    assert len(tree.trajectory("map", "base")) == 203
    quiet = tree.trajectory("map", "base", max_gap_ns=100)
    np.testing.assert_array_equal(quiet.stamps_ns - T0, [0, 5, 10, 1000, 1005, 1010])
    assert quiet.interpolate([T0 + 500], max_gap_ns=100).reason == ["pose_gap"]


def test_moving_transforms_without_common_time_are_named() -> None:
    tree = TransformTree()
    tree.add(10, "map", "odom", np.eye(4))
    tree.add(20, "odom", "base", np.eye(4))
    with pytest.raises(UserError, match="'map' and 'base' have no time in common: one begins at 20 ns"):
        tree.trajectory("map", "base")


def test_unknown_frames_are_answered_with_the_known_ones() -> None:
    tree = TransformTree()
    tree.add(1, "/map", "/base", np.eye(4))  # ROS 1 spelling
    assert tree.frames() == ["base", "map"]
    assert len(tree.trajectory("map", "/base")) == 1
    with pytest.raises(UserError, match="'camera'; known frames: base, map"):
        tree.trajectory("map", "camera")
    with pytest.raises(UserError, match="known frames: none"):
        TransformTree().trajectory("map", "camera")


def test_two_trees_are_not_connected() -> None:
    tree = TransformTree()
    tree.add(1, "map", "base", np.eye(4))
    tree.add(1, "lidar", "imu", np.eye(4), static=True)
    with pytest.raises(
        UserError, match="no transforms connect 'imu' to 'map'; frames connected to it: base, map"
    ):
        tree.trajectory("map", "imu")


def test_static_only_is_no_trajectory_but_a_transform() -> None:
    tree = TransformTree()
    T = random_transforms(1, 3)[0]
    tree.add(1, "base", "cam", T, static=True)
    np.testing.assert_allclose(tree.static_transform("base", "cam"), T, atol=1e-12)
    np.testing.assert_array_equal(tree.static_transform("base", "base"), np.eye(4))
    with pytest.raises(UserError, match="nothing moves"):
        tree.trajectory("base", "cam")
    tree.add(1, "map", "base", T)
    assert tree.static_transform("map", "cam") is None


def test_bad_messages_are_counted_and_left_out() -> None:
    tree = TransformTree()
    zero, nan = np.zeros(3), np.full(3, np.nan)
    for stamp, position, quat in (
        (0, zero, UP),
        (20, zero, UP),
        (10, zero, UP),
        (20, zero, UP),
        (30, nan, UP),
        (40, zero, 0 * UP),
    ):
        tree.add_pose(PoseSample(stamp, "map", "base", position, quat))
    np.testing.assert_array_equal(tree.trajectory("map", "base").stamps_ns, [0, 10, 20])
    assert tree.problems() == {"map -> base": {"non_finite_pose": 2, "out_of_order": 1, "duplicate_stamp": 1}}


def test_only_bad_messages_name_their_frames() -> None:
    tree = TransformTree()
    tree.add_pose(PoseSample(5, "map", "base", np.full(3, np.nan), UP))
    with pytest.raises(UserError, match=r"'base' in 'map'.*no usable pose"):
        tree.trajectory("map", "base")
    assert tree.problems() == {"map -> base": {"non_finite_pose": 1}}
    tree.add_pose(PoseSample(5, "base", "cam", np.zeros(3), np.zeros(4)), static=True)
    with pytest.raises(UserError, match=r"'cam' in 'base'.*zero or not finite"):
        tree.static_transform("base", "cam")


def test_a_transform_needs_two_frames() -> None:
    with pytest.raises(UserError, match="two different frames"):
        TransformTree().add(1, "map", "map", np.eye(4))
    with pytest.raises(UserError, match="two different frames"):
        TransformTree().add(1, "map", "", np.eye(4))
