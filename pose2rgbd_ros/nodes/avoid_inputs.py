"""What the avoid node listens to for predicted depth: images and camera_info matched by equal stamps, and why none come."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from pose2rgbd.msg import RenderStatus
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, Image

from pose2rgbd_ros.nodes import conversions
from pose2rgbd_ros.nodes.avoid_settings import AvoidSettings
from pose2rgbd_ros.nodes.endpoints import incompatible, node_of, qos_words
from pose2rgbd_ros.nodes.stamp_matcher import StampMatcher

JUMP_BACK_NS = 1_000_000_000
SILENT_S = 5.0
RELATIVE_TYPE = "pose2rgbd/msg/RelativeDepth"
QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


def subscribe(node: Node, kind: type, topic: str, callback: Callable[[Any], None]) -> Subscription:
    """A subscription for sensors: best effort, so that any publisher fits; its QoS can be overridden."""
    options = QoSOverridingOptions.with_default_policies()
    return node.create_subscription(kind, topic, callback, QOS, qos_overriding_options=options)


class DepthInputs:
    """Subscriptions to what a render node publishes; all methods belong to the executor's thread.

    `on_match` gets the messages of one stamp by role, `on_jump` a line when stamps went back by a second or more.
    """

    def __init__(
        self, node: Node, on_match: Callable[[int, dict[str, Any]], None], on_jump: Callable[[str], None]
    ) -> None:
        self._node, self._on_match, self._on_jump = node, on_match, on_jump
        self._subscriptions: dict[str, Subscription] = {}
        self._arrived_s: dict[str, float] = {}
        self._began_s = 0.0
        self._matcher = StampMatcher(())
        self._last_ns = -1
        self.out_of_order = 0  # sets older than the one before
        self.render_status: RenderStatus | None = None

    def start(self, settings: AvoidSettings) -> None:
        """Subscribe to what these settings need."""
        roles = ["depth_lower" if settings.bound == "lower" else "depth", "camera_info"]
        if settings.cloud == "depth" and settings.bound == "lower":
            roles.append("depth")
        if settings.cloud_rgb:
            roles.append("rgb")
        self._matcher, self._last_ns = StampMatcher(roles), -1
        self._began_s, self._arrived_s = time.monotonic(), {}
        for role in roles:
            kind = CameraInfo if role == "camera_info" else Image
            self._subscriptions[role] = subscribe(self._node, kind, role, self._taker(role))
        self._subscriptions["status"] = subscribe(self._node, RenderStatus, "status", self._take_status)

    def stop(self) -> None:
        """Unsubscribe."""
        for subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)
        self._subscriptions, self.render_status = {}, None

    def forget_stamps(self) -> None:
        """Time jumped: what comes next is not compared with what came before."""
        self._matcher.clear()
        self._last_ns = -1

    @property
    def incomplete(self) -> int:
        """Stamps for which not all topics sent something."""
        return self._matcher.incomplete

    @property
    def image_arrived(self) -> bool:
        """Whether the image that distances are taken from ever came."""
        return self._matcher.roles[0] in self._arrived_s

    def refusal(self) -> str:
        """Why this depth cannot be used at all; empty: it can, as far as is known."""
        topic = self._topic(self._matcher.roles[0])
        types = [info.topic_type for info in self._node.get_publishers_info_by_topic(topic)]
        if RELATIVE_TYPE in types:
            return f"{topic} is relative depth, without a unit: distances cannot be had from it; train on metric depth"
        status = self.render_status
        if status is None or not status.model:
            return ""
        if not status.metric_depth:
            return (
                f"the depth of model {status.model} is relative, without a unit, or it has none: "
                "distances cannot be had from it; train on metric depth"
            )
        if self._matcher.roles[0] == "depth_lower" and not status.calibrated and not self.image_arrived:
            return (
                f"model {status.model} is not calibrated, so there is no lower bound of its depth; run "
                "`pose2rgbd calibrate`, or set bound to depth and margin_m to what is to be taken off"
            )
        return ""

    def explain(self) -> str:
        """Why nothing is matched; to be asked while nothing is."""
        silent_s = time.monotonic() - self._began_s
        for role in self._matcher.roles:
            last_s = self._arrived_s.get(role)
            if last_s is None or time.monotonic() - last_s > SILENT_S:
                return self._why_silent(role, last_s) if silent_s > SILENT_S else "nothing has arrived yet"
        gap_s = self._matcher.gap_s()
        topics = " and ".join(self._topic(role) for role in self._matcher.roles)
        return (
            f"{topics} arrive, but with no stamp in common: their newest differ by {gap_s:.3f} s; "
            "remap both to one render node"
        )

    def _why_silent(self, role: str, last_s: float | None) -> str:
        topic = self._topic(role)
        publishers = self._node.get_publishers_info_by_topic(topic)
        if not publishers:
            said = self._render_says()
            return f"nobody publishes {topic}; remap {role} to that of the render node{said}"
        wanted = f"sensor_msgs/msg/{'CameraInfo' if role == 'camera_info' else 'Image'}"
        for info in publishers:
            if info.topic_type != wanted:
                return f"{topic} is published as {info.topic_type} by {node_of(info)}, not as {wanted}"
            reason = incompatible(info.qos_profile, QOS)
            if reason:
                return (
                    f"{topic}: QoS does not fit: {node_of(info)} offers {qos_words(info.qos_profile)} ({reason}); "
                    f"set qos_overrides.{topic}.subscription.*"
                )
        since = "nothing arrives" if last_s is None else f"silent for {time.monotonic() - last_s:.0f} s"
        info = publishers[0]
        return (
            f"{topic}: {since}, though {node_of(info)} publishes it ({qos_words(info.qos_profile)})"
            f"{self._render_says()}"
        )

    def _render_says(self) -> str:
        status = self.render_status
        return f"; the render node says: {status.message}" if status is not None and status.message else ""

    def _topic(self, role: str) -> str:
        subscription = self._subscriptions.get(role)
        return subscription.topic_name if subscription is not None else role

    def _taker(self, role: str) -> Callable[[Any], None]:
        return lambda message: self._take(role, message)

    def _take(self, role: str, message: Any) -> None:
        stamp_ns = conversions.stamp_ns(message.header.stamp)
        self._arrived_s[role] = time.monotonic()
        newest_ns = self._matcher.newest_ns.get(role, stamp_ns)
        if stamp_ns < newest_ns - JUMP_BACK_NS:
            self.forget_stamps()
            count = self._node.count_publishers(self._topic(role))
            several = f"; {count} nodes publish it" if count > 1 else ""
            self._on_jump(
                f"the stamps of {self._topic(role)} went back by {(newest_ns - stamp_ns) / 1e9:.1f} s{several}"
            )
        found = self._matcher.add(role, stamp_ns, message)
        if found is None:
            return
        if stamp_ns <= self._last_ns:
            self.out_of_order += 1
            return
        self._last_ns = stamp_ns
        self._on_match(stamp_ns, found)

    def _take_status(self, message: RenderStatus) -> None:
        self.render_status = message
