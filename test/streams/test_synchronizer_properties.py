"""What holds for the synchroniser however badly the streams are stamped, delayed, lost and mixed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pose2rgbd_ros.geometry import quaternions
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.poses.sources import PoseBuffer
from pose2rgbd_ros.streams.samples import PoseSample
from pose2rgbd_ros.streams.synchronizer import Frame, RecordedPoses, Reject, Settled, SyncConfig, Synchronizer

MS = 1_000_000
SECOND = 1_000 * MS
T0 = 1_700_000_000 * SECOND
GAP_NS = 500 * MS
PATIENT = {"max_wait_ns": 10_000 * SECOND, "max_waiting": 10_000}
seeds = st.integers(0, 2**32 - 1)


@dataclass(frozen=True)
class Message:
    """`true_ns`: when it was measured; `stamp_ns`: when its sender thinks it was; `arrival_ns`: when it came."""

    kind: str
    true_ns: int
    stamp_ns: int
    arrival_ns: int


@dataclass(frozen=True)
class Faults:
    """Shares of messages, and times in ms."""

    jitter_ms: int = 0
    drops: float = 0.0
    twice: float = 0.0
    swaps: float = 0.0
    latency_ms: int = 0


faults = st.builds(
    Faults,
    jitter_ms=st.integers(0, 12),
    drops=st.sampled_from([0.0, 0.1, 0.6]),
    twice=st.sampled_from([0.0, 0.1]),
    swaps=st.sampled_from([0.0, 0.1]),
    latency_ms=st.integers(0, 200),
)


def stream(
    kind: str, rate_hz: float, seconds: float, bad: Faults, rng: np.random.Generator, clock: Any = lambda ns: ns
) -> list[Message]:
    """Messages of a sender; `clock` gives the stamp of a true time."""
    found = []
    for i in range(int(seconds * rate_hz)):
        true_ns = T0 + int(i * SECOND / rate_hz) + int(rng.integers(0, bad.jitter_ms * MS + 1))
        if rng.random() < bad.drops:
            continue
        arrival_ns = true_ns + int(rng.integers(0, bad.latency_ms * MS + 1))
        found += [Message(kind, true_ns, clock(true_ns), arrival_ns)] * (2 if rng.random() < bad.twice else 1)
    for i in range(len(found) - 1):
        if rng.random() < bad.swaps:
            found[i], found[i + 1] = found[i + 1], found[i]
    late = np.maximum.accumulate([message.arrival_ns for message in found] or [0]).tolist()
    return [Message(m.kind, m.true_ns, m.stamp_ns, ns) for m, ns in zip(found, late, strict=False)]


def pose(message: Message) -> PoseSample:
    """On a straight line in true time, so that any interpolation is exact and a foreign pose shows."""
    seconds = (message.true_ns - T0) / SECOND
    quat = quaternions.from_euler_rpy([0.0, 0.0, 0.1 * seconds])
    return PoseSample(message.stamp_ns, "map", "cam", np.array([seconds, -2 * seconds, 50.0]), quat)


def merged(*streams: Iterable[Message]) -> list[Message]:
    return sorted((message for it in streams for message in it), key=lambda message: message.arrival_ns)


def run(messages: list[Message], poses: Any, config: SyncConfig) -> list[Settled]:
    """Everything settled, in order; after each message the images must add up."""
    sync, settled = Synchronizer(poses, config), []
    for message in messages:
        if message.kind == "pose":
            if isinstance(poses, PoseBuffer):
                poses.add(pose(message))
                settled += sync.poll(message.arrival_ns)
        else:
            add = sync.add_image if message.kind == "image" else sync.add_depth
            settled += add(message.stamp_ns, message.arrival_ns, message)
        assert sync.images == len(settled) + sync.waiting == sum(sync.counts.values()) + sync.waiting
        assert sync.waiting <= config.max_waiting
    settled += sync.finish()
    assert len(settled) == sync.images == sum(message.kind == "image" for message in messages)
    return settled


def recorded(messages: list[Message], method: Any = "linear") -> RecordedPoses:
    poses = [pose(message) for message in messages if message.kind == "pose"]
    columns = zip(*((p.stamp_ns, p.position_m, p.quat_xyzw) for p in poses), strict=True)
    return RecordedPoses(Trajectory.from_unsorted(*(np.array(column) for column in columns))[0], GAP_NS, method)


def off_by_s(frame: Frame) -> float:
    """How far in time the frame's pose is from its image."""
    return abs(frame.T_map_cam[0, 3] - (frame.image.true_ns - T0) / SECOND)


@settings(max_examples=40)
@given(faults, faults, faults, seeds, st.sampled_from(["linear", "cubic"]), st.booleans())
def test_live_gives_the_frames_of_offline(
    images: Faults, depths: Faults, odometry: Faults, seed: int, method: Any, with_depth: bool
) -> None:
    rng = np.random.default_rng(seed)
    in_order = Faults(odometry.jitter_ms, odometry.drops, odometry.twice, 0.0, odometry.latency_ms)
    messages = merged(
        stream("image", 30, 2, images, rng),
        stream("depth", 25, 2, depths, rng) if with_depth else [],
        stream("pose", 20, 2, in_order, rng),
    )
    if not any(message.kind == "pose" for message in messages):
        return
    config = SyncConfig(with_depth, **PATIENT)
    offline = run(messages, recorded(messages, method), config)
    live = run(messages, PoseBuffer(GAP_NS, method), config)

    def frames(settled: list[Settled]) -> list[tuple[int, bytes, Any]]:
        return [(it.stamp_ns, it.T_map_cam.tobytes(), it.depth) for it in settled if isinstance(it, Frame)]

    def rejects(settled: list[Settled]) -> list[tuple[int, str]]:
        return sorted((it.stamp_ns, it.reason) for it in settled if isinstance(it, Reject))

    assert frames(live) == frames(offline)
    assert rejects(live) == rejects(offline)


@settings(max_examples=40)
@given(faults, faults, faults, seeds, st.sampled_from(["linear", "cubic"]))
def test_every_frame_has_the_pose_of_its_time_and_the_depth_beside_it(
    images: Faults, depths: Faults, odometry: Faults, seed: int, method: Any
) -> None:
    rng = np.random.default_rng(seed)
    messages = merged(
        stream("image", 30, 3, images, rng), stream("depth", 30, 3, depths, rng), stream("pose", 50, 3, odometry, rng)
    )
    settled = run(messages, PoseBuffer(GAP_NS, method), SyncConfig(True))
    frames = [it for it in settled if isinstance(it, Frame)]
    for frame in frames:
        assert off_by_s(frame) < 1e-6
        assert abs(frame.depth.stamp_ns - frame.stamp_ns) <= 20 * MS
    stamps = [frame.stamp_ns for frame in frames]
    assert len(set(stamps)) == len(stamps)
    order = [message.stamp_ns for message in messages if message.kind == "image"]
    first = {stamp: i for i, stamp in reversed(list(enumerate(order)))}
    assert stamps == sorted(stamps, key=first.__getitem__)
    whole = all(bad.drops == 0 and bad.jitter_ms < 9 for bad in (images, depths, odometry))
    # An image that has seen a later depth does not wait for one that is out of order.
    if whole and depths.swaps == 0:
        assert len(frames) >= len(set(order)) - 5  # at most some at both ends


@settings(max_examples=50)
@given(st.lists(st.floats(-20, 20).filter(lambda s: abs(s) > 1.6), min_size=1, max_size=3), faults, seeds)
def test_clocks_that_jump_never_give_a_pose_of_another_time(jumps_s: list[float], bad: Faults, seed: int) -> None:
    rng = np.random.default_rng(seed)
    at_ns = [T0 + (i + 1) * 2 * SECOND + int(rng.integers(0, SECOND)) for i in range(len(jumps_s))]

    def clock(ns: int) -> int:
        return ns + sum(int(jump * SECOND) for at, jump in zip(at_ns, jumps_s, strict=True) if ns >= at)

    seconds = 2 * len(jumps_s) + 4
    messages = merged(
        stream("image", 20, seconds, bad, rng, clock),
        stream("depth", 20, seconds, Faults(latency_ms=bad.latency_ms), rng, clock),
        stream("pose", 50, seconds, Faults(jitter_ms=5, latency_ms=200 - bad.latency_ms), rng, clock),
    )
    settled = run(messages, PoseBuffer(GAP_NS), SyncConfig(True, depth_tolerance_ns=30 * MS))
    frames = [it for it in settled if isinstance(it, Frame)]
    for frame in frames:
        assert off_by_s(frame) < 1e-6
        assert abs(frame.depth.true_ns - frame.image.true_ns) <= 30 * MS
    if bad.drops == 0 and bad.jitter_ms == 0:  # each jump costs at most a second or so; then all is as before
        images = sum(message.kind == "image" for message in messages)
        assert len(frames) >= images * 0.9 - 25 * len(jumps_s)
        last = [it for it in settled if it.received_ns > at_ns[-1] + 2 * SECOND and isinstance(it, Reject)]
        assert sum(it.reason not in ("duplicate_stamp", "after_last_pose", "no_depth") for it in last) == 0


wild = st.one_of(st.integers(0, 3000), st.integers(-(10**7), 10**7)).map(lambda ms: T0 + ms * MS)


@settings(max_examples=150)
@given(st.lists(st.tuples(st.sampled_from(["image", "depth", "pose"]), wild, wild), max_size=120), st.booleans())
def test_whatever_comes_nothing_is_lost_and_little_is_kept(
    events: list[tuple[str, int, int]], with_depth: bool
) -> None:
    messages = [Message(kind, stamp, stamp, arrival) for kind, stamp, arrival in events]
    config = SyncConfig(with_depth, max_waiting=10)
    settled = run(messages, PoseBuffer(GAP_NS, "cubic"), config)
    assert all(np.isfinite(it.T_map_cam).all() for it in settled if isinstance(it, Frame))
