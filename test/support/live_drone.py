"""A drone whose topics can be spoiled one by one, over real DDS: camera, odometry, GPS and mount."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, NavSatFix
from tf2_msgs.msg import TFMessage

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.geodesy import Datum, enu_to_wgs84
from pose2rgbd_ros.nodes.common import conversions

CAMERA = Camera.from_fov(64, 48, 60.0)
DATUM = Datum(47.0, 8.0, 400.0)
T_BODY_CAM = se3.make([0.1, 0.0, -0.05], [-0.7071067811865476, 0.7071067811865476, 0.0, 0.0])  # looks down
IMAGE_HZ, ODOMETRY_HZ, FIX_HZ = 10.0, 30.0, 5.0
KINDS = {
    "image/compressed": CompressedImage, "image": Image, "depth": Image, "camera_info": CameraInfo, "odom": Odometry,
    "fix": NavSatFix, "/tf_static": TFMessage, "/clock": Clock,
}  # fmt: skip
RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
Spoil = Callable[[Any], Any]


def position_m(t_s: float) -> np.ndarray:
    """Where the body is (3,): about 4 m/s, 50 m up."""
    return np.array([12.0 * np.sin(0.3 * t_s), 2.0 * t_s, 50.0 + np.sin(0.2 * t_s)])


class LiveDrone:
    """Publishes from timers of `node` until :meth:`land`.

    Topics are in `namespace` ("/name"), but for those that begin with a slash. `without` names topics that do not
    exist; `qos` gives profiles by topic, `renamed` other names, `kinds` other types. `spoil[topic]` gets each message
    and returns it, another one, or None to send nothing. Stamps are `now_ns()` plus `offset_ns[topic]`.
    """

    def __init__(
        self,
        node: Node,
        namespace: str = "",
        without: tuple[str, ...] = ("image", "depth", "/clock"),
        qos: dict[str, QoSProfile] | None = None,
        renamed: dict[str, str] | None = None,
        kinds: dict[str, type] | None = None,
    ) -> None:
        self.node = node
        self.spoil: dict[str, Spoil] = {}
        self.offset_ns: dict[str, int] = {}
        self.sent: dict[str, list[int]] = {topic: [] for topic in KINDS}
        self.now_ns: Callable[[], int] = lambda: node.get_clock().now().nanoseconds
        self.start_ns = self.now_ns()
        self._publishers = {
            topic: node.create_publisher(
                (kinds or {}).get(topic, kind),
                _in_namespace(namespace, (renamed or {}).get(topic, topic)),
                (qos or {}).get(topic, _usual_qos(topic)),
            )
            for topic, kind in KINDS.items()
            if topic not in without
        }
        self._frames = [_jpeg(number) for number in range(8)]
        self._send("/tf_static", self._mount(self.now_ns()))
        self._timers = [
            node.create_timer(1 / IMAGE_HZ, self._expose),
            node.create_timer(1 / ODOMETRY_HZ, self._locate),
            node.create_timer(1 / FIX_HZ, self._fix),
        ]

    def land(self) -> None:
        """Stop, and remove the topics."""
        for timer in self._timers:
            self.node.destroy_timer(timer)
        for publisher in self._publishers.values():
            self.node.destroy_publisher(publisher)
        self._timers, self._publishers = [], {}

    def pause(self) -> None:
        """Send nothing any more; the topics stay."""
        for timer in self._timers:
            timer.cancel()

    def silence(self, topic: str) -> None:
        """Send no more of a topic."""
        self.spoil[topic] = lambda message: None

    def send_again(self, topic: str, held: list[Any]) -> None:
        """Send what was held back, and hold no more."""
        self.spoil.pop(topic, None)
        for message in held:
            self._send(topic, message)

    def T_map_cam(self, stamp_ns: int) -> np.ndarray:
        """The true pose of the camera (4, 4) at a time of `now_ns`."""
        return self._T_map_body(stamp_ns) @ T_BODY_CAM

    def _T_map_body(self, stamp_ns: int) -> np.ndarray:
        t_s = (stamp_ns - self.start_ns) / 1e9
        return se3.make(position_m(t_s), [0.0, 0.0, np.sin(0.1 * t_s), np.cos(0.1 * t_s)])

    def _send(self, topic: str, message: Any) -> None:
        publisher = self._publishers.get(topic)
        if topic in self.spoil:
            message = self.spoil[topic](message)
        if publisher is not None and message is not None:
            publisher.publish(message)
            header = getattr(message, "header", None)
            self.sent[topic].append(conversions.stamp_ns(header.stamp) if header is not None else 0)

    def _stamped(self, topic: str, message: Any, now_ns: int, frame: str) -> Any:
        message.header.stamp = conversions.to_stamp(now_ns + self.offset_ns.get(topic, 0))
        message.header.frame_id = frame
        return message

    def _expose(self) -> None:
        now_ns, number = self.now_ns(), len(self.sent["image/compressed"])
        jpeg = CompressedImage(format="rgb8; jpeg compressed bgr8")
        jpeg.data.frombytes(self._frames[number % len(self._frames)])
        self._send("/clock", Clock(clock=conversions.to_stamp(now_ns)))
        self._send("camera_info", self._stamped("camera_info", conversions.camera_to_info(CAMERA), now_ns, "camera"))
        self._send("image/compressed", self._stamped("image/compressed", jpeg, now_ns, "camera"))
        if "depth" in self._publishers:
            metres = np.full((CAMERA.height, CAMERA.width), 50.0, np.float32)
            stamp_ns = now_ns + self.offset_ns.get("depth", 0)
            self._send("depth", conversions.to_image(metres, stamp_ns, "camera"))
        if "image" in self._publishers:
            pixels = np.full((CAMERA.height, CAMERA.width, 3), number % 256, np.uint8)
            self._send("image", conversions.to_image(pixels, now_ns + self.offset_ns.get("image", 0), "camera"))

    def _locate(self) -> None:
        now_ns = self.now_ns()
        message = self._stamped("odom", Odometry(child_frame_id="base_link"), now_ns, "map")
        message.pose.pose = conversions.to_pose(self._T_map_body(now_ns))
        self._send("odom", message)

    def _fix(self) -> None:
        now_ns = self.now_ns()
        message = self._stamped("fix", NavSatFix(), now_ns, "gps")
        east_north_up = self._T_map_body(now_ns)[:3, 3]
        message.latitude, message.longitude, message.altitude = map(float, enu_to_wgs84(east_north_up, DATUM))
        message.position_covariance = np.diag([0.25, 0.25, 1.0]).ravel()
        message.position_covariance_type = NavSatFix.COVARIANCE_TYPE_KNOWN
        self._send("fix", message)

    def _mount(self, now_ns: int) -> TFMessage:
        return TFMessage(transforms=[conversions.to_transform_stamped(T_BODY_CAM, now_ns, "base_link", "camera")])


def _in_namespace(namespace: str, topic: str) -> str:
    return topic if topic.startswith("/") else f"{namespace}/{topic}"


def _usual_qos(topic: str) -> QoSProfile:
    if topic == "/tf_static":
        return QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    return QoSProfile(depth=50, reliability=BEST_EFFORT if "image" in topic else RELIABLE)


def _jpeg(number: int) -> bytes:
    """One of a few different, detailed pictures."""
    pixels = np.random.default_rng(number).integers(0, 256, (CAMERA.height, CAMERA.width, 3), np.uint8)
    return cv2.imencode(".jpg", pixels)[1].tobytes()
