"""Publishers of a topic and their QoS, in words."""

from __future__ import annotations

from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible
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
