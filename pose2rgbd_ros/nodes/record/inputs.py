"""What the record node listens to: serialized messages, with the time of their arrival, of topics found by their
types.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped, QuaternionStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, Imu, NavSatFix
from tf2_msgs.msg import TFMessage

from pose2rgbd_ros.nodes.common.topics import Candidate, TopicHealth, transported
from pose2rgbd_ros.nodes.record.settings import RecordSettings
from pose2rgbd_ros.nodes.record.stats import TopicWatch

# Messages that may wait in the middleware while Python is busy: two seconds of images, and of the fastest poses.
IMAGES_KEPT, MESSAGES_KEPT = 60, 1000
BURST = 100  # messages of a topic that are taken in one go
NO_STAMP = -1
NO_TIME = 0  # what a simulated clock says before the first /clock


class RawMessage(NamedTuple):
    """A message as it came: `data` is serialized (CDR); `received_ns` by the node's clock, `arrived_s` by a steady one.

    `received_ns` is NO_TIME where the clock is not known yet, or the message was kept from before the recording.
    """

    source: Input
    stamp_ns: int  # of its header, NO_STAMP where that is empty
    received_ns: int
    arrived_s: float
    data: bytes


class Input:
    """One thing to listen to: the first of its `candidates` that is published. Static topics keep what they sent
    before.
    """

    def __init__(self, role: str, camera: str, candidates: list[Candidate], depth: int, static: bool = False) -> None:
        self.role, self.camera, self.candidates = role, camera, candidates
        self.watch = TopicWatch()
        reliability = ReliabilityPolicy.RELIABLE if static else ReliabilityPolicy.BEST_EFFORT
        durability = DurabilityPolicy.TRANSIENT_LOCAL if static else DurabilityPolicy.VOLATILE
        self.qos = QoSProfile(depth=depth, reliability=reliability, durability=durability)
        self.health: TopicHealth | None = None  # once subscribed

    @property
    def chosen(self) -> Candidate | None:
        """The candidate in use."""
        return self.health.chosen if self.health is not None else None

    @property
    def topic(self) -> str:
        """The topic in use, or the first one looked for."""
        return (self.chosen or self.candidates[0]).topic

    @property
    def type_name(self) -> str:
        """Its type."""
        return (self.chosen or self.candidates[0]).type_name


class Subscriptions:
    """The subscriptions of a recorder. `on_arrival` is called in the executor for each message."""

    def __init__(self, node: Node, settings: RecordSettings, on_arrival: Callable[[RawMessage], None]) -> None:
        self._node, self._on_arrival = node, on_arrival
        self.all = [item for name in settings.camera_names() for item in _of_camera(node, settings, name)]
        self.all += _of_vehicle(node)
        for item in self.all:
            item.health = TopicHealth(node, *item.candidates, qos=item.qos)

    def look(self) -> list[Input]:
        """Subscribe to inputs whose topic has turned up since; returns them."""
        found = [item for item in self.all if item.health and not item.health.subscription and item.health.choose()]
        for item in found:
            self._subscribe(item)
        return found

    def destroy(self) -> None:
        """Unsubscribe."""
        for item in self.all:
            if item.health is not None:
                item.health.stop()
        self.all = []

    def _subscribe(self, item: Input) -> None:
        clock, on_arrival, watch, health = self._node.get_clock(), self._on_arrival, item.watch, item.health
        assert health is not None
        read_stamp = _transform_stamp_ns if item.role in ("tf", "tf_static") else _header_stamp_ns

        def hand_on(data: bytes) -> None:
            received_ns, arrived_s = clock.now().nanoseconds, time.monotonic()
            health.last_s = arrived_s
            stamp_ns = read_stamp(data)
            watch.saw(stamp_ns, received_ns, arrived_s)
            on_arrival(RawMessage(item, stamp_ns, received_ns, arrived_s, data))

        def take(data: bytes) -> None:
            """All that has arrived: one message a turn of the executor is too few for fast topics on a busy machine."""
            hand_on(data)
            for _ in range(BURST):
                more = _take(health.subscription)
                if more is None:
                    return
                hand_on(more)

        health.listen(take, raw=True)


def _of_camera(node: Node, settings: RecordSettings, name: str) -> list[Input]:
    def resolved(topic: str) -> str:
        return node.resolve_topic_name(f"{name}/{topic}" if name else topic)

    def beside(topic: str, transport: str) -> str:
        return transported(node, f"{name}/{topic}" if name else topic, transport)

    images = {
        "compressed": Candidate(beside("image", "compressed"), CompressedImage),
        "raw": Candidate(resolved("image"), Image),
    }
    depths = {
        "raw": Candidate(resolved("depth"), Image),
        "compressed": Candidate(beside("depth", "compressedDepth"), CompressedImage),
    }
    inputs = [Input("image", name, _wanted(images, settings.image_transport), IMAGES_KEPT)]
    if settings.depth != "none":
        inputs.append(Input("depth", name, _wanted(depths, settings.depth), IMAGES_KEPT))
    if settings.camera_info:
        inputs.append(Input("camera_info", name, [Candidate(resolved("camera_info"), CameraInfo)], IMAGES_KEPT))
    return inputs


def _of_vehicle(node: Node) -> list[Input]:
    odom = node.resolve_topic_name("odom")
    poses = [Candidate(odom, kind) for kind in (Odometry, PoseStamped, PoseWithCovarianceStamped)]
    return [
        Input("odom", "", poses, MESSAGES_KEPT),
        Input("fix", "", [Candidate(node.resolve_topic_name("fix"), NavSatFix)], MESSAGES_KEPT),
        Input("imu", "", [Candidate(node.resolve_topic_name("imu"), Imu)], MESSAGES_KEPT),
        Input("gimbal", "", [Candidate(node.resolve_topic_name("gimbal"), QuaternionStamped)], MESSAGES_KEPT),
        Input("tf", "", [Candidate(node.resolve_topic_name("/tf"), TFMessage)], MESSAGES_KEPT),
        Input("tf_static", "", [Candidate(node.resolve_topic_name("/tf_static"), TFMessage)], MESSAGES_KEPT, True),
    ]


def _take(subscription: Subscription | None) -> bytes | None:
    """The next message that waits in the middleware."""
    if subscription is None:
        return None
    with subscription.handle:
        found = subscription.handle.take_message(subscription.msg_type, subscription.raw)
    return None if found is None else found[0]


def _wanted(candidates: dict[str, Candidate], choice: str) -> list[Candidate]:
    return list(candidates.values()) if choice == "auto" else [candidates[choice]]


def _header_stamp_ns(data: bytes) -> int:
    return _stamp_ns(data, 4)


def _transform_stamp_ns(data: bytes) -> int:
    """Of the first of the transforms, behind their number."""
    return _stamp_ns(data, 8)


def _stamp_ns(data: bytes, at: int) -> int:
    """The time at a place of a serialized message, whose second byte gives the order of bytes."""
    if len(data) < at + 8:
        return NO_STAMP
    sec, nanosec = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, at)
    stamp_ns = sec * 1_000_000_000 + nanosec
    return stamp_ns if stamp_ns > 0 else NO_STAMP


def stamped(arrival: RawMessage, by_arrival: bool) -> int:
    """The stamp that counts, in nanoseconds: that of the header, or that of the arrival (also where there is no other).

    NO_TIME where that is not known.
    """
    return arrival.received_ns if by_arrival or arrival.stamp_ns == NO_STAMP else arrival.stamp_ns


def any_of(inputs: list[Input], role: str, camera: str = "") -> Any:
    """The input of a role, None where there is none."""
    return next((item for item in inputs if item.role == role and item.camera == camera), None)
