"""The images a render node publishes: one image and one camera_info topic each for colour, depth and confidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo

from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.depth import DepthKind, depth_topic
from pose2rgbd_ros.nodes.conversions import (
    DEPTH_MESSAGES,
    ImageBuffer,
    camera_to_info,
    depth_message,
    to_stamp,
)
from pose2rgbd_ros.rendering.renderer import Rendered

QUEUE_DEPTH = 5  # 5 x (RGB + depth + confidence) of 1024 x 1024 still fit the shared-memory segment
KINDS = ("rgb", "depth", "confidence")


@dataclass
class _Output:
    image: Publisher
    info: Publisher
    buffer: ImageBuffer
    message: Any  # what is published: the buffer's image, or what holds it
    camera_info: CameraInfo


def topics(depth_kind: str | None) -> dict[str, str]:
    """Name of the image topic of each kind of output, relative to the node."""
    return {
        "rgb": "rgb/image",
        "depth": depth_topic(cast(DepthKind, depth_kind or "metric")),
        "confidence": "confidence/image",
    }


class Outputs:
    """Publishers and preallocated messages for the kinds of image the model gives.

    `canvas` holds the pixels of the messages themselves: what is rendered into it is published without a copy.
    `subscribed` may be called from any thread; the rest belongs to the thread that renders.
    """

    def __init__(self, node: Node, camera: Camera, kinds: list[str], depth_kind: str | None) -> None:
        self._node = node
        self._outputs: dict[str, _Output] = {}
        for kind in kinds:
            topic = topics(depth_kind)[kind]
            unit: DepthKind = cast(DepthKind, depth_kind or "metric") if kind == "depth" else "metric"
            buffer = ImageBuffer(camera.width, camera.height, "rgb8" if kind == "rgb" else "32FC1")
            self._outputs[kind] = _Output(
                _publisher(node, DEPTH_MESSAGES[unit], f"~/{topic}"),
                _publisher(node, CameraInfo, f"~/{topic.replace('/image', '/camera_info')}"),
                buffer,
                depth_message(buffer.message, unit),
                camera_to_info(camera),
            )
        pixels = {kind: output.buffer.pixels[None] for kind, output in self._outputs.items()}
        self.canvas = Rendered(pixels.get("rgb"), pixels.get("depth"), pixels.get("confidence"))

    def subscribed(self) -> frozenset[str]:
        """The kinds whose images somebody listens to."""
        return frozenset(
            kind for kind, output in self._outputs.items() if output.image.get_subscription_count() > 0
        )

    def publish(self, kinds: frozenset[str], stamp_ns: int, frame_id: str) -> None:
        """Publish the images of `kinds` as they are on the canvas, and camera_info to whoever listens."""
        for kind, output in self._outputs.items():
            for header in (output.buffer.message.header, output.camera_info.header):
                header.stamp, header.frame_id = to_stamp(stamp_ns), frame_id
            if kind in kinds:
                output.image.publish(output.message)
            if output.info.get_subscription_count() > 0:
                output.info.publish(output.camera_info)

    def destroy(self) -> None:
        """Remove the topics."""
        for output in self._outputs.values():
            self._node.destroy_publisher(output.image)
            self._node.destroy_publisher(output.info)
        self._outputs = {}


def declare_unknown(rendered: Rendered) -> None:
    """What holds outside the trained volume: depth is unknown there, and confidence none; colour stays."""
    if rendered.depth is not None:
        rendered.depth.fill(np.nan)
    if rendered.confidence is not None:
        rendered.confidence.fill(0.0)


def _publisher(node: Node, kind: type, topic: str) -> Publisher:
    qos = QoSProfile(depth=QUEUE_DEPTH, reliability=ReliabilityPolicy.RELIABLE)
    return node.create_publisher(
        kind, topic, qos, qos_overriding_options=QoSOverridingOptions.with_default_policies()
    )
