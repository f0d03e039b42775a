"""Poses through live TF."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.streams.samples import PoseSample
from pose2rgbd_ros.streams.transform_buffer import TransformBuffer
from pose2rgbd_ros.streams.transform_tree import TransformTree

MS = 1_000_000
T0 = 1_700_000_000_000 * MS
GAP_NS = 500 * MS


def sample(ms: int, parent: str, child: str, T: np.ndarray) -> PoseSample:
    return PoseSample(T0 + ms * MS, parent, child, *se3.split(T))


def random_transforms(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return se3.make(rng.normal(size=(n, 3)), rng.normal(size=(n, 4)))


@settings(max_examples=30)
@given(st.integers(0, 1000))
def test_the_pose_is_that_of_the_recorded_tree(seed: int) -> None:
    buffer, tree = TransformBuffer(GAP_NS), TransformTree()
    T_map_odom, T_base_mount, T_cam_mount = random_transforms(3, seed)
    fixed = [("map", "odom", T_map_odom), ("base", "mount", T_base_mount), ("cam", "mount", T_cam_mount)]
    moving = [
        (ms, "odom", "base", T)
        for ms, T in zip(range(0, 500, 50), random_transforms(10, seed + 1), strict=True)
    ]
    for pose, static in [
        *((sample(0, *edge), True) for edge in fixed),
        *((sample(*edge), False) for edge in moving),
    ]:
        buffer.add(pose, static)
        tree.add_pose(pose, static)
    source, track = buffer.source("map", "/cam"), tree.trajectory("map", "cam")
    for stamp, T in zip(track.stamps_ns.tolist(), track.T, strict=True):
        np.testing.assert_allclose(source.pose_at(stamp).T, T, atol=1e-12)
    back = buffer.source("cam", "map").pose_at(T0 + 123 * MS).T
    np.testing.assert_allclose(back @ source.pose_at(T0 + 123 * MS).T, np.eye(4), atol=1e-12)
    fixed_only = buffer.source("base", "cam").pose_at(0)
    np.testing.assert_allclose(fixed_only.T, tree.static_transform("base", "cam"), atol=1e-12)
    assert not fixed_only.wait


def test_each_moving_transform_is_interpolated_by_itself() -> None:
    buffer = TransformBuffer(GAP_NS)
    up = np.array([0.0, 0, 0, 1])
    for ms in (0, 200):
        buffer.add(sample(ms, "map", "odom", se3.make([ms, 0, 0], up)))
    for ms in (-20, 130):
        buffer.add(sample(ms, "odom", "base", se3.make([0, ms, 0], up)))
    at = buffer.source("map", "base").pose_at(T0 + 100 * MS)
    np.testing.assert_allclose(at.T[:2, 3], [100, 100])
    at = buffer.source("map", "base").pose_at(T0 + 150 * MS)  # odom -> base may still come
    assert (at.T, at.reason, at.wait) == (None, "after_last_pose", True)
    at = buffer.source("map", "base").pose_at(T0 - 10 * MS)
    assert (at.reason, at.wait) == ("before_first_pose", False)


def test_frames_that_are_not_known_yet_are_waited_for_and_named() -> None:
    buffer = TransformBuffer(GAP_NS)
    source = buffer.source("map", "cam")
    assert (source.pose_at(T0).reason, source.pose_at(T0).wait) == ("no_transform", True)
    assert buffer.explain("map", "cam") == "no transform mentions frame 'map'; known frames: none"
    buffer.add(sample(0, "map", "base", np.eye(4)))
    buffer.add(sample(0, "mount", "cam", np.eye(4)), static=True)
    assert source.pose_at(T0).reason == "no_transform"
    assert "no transforms connect 'cam' to 'map'; frames connected to it: base, map" in buffer.explain(
        "map", "cam"
    )
    buffer.add(sample(0, "base", "mount", np.eye(4)), static=True)
    assert source.pose_at(T0).T is not None
    assert buffer.explain("map", "cam") == ""
    assert buffer.frames() == ["base", "cam", "map", "mount"]


def test_a_static_transform_may_be_corrected_and_a_moving_one_goes_before_it() -> None:
    buffer = TransformBuffer(GAP_NS)
    T = random_transforms(3, 0)
    for i in range(2):
        buffer.add(sample(0, "base", "cam", T[i]), static=True)
        np.testing.assert_allclose(buffer.source("base", "cam").pose_at(T0).T, T[i], atol=1e-12)
    buffer.add(sample(0, "base", "cam", T[2]))
    np.testing.assert_allclose(buffer.source("base", "cam").pose_at(T0).T, T[2], atol=1e-12)


def test_bad_transforms_are_counted() -> None:
    buffer = TransformBuffer(GAP_NS)
    nan, up = np.full(3, np.nan), np.array([0.0, 0, 0, 1])
    buffer.add(PoseSample(T0, "map", "base", nan, up))
    buffer.add(PoseSample(T0, "base", "cam", nan, up), static=True)
    buffer.add(PoseSample(T0, "base", "cam", np.zeros(3), np.zeros(4)), static=True)
    buffer.add(PoseSample(T0, "base", "", np.zeros(3), up))
    buffer.add(PoseSample(T0, "base", "/base", np.zeros(3), up))
    assert buffer.problems() == {
        "": {"non_finite_pose": 2, "bad_frames": 2},
        "map -> base": {"non_finite_pose": 1},
    }
    assert buffer.source("map", "cam").pose_at(T0).reason == "no_transform"


def test_time_that_jumps_back_leaves_static_transforms() -> None:
    for forget in (lambda buffer: buffer.clear(), lambda buffer: buffer.source("map", "cam").jumped_back(T0)):
        buffer = TransformBuffer(GAP_NS)
        buffer.add(sample(5000, "map", "base", np.eye(4)))
        buffer.add(sample(0, "base", "cam", np.eye(4)), static=True)
        forget(buffer)
        assert (buffer.source("map", "cam").pose_at(T0).reason) == "no_pose"
        assert buffer.source("base", "cam").pose_at(T0).T is not None


def test_frames_without_end_do_not_fill_the_memory() -> None:
    buffer = TransformBuffer(GAP_NS)
    source = buffer.source("map", "base")
    for i in range(1200):
        buffer.add(sample(i, "map", f"detection_{i}", np.eye(4)))
        buffer.add(sample(i, "map", "base", np.eye(4)))
    assert len(buffer.frames()) <= 1001
    assert source.pose_at(T0 + 1199 * MS).T is not None
    assert buffer.source("map", "detection_5").pose_at(T0).reason == "no_transform"
