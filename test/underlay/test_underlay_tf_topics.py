"""tf2_ros over DDS: broadcasters, the listener, the tf2_frames service, simulated time; and tf2_msgs' definitions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
import rclpy
import tf2_ros
import yaml
from rclpy.clock import ClockType
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time
from tf2_msgs.action import LookupTransform
from tf2_msgs.msg import TF2Error, TFMessage
from tf2_msgs.srv import FrameGraph

LATEST = Time()
DEADLINE_S = 120.0  # how long something may take on a busy machine; nothing is measured by it


@pytest.fixture
def make_node(ros_domain) -> Iterator[Callable[..., Node]]:
    """Creates nodes in the test's own domain; all are gone afterwards."""
    rclpy.init(domain_id=ros_domain)
    nodes = []

    def make(name: str, **options) -> Node:
        nodes.append(rclpy.create_node(name, **options))
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()
    rclpy.try_shutdown()


def spin_until(condition: Callable[[], bool], *nodes: Node) -> bool:
    """Spin the nodes until the condition holds; False when it did not in time."""
    executor = SingleThreadedExecutor()
    for node in nodes:
        executor.add_node(node)
    deadline = time.monotonic() + DEADLINE_S
    while not condition() and time.monotonic() < deadline:
        executor.spin_once(timeout_sec=0.05)
    for node in nodes:
        executor.remove_node(node)
    executor.shutdown()
    return condition()


def listen(node: Node, **options) -> tuple[tf2_ros.Buffer, tf2_ros.TransformListener]:
    buffer = tf2_ros.Buffer()
    return buffer, tf2_ros.TransformListener(buffer, node, **options)


@pytest.mark.ros
def test_from_broadcaster_to_buffer(make_node, make_transform):
    sender, receiver = make_node("sender"), make_node("receiver")
    broadcaster = tf2_ros.TransformBroadcaster(sender)
    buffer, _listener = listen(receiver)
    assert spin_until(lambda: broadcaster.pub_tf.get_subscription_count() == 1, receiver)
    broadcaster.sendTransform(make_transform("map", "odom", 1.0, (1.0, 0.0, 0.0)))
    broadcaster.sendTransform([make_transform("odom", "base", 1.0, (0.0, 2.0, 0.0))])
    broadcaster.sendTransform(make_transform("base", name, 1.0) for name in ("left", "right"))
    assert spin_until(
        lambda: all(buffer.can_transform("map", name, LATEST) for name in ("base", "left", "right")), receiver
    )
    t = buffer.lookup_transform("map", "base", LATEST).transform.translation
    assert (t.x, t.y, t.z) == (1.0, 2.0, 0.0)
    assert "broadcaster: 'default_authority'" in buffer.all_frames_as_yaml()


@pytest.mark.ros
def test_late_listeners_get_all_static_frames(make_node, make_transform):
    sender, receiver = make_node("sender"), make_node("receiver")
    broadcaster = tf2_ros.StaticTransformBroadcaster(sender)
    broadcaster.sendTransform(make_transform("base", "camera", 5.0, (0.0, 0.0, 1.0)))
    broadcaster.sendTransform((make_transform("base", "lidar", 6.0, (0.0, 0.0, 2.0)),))
    buffer, _listener = listen(receiver)
    assert spin_until(lambda: bool(buffer.can_transform("camera", "lidar", LATEST)), receiver)
    assert buffer.lookup_transform("camera", "lidar", Time(seconds=99)).transform.translation.z == 1.0


@pytest.mark.ros
def test_a_listener_may_spin_its_node(make_node, make_transform):
    sender, receiver = make_node("sender"), make_node("receiver")
    broadcaster = tf2_ros.StaticTransformBroadcaster(sender)
    buffer, listener = listen(receiver, spin_thread=True)
    broadcaster.sendTransform(make_transform("base", "camera"))
    assert buffer.can_transform("base", "camera", LATEST, timeout=Duration(seconds=DEADLINE_S))
    listener.executor.shutdown()
    listener.dedicated_listener_thread.join(DEADLINE_S)
    assert not listener.dedicated_listener_thread.is_alive()


@pytest.mark.ros
def test_an_unregistered_listener_is_silent(make_node):
    sender, receiver = make_node("sender"), make_node("receiver")
    broadcaster = tf2_ros.TransformBroadcaster(sender)
    _buffer, listener = listen(receiver)
    assert spin_until(lambda: broadcaster.pub_tf.get_subscription_count() == 1, receiver)
    listener.unregister()
    assert spin_until(lambda: broadcaster.pub_tf.get_subscription_count() == 0, receiver)


@pytest.mark.ros
def test_topics_and_qos(make_node):
    node = make_node("node")
    tf2_ros.TransformBroadcaster(node)
    tf2_ros.StaticTransformBroadcaster(node)
    _buffer, _listener = listen(node)
    for topic, durability in (("/tf", DurabilityPolicy.VOLATILE), ("/tf_static", DurabilityPolicy.TRANSIENT_LOCAL)):
        assert spin_until(lambda topic=topic: len(node.get_subscriptions_info_by_topic(topic)) == 1, node)
        for end in (*node.get_publishers_info_by_topic(topic), *node.get_subscriptions_info_by_topic(topic)):
            assert end.topic_type == "tf2_msgs/msg/TFMessage"
            assert end.qos_profile.durability == durability


@pytest.mark.ros
def test_qos_can_be_chosen(make_node):
    node = make_node("node")
    broadcaster = tf2_ros.TransformBroadcaster(node, 7)
    static = tf2_ros.StaticTransformBroadcaster(node, qos=QoSProfile(depth=3))
    _buffer, listener = listen(node, qos=5, static_qos=QoSProfile(depth=4))
    assert broadcaster.pub_tf.qos_profile.depth == 7
    assert static.pub_tf.qos_profile.depth == 3
    assert listener.tf_sub.qos_profile.depth == 5
    assert listener.tf_static_sub.qos_profile.durability == DurabilityPolicy.VOLATILE


@pytest.mark.ros
def test_the_frames_service(make_node, make_transform):
    server, asker = make_node("server"), make_node("asker")
    buffer = tf2_ros.Buffer(node=server)
    buffer.set_transform_static(make_transform("base", "camera"), "me")
    client = asker.create_client(FrameGraph, "tf2_frames")
    assert client.wait_for_service(timeout_sec=DEADLINE_S)
    answer = client.call_async(FrameGraph.Request())
    assert spin_until(answer.done, server, asker)
    assert yaml.safe_load(answer.result().frame_yaml)["camera"]["parent"] == "base"


@pytest.mark.ros
def test_a_coroutine_may_await_a_transform(make_node, make_transform):
    node = make_node("node")
    buffer = tf2_ros.Buffer()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    simple = executor.create_task(buffer.lookup_transform_async("map", "base", LATEST))
    full = executor.create_task(
        buffer.lookup_transform_full_async("base", Time(seconds=2), "base", Time(seconds=1), "map")
    )
    executor.spin_once(timeout_sec=0.05)
    assert not simple.done()
    buffer.set_transform(make_transform("map", "base", 1.0, (5.0, 0.0, 0.0)), "test")
    buffer.set_transform(make_transform("map", "base", 2.0, (6.0, 0.0, 0.0)), "test")
    deadline = time.monotonic() + DEADLINE_S
    while not (simple.done() and full.done()) and time.monotonic() < deadline:
        executor.spin_once(timeout_sec=0.05)
    executor.shutdown()
    assert simple.result().transform.translation.x >= 5.0
    assert full.result().transform.translation.x == -1.0


@pytest.mark.ros
def test_simulated_time_that_jumps_back_clears_the_history(make_node, make_transform):
    node = make_node("node", parameter_overrides=[Parameter("use_sim_time", value=True)])
    buffer = tf2_ros.Buffer(node=node)
    clock = node.get_clock()

    def set_time(seconds: int) -> None:
        clock.set_ros_time_override(Time(seconds=seconds, clock_type=ClockType.ROS_TIME))

    set_time(100)
    for second in (99.0, 100.0):
        buffer.set_transform(make_transform("map", "base", second), "test")
    buffer.set_transform_static(make_transform("base", "camera"), "test")
    set_time(110)
    assert buffer.can_transform("map", "camera", Time(seconds=100))
    set_time(50)
    assert not buffer.can_transform("map", "camera", Time(seconds=100))
    assert buffer.can_transform("base", "camera", LATEST)


def test_interface_definitions():
    assert TFMessage.get_fields_and_field_types() == {"transforms": "sequence<geometry_msgs/TransformStamped>"}
    assert TF2Error.get_fields_and_field_types() == {"error": "uint8", "error_string": "string"}
    names = ("NO", "LOOKUP", "CONNECTIVITY", "EXTRAPOLATION", "INVALID_ARGUMENT", "TIMEOUT", "TRANSFORM")
    assert [getattr(TF2Error, f"{name}_ERROR") for name in names] == list(range(7))
    assert FrameGraph.Request.get_fields_and_field_types() == {}
    assert FrameGraph.Response.get_fields_and_field_types() == {"frame_yaml": "string"}
    assert LookupTransform.Goal.get_fields_and_field_types() == {
        "target_frame": "string",
        "source_frame": "string",
        "source_time": "builtin_interfaces/Time",
        "timeout": "builtin_interfaces/Duration",
        "target_time": "builtin_interfaces/Time",
        "fixed_frame": "string",
        "advanced": "boolean",
    }
    assert LookupTransform.Result.get_fields_and_field_types() == {
        "transform": "geometry_msgs/TransformStamped",
        "error": "tf2_msgs/TF2Error",
    }
    assert LookupTransform.Feedback.get_fields_and_field_types() == {}
