"""Parts of the avoid node by themselves: the body and its sensors from TF, its velocity, what live sensors say, sets
by stamp.

Transforms lie in a real buffer, and messages are handed over as a subscription does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from nav_msgs.msg import Odometry
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image, Range

from pose2rgbd_ros.geometry import quaternions, se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.nodes.avoid.inputs import BodyFrames, DepthInputs, LiveInputs, Motion, Placed
from pose2rgbd_ros.nodes.avoid.settings import AvoidSettings
from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.nodes.common.tf import TfLookup

pytestmark = pytest.mark.ros
SECOND = 10**9
PITCH = 0.2
NORTH = quaternions.from_euler_rpy([0.0, PITCH, math.pi / 2])
ON_BODY = se3.make([0.3, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0])


class Frames:
    """BodyFrames of a buffer that is filled by hand."""

    def __init__(self, node: Node, **settings: Any) -> None:
        self._poses = TfLookup(node, lambda: None, lambda message: None)
        self.settings = AvoidSettings(**settings)
        self.of = BodyFrames(self._poses, self.settings)

    def know(self, T: np.ndarray, stamp_ns: int, parent: str, child: str, static: bool = False) -> None:
        message = conversions.to_transform_stamped(T, stamp_ns, parent, child)
        (self._poses._buffer.set_transform_static if static else self._poses._buffer.set_transform)(message, "test")


@pytest.fixture
def make_frames(make_node: Callable[..., Node]) -> Callable[..., Frames]:
    return lambda **settings: Frames(make_node(), **settings)


def test_a_sensor_is_where_it_was_at_its_own_time(make_frames):
    """The body looked east at the origin, 10 m up; now it is 5 m farther east, looks north, its nose down."""
    frames = make_frames()
    frames.know(se3.make([0.0, 0.0, 10.0], [0.0, 0.0, 0.0, 1.0]), 1 * SECOND, "map", "base_link")
    frames.know(se3.make([5.0, 0.0, 10.0], NORTH), 2 * SECOND, "map", "base_link")
    frames.know(ON_BODY, 0, "base_link", "lidar", static=True)
    now = frames.of.body_at(2 * SECOND)
    then = frames.of.sensor_at(now, "lidar", 1 * SECOND)
    assert np.allclose(then[:3, 3], [0.0, 4.7, 0.0]), "to the left of a body that looks north"
    assert np.allclose(then[:3, 0], [0.0, -1.0, 0.0]), "it looked east"
    nose = [0.3 * math.cos(PITCH), 0.0, -0.3 * math.sin(PITCH)]
    assert np.allclose(frames.of.sensor_at(now, "lidar", 2 * SECOND)[:3, 3], nose)
    assert np.allclose(frames.of.sensor_at(now, "lidar", 3 * SECOND)[:3, 3], nose), (
        "as it sits, where TF does not reach"
    )
    assert np.allclose(frames.of.camera_at(now, "lidar")[:3, 3], nose)
    assert np.allclose(now.T_body(frames.of.camera_at(now, "lidar")), ON_BODY)


@pytest.mark.parametrize("level", [True, False])
def test_the_body_and_its_camera_are_known_up_to_the_older_of_the_two(make_frames, level):
    frames = make_frames(level=level)
    for stamp_ns, parent, child in ((3, "map", "base_link"), (2, "base_link", "gimbal")):
        frames.know(ON_BODY, stamp_ns * SECOND, parent, child)
    frames.know(ON_BODY, 0, "base_link", "fixed", static=True)
    assert frames.of.newest_ns("gimbal") == 2 * SECOND
    assert frames.of.newest_ns("fixed") == (3 * SECOND if level else None), "in the body's own frame, at any time"


def twist(stamp_ns: int, child: str = "base_link") -> Odometry:
    message = Odometry(child_frame_id=child)
    message.header.stamp = conversions.to_stamp(stamp_ns)
    message.twist.twist.linear.x, message.twist.twist.linear.z = 4.0, 1.0
    return message


def test_a_velocity_is_turned_from_its_own_frame_to_the_level_one(make_node, make_frames):
    """Of the body with its nose down; of an IMU that sits on it turned to the left."""
    motion, frames = Motion(make_node()), make_frames()
    frames.know(se3.make([0.0, 0.0, 10.0], NORTH), 2 * SECOND, "map", "base_link")
    frames.know(
        se3.make([0.0, 0.0, 0.0], [0.0, 0.0, math.sqrt(0.5), math.sqrt(0.5)]), 0, "base_link", "imu", static=True
    )
    now = frames.of.body_at(2 * SECOND)
    c, s = math.cos(PITCH), math.sin(PITCH)
    for child, wanted in (
        ("base_link", [4 * c + s, 0.0, c - 4 * s]),
        ("imu", [s, 4.0, c]),
        ("", [4 * c + s, 0.0, c - 4 * s]),
    ):
        motion._take(twist(2 * SECOND, child))
        assert np.allclose(motion.velocity(frames.of, now, 0.5), wanted), child
        assert motion.problem == ""
    motion._take(twist(2 * SECOND, "nowhere"))
    assert motion.velocity(frames.of, now, 0.5) is None
    assert "nowhere" in motion.problem


@pytest.mark.parametrize(("off_ns", "said"), [(-600_000_000, "0.60 s older"), (600_000_000, "0.60 s newer")])
def test_a_velocity_of_another_time_is_none(make_node, make_frames, off_ns, said):
    motion, frames = Motion(make_node()), make_frames(level=False)
    now = frames.of.body_at(2 * SECOND)
    assert motion.velocity(frames.of, now, 0.5) is None
    motion._take(twist(2 * SECOND + off_ns))
    assert motion.velocity(frames.of, now, 0.5) is None
    assert motion.problem == f"the newest odometry is {said} than the depth"
    assert motion.velocity(frames.of, now, 0.7) is not None


@pytest.mark.parametrize("off_s", [-90.0, 90.0])
def test_a_live_sensor_of_another_clock_is_lost_and_not_used(make_node, make_frames, off_s):
    node, frames = make_node(), make_frames(level=False, live_timeout_s=60.0)
    frames.know(ON_BODY, 0, "base_link", "lidar", static=True)
    live, now_ns = LiveInputs(node), node.get_clock().now().nanoseconds
    message = Range(field_of_view=0.2, min_range=0.2, max_range=8.0, range=4.0)
    image, info = Image(), conversions.camera_to_info(Camera.from_fov(8, 8, 90.0))
    for stamp_ns, used in ((now_ns + round(off_s * SECOND), False), (now_ns, True)):
        for role, each in (("range", message), ("live_depth", image)):
            each.header.stamp, each.header.frame_id = conversions.to_stamp(stamp_ns), "lidar"
            live._take(each, role)
        live._take_info(info)
        now = Placed(now_ns, None, np.eye(3))
        assert bool(live.ranges(frames.settings, frames.of, now)) is used
        assert (live.depth(frames.settings, frames.of, now) is not None) is used
        lost = live.lost(frames.settings)
        assert (lost == "") is used
        assert used or ("in the future" if off_s > 0 else "s old") in lost


def test_a_range_beyond_the_limits_of_its_sensor_is_infinite(make_node, make_frames):
    """By REP-117: nearer than it measures -inf, farther than it measures +inf."""
    node, frames = make_node(), make_frames(level=False, live_timeout_s=60.0)
    frames.know(ON_BODY, 0, "base_link", "lidar", static=True)
    live, found = LiveInputs(node), []
    for metres in (0.1, 0.2, 4.0, 8.0, 8.1, math.inf, -math.inf):
        message = Range(field_of_view=0.2, min_range=0.2, max_range=8.0, range=metres)
        message.header.stamp, message.header.frame_id = node.get_clock().now().to_msg(), "lidar"
        live._take(message, "range")
        (reading,) = live.ranges(frames.settings, frames.of, Placed(0, None, np.eye(3)))
        found.append(reading.range_m)
        assert np.allclose(reading.T_body_sensor, ON_BODY)
    assert found == pytest.approx([-math.inf, 0.2, 4.0, 8.0, math.inf, math.inf, -math.inf])


def test_sets_of_one_stamp_are_used_in_order(make_node):
    """One that is complete after a newer one is counted and left out; a second back is a jump, after which all is
    new.
    """
    matched: list[int] = []
    jumps: list[str] = []
    unlocked: list[bool] = []
    widths: set[int] = set()

    def on_match(stamp_ns: int, found: dict[str, Any]) -> None:
        unlocked.append(inputs._synchronizer.lock.acquire(blocking=False))
        inputs._synchronizer.lock.release()
        matched.append(stamp_ns)
        widths.add(found["camera_info"].width)

    inputs = DepthInputs(make_node(), on_match, jumps.append)
    inputs.start(AvoidSettings())

    def take(stamp_ns: int) -> None:
        for role, message in (("depth_lower", Image()), ("camera_info", CameraInfo())):
            message.header.stamp = conversions.to_stamp(stamp_ns)
            inputs._filters[role].callback(message)

    for stamp_ns in (10 * SECOND, 11 * SECOND, 11 * SECOND - 1, 12 * SECOND):
        take(stamp_ns)
    assert matched == [10 * SECOND, 11 * SECOND, 12 * SECOND]
    assert (inputs.out_of_order, inputs.incomplete, jumps) == (1, 0, [])
    lone = CameraInfo(width=99)
    lone.header.stamp = conversions.to_stamp(13 * SECOND)
    inputs._filters["camera_info"].callback(lone)
    take(5 * SECOND)
    assert len(jumps) == 1
    assert "jumped back by 7.0 s" in jumps[0]
    take(6 * SECOND)
    take(13 * SECOND)
    assert matched[3:] == [5 * SECOND, 6 * SECOND, 13 * SECOND]
    assert widths == {0}, "none from before the jump"
    assert inputs.incomplete == 1
    assert all(unlocked), "worked on while message_filters holds no lock"
    inputs.stop()
