"""Live poses: the numbers of recorded ones, patience for what may still come, bounded memory."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.poses import sources
from pose2rgbd_ros.poses.sources import PoseBuffer
from pose2rgbd_ros.streams.samples import PoseSample
from pose2rgbd_ros.streams.synchronizer import RecordedPoses

MS = 1_000_000
T0 = 1_700_000_000_000 * MS
GAP_NS = 500 * MS
methods = st.sampled_from(["linear", "cubic"])


def random_poses(stamps_ms: list[int], seed: int = 0) -> list[PoseSample]:
    rng = np.random.default_rng(seed)
    return [
        PoseSample(T0 + ms * MS, "map", "base", rng.normal(size=3) * 50, rng.normal(size=4) * 3) for ms in stamps_ms
    ]


def filled(poses: list[PoseSample], method: Any = "linear", **options: int) -> PoseBuffer:
    buffer = PoseBuffer(GAP_NS, method, **options)
    for pose in poses:
        buffer.add(pose)
    return buffer


def recorded(poses: list[PoseSample], method: Any) -> tuple[RecordedPoses, dict[str, int]]:
    columns = ([p.stamp_ns for p in poses], [p.position_m for p in poses], [p.quat_xyzw for p in poses])
    track, problems = Trajectory.from_unsorted(*columns)
    return RecordedPoses(track, GAP_NS, method), problems


@settings(max_examples=60)
@given(st.lists(st.integers(0, 999), min_size=1, max_size=30), st.lists(st.integers(-5, 1005)), methods)
def test_the_numbers_are_those_of_a_recording_bit_for_bit(
    stamps_ms: list[int], asked_ms: list[int], method: Any
) -> None:
    poses = random_poses(stamps_ms)
    live, (offline, problems) = filled(poses, method), recorded(poses, method)
    assert dict(live.problems) == problems  # out of order and twice as they are
    for ms in [*asked_ms, *stamps_ms]:
        a, b = live.pose_at(T0 + ms * MS), offline.pose_at(T0 + ms * MS)
        assert a.reason == b.reason
        assert (a.T is None) == (b.T is None)
        if a.T is not None and b.T is not None:
            np.testing.assert_array_equal(a.T, b.T)
        assert not b.wait
        if ms > max(stamps_ms):
            assert a.wait


def test_what_may_still_come_is_waited_for() -> None:
    buffer = PoseBuffer(GAP_NS)
    assert (buffer.pose_at(T0).reason, buffer.pose_at(T0).wait) == ("no_pose", True)
    for pose in random_poses([0, 100]):
        buffer.add(pose)
    assert (buffer.pose_at(T0 + 101 * MS).reason, buffer.pose_at(T0 + 101 * MS).wait) == ("after_last_pose", True)
    assert not buffer.pose_at(T0 + 50 * MS).wait
    assert (buffer.pose_at(T0 - 1).reason, buffer.pose_at(T0 - 1).wait) == ("before_first_pose", False)


def test_cubic_waits_only_for_a_neighbour_that_counts() -> None:
    assert filled(random_poses([0, 100, 200]), "cubic").pose_at(T0 + 150 * MS).wait
    assert filled(random_poses([0, 100, 200]), "cubic").pose_at(T0 + 150 * MS).T is not None
    assert not filled(random_poses([0, 100, 200, 300]), "cubic").pose_at(T0 + 150 * MS).wait
    assert not filled(random_poses([0, 100]), "cubic").pose_at(T0 + 50 * MS).wait  # none before: linear anyway
    assert not filled(random_poses([0, 700, 900]), "cubic").pose_at(T0 + 800 * MS).wait  # the one before is too far
    assert not filled(random_poses([0, 100, 200]), "cubic").pose_at(T0 + 200 * MS).wait  # a pose itself


def test_bad_poses_are_counted_and_left_out() -> None:
    good, nan, zero = random_poses([0, 10, 20])
    nan = PoseSample(nan.stamp_ns, "map", "base", np.array([0, np.nan, 0]), nan.quat_xyzw)
    zero = PoseSample(zero.stamp_ns, "map", "base", zero.position_m, np.zeros(4))
    buffer = filled([good, nan, zero, good])
    assert buffer.problems == {"non_finite_pose": 2, "duplicate_stamp": 1}
    assert len(buffer) == 1


def test_only_the_last_while_is_kept() -> None:
    buffer = filled(random_poses(list(range(0, 60_000, 20))), keep_ns=2_000 * MS)
    assert 100 <= len(buffer) <= 130
    assert buffer.pose_at(T0 + 58_500 * MS).T is not None
    assert buffer.pose_at(T0 + 40_000 * MS).reason == "before_first_pose"


def test_poses_without_end_at_one_time_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_MOST", 1000)
    pose = random_poses([0])[0]
    buffer = PoseBuffer(GAP_NS)
    for i in range(5000):
        buffer.add(PoseSample(T0 + i, "map", "base", pose.position_m, pose.quat_xyzw))
    assert len(buffer) <= 1000
    assert buffer.newest_ns == T0 + 4999


def test_a_straggler_is_left_out_and_a_jump_begins_anew() -> None:
    buffer = filled(random_poses([*range(5000, 6000, 10)]))
    buffer.add(random_poses([3000])[0])
    assert buffer.problems == {"too_old": 1}
    assert buffer.pose_at(T0 + 5500 * MS).T is not None
    for pose in random_poses([6000, 3010, 6010, 2900]):  # two senders of different clocks: the first goes on
        buffer.add(pose)
    assert buffer.problems == {"too_old": 3}
    assert buffer.newest_ns == T0 + 6010 * MS
    buffer.add(random_poses([3020])[0])
    assert buffer.problems == {"too_old": 3, "time_jump": 1}
    assert len(buffer) == 2
    assert buffer.pose_at(T0 + 2950 * MS).T is not None
    assert buffer.pose_at(T0 + 5500 * MS).wait


def test_a_slow_sender_is_followed_after_a_jump_too() -> None:
    buffer = filled(random_poses([60_000, 62_000, 64_000, 0, 2_000]))
    assert len(buffer) == 2
    assert buffer.newest_ns == T0 + 2_000 * MS


def test_told_of_a_jump_it_forgets_what_is_newer() -> None:
    buffer = filled(random_poses([5000, 5010]))
    buffer.jumped_back(T0 + 5020 * MS)  # these may be of the new time already
    assert len(buffer) == 2
    buffer.jumped_back(T0 + 3000 * MS)
    assert len(buffer) == 0
    assert buffer.pose_at(T0 + 5005 * MS).wait


def test_clear() -> None:
    buffer = filled(random_poses([0, 10]))
    buffer.clear()
    assert (len(buffer), buffer.newest_ns, buffer.pose_at(T0).reason) == (0, None, "no_pose")


@pytest.mark.parametrize("method", ["linear", "cubic"])
def test_readers_see_whole_poses_while_others_write(method: Any) -> None:
    buffer = PoseBuffer(GAP_NS, method, keep_ns=1_000 * MS)
    up, wrong = np.array([0.0, 0, 0, 1]), []
    done = threading.Event()

    def write(offset: int) -> None:
        for i in range(3000):
            ms = 10 * i + offset
            buffer.add(PoseSample(T0 + ms * MS, "map", "base", np.array([ms, -ms, 1.0]), up))

    def read() -> None:
        while not done.is_set():
            newest_ns = buffer.newest_ns
            if newest_ns is None:
                continue
            answer = buffer.pose_at(newest_ns - 7 * MS)
            if answer.T is not None and abs(answer.T[0, 3] - (newest_ns - 7 * MS - T0) / MS) > 1e-6:
                wrong.append(answer.T)

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(offset,)) for offset in (0, 5)]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert wrong == []


def test_stragglers_that_do_not_go_on_from_each_other_are_no_jump() -> None:
    """Old poses one after the other, each older than the one before it, or of the same stamp."""
    for late in ([3_000, 2_900, 2_800], [3_000, 3_000]):
        buffer = filled(random_poses([4_900, 5_000, *late, 5_100]))
        assert buffer.problems == {"too_old": len(late)}
        assert len(buffer) == 3
        assert buffer.newest_ns == T0 + 5_100 * MS


def test_a_straggler_then_one_in_time_then_a_straggler_is_no_jump() -> None:
    for between in (5_100, 4_950):  # newer than all, or into place
        buffer = filled(random_poses([4_900, 5_000, 3_000, between, 3_100]))
        assert buffer.problems["too_old"] == 2
        assert buffer.problems["time_jump"] == 0


def test_a_second_back_is_out_of_order_and_more_is_too_old() -> None:
    assert filled(random_poses([5_000, 4_000])).problems == {"out_of_order": 1}
    assert filled(random_poses([5_000, 3_999])).problems == {"too_old": 1}


def test_after_a_jump_both_poses_that_showed_it_are_known() -> None:
    poses = random_poses([4_900, 5_000, 1_000, 1_100])
    buffer = filled(poses)
    assert len(buffer) == 2
    np.testing.assert_allclose(buffer.pose_at(T0 + 1_000 * MS).T[:3, 3], poses[2].position_m)
    np.testing.assert_allclose(buffer.pose_at(T0 + 1_100 * MS).T[:3, 3], poses[3].position_m)


def test_a_pose_of_before_a_jump_does_not_answer_for_its_very_stamp() -> None:
    buffer = filled(random_poses([4_900, 5_000]))
    buffer.jumped_back(T0 + 5_001 * MS)
    assert len(buffer) == 2
    buffer.jumped_back(T0 + 5_000 * MS)
    assert len(buffer) == 0


@pytest.mark.parametrize("method", ["linear", "cubic"])
def test_a_gap_of_just_the_limit_and_a_neighbour_of_just_a_third_count(method: Any) -> None:
    poses = random_poses([0, 100, 400, 500, 1_000, 1_501])
    live, (offline, _) = filled(poses, method), recorded(poses, method)
    for ms, reason in ((250, None), (700, None), (1_200, "pose_gap")):
        a, b = live.pose_at(T0 + ms * MS), offline.pose_at(T0 + ms * MS)
        assert a.reason == b.reason == reason
        if reason is None:
            np.testing.assert_array_equal(a.T, b.T)
    straight = filled(poses, "linear").pose_at(T0 + 250 * MS).T
    assert np.allclose(live.pose_at(T0 + 250 * MS).T, straight) == (method == "linear")
