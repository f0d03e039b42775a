"""Clocks that differ, that are set on the way, that are missing: which stamps count, and what the report says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pose2rgbd_ros.bags.reader import open_bag
from pose2rgbd_ros.convert.bag import convert
from pose2rgbd_ros.convert.clocks import StampCorrections, StampLog, _joined, _settings, find_clocks, find_jumps
from pose2rgbd_ros.convert.settings import ConvertConfig
from pose2rgbd_ros.dataset.reader import Dataset

S = 1_000_000_000
MS = S // 1000
JPEG, ODOM = "/camera/image/compressed", "/odom"


def shift(message: Any, shift_ns: int) -> None:
    """Set the header stamp forward."""
    stamp = message.header.stamp.sec * S + message.header.stamp.nanosec + shift_ns
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, S)


def spoiled(topic: str, by: Callable[[int, int], int], jitter_ns: int = 0) -> Callable:
    """Shifts the stamps of `topic` by `by(index, count)`; its reception varies by `jitter_ns`."""
    rng = np.random.default_rng(3)

    def spoil(make, entries):
        of_topic = [entry for entry in entries if entry[1] == topic]
        for i, (_, _, message) in enumerate(of_topic):
            shift(message, by(i, len(of_topic)))
        return [
            (t + int(rng.integers(0, jitter_ns)) if jitter_ns and name == topic else t, name, message)
            for t, name, message in entries
        ]

    return spoil


def converted(flight, tmp_path: Path, **options: Any) -> tuple[Any, Dataset]:
    config = ConvertConfig(**options)
    return convert([flight.write(tmp_path / "bag")], tmp_path / "out", config), Dataset(tmp_path / "out")


def check_poses(dataset: Dataset, flight, within_m: float, moved_ns: int = 0) -> None:
    """Poses are those of the flight at the stamps; stamps are the flight's own, moved."""
    for stamp, T in zip(dataset.stamps_ns.tolist(), dataset.T_map_cam, strict=True):
        np.testing.assert_allclose(T[:3, 3], flight.T_map_cam(stamp - moved_ns)[:3, 3], atol=within_m)


def test_poses_of_another_clock_are_brought_to_that_of_the_images(flight, tmp_path: Path) -> None:
    recorded = flight(depth=None, frames=40, spoil=spoiled(ODOM, lambda i, n: -5_700_748 * S, 30 * MS))
    report, dataset = converted(recorded, tmp_path)
    assert len(dataset) >= 38
    assert list(dataset.stamps_ns[:3]) == recorded.image_stamps_ns()[-len(dataset) :][:3]
    # At 2 m/s; the delays of the two topics differ by 5 and 15 ms, and no jitter of 30 ms is left.
    check_poses(dataset, recorded, within_m=0.03)
    steps = np.linalg.norm(np.diff(dataset.T_map_cam[:, :3, 3], axis=0), axis=1)
    assert np.abs(np.diff(steps)).max() < 5e-4
    assert any("-5700748.0" in note and "another clock" in note for note in [*report.notes, *report.warnings])


def test_header_stamps_are_left_alone_when_asked_for_or_when_they_agree(flight, tmp_path: Path) -> None:
    recorded = flight(depth=None, frames=12, spoil=spoiled(ODOM, lambda i, n: 400 * MS, 50 * MS))
    report, dataset = converted(recorded, tmp_path)
    assert not any("clock" in note or "header stamps" in note for note in [*report.notes, *report.warnings])
    T = recorded.T_map_cam(dataset.stamps_ns[3] - 400 * MS)
    np.testing.assert_allclose(dataset.T_map_cam[3], T, atol=1e-7)


def test_a_second_or_two_may_be_delay_and_is_told(flight, tmp_path: Path) -> None:
    recorded = flight(depth=None, frames=40, spoil=spoiled(JPEG, lambda i, n: -1500 * MS))
    report, _ = converted(recorded, tmp_path)
    assert any("+1.5" in note and "used as they are" in note for note in [*report.notes, *report.warnings])


@pytest.mark.parametrize("jump_s", [-3600.0, 7.0])
def test_an_image_clock_that_is_set_on_the_way(flight, tmp_path: Path, jump_s: float) -> None:
    recorded = flight(depth=None, frames=30, spoil=spoiled(JPEG, lambda i, n: round(jump_s * S) if i < 8 else 0))
    report, dataset = converted(recorded, tmp_path)
    assert list(dataset.stamps_ns) == recorded.image_stamps_ns()
    check_poses(dataset, recorded, within_m=1e-6)
    assert any(
        f"{JPEG} was set once" in note and f"{-jump_s:+.3f}" in note for note in [*report.notes, *report.warnings]
    )


def test_a_pose_clock_that_is_set_twice(flight, tmp_path: Path) -> None:
    recorded = flight(depth=None, frames=30, spoil=spoiled(ODOM, lambda i, n: 60 * S if n // 3 <= i < n // 2 else 0))
    report, dataset = converted(recorded, tmp_path)
    assert list(dataset.stamps_ns) == recorded.image_stamps_ns()
    check_poses(dataset, recorded, within_m=1e-6)
    assert any(f"{ODOM} was set twice" in note for note in [*report.notes, *report.warnings])


def test_poses_without_stamps_meet_images_of_another_clock(flight, tmp_path: Path) -> None:
    def spoil(make, entries):
        for _, topic, message in entries:
            if topic == ODOM:
                message.header.stamp.sec = message.header.stamp.nanosec = 0
            elif topic == JPEG:
                shift(message, -1000 * S)
        return entries

    recorded = flight(depth=None, frames=30, spoil=spoil)
    _, dataset = converted(recorded, tmp_path)
    assert list(dataset.stamps_ns) == [stamp - 1000 * S for stamp in recorded.image_stamps_ns()][: len(dataset)]
    assert len(dataset) >= 29
    check_poses(dataset, recorded, within_m=0.03, moved_ns=-1000 * S)


@pytest.mark.parametrize("stamps", ["header", "received"])
def test_the_other_ways_take_stamps_as_they_are(stamps: str) -> None:
    clocks = StampCorrections(received=stamps == "received")
    assert clocks.stamp_ns(ODOM, 5, 9) == (5 if stamps == "header" else 9)
    assert clocks.stamp_ns(ODOM, 0, 9) == 9


def log(header_s: np.ndarray, received_s: np.ndarray) -> StampLog:
    return StampLog((header_s * 1e9).astype(np.int64), (received_s * 1e9).astype(np.int64))


def test_a_burst_of_late_messages_is_no_jump() -> None:
    header = np.arange(200) / 20
    received = header + 0.02
    received[100:160] = np.maximum(received[100:160], received[160] + np.arange(60) * 1e-3 - 0.06)
    assert not len(find_jumps(log(header, received)))


def test_a_pause_of_the_camera_is_no_jump() -> None:
    header = np.concatenate([np.arange(50) / 20, 30 + np.arange(50) / 20])
    assert not len(find_jumps(log(header, header + 0.02)))


def test_a_simulation_at_half_speed_is_no_jump_and_no_other_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    header = np.arange(600) / 20
    images, odometry = log(header[100:], 1e9 + 2 * header[100:]), log(header, 1e9 + 2 * header + 0.01)
    assert not len(find_jumps(odometry))
    topics = {JPEG: images, ODOM: odometry}
    monkeypatch.setattr("pose2rgbd_ros.convert.clocks._read", lambda *_: dict(topics))
    monkeypatch.setattr("pose2rgbd_ros.convert.clocks._passed_twice", lambda *_: [])
    clocks = find_clocks(None, JPEG, [ODOM], "auto")
    assert clocks.corrections == {}
    assert clocks.warnings == []


@settings(max_examples=60)
@given(
    st.integers(2, 60),
    st.lists(st.tuples(st.integers(0, 59), st.floats(-1e6, 1e6)), max_size=3),
    st.floats(0, 0.3),
    st.integers(0, 2**32 - 1),
)
def test_joined_stamps_are_those_without_the_jumps(
    count: int, jumps: list[tuple[int, float]], jitter_s: float, seed: int
) -> None:
    """Whatever is set when: joined, the stamps of every message lie as far from each other as before the jumps."""
    jumps = [(at, by) for at, by in jumps if abs(by) > 2 and 0 < at < 40]
    rng = np.random.default_rng(seed)
    true_s = 100 + np.arange(count * 20) / 20
    header = true_s.copy()
    for at, by in jumps:
        header[at * len(header) // 60 :] += by
    found = log(header, true_s + jitter_s * rng.random(len(true_s)))
    joined = _joined({"/t": found}, _settings({"/t": found}, StampCorrections()), "/t", StampCorrections())["/t"]
    moved = (joined.header_ns / 1e9 - true_s) - (joined.header_ns[0] / 1e9 - true_s[0])
    together = {at for at, _ in jumps}
    if len(jumps) == len(together) and len(together) <= len(header):
        assert np.abs(moved).max() <= (jitter_s + 0.01) * max(1, len(jumps))


def test_real_clocks_5_700_748_seconds_apart(real_data: Path) -> None:
    with open_bag(real_data / "rosbags" / "uf_vehicle_gps_odom_ros2") as bag:
        clocks = find_clocks(bag, "/vehicle_pose", ["/gps", "/odometry"], "auto")
        stamps = list(bag.stamps(["/vehicle_pose", "/gps", "/odometry"]))
    assert any(note.startswith("header stamps of /gps are -5700748.4") for note in clocks.warnings)
    assert min(header for topic, _, header in stamps if topic == "/vehicle_pose") == 0
    corrected = [(clocks.stamp_ns(topic, header, at) - at) / 1e9 for topic, at, header in stamps]
    assert np.ptp(corrected) < 3, "after correction all topics run by one clock"
