"""message_filters over DDS: subscribers, their quality of service, and pairs of topics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
import rclpy
from message_filters import ApproximateTimeSynchronizer, Cache, Subscriber, TimeSynchronizer
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String

pytestmark = pytest.mark.ros
DEADLINE_S = 120.0  # how long something may take on a busy machine; nothing is measured by it


@pytest.fixture
def node(ros_domain) -> Iterator[Node]:
    rclpy.init(domain_id=ros_domain)
    node = rclpy.create_node("filters", cli_args=["--ros-args", "-r", "image:=renamed"])
    yield node
    node.destroy_node()
    rclpy.try_shutdown()


def spin_until(node: Node, condition: Callable[[], bool]) -> bool:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    deadline = time.monotonic() + DEADLINE_S
    while not condition() and time.monotonic() < deadline:
        executor.spin_once(timeout_sec=0.05)
    executor.remove_node(node)
    executor.shutdown()
    return condition()


def stamped(kind, stamp_ns: int):
    message = kind()
    message.header.stamp = Time(nanoseconds=stamp_ns).to_msg()
    return message


def test_a_subscriber_is_a_subscription(node):
    subscriber = Subscriber(node, Image, "image")
    assert subscriber.getTopic() == "image"
    assert subscriber.topic_name == "/renamed"
    assert subscriber.msg_type is Image
    assert subscriber.qos_profile.depth == 10
    assert subscriber.qos_profile.reliability == ReliabilityPolicy.RELIABLE
    with pytest.raises(AttributeError):
        _ = subscriber.no_such_thing


def test_quality_of_service_is_passed_on(node):
    shallow = Subscriber(node, Image, "a", qos_profile=3)
    sensor = Subscriber(node, Image, "b", qos_profile=qos_profile_sensor_data)
    assert shallow.qos_profile.depth == 3
    assert sensor.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT


def test_keywords_go_to_the_subscription(node):
    """Since 4.11.11."""
    group = ReentrantCallbackGroup()
    assert Subscriber(node, String, "c", callback_group=group).callback_group is group


def test_pairs_of_topics_and_a_cache(node):
    images, infos = (
        Subscriber(node, Image, "left"),
        Subscriber(node, CameraInfo, "info", qos_profile=QoSProfile(depth=20)),
    )
    exact, near = (TimeSynchronizer([images, infos], 10), ApproximateTimeSynchronizer([images, infos], 10, 0.02))
    cache = Cache(images, 10)
    exact_stamps, near_stamps = [], []
    exact.registerCallback(lambda image, info: exact_stamps.append(image.header.stamp.nanosec))
    near.registerCallback(
        lambda image, info: near_stamps.append((image.header.stamp.nanosec, info.header.stamp.nanosec))
    )
    image_out, info_out = (node.create_publisher(Image, "left", 10), node.create_publisher(CameraInfo, "info", 10))
    assert spin_until(node, lambda: image_out.get_subscription_count() == info_out.get_subscription_count() == 1)

    shifts_ns = [0, 5_000_000, 0, 30_000_000]  # the last is beyond the slop
    for k, shift_ns in enumerate(shifts_ns):
        image_out.publish(stamped(Image, k * 100_000_000))
        info_out.publish(stamped(CameraInfo, k * 100_000_000 + shift_ns))
    assert spin_until(node, lambda: len(cache.cache_msgs) == 4 and len(near.queues[1]) == 1 and len(near_stamps) == 3)
    assert exact_stamps == [0, 200_000_000]
    assert sorted(near_stamps) == [(0, 0), (100_000_000, 105_000_000), (200_000_000, 200_000_000)]
    assert (
        len(
            cache.getInterval(
                Time(nanoseconds=100_000_000, clock_type=node.get_clock().clock_type), cache.getLastestTime()
            )
        )
        == 3
    )
