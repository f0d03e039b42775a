"""The recorder when things go wrong: every fault is told in one line, and what was written is safe.

Each test looks at a recorder of its own, in a namespace with a drone of its own. A few recorders run ahead of the test
that looks at them, as most of it is waiting; more at once than that starve a slow machine.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
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
from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.nodes.record.node import RecordNode

pytestmark = pytest.mark.ros
QUICK = {"silence_s": 1.0, "min_free_mib": 0, "depth": "none"}
SIM_NS = 1_000_000_000_000


@dataclass
class Case:
    """A recorder, the drone it listens to (None: nobody), and what is spoiled of it."""

    drone: dict[str, Any] | None = field(default_factory=dict)
    spoil: dict[str, Callable[[Any], Any]] = field(default_factory=dict)
    offset_s: dict[str, int] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    remap: dict[str, str] = field(default_factory=dict)
    disk: str = ""  # "small", "read-only": of its own
    process: bool = False


def zeros(message: Odometry) -> Odometry:
    message.pose.pose.orientation.z = message.pose.pose.orientation.w = 0.0
    return message


def now_and_then(count: Iterator[int]) -> Callable[[Odometry], Odometry]:
    def spoil(message: Odometry) -> Odometry:
        kind = next(count) % 6
        if kind == 1:
            return zeros(message)
        if kind == 4:
            message.pose.pose.position.x = float("nan")
        return message

    return spoil


def standing(message: Odometry) -> Odometry:
    message.pose.pose = conversions.to_pose(np.eye(4))
    message.twist.twist.linear.x = 4.0
    return message


def no_fix(message: Any) -> Any:
    message.status.status = -1
    message.latitude = message.longitude = message.altitude = float("nan")
    return message


ANOTHER_CLOCK_S = -5_700_748  # as in a real recording
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
VOLATILE = QoSProfile(depth=5, durability=DurabilityPolicy.VOLATILE)
RELIABLE_IMAGES = {"qos_overrides./reliable/image/compressed.subscription.reliability": "reliable"}
CASES = {
    "good": Case(),
    "reliable": Case({"qos": {"image/compressed": BEST_EFFORT}}, parameters=RELIABLE_IMAGES),
    "volatile": Case(
        {"qos": {"/tf_static": VOLATILE}, "renamed": {"/tf_static": "/volatile/tf_static"}},
        remap={"/tf_static": "/volatile/tf_static"},
    ),
    "stops": Case(),
    "blind": Case(),
    "nobody": Case(None),
    "type": Case({"kinds": {"odom": Imu}}, spoil={"odom": lambda message: Imu(header=message.header)}),
    "name": Case({"renamed": {"odom": "estimate/odometry"}}),
    "clock": Case(offset_s={"image/compressed": ANOTHER_CLOCK_S}),
    "received": Case(offset_s={"image/compressed": ANOTHER_CLOCK_S}, parameters={"stamps": "received"}),
    "set": Case(),
    "set_apart": Case(),
    "loop": Case({"without": ("image", "depth")}, parameters={"use_sim_time": True}),
    "some": Case(spoil={"odom": now_and_then(iter(range(10**9)))}),
    "zeros": Case(spoil={"odom": zeros}),
    "twist": Case(spoil={"odom": standing}),
    "no_fix": Case(spoil={"fix": no_fix}),
    "full": Case(disk="small"),
    "little": Case(disk="small", parameters={"min_free_mib": 10}),
    "locked": Case(disk="read-only"),
    "idle": Case(parameters={"start_recording": False}),
    "timeless": Case(None, parameters={"use_sim_time": True}, remap={"/clock": "/timeless/clock"}),
    "killed": Case(process=True),
}


class Recorder:
    """A record node under test."""

    def __init__(self, bench: Any, name: str, case: Case, out: Path, log: list[Log]) -> None:
        self.bench, self.name, self.out = bench, name, out
        self.status: list[SyncStatus] = bench.collect(SyncStatus, f"/{name}/record/status")
        self._log = log
        self.process: subprocess.Popen[bytes] | None = None
        self.drone: Any = None
        if case.drone is not None:
            self.drone = LiveDrone(bench.node, f"/{name}", **case.drone)
            self.drone.spoil |= case.spoil
            self.drone.offset_ns |= {topic: seconds * 10**9 for topic, seconds in case.offset_s.items()}
            if case.parameters.get("use_sim_time"):
                self.set_clock(SIM_NS)
                self.drone.start_ns = SIM_NS
        if case.process:
            words = [sys.executable, "-m", "pose2rgbd_ros.cli.main", "record", "--out", str(out), "--depth", "none"]
            words += ["--min-free-mib", "0", "--ros-args", "-r", f"__ns:=/{name}"]
            environment = {**os.environ, "ROS_DOMAIN_ID": str(bench._domain)}
            self.process = subprocess.Popen(words, env=environment)
        else:
            parameters = {"out": str(out), **QUICK, **case.parameters}
            self._node = bench.spin(RecordNode, namespace=f"/{name}", remap=case.remap, **parameters)

    def end(self) -> None:
        """Of the node and of its drone."""
        if self.drone is not None:
            self.drone.pause()
        if self.process is None:
            self.bench.end(self._node)
        else:
            self.process.kill()
            self.process.wait()

    def set_clock(self, to_ns: int) -> None:
        """Let simulated time go on from there."""
        real, now_ns = self.bench.node.get_clock(), self.bench.node.get_clock().now().nanoseconds
        self.drone.now_ns = lambda: to_ns + real.now().nanoseconds - now_ns

    @property
    def said(self) -> list[str]:
        """Its log."""
        return [entry.msg for entry in self._log if entry.name == f"{self.name}.record"]

    def until(self, condition: Callable[[SyncStatus], Any], what: str) -> SyncStatus:
        """The first status of which the condition holds."""

        def found() -> SyncStatus | None:
            return next((message for message in self.status if condition(message)), None)

        try:
            return self.bench.wait(found, what=what)
        except AssertionError as error:
            raise AssertionError(f"{error}; {describe(self.status)}; log {self.said}") from None

    def until_told(self, *patterns: str) -> str:
        """The first message or problem of a topic that all these patterns fit."""

        def told(status: SyncStatus) -> list[str]:
            lines = [status.message, *(f"{topic.topic}: {topic.problem}" for topic in status.topics)]
            return [line for line in lines if all(re.search(pattern, line) for pattern in patterns)]

        line = told(self.until(told, f"told {patterns}"))[0]
        assert "\n" not in line
        return line

    def until_frames(self, count: int) -> SyncStatus:
        """The first status with so many frames."""
        return self.until(lambda status: status.frames_written >= count, f"{count} frames")

    def ask(self, name: str, kind: type = Trigger, **fields: Any) -> Any:
        """The answer of a service."""
        return self.bench.call(kind, f"/{self.name}/record/{name}", kind.Request(**fields))

    def stop(self) -> Dataset:
        """End the recording, and open what it made."""
        answer = self.ask("stop")
        assert answer.success, answer.message
        self.bench.wait(lambda: self.status[-1].state == SyncStatus.IDLE, what="idle")
        return Dataset(self.out)


def describe(messages: list[SyncStatus]) -> str:
    if not messages:
        return "no status at all"
    status = messages[-1]
    rejects = {item.reason: item.count for item in status.rejects}
    topics = {topic.topic: (topic.messages, topic.problem) for topic in status.topics}
    return f"state {status.state} {status.message!r}, {status.frames_written} frames, {rejects}, {topics}"


def conserved(status: SyncStatus) -> bool:
    return status.images == status.frames_written + sum(item.count for item in status.rejects) + status.waiting


def of_truth(dataset: Dataset, drone: LiveDrone) -> None:
    """Within what interpolating over half a second may be off, on a machine too busy to send in time."""
    for stamp_ns, T in zip(dataset.stamps_ns, dataset.T_map_cam, strict=True):
        np.testing.assert_allclose(T, drone.T_map_cam(int(stamp_ns)), atol=0.05)


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path | None]:
    """A file system of its own; None where one may not be mounted."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(words, capture_output=True).returncode:
        yield None
        return
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


AHEAD = 4  # recorders that run beside the one that is looked at


class Fleet:
    """The recorders of all tests that are run: started a few tests ahead, ended with their test."""

    def __init__(self, bench: Any, names: list[str], folder: Path) -> None:
        self._bench, self._folder, self._waiting = bench, folder, names
        self._log = bench.collect(Log, "/rosout", 500)
        self._made: dict[str, Recorder | None] = {}
        self._disks = contextlib.ExitStack()
        for name in [name for name in names if CASES[name].drone is None]:  # they cost nothing, and some take long
            names.remove(name)
            self._start(name)

    def recorder(self, name: str) -> Recorder | None:
        """Under way; None where its disk cannot be had here."""
        while self._waiting and (name not in self._made or len(self._made) <= AHEAD):
            self._start(self._waiting.pop(0))
        return self._made[name]

    def _start(self, name: str) -> None:
        case, place = CASES[name], self._folder
        if case.disk:
            options = "size=400k" if case.disk == "small" else "ro,size=64k"
            disk = self._disks.enter_context(mounted(self._folder / f"disk_{name}", options))
            if disk is None:
                self._made[name] = None
                return
            place = disk
        self._made[name] = Recorder(self._bench, name, case, place / name, self._log)

    def end(self, name: str) -> None:
        """Of one test."""
        recorder = self._made.pop(name)
        if recorder is not None:
            recorder.end()

    def close(self) -> None:
        """Of all that still run."""
        for name in list(self._made):
            self.end(name)
        self._disks.close()


@pytest.fixture(scope="module")
def fleet(shared_bench, tmp_path_factory, request) -> Iterator[Fleet]:
    """Of the tests that are run, in their order."""
    names = [item.callspec.params["case"] for item in request.session.items if item.path == request.path]
    made = Fleet(shared_bench, names, tmp_path_factory.mktemp("fleet"))
    yield made
    made.close()


@pytest.fixture
def case(fleet, request) -> Iterator[Recorder]:
    """The recorder that a test names."""
    recorder = fleet.recorder(request.param)
    if recorder is None:
        pytest.skip("a file system of its own cannot be mounted here")
    yield recorder
    fleet.end(request.param)


def of(name: str) -> Any:
    return pytest.mark.parametrize("case", [name], indirect=True)


@of("good")
def test_a_good_flight(case):
    status = case.until_frames(12)
    assert status.state == SyncStatus.RECORDING
    problems = {topic.topic: topic.problem for topic in status.topics if topic.problem}
    assert not problems.keys() & {"/good/image/compressed", "/good/odom", "/good/fix", "/tf_static"}
    dataset = case.stop()
    of_truth(dataset, case.drone)
    assert dataset.camera == CAMERA
    assert conserved(case.status[-1]), describe(case.status)
    again = case.ask("start")
    assert not again.success
    assert f"{len(dataset)} frames" in again.message
    assert "resume" in again.message
    assert len(Dataset(case.out)) == len(dataset)


@of("reliable")
def test_best_effort_images_where_reliable_ones_are_asked_for(case):
    case.until_told("^/reliable/image/compressed", "QoS", "best effort", "qos_overrides")


@of("volatile")
def test_static_transforms_that_are_not_kept(case):
    case.until_told("^/volatile/tf_static", "QoS", "volatile")


@of("stops")
def test_poses_that_stop(case):
    case.until_frames(3)
    case.drone.silence("odom")
    line = case.until_told("^/stops/odom", "silent for", "/tester", "reliable, volatile")
    assert re.search(r"silent for [0-9]+ s", line)
    case.until(lambda status: {item.reason for item in status.rejects} & {"no_pose", "after_last_pose"}, "rejects")
    del case.drone.spoil["odom"]
    frames = case.status[-1].frames_written
    case.until_frames(frames + 3)
    last = lambda: {topic.topic: topic.problem for topic in case.status[-1].topics}["/stops/odom"]  # noqa: E731
    case.bench.wait(lambda: last() == "", what="recovered")


@of("blind")
def test_a_camera_that_stops(case):
    case.until_frames(3)
    case.drone.silence("image/compressed")
    case.until_told("^/blind/image/compressed", "silent for [0-9]+ s", "/tester", "best effort")


@of("nobody")
def test_nobody_at_all(case):
    case.until_told("^/nobody/image/compressed", "nobody publishes it", "would fit", "remap image:=/[a-z_]+/image$")
    answer = case.ask("stop")
    assert "\n" not in answer.message
    assert not (case.out / "meta.yaml").exists()


@of("type")
def test_another_type_under_the_name(case):
    case.until_told("^/type/odom", "published as sensor_msgs/msg/Imu by /tester", "nav_msgs/msg/Odometry")


@of("name")
def test_another_name_for_the_topic(case):
    case.until_told("^/name/odom", "remap odom:=/name/estimate/odometry$")


@of("clock")
def test_images_stamped_by_another_clock(case):
    """Told with the difference, and with the way out."""
    case.until_told("^/clock/odom|^/clock/fix", "57007[0-9]{2}", "clocks differ", "set stamps to received")
    rejected = case.until(lambda status: status.rejects, "images rejected")
    assert rejected.frames_written == 0


@of("received")
def test_stamps_of_arrival_help(case):
    case.until_frames(5)


@of("loop")
def test_simulated_time_that_goes_back(case):
    """A looped recording: its second round is taken too, and no frame mixes the two."""
    before = case.until_frames(20)
    case.set_clock(SIM_NS + 500_000_001)  # other stamps than in the first round
    frames = case.status[-1].frames_written
    assert frames >= before.frames_written
    case.until_frames(frames + 12)
    told = case.bench.wait(lambda: [line for line in case.said if "back by" in line], what="told")
    assert all(re.search(r"[0-9.]+ s; recording goes on", line) for line in told), told
    dataset = case.stop()
    assert conserved(case.status[-1]), describe(case.status)
    of_truth(dataset, case.drone)


@of("set")
def test_a_clock_of_all_that_is_set(case):
    """By less than a second, forward and back: recording goes on, and no pose is of another time."""
    drone, by_ns = case.drone, 700_000_000
    case.until_frames(15)
    for set_ns in (by_ns, 0):
        drone.offset_ns = dict.fromkeys(("image/compressed", "odom", "fix", "camera_info"), set_ns)
        case.until_frames(case.status[-1].frames_written + 25)
    dataset = case.stop()
    assert conserved(case.status[-1]), describe(case.status)
    off = np.array(
        [
            [np.abs(T - drone.T_map_cam(int(stamp_ns) - set_ns)).max() for set_ns in (0, by_ns)]
            for stamp_ns, T in zip(dataset.stamps_ns, dataset.T_map_cam, strict=True)
        ]
    )
    assert (off.min(axis=1) < 0.05).all()
    assert (off < 0.05).sum(axis=0).min() > 10, "of both times"


@of("set_apart")
def test_a_clock_of_the_poses_alone_that_is_set(case):
    """Images after that are left out, with the reason, until the clocks go together again."""
    drone = case.drone
    case.until_frames(15)
    drone.offset_ns["odom"] = -500_000_000
    stated = case.until_told("no image becomes a frame: time_jump the stamps of /set_apart/odom step by -0.[45]")
    assert "not so those of the other topics" in stated
    set_ns = drone.now_ns()
    case.bench.wait(lambda: [line for line in case.said if "are left out" in line], what="told in the log")
    frames_then = case.status[-1].frames_written
    drone.offset_ns.clear()
    case.until_frames(frames_then + 10)
    dataset = case.stop()
    assert conserved(case.status[-1]), describe(case.status)
    of_truth(dataset, drone)
    assert dataset.stamps_ns[-1] > set_ns


@of("some")
def test_some_poses_of_nothing(case):
    """Zero quaternions and NaN positions, one in three: left out, and never in a frame."""
    case.until_frames(15)
    of_truth(case.stop(), case.drone)


@of("zeros")
def test_no_pose_but_zeros(case):
    case.until_told("^/zeros/odom", r"of its last [0-9]+ poses are of no use", "zeros")
    assert case.status[-1].frames_written == 0


@of("twist")
def test_odometry_with_a_twist_only(case):
    """As in a real recording: all frames would be taken at one place."""
    case.until_told("^/twist/odom", "never changes", r"4\.0 m/s", "remap")


@of("no_fix")
def test_fixes_that_are_none(case):
    case.until_frames(10)
    assert case.stop().meta.datum is None


@of("full")
def test_a_full_disk(case):
    status = case.until(lambda status: status.state == SyncStatus.ERROR, "an error")
    assert re.search(r"(?i)space|full", status.message), status.message
    assert "\n" not in status.message
    dataset = Dataset(case.out)
    assert len(dataset) == status.frames_written > 3
    for index in range(len(dataset)):
        dataset.rgb(index)


@of("little")
def test_little_space_left(case):
    """min_free_mib stops it before the disk is full."""
    case.until_told("min_free_mib", "free some space")
    assert not (case.out / "rgb").exists()


@of("locked")
def test_a_disk_that_is_read_only(case):
    case.until_told(re.escape(str(case.out)), "(?i)read-only|permission", "out")


@of("idle")
def test_services_at_the_wrong_time(case):
    case.until(lambda status: status.state == SyncStatus.IDLE, "idle")
    for name, kind in (("stop", Trigger), ("pause", SetBool)):
        answer = case.ask(name, kind)
        assert not answer.success
        assert answer.message == "nothing is being recorded"
    assert case.ask("start").success
    again = case.ask("start")
    assert not again.success
    assert "already" in again.message
    case.until_frames(3)
    assert case.ask("pause", SetBool, data=True).success
    case.until(lambda status: status.state == SyncStatus.PAUSED, "paused")
    case.bench.wait(lambda: "paused" in case.said, what="logged")
    assert case.ask("stop").success
    assert not case.ask("stop").success


@of("timeless")
def test_simulated_time_that_nobody_publishes(case):
    case.until_told("^/clock: use_sim_time is set", "publish it")
    case.bench.wait(lambda: any(line.startswith("/clock: use_sim_time") for line in case.said), what="logged")


@of("killed")
def test_killed(case):
    """kill -9: every frame that was told to be written can be read."""
    case.until_frames(5)
    case.process.send_signal(signal.SIGKILL)
    case.process.wait()
    told = max(status.frames_written for status in case.status)
    dataset = Dataset(case.out)
    assert len(dataset) >= told >= 5
    for index in range(len(dataset)):
        assert dataset.rgb(index).shape == (CAMERA.height, CAMERA.width, 3)
