"""map -> odom on /tf, from found poses and odometry (REP-105): never map -> base_link, whose parent is odom."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

import tf2_ros
from message_filters import Subscriber
from nav_msgs.msg import Odometry
from rclpy.clock import Clock
from rclpy.node import Node
from rclpy.timer import Timer

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.localization.map_correction import MapCorrection
from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.nodes.common.tf import TfLookup
from pose2rgbd_ros.nodes.common.topics import subscriber
from pose2rgbd_ros.nodes.localize.settings import LocalizeSettings
from pose2rgbd_ros.poses.sources import PoseBuffer
from pose2rgbd_ros.streams.samples import PoseSample

WAITING = 64  # poses that may wait for their odometry
MAX_GAP_NS = 500_000_000  # odometry is not interpolated over a longer silence
REMEMBERED = 100  # of our own stamps
SILENT_S = 5.0  # whoever else sent map -> odom has ended after that


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

    All methods belong to the executor's thread. settings: as they are now, but for those fixed while active.
    """

    def __init__(self, node: Node, poses: TfLookup, steady: Clock) -> None:
        self._node, self._poses, self._steady = node, poses, steady
        self.settings = LocalizeSettings()
        self._map_frame = self._odom_frame = self._child_frame = ""
        self._correction: MapCorrection | None = None
        self._broadcaster: tf2_ros.TransformBroadcaster | None = None
        self._timer: Timer | None = None
        self._subscriber: Subscriber | None = None
        self._odometry = PoseBuffer(MAX_GAP_NS)
        self._waiting: deque[FoundPose] = deque(maxlen=WAITING)
        self._sent_ns = 0
        self._own_ns: deque[int] = deque(maxlen=REMEMBERED)
        self._problem, self._rival = "", False

    def start(self, settings: LocalizeSettings, map_frame: str) -> None:
        """Listen to odometry and send, if the settings ask for it."""
        self.settings, self._map_frame, self._odom_frame = settings, map_frame, settings.odom_frame
        self.forget()
        if not settings.send_tf:
            return
        if self._odom_frame == map_frame:
            raise UserError(f"odom_frame and the map are both {map_frame!r}; there is nothing to send between")
        self._broadcaster = tf2_ros.TransformBroadcaster(self._node)
        self._timer = self._node.create_timer(1.0 / settings.tf_rate_hz, self._send, clock=self._steady)
        if settings.odometry == "topic":
            self._subscriber = subscriber(self._node, Odometry, "odometry", self._take)

    def stop(self) -> None:
        """Send no more."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
        if self._subscriber is not None:
            self._node.destroy_subscription(self._subscriber.sub)
        if self._broadcaster is not None:
            self._node.destroy_publisher(self._broadcaster.pub_tf)
        self._timer = self._subscriber = self._broadcaster = None
        self.forget()

    def forget(self) -> None:
        """Time jumped, or it begins anew: what was known before is of no use."""
        self._correction = MapCorrection(self.settings.correction)
        self._odometry.clear()
        self._waiting.clear()
        self._sent_ns, self._rival = 0, False
        self._problem = "no pose has been found yet"

    @property
    def problem(self) -> str:
        """Why nothing new is sent; empty: it is, or was not asked for."""
        if self._broadcaster is None:
            return ""
        if self._rival:
            return f"somebody else already sends {self.target}; end the other localization, or set send_tf to false"
        return self._problem

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
                if time.monotonic() - found.arrived_s < self.settings.max_wait_s:
                    return
                self._problem = str(error)
                self._waiting.popleft()
                continue
            self._waiting.popleft()
            correction.settings = self.settings.correction
            believed = correction.add(found.T_map_cam, found.covariance, T_odom_cam, found.stamp_ns)
            if believed:
                self._problem = ""
            elif correction.current is None:
                self._problem = f"waiting for {self.settings.correction.agreeing} poses in a row that agree"

    def _odom_to_camera(self, found: FoundPose) -> Float64:
        """T_odom_cam (4, 4) at the image's time. UserError says what is missing."""
        if self.settings.odometry == "tf":
            return self._poses.between(self._odom_frame, found.frame_id, found.stamp_ns)
        answer = self._odometry.pose_at(found.stamp_ns)
        if answer.T is None:
            assert self._subscriber is not None
            topic = self._subscriber.topic_name
            said = (answer.reason or "").replace("_", " ")
            if not self._node.count_publishers(topic):
                said = "nobody publishes it; remap odometry to the topic it comes on"
            raise UserError(f"no odometry of the image's time on {topic}: {said}")
        return se3.compose(answer.T, self._poses.between(self._child_frame, found.frame_id, found.stamp_ns))

    def _take(self, message: Odometry) -> None:
        try:
            position, quat = se3.split(conversions.matrix_of(message.pose.pose))
        except UserError as error:
            self._problem = f"the odometry cannot be used: {error}"
            return
        self._odom_frame = message.header.frame_id or self.settings.odom_frame
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
        stamp_ns = self._node.get_clock().now().nanoseconds + round(self.settings.tf_ahead_s * 1e9)
        if stamp_ns <= self._sent_ns:
            return  # a simulated clock that stands still
        if self._sent_ns == 0:
            self._rival = self._sent_by_others()
            if self._rival:
                return
        self._sent_ns = stamp_ns
        self._own_ns.append(stamp_ns)
        T = self._correction.current.T_map_odom
        self._broadcaster.sendTransform(
            conversions.to_transform_stamped(T, stamp_ns, self._map_frame, self._odom_frame)
        )

    def _sent_by_others(self) -> bool:
        """Whether the newest map -> odom on /tf is recent, and none of ours from before a jump of time."""
        try:
            newest_ns = self._poses.newest_ns(self._map_frame, self._odom_frame)
        except UserError:
            return False
        if newest_ns is None:
            return True  # static
        age_s = (self._node.get_clock().now().nanoseconds - newest_ns) / 1e9
        return newest_ns not in self._own_ns and age_s < SILENT_S
