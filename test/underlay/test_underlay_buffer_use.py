"""tf2_ros.Buffer without topics: telling, waiting, transforming objects, many threads, speed."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import tf2_ros
import yaml
from builtin_interfaces.msg import Time as TimeMsg
from rclpy.duration import Duration
from rclpy.time import Time

LATEST = Time()
YAW_90 = (0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5))


def at(seconds: float) -> Time:
    return Time(nanoseconds=round(seconds * 1e9))


def position(message) -> list[float]:
    t = message.transform.translation
    return [t.x, t.y, t.z]


def stamp_s(message) -> float:
    return message.header.stamp.sec + message.header.stamp.nanosec * 1e-9


# Telling about the tree


def test_frames_as_yaml(moving, make_transform):
    for step in range(1, 9):
        moving.set_transform(make_transform("map", "base", 12.0 + step / 4), "me")
    frames = yaml.safe_load(moving.all_frames_as_yaml())
    assert set(frames) == {"base", "camera"}
    assert frames["base"] == {
        "parent": "map",
        "broadcaster": "me",
        "rate": 2.5,
        "most_recent_transform": 14.0,
        "oldest_transform": 10.0,
        "buffer_length": 4.0,
    }
    assert frames["camera"]["parent"] == "base"
    assert frames["camera"]["rate"] == 10000.0


def test_frames_of_an_empty_buffer(buffer):
    assert yaml.safe_load(buffer.all_frames_as_yaml()) == []
    assert buffer.all_frames_as_string() == ""


def test_frames_as_string(moving):
    expected = "Frame base exists with parent map.\nFrame camera exists with parent base.\n"
    assert moving.all_frames_as_string() == expected
    moving.clear()
    assert "Frame base exists with parent NO_PARENT.\n" in moving.all_frames_as_string()


# Waiting


def test_waiting_ends_when_the_transform_arrives(buffer, make_transform):
    def arrive():
        buffer.set_transform(make_transform("map", "base", 1.0, (1.0, 0.0, 0.0)), "test")

    timer = threading.Timer(0.1, arrive)
    timer.start()
    found = buffer.lookup_transform("map", "base", LATEST, timeout=Duration(seconds=100_000))
    assert position(found) == [1.0, 0.0, 0.0]
    timer.join()


def test_waiting_in_vain(moving):
    start = time.monotonic()
    assert not moving.can_transform("map", "base", at(13.0), timeout=Duration(seconds=0.2))
    assert time.monotonic() - start >= 0.19
    with pytest.raises(tf2_ros.LookupException):
        moving.lookup_transform("map", "moon", LATEST, Duration(seconds=0.05))
    assert not moving.can_transform_full("base", at(13.0), "base", at(10.0), "map", timeout=Duration(seconds=0.05))


def test_a_future_gets_the_transform(moving, make_transform):
    now = moving.wait_for_transform_async("map", "base", at(11.0))
    assert now.done()
    assert position(now.result()) == pytest.approx([1.0, 0.0, 0.0])
    later = moving.wait_for_transform_async("map", "base", at(13.0))
    between = moving.wait_for_transform_full_async("base", at(13.0), "base", at(12.0), "map")
    moving.set_transform(make_transform("map", "base", 12.5), "test")
    assert not later.done()
    moving.set_transform(make_transform("map", "base", 14.0, (8.0, 0.0, 0.0), YAW_90), "test")
    assert later.done()
    assert between.done()
    assert position(later.result())[0] == pytest.approx(8.0 / 3)


# Objects


class Marker:
    def __init__(self, header, text):
        self.header, self.text = header, text


def test_registered_types_can_be_transformed(moving, make_transform):
    header = make_transform("camera", "", 11.0).header

    def move(marker, transform):
        return Marker(transform.header, f"{marker.text} in {transform.header.frame_id}")

    with pytest.raises(tf2_ros.TypeException):
        moving.transform(Marker(header, "tree"), "map")
    tf2_ros.TransformRegistration().add(Marker, move)
    assert moving.transform(Marker(header, "tree"), "map").text == "tree in map"
    assert moving.transform_full(Marker(header, "tree"), "base", at(12.0), "map").text == "tree in base"
    tf2_ros.ConvertRegistration().add_convert((Marker, str), lambda marker: marker.text)
    assert moving.transform(Marker(header, "tree"), "map", new_type=str) == "tree in map"


def test_convert_by_way_of_a_message():
    registration = tf2_ros.ConvertRegistration()
    registration.add_to_msg(int, lambda number: f"message {number}")
    registration.add_from_msg(bytes, lambda message: message.encode())
    assert tf2_ros.convert(7, bytes) == b"message 7"
    original = [1, [2]]
    copied = tf2_ros.convert(original, list)
    assert copied == original
    assert copied[1] is not original[1]


def test_stamped_adds_a_header():
    marker = tf2_ros.Stamped(Marker(None, "tree"), TimeMsg(sec=3), "map")
    assert (marker.header.stamp.sec, marker.header.frame_id) == (3, "map")


def test_the_interface_alone_cannot_look_up():
    interface = tf2_ros.BufferInterface()
    with pytest.raises(tf2_ros.NotImplementedException):
        interface.lookup_transform("map", "base", LATEST)
    with pytest.raises(tf2_ros.NotImplementedException):
        interface.can_transform("map", "base", LATEST)


# Many threads, and speed


def test_readers_and_a_writer_at_once(make_transform):
    """A point that moves at 1 m/s is never seen anywhere else, while samples arrive and old ones go."""
    buffer = tf2_ros.Buffer(cache_time=Duration(seconds=1))
    buffer.set_transform(make_transform("map", "base", 1.0, (1.0, 0.0, 0.0)), "writer")
    failures: list[str] = []
    finished = threading.Event()

    def read():
        while not finished.is_set():
            found = buffer.lookup_transform("map", "base", LATEST)
            if abs(position(found)[0] - stamp_s(found)) > 1e-6:
                failures.append(f"{position(found)} at {stamp_s(found)}")
            earlier = at(stamp_s(found) - 0.3)
            try:
                found = buffer.lookup_transform("map", "base", earlier)
            except tf2_ros.ExtrapolationException:
                continue
            if abs(position(found)[0] - earlier.nanoseconds * 1e-9) > 1e-6:
                failures.append(f"{position(found)} at {earlier}")

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for step in range(2000):
        second = 1.0 + step / 200
        buffer.set_transform(make_transform("map", "base", second, (second, 0.0, 0.0)), "writer")
    finished.set()
    for reader in readers:
        reader.join()
    assert not failures
