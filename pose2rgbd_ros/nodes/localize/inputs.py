"""What the localize node listens to: the camera's images, raw or compressed, its CameraInfo, and why none come."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from message_filters import Cache, Subscriber
from rclpy.node import Node
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import UInt8
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.nodes.common.topics import JUMP_BACK_S, SENSOR_QOS, incompatible, node_of, qos_words, subscriber

LOOK_S = 0.25  # how often it is looked which kind of image is published
PATIENCE_S = 0.5  # so long raw images may turn up after compressed ones
INFOS = 30  # CameraInfo messages that are kept to be found by an image's stamp
KINDS = {"raw": Image, "compressed": CompressedImage}


@dataclass(frozen=True, eq=False)
class Picture:
    """An image as it came, and the camera it is of; None: not known, and not needed."""

    message: Image | CompressedImage
    camera: Camera | None

    @property
    def stamp_ns(self) -> int:
        """Of its header."""
        return conversions.stamp_ns(self.message.header.stamp)

    @property
    def frame_id(self) -> str:
        """Of its header."""
        return str(self.message.header.frame_id)

    def rgb(self) -> UInt8:
        """(H, W, 3) uint8. UserError for an encoding that is no picture, or damaged data."""
        return conversions.rgb_of(self.message)


class ImageInputs:
    """Subscriptions to `image` (or `image/compressed`) and `camera_info`; all methods belong to the executor's thread.

    `on_picture` gets each image once its camera is known, `on_jump` a line when stamps went back by a second or more.
    """

    def __init__(self, node: Node, on_picture: Callable[[Picture], None], on_jump: Callable[[str], None]) -> None:
        self._node, self._on_picture, self._on_jump = node, on_picture, on_jump
        self._image: Subscriber | None = None
        self._info: Subscriber | None = None
        self._infos: Cache | None = None
        self._needs_camera = True
        self._looked_at = self._compressed_since_s = -float("inf")
        self._camera: Camera | None = None
        self._bad_camera = ""
        self._began_s = 0.0
        self._arrived_s: dict[str, float] = {}
        self._newest_ns = -1
        self.without_camera = 0  # images that could not be used for want of a CameraInfo

    def start(self, transport: str, needs_camera: bool) -> None:
        """Subscribe; `needs_camera`: an image is of no use before its CameraInfo came."""
        self._needs_camera = needs_camera
        self._began_s, self._arrived_s, self._newest_ns = time.monotonic(), {}, -1
        self._camera, self._bad_camera, self._compressed_since_s = None, "", -float("inf")
        self._info = subscriber(self._node, CameraInfo, "camera_info", self._take_info)
        self._infos = Cache(self._info, INFOS)
        if transport != "auto":
            self._listen(transport)
        self.look()

    def stop(self) -> None:
        """Unsubscribe."""
        for each in (self._image, self._info):
            if each is not None:
                self._node.destroy_subscription(each.sub)
        self._image = self._info = self._infos = None

    def forget_stamps(self) -> None:
        """Time jumped: what comes next is not compared with what came before."""
        self._newest_ns = -1

    def look(self) -> None:
        """Subscribe to the kind of image that is published, if that was left open."""
        now = time.monotonic()
        if self._image is not None or self._info is None or now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        raw, compressed = (self._published(kind) for kind in KINDS)
        if not raw and compressed and self._compressed_since_s < 0:
            self._compressed_since_s = now
        if raw or (compressed and now - self._compressed_since_s > PATIENCE_S):
            self._listen("raw" if raw else "compressed")

    @property
    def silent_for_s(self) -> float:
        """Seconds since an image came, or since the start."""
        return time.monotonic() - self._arrived_s.get("image", self._began_s)

    @property
    def waits_for_camera(self) -> bool:
        """Whether images come that nothing is known about."""
        return self._needs_camera and self._camera is None and "image" in self._arrived_s

    def explain_image(self) -> str:
        """Why no image arrives; to be asked while none does."""
        if self._image is None:
            raw, compressed = (self._topic(kind) for kind in KINDS)
            return f"nobody publishes {raw} or {compressed}; remap image to the camera's topic"
        return self._explain(self._image, "image", "remap image to the camera's topic")

    def explain_camera(self) -> str:
        """Why nothing is known about the camera."""
        if self._bad_camera:
            return f"{self._topic('info')}: {self._bad_camera}"
        assert self._info is not None
        why = self._explain(self._info, "camera_info", "remap camera_info to the camera's topic")
        return f"images arrive, but no CameraInfo: {why}"

    def _explain(self, subscription: Subscriber, role: str, remedy: str) -> str:
        topic, kind = subscription.topic_name, getattr(subscription.msg_type, "__name__", "")
        wanted = f"sensor_msgs/msg/{kind}"
        publishers = self._node.get_publishers_info_by_topic(topic)
        if not publishers:
            return f"nobody publishes {topic}; {remedy}"
        for info in publishers:
            if info.topic_type != wanted:
                return f"{topic} is published as {info.topic_type} by {node_of(info)}, not as {wanted}"
            reason = incompatible(info.qos_profile, SENSOR_QOS)
            if reason:
                return (
                    f"{topic}: QoS does not fit: {node_of(info)} offers {qos_words(info.qos_profile)} ({reason}); "
                    f"set qos_overrides.{topic}.subscription.*"
                )
        last_s = self._arrived_s.get(role)
        since = "nothing arrives" if last_s is None else f"silent for {time.monotonic() - last_s:.0f} s"
        return (
            f"{topic}: {since}, though {node_of(publishers[0])} publishes it ({qos_words(publishers[0].qos_profile)})"
        )

    def _published(self, kind: str) -> bool:
        wanted = f"sensor_msgs/msg/{KINDS[kind].__name__}"
        return any(info.topic_type == wanted for info in self._node.get_publishers_info_by_topic(self._topic(kind)))

    def _topic(self, kind: str) -> str:
        """Full name; the compressed images are beside the raw ones, wherever those were remapped to."""
        if kind == "info":
            return str(self._node.resolve_topic_name("camera_info"))
        raw = self._node.resolve_topic_name("image")
        own = self._node.resolve_topic_name("image/compressed")
        if kind == "raw":
            return str(raw)
        remapped = own != self._node.resolve_topic_name("image/compressed", only_expand=True)
        return str(own) if remapped else f"{raw}/compressed"

    def _listen(self, kind: str) -> None:
        self._image = subscriber(self._node, KINDS[kind], self._topic(kind), self._take_image)

    def _take_image(self, message: Image | CompressedImage) -> None:
        stamp_ns = conversions.stamp_ns(message.header.stamp)
        self._arrived_s["image"] = time.monotonic()
        if stamp_ns < self._newest_ns - JUMP_BACK_S * 1e9:
            back_s = (self._newest_ns - stamp_ns) / 1e9
            self._newest_ns = stamp_ns
            self._on_jump(f"the stamps of the images went back by {back_s:.1f} s{self._several()}")
        self._newest_ns = max(self._newest_ns, stamp_ns)
        self._camera = self._camera_at(Time.from_msg(message.header.stamp))
        if self._needs_camera and self._camera is None:
            self.without_camera += 1
            return
        self._on_picture(Picture(message, self._camera))

    def _several(self) -> str:
        assert self._image is not None
        count = self._node.count_publishers(self._image.topic_name)
        return f"; {count} nodes publish {self._image.topic_name}" if count > 1 else ""

    def _take_info(self, message: CameraInfo) -> None:
        self._arrived_s["camera_info"] = time.monotonic()

    def _camera_at(self, stamp: Time) -> Camera | None:
        """By the CameraInfo of the image's stamp, else by the last before it, else by the newest: some cameras send it
        once, or under stamps of its own.
        """
        assert self._infos is not None
        newest = self._infos.getLastestTime()
        if newest is None:
            return None
        info = self._infos.getElemBeforeTime(stamp) or self._infos.getElemBeforeTime(newest)
        try:
            camera = conversions.camera_from_info(info)
            if self._needs_camera and not camera.is_calibrated:
                raise UserError("the camera is not calibrated (K[0] = 0); calibrate it")
        except UserError as error:
            self._bad_camera = str(error)
            return None
        self._bad_camera = ""
        return camera
