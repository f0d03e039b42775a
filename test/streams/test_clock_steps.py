"""Clocks that are set while messages arrive: what a gate lets through has the pose of its own time, and nothing else
is lost.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pose2rgbd_ros.poses.sources import PoseBuffer
from pose2rgbd_ros.streams.clock_steps import STRAY, ClockGate, Passed
from pose2rgbd_ros.streams.samples import PoseSample
from pose2rgbd_ros.streams.synchronizer import TIME_JUMP, Frame, Settled, SyncConfig, Synchronizer

S = 1_000_000_000
T0 = 1_700_000_000 * S
UP = np.array([0.0, 0, 0, 1])
IMAGE, POSE = "/image", "/odom"
BEGUN_S = 1.0  # both topics are there for so long before a clock is set


@dataclass(frozen=True)
class Live:
    """Two topics live. The clock of some was set by `by_s` at `at_s`; reception stalls for a while."""

    by_s: float = 0.0
    at_s: float = 2.0
    topics: tuple[str, ...] = (IMAGE, POSE)
    image_hz: float = 10.0
    pose_hz: float = 30.0
    late_s: tuple[float, float] = (0.02, 0.005)
    jitter_s: float = 0.0
    stall: tuple[float, float] = (0.0, 0.0)  # when, and for how long
    drops: float = 0.0
    poses_from_s: float = 0.0
    length_s: float = 5.0
    seed: int = 0

    def messages(self) -> list[tuple[float, str, float, int]]:
        """(received, topic, true time, header stamp) as they arrive."""
        rng, found = np.random.default_rng(self.seed), []
        for topic, hz, late_s in zip((IMAGE, POSE), (self.image_hz, self.pose_hz), self.late_s, strict=True):
            newest_s = 0.0
            for true_s in np.arange(0.31 / hz, self.length_s, 1 / hz).tolist():
                received_s = max(newest_s, true_s + late_s + self.jitter_s * rng.random())
                if self.stall[0] <= received_s < sum(self.stall):
                    received_s = sum(self.stall)
                newest_s = received_s = received_s + 1e-6
                set_s = self.by_s if topic in self.topics and true_s >= self.at_s else 0.0
                if topic == POSE and true_s < self.poses_from_s:
                    continue
                if true_s < BEGUN_S or rng.random() >= self.drops:
                    found.append((received_s, topic, true_s, T0 + round((true_s + set_s) * S)))
        return sorted(found)


def record(messages: list[tuple[float, str, float, int]]) -> tuple[list[Settled], Counter[str]]:
    """What becomes of the images, and why those are refused that never reach the synchroniser; as the recorder does
    it.
    """
    gate, poses = ClockGate(), PoseBuffer(S // 2)
    sync = Synchronizer(poses, SyncConfig(with_depth=False))
    settled: list[Settled] = []
    refused: Counter[str] = Counter()

    def use(passed: Passed) -> None:
        topic, received_ns, true_s, stamp_ns = passed.item
        if passed.after_step:
            settled.extend(sync.clock_set())
            if topic == POSE:
                poses.clear()
        if topic == POSE:
            if not passed.stray:
                poses.add(PoseSample(stamp_ns, "map", "body", np.array([true_s, 0, 0]), UP))
        elif why := STRAY if passed.stray else gate.disagreement(IMAGE, [POSE]):
            refused[why] += 1
        else:
            settled.extend(sync.add_image(stamp_ns, received_ns, true_s))
        settled.extend(sync.poll(received_ns))

    for received_s, topic, true_s, stamp_ns in messages:
        received_ns = round(received_s * S)
        for passed in gate.add(topic, stamp_ns, received_ns, (topic, received_ns, true_s, stamp_ns)):
            use(passed)
    for passed in gate.flush():
        use(passed)
    settled += sync.finish()
    images = sum(topic == IMAGE for _, topic, _, _ in messages)
    assert len(settled) + refused.total() == images
    return settled, refused


def frames_of(live: Live) -> tuple[int, Counter[str]]:
    """How many frames, each with the pose of its own time; and why others were refused."""
    settled, refused = record(live.messages())
    for item in settled:
        if isinstance(item, Frame):
            assert abs(item.T_map_cam[0, 3] - item.image) < 1e-5, (live, item.image, item.T_map_cam[0, 3])
        else:
            refused[item.reason] += 1
    return sum(isinstance(item, Frame) for item in settled), refused


@pytest.mark.parametrize("by_s", [-30.0, -3.4, -0.7, -0.15, 0.15, 0.3, 0.7, 3.4, 30.0])
def test_a_step_that_all_show_costs_a_frame_or_two(by_s: float) -> None:
    frames, refused = frames_of(Live(by_s))
    assert frames >= 47, refused


@pytest.mark.parametrize("by_s", [-30.0, -3.4, -0.7, -0.15, 0.15, 0.3, 0.7, 3.4, 30.0])
@pytest.mark.parametrize("topic", [IMAGE, POSE])
def test_after_a_step_of_one_of_two_images_are_refused(topic: str, by_s: float) -> None:
    frames, refused = frames_of(Live(by_s, topics=(topic,)))
    assert 17 <= frames <= 20, "those of before"
    said = f"the stamps of {topic} step by {by_s:+.3f} s against their reception, not so those of the other topics"
    assert refused[said] >= 28, refused


@pytest.mark.parametrize("by_s", [0.3, 5.0, -0.7])
def test_two_clocks_that_are_set_at_one_time_by_other_amounts_are_two(by_s: float) -> None:
    messages = [
        (at, topic, true_s, stamp + (round(by_s * S) if topic == POSE and true_s >= 2 else 0))
        for at, topic, true_s, stamp in Live(0.7).messages()
    ]
    settled, refused = record(messages)
    frames = [item for item in settled if isinstance(item, Frame)]
    assert all(abs(item.T_map_cam[0, 3] - item.image) < 1e-5 for item in frames)
    assert len(frames) <= 20
    assert refused.total() >= 28


@pytest.mark.parametrize("by_s", [-30.0, -0.7, -0.3, 0.3, 0.7, 30.0])
@pytest.mark.parametrize("late_s", [0.02, 0.1])
def test_poses_that_begin_between_a_step_and_the_first_image_that_shows_it(by_s: float, late_s: float) -> None:
    """They show no step. Images are refused until the stamps of the poses tell on which side of it they began."""
    live = Live(by_s, at_s=2.0, image_hz=2.0, late_s=(late_s, 0.005), poses_from_s=2.05, length_s=8.0)
    frames, refused = frames_of(live)
    assert frames >= 10, refused


@pytest.mark.parametrize("by_s", [-30.0, -0.7, -0.3, 0.3, 0.7, 30.0])
def test_poses_that_begin_just_before_the_clock_of_the_images_alone_is_set(by_s: float) -> None:
    live = Live(by_s, at_s=2.1, topics=(IMAGE,), image_hz=2.0, poses_from_s=2.05, length_s=8.0)
    frames, refused = frames_of(live)
    assert (frames, refused.total()) == (0, 16)


@pytest.mark.parametrize("late_s", [0.3, 0.7])
def test_a_topic_that_begins_late_shows_no_step_when_it_comes_in_time(late_s: float) -> None:
    """On a busy machine the first four images all come late, some are lost, and the next are prompt."""
    true_s = np.arange(60) / 10
    late = [(at_s + late_s, IMAGE, at_s) for at_s in true_s[:4]]
    prompt = [(at_s + 0.002, IMAGE, at_s) for at_s in true_s[4:] if at_s >= true_s[4] + late_s]
    messages = sorted([*late, *prompt, *((at_s + 0.001, POSE, at_s) for at_s in true_s)])
    gate, passed = ClockGate(), list[Passed]()
    for received_s, topic, at_s in messages:
        for it in gate.add(topic, T0 + round(at_s * S), T0 + round(received_s * S), topic):
            passed.append(it)
            assert it.item == POSE or not gate.disagreement(IMAGE, [POSE])
    assert len(passed) == len(messages)
    assert not any(it.after_step or it.stray for it in passed)


def test_a_clock_that_is_set_back_again_is_good_again() -> None:
    messages = Live(0.0).messages()
    wrong = [
        (at, topic, true_s, stamp + (S // 2 if topic == POSE and 1.5 < true_s < 3 else 0))
        for at, topic, true_s, stamp in messages
    ]
    settled, refused = record(wrong)
    frames = [item for item in settled if isinstance(item, Frame)]
    assert all(abs(item.T_map_cam[0, 3] - item.image) < 1e-5 for item in frames)
    assert sum(item.image > 3 for item in frames) >= 17
    assert refused.total() >= 12


@pytest.mark.parametrize("topic", [IMAGE, POSE])
@pytest.mark.parametrize("wild_s", [-5.0, -0.3, 0.3, 5.0])
def test_a_single_wild_stamp_costs_a_message(topic: str, wild_s: float) -> None:
    messages = Live(0.0).messages()
    at = [i for i, message in enumerate(messages) if message[1] == topic][25]
    messages[at] = (*messages[at][:3], messages[at][3] + round(wild_s * S))
    settled, refused = record(messages)
    frames = [item for item in settled if isinstance(item, Frame)]
    assert all(abs(item.T_map_cam[0, 3] - item.image) < 1e-5 for item in frames)
    assert len(frames) == 50 - (topic == IMAGE)
    assert refused == ({STRAY: 1} if topic == IMAGE else {})


def test_stamps_that_are_no_clock_are_refused() -> None:
    rng = np.random.default_rng(3)
    messages = [
        (at, topic, true_s, stamp + (int(rng.integers(-5 * S, 5 * S)) if topic == IMAGE and true_s > 1 else 0))
        for at, topic, true_s, stamp in Live(length_s=20.0).messages()
    ]
    settled, _ = record(messages)
    frames = [item for item in settled if isinstance(item, Frame) and item.image > 1]
    assert all(abs(item.T_map_cam[0, 3] - item.image) < 1e-5 for item in frames)


steps_s = st.one_of(st.floats(-40, -0.101), st.floats(0.101, 40))
lives = st.builds(
    Live,
    by_s=steps_s,
    at_s=st.floats(BEGUN_S, 4.0),
    topics=st.sampled_from([(IMAGE, POSE), (IMAGE,), (POSE,)]),
    image_hz=st.floats(5, 60),
    pose_hz=st.floats(5, 200),
    late_s=st.tuples(st.floats(0, 0.2), st.floats(0, 0.2)),
    seed=st.integers(0, 1000),
)


@settings(max_examples=200, deadline=None)
@given(lives)
@example(Live(-0.7, image_hz=5.0, pose_hz=5.0))
@example(Live(-0.15, late_s=(0.2, 0.0)))
@example(Live(0.3, late_s=(0.0, 0.2)))
def test_no_accepted_pose_is_ever_wrong(live: Live) -> None:
    frames_of(live)


@settings(max_examples=50, deadline=None)
@given(lives, st.one_of(st.floats(-40, -1.5), st.floats(1.5, 40)), st.floats(1, 3))
def test_nor_are_images_refused_for_good_when_poses_begin_about_the_step(
    live: Live, by_s: float, poses_from_s: float
) -> None:
    begun = replace(live, by_s=by_s, at_s=2.0, topics=(IMAGE, POSE), poses_from_s=poses_from_s, length_s=6.0)
    messages = begun.messages()
    first_ns = next(round(at * S) for at, topic, _, _ in messages if topic == POSE)
    settled, refused = record(messages)
    # Of images that had come before any pose nothing tells by which clock they are.
    frames = [item for item in settled if isinstance(item, Frame) and item.received_ns > first_ns]
    assert all(abs(item.T_map_cam[0, 3] - item.image) < 1e-5 for item in frames), begun
    assert len(frames) >= 1.5 * live.image_hz, (begun, refused)


@settings(max_examples=100, deadline=None)
@given(lives, st.floats(0, 0.03), st.floats(0, 0.3))
def test_nor_is_it_with_jitter_and_losses(live: Live, jitter_s: float, drops: float) -> None:
    by_s = live.by_s if abs(live.by_s) > 0.1 + 6 * jitter_s else 0.0
    frames_of(replace(live, by_s=by_s, jitter_s=jitter_s, drops=drops))


@settings(max_examples=150, deadline=None)
@given(
    st.floats(5, 60),
    st.floats(5, 200),
    st.floats(0, 0.05),
    st.tuples(st.floats(1, 3), st.floats(0, 2)),
    st.floats(0, 0.3),
    st.integers(0, 1000),
)
def test_late_lost_and_irregular_messages_are_no_step(
    image_hz: float, pose_hz: float, jitter_s: float, stall: tuple[float, float], drops: float, seed: int
) -> None:
    live = Live(image_hz=image_hz, pose_hz=pose_hz, jitter_s=jitter_s, stall=stall, drops=drops, seed=seed)
    _, refused = frames_of(live)
    assert refused.keys() <= {"pose_gap", "before_first_pose", "after_last_pose", "no_pose", "queue_full"}, refused
    assert TIME_JUMP not in refused
