"""map -> odom on /tf, from found poses and odometry (REP-105): never map -> base_link, whose parent is odom."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

import tf2_ros
from nav_msgs.msg import Odometry
from rclpy.clock import Clock
from rclpy.node import Node
from rclpy.subscription import Subscription
from rclpy.timer import Timer

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.localization.map_correction import MapCorrection
from pose2rgbd_ros.nodes import conversions
from pose2rgbd_ros.nodes.avoid_inputs import subscribe
from pose2rgbd_ros.nodes.localize_settings import LocalizeSettings
from pose2rgbd_ros.nodes.poses import PoseSource
from pose2rgbd_ros.streams.pose_buffer import PoseBuffer
from pose2rgbd_ros.streams.samples import PoseSample

WAITING = 64  # poses that may wait for their odometry
MAX_GAP_NS = 500_000_000  # odometry is not interpolated over a longer silence


@dataclass(frozen=True, eq=False)
class FoundPose:
    """T_map_cam (4, 4) found in an image of `frame_id`, its covariance (6, 6) if known, and when it was handed over."""

    T_map_cam: Float64
    covariance: Float64 | None
    frame_id: str
    stamp_ns: int
    arrived_s: float


class MapToOdom:
    """Waits for the odometry of each image's time, and goes on sending the correction in between.

    All methods belong to the executor's thread. problem: why nothing new is sent; empty: it is.
    """

    def __init__(self, node: Node, poses: PoseSource, steady: Clock) -> None:
        self._node, self._poses, self._steady = node, poses, steady
        self._settings = LocalizeSettings()
        self._map_frame = self._odom_frame = self._child_frame = ""
        self._correction: MapCorrection | None = None
        self._broadcaster: tf2_ros.TransformBroadcaster | None = None
        self._timer: Timer | None = None
        self._subscription: Subscription | None = None
        self._odometry = PoseBuffer(MAX_GAP_NS)
        self._waiting: deque[FoundPose] = deque(maxlen=WAITING)
        self._sent_ns = 0
        self.problem = ""

    def start(self, settings: LocalizeSettings, map_frame: str) -> None:
        """Listen to odometry and send, if the settings ask for it."""
        self._settings, self._map_frame, self._odom_frame = settings, map_frame, settings.odom_frame
        self.forget()
        if not settings.send_tf:
            return
        self.problem = "no pose has been found yet"
        self._broadcaster = tf2_ros.TransformBroadcaster(self._node)
        self._timer = self._node.create_timer(1.0 / settings.tf_rate_hz, self._send, clock=self._steady)
        if settings.odometry == "topic":
            self._subscription = subscribe(self._node, Odometry, "odometry", self._take)

    def stop(self) -> None:
        """Send no more."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        if self._broadcaster is not None:
            self._node.destroy_publisher(self._broadcaster.pub_tf)
        self._timer = self._subscription = self._broadcaster = None
        self.forget()

    def forget(self) -> None:
        """Time jumped, or it begins anew: what was known before is of no use."""
        self._correction = MapCorrection(self._settings.correction)
        self._odometry.clear()
        self._waiting.clear()
        self._sent_ns, self.problem = 0, ""

    @property
    def target(self) -> str:
        """What is sent."""
        return f"{self._map_frame} -> {self._odom_frame}"

    @property
    def figures(self) -> dict[str, int]:
        """For /diagnostics."""
        if self._broadcaster is None or self._correction is None:
            return {}
        return {"poses_set_aside": self._correction.set_aside, "corrections_jumped": self._correction.jumps}

    def add(self, T_map_cam: Float64, covariance: Float64 | None, frame_id: str, stamp_ns: int) -> None:
        """A pose that was found."""
        if self._broadcaster is not None:
            self._waiting.append(FoundPose(T_map_cam, covariance, frame_id, stamp_ns, time.monotonic()))
            self.retry()

    def retry(self) -> None:
        """Use the poses that there is odometry for, in order; give up those that waited too long."""
        correction = self._correction
        while self._waiting and correction is not None:
            found = self._waiting[0]
            try:
                T_odom_cam = self._odom_to_camera(found)
            except UserError as error:
                if time.monotonic() - found.arrived_s < self._settings.max_wait_s:
                    return
                self.problem = str(error)
                self._waiting.popleft()
                continue
            self._waiting.popleft()
            believed = correction.add(found.T_map_cam, found.covariance, T_odom_cam, found.stamp_ns)
            if believed:
                self.problem = ""
            elif correction.current is None:
                self.problem = f"waiting for {self._settings.correction.agreeing} poses in a row that agree"

    def _odom_to_camera(self, found: FoundPose) -> Float64:
        """T_odom_cam (4, 4) at the image's time. UserError says what is missing."""
        if self._settings.odometry == "tf":
            return self._poses.between(self._odom_frame, found.frame_id, found.stamp_ns)
        answer = self._odometry.pose_at(found.stamp_ns)
        if answer.T is None:
            publishers = self._node.count_publishers("odometry")
            said = (answer.reason or "").replace("_", " ") if publishers else "nobody publishes it"
            raise UserError(f"no odometry of the image's time on the topic odometry: {said}")
        return se3.compose(answer.T, self._poses.between(self._child_frame, found.frame_id, found.stamp_ns))

    def _take(self, message: Odometry) -> None:
        try:
            position, quat = se3.split(conversions.matrix_of(message.pose.pose))
        except UserError as error:
            self.problem = f"the odometry cannot be used: {error}"
            return
        self._odom_frame = message.header.frame_id or self._settings.odom_frame
        self._child_frame = message.child_frame_id
        stamp_ns = conversions.stamp_ns(message.header.stamp)
        self._odometry.add(PoseSample(stamp_ns, self._odom_frame, self._child_frame, position, quat))
        self.retry()

    def _send(self) -> None:
        """Send the correction in force as of now, though no later than it is to be there for."""
        if self._waiting:
            self.retry()
        if self._broadcaster is None or self._correction is None or self._correction.current is None:
            return
        stamp_ns = self._node.get_clock().now().nanoseconds + round(self._settings.tf_ahead_s * 1e9)
        if stamp_ns <= self._sent_ns:
            return  # a simulated clock that stands still
        if self._sent_ns == 0 and self._sent_by_others():
            self.problem = (
                f"somebody else already sends {self._map_frame} -> {self._odom_frame}: ours is not sent; "
                "end the other localization, or set send_tf to false"
            )
            return
        self._sent_ns = stamp_ns
        T = self._correction.current.T_map_odom
        self._broadcaster.sendTransform(
            conversions.to_transform_stamped(T, stamp_ns, self._map_frame, self._odom_frame)
        )

    def _sent_by_others(self) -> bool:
        try:
            self._poses.between(self._map_frame, self._odom_frame, 0)
        except UserError:
            return False
        return True
