"""Why a topic is silent, in one line each, over real DDS."""

from __future__ import annotations

import re

import pytest
import rclpy
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from pose2rgbd_ros.nodes.common.topics import SENSOR_QOS, Candidate, TopicHealth, transported

pytestmark = pytest.mark.ros
RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)


@pytest.fixture
def listener(bench):
    """A node that listens, beside the bench's tester."""
    return bench.beside("listener")


def listen(bench, health):
    """Subscribe, and take down what arrives; the lines about its stamps."""
    said = []
    assert health.choose()
    health.listen(lambda message: said.append(health.saw(message.header.stamp.sec * 10**9)))
    return said


def published(bench, health):
    bench.wait(lambda: any(info.node_name == "tester" for info in health.publishers()), what="discovery")


def test_nobody_publishes_it_and_what_to_do(bench, listener):
    health = TopicHealth(listener, Candidate("image", Image), remedy="remap image to the camera's topic")
    assert health.problem() == "/image: nobody publishes it; remap image to the camera's topic"
    either = TopicHealth(listener, Candidate("image", Image), Candidate("image/compressed", CompressedImage))
    assert either.problem() == "/image: nobody publishes it, nor /image/compressed"


def test_another_type(bench, listener):
    health = TopicHealth(listener, Candidate("image", Image))
    bench.node.create_publisher(CameraInfo, "image", 1)
    published(bench, health)
    said = "/image: published as sensor_msgs/msg/CameraInfo by /tester, not as sensor_msgs/msg/Image"
    assert health.problem() == said


def test_a_qos_that_does_not_fit(bench, listener):
    qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    health = TopicHealth(listener, Candidate("image", Image), qos=qos)
    bench.node.create_publisher(Image, "image", QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
    published(bench, health)
    assert re.match(
        "QoS does not fit: /tester offers best effort, volatile, asked for is reliable, transient local .*reliable.*"
        "; set qos_overrides./image.subscription.*",
        health.why_silent(),
    )


def test_silence_from_its_first_to_its_last(bench, listener, set_ahead):
    health = TopicHealth(listener, Candidate("image", Image), qos=RELIABLE)
    lines = listen(bench, health)
    publisher = bench.node.create_publisher(Image, "image", RELIABLE)
    published(bench, health)
    assert health.why_silent() == "nothing arrives, though /tester publishes it (reliable, volatile)"
    assert not health.arrived
    bench.wait(publisher.get_subscription_count)
    publisher.publish(Image())
    assert bench.wait(lambda: lines) == [""]
    assert health.silent_for_s < 60
    set_ahead(100.0)
    assert re.match(r"silent for 1\d\d s, though /tester publishes it", health.why_silent())
    bench.node.destroy_publisher(publisher)
    bench.wait(lambda: not health.publishers())
    assert re.match(r"silent for 1\d\d s: its publisher is gone", health.why_silent())


def test_stamps_that_go_back_and_who_sends_them(bench, listener):
    health = TopicHealth(listener, Candidate("image", Image))
    assert [health.saw(int(s * 1e9)) for s in (10.0, 11.0, 10.5, 12.0)] == [""] * 4, "stragglers are no jump"
    assert health.saw(5 * 10**9) == "the stamps of /image jumped back by 7.0 s"
    assert health.saw(6 * 10**9) == ""
    for _ in range(2):
        bench.node.create_publisher(Image, "image", 1)
    bench.wait(lambda: len(health.publishers()) == 2)
    assert health.saw(0) == "the stamps of /image jumped back by 6.0 s; 2 nodes publish it"


def test_of_two_the_first_is_taken_at_once_and_the_second_after_a_while(bench, listener, set_ahead):
    candidates = Candidate("image", Image), Candidate(transported(listener, "image", "compressed"), CompressedImage)
    patient, lucky = TopicHealth(listener, *candidates), TopicHealth(listener, *candidates)
    assert patient.choose() is None
    bench.node.create_publisher(CompressedImage, "image/compressed", 1)
    published(bench, patient)
    assert patient.choose() is None
    assert lucky.choose() is None
    set_ahead(1.0)
    assert patient.choose() == patient.candidates[1]
    assert patient.topic == "/image/compressed"
    bench.node.create_publisher(Image, "image", 1)
    bench.wait(lambda: lucky.choose() == lucky.candidates[0])


def test_an_override_of_the_qos_is_what_is_asked_for(bench):
    override = Parameter("qos_overrides./image.subscription.reliability", value="reliable")
    node = bench._spin(lambda context: rclpy.create_node("picky", context=context, parameter_overrides=[override]))
    health = TopicHealth(node, Candidate("image", Image))
    listen(bench, health)
    bench.node.create_publisher(Image, "image", QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
    published(bench, health)
    assert "asked for is reliable, volatile" in health.why_silent()
    assert SENSOR_QOS.reliability == ReliabilityPolicy.BEST_EFFORT, "of this topic alone"
    health.stop()
    bench.wait(lambda: node.count_subscribers("/image") == 0)
