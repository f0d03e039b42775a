"""A body in front of a wall, as the avoid node sees it: depth of exact geometry, its camera_info, TF, odometry, live
sensors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tf2_ros
from nav_msgs.msg import Odometry
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import CameraInfo, Image, Range

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.nodes.common import conversions

CAMERA = Camera.from_fov(64, 48, 90.0)
LIVE_CAMERA = Camera.from_fov(40, 40, 80.0)
FORWARD_M = 0.1  # the cameras sit this far ahead of the body's origin
T_BODY_CAM = se3.compose(se3.make([FORWARD_M, 0.0, 0.0], [0, 0, 0, 1]), se3.T_BODY_OPTICAL)
OPTICAL = "camera_optical"
TICK_S = 0.02


class WallFlight:
    """Publishes at 10 Hz what its switches say, stamped as of now plus `offset_ns`.

    simulated: now is a time of its own on /clock, which runs at `pace`; slow as that may be set, times of a node can
        be told exactly on a machine of any speed.
    ahead_m: predicted distance of the wall from the body's origin. live_m, range_m: what the live sensors measure;
        None: silent.
    """

    def __init__(self, bench: Any, ahead_m: float = 12.0, simulated: bool = False, **switches: Any) -> None:
        self._bench, node = bench, bench.node
        self.ahead_m, self.speed_mps, self.tilt_xyzw = ahead_m, 4.0, (0.0, 0.0, 0.0, 1.0)
        self.live_m: float | None = None
        self.range_m: float | None = None
        self.images_on = self.mount_on = self.odometry_on = True
        self.offset_ns = self.info_offset_ns = 0
        self.unknown_rows = 0  # of the predicted image, from the top
        self.last_ns = {"depth_lower": 0, "live_depth": 0, "range": 0}  # stamps sent last
        self._mount: tf2_ros.StaticTransformBroadcaster | None = None
        self.pace, self._simulated_ns = 1.0, 1_000_000_000_000 if simulated else None
        vars(self).update(switches)
        topics = {
            "depth_lower": Image, "camera_info": CameraInfo, "odometry": Odometry,
            "live_depth": Image, "live_camera_info": CameraInfo, "range": Range,
        }  # fmt: skip
        self._to = {name: node.create_publisher(kind, name, 5) for name, kind in topics.items()}
        self._timer = node.create_timer(0.1, self.send)
        if simulated:
            self._clock = node.create_publisher(ClockMessage, "/clock", 5)
            self._ticking = node.create_timer(TICK_S, self.tick)

    def now_ns(self) -> int:
        """By the clock of the stamps."""
        return self._simulated_ns or self._bench.node.get_clock().now().nanoseconds

    def tick(self, s: float = TICK_S) -> None:
        """Let simulated time go on by so much, at the pace."""
        self._simulated_ns += round(s * self.pace * 1e9)
        self._clock.publish(ClockMessage(clock=conversions.to_stamp(self._simulated_ns)))

    def send(self) -> None:
        """One moment."""
        stamp_ns = self.now_ns() + self.offset_ns
        self._bench.send(se3.make([1.0, 2.0, 30.0], self.tilt_xyzw), stamp_ns, "map", "base_link")
        if self.mount_on and self._mount is None:
            self._mount = tf2_ros.StaticTransformBroadcaster(self._bench.node)
            mount = conversions.to_transform_stamped(T_BODY_CAM, stamp_ns, "base_link", OPTICAL)
            self._mount.sendTransform(mount)
        if self.images_on:
            self._send_depth("depth_lower", "camera_info", CAMERA, self.ahead_m, stamp_ns)
        if self.live_m is not None:
            self._send_depth("live_depth", "live_camera_info", LIVE_CAMERA, self.live_m, stamp_ns)
        if self.range_m is not None:
            message = Range(field_of_view=0.2, min_range=0.2, max_range=8.0, range=self.range_m)
            message.header.stamp, message.header.frame_id = conversions.to_stamp(stamp_ns), "base_link"
            self.last_ns["range"] = stamp_ns
            self._to["range"].publish(message)
        if self.odometry_on:
            odometry = Odometry(child_frame_id="base_link")
            odometry.header.stamp = conversions.to_stamp(stamp_ns)
            odometry.twist.twist.linear.x = self.speed_mps
            self._to["odometry"].publish(odometry)

    def _send_depth(self, image: str, info: str, camera: Camera, ahead_m: float, stamp_ns: int) -> None:
        depth_m = np.full((camera.height, camera.width), ahead_m - FORWARD_M, np.float32)
        if image == "depth_lower":
            depth_m[: self.unknown_rows] = np.nan
        self.last_ns[image] = stamp_ns
        self._to[image].publish(conversions.to_image(depth_m, stamp_ns, OPTICAL))
        message = conversions.camera_to_info(camera)
        message.header.stamp = conversions.to_stamp(stamp_ns + self.info_offset_ns)
        message.header.frame_id = OPTICAL
        self._to[info].publish(message)


def latched(depth: int = 1) -> QoSProfile:
    """The QoS of what is sent once."""
    return QoSProfile(depth=depth, durability=DurabilityPolicy.TRANSIENT_LOCAL)
