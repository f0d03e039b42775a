"""Parts of the recorder by themselves: counts that conserve, figures of topics, stamps of serialized messages, bags
in pieces.
"""

from __future__ import annotations

import math
import struct
import threading
import time

import pytest
from builtin_interfaces.msg import Time
from geometry_msgs.msg import TransformStamped
from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from pose2rgbd_ros.alignment.live import AlignmentCheck
from pose2rgbd_ros.bags.reader import open_bag
from pose2rgbd_ros.bags.writer import SplitBagWriter
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.nodes.record import inputs
from pose2rgbd_ros.nodes.record.session import MultiCameraSync
from pose2rgbd_ros.nodes.record.stats import Stats, TopicWatch, median_latency_s
from pose2rgbd_ros.settings import read_yaml

pytestmark = pytest.mark.ros
IMAGE = "sensor_msgs/msg/CompressedImage"


@given(st.lists(st.sampled_from(["arrive", "frame", "reject", "paused"]), max_size=60), st.integers(1, 5))
def test_every_image_is_accounted_for(events, limit):
    tally = Stats(limit)
    for event in events:
        if event == "arrive":
            room = tally.waiting < limit
            assert tally.offer() == room
        elif event == "paused":
            assert not tally.offer("paused")
        elif tally.waiting and event == "frame":
            tally.frame(0.0)
        elif tally.waiting:
            tally.reject("pose_gap", "0.7 s")
        images, frames, rejects, waiting = tally.snapshot()
        assert images == frames + sum(rejects.values()) + waiting
        assert 0 <= waiting <= limit
    assert tally.images == sum(event in ("arrive", "paused") for event in events)


def test_latency_is_that_of_the_last_seconds():
    tally = Stats(5)
    assert math.isnan(median_latency_s([tally]))
    tally.offer()
    tally.frame(-1e9)
    assert median_latency_s([tally]) > 1e8


def test_figures_of_a_topic(monkeypatch):
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    watch = TopicWatch()
    assert (watch.silence_s, watch.rate_hz()) == (-1.0, 0.0)
    for i in range(41):
        watch.saw(10**9 + i * 10**8 + (i > 20) * 10**9, 10**9 + i * 10**8 + 2 * 10**7, now + 0.1 * i)
    now += 4.0
    assert watch.rate_hz() == pytest.approx(10.0)
    assert watch.longest_gap_s == pytest.approx(1.1)
    assert watch.latency_s() == pytest.approx(-0.98)
    now += 7.5
    assert watch.silence_s == pytest.approx(7.5)
    assert watch.rate_hz() == 0.0
    assert math.isnan(watch.latency_s())


@given(st.integers(0, 2**31 - 1), st.integers(0, 10**9 - 1), st.text(max_size=9))
def test_stamps_are_read_from_serialized_messages(sec, nanosec, frame):
    header = Header(stamp=Time(sec=sec, nanosec=nanosec), frame_id=frame)
    expected = sec * 10**9 + nanosec or inputs.NO_STAMP
    assert inputs._header_stamp_ns(serialize_message(CompressedImage(header=header))) == expected
    transforms = TFMessage(transforms=[TransformStamped(header=header), TransformStamped()])
    assert inputs._transform_stamp_ns(serialize_message(transforms)) == expected


def test_damaged_messages_have_no_stamp():
    assert inputs._header_stamp_ns(b"\0\1\0\0\5") == inputs.NO_STAMP
    assert inputs._transform_stamp_ns(serialize_message(TFMessage())) == inputs.NO_STAMP
    big_endian = b"\0\0\0\0" + struct.pack(">iI", 7, 5)
    assert inputs._header_stamp_ns(big_endian) == 7 * 10**9 + 5


def message(number: int) -> bytes:
    return serialize_message(CompressedImage(header=Header(stamp=Time(sec=number)), data=[number] * 1000))


def test_a_bag_in_pieces_is_one_recording(tmp_path):
    folder = tmp_path / "flight_bag"
    bag = SplitBagWriter(folder, 4000)
    bag.write("/tf_static", "tf2_msgs/msg/TFMessage", serialize_message(TFMessage()), 5, latched=True)
    for i in range(10):
        bag.write("/image", IMAGE, message(i), 10 + i)
    bag.close()
    assert sorted(path.name for path in folder.iterdir()) == [
        *(f"flight_bag_{i}.mcap" for i in range(3)), "metadata.yaml",
    ]  # fmt: skip
    metadata = read_yaml(folder / "metadata.yaml")["rosbag2_bagfile_information"]
    assert metadata["message_count"] == 13, "ten images, and the transforms in each of three files"
    assert metadata["starting_time"]["nanoseconds_since_epoch"] == 5
    assert metadata["duration"]["nanoseconds"] == 14
    with open_bag(folder) as reader:
        read = [(stamp, item.header.stamp.sec) for _, stamp, item in reader.messages(["/image"])]
        assert read == [(10 + i, i) for i in range(10)]
        assert reader.topics["/tf_static"].count == 3
    more = SplitBagWriter(folder, 4000)
    more.write("/image", IMAGE, message(10), 30)
    more.close()
    with open_bag(folder) as reader:
        assert reader.topics["/image"].count == 11, "a later recording goes on behind"


def test_a_bag_is_readable_while_it_is_written(tmp_path):
    folder = tmp_path / "bag"
    bag = SplitBagWriter(folder, 10**9)
    blob = serialize_message(CompressedImage(data=bytes(300_000)))
    for i in range(22):
        bag.write("/image", IMAGE, blob, i)
    with open_bag(folder) as reader:
        assert len(list(reader.messages(["/image"]))) == 20, "all but the chunk that is being filled"
    bag.close()


class Arrived:
    """Stands for an arrival where only its identity matters."""


def test_images_of_cameras_that_fire_together():
    tallies = {"left": Stats(100), "right": Stats(100)}
    together = MultiCameraSync(0.01, tallies)
    found = []
    for i in range(40):
        for name in tallies:
            if name == "right" and i % 4 == 0:
                continue
            tallies[name].offer()
            jitter_ns = 3_000_000 if name == "right" else 0
            found += together.add(name, i * 10**8 + jitter_ns, Arrived())
    together.forget("not_together")
    by_camera = {name: [stamp for camera, (stamp, _) in found if camera == name] for name in tallies}
    assert by_camera["left"] == [i * 10**8 for i in range(40) if i % 4]
    assert by_camera["right"] == [stamp + 3_000_000 for stamp in by_camera["left"]]
    assert dict(tallies["left"].rejects) == {"not_together": 10}
    assert not tallies["right"].rejects


def test_an_image_that_is_late_for_the_others_is_counted_once():
    """Rejected when the others are a second ahead, it is no more matched by a fellow that comes later still."""
    tallies = {"left": Stats(100), "right": Stats(100)}
    together = MultiCameraSync(0.01, tallies)
    found = []
    for name, t_s in (("left", 0.0), ("left", 2.0), ("right", 0.0), ("right", 2.0)):
        tallies[name].offer()
        found += [(camera, pair[0]) for camera, pair in together.add(name, round(t_s * 1e9), Arrived())]
    assert sorted(found) == [("left", 2 * 10**9), ("right", 2 * 10**9)]
    together.forget("not_together")
    assert [dict(tally.rejects) for tally in tallies.values()] == [{"not_together": 1}] * 2


def test_stamps_are_forgotten_in_the_middle_of_a_message():
    """The worker finds that time jumped while the executor takes the next message."""
    watch = TopicWatch()

    class Arrived(float):
        def __sub__(self, other):
            watch.forget_stamps()
            return float(self) - other

    watch.saw(0, 0, 0.0)
    watch.saw(5 * 10**9, 0, Arrived(10.0))
    watch.saw(9 * 10**9, 0, 11.0)
    assert watch.longest_gap_s == 0.0
    watch.saw(10 * 10**9, 0, 12.0)
    assert watch.longest_gap_s == 1.0


def test_the_check_of_the_clocks_survives_damaged_images():
    check = AlignmentCheck()
    try:
        for error in (UserError("no JPEG"), struct.error("too short"), ZeroDivisionError("unforeseen")):
            taken = threading.Event()

            def decode(error=error, taken=taken):
                taken.set()
                raise error

            check.offer_image(1, decode)
            assert taken.wait(60.0), "the thread has ended"
        end_s = time.monotonic() + 5.0
        while "unforeseen" not in check.latest.why and time.monotonic() < end_s:
            time.sleep(0.01)
        assert check.latest.why == "the check failed: ZeroDivisionError: unforeseen"
        assert check.latest.confidence == 0.0
    finally:
        check.close()


def test_a_tally_is_safe_from_many_threads():
    tally = Stats(10**9)

    def work():
        for _ in range(2000):
            tally.offer()
            tally.frame(0.0)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tally.snapshot() == (8000, 8000, {}, 0)
