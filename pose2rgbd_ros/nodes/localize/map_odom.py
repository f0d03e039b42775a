"""map -> odom on /tf, from found poses and odometry (REP-105): never map -> base_link, whose parent is odom."""

from __future__ import annotations

import time
from collections import deque

import tf2_ros
from nav_msgs.msg import Odometry

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.localization.map_correction import MapCorrection
from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.nodes.common.node import ManagedNode
from pose2rgbd_ros.nodes.common.tf import TfLookup
from pose2rgbd_ros.nodes.common.topics import SILENT_S, Candidate, TopicHealth
from pose2rgbd_ros.nodes.localize.pipeline import Located
from pose2rgbd_ros.nodes.localize.settings import LocalizeSettings
from pose2rgbd_ros.poses.sources import PoseBuffer
from pose2rgbd_ros.streams.samples import PoseSample

WAITING = 64  # poses that may wait for their odometry
MAX_GAP_NS = 500_000_000  # odometry is not interpolated over a longer silence
REMEMBERED = 100  # of our own stamps


class MapToOdom:
    """Waits for the odometry of each image's time, and goes on sending the correction in between.

    All methods belong to the executor's thread. settings: as they are now, but for those fixed while active.
    """

    def __init__(self, node: ManagedNode[LocalizeSettings], poses: TfLookup, map_frame: str) -> None:
        self._node, self._poses, self._map_frame = node, poses, map_frame
        self.settings = settings = node.settings
        self._odom_frame, self._child_frame = settings.odom_frame, ""
        if self._odom_frame == map_frame:
            raise UserError(f"odom_frame and the map are both {map_frame!r}; there is nothing to send between")
        self._odometry = PoseBuffer(MAX_GAP_NS)
        self._waiting: deque[tuple[Located, float]] = deque(maxlen=WAITING)  # and since when
        self._own_ns: deque[int] = deque(maxlen=REMEMBERED)
        self.forget()
        self._broadcaster = tf2_ros.TransformBroadcaster(node)
        self._timer = node.every(1.0 / settings.tf_rate_hz, self._send)
        remedy = "remap odometry to the topic it comes on"
        self._health = TopicHealth(node, Candidate("odometry", Odometry), remedy=remedy)
        if settings.odometry == "topic":
            self._health.listen(self._take)

    def stop(self) -> None:
        """Send no more."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_publisher(self._broadcaster.pub_tf)
        self._health.stop()

    def forget(self) -> None:
        """Time jumped, or it begins anew: what was known before is of no use."""
        self._correction = MapCorrection(self.settings.correction)
        self._odometry.clear()
        self._waiting.clear()
        self._sent_ns, self._rival = 0, False
        self._problem = "no pose has been found yet"

    @property
    def problem(self) -> str:
        """Why nothing new is sent; empty: it is."""
        target, why = f"{self._map_frame} -> {self._odom_frame}", self._problem
        if self._rival:
            why = f"another node already sends {target}; end the other localization, or set send_tf to false"
        return why and f"{target} is not sent: {why}"

    @property
    def figures(self) -> dict[str, int]:
        """For /diagnostics."""
        return {"poses_set_aside": self._correction.set_aside, "corrections_jumped": self._correction.jumps}

    def add(self, located: Located) -> None:
        """A pose that was found."""
        self._waiting.append((located, time.monotonic()))
        self.retry()

    def retry(self) -> None:
        """Use the poses that there is odometry for, in order; give up those that waited too long."""
        correction = self._correction
        while self._waiting:
            found, since_s = self._waiting[0]
            try:
                T_odom_cam = self._odom_to_camera(found)
            except UserError as error:
                if time.monotonic() - since_s < self.settings.max_wait_s:
                    return
                self._problem = str(error)
                self._waiting.popleft()
                continue
            self._waiting.popleft()
            correction.settings = self.settings.correction
            estimate = found.estimate
            assert estimate.T_map_cam is not None
            believed = correction.add(estimate.T_map_cam, estimate.covariance, T_odom_cam, found.stamp_ns)
            if believed:
                self._problem = ""
            elif correction.current is None:
                self._problem = f"waiting for {self.settings.correction.agreeing} poses in a row that agree"

    def _odom_to_camera(self, found: Located) -> Float64:
        """T_odom_cam (4, 4) at the image's time. UserError says what is missing."""
        if self.settings.odometry == "tf":
            return self._poses.between(self._odom_frame, found.frame_id, found.stamp_ns)
        answer = self._odometry.pose_at(found.stamp_ns)
        if answer.T is None:
            silent = not self._health.arrived or self._health.silent_for_s > SILENT_S
            why = self._health.why_silent() if silent else (answer.reason or "").replace("_", " ")
            raise UserError(f"no odometry of the image's time on {self._health.topic}: {why}")
        return se3.compose(answer.T, self._poses.between(self._child_frame, found.frame_id, found.stamp_ns))

    def _take(self, message: Odometry) -> None:
        self._health.saw()
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
        if self._correction.current is None:
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
        return newest_ns not in self._own_ns and self._node.age_s(newest_ns) < SILENT_S
