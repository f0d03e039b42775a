"""Everything the sim node publishes of its world."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tf2_ros
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, FluidPressure, Image, Imu, NavSatFix

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.nodes import sim_messages
from pose2rgbd_ros.nodes.conversions import ImageBuffer, camera_to_info, to_stamp, to_transform_stamped
from pose2rgbd_ros.sim import topics
from pose2rgbd_ros.sim.gl.view import View
from pose2rgbd_ros.sim.sensors.measurement import OdometryReading
from pose2rgbd_ros.sim.state import BASE, CAMERA, DATUM, GPS_ANTENNA, MAP, ODOM, START_NS
from pose2rgbd_ros.sim.world import Arrived, Step, TruePose

TRUE_ODOMETRY, LABELS, MAP_ORIGIN = "truth/odometry", "truth/labels", "map_origin"
IMAGES_KEPT, MESSAGES_KEPT = 5, 100  # images as in nodes.outputs: they must fit the shared-memory segment
_SENSORS: dict[str, tuple[type, str, Callable[[Any, int], Any]]] = {
    "gps": (NavSatFix, topics.FIX, sim_messages.nav_sat_fix),
    "odometry": (Odometry, topics.ODOMETRY, sim_messages.odometry),
    "imu": (Imu, topics.IMU, sim_messages.imu),
    "barometer": (FluidPressure, topics.PRESSURE, sim_messages.fluid_pressure),
}


class SimOutputs:
    """Publishers, and preallocated images. `wants_images` may be called from any thread, the rest from one.

    `tf` as in SimSettings; `antenna_m` (3,) is the antenna in the body, `T_body_cam` (4, 4) the camera.
    """

    def __init__(
        self, node: Node, camera: Camera, tf: str, T_body_cam: Float64, antenna_m: tuple[float, float, float]
    ) -> None:
        self._node, self._tf = node, tf
        self._clock = node.create_publisher(Clock, topics.CLOCK, 10)
        self._sensors = {
            name: _publisher(node, kind, topic, MESSAGES_KEPT) for name, (kind, topic, _) in _SENSORS.items()
        }
        self._truth = _publisher(node, Odometry, TRUE_ODOMETRY, MESSAGES_KEPT)
        self._buffers = {
            topics.RGB: ImageBuffer(camera.width, camera.height, "rgb8"),
            topics.DEPTH: ImageBuffer(camera.width, camera.height, "32FC1"),
            LABELS: ImageBuffer(camera.width, camera.height, "mono8"),
        }
        self._images = {topic: _publisher(node, Image, topic, IMAGES_KEPT) for topic in self._buffers}
        self._jpeg = _publisher(node, CompressedImage, topics.RGB_COMPRESSED, IMAGES_KEPT)
        self._infos = [
            _publisher(node, CameraInfo, topic, IMAGES_KEPT) for topic in (topics.RGB_INFO, topics.DEPTH_INFO)
        ]
        self._info = camera_to_info(camera)
        self._transforms = tf2_ros.TransformBroadcaster(node)
        self._static = tf2_ros.StaticTransformBroadcaster(node)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._origin = node.create_publisher(NavSatFix, MAP_ORIGIN, latched)
        if tf == "truth":  # otherwise the map is that of a localization, which knows where it lies
            self._origin.publish(sim_messages.map_origin(DATUM))
        if tf != "none":
            antenna = se3.make(antenna_m, [0.0, 0.0, 0.0, 1.0])
            mounts = [(T_body_cam, CAMERA), (antenna, GPS_ANTENNA)]
            self._static.sendTransform(
                [to_transform_stamped(T, START_NS, BASE, child) for T, child in mounts]
            )

    def wants_images(self) -> bool:
        """Whether anybody listens to an image."""
        return any(_has_listener(publisher) for publisher in (self._jpeg, *self._images.values()))

    def publish(self, step: Step) -> None:
        """Poses, then what arrived, then the clock: whoever sees the time has, or is about to get, what came before."""
        self._publish_poses(step.poses)
        for arrived in step.arrived:
            if arrived.measurement.sensor == "camera":
                self._publish_image(arrived)
            else:
                self._publish_reading(arrived)
        self._clock.publish(Clock(clock=to_stamp(step.stamp_ns)))

    def destroy(self) -> None:
        """Remove the topics."""
        mine = [
            *self._sensors.values(),
            *self._images.values(),
            *self._infos,
            self._truth,
            self._jpeg,
            self._clock,
            self._origin,
        ]
        for publisher in [*mine, self._transforms.pub_tf, self._static.pub_tf]:
            self._node.destroy_publisher(publisher)

    def _publish_poses(self, poses: list[TruePose]) -> None:
        if self._tf == "truth" and poses:
            self._transforms.sendTransform([item for pose in poses for item in _true_transforms(pose)])
        for pose in poses:
            if pose.of_odometry and _has_listener(self._truth):
                self._truth.publish(sim_messages.true_odometry(pose.state, pose.stamp_ns))

    def _publish_reading(self, arrived: Arrived) -> None:
        item = arrived.measurement
        if self._tf == "odometry" and isinstance(item.value, OdometryReading):
            self._transforms.sendTransform(
                to_transform_stamped(item.value.T_odom_body, item.stamp_ns, ODOM, BASE)
            )
        publisher = self._sensors[item.sensor]
        if _has_listener(publisher):
            publisher.publish(_SENSORS[item.sensor][2](item.value, item.stamp_ns))

    def _publish_image(self, arrived: Arrived) -> None:
        stamp_ns = arrived.measurement.stamp_ns
        if arrived.view is not None:
            self._publish_view(arrived.view, stamp_ns)
        self._info.header = sim_messages.header(stamp_ns, CAMERA)
        for publisher in self._infos:
            if _has_listener(publisher):
                publisher.publish(self._info)

    def _publish_view(self, view: View, stamp_ns: int) -> None:
        pixels: dict[str, np.ndarray] = {
            topics.RGB: view.rgb,
            topics.DEPTH: view.depth_m,
            LABELS: view.labels,
        }
        for topic, publisher in self._images.items():
            if _has_listener(publisher):
                publisher.publish(self._buffers[topic].fill(pixels[topic], stamp_ns, CAMERA))
        if _has_listener(self._jpeg):
            self._jpeg.publish(sim_messages.jpeg(view.rgb, stamp_ns, CAMERA))


def _true_transforms(pose: TruePose) -> list[Any]:
    T_odom_body = se3.inverse(pose.T_map_odom) @ pose.state.T_map_body
    return [
        to_transform_stamped(pose.T_map_odom, pose.stamp_ns, MAP, ODOM),
        to_transform_stamped(T_odom_body, pose.stamp_ns, ODOM, BASE),
    ]


def _publisher(node: Node, kind: type, topic: str, depth: int) -> Publisher:
    qos = QoSProfile(depth=depth, reliability=ReliabilityPolicy.RELIABLE)
    return node.create_publisher(
        kind, topic, qos, qos_overriding_options=QoSOverridingOptions.with_default_policies()
    )


def _has_listener(publisher: Publisher) -> bool:
    return bool(publisher.get_subscription_count())
