"""Synchronisation of real recordings: where the offset shows, and where it does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pose2rgbd_ros.alignment.align import Alignment, AlignOptions, align_samples, estimate_offset
from pose2rgbd_ros.alignment.flow import FlowConfig, FlowSignal
from pose2rgbd_ros.alignment.signals import SECOND, MotionSignal, Samples, motion_from_fixes
from pose2rgbd_ros.bags import decode
from pose2rgbd_ros.bags.reader import open_bag
from pose2rgbd_ros.convert.convert import measure
from pose2rgbd_ros.convert.settings import ConvertConfig

STEADY = AlignOptions(drift=False)


@pytest.fixture(scope="module")
def drone(real_data: Path) -> tuple[FlowSignal, MotionSignal]:
    signals = measure(real_data / "karma_drone_video" / "karma_bag_sqlite3", ConvertConfig())
    return signals.flow, signals.motion


def _window(drone: tuple[FlowSignal, MotionSignal], begin: float, end: float) -> Alignment:
    flow, signal = drone
    seconds = (flow.stamps_ns - flow.stamps_ns[0]) / SECOND
    kept = (seconds >= begin) & (seconds <= end)
    return estimate_offset(flow.chosen(kept), signal, STEADY)


def test_windows_agree_within_what_they_claim(drone: tuple[FlowSignal, MotionSignal]) -> None:
    """Of 7 and of 9 s, every half second: with the acceleration (0 to 5 s), with a part of it, and without."""
    found = {(b, b + n): _window(drone, b, b + n) for n in (7.0, 9.0) for b in np.arange(0.0, 12.0 - n, 0.5)}
    best = [item for (begin, _), item in found.items() if begin < 1 and np.isfinite(item.sigma_s)]
    assert len(best) >= 3
    _agree(best)
    assert all(item.observable or item.why for item in found.values())


@pytest.mark.slow
def test_the_answer_does_not_hang_on_settings_of_the_flow(real_data: Path) -> None:
    found = []
    for width_px, rate_hz in ((320, 15.0), (320, 7.0), (480, 15.0), (480, 7.0), (640, 30.0)):
        config = FlowConfig(width_px=width_px, max_rate_hz=rate_hz)
        signals = measure(real_data / "karma_drone_video" / "karma_bag_sqlite3", ConvertConfig(), config)
        found.append(estimate_offset(signals.flow, signals.motion, STEADY))
    _agree(found)
    assert np.ptp([item.offset_s for item in found]) < 0.22


def _agree(found: list[Alignment]) -> None:
    for i, a in enumerate(found):
        for b in found[:i]:
            assert abs(a.offset_s - b.offset_s) < 2 * np.hypot(a.sigma_s, b.sigma_s)


def test_the_cruise_is_not_observable(drone: tuple[FlowSignal, MotionSignal]) -> None:
    for window in ((5.5, 11.5), (6.0, 12.1), (7.0, 12.1)):
        found = _window(drone, *window)
        assert not found.observable
        assert found.why


def test_shifted_images_shift_the_answer_of_the_drone(drone: tuple[FlowSignal, MotionSignal]) -> None:
    flow, signal = drone
    there = estimate_offset(flow, signal, STEADY)
    assert there.sigma_s < 0.5
    for d in (0.213, 0.3, *np.random.default_rng(0).uniform(-3, 3, 10)):
        moved = estimate_offset(flow.shifted(round(d * SECOND)), signal, STEADY)
        assert moved.observable == there.observable
        assert moved.offset_s == pytest.approx(there.offset_s - d, abs=0.02)
        assert moved.sigma_s == pytest.approx(there.sigma_s, abs=0.02)


def test_two_speeds_of_a_ground_vehicle_agree(real_data: Path) -> None:
    fixes, stamps, speeds = [], [], []
    with open_bag(real_data / "rosbags" / "husky_gps_odom_imu_ros1.bag") as reader:
        for topic, _, message in reader.messages(["/fix", "/husky_velocity_controller/odom"]):
            stamp_ns = decode.header_stamp_ns(message.header)
            if topic == "/fix":
                fixes.append(decode.fix_sample(message, stamp_ns))
            else:
                stamps.append(stamp_ns)
                speeds.append(abs(message.twist.twist.linear.x))
    gps = motion_from_fixes("GPS", fixes)
    at_ns = np.arange(gps.stamps_ns[0], gps.stamps_ns[-1], SECOND // 5)
    speed = np.linalg.norm(gps.velocity(at_ns, gps.smoothing_s)[:, :2], axis=1)
    found = align_samples(Samples(np.array(stamps), np.array(speeds)), Samples(at_ns, speed), STEADY)
    assert found.offset_s == pytest.approx(0.0, abs=0.3)
