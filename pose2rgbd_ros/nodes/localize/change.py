"""Camera against memory as topics: change image, mask of movers, and the view without movers; made only while
subscribed.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import cv2
import numpy as np
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, Image

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Bool, Float64, UInt8
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.localization.change import ChangeSettings, compare
from pose2rgbd_ros.models.backends import RenderedImages
from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.nodes.common.status import one_line
from pose2rgbd_ros.nodes.common.worker import LatestWorker
from pose2rgbd_ros.rendering.renderer import Renderer

QUEUE_DEPTH = 5
LARGEST_WIDTH = 640  # unless asked for: larger ones take long
IMAGES = {"change/image": "rgb8", "change/mask": "mono8", "reference/image": "rgb8"}
INFOS = {"change": "change/camera_info", "reference": "reference/camera_info"}


@dataclass(frozen=True, eq=False)
class ChangeJob:
    """An image (H, W, 3), its camera, and the pose (4, 4) found in it."""

    rgb: UInt8
    camera: Camera
    T_map_cam: Float64
    stamp_ns: int
    frame_id: str
    width: int  # of what is published; 0: the camera's, within limits
    settings: ChangeSettings


class ChangeTopics:
    """Publishers, and a thread of their own: poses do not wait for pictures. `offer` belongs to the executor's thread.

    Whoever renders with the same renderer holds `rendering`. problem: what the last comparison stumbled over.
    """

    def __init__(self, node: Node, renderer: Renderer, rendering: threading.Lock) -> None:
        self._node, self._renderer, self._rendering = node, renderer, rendering
        self._publishers = {topic: _publisher(node, Image, f"~/{topic}") for topic in IMAGES}
        self._publishers |= {topic: _publisher(node, CameraInfo, f"~/{topic}") for topic in INFOS.values()}
        self._buffers: dict[str, conversions.ImageBuffer] = {}
        self._worker: LatestWorker[ChangeJob] = LatestWorker(self._compare, self._on_error)
        self.problem = ""

    @property
    def wanted(self) -> bool:
        """Whether anybody listens."""
        return any(self._listens(topic) for topic in IMAGES)

    def offer(self, job: ChangeJob) -> None:
        """Compare this image next, unless a newer one comes before its turn."""
        self._worker.offer(job)

    def destroy(self) -> None:
        """Remove the topics."""
        self._worker.stop()
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)
        self._publishers = {}

    def _compare(self, job: ChangeJob) -> None:
        """In the worker: render, compare, publish."""
        camera = _published_camera(job.camera, job.width)
        size = camera.width, camera.height
        rgb = job.rgb
        if size != (job.camera.width, job.camera.height):
            rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
        with self._rendering:
            rendered = self._renderer.render_for_camera(job.T_map_cam, camera)
            trust = self._renderer.guard_score(job.T_map_cam)
        if not trust.inside:
            raise UserError(f"no change image, memory does not reach there: {trust.reason}")
        assert rendered.rgb is not None
        found = compare(rgb, rendered.rgb[0], _known(rendered), job.settings)
        pictures: dict[str, UInt8] = {"reference/image": found.reference}
        if self._listens("change/image"):
            pictures["change/image"] = found.picture(rgb)
        if self._listens("change/mask"):
            pictures["change/mask"] = found.mask.astype(np.uint8) * np.uint8(255)
        for topic, picture in pictures.items():
            self._publish_image(topic, picture, job)
        info = conversions.camera_to_info(camera)
        info.header.stamp, info.header.frame_id = conversions.to_stamp(job.stamp_ns), job.frame_id
        for topic in INFOS.values():
            if self._listens(topic):
                self._publishers[topic].publish(info)
        self.problem = ""

    def _publish_image(self, topic: str, pixels: UInt8, job: ChangeJob) -> None:
        if not self._listens(topic):
            return
        buffer = self._buffers.get(topic)
        if buffer is None or buffer.pixels.shape != pixels.shape:
            buffer = conversions.ImageBuffer(pixels.shape[1], pixels.shape[0], IMAGES[topic])
            self._buffers[topic] = buffer
        self._publishers[topic].publish(buffer.fill(pixels, job.stamp_ns, job.frame_id))

    def _listens(self, topic: str) -> bool:
        return bool(self._publishers[topic].get_subscription_count())

    def _on_error(self, error: Exception) -> None:
        if self._node.context.ok():  # publishing fails when the process is on its way out
            self.problem = one_line(error, "no change image")


def _published_camera(camera: Camera, width: int) -> Camera:
    width = width or min(camera.width, LARGEST_WIDTH)
    return (
        camera if width == camera.width else camera.resized(width, max(1, round(camera.height * width / camera.width)))
    )


def _known(rendered: RenderedImages) -> Bool | None:
    """Where the rendering shows the place, as far as the model says so."""
    assert rendered.rgb is not None
    shown: Bool = rendered.rgb[0].any(axis=-1)
    if rendered.depth is not None:
        shown = shown & np.isfinite(rendered.depth[0])
    return shown


def _publisher(node: Node, kind: type, topic: str) -> Publisher:
    qos = QoSProfile(depth=QUEUE_DEPTH, reliability=ReliabilityPolicy.RELIABLE)
    options = QoSOverridingOptions.with_default_policies()
    return node.create_publisher(kind, topic, qos, qos_overriding_options=options)
