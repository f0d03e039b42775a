"""The recorder when things go wrong: every fault is told in one line, and what was written is safe."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nav_msgs.msg import Odometry
from pose2rgbd.msg import SyncStatus
from rcl_interfaces.msg import Log
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Imu
from std_srvs.srv import SetBool, Trigger
from support.live_drone import CAMERA, LiveDrone

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.nodes import conversions
from pose2rgbd_ros.nodes.record import RecordNode

pytestmark = pytest.mark.ros
QUICK = {"silence_s": 1.0, "max_wait_s": 0.6, "min_free_mib": 0, "depth": "none"}


class Recorder:
    """A record node under test, the drone it listens to, and its status."""

    def __init__(self, bench: Any, folder: Path) -> None:
        self.bench, self.out = bench, folder / "flight"
        self.status: list[SyncStatus] = bench.collect(SyncStatus, "/record/status")
        self.log: list[Log] = bench.collect(Log, "/rosout")
        self.drone: LiveDrone | None = None

    def fly(self, **options: Any) -> LiveDrone:
        self.drone = LiveDrone(self.bench.node, **options)
        return self.drone

    def start(self, **parameters: Any) -> RecordNode:
        return self.bench.spin(RecordNode, **{"out": str(self.out), **QUICK, **parameters})

    def until(
        self, condition: Callable[[SyncStatus], Any], timeout_s: float = 8.0, what: str = ""
    ) -> SyncStatus:
        """The first status from now on of which the condition holds."""
        start = len(self.status)

        def found() -> SyncStatus | None:
            return next((message for message in self.status[start:] if condition(message)), None)

        try:
            return self.bench.wait(found, timeout_s, what)
        except AssertionError as error:
            last = self.status[-1] if self.status else None
            raise AssertionError(f"{error}; {describe(last)}") from None

    def until_told(self, *patterns: str, timeout_s: float = 8.0) -> str:
        """The first message or problem of a topic that all these patterns fit."""

        def told(status: SyncStatus) -> list[str]:
            lines = [status.message, *(topic.problem for topic in status.topics)]
            return [line for line in lines if all(re.search(pattern, line) for pattern in patterns)]

        line = told(self.until(told, timeout_s, f"told {patterns}"))[0]
        assert "\n" not in line
        return line

    def until_frames(self, count: int, timeout_s: float = 8.0) -> SyncStatus:
        return self.until(lambda status: status.frames_written >= count, timeout_s, f"{count} frames")

    def rejects(self) -> dict[str, int]:
        return {item.reason: item.count for item in self.status[-1].rejects}

    def ask(self, name: str, kind: type = Trigger, **fields: Any) -> Any:
        return self.bench.call(kind, f"/record/{name}", kind.Request(**fields), 20.0)

    def stop(self) -> Dataset:
        answer = self.ask("stop")
        assert answer.success, answer.message
        return Dataset(self.out)


def describe(status: SyncStatus | None) -> str:
    if status is None:
        return "no status at all"
    rejects = {item.reason: item.count for item in status.rejects}
    topics = {topic.topic: (topic.messages, topic.problem) for topic in status.topics}
    return f"state {status.state} {status.message!r}, {status.frames_written} frames, {rejects}, {topics}"


@pytest.fixture
def recorder(bench, tmp_path) -> Iterator[Recorder]:
    made = Recorder(bench, tmp_path)
    yield made
    if made.drone is not None:
        made.drone.land()


def conserved(status: SyncStatus) -> bool:
    return (
        status.images == status.frames_written + sum(item.count for item in status.rejects) + status.waiting
    )


# As it should be


def test_a_good_flight(recorder):
    drone = recorder.fly()
    recorder.start()
    status = recorder.until_frames(15)
    assert status.state == SyncStatus.RECORDING
    problems = {topic.topic: topic.problem for topic in status.topics if topic.problem}
    assert not problems.keys() & {"/image/compressed", "/odom", "/fix", "/tf_static"}
    dataset = recorder.stop()
    for stamp_ns, T in zip(dataset.stamps_ns, dataset.T_map_cam, strict=True):
        np.testing.assert_allclose(T, drone.T_map_cam(int(stamp_ns)), atol=2e-3)
    assert dataset.camera == CAMERA
    assert conserved(recorder.status[-1])


# Quality of service


@pytest.mark.parametrize(
    ("topic", "parameter", "profile"),
    [
        ("image/compressed", "reliability", QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)),
        ("/tf_static", "durability", QoSProfile(depth=5, durability=DurabilityPolicy.VOLATILE)),
    ],
)
def test_incompatible_quality_of_service(recorder, topic, parameter, profile):
    recorder.fly(qos={topic: profile})
    name = f"/{topic.lstrip('/')}"
    override = (
        {f"qos_overrides.{name}.subscription.reliability": "reliable"} if parameter == "reliability" else {}
    )
    recorder.start(**override)
    line = recorder.until_told(re.escape(name), "(?i)qos|best.effort|volatile", timeout_s=10.0)
    wanted = r"best.effort" if parameter == "reliability" else "volatile"
    assert re.search(wanted, line, re.IGNORECASE), line


# Silence


def test_a_topic_that_stops(recorder):
    drone = recorder.fly()
    recorder.start()
    recorder.until_frames(5)
    drone.silence("odom")
    line = recorder.until_told("/odom", r"silent|no message|nothing", timeout_s=8.0)
    assert re.search(r"\d", line), f"how long: {line}"
    recorder.until(
        lambda status: {r.reason for r in status.rejects} & {"no_pose", "after_last_pose"}, what="rejects"
    )
    del drone.spoil["odom"]
    frames = recorder.status[-1].frames_written
    recorder.until_frames(frames + 5)
    recorder.until(
        lambda status: not any(t.problem for t in status.topics if t.topic == "/odom"), what="recovered"
    )


def test_a_camera_that_stops(recorder):
    drone = recorder.fly()
    recorder.start()
    recorder.until_frames(5)
    drone.silence("image/compressed")
    recorder.until_told(
        "/image/compressed", r"silent|no message|nothing", r"(?i)reliab|best.effort|qos|publisher"
    )


def test_nobody_at_all(recorder):
    recorder.start()
    recorder.until_told("/image", r"(?i)nobody|no publisher|nothing", timeout_s=10.0)
    answer = recorder.ask("stop")
    assert "\n" not in answer.message
    assert not (recorder.out / "meta.yaml").exists()


# Names and types


def test_another_type_under_the_name(recorder):
    recorder.fly(kinds={"odom": Imu})
    drone = recorder.drone
    drone.spoil["odom"] = lambda message: Imu(header=message.header)
    recorder.start()
    line = recorder.until_told("/odom", "sensor_msgs/msg/Imu", timeout_s=10.0)
    assert "nav_msgs/msg/Odometry" in line


def test_another_name_for_the_topic(recorder):
    recorder.fly(renamed={"odom": "estimate/odometry"})
    recorder.start()
    recorder.until_told("/odom", "/estimate/odometry", "remap", timeout_s=10.0)


# Clocks


def test_simulated_time_that_goes_back(recorder):
    """A looped recording: its second round is taken too, and no frame mixes the two."""
    drone = recorder.fly(without=("image", "depth"))
    began_ns, real = drone.now_ns(), drone.now_ns
    drone.now_ns = lambda: 1_000_000_000_000 + real() - began_ns
    drone.start_ns = drone.now_ns()
    recorder.start(use_sim_time=True)
    recorder.until_frames(30, 12.0)
    again_ns = real() - 500_000_000
    drone.now_ns = lambda: (
        1_000_000_000_000 + 1 + real() - again_ns
    )  # 1 ns later: other stamps, another round
    before = recorder.status[-1].frames_written
    recorder.until_frames(before + 15, 12.0)
    told = [entry.msg for entry in recorder.log if "back by" in entry.msg]
    assert told, [entry.msg for entry in recorder.log]
    assert all(re.search(r"[0-9.]+ s; recording goes on", line) for line in told), told
    status = recorder.status[-1]
    assert conserved(status), describe(status)
    dataset = recorder.stop()
    for stamp_ns, T in zip(dataset.stamps_ns, dataset.T_map_cam, strict=True):
        np.testing.assert_allclose(T, drone.T_map_cam(int(stamp_ns)), atol=5e-3)


def test_images_stamped_by_another_clock(recorder):
    """5.7 million seconds off, as in a real recording: told with the difference, and with the way out."""
    drone = recorder.fly()
    drone.offset_ns["image/compressed"] = -5_700_000 * 10**9
    recorder.start()
    line = recorder.until_told("/image/compressed|image", r"5\.?7|5700000", "clock", timeout_s=10.0)
    assert re.search("stamps|received|offset", line), line
    assert recorder.status[-1].frames_written == 0
    assert sum(recorder.rejects().values()) > 0


def test_stamps_of_arrival_help(recorder):
    drone = recorder.fly()
    drone.offset_ns["image/compressed"] = -5_700_000 * 10**9
    recorder.start(stamps="received")
    recorder.until_frames(5)


# Values


def test_poses_of_nothing(recorder):
    """Zero quaternions and NaN positions, one in three: left out, counted, never in a frame."""
    drone = recorder.fly()
    count = iter(range(10**9))

    def spoil(message: Odometry) -> Odometry:
        kind = next(count) % 6
        if kind == 1:
            message.pose.pose.orientation.z = message.pose.pose.orientation.w = 0.0
        if kind == 4:
            message.pose.pose.position.x = float("nan")
        return message

    drone.spoil["odom"] = spoil
    recorder.start()
    recorder.until_frames(20)
    dataset = recorder.stop()
    for stamp_ns, T in zip(dataset.stamps_ns, dataset.T_map_cam, strict=True):
        np.testing.assert_allclose(T, drone.T_map_cam(int(stamp_ns)), atol=5e-3)


def test_no_pose_but_zeros(recorder):
    drone = recorder.fly()

    def spoil(message: Odometry) -> Odometry:
        message.pose.pose = type(message.pose.pose)()
        message.pose.pose.orientation.w = 0.0
        return message

    drone.spoil["odom"] = spoil
    recorder.start()
    recorder.until_told("/odom", r"of its last [0-9]+ poses are of no use", "zeros")
    assert recorder.status[-1].frames_written == 0


def test_odometry_with_a_twist_only(recorder):
    """As in a real recording: frames would all be taken at one place."""
    drone = recorder.fly()

    def spoil(message: Odometry) -> Odometry:
        message.pose.pose = conversions.to_pose(np.eye(4))
        message.twist.twist.linear.x = 4.0
        return message

    drone.spoil["odom"] = spoil
    recorder.start()
    recorder.until_told("/odom", "never changes", r"4\.0 m/s", "remap")


def test_fixes_that_are_none(recorder):
    drone = recorder.fly()

    def spoil(message: Any) -> Any:
        message.status.status = -1
        message.latitude = message.longitude = message.altitude = float("nan")
        return message

    drone.spoil["fix"] = spoil
    recorder.start()
    recorder.until_frames(10)
    assert recorder.stop().meta.datum is None


# Disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 600 kB; skipped where one may not be mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    words = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)]
    if subprocess.run(words, capture_output=True).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk(recorder, small_disk):
    recorder.out = small_disk / "flight"
    recorder.fly()
    recorder.start()
    status = recorder.until(lambda status: status.state == SyncStatus.ERROR, 20.0, "an error")
    assert re.search(r"(?i)space|full", status.message), status.message
    assert "\n" not in status.message
    dataset = Dataset(recorder.out)
    assert len(dataset) == status.frames_written > 10
    for index in range(len(dataset)):
        dataset.rgb(index)


def test_little_space_left(recorder, small_disk):
    """min_free_mib stops it before the disk is full."""
    recorder.out = small_disk / "flight"
    recorder.fly()
    recorder.start(min_free_mib=10)
    recorder.until_told("min_free_mib")
    assert not (recorder.out / "rgb").exists()


def test_a_folder_that_is_read_only(recorder, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", str(locked)]
    if os.geteuid() != 0:
        locked.chmod(0o500)
    elif subprocess.run(words, capture_output=True).returncode:
        pytest.skip("a read-only disk cannot be mounted here")
    try:
        recorder.out = locked / "flight"
        recorder.fly()
        recorder.start()
        line = recorder.until_told(re.escape(str(locked)), r"(?i)read-only|permission|cannot be written")
        assert line
    finally:
        if os.geteuid() == 0:
            subprocess.run(["umount", "-l", str(locked)], check=True)


def test_a_folder_with_frames_in_it(recorder):
    recorder.fly()
    recorder.start()
    recorder.until_frames(3)
    count = len(recorder.stop())
    answer = recorder.ask("start")
    assert not answer.success
    assert re.search(rf"{count} frames", answer.message), answer.message
    assert "resume" in answer.message
    assert len(Dataset(recorder.out)) == count


# Services


def test_services_at_the_wrong_time(recorder):
    recorder.fly()
    recorder.start(start_recording=False)
    recorder.until(lambda status: status.state == SyncStatus.IDLE)
    for name, kind in (("stop", Trigger), ("pause", SetBool)):
        answer = recorder.ask(name, kind)
        assert not answer.success
        assert answer.message == "nothing is being recorded"
    assert recorder.ask("start").success
    again = recorder.ask("start")
    assert not again.success
    assert "already" in again.message
    recorder.until_frames(3)
    assert recorder.ask("stop").success
    assert not recorder.ask("stop").success


# The end of a process


def test_killed(recorder, ros_domain):
    """kill -9: every frame that was told to be written can be read."""
    recorder.fly()
    words = [sys.executable, "-m", "pose2rgbd_ros.cli.main", "record", "--out", str(recorder.out)]
    node = subprocess.Popen([*words, "--min-free-mib", "0", "--depth", "none"], env={**os.environ})
    try:
        recorder.until_frames(10, 30.0)
    finally:
        node.send_signal(signal.SIGKILL)
        node.wait()
    told = max(status.frames_written for status in recorder.status)
    dataset = Dataset(recorder.out)
    assert len(dataset) >= told >= 10
    for index in range(len(dataset)):
        assert dataset.rgb(index).shape == (CAMERA.height, CAMERA.width, 3)
