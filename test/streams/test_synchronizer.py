"""What an image is matched with, how long it waits for it, and what it is told when there is none."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import numpy as np
import pytest

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.poses.sources import PoseBuffer
from pose2rgbd_ros.streams.samples import PoseSample
from pose2rgbd_ros.streams.synchronizer import (
    ChainedPoses,
    FixedPose,
    Frame,
    RecordedPoses,
    Reject,
    Settled,
    SyncConfig,
    Synchronizer,
)

MS = 1_000_000
T0 = 1_700_000_000_000 * MS
UP = np.array([0.0, 0, 0, 1])


def config(with_depth: bool = False, **changes: int) -> SyncConfig:
    """Times in ms."""
    factor = {"max_waiting": 1}
    return SyncConfig(with_depth, **{name: value * factor.get(name, MS) for name, value in changes.items()})


class Feed:
    """A synchroniser fed in ms; what it settles is kept as "stamp depth" or "stamp reason"."""

    def __init__(self, poses: Any, settings: SyncConfig) -> None:
        self.sync = Synchronizer(poses, settings)
        self.settled: list[str] = []
        self.last: list[Settled] = []

    def image(self, stamp: int, received: int | None = None) -> Feed:
        at = T0 + MS * (stamp if received is None else received)
        return self._keep(self.sync.add_image(T0 + stamp * MS, at, stamp))

    def depth(self, stamp: int, received: int | None = None) -> Feed:
        at = T0 + MS * (stamp if received is None else received)
        return self._keep(self.sync.add_depth(T0 + stamp * MS, at, stamp))

    def poll(self, now: int) -> Feed:
        return self._keep(self.sync.poll(T0 + now * MS))

    def finish(self) -> Feed:
        return self._keep(self.sync.finish())

    def _keep(self, settled: list[Any]) -> Feed:
        self.last = settled
        for it in settled:
            stamp = (it.stamp_ns - T0) // MS
            outcome = it.reason if isinstance(it, Reject) else f"{'' if it.depth is None else it.depth}"
            self.settled.append(f"{stamp} {outcome}".strip())
        assert self.sync.images == sum(self.sync.counts.values()) + self.sync.waiting
        return self


def along_x(*stamps: int) -> list[PoseSample]:
    """Poses at stamps in ms, as many metres along x."""
    return [PoseSample(T0 + ms * MS, "map", "cam", np.array([float(ms), 0, 0]), UP) for ms in stamps]


def live(*stamps: int, max_gap: int = 500, method: Any = "linear") -> PoseBuffer:
    buffer = PoseBuffer(max_gap * MS, method)
    for pose in along_x(*stamps):
        buffer.add(pose)
    return buffer


ANYWHERE = FixedPose(np.eye(4))


# Depth ----------------------------------------------------------------------------------------------------------


def test_the_nearer_of_two_depths_is_taken() -> None:
    assert Feed(ANYWHERE, config(True)).depth(90).image(100).depth(105).settled == ["100 105"]
    assert Feed(ANYWHERE, config(True)).depth(97).image(100).depth(105).settled == ["100 97"]


def test_depth_may_come_before_or_after_its_image() -> None:
    assert Feed(ANYWHERE, config(True)).depth(100).image(100).settled == ["100 100"]
    assert Feed(ANYWHERE, config(True)).image(100).depth(100, received=150).settled == ["100 100"]


def test_an_image_with_depth_before_it_waits_for_a_nearer_one() -> None:
    feed = Feed(ANYWHERE, config(True)).depth(90).image(100)
    assert feed.settled == []
    assert feed.finish().settled == ["100 90"]


def test_depth_beyond_the_tolerance_is_none() -> None:
    feed = Feed(ANYWHERE, config(True)).image(100).depth(121)
    assert feed.settled == ["100 no_depth"]
    assert feed.last[0].detail == "no depth image within 20 ms"
    assert Feed(ANYWHERE, config(True)).image(100).depth(120).settled == ["100 120"]


def test_one_depth_serves_two_images_when_it_is_slower() -> None:
    assert Feed(ANYWHERE, config(True)).image(0).depth(10).image(20).finish().settled == ["0 10", "20 10"]


def test_images_out_of_order_find_their_depth() -> None:
    feed = Feed(ANYWHERE, config(True))
    for stamp in (0, 30, 60, 90):
        feed.depth(stamp)
    assert feed.image(60).image(30).image(90).settled == ["60 60", "30 30", "90 90"]


def test_the_tolerance_may_be_nothing() -> None:
    assert Feed(ANYWHERE, config(True, depth_tolerance_ns=0)).depth(9).image(10).depth(10).settled == ["10 10"]


def test_a_silent_depth_topic_holds_nothing_up_for_long() -> None:
    feed = Feed(ANYWHERE, config(True, max_waiting=30))
    most = 0
    for i in range(200):
        feed.image(33 * i)
        most = max(most, feed.sync.waiting)
    assert most == 30
    assert set(feed.finish().sync.counts) == {"no_depth"}


# Poses ----------------------------------------------------------------------------------------------------------


def test_recorded_poses_are_not_waited_for() -> None:
    track = Trajectory([T0, T0 + 100 * MS, T0 + 900 * MS], np.zeros((3, 3)), np.tile(UP, (3, 1)))
    feed = Feed(RecordedPoses(track, 500 * MS), config())
    feed.image(-1).image(50).image(500).image(901)
    assert feed.settled == ["-1 before_first_pose", "50", "500 pose_gap", "901 after_last_pose"]


def test_an_image_waits_for_the_pose_after_it() -> None:
    buffer = live(0, 100)
    feed = Feed(buffer, config()).image(150)
    assert feed.settled == []
    for pose in along_x(200):
        buffer.add(pose)
    frame = feed.poll(201).last[0]
    assert isinstance(frame, Frame)
    assert frame.T_map_cam[0, 3] == 150.0
    assert (frame.stamp_ns, frame.received_ns, frame.image, frame.depth) == (T0 + 150 * MS, T0 + 150 * MS, 150, None)


def test_an_image_of_before_the_first_pose_is_told_at_once() -> None:
    assert Feed(live(100), config()).image(99).settled == ["99 before_first_pose"]


def test_a_cubic_pose_waits_for_one_more_neighbour_and_does_without_it_in_the_end() -> None:
    poses = live(0, 100, 200, method="cubic")
    feed = Feed(poses, config(max_wait_ns=300)).image(150)
    assert feed.poll(450).settled == []
    assert feed.poll(451).settled == ["150"]
    feed.image(160, received=500)
    for pose in along_x(300):
        poses.add(pose)
    assert feed.poll(501).settled == ["150", "160"]


def test_no_pose_in_time_is_no_pose() -> None:
    feed = Feed(live(0, 100), config(max_wait_ns=300)).image(150).image(160)
    assert feed.poll(450).settled == []
    assert feed.poll(451).settled == ["150 no_pose"]
    assert feed.last[0].detail == "no pose came in time (after_last_pose)"
    assert feed.finish().settled == ["150 no_pose", "160 after_last_pose"]


def test_too_many_waiting_images_leave_with_what_they_have() -> None:
    feed = Feed(live(0, 100), config(max_waiting=2)).image(150).image(160).image(170)
    assert feed.settled == ["150 queue_full"]
    assert feed.last[0].detail == "3 images wait (after_last_pose)"
    feed = Feed(live(0, 100), config(True, max_waiting=2)).depth(49).image(50).image(60).image(170)
    assert feed.settled == ["50 49"]


def test_the_first_reason_of_a_chain_is_given() -> None:
    gimbal = Trajectory([T0 + 20 * MS], np.zeros((1, 3)), UP[None])
    poses = ChainedPoses(live(0, 10, 20), mount=RecordedPoses(gimbal, 500 * MS))
    assert Feed(poses, config()).image(10).settled == ["10 mount_before_first_pose"]


def test_a_pose_is_looked_up_at_the_offset_time() -> None:
    feed = Feed(live(0, 1000, max_gap=1000), config(image_time_offset_ns=300))
    frame = feed.image(100).last[0]
    assert (frame.stamp_ns, frame.T_map_cam[0, 3]) == (T0 + 100 * MS, 400.0)
    feed.sync.image_time_offset_ns = -50 * MS  # an estimate arrived
    assert feed.image(200).last[0].T_map_cam[0, 3] == 150.0


def test_frames_leave_in_the_order_of_their_images() -> None:
    buffer = live(0, 100)
    feed = Feed(buffer, config()).image(150).image(50).image(20)
    assert feed.settled == []
    for pose in along_x(200):
        buffer.add(pose)
    assert feed.poll(200).settled == ["150", "50", "20"]


# Faulty stamps --------------------------------------------------------------------------------------------------


def test_a_second_image_of_one_stamp_is_rejected() -> None:
    assert Feed(ANYWHERE, config()).image(1).image(1).image(2).settled == ["1", "1 duplicate_stamp", "2"]


def test_the_stamps_remembered_are_bounded() -> None:
    feed = Feed(ANYWHERE, config())
    for i in range(5000):
        feed.image(i)
    assert len(feed.sync._known_stamps) < 5000
    assert feed.image(4990).settled[-1] == "4990 duplicate_stamp"


def test_after_a_jump_back_no_pose_of_before_is_taken() -> None:
    buffer = live(*range(0, 10_001, 10))
    feed = Feed(buffer, config()).image(9_995).image(10_005)
    assert feed.settled == ["9995"]
    feed.image(7_000, received=10_040)  # the clock was set back by 3 s; the poses of that time are of the first time
    assert feed.settled == ["9995", "10005 time_jump"]
    for pose in along_x(6_990, 7_010):
        buffer.add(PoseSample(pose.stamp_ns, "map", "cam", pose.position_m + 5000, UP))
    frame = feed.poll(10_060).last[0]
    assert frame.T_map_cam[0, 3] == 12_000.0


def test_poses_that_jump_first_do_not_answer_for_the_time_before() -> None:
    buffer = live(*range(0, 10_001, 10))
    feed = Feed(buffer, config()).image(10_005)
    for pose in along_x(*range(7_000, 7_060, 10)):
        buffer.add(pose)
    assert feed.poll(10_050).settled == []
    assert feed.image(7_055, received=10_051).settled == ["10005 time_jump"]
    for pose in along_x(7_060, 7_070):
        buffer.add(pose)
    assert feed.poll(10_070).image(7_065, received=10_071).settled[-1] == "7065"


def test_depth_of_before_a_jump_is_not_taken() -> None:
    feed = Feed(ANYWHERE, config(True)).depth(5000).image(5000).image(5030)
    feed.depth(1000, received=5035)
    assert feed.settled == ["5000 5000", "5030 time_jump"]
    assert feed.image(1000, received=5036).image(1030, received=5070).depth(1030, received=5071).settled[2:] == [
        "1000 1000",
        "1030 1030",
    ]


def test_one_wild_stamp_does_not_stop_what_follows() -> None:
    for wild in (-3_600_000, 3_600_000):
        buffer = live()
        feed = Feed(buffer, config(True))
        for i in range(100):
            bad = i == 40
            for pose in along_x(wild + 10 * i if bad else 10 * i):
                buffer.add(pose)
            feed.depth(wild + 10 * i if i == 50 else 10 * i, received=10 * i)
            feed.image(wild + 10 * i if i == 60 else 10 * i, received=10 * i)
        feed.finish()
        assert feed.sync.counts["frame"] >= 90, (wild, feed.sync.counts)
        for settled in feed.settled[-20:]:
            stamp, depth = settled.split()
            assert stamp == depth or settled == "990 after_last_pose"


def test_a_clock_of_reception_set_back_makes_nobody_wait_for_ever() -> None:
    feed = Feed(live(), config(max_wait_ns=300)).image(0, received=1_000_000).image(10, received=10)
    assert feed.poll(300).settled == []
    assert feed.poll(311).settled == ["0 no_pose", "10 no_pose"]


def test_clear_rejects_what_waits_and_forgets() -> None:
    feed = Feed(live(), config(True)).depth(0).image(1).image(2)
    assert [reject.reason for reject in feed.sync.clear()] == ["time_jump", "time_jump"]
    assert (feed.sync.waiting, feed.sync.counts) == (0, Counter({"time_jump": 2}))
    assert feed.image(1).finish().settled == ["1 no_pose"]  # no duplicate; and the depth at 0 is forgotten


# Threads --------------------------------------------------------------------------------------------------------


def test_four_threads_at_once_lose_nothing() -> None:
    buffer = PoseBuffer(500 * MS)
    sync = Synchronizer(buffer, config(True, max_waiting=1000))
    n, settled = 1500, []
    done = threading.Event()

    def images() -> None:
        for i in range(n):
            settled.extend(sync.add_image(T0 + i * 10 * MS, T0, i))

    def depths() -> None:
        for i in range(n):
            settled.extend(sync.add_depth(T0 + i * 10 * MS, T0, i))

    def poses() -> None:
        for pose in along_x(*range(0, n * 10, 5)):
            buffer.add(pose)

    def polls() -> None:
        while not done.is_set():
            settled.extend(sync.poll(T0))

    poller = threading.Thread(target=polls)
    threads = [threading.Thread(target=work) for work in (images, depths, poses)]
    for thread in (poller, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    poller.join()
    settled += sync.finish()
    assert len({it.stamp_ns for it in settled}) == len(settled) == sync.images == n
    assert sum(sync.counts.values()) == n
    assert sync.counts["frame"] > 0
    for frame in settled:
        if isinstance(frame, Frame):
            assert frame.T_map_cam[0, 3] == pytest.approx((frame.stamp_ns - T0) / MS)
            assert abs(frame.depth * 10 - (frame.stamp_ns - T0) // MS) <= 20
    assert {it.reason for it in settled if isinstance(it, Reject)} <= {"no_depth", "queue_full", "before_first_pose"}


def test_a_pose_source_sees_the_matrix_untouched() -> None:
    T = se3.make([1.0, 2, 3], UP)
    frame = Feed(FixedPose(T), config()).image(0).last[0]
    np.testing.assert_array_equal(frame.T_map_cam, T)


# The offset of the image stamps, on every way out ------------------------------------------------------------------


def x_of(feed: Feed) -> list[float]:
    """Where along x (m, = ms of the pose) the frames settled last are."""
    return [round(float(it.T_map_cam[0, 3]), 6) for it in feed.last if isinstance(it, Frame)]


@pytest.mark.parametrize("offset", [40, -40])
@pytest.mark.parametrize("way", ["outcome", "queue full", "overdue", "finish", "jump of images", "jump of depth"])
def test_the_pose_is_that_of_the_stamp_plus_the_offset(way: str, offset: int) -> None:
    settings = config(True, image_time_offset_ns=offset, max_wait_ns=100, max_waiting=2)
    feed = Feed(live(*range(0, 10_000, 50)), settings)
    feed.depth(5_990).image(6_000)  # with depth before it, it waits for a nearer one
    assert feed.settled == []
    if way == "outcome":
        feed.depth(6_001)
    elif way == "queue full":
        feed.image(6_010).image(6_020)
    elif way == "overdue":
        feed.poll(6_101)
    elif way == "finish":
        feed.finish()
    elif way == "jump of images":
        feed.image(2_000, received=6_010)
    else:
        feed.depth(2_000, received=6_010)
    assert x_of(feed)[:1] == [6_000 + offset]


@pytest.mark.parametrize(("offset", "kept"), [(3_000, True), (-3_000, False)])
def test_after_a_jump_poses_are_kept_by_the_stamp_plus_the_offset(offset: int, kept: bool) -> None:
    """Poses up to 10 s; images jump from 12 s to 8 s. By their offset these are of 11 s, or of 5 s."""
    poses = live(*range(4_000, 10_001, 100), max_gap=2_000)
    feed = Feed(poses, config(image_time_offset_ns=offset, max_wait_ns=60_000))
    feed.image(12_000).image(8_000, received=12_010)
    assert len(poses) == (61 if kept else 0)
    if kept:
        poses.add(along_x(11_100)[0])
        assert x_of(feed.poll(12_020)) == [11_000]


def test_depth_of_before_a_jump_stays_where_its_clock_was_not_set() -> None:
    """Only the images' clock was set back, by 4 s, to that of the depth."""
    feed = Feed(ANYWHERE, config(True)).image(12_000).depth(8_000, received=12_001)
    feed.image(8_000, received=12_010).depth(8_100, received=12_020)
    assert feed.settled[-1] == "8000 8000"
    early = Feed(ANYWHERE, config(True)).depth(9_000).depth(9_100).image(12_000)
    early.image(9_100, received=12_010)
    assert early.settled[-1] == "9100 9100"


def test_a_second_back_and_no_less_is_a_jump() -> None:
    edge = Feed(live(*range(0, 2_000, 100)), config()).image(1_500).image(500, received=1_510)
    assert edge.settled == ["1500", "500"]
    assert edge.sync.counts["frame"] == 2
    assert len(live(0)) == 1
    poses = live(*range(0, 2_000, 100))
    Feed(poses, config()).image(1_500).image(499, received=1_510)
    assert len(poses) == 0, "the poses of before must not answer"


def test_stamps_of_before_a_jump_are_no_duplicates_after_it() -> None:
    feed = Feed(ANYWHERE, config()).image(100).image(5_000).image(100, received=5_010)
    assert feed.settled == ["100", "5000", "100"]


def test_of_depths_as_near_the_earlier_and_at_the_tolerance_still_one() -> None:
    assert Feed(ANYWHERE, config(True)).depth(95).image(100).depth(105).settled == ["100 95"]
    assert Feed(ANYWHERE, config(True)).depth(80).image(100).depth(150).settled == ["100 80"]
    assert Feed(ANYWHERE, config(True)).depth(79).image(100).depth(150).settled == ["100 no_depth"]


def test_depth_of_around_the_stamp_after_a_jump_stays() -> None:
    """The images' clock alone was set, to that of the depth, of which some lies up to a second ahead."""
    feed = Feed(ANYWHERE, config(True)).depth(8_940).depth(9_100).image(12_000)
    assert feed.image(8_945, received=12_010).settled[-1] == "8945 8940"


def test_a_jump_is_measured_from_the_newest_image_not_the_last() -> None:
    poses = live(*range(3_000, 5_001, 100))
    Feed(poses, config()).image(5_000).image(4_500, received=5_010).image(3_900, received=5_020)
    assert len(poses) == 0
