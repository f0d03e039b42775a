"""Why a topic is silent or of no use, in one line each: nobody publishes it, its QoS or type does not fit, its clock differs."""

from __future__ import annotations

import math
import time

from rclpy.node import Node
from rclpy.topic_endpoint_info import TopicEndpointInfo

from pose2rgbd_ros.errors import counted
from pose2rgbd_ros.nodes.endpoints import incompatible, node_of, qos_words
from pose2rgbd_ros.nodes.record_inputs import Input
from pose2rgbd_ros.nodes.record_settings import RecordSettings

OTHER_CLOCK_S = 1.0
REQUIRED = ("image",)


class Problems:
    """Looks at the topics of a recorder through the ROS graph; belongs to the executor."""

    def __init__(self, node: Node, settings: RecordSettings) -> None:
        self._node, self._silence_s = node, settings.silence_s
        self._by_arrival = settings.stamps == "received"
        self._by_gps = settings.position == "gps"

    def find(self, inputs: list[Input]) -> dict[str, str]:
        """What is the matter, by topic. Topics that are optional and that nobody publishes are no problem."""
        found = {}
        arrives = {item.role for item in inputs if item.watch.messages}
        for item in inputs:
            self._look_for_publishers(item)
            if item.role == "tf" and "odom" in arrives:
                continue
            needed = item.role in REQUIRED or (item.role == "odom" and self._lacks_poses(item, arrives))
            text = self._silent(item, needed) if item.watch.silent_for_s > self._silence_s else ""
            if item.watch.lost:
                text = text or f"lost {counted(item.watch.lost, 'message')}: the recorder could not keep up"
            if text:
                found[item.topic] = text
        found |= {} if self._by_arrival else _other_clocks(inputs, found)
        return found

    def _lacks_poses(self, odometry: Input, arrives: set[str]) -> bool:
        """GPS alone will do where nobody has a pose."""
        if arrives & {"odom", "tf"} or (self._by_gps and "fix" in arrives):
            return False
        return "fix" not in arrives or bool(self._others(odometry))

    def _look_for_publishers(self, item: Input) -> None:
        """A topic that has only just turned up is not silent."""
        if item.watch.messages or not self._publishers(item):
            item.watch.published_s = None
        elif item.watch.published_s is None:
            item.watch.published_s = time.monotonic()

    def _silent(self, item: Input, needed: bool) -> str:
        for_s = f"{item.watch.silent_for_s:.0f} s"
        publishers = self._publishers(item)
        if not publishers:
            if item.watch.messages:
                return f"silent for {for_s}: its publisher is gone" if item.role != "tf_static" else ""
            return f"nobody publishes it{self._elsewhere(item)}" if needed or self._namesakes(item) else ""
        if item.role == "tf_static" and item.watch.messages:
            return ""
        wrong = [info for info in publishers if info.topic_type not in _types(item)]
        if len(wrong) == len(publishers):
            return f"published as {wrong[0].topic_type} by {node_of(wrong[0])}, not as {' or '.join(_types(item))}"
        for info in publishers:
            reason = incompatible(info.qos_profile, item.qos_in_force())
            if reason:
                return (
                    f"QoS does not fit: {node_of(info)} offers {qos_words(info.qos_profile)}, asked for is "
                    f"{qos_words(item.qos_in_force())} ({reason}); set qos_overrides.{item.topic}.subscription.*"
                )
        published_s = item.watch.published_s
        if published_s is not None and time.monotonic() - published_s < self._silence_s:
            return ""
        what = "nothing arrives" if not item.watch.messages else f"silent for {for_s}"
        return (
            f"{what}, though {node_of(publishers[0])} publishes it ({qos_words(publishers[0].qos_profile)})"
        )

    def _publishers(self, item: Input) -> list[TopicEndpointInfo]:
        topics = [item.chosen.topic] if item.chosen else list(dict.fromkeys(c.topic for c in item.candidates))
        return [info for topic in topics for info in self._node.get_publishers_info_by_topic(topic)]

    def _namesakes(self, item: Input) -> list[str]:
        """Published topics of a type that would do, and of the very same last name: likely a missing remapping."""
        return [
            topic for topic in self._others(item) if topic.rpartition("/")[2] == item.topic.rpartition("/")[2]
        ]

    def _elsewhere(self, item: Input) -> str:
        others = self._others(item)
        if not others:
            return f"; no topic of type {' or '.join(_types(item))} is published at all"
        return f"; {', '.join(others[:5])} would fit: remap {item.role}:={_base(others[0])}"

    def _others(self, item: Input) -> list[str]:
        """Topics of a type that would do, the likeliest first: of the same namespace, then of the same last name."""
        own = {candidate.topic for candidate in item.candidates}
        here = self._node.get_namespace().rstrip("/") + "/"
        others = (
            topic
            for topic, types in self._node.get_topic_names_and_types()
            if set(types) & set(_types(item)) and topic not in own and self._node.count_publishers(topic)
        )
        last = item.topic.rpartition("/")[2]
        return sorted(
            others, key=lambda topic: (not topic.startswith(here), topic.rpartition("/")[2] != last, topic)
        )


def _other_clocks(inputs: list[Input], known: dict[str, str]) -> dict[str, str]:
    """Poses whose stamps are of another clock than the images': no image will find one."""
    images = [item for item in inputs if item.role == "image" and not math.isnan(item.watch.latency_s())]
    if not images:
        return {}
    image, image_s = images[0], images[0].watch.latency_s()
    found = {}
    for item in inputs:
        latency_s = item.watch.latency_s()
        if item.role not in ("odom", "fix", "tf", "depth") or math.isnan(latency_s) or item.topic in known:
            continue
        if abs(latency_s - image_s) > OTHER_CLOCK_S:
            found[item.topic] = (
                f"its stamps are {_seconds(latency_s)} its arrival, those of {image.topic} {_seconds(image_s)} theirs: "
                "the clocks differ; set stamps to received, or correct the clock"
            )
    return found


def _base(topic: str) -> str:
    """Images are remapped by the topic beside which their transports are."""
    return topic.removesuffix("/compressed").removesuffix("/compressedDepth")


def _seconds(latency_s: float) -> str:
    return f"{abs(latency_s):.3f} s {'before' if latency_s >= 0 else 'after'}"


def _types(item: Input) -> list[str]:
    return list(dict.fromkeys(c.type_name for c in ([item.chosen] if item.chosen else item.candidates)))
