"""What the localize node publishes of a pose: PoseWithCovarianceStamped, and PX4's VehicleOdometry where there is px4_msgs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions

from pose2rgbd_ros.geometry import aviation, quaternions
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.nodes import conversions

try:
    from px4_msgs.msg import VehicleOdometry
except ImportError:  # PX4's messages are no part of ROS
    VehicleOdometry = None

QUEUE_DEPTH = 10


class PoseOutputs:
    """Publishers; belongs to the executor's thread. `of_body`: poses are those of a body, as PX4 wants them."""

    def __init__(self, node: Node, of_body: bool) -> None:
        self._node = node
        self._pose = _publisher(node, PoseWithCovarianceStamped, "~/pose", ReliabilityPolicy.RELIABLE)
        self._px4: Publisher | None = None
        if VehicleOdometry is not None and of_body:
            # Best effort, as the agent of uXRCE-DDS subscribes; a newer one is worth more than one sent again.
            self._px4 = _publisher(
                node, VehicleOdometry, "~/vehicle_visual_odometry", ReliabilityPolicy.BEST_EFFORT
            )

    def publish(
        self, T: Float64, covariance: Float64 | None, stamp_ns: int, map_frame: str, px4_frame: str
    ) -> None:
        """A pose (4, 4) in the map and its covariance (6, 6) as in localization.estimate.Estimate."""
        self._pose.publish(pose_message(T, covariance, stamp_ns, map_frame))
        if self._px4 is not None and self._px4.get_subscription_count() > 0:
            now_ns = self._node.get_clock().now().nanoseconds
            self._px4.publish(px4_message(T, covariance, stamp_ns, now_ns, px4_frame))

    def destroy(self) -> None:
        """Remove the topics."""
        for publisher in (self._pose, self._px4):
            if publisher is not None:
                self._node.destroy_publisher(publisher)
        self._px4 = None


def pose_message(
    T: Float64, covariance: Float64 | None, stamp_ns: int, frame_id: str
) -> PoseWithCovarianceStamped:
    """The message of a pose; a covariance that is not known is all zero, as consumers of this message take it."""
    message = PoseWithCovarianceStamped()
    message.header.stamp, message.header.frame_id = conversions.to_stamp(stamp_ns), frame_id
    message.pose.pose = conversions.to_pose(T)
    if covariance is not None:
        message.pose.covariance = np.ascontiguousarray(covariance, np.float64).ravel()
    return message


def px4_message(
    T_map_body: Float64, covariance: Float64 | None, stamp_ns: int, now_ns: int, frame: str
) -> Any:
    """VehicleOdometry of a body with axes forward, left, up, in microseconds of this computer's clock.

    frame "ned": map is east, north, up, and becomes north, east, down. frame "frd": map's heading is arbitrary, and its
    axes become forward, right, down. The variances are along these axes, and about the level body's: roll, pitch, yaw.
    """
    quat = quaternions.from_matrix(T_map_body[:3, :3])
    if frame == "ned":
        position, quat = aviation.ned_to_enu(T_map_body[:3, 3]), aviation.quat_ned_frd_to_enu_flu(quat)
    else:
        position, quat = aviation.frd_to_flu(T_map_body[:3, 3]), aviation.quat_frd_to_flu(quat)
    unknown = [math.nan] * 3
    message = VehicleOdometry(
        timestamp=now_ns // 1000,
        timestamp_sample=stamp_ns // 1000,
        pose_frame=VehicleOdometry.POSE_FRAME_NED if frame == "ned" else VehicleOdometry.POSE_FRAME_FRD,
        position=np.asarray(position, np.float32),
        q=np.asarray(quat[[3, 0, 1, 2]], np.float32),
        velocity_frame=VehicleOdometry.VELOCITY_FRAME_UNKNOWN,
        velocity=np.asarray(unknown, np.float32),
        angular_velocity=np.asarray(unknown, np.float32),
        position_variance=np.asarray(unknown, np.float32),
        orientation_variance=np.asarray(unknown, np.float32),
        velocity_variance=np.asarray(unknown, np.float32),
    )
    if covariance is not None:
        along = np.diag(covariance)[:3]
        yaw = math.atan2(T_map_body[1, 0], T_map_body[0, 0])
        R_level_map = np.array(
            [[math.cos(yaw), math.sin(yaw), 0.0], [-math.sin(yaw), math.cos(yaw), 0.0], [0.0, 0.0, 1.0]]
        )
        about = np.diag(R_level_map @ covariance[3:, 3:] @ R_level_map.T)
        message.position_variance = np.asarray(along[[1, 0, 2]] if frame == "ned" else along, np.float32)
        message.orientation_variance = np.asarray(about, np.float32)
    return message


def _publisher(node: Node, kind: type, topic: str, reliability: ReliabilityPolicy) -> Publisher:
    qos = QoSProfile(depth=QUEUE_DEPTH, reliability=reliability)
    options = QoSOverridingOptions.with_default_policies()
    return node.create_publisher(kind, topic, qos, qos_overriding_options=options)
