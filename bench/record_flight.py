"""A drone for the benches of the recorder, as a process: 1080p JPEG images, odometry, GPS, mount, at a steady pace.

    python bench/record_flight.py --seconds 60 --summary sent.json    # or until SIGTERM

Poses begin a second before the images and end a second after them, so that each image has one. Messages are made once
and sent serialized, only their stamps change: two cores belong to the recorder and this.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import struct
import time
from pathlib import Path

import cv2
import numpy as np
import rclpy
from nav_msgs.msg import Odometry
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, NavSatFix
from tf2_msgs.msg import TFMessage

from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.geodesy import Datum, enu_to_wgs84
from pose2rgbd_ros.nodes.common.conversions import camera_to_info, to_transform_stamped
from pose2rgbd_ros.nodes.common.runner import use_fastdds_profile
from pose2rgbd_ros.poses.camera_pose import T_NADIR

WIDTH, HEIGHT = 1920, 1080
IMAGE_HZ, ODOMETRY_HZ, FIX_HZ = 30.0, 200.0, 10.0
PICTURES = 12
EDGE_S = 1.0  # poses before the first and after the last image
SPEED_MPS, RADIUS_M = 8.0, 60.0
DATUM = Datum(47.0, 8.0, 400.0)
TOPICS = {"image/compressed": CompressedImage, "camera_info": CameraInfo, "odom": Odometry, "fix": NavSatFix}


def pictures(seed: int = 0) -> list[bytes]:
    """JPEG files of 300 to 600 kB, noise of many scales as foliage and roofs have it."""
    rng = np.random.default_rng(seed)
    made = []
    for index in range(PICTURES):
        image = np.full((HEIGHT, WIDTH, 3), 110.0, np.float32)
        for scale, strength in ((1, 6.0), (2, 14.0), (6, 18.0), (40, 30.0)):
            noise = rng.standard_normal((HEIGHT // scale + 1, WIDTH // scale + 1, 3)).astype(np.float32)
            image += strength * cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
        quality = 70 + (index * 7) % 20
        made.append(
            cv2.imencode(".jpg", np.clip(image, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        )
    return [picture.tobytes() for picture in made]


class Flight:
    """Publishers, and the messages to send."""

    def __init__(self, node: rclpy.node.Node) -> None:
        reliable = QoSProfile(depth=20, reliability=ReliabilityPolicy.RELIABLE)
        self.publishers = {topic: node.create_publisher(kind, topic, reliable) for topic, kind in TOPICS.items()}
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._static = node.create_publisher(TFMessage, "/tf_static", latched)
        self._static.publish(
            TFMessage(transforms=[to_transform_stamped(T_NADIR, time.time_ns(), "base_link", "camera")])
        )
        info = camera_to_info(Camera.from_fov(WIDTH, HEIGHT, 70.0))
        info.header.frame_id = "camera"
        self._info = bytearray(serialize_message(info))
        self._images = []
        for picture in pictures():
            message = CompressedImage(format="bgr8; jpeg compressed bgr8")
            message.header.frame_id = "camera"
            message.data.frombytes(picture)
            self._images.append(bytearray(serialize_message(message)))
        self.sent = dict.fromkeys(TOPICS, 0)

    def image(self, stamp_ns: int) -> None:
        """An image with its CameraInfo."""
        self._send("camera_info", self._info, stamp_ns)
        self._send("image/compressed", self._images[self.sent["image/compressed"] % PICTURES], stamp_ns)

    def odometry(self, stamp_ns: int) -> None:
        """Where the body is: on a circle."""
        message = Odometry(child_frame_id="base_link")
        message.header.frame_id = "odom"
        angle = SPEED_MPS / RADIUS_M * (stamp_ns / 1e9 % 1e5)
        position, heading = message.pose.pose.position, message.pose.pose.orientation
        position.x, position.y, position.z = RADIUS_M * math.cos(angle), RADIUS_M * math.sin(angle), 40.0
        heading.z, heading.w = math.sin(angle / 2 + math.pi / 4), math.cos(angle / 2 + math.pi / 4)
        self._send("odom", bytearray(serialize_message(message)), stamp_ns)

    def fix(self, stamp_ns: int) -> None:
        """The same by GPS, without errors."""
        angle = SPEED_MPS / RADIUS_M * (stamp_ns / 1e9 % 1e5)
        east_north_up = np.array([RADIUS_M * math.cos(angle), RADIUS_M * math.sin(angle), 40.0])
        message = NavSatFix()
        message.status.status = 0
        message.latitude, message.longitude, message.altitude = map(float, enu_to_wgs84(east_north_up, DATUM))
        self._send("fix", bytearray(serialize_message(message)), stamp_ns)

    def _send(self, topic: str, data: bytearray, stamp_ns: int) -> None:
        struct.pack_into("<iI", data, 4, *divmod(stamp_ns, 1_000_000_000))
        self.publishers[topic].publish(bytes(data))
        self.sent[topic] += 1


def fly(flight: Flight, seconds: float, stopped: list[bool]) -> None:
    """Send everything at its time until the images have lasted so long, or `stopped` holds something."""
    start = time.monotonic()
    due = {"image": start + EDGE_S, "odometry": start, "fix": start}
    period = {"image": 1 / IMAGE_HZ, "odometry": 1 / ODOMETRY_HZ, "fix": 1 / FIX_HZ}
    images_end = start + EDGE_S + seconds
    while not stopped:
        name = min(due, key=lambda item: due[item])
        if due[name] > images_end + EDGE_S:
            return
        time.sleep(max(0.0, due[name] - time.monotonic()))
        if name != "image" or due[name] < images_end:
            getattr(flight, name)(time.time_ns())
        due[name] += period[name]


def main() -> None:
    """Fly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=math.inf)
    parser.add_argument("--summary", type=Path)
    parser.add_argument("--wait", action="store_true", help="begin when somebody listens to the images")
    options = parser.parse_args()
    use_fastdds_profile()
    rclpy.init(signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
    stopped: list[bool] = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    node = rclpy.create_node("drone")
    flight = Flight(node)
    while options.wait and not stopped and not flight.publishers["image/compressed"].get_subscription_count():
        time.sleep(0.05)
    time.sleep(1.0)
    fly(flight, options.seconds, stopped)
    if options.summary:
        options.summary.write_text(json.dumps(flight.sent))
    time.sleep(1.0)  # what is still on its way
    node.destroy_node()
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
