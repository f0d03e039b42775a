"""How fast the body moves, from nav_msgs/Odometry, whose twist is in child_frame_id."""

from __future__ import annotations

import numpy as np
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.subscription import Subscription

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.nodes import conversions
from pose2rgbd_ros.nodes.avoid_frames import BodyFrames, Placed
from pose2rgbd_ros.nodes.avoid_inputs import subscribe


class Motion:
    """The newest velocity on the topic `odometry`; all methods belong to the executor's thread. problem: why there is none."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._subscription: Subscription | None = None
        self._newest: Odometry | None = None
        self.problem = ""

    def start(self) -> None:
        """Subscribe."""
        self._subscription = subscribe(self._node, Odometry, "odometry", self._take)

    def stop(self) -> None:
        """Unsubscribe, and forget."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self._subscription = self._newest = None

    def velocity(self, frames: BodyFrames, placed: Placed, max_age_s: float) -> Float64 | None:
        """Velocity (3,) in m/s in the level frame about the time of `placed`; None: not known, `problem` says why."""
        if self._newest is None:
            self.problem = "no odometry: time to collision and the room ahead are unknown"
            return None
        off_s = (placed.stamp_ns - conversions.stamp_ns(self._newest.header.stamp)) / 1e9
        if abs(off_s) > max_age_s:
            self.problem = f"the newest odometry is {abs(off_s):.2f} s {'older' if off_s > 0 else 'newer'} than the depth"
            return None
        linear = self._newest.twist.twist.linear
        velocity = np.array([linear.x, linear.y, linear.z])
        if not np.isfinite(velocity).all():
            self.problem = "the odometry's velocity is NaN or infinite"
            return None
        try:
            R = frames.turn_to_level(placed, self._newest.child_frame_id)
        except UserError as error:
            self.problem = f"the odometry cannot be used: {error}"
            return None
        self.problem = ""
        moved: Float64 = R @ velocity
        return moved

    def _take(self, message: Odometry) -> None:
        self._newest = message
