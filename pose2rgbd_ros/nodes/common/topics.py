"""Topics at a node's boundary: subscriptions and publishers whose QoS can be overridden, and why a topic is silent."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from message_filters import Subscriber
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from rclpy.topic_endpoint_info import TopicEndpointInfo

JUMP_BACK_S = 1.0  # a larger step back is a jump of time, not a straggler: as tf2_ros.Buffer has it
SILENT_S = 5.0
PATIENCE_S = 0.5  # so long a better topic may turn up after another
SENSOR_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)  # any publisher fits


def subscribe(
    node: Node, kind: type, topic: str, callback: Callable[[Any], None], qos: QoSProfile = SENSOR_QOS, **options: Any
) -> Subscription:
    """A subscription whose QoS can be overridden by parameters, which rclpy writes into the profile it is given."""
    qos, overriding = copy.copy(qos), QoSOverridingOptions.with_default_policies()
    return node.create_subscription(kind, topic, callback, qos, qos_overriding_options=overriding, **options)


def advertise(
    node: Node, kind: type, topic: str, reliability: ReliabilityPolicy = ReliabilityPolicy.RELIABLE, depth: int = 5
) -> Publisher:
    """A publisher whose QoS can be overridden by parameters.

    Five of RGB, depth and confidence of 1024 x 1024 still fit the shared-memory segment.
    """
    qos, overriding = QoSProfile(depth=depth, reliability=reliability), QoSOverridingOptions.with_default_policies()
    return node.create_publisher(kind, topic, qos, qos_overriding_options=overriding)


@dataclass(frozen=True)
class Candidate:
    """A topic that would do, and its type."""

    topic: str
    kind: type

    @property
    def type_name(self) -> str:
        """As in "sensor_msgs/msg/Image"."""
        return f"{self.kind.__module__.split('.')[0]}/msg/{self.kind.__name__}"


class TopicHealth:
    """One topic that a node listens to: whether it arrives, and if not, why. Belongs to the executor's thread.

    Of several candidates the first is taken as soon as it has a publisher, another one half a second later: the
    topics of one node turn up one by one. `remedy` says what to do when nobody publishes it. Whoever subscribes puts
    the subscription here, so that its QoS as overridden is known, and calls `saw` for each message.
    """

    def __init__(self, node: Node, *candidates: Candidate, qos: QoSProfile = SENSOR_QOS, remedy: str = "") -> None:
        self._node, self._qos, self._remedy = node, copy.copy(qos), remedy
        self.candidates = [Candidate(node.resolve_topic_name(c.topic), c.kind) for c in candidates]
        self.chosen: Candidate | None = self.candidates[0] if len(candidates) == 1 else None
        self.subscription: Subscription | None = None
        self._second_best_s: float | None = None  # since when another than the first candidate is published
        self.began_s = time.monotonic()
        self.last_s: float | None = None  # when the last message arrived
        self.newest_ns: int | None = None  # the latest stamp

    @property
    def topic(self) -> str:
        """The topic in use, or the first one looked for."""
        return (self.chosen or self.candidates[0]).topic

    @property
    def types(self) -> list[str]:
        """The types that would do."""
        return list(dict.fromkeys(one.type_name for one in self._possible()))

    @property
    def arrived(self) -> bool:
        """Whether a message ever came."""
        return self.last_s is not None

    @property
    def silent_for_s(self) -> float:
        """Since the last message, or since the subscription."""
        return time.monotonic() - (self.began_s if self.last_s is None else self.last_s)

    def listen(self, callback: Callable[[Any], None], **options: Any) -> None:
        """Subscribe to the chosen one. `callback` has to call `saw`."""
        assert self.chosen is not None
        self.subscription = subscribe(self._node, self.chosen.kind, self.chosen.topic, callback, self._qos, **options)

    def filter(self, callback: Callable[..., Any], *args: Any) -> Subscriber:
        """As `listen`, by a filter of message_filters, to be matched with others; `callback` comes first."""
        assert self.chosen is not None
        overriding = QoSOverridingOptions.with_default_policies()
        found = Subscriber(
            self._node, self.chosen.kind, self.chosen.topic, qos_profile=self._qos, qos_overriding_options=overriding
        )
        found.registerCallback(callback, *args)
        self.subscription = found.sub
        return found

    def stop(self) -> None:
        """Unsubscribe."""
        if self.subscription is not None:
            self._node.destroy_subscription(self.subscription)
        self.subscription = None

    def choose(self) -> Candidate | None:
        """The candidate to take now, None while it is better to wait."""
        if self.chosen is None:
            found = self._published()
            if found is not None and found is not self.candidates[0]:
                self._second_best_s = self._second_best_s or time.monotonic()
                if time.monotonic() - self._second_best_s < PATIENCE_S:
                    return None
            self.chosen = found
        return self.chosen

    def saw(self, stamp_ns: int | None = None) -> str:
        """Take down a message; a line when its stamp went back: another sender, or the same one anew."""
        self.last_s = time.monotonic()
        newest_ns, back = self.newest_ns, ""
        if stamp_ns is None:
            return back
        if newest_ns is not None and stamp_ns < newest_ns - JUMP_BACK_S * 1e9:
            count = self._node.count_publishers(self.topic)
            several = f"; {count} nodes publish it" if count > 1 else ""
            back = f"the stamps of {self.topic} jumped back by {(newest_ns - stamp_ns) / 1e9:.1f} s{several}"
            newest_ns = None
        self.newest_ns = stamp_ns if newest_ns is None else max(newest_ns, stamp_ns)
        return back

    def problem(self) -> str:
        """Topic and reason in one line; to be asked while nothing arrives."""
        return f"{self.topic}: {self.why_silent()}"

    def why_silent(self) -> str:
        """Why nothing arrives; to be asked while nothing does."""
        publishers = self.publishers()
        if not publishers:
            if self.arrived:
                return f"silent for {self.silent_for_s:.0f} s: its publisher is gone"
            others = [one.topic for one in self._possible() if one.topic != self.topic]
            nor = f", nor {' or '.join(dict.fromkeys(others))}" if others else ""
            return f"nobody publishes it{nor}{self._remedy and '; '}{self._remedy}"
        since = f"silent for {self.silent_for_s:.0f} s" if self.arrived else "nothing arrives"
        info = publishers[0]
        return self.mismatch() or f"{since}, though {node_of(info)} publishes it ({qos_words(info.qos_profile)})"

    def mismatch(self) -> str:
        """Why what is published cannot arrive, its type or its QoS; empty: it can, or nobody publishes it."""
        publishers = self.publishers()
        usable = [info for info in publishers if info.topic_type in self.types]
        if publishers and not usable:
            wrong = publishers[0]
            return f"published as {wrong.topic_type} by {node_of(wrong)}, not as {' or '.join(self.types)}"
        asked = self.subscription.qos_profile if self.subscription is not None else self._qos
        for info in usable:
            compatibility, reason = qos_check_compatible(info.qos_profile, asked)
            if compatibility == QoSCompatibility.ERROR:
                return (
                    f"QoS does not fit: {node_of(info)} offers {qos_words(info.qos_profile)}, asked for is "
                    f"{qos_words(asked)} ({reason.strip().rstrip(';')}); set qos_overrides.{self.topic}.subscription.*"
                )
        return ""

    def publishers(self) -> list[TopicEndpointInfo]:
        """Of all that would do."""
        topics = dict.fromkeys(one.topic for one in self._possible())
        return [info for topic in topics for info in self._node.get_publishers_info_by_topic(topic)]

    def _possible(self) -> list[Candidate]:
        return [self.chosen] if self.chosen else self.candidates

    def _published(self) -> Candidate | None:
        for one in self.candidates:
            if any(one.type_name == info.topic_type for info in self._node.get_publishers_info_by_topic(one.topic)):
                return one
        return None


def transported(node: Node, topic: str, transport: str) -> str:
    """Where a transport of an image topic is: beside it, wherever that was remapped to, unless itself remapped."""
    own = f"{topic}/{transport}"
    there = str(node.resolve_topic_name(own))
    remapped = there != node.resolve_topic_name(own, only_expand=True)
    return there if remapped else f"{node.resolve_topic_name(topic)}/{transport}"


def qos_words(profile: QoSProfile) -> str:
    """The policies that decide whether two ends connect."""
    return f"{profile.reliability.name}, {profile.durability.name}".lower().replace("_", " ")


def node_of(info: TopicEndpointInfo) -> str:
    """Full name of the node at the other end, as soon as discovery knows it."""
    if info.node_name == "_NODE_NAME_UNKNOWN_":
        return "a node not known yet"
    return f"{info.node_namespace.rstrip('/')}/{info.node_name}"
