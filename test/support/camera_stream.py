"""A camera on real topics: images in any encoding, raw or compressed, and their CameraInfo."""

from __future__ import annotations

import array
from typing import Any

import cv2
import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.nodes.common import conversions

OPTICAL = "camera_optical"


class CameraStream:
    """Sends what it is given, stamped as of now plus `offset_ns`; `info_on` tells whether with CameraInfo."""

    def __init__(self, bench: Any, camera: Camera, compressed: bool = False) -> None:
        self.node, self.camera, self.compressed = bench.node, camera, compressed
        self.info_on, self.offset_ns = True, 0
        self.sent: list[int] = []
        kind, topic = (CompressedImage, "image/compressed") if compressed else (Image, "image")
        self._image = bench.node.create_publisher(kind, topic, 5)
        self._info = bench.node.create_publisher(CameraInfo, "camera_info", 5)

    def wait_for_listener(self, bench: Any) -> None:
        """Until somebody subscribes to both."""
        bench.wait(lambda: self._image.get_subscription_count() and self._info.get_subscription_count())

    def send(self, rgb: np.ndarray, encoding: str = "rgb8", data: bytes | None = None) -> int:
        """One image (H, W, 3) and its CameraInfo; returns the stamp. `data`: compressed bytes in its stead."""
        stamp_ns = self.node.get_clock().now().nanoseconds + self.offset_ns
        if self.info_on:
            info = conversions.camera_to_info(self.camera)
            info.header.stamp, info.header.frame_id = conversions.to_stamp(stamp_ns), OPTICAL
            self._info.publish(info)
        message: Any
        if self.compressed:
            jpeg = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
            message = CompressedImage(format="jpeg", data=array.array("B", data or jpeg))
        else:
            message = _raw(rgb, encoding)
        message.header.stamp, message.header.frame_id = conversions.to_stamp(stamp_ns), OPTICAL
        self._image.publish(message)
        self.sent.append(stamp_ns)
        return stamp_ns


def _raw(rgb: np.ndarray, encoding: str) -> Image:
    height, width = rgb.shape[:2]
    pixels = {
        "rgb8": lambda: rgb,
        "bgr8": lambda: rgb[..., ::-1],
        "rgba8": lambda: np.dstack([rgb, np.full((height, width), 255, np.uint8)]),
        "mono8": lambda: cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[..., None],
        "32FC1": lambda: np.zeros((height, width, 4), np.uint8),
    }[encoding]()
    pixels = np.ascontiguousarray(pixels)
    message = Image(height=height, width=width, encoding=encoding, step=width * pixels.shape[2])
    message.data = array.array("B", pixels.tobytes())
    return message
