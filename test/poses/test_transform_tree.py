"""Poses and whole tracks through TF, live and recorded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.poses.transforms import LIVE_NS, TransformTree
from pose2rgbd_ros.streams.samples import PoseSample

MS = 1_000_000
T0 = 1_700_000_000_000 * MS
GAP_NS = 500 * MS
UP = np.array([0.0, 0, 0, 1])


def live() -> TransformTree:
    return TransformTree(GAP_NS, keep_ns=LIVE_NS)


def recorded() -> TransformTree:
    return TransformTree(GAP_NS)


def sample(stamp_ns: int, parent: str, child: str, T: np.ndarray) -> PoseSample:
    return PoseSample(stamp_ns, parent, child, *se3.split(T))


def at_ms(ms: int, parent: str, child: str, T: np.ndarray) -> PoseSample:
    return sample(T0 + ms * MS, parent, child, T)


def random_transforms(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return se3.make(rng.normal(size=(n, 3)), rng.normal(size=(n, 4)))


def moving(tree: TransformTree, parent: str, child: str, stamps_ns: np.ndarray, T: np.ndarray) -> None:
    for stamp, transform in zip(stamps_ns.tolist(), T, strict=True):
        tree.add(sample(stamp, parent, child, transform))


@settings(max_examples=30)
def explained(tree: TransformTree, target: str, source: str) -> str:
    """Why there is no way from one frame to the other; "" when there is one."""
    try:
        tree.steps(target, source)
    except UserError as error:
        return str(error)
    return ""


@given(st.integers(0, 1000))
def test_a_chain_of_static_and_moving_transforms_is_their_product(seed: int) -> None:
    stamps_ns = T0 + np.arange(5) * 10_000_000
    T_odom_base = random_transforms(5, seed)
    T_map_odom, T_base_mount, T_cam_mount = random_transforms(3, seed + 1)
    tree = TransformTree()
    tree.add(sample(0, "map", "odom", T_map_odom), static=True)
    tree.add(sample(0, "base", "mount", T_base_mount), static=True)
    tree.add(sample(0, "cam", "mount", T_cam_mount), static=True)  # walked against its direction
    moving(tree, "odom", "base", stamps_ns, T_odom_base)
    track = tree.trajectory("map", "cam")
    np.testing.assert_array_equal(track.stamps_ns, stamps_ns)
    np.testing.assert_allclose(track.T, T_map_odom @ T_odom_base @ T_base_mount @ np.linalg.inv(T_cam_mount), atol=1e-9)
    backwards = tree.trajectory("cam", "map")
    np.testing.assert_allclose(backwards.T, np.linalg.inv(track.T), atol=1e-9)
    np.testing.assert_allclose(
        tree.static_transform("base", "cam"), T_base_mount @ np.linalg.inv(T_cam_mount), atol=1e-9
    )


def test_two_moving_transforms_are_sampled_at_the_stamps_of_both() -> None:
    tree = TransformTree()
    for stamp, x in ((0, 0.0), (100, 1.0), (200, 2.0)):  # slow
        tree.add(sample(T0 + stamp, "map", "odom", se3.make([x, 0, 0], UP)))
    for stamp in (-50, 50, 90, 150, 250):
        tree.add(sample(T0 + stamp, "odom", "base", se3.make([0, stamp / 100, 0], UP)))
    track = tree.trajectory("map", "base")
    np.testing.assert_array_equal(track.stamps_ns - T0, [0, 50, 90, 100, 150, 200])
    np.testing.assert_allclose(track.position_m[:, 0], [0, 0.5, 0.9, 1, 1.5, 2])
    np.testing.assert_allclose(track.position_m[:, 1], [0, 0.5, 0.9, 1, 1.5, 2])


def test_a_silence_of_one_transform_is_not_papered_over() -> None:
    tree = TransformTree()
    for stamp in (0, 10, 1000, 1010):
        tree.add(sample(T0 + stamp, "map", "odom", np.eye(4)))
    moving(tree, "odom", "base", T0 + np.arange(0, 1011, 5), random_transforms(203, 0))
    assert len(tree.trajectory("map", "base")) == 203
    quiet = tree.trajectory("map", "base", max_gap_ns=100)
    np.testing.assert_array_equal(quiet.stamps_ns - T0, [0, 5, 10, 1000, 1005, 1010])
    assert quiet.interpolate([T0 + 500], max_gap_ns=100).reason == ["pose_gap"]


def test_moving_transforms_without_common_time_are_named() -> None:
    tree = TransformTree()
    tree.add(sample(10, "map", "odom", np.eye(4)))
    tree.add(sample(20, "odom", "base", np.eye(4)))
    with pytest.raises(UserError, match="'map' and 'base' have no time in common: one begins at 20 ns"):
        tree.trajectory("map", "base")


def test_unknown_frames_are_answered_with_the_known_ones() -> None:
    tree = TransformTree()
    tree.add(sample(1, "/map", "/base", np.eye(4)))  # ROS 1 spelling
    assert tree.frames() == ["base", "map"]
    assert len(tree.trajectory("map", "/base")) == 1
    with pytest.raises(UserError, match="'camera'; known frames: base, map"):
        tree.trajectory("map", "camera")
    with pytest.raises(UserError, match="known frames: none"):
        TransformTree().trajectory("map", "camera")


def test_two_trees_are_not_connected() -> None:
    tree = TransformTree()
    tree.add(sample(1, "map", "base", np.eye(4)))
    tree.add(sample(1, "lidar", "imu", np.eye(4)), static=True)
    with pytest.raises(UserError, match="no transforms connect 'imu' to 'map'; frames connected to it: base, map"):
        tree.trajectory("map", "imu")


def test_static_only_is_no_trajectory_but_a_transform() -> None:
    tree = TransformTree()
    T = random_transforms(1, 3)[0]
    tree.add(sample(1, "base", "cam", T), static=True)
    np.testing.assert_allclose(tree.static_transform("base", "cam"), T, atol=1e-12)
    np.testing.assert_array_equal(tree.static_transform("base", "base"), np.eye(4))
    with pytest.raises(UserError, match="nothing moves"):
        tree.trajectory("base", "cam")
    tree.add(sample(1, "map", "base", T))
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
        tree.add(PoseSample(stamp, "map", "base", position, quat))
    np.testing.assert_array_equal(tree.trajectory("map", "base").stamps_ns, [0, 10, 20])
    assert tree.problems() == {"map -> base": {"non_finite_pose": 2, "out_of_order": 1, "duplicate_stamp": 1}}


def test_only_bad_messages_name_their_frames() -> None:
    tree = TransformTree()
    tree.add(PoseSample(5, "map", "base", np.full(3, np.nan), UP))
    with pytest.raises(UserError, match=r"'base' in 'map'.*no usable pose"):
        tree.trajectory("map", "base")
    assert tree.problems() == {"map -> base": {"non_finite_pose": 1}}
    tree.add(PoseSample(5, "base", "cam", np.zeros(3), np.zeros(4)), static=True)
    with pytest.raises(UserError, match=r"'cam' in 'base'.*zero or not finite"):
        tree.static_transform("base", "cam")


@settings(max_examples=30)
@given(st.integers(0, 1000))
def test_live_and_recorded_give_the_same_poses_and_tracks(seed: int) -> None:
    trees = live(), recorded()
    T_map_odom, T_base_mount, T_cam_mount = random_transforms(3, seed)
    fixed = [("map", "odom", T_map_odom), ("base", "mount", T_base_mount), ("cam", "mount", T_cam_mount)]
    for tree in trees:
        for edge in fixed:
            tree.add(at_ms(0, *edge), static=True)
        for ms, T in zip(range(0, 500, 50), random_transforms(10, seed + 1), strict=True):
            tree.add(at_ms(ms, "odom", "base", T))
    track = trees[1].trajectory("map", "cam")
    for tree in trees:
        source = tree.source("map", "/cam")
        np.testing.assert_allclose(tree.trajectory("map", "cam").T, track.T, atol=1e-12)
        for stamp, T in zip(track.stamps_ns.tolist(), track.T, strict=True):
            np.testing.assert_allclose(source.pose_at(stamp).T, T, atol=1e-12)
        between = source.pose_at(T0 + 123 * MS).T
        np.testing.assert_allclose(between, trees[0].source("map", "cam").pose_at(T0 + 123 * MS).T, atol=1e-12)
        back = tree.source("cam", "map").pose_at(T0 + 123 * MS).T
        np.testing.assert_allclose(back @ between, np.eye(4), atol=1e-12)
        fixed_only = tree.source("base", "cam").pose_at(0)
        np.testing.assert_allclose(fixed_only.T, tree.static_transform("base", "cam"), atol=1e-12)
        assert not fixed_only.wait


@pytest.mark.parametrize("make", [live, recorded])
def test_each_moving_transform_is_interpolated_by_itself(make: Callable[[], TransformTree]) -> None:
    tree = make()
    for ms in (0, 200):
        tree.add(at_ms(ms, "map", "odom", se3.make([ms, 0, 0], UP)))
    for ms in (-20, 130):
        tree.add(at_ms(ms, "odom", "base", se3.make([0, ms, 0], UP)))
    at = tree.source("map", "base").pose_at(T0 + 100 * MS)
    np.testing.assert_allclose(at.T[:2, 3], [100, 100])
    at = tree.source("map", "base").pose_at(T0 + 150 * MS)  # odom -> base may still come, live
    assert (at.T, at.reason, at.wait) == (None, "after_last_pose", make is live)
    at = tree.source("map", "base").pose_at(T0 - 10 * MS)
    assert (at.T, at.reason, at.wait) == (None, "before_first_pose", False)


@pytest.mark.parametrize("make", [live, recorded])
def test_frames_that_are_not_known_yet_are_named(make: Callable[[], TransformTree]) -> None:
    tree = make()
    source = tree.source("map", "cam")
    assert (source.pose_at(T0).reason, source.pose_at(T0).wait) == ("no_transform", make is live)
    assert explained(tree, "map", "cam") == "no transform mentions frame 'map'; known frames: none"
    tree.add(at_ms(0, "map", "base", np.eye(4)))
    tree.add(at_ms(0, "mount", "cam", np.eye(4)), static=True)
    assert source.pose_at(T0).reason == "no_transform"
    why = "no transforms connect 'cam' to 'map'; frames connected to it: base, map"
    assert why in explained(tree, "map", "cam")
    tree.add(at_ms(0, "base", "mount", np.eye(4)), static=True)
    assert source.pose_at(T0).T is not None
    assert explained(tree, "map", "cam") == ""
    assert tree.frames() == ["base", "cam", "map", "mount"]
    assert tree.moving_in_use() == {("map", "base")}


@pytest.mark.parametrize("make", [live, recorded])
def test_a_static_transform_may_be_corrected_and_a_moving_one_goes_before_it(make: Callable[[], TransformTree]) -> None:
    tree = make()
    T = random_transforms(3, 0)
    for i in range(2):
        tree.add(at_ms(0, "base", "cam", T[i]), static=True)
        np.testing.assert_allclose(tree.source("base", "cam").pose_at(T0).T, T[i], atol=1e-12)
    tree.add(PoseSample(T0, "base", "cam", np.full(3, np.nan), UP), static=True)
    np.testing.assert_allclose(tree.static_transform("base", "cam"), T[1], atol=1e-12)
    tree.add(at_ms(0, "base", "cam", T[2]))
    np.testing.assert_allclose(tree.source("base", "cam").pose_at(T0).T, T[2], atol=1e-12)
    assert tree.static_transform("base", "cam") is None


@pytest.mark.parametrize("make", [live, recorded])
def test_bad_transforms_are_counted_and_named_where_they_are_missing(make: Callable[[], TransformTree]) -> None:
    tree = make()
    nan = np.full(3, np.nan)
    tree.add(PoseSample(T0, "map", "base", nan, UP))
    tree.add(PoseSample(T0, "base", "cam", nan, UP), static=True)
    tree.add(PoseSample(T0, "base", "cam", np.zeros(3), np.zeros(4)), static=True)
    tree.add(PoseSample(T0, "base", "", np.zeros(3), UP))
    tree.add(PoseSample(T0, "base", "/base", np.zeros(3), UP))
    assert tree.problems() == {"TF": {"non_finite_pose": 2, "bad_frames": 2}, "map -> base": {"non_finite_pose": 1}}
    assert tree.source("map", "cam").pose_at(T0).reason == "no_transform"
    assert tree.source("map", "base").pose_at(T0).reason == "no_pose"
    assert "the static transform of 'cam' in 'base': " in explained(tree, "map", "cam")
    tree.add(at_ms(0, "base", "cam", np.eye(4)), static=True)
    assert explained(tree, "map", "cam") == ""
    assert "static" not in explained(tree, "map", "gimbal"), "it has come"


def test_time_that_jumps_back_leaves_static_transforms() -> None:
    for forget in (lambda tree: tree.clear(), lambda tree: tree.source("map", "cam").jumped_back(T0)):
        tree = live()
        tree.add(at_ms(5000, "map", "base", np.eye(4)))
        tree.add(at_ms(0, "base", "cam", np.eye(4)), static=True)
        forget(tree)
        assert tree.source("map", "cam").pose_at(T0).reason == "no_pose"
        assert tree.source("base", "cam").pose_at(T0).T is not None


def test_a_recording_holds_for_images_of_before_a_jump() -> None:
    tree = recorded()
    tree.add(at_ms(5000, "map", "base", np.eye(4)))
    tree.jumped_back(T0)
    assert tree.source("map", "base").pose_at(T0 + 5000 * MS).T is not None


def test_frames_without_end_do_not_fill_the_memory() -> None:
    kept, tree = recorded(), live()
    source = tree.source("map", "base")
    for i in range(1200):
        for each in (kept, tree):
            each.add(at_ms(i, "map", f"detection_{i}", np.eye(4)))
            each.add(at_ms(i, "map", "base", np.eye(4)))
    assert len(tree.frames()) <= 1001
    assert source.pose_at(T0 + 1199 * MS).T is not None
    assert tree.source("map", "detection_5").pose_at(T0).reason == "no_transform"
    assert len(kept.frames()) == 1202
