"""The recorder's worker by itself: sessions that follow each other, waiting at the end, failures that do not end it."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from nav_msgs.msg import Odometry
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, Image, NavSatFix

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.nodes.common.conversions import to_image, to_stamp
from pose2rgbd_ros.nodes.record.inputs import Candidate, Input, RawMessage
from pose2rgbd_ros.nodes.record.session import Session
from pose2rgbd_ros.nodes.record.settings import RecordSettings
from pose2rgbd_ros.nodes.record.worker import RecordWorker

pytestmark = pytest.mark.ros
IMAGE = Input("image", "", [Candidate("/image/compressed", CompressedImage)], 10)
RAW = Input("image", "", [Candidate("/image", Image)], 10)
ODOM = Input("odom", "", [Candidate("/odom", Odometry)], 10)
FIX = Input("fix", "", [Candidate("/fix", NavSatFix)], 10)
JPEG = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))[1].tobytes()
START_NS = 1_700_000_000_000_000_000


class Desk:
    """A worker, and messages for it."""

    def __init__(self, folder, body_to_camera="identity", **settings):
        self.folder, self.said = folder, []
        self.began_s = None  # else messages arrive when they are sent, counted from then
        self.settings = RecordSettings(
            out=str(folder / "1"), depth="none", min_free_mib=0, body_to_camera=body_to_camera,
            **{"camera_info": False, **settings},
        )  # fmt: skip
        self.worker = RecordWorker(self.settings, self.said.append)

    def begin(self, name):
        settings = RecordSettings(**{**vars(self.settings), "out": str(self.folder / name)})
        session = Session(settings, SimpleNamespace(all=[]), self.worker.poses)
        self.worker.begin(session)
        return session

    def image(self, session, t_s, set_s=0.0):
        message = CompressedImage(format="jpeg")
        message.header.stamp, message.header.frame_id = to_stamp(START_NS + round(t_s * 1e9)), "camera"
        message.data.frombytes(JPEG)
        arrival = self._arrival(IMAGE, message, t_s, set_s)
        if session.offer(arrival):
            assert self.worker.put(arrival)

    def raw_image(self, session, t_s):
        """One that has to be encoded: threads do that, where a JPEG is only copied."""
        pixels = np.random.default_rng(round(10 * t_s)).integers(0, 256, (48, 64, 3), np.uint8)
        arrival = self._arrival(RAW, to_image(pixels, START_NS + round(t_s * 1e9), "camera"), t_s, 0.0)
        assert session.offer(arrival)
        assert self.worker.put(arrival)

    def pose(self, t_s, set_s=0.0):
        message = Odometry(child_frame_id="base_link")
        message.header.stamp, message.header.frame_id = to_stamp(START_NS + round(t_s * 1e9)), "odom"
        message.pose.pose.orientation.w = 1.0
        message.pose.pose.position.x = t_s
        assert self.worker.put(self._arrival(ODOM, message, t_s, set_s))

    def fix(self, t_s, latitude_deg):
        message = NavSatFix(latitude=latitude_deg, longitude=8.0 + 1e-5 * t_s, altitude=400.0)
        message.header.stamp, message.status.status = to_stamp(START_NS + round(t_s * 1e9)), 0
        assert self.worker.put(self._arrival(FIX, message, t_s, 0.0))

    def _arrival(self, source, message, t_s, set_s):
        stamp_ns = START_NS + round((t_s + set_s) * 1e9)
        arrived_s = time.monotonic() if self.began_s is None else self.began_s + t_s
        return RawMessage(source, stamp_ns, stamp_ns, arrived_s, serialize_message(message))

    def end(self, drain_s):
        done = threading.Event()
        self.worker.end(drain_s, done.set)
        return done


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path)
    yield made
    made.worker.stop()


def test_the_end_waits_for_the_poses_of_the_last_images(desk):
    session = desk.begin("1")
    for i in range(10):
        desk.pose(0.1 * i)
        desk.image(session, 0.1 * i + 0.05)
    done = desk.end(10.0)
    assert not done.wait(0.2), "the last image has no pose yet"
    desk.pose(1.0)
    assert done.wait(60.0)
    assert session.failure is None
    assert (session.frames, session.waiting) == (10, 0)
    assert len(Dataset(desk.folder / "1")) == 10


def test_all_that_may_be_missing_is_waited_for_at_once(tmp_path):
    """A calibration and where the camera sits: not for one after the other, or the first image would wait too long."""
    desk = Desk(tmp_path, "auto", camera_info=True, max_wait_s=1.0)
    session = desk.begin("1")
    desk.began_s = time.monotonic() - 0.7  # of the second that an image may wait
    for i in range(5):
        desk.pose(0.02 * i)
        desk.image(session, 0.02 * i)
    deadline_s = time.monotonic() + 60
    while session.waiting and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert (session.frames, session.tallies[""].rejects) == (5, {})
    desk.worker.stop()


def test_a_recording_too_short_to_wait_is_kept(tmp_path):
    """At its end it is decided with what there is."""
    desk = Desk(tmp_path, "auto", max_wait_s=60.0)
    session = desk.begin("1")
    for i in range(5):
        desk.pose(0.1 * i)
        desk.image(session, 0.1 * i)
    assert desk.end(0.0).wait(60.0)
    assert (session.frames, session.tallies[""].rejects) == (5, {})
    desk.worker.stop()


def flown(folder, began_s, latitude_deg=0.0, **settings):
    """What became of a recording of a few images, each with a pose and, at a latitude, a fix."""
    desk = Desk(folder, resume=True, **settings)
    session = desk.begin("1")
    for i in range(5):
        t_s = began_s + 0.1 * i
        desk.pose(t_s)
        if latitude_deg:
            desk.fix(t_s, latitude_deg)
        desk.image(session, t_s)
    assert desk.end(0.0).wait(60.0)
    desk.worker.stop()
    return session


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ({}, {"latitude_deg": 47.0, "position": "gps", "orientation": "pose"}, "place on Earth is unknown"),
        (
            {"latitude_deg": 47.0, "position": "gps", "orientation": "pose"},
            {"latitude_deg": 48.0, "position": "gps", "orientation": "pose"},
            "111 km from the map's datum",
        ),
    ],
)
def test_gps_positions_that_do_not_belong_into_a_dataset_are_refused(tmp_path, first, second, said):
    """As in the converter: their map is another one than that of the frames which are there."""
    assert flown(tmp_path, 0.0, **first).frames == 5
    session = flown(tmp_path, 100.0, **second)
    assert said in (session.failure or "")
    assert session.frames == 0
    assert len(Dataset(tmp_path / "1")) == 5
    if first:
        assert flown(tmp_path, 200.0, **first).failure is None
        assert len(Dataset(tmp_path / "1")) == 10


def test_the_end_does_not_wait_forever(desk):
    session = desk.begin("1")
    desk.image(session, 0.5)
    assert desk.end(0.2).wait(60.0)
    assert session.waiting == 0
    assert session.tallies[""].rejects == {"no_pose": 1}


def test_frames_that_are_being_encoded_at_the_end_are_written(desk, monkeypatch):
    desk.settings = RecordSettings(**{**vars(desk.settings), "jobs": 3})
    stage, go_on = DatasetWriter.stage, threading.Event()

    def slow(writer, stamp_ns, frame):
        assert stamp_ns == START_NS or go_on.wait(60.0)
        return stage(writer, stamp_ns, frame)

    monkeypatch.setattr(DatasetWriter, "stage", slow)
    session = desk.begin("1")
    for i in range(5):
        desk.pose(0.1 * i)
        desk.raw_image(session, 0.1 * i)
    done = desk.end(0.0)
    assert not done.wait(0.5)
    go_on.set()
    assert done.wait(60.0)
    assert (session.frames, session.tallies[""].rejects) == (5, {})
    assert len(Dataset(desk.folder / "1")) == 5


def test_a_new_session_ends_the_one_that_still_waits(desk):
    first = desk.begin("1")
    desk.pose(0.0)
    desk.image(first, 0.0)
    desk.image(first, 0.05)
    done = desk.end(60.0)
    second = desk.begin("2")
    assert done.wait(60.0)
    assert (first.frames, first.waiting) == (1, 0)
    desk.pose(0.1)
    desk.image(second, 0.08)
    assert desk.end(5.0).wait(60.0)
    assert second.frames == 1
    assert [len(Dataset(desk.folder / name)) for name in "12"] == [1, 1]


def test_a_message_that_breaks_something_ends_the_session_not_the_worker(desk, monkeypatch):
    session = desk.begin("1")
    desk.pose(0.0)
    desk.image(session, 0.0)
    assert desk.end(5.0).wait(60.0)
    session = desk.begin("2")
    monkeypatch.setattr(desk.worker.poses, "add", lambda arrival, stamp_ns: 1 / 0)
    desk.pose(0.1)
    desk.image(session, 0.1)
    assert desk.end(0.0).wait(60.0)
    assert session.failure == "recording failed: ZeroDivisionError: division by zero"
    assert desk.said == [session.failure]
    assert session.waiting == 0
    monkeypatch.undo()
    third = desk.begin("3")
    desk.pose(0.2)
    desk.image(third, 0.2)
    assert desk.end(5.0).wait(60.0)
    assert third.frames == 1


def test_an_end_that_fails_is_an_end(desk, monkeypatch):
    """Whoever waits for it (~/stop, the shutdown) goes on."""
    session = desk.begin("1")
    desk.pose(0.0)
    desk.image(session, 0.0)
    monkeypatch.setattr(session, "finish", lambda: 1 / 0)
    assert desk.end(1.0).wait(60.0)
    desk.begin("2")
    assert desk.end(0.0).wait(60.0)
    assert desk.said == ["recording failed: ZeroDivisionError: division by zero"]


@pytest.mark.parametrize("jobs", [1, 3])
def test_frames_before_a_failure_are_told(desk, monkeypatch, jobs):
    """Several threads encode: what is on disk is counted, in order, and what is not is not."""
    desk.settings = RecordSettings(**{**vars(desk.settings), "jobs": jobs})
    stage, first_bad_ns = DatasetWriter.stage, START_NS + 1_000_000_000

    def until_full(writer, stamp_ns, frame):
        if stamp_ns >= first_bad_ns:
            raise UserError("no space left")
        return stage(writer, stamp_ns, frame)

    monkeypatch.setattr(DatasetWriter, "stage", until_full)
    session = desk.begin("1")
    for i in range(20):
        desk.pose(0.1 * i)
    for i in range(20):
        desk.image(session, 0.1 * i)
    assert desk.end(5.0).wait(60.0)
    assert session.failure == "no space left"
    images, frames, rejects, waiting = session.tallies[""].snapshot()
    assert (images, frames, rejects, waiting) == (20, 10, {"stopped": 10}, 0)
    assert len(Dataset(desk.folder / "1")) == 10
    assert len(list((desk.folder / "1" / "rgb").iterdir())) == 10


def test_a_resumed_dataset_knows_its_frames(desk):
    session = desk.begin("1")
    for t_s in (0.0, 0.1, 0.2):
        desk.pose(t_s)
        desk.image(session, t_s)
    assert desk.end(5.0).wait(60.0)
    desk.settings = RecordSettings(**{**vars(desk.settings), "resume": True})
    again = desk.begin("1")
    for t_s in (0.1, 0.2, 0.3):
        desk.pose(t_s)
        desk.image(again, t_s)
    assert desk.end(5.0).wait(60.0)
    images, frames, rejects, waiting = again.tallies[""].snapshot()
    assert (images, frames, rejects, waiting) == (3, 1, {"present": 2}, 0)
    assert len(Dataset(desk.folder / "1")) == 4


def test_stamps_that_go_back_are_told_and_gone_on_from(desk):
    session = desk.begin("1")
    for t_s in (100.0, 100.1, 100.2):
        desk.pose(t_s)
        desk.image(session, t_s)
    for t_s in (5.0, 5.1, 5.2, 5.3):
        desk.pose(t_s)
        desk.image(session, t_s)
    assert desk.end(5.0).wait(60.0)
    first_words = [line.split(" jumped")[0] for line in desk.said]
    assert first_words == ["the stamps of /odom", "the stamps of /image/compressed"]
    assert session.failure is None
    dataset = Dataset(desk.folder / "1")
    assert set(dataset.T_map_cam[:, 0, 3].round(6)) <= {5.0, 5.1, 5.2, 5.3, 100.0, 100.1, 100.2}
    images, frames, rejects, waiting = session.tallies[""].snapshot()
    assert images == 7 == frames + sum(rejects.values()) + waiting
    assert frames >= 3, "the second round"


@pytest.mark.parametrize("by_s", [-3.35, -0.35, 0.35, 3.35])  # so that no two images have one stamp
@pytest.mark.parametrize("shared", [True, False])
def test_a_clock_that_is_set(desk, by_s, shared):
    """By all: no pose of before answers for an image of after. By the poses' alone: images after it are left out."""
    session, ready = desk.begin("1"), threading.Event()
    desk.worker._command(ready.wait)  # so that all messages are there before the first is looked at
    desk.began_s = time.monotonic()
    true_s_of = {}
    for i in range(120):
        t_s = i / 30
        set_s = by_s if t_s >= 2 else 0.0
        desk.pose(t_s, set_s)
        if i % 3 == 1:
            image_set_s = set_s if shared else 0.0
            desk.image(session, t_s + 0.01, image_set_s)
            true_s_of[START_NS + round((t_s + 0.01 + image_set_s) * 1e9)] = t_s + 0.01
    ready.set()
    assert desk.end(5.0).wait(60.0)
    assert session.failure is None
    dataset = Dataset(desk.folder / "1")
    true_s = [true_s_of[stamp_ns] for stamp_ns in dataset.stamps_ns.tolist()]
    np.testing.assert_allclose(dataset.T_map_cam[:, 0, 3], true_s, atol=1e-6)
    images, frames, rejects, waiting = session.tallies[""].snapshot()
    assert images == 40 == frames + sum(rejects.values()) + waiting
    assert frames >= 37 if shared else 18 <= frames <= 20
    assert any("/odom step by" in line for line in desk.said) is not shared
