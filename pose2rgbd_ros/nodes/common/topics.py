"""Messages of several topics that belong together because their stamps are equal."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible
from rclpy.topic_endpoint_info import TopicEndpointInfo

# Publishers of a topic and their QoS, in words.


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


KEPT = 8  # incomplete sets; a topic that lags further behind than that never catches up


class StampMatcher:
    """Gathers messages by stamp and role; belongs to one thread. Never waits: what is not complete is overtaken.

    Unlike message_filters it holds no lock while somebody works on a match, and it can say what is missing.
    """

    def __init__(self, roles: Sequence[str]) -> None:
        self.roles = tuple(roles)
        self.newest_ns: dict[str, int] = {}
        self.incomplete = 0  # sets given up
        self._waiting: OrderedDict[int, dict[str, Any]] = OrderedDict()

    def add(self, role: str, stamp_ns: int, message: Any) -> dict[str, Any] | None:
        """Take in a message; the complete set by role when it was the last one missing."""
        self.newest_ns[role] = stamp_ns
        found = self._waiting.setdefault(stamp_ns, {})
        found[role] = message
        if len(found) == len(self.roles):
            for older_ns in [waiting for waiting in self._waiting if waiting <= stamp_ns]:
                self.incomplete += older_ns != stamp_ns
                del self._waiting[older_ns]
            return found
        while len(self._waiting) > KEPT:
            self._waiting.popitem(last=False)
            self.incomplete += 1
        return None

    def clear(self) -> None:
        """Forget everything, as after a jump of time."""
        self._waiting.clear()
        self.newest_ns.clear()

    def gap_s(self) -> float:
        """By how much the newest stamps of the topics differ; 0 unless all have sent something."""
        if len(self.newest_ns) < len(self.roles):
            return 0.0
        return (max(self.newest_ns.values()) - min(self.newest_ns.values())) / 1e9
