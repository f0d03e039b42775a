"""The record node over DDS: what is published becomes frames, byte for byte and in place; every image is accounted
for.
"""

from __future__ import annotations

import math
import re
import shutil

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from nodes.conftest import Reports
from pose2rgbd.msg import SyncStatus
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool, Trigger
from support.live_drone import CAMERA, DATUM, LiveDrone
from tf2_msgs.msg import TFMessage

from pose2rgbd_ros.bags.reader import open_bag
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.nodes.record.node import RecordNode
from pose2rgbd_ros.settings import read_yaml

pytestmark = pytest.mark.ros
SMALL = {"min_free_mib": 0, "max_wait_s": 1.0}


class Recorder:
    """A record node, and what it says."""

    def __init__(self, bench, out, **parameters):
        self.bench, self.out = bench, out
        self.status = bench.collect(SyncStatus, "/record/status")
        self.diagnostics = bench.collect(DiagnosticArray, "/diagnostics")
        self.node = bench.spin(RecordNode, out=str(out), **{**SMALL, **parameters})

    def wait(self, condition, what=""):
        return self.bench.wait(lambda: next((s for s in self.status[::-1] if condition(s)), None), what=what)

    def frames(self, count):
        """Wait for so many frames; the status that told of them."""
        return self.wait(lambda status: status.frames_written >= count, f"{count} frames")

    def start(self):
        return self.bench.call(Trigger, "/record/start", Trigger.Request())

    def stop(self):
        return self.bench.call(Trigger, "/record/stop", Trigger.Request())

    def pause(self, paused):
        return self.bench.call(SetBool, "/record/pause", SetBool.Request(data=paused))

    def final(self):
        """The status after the end."""
        idle = lambda: self.status[-1] if self.status[-1].state == SyncStatus.IDLE else None  # noqa: E731
        return self.bench.wait(idle)


def rejects(status, camera=""):
    return {item.reason: item.count for item in status.rejects if item.camera == camera}


def assert_conserved(status):
    assert status.images == status.frames_written + sum(r.count for r in status.rejects) + status.waiting


def rate_hz(stamps_ns):
    """What a busy machine made of the rate, over about the time that the recorder looks at."""
    lately = [stamp for stamp in stamps_ns if stamp > stamps_ns[-1] - 3 * 10**9]
    return (len(lately) - 1) / ((lately[-1] - lately[0]) / 1e9)


def poses_error_m(dataset, drone):
    true = np.stack([drone.T_map_cam(int(stamp)) for stamp in dataset.stamps_ns])
    return np.abs(dataset.T_map_cam - true).max()


def test_a_flight(bench, tmp_path):
    """Recorded with its mcap, paused, stopped, started again; each frame verbatim and in its place."""
    drone = LiveDrone(bench.node)
    recorder = Recorder(bench, tmp_path / "flight", bag="mcap", sync="check")
    told = recorder.frames(20)
    assert told.state == SyncStatus.RECORDING
    assert told.dataset == str(tmp_path / "flight")
    assert_conserved(told)
    health = {item.topic: item for item in told.topics}
    assert health["/odom"].type == "nav_msgs/msg/Odometry"
    of_odometry = lambda s: next(t.rate_hz for t in s.topics if t.topic == "/odom")  # noqa: E731
    recorder.wait(lambda s: of_odometry(s) == pytest.approx(rate_hz(drone.sent["odom"]), rel=0.5), "its rate")
    assert 0 <= health["/image/compressed"].latency_s < 60
    assert 0 <= health["/image/compressed"].silence_s < 60
    assert told.bag_bytes > 0
    assert told.disk_free_bytes == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.05)
    assert 0 < told.added_latency_s < 60
    assert np.isnan(told.image_time_offset_s), "a second tells nothing of the clocks"
    assert told.image_time_offset_confidence == 0.0
    values = {pair.key: pair.value for pair in recorder.diagnostics[-1].status[0].values}
    assert values["state"] == "recording"
    assert float(values["/odom rate_hz"]) > 0
    assert recorder.start().message.startswith("records already")

    assert recorder.pause(True).success
    paused = recorder.wait(lambda s: s.state == SyncStatus.PAUSED and rejects(s).get("paused", 0) > 3)
    assert_conserved(paused)
    assert recorder.pause(False).success
    recorder.frames(paused.frames_written + 10)
    answer = recorder.stop()
    assert answer.success, answer.message
    final = recorder.final()
    assert final.state == SyncStatus.IDLE
    assert final.waiting == 0
    assert_conserved(final)
    assert f"{final.frames_written} frames of {final.images} images" in answer.message
    assert set(rejects(final)) <= {"paused", "before_first_pose", "no_pose"}

    dataset = Dataset(tmp_path / "flight")
    assert len(dataset) == final.frames_written
    assert set(dataset.stamps_ns.tolist()) <= set(drone.sent["image/compressed"])
    assert poses_error_m(dataset, drone) < 0.05, "linear between poses 20 ms apart, more on a busy machine"
    files = [path.read_bytes() for path in (tmp_path / "flight" / "rgb").iterdir()]
    assert set(files) <= set(drone._frames), "byte for byte"
    assert dataset.camera.fx == pytest.approx(CAMERA.fx)
    assert dataset.meta.map_frame == "map"
    report = read_yaml(tmp_path / "flight" / "record_report.yaml")
    assert report["frames_written"] == final.frames_written
    assert "camera mount base_link -> camera from static TF" in report["notes"]
    with open_bag(tmp_path / "flight_bag") as bag:
        images = [decoded.header for _, _, decoded in bag.messages(["/image/compressed"])]
        assert len(images) == final.images - rejects(final)["paused"]
        assert bag.topics["/tf_static"].count == 1

    assert not recorder.stop().success
    refused = recorder.start()
    assert not refused.success
    assert "already holds a dataset" in refused.message
    assert recorder.wait(lambda s: s.state == SyncStatus.ERROR).message == refused.message


def test_a_topic_that_is_silent_for_five_seconds_is_told_with_the_reason(bench, tmp_path, set_ahead):
    drone = LiveDrone(bench.node, without=("image", "depth", "/clock", "fix"))
    recorder = Recorder(bench, tmp_path / "flight", depth="none")
    reports = Reports(bench, recorder.node)
    recorder.frames(3)
    drone.silence("odom")
    reports.next()  # what was under way has come
    set_ahead(5.0)
    told = reports.next()
    assert told.level == DiagnosticStatus.WARN
    assert re.search("/odom: silent for [0-9]+ s, though /tester publishes it", told.message)
    problems = lambda s: {topic.topic: topic.problem for topic in s.topics}  # noqa: E731
    recorder.wait(lambda s: problems(s)["/odom"].startswith("silent for"), "the topic's own line")


def test_depth_and_the_datum(bench, tmp_path):
    """Raw colour and depth; where the map lies on Earth is found out from the fixes; the folder is gone on with."""
    drone = LiveDrone(bench.node, without=("image/compressed", "/clock"))
    spoiled = iter(range(10**9))
    drone.spoil["depth"] = lambda message: None if next(spoiled) % 5 == 4 else message
    drone.spoil["fix"] = with_fix
    recorder = Recorder(bench, tmp_path / "flight", resume=True, start_recording=False)
    assert recorder.wait(lambda s: s.state == SyncStatus.IDLE and s.message.startswith("not recording"))
    assert recorder.start().success
    recorder.wait(lambda s: s.frames_written >= 45 and rejects(s).get("no_depth", 0) >= 5)
    assert recorder.stop().success
    final = recorder.final()
    dataset = Dataset(tmp_path / "flight")
    assert dataset.depth_kind == "metric"
    np.testing.assert_array_equal(dataset.depth(5), np.full((CAMERA.height, CAMERA.width), 50.0))
    datum = dataset.meta.datum
    assert datum is not None
    offset_m = np.subtract([datum.latitude_deg, datum.longitude_deg], [DATUM.latitude_deg, DATUM.longitude_deg]) * 1e5
    assert np.abs(offset_m).max() < 1.0
    recorder.status.clear()
    assert recorder.start().success
    recorder.wait(lambda s: s.state == SyncStatus.RECORDING and 5 <= s.frames_written < 40)
    assert recorder.stop().success
    assert len(Dataset(tmp_path / "flight")) > final.frames_written + 4


def with_fix(message):
    message.status.status = 0
    return message


def test_a_queue_that_is_full(bench, tmp_path):
    """Without poses images wait, and then there is no room for more: counted, never silent."""
    drone = LiveDrone(bench.node, without=("image", "depth", "/clock", "odom"))
    recorder = Recorder(bench, tmp_path / "flight", queue_size=4, max_wait_s=0.5)
    told = recorder.wait(lambda s: rejects(s).get("queue_full", 0) > 5 and rejects(s).get("no_pose", 0) > 3)
    assert_conserved(told)
    assert told.waiting <= 5
    recorder.wait(lambda s: "frames: images are rejected because 4 wait already" in s.message)
    assert told.queue_size == 4
    assert recorder.stop().success
    final = recorder.final()
    assert final.waiting == 0
    assert_conserved(final)
    assert drone.sent["image/compressed"]


def test_poses_and_mount_from_tf(bench, tmp_path):
    drone = LiveDrone(bench.node, without=("image", "depth", "/clock", "odom"))
    mapped = iter(range(10**9))

    def locate():
        now_ns = drone.now_ns()
        bench.send(drone._T_map_body(now_ns), now_ns, "odom", "base_link")
        if next(mapped) % 5 == 0:
            bench.send(np.eye(4), now_ns + 10**8, "map", "odom")  # ahead of time, as localizations send it

    timer = bench.node.create_timer(0.02, locate)
    recorder = Recorder(bench, tmp_path / "flight")
    recorder.frames(15)
    assert recorder.stop().success
    bench.node.destroy_timer(timer)
    dataset = Dataset(tmp_path / "flight")
    assert dataset.meta.map_frame == "map", "the most global frame, not odom"
    assert poses_error_m(dataset, drone) < 0.05


def times_ns(path):
    """When the messages of a bag were received, by topic."""
    times: dict[str, list[int]] = {}
    with open_bag(path) as bag:
        for topic, received_ns, _ in bag.messages(list(bag.topics)):
            times.setdefault(topic, []).append(received_ns)
    return times


def test_a_bag_of_simulated_time_begins_with_the_first_clock(bench, tmp_path):
    """What comes ahead of /clock has no time; at 0 a player would wait for decades. Also once the recorder has
    idled.
    """
    drone = LiveDrone(bench.node, without=("image", "depth", "camera_info", "fix"))
    real = bench.node.get_clock()
    began_ns = real.now().nanoseconds
    origin_ns = [1_700_000_000 * 10**9]
    drone.now_ns = lambda: origin_ns[0] + real.now().nanoseconds - began_ns
    drone.start_ns = origin_ns[0]
    drone.silence("/clock")
    timer = bench.node.create_timer(0.05, lambda: bench.send(np.eye(4), drone.now_ns(), "odom", "base_link"))
    recorder = Recorder(
        bench, tmp_path / "flight", bag="mcap", depth="none", camera_info=False, use_sim_time=True, resume=True
    )
    before = lambda s: {t.topic for t in s.topics if t.messages} >= {"/tf", "/tf_static", "/odom"}  # noqa: E731
    told = recorder.wait(before, what="transforms ahead of the clock")
    assert all(math.isnan(topic.latency_s) for topic in told.topics), "no time, no latency"
    clock_ns = drone.now_ns()
    drone.send_again("/clock", [])
    bench.wait(lambda: recorder.node.get_clock().now().nanoseconds >= clock_ns, what="the clock")
    lamp = conversions.to_transform_stamped(np.eye(4), drone.now_ns(), "base_link", "lamp")
    drone._send("/tf_static", TFMessage(transforms=[lamp]))
    recorder.frames(recorder.status[-1].frames_written + 5)
    assert recorder.stop().success
    whole = read_yaml(tmp_path / "flight_bag" / "metadata.yaml")["rosbag2_bagfile_information"]
    begin_ns, length_ns = whole["starting_time"]["nanoseconds_since_epoch"], whole["duration"]["nanoseconds"]
    assert clock_ns <= begin_ns <= begin_ns + length_ns <= drone.now_ns()
    times = times_ns(tmp_path / "flight_bag")
    assert {"/tf", "/tf_static", "/odom", "/image/compressed"} <= set(times)
    assert min(map(min, times.values())) == times["/tf_static"][0] == times["/tf"][0] == begin_ns
    assert len(times["/tf_static"]) == 2

    origin_ns[0] += 3600 * 10**9
    start_ns = drone.now_ns()
    bench.wait(lambda: recorder.node.get_clock().now().nanoseconds >= start_ns, what="an hour later")
    recorder.status.clear()
    assert recorder.start().success
    recorder.frames(5)
    assert recorder.stop().success
    bench.node.destroy_timer(timer)
    times = times_ns(tmp_path / "flight_bag" / "flight_bag_1.mcap")
    assert min(map(min, times.values())) == times["/tf_static"][0] >= start_ns, "kept, and of its beginning"
    assert len(times["/tf_static"]) == 2


def test_several_cameras(bench, tmp_path):
    """A dataset each; with cameras_together_s only what all took."""
    names = {"image/compressed": "front/image/compressed", "camera_info": "front/camera_info"}
    below = {topic: name.replace("front", "down") for topic, name in names.items()}
    front = LiveDrone(bench.node, renamed=names)
    down = LiveDrone(bench.node, without=("image", "depth", "/clock", "odom", "fix"), renamed=below)
    missing = iter(range(10**9))
    front.spoil["image/compressed"] = lambda message: None if next(missing) % 4 == 3 else message
    recorder = Recorder(bench, tmp_path / "flight", cameras="front,down", cameras_together_s=0.04, depth="none")
    told = recorder.wait(lambda s: s.frames_written >= 40 and rejects(s, "down").get("not_together", 0) >= 5)
    assert_conserved(told)
    assert recorder.stop().success
    front_ns, down_ns = (Dataset(tmp_path / "flight" / name).stamps_ns for name in ("front", "down"))
    alone = sum(np.abs(down_ns - stamp).min() > 4e7 for stamp in front_ns)
    alone += sum(np.abs(front_ns - stamp).min() > 4e7 for stamp in down_ns)
    assert alone <= 2, "the first or last pose may lie between the two images"
    assert len(down_ns) < 0.9 * len(down.sent["image/compressed"]), "those that the front did not take are left out"


def test_lifecycle_and_settings(bench, tmp_path):
    """A bad setting fails configure with its reason; settings hold while configured; deactivating finishes."""
    drone = LiveDrone(bench.node)
    recorder = Recorder(bench, tmp_path / "flight", autostart=False, cameras="1")
    assert not bench.change(Transition.TRANSITION_CONFIGURE, "/record")
    assert recorder.wait(lambda s: s.state == SyncStatus.ERROR).message.startswith("cameras is '1'")
    (good,) = recorder.node.set_parameters([Parameter("cameras", value="")])
    assert good.successful
    assert bench.change(Transition.TRANSITION_CONFIGURE, "/record")
    (late,) = recorder.node.set_parameters([Parameter("max_wait_s", value=7.0)])
    assert "can only change while the node is unconfigured" in late.reason
    assert not recorder.start().success
    assert bench.change(Transition.TRANSITION_ACTIVATE, "/record")
    told = recorder.frames(10)
    assert bench.change(Transition.TRANSITION_DEACTIVATE, "/record")
    assert len(Dataset(tmp_path / "flight")) >= told.frames_written
    assert (tmp_path / "flight" / "transforms.json").exists()
    recorder.node.set_parameters([Parameter("out", value=str(tmp_path / "second"))])
    assert bench.change(Transition.TRANSITION_CLEANUP, "/record")
    recorder.node.set_parameters([Parameter("out", value=str(tmp_path / "second"))])
    assert bench.change(Transition.TRANSITION_CONFIGURE, "/record")
    assert bench.change(Transition.TRANSITION_ACTIVATE, "/record")
    recorder.wait(lambda s: s.dataset.endswith("second") and s.frames_written > 5)
    drone.land()


def test_folders_that_cannot_take_it(bench, tmp_path):
    """Too little space, a file in the way, somebody else's folder: told, and ~/start tries again."""
    (tmp_path / "file").write_text("")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.txt").write_text("")
    LiveDrone(bench.node)
    recorder = Recorder(bench, tmp_path / "flight", min_free_mib=10**9)
    told = recorder.wait(lambda s: s.state == SyncStatus.ERROR)
    assert "less than min_free_mib" in told.message
    assert "\n" not in told.message
    for out, min_free_mib, said in (
        ("file/flight", 0, "cannot be written"), ("theirs", 0, "holds no dataset of ours"),
    ):  # fmt: skip
        bench.change(Transition.TRANSITION_DEACTIVATE, "/record")
        bench.change(Transition.TRANSITION_CLEANUP, "/record")
        values = {"out": str(tmp_path / out), "min_free_mib": min_free_mib}
        recorder.node.set_parameters(bench.overrides(RecordNode, values))
        bench.change(Transition.TRANSITION_CONFIGURE, "/record")
        bench.change(Transition.TRANSITION_ACTIVATE, "/record")
        assert recorder.wait(lambda s, said=said: s.state == SyncStatus.ERROR and said in s.message)
    shutil.rmtree(tmp_path / "theirs")
    assert recorder.start().success
    recorder.frames(5)
    assert recorder.stop().success
    assert cv2.imread(str(next((tmp_path / "theirs" / "rgb").iterdir()))) is not None
