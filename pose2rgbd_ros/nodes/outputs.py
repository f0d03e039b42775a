"""The images a render node publishes: one image and one camera_info topic each for colour, depth, its bounds and confidence."""

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

BOUNDS = ("depth_lower", "depth_upper")
QUEUE_DEPTH = 5  # 5 x (RGB + depth + confidence) of 1024 x 1024 still fit the shared-memory segment


@dataclass
class _Output:
    """The messages of one kind of image, of one camera."""

    buffer: ImageBuffer
    message: Any  # what is published: the buffer's image, or what holds it
    camera_info: CameraInfo


def topics(depth_kind: str | None) -> dict[str, str]:
    """Name of the image topic of each kind of output, relative to the node."""
    return {
        "rgb": "rgb/image",
        "depth": depth_topic(cast(DepthKind, depth_kind or "metric")),
        "confidence": "confidence/image",
        "depth_lower": "depth_lower/image",
        "depth_upper": "depth_upper/image",
    }


class Outputs:
    """Publishers and preallocated messages for the kinds of image the model gives.

    `canvas` holds the pixels of the messages themselves: what is rendered into it is published without a copy.
    `subscribed` may be called from any thread; the rest belongs to the thread that renders.
    """

    def __init__(self, node: Node, camera: Camera, kinds: list[str], depth_kind: str | None) -> None:
        self._node = node
        self._depth: DepthKind = cast(DepthKind, depth_kind or "metric")
        self._publishers: dict[str, tuple[Publisher, Publisher]] = {}
        for kind in kinds:
            topic, message = topics(depth_kind)[kind], DEPTH_MESSAGES[self._unit(kind)]
            info = topic.replace("/image", "/camera_info")
            self._publishers[kind] = (
                _publisher(node, message, f"~/{topic}"),
                _publisher(node, CameraInfo, f"~/{info}"),
            )
        self.use(camera)

    def use(self, camera: Camera) -> None:
        """Go on with the images of this camera; the canvas is a new one, and empty."""
        self.camera = camera
        self._outputs = {}
        for kind in self._publishers:
            buffer = ImageBuffer(camera.width, camera.height, "rgb8" if kind == "rgb" else "32FC1")
            message = depth_message(buffer.message, self._unit(kind))
            self._outputs[kind] = _Output(buffer, message, camera_to_info(camera))
        pixels = {kind: output.buffer.pixels[None] for kind, output in self._outputs.items()}
        self.canvas = Rendered(**{kind: pixels.get(kind) for kind in topics(None)})

    def subscribed(self) -> frozenset[str]:
        """The kinds whose images somebody listens to."""
        return frozenset(
            kind for kind, (image, _) in self._publishers.items() if image.get_subscription_count() > 0
        )

    def publish(self, kinds: frozenset[str], stamp_ns: int, frame_id: str) -> None:
        """Publish the images of `kinds` as they are on the canvas, and camera_info to whoever listens."""
        for kind, output in self._outputs.items():
            image, info = self._publishers[kind]
            for header in (output.buffer.message.header, output.camera_info.header):
                header.stamp, header.frame_id = to_stamp(stamp_ns), frame_id
            if kind in kinds:
                image.publish(output.message)
            if info.get_subscription_count() > 0:
                info.publish(output.camera_info)

    def destroy(self) -> None:
        """Remove the topics."""
        for publishers in self._publishers.values():
            for publisher in publishers:
                self._node.destroy_publisher(publisher)
        self._publishers = {}

    def _unit(self, kind: str) -> DepthKind:
        return self._depth if kind == "depth" else "metric"


def known_share(rendered: Rendered) -> float | None:
    """The share of the picture whose depth is known, or, of a model of colour, whose confidence is not 0.

    None of a model that says neither.
    """
    if rendered.depth is not None:
        return float(np.isfinite(rendered.depth).mean())
    return None if rendered.confidence is None else float((rendered.confidence > 0).mean())


def _publisher(node: Node, kind: type, topic: str) -> Publisher:
    qos = QoSProfile(depth=QUEUE_DEPTH, reliability=ReliabilityPolicy.RELIABLE)
    return node.create_publisher(
        kind, topic, qos, qos_overriding_options=QoSOverridingOptions.with_default_policies()
    )
