"""Everything the sim node publishes of its world."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import tf2_ros
from geometry_msgs.msg import Vector3
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, FluidPressure, Image, Imu, NavSatFix, NavSatStatus
from std_msgs.msg import Header

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64, UInt8
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.geodesy import Datum
from pose2rgbd_ros.nodes.common.conversions import ImageBuffer, camera_to_info, to_pose, to_stamp, to_transform_stamped
from pose2rgbd_ros.nodes.common.topics import advertise
from pose2rgbd_ros.sim import topics
from pose2rgbd_ros.sim.gl.renderer import View
from pose2rgbd_ros.sim.sensors.noise import GpsFix, ImuReading, OdometryReading, PressureReading
from pose2rgbd_ros.sim.state import BASE, CAMERA, DATUM, GPS_ANTENNA, MAP, ODOM, START_NS, BodyState
from pose2rgbd_ros.sim.world import Arrived, Step, TruePose

# What the simulated sensors measure, as ROS messages.


JPEG_QUALITY = 95


def header_message(stamp_ns: int, frame_id: str) -> Header:
    """A header."""
    return Header(stamp=to_stamp(stamp_ns), frame_id=frame_id)


def nav_sat_fix_message(fix: GpsFix, stamp_ns: int) -> NavSatFix:
    """Position of the antenna. Without a fix or faults the covariance is zero: of unknown type, not certain."""
    known = bool(fix.covariance_m2.any())
    kind = NavSatFix.COVARIANCE_TYPE_KNOWN if known else NavSatFix.COVARIANCE_TYPE_UNKNOWN
    return NavSatFix(
        header=header_message(stamp_ns, GPS_ANTENNA),
        status=NavSatStatus(status=fix.status, service=NavSatStatus.SERVICE_GPS),
        latitude=fix.latitude_deg,
        longitude=fix.longitude_deg,
        altitude=fix.altitude_m,
        position_covariance=fix.covariance_m2.ravel(),
        position_covariance_type=kind,
    )


def map_origin(datum: Datum) -> NavSatFix:
    """Where the map's origin lies."""
    return NavSatFix(
        header=header_message(START_NS, MAP),
        latitude=datum.latitude_deg,
        longitude=datum.longitude_deg,
        altitude=datum.altitude_m,
    )


def odometry_message(reading: OdometryReading, stamp_ns: int) -> Odometry:
    """Pose in `odom` and twist in the body."""
    message = _odometry(reading.T_odom_body, reading.linear_mps, reading.angular_radps, header_message(stamp_ns, ODOM))
    message.pose.covariance = reading.pose_covariance.ravel()
    message.twist.covariance = reading.twist_covariance.ravel()
    return message


def true_odometry_message(state: BodyState, stamp_ns: int) -> Odometry:
    """The exact pose in `map` and twist in the body."""
    linear_mps = state.T_map_body[:3, :3].T @ state.velocity_map_mps
    return _odometry(state.T_map_body, linear_mps, state.angular_velocity_body_radps, header_message(stamp_ns, MAP))


def imu_message(reading: ImuReading, stamp_ns: int) -> Imu:
    """Rates and specific force in the body; without an orientation its covariance begins with -1."""
    message = Imu(
        header=header_message(stamp_ns, BASE),
        angular_velocity=_vector(reading.angular_velocity_radps),
        linear_acceleration=_vector(reading.specific_force_mps2),
        angular_velocity_covariance=_diagonal(reading.angular_velocity_variance),
        linear_acceleration_covariance=_diagonal(reading.specific_force_variance),
    )
    if reading.quat_xyzw is None:
        message.orientation_covariance[0] = -1.0
    else:
        q = message.orientation
        q.x, q.y, q.z, q.w = reading.quat_xyzw.tolist()
        message.orientation_covariance = _diagonal(reading.orientation_variance)
    return message


def fluid_pressure_message(reading: PressureReading, stamp_ns: int) -> FluidPressure:
    """Static pressure in Pascal."""
    return FluidPressure(
        header=header_message(stamp_ns, BASE), fluid_pressure=reading.pressure_pa, variance=reading.variance_pa2
    )


def jpeg_message(rgb: UInt8, stamp_ns: int, frame_id: str) -> CompressedImage:
    """An (H, W, 3) image as image_transport's compressed one."""
    sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    _, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, *sampling])
    message = CompressedImage(header=header_message(stamp_ns, frame_id), format="rgb8; jpeg compressed bgr8")
    message.data.frombytes(data.tobytes())
    return message


def _odometry(T: Float64, linear_mps: Float64, angular_radps: Float64, header: Header) -> Odometry:
    message = Odometry(header=header, child_frame_id=BASE)
    message.pose.pose = to_pose(T)
    message.twist.twist.linear, message.twist.twist.angular = _vector(linear_mps), _vector(angular_radps)
    return message


def _vector(xyz: Float64) -> Vector3:
    x, y, z = xyz.tolist()
    return Vector3(x=x, y=y, z=z)


def _diagonal(variance: float) -> Float64:
    return (np.eye(3) * variance).ravel()


TRUE_ODOMETRY, LABELS, MAP_ORIGIN = "truth/odometry", "truth/labels", "map_origin"
MESSAGES_KEPT = 100
_SENSORS: dict[str, tuple[type, str, Callable[[Any, int], Any]]] = {
    "gps": (NavSatFix, topics.FIX, nav_sat_fix_message),
    "odometry": (Odometry, topics.ODOMETRY, odometry_message),
    "imu": (Imu, topics.IMU, imu_message),
    "barometer": (FluidPressure, topics.PRESSURE, fluid_pressure_message),
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
            name: advertise(node, kind, topic, depth=MESSAGES_KEPT) for name, (kind, topic, _) in _SENSORS.items()
        }
        self._truth = advertise(node, Odometry, TRUE_ODOMETRY, depth=MESSAGES_KEPT)
        self._buffers = {
            topics.RGB: ImageBuffer(camera.width, camera.height, "rgb8"),
            topics.DEPTH: ImageBuffer(camera.width, camera.height, "32FC1"),
            LABELS: ImageBuffer(camera.width, camera.height, "mono8"),
        }
        self._images = {topic: advertise(node, Image, topic) for topic in self._buffers}
        self._jpeg = advertise(node, CompressedImage, topics.RGB_COMPRESSED)
        self._infos = [advertise(node, CameraInfo, topic) for topic in (topics.RGB_INFO, topics.DEPTH_INFO)]
        self._info = camera_to_info(camera)
        self._transforms = tf2_ros.TransformBroadcaster(node)
        self._static = tf2_ros.StaticTransformBroadcaster(node)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._origin = node.create_publisher(NavSatFix, MAP_ORIGIN, latched)
        if tf == "truth":  # otherwise the map is that of a localization, which knows where it lies
            self._origin.publish(map_origin(DATUM))
        if tf != "none":
            antenna = se3.make(antenna_m, [0.0, 0.0, 0.0, 1.0])
            mounts = [(T_body_cam, CAMERA), (antenna, GPS_ANTENNA)]
            self._static.sendTransform([to_transform_stamped(T, START_NS, BASE, child) for T, child in mounts])

    def wants_images(self) -> bool:
        """Whether anybody listens to an image."""
        return any(_has_listener(publisher) for publisher in (self._jpeg, *self._images.values()))

    def publish(self, step: Step) -> None:
        """Poses, then what arrived, then the clock: who sees the time has, or is about to get, what came before."""
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
                self._truth.publish(true_odometry_message(pose.state, pose.stamp_ns))

    def _publish_reading(self, arrived: Arrived) -> None:
        item = arrived.measurement
        if self._tf == "odometry" and isinstance(item.value, OdometryReading):
            self._transforms.sendTransform(to_transform_stamped(item.value.T_odom_body, item.stamp_ns, ODOM, BASE))
        publisher = self._sensors[item.sensor]
        if _has_listener(publisher):
            publisher.publish(_SENSORS[item.sensor][2](item.value, item.stamp_ns))

    def _publish_image(self, arrived: Arrived) -> None:
        stamp_ns = arrived.measurement.stamp_ns
        if arrived.view is not None:
            self._publish_view(arrived.view, stamp_ns)
        self._info.header = header_message(stamp_ns, CAMERA)
        for publisher in self._infos:
            if _has_listener(publisher):
                publisher.publish(self._info)

    def _publish_view(self, view: View, stamp_ns: int) -> None:
        pixels: dict[str, np.ndarray] = {topics.RGB: view.rgb, topics.DEPTH: view.depth_m, LABELS: view.labels}
        for topic, publisher in self._images.items():
            if _has_listener(publisher):
                publisher.publish(self._buffers[topic].fill(pixels[topic], stamp_ns, CAMERA))
        if _has_listener(self._jpeg):
            self._jpeg.publish(jpeg_message(view.rgb, stamp_ns, CAMERA))


def _true_transforms(pose: TruePose) -> list[Any]:
    T_odom_body = se3.inverse(pose.T_map_odom) @ pose.state.T_map_body
    return [
        to_transform_stamped(pose.T_map_odom, pose.stamp_ns, MAP, ODOM),
        to_transform_stamped(T_odom_body, pose.stamp_ns, ODOM, BASE),
    ]


def _has_listener(publisher: Publisher) -> bool:
    return bool(publisher.get_subscription_count())
