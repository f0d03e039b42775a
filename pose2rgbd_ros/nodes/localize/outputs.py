"""What the localize node publishes of a pose: PoseWithCovarianceStamped, and PX4's VehicleOdometry where there is
px4_msgs.
"""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped
from pose2rgbd.msg import LocalizationStatus
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from tf_transformations import euler_from_matrix, euler_matrix

from pose2rgbd_ros.geometry import geodesy, quaternions
from pose2rgbd_ros.geometry.arrays import Float64, UInt8
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.localization.estimate import Estimate
from pose2rgbd_ros.nodes.common import conversions, status
from pose2rgbd_ros.nodes.common.conversions import to_stamp

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
            self._px4 = _publisher(node, VehicleOdometry, "~/vehicle_visual_odometry", ReliabilityPolicy.BEST_EFFORT)

    def publish(self, T: Float64, covariance: Float64 | None, stamp_ns: int, map_frame: str, px4_frame: str) -> None:
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


def pose_message(T: Float64, covariance: Float64 | None, stamp_ns: int, frame_id: str) -> PoseWithCovarianceStamped:
    """The message of a pose; a covariance that is not known is all zero, as consumers of this message take it."""
    message = PoseWithCovarianceStamped()
    message.header.stamp, message.header.frame_id = conversions.to_stamp(stamp_ns), frame_id
    message.pose.pose = conversions.to_pose(T)
    if covariance is not None:
        message.pose.covariance = np.ascontiguousarray(covariance, np.float64).ravel()
    return message


def px4_message(T_map_body: Float64, covariance: Float64 | None, stamp_ns: int, now_ns: int, frame: str) -> Any:
    """VehicleOdometry of a body with axes forward, left, up, in microseconds of this computer's clock.

    frame "ned": map is east, north, up, and becomes north, east, down. frame "frd": map's heading is arbitrary, and its
    axes become forward, right, down. The variances are along these axes, and about the level body's: roll, pitch, yaw.
    """
    quat = quaternions.from_matrix(T_map_body[:3, :3])
    if frame == "ned":
        position, quat = geodesy.ned_to_enu(T_map_body[:3, 3]), geodesy.quat_ned_frd_to_enu_flu(quat)
    else:
        position, quat = geodesy.frd_to_flu(T_map_body[:3, 3]), geodesy.quat_frd_to_flu(quat)
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
        _, _, yaw_rad = euler_from_matrix(T_map_body)
        R_level_map = euler_matrix(0.0, 0.0, -yaw_rad)[:3, :3]
        about = np.diag(R_level_map @ covariance[3:, 3:] @ R_level_map.T)
        message.position_variance = np.asarray(along[[1, 0, 2]] if frame == "ned" else along, np.float32)
        message.orientation_variance = np.asarray(about, np.float32)
    return message


def _publisher(node: Node, kind: type, topic: str, reliability: ReliabilityPolicy) -> Publisher:
    qos = QoSProfile(depth=QUEUE_DEPTH, reliability=reliability)
    options = QoSOverridingOptions.with_default_policies()
    return node.create_publisher(kind, topic, qos, qos_overriding_options=options)


# What the localize node says about itself: the state and figures of LocalizationStatus, and the values for
# /diagnostics.


RATE_WINDOW_S = 3.0
LEVELS = {LocalizationStatus.OK: status.OK, LocalizationStatus.ERROR: status.ERROR}


@dataclass(frozen=True)
class NodeState:
    """A state of LocalizationStatus and the line that explains it."""

    state: int
    message: str = ""

    @property
    def level(self) -> bytes:
        """The level of DiagnosticStatus; a pose that comes with a remark is a warning."""
        if self.state == LocalizationStatus.OK and self.message:
            return status.WARN
        return LEVELS.get(self.state, status.WARN)


@dataclass(frozen=True, eq=False)
class Located:
    """What was found for the image `rgb` of `stamp_ns`, taken by `camera` in `frame_id`, and in what time."""

    estimate: Estimate
    stamp_ns: int
    frame_id: str
    regress_ms: float = math.nan
    refine_ms: float = 0.0
    rgb: UInt8 | None = None
    camera: Camera | None = None


class Stats:
    """Figures of the last images; all methods belong to the executor's thread."""

    def __init__(self, model: str = "") -> None:
        self.model = model
        self.located = self.rejected = self.skipped = self.jumps = 0
        self.without_transform = 0  # poses given up, for it was not known where the body is
        self.last: Located | None = None
        self.latency_s = math.nan
        self._at: deque[float] = deque()
        self._told_at = -math.inf

    def told(self, located: Located, latency_s: float, published: bool) -> None:
        """Take down what was found for an image, how long after its stamp, and whether its pose was published."""
        self.located += published
        self.rejected += not located.estimate.accepted
        self.last, self.latency_s, self._told_at = located, latency_s, time.monotonic()
        if published:
            self._at.append(self._told_at)

    @property
    def silent_for_s(self) -> float:
        """Seconds since an image was looked at."""
        return time.monotonic() - self._told_at

    def message(self, situation: NodeState, stamp_ns: int = 0, frame_id: str = "") -> LocalizationStatus:
        """The status, with the figures of the last image looked at."""
        last = self.last
        found = last.estimate if last is not None else Estimate(None)
        message = LocalizationStatus(
            state=situation.state, message=situation.message, model=self.model,
            score=found.score, limit=found.limit, verification=found.verification, refined=found.refined,
            position_sigma_m=found.position_sigma_m, rotation_sigma_deg=float(np.degrees(found.rotation_sigma_rad)),
            latency_s=self.latency_s, rate_hz=self._rate_hz(),
            regress_ms=last.regress_ms if last else math.nan, refine_ms=last.refine_ms if last else math.nan,
            images_located=self.located, images_rejected=self.rejected, images_skipped=self.skipped,
        )  # fmt: skip
        message.header.stamp, message.header.frame_id = to_stamp(stamp_ns), frame_id
        return message

    def values(self, message: LocalizationStatus, **more: Any) -> dict[str, Any]:
        """The figures for /diagnostics."""
        names = ("model", "rate_hz", "latency_s", "regress_ms", "refine_ms", "score", "limit", "verification",
                 "position_sigma_m", "rotation_sigma_deg", "images_located", "images_rejected",
                 "images_skipped")  # fmt: skip
        own = {"poses_without_transform": self.without_transform, "time_jumps": self.jumps}
        return {**{name: getattr(message, name) for name in names}, **own, **more}

    def _rate_hz(self) -> float:
        while self._at and self._at[0] < time.monotonic() - RATE_WINDOW_S:
            self._at.popleft()
        return (len(self._at) - 1) / (self._at[-1] - self._at[0]) if len(self._at) > 1 else 0.0
