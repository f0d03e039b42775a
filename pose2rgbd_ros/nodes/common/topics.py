"""Subscriptions as filters of message_filters; publishers of a topic and their QoS, in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from message_filters import Subscriber
from rclpy.node import Node
from rclpy.qos import QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.topic_endpoint_info import TopicEndpointInfo


def incompatible(offered: QoSProfile, asked: QoSProfile) -> str:
    """Why a subscription gets nothing from a publisher; empty: it does."""
    compatibility, reason = qos_check_compatible(offered, asked)
    return reason.strip().rstrip(";") if compatibility == QoSCompatibility.ERROR else ""


def qos_words(profile: QoSProfile) -> str:
    """The policies that decide whether two ends connect."""
    return f"{profile.reliability.name}, {profile.durability.name}".lower().replace("_", " ")


def node_of(info: TopicEndpointInfo) -> str:
    """Full name of the node at the other end."""
    return f"{info.node_namespace.rstrip('/')}/{info.node_name}"


SENSOR_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)  # any publisher's fits


def subscriber(node: Node, kind: type, topic: str, callback: Callable[..., None], *args: Any) -> Subscriber:
    """A subscription for sensors as a filter, whose messages `callback` gets first; its QoS can be overridden."""
    options = QoSOverridingOptions.with_default_policies()
    found = Subscriber(node, kind, topic, qos_profile=SENSOR_QOS, qos_overriding_options=options)
    found.registerCallback(callback, *args)
    return found
