"""Flies the simulated drone to a goal on the avoid node's scan, with the planner beside this file. An example, not a
product.

    ros2 launch pose2rgbd bringup.launch.py model:=RUN/checkpoint avoid:=true     # without ros2: pose2rgbd up sim
    render avoid python examples/fly_to_goal.py --ros-args -p use_sim_time:=true ros2 topic pub --once /goal_pose
    geometry_msgs/PoseStamped '{header: {frame_id: map}, pose: {position: {x: 40, y: 5, z: 10}}}'

It takes the place of each scan from TF (the scan's frame in `map_frame`), sends cmd_vel ten times a second, and
stands still without a goal, a scan of the last `stale_s` seconds, or TF. The height is the goal's; the scan guards
the horizontal way alone.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped, Twist
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.time import Time
from sensor_msgs.msg import LaserScan
from tf2_ros import Buffer, TransformException, TransformListener

sys.path.insert(0, str(Path(__file__).resolve().parent))
from reactive_planner import ReactivePlanner

CLIMB_MPS = 1.0


class FlyToGoal(Node):
    """Topics: scan (remapped to /avoid/scan by default), goal_pose; publishes cmd_vel."""

    def __init__(self) -> None:
        super().__init__("fly_to_goal")
        self._map = self.declare_parameter("map_frame", "map").value
        self._stale_s = self.declare_parameter("stale_s", 0.5).value
        self._tf = Buffer(node=self)
        self._listener = TransformListener(self._tf, self)
        self._planner: ReactivePlanner | None = None
        self._goal_m: np.ndarray | None = None
        self._scan: LaserScan | None = None
        self.create_subscription(LaserScan, "/avoid/scan", self._on_scan, qos_profile_sensor_data)
        self.create_subscription(PoseStamped, "goal_pose", self._on_goal, 1)
        self._commands = self.create_publisher(Twist, "cmd_vel", 1)
        self.create_timer(0.1, self._command)

    def _on_goal(self, message: PoseStamped) -> None:
        at = message.pose.position
        if message.header.frame_id != self._map or not all(map(math.isfinite, (at.x, at.y, at.z))):
            self.get_logger().error(f"a goal must be finite and in {self._map}, not in {message.header.frame_id!r}")
            return
        self._goal_m, self._planner = np.array([at.x, at.y, at.z]), None  # the next scan begins a new flight

    def _on_scan(self, message: LaserScan) -> None:
        stamp = Time.from_msg(message.header.stamp)
        try:
            position, yaw = self._look_up(message.header.frame_id, stamp)
        except TransformException as error:
            self.get_logger().warning(f"no place for a scan: {error}", throttle_duration_sec=5.0)
            return
        self._scan = message
        if self._goal_m is None:
            return
        if self._planner is None:
            self._planner = ReactivePlanner(position[:2], self._goal_m[:2])
        self._planner.scan_range_m = message.range_max
        bearings = message.angle_min + np.arange(len(message.ranges)) * message.angle_increment
        self._planner.see(position[:2], yaw, bearings, np.asarray(message.ranges, np.float32))

    def _look_up(self, frame: str, at: Time) -> tuple[np.ndarray, float]:
        """Position (3,) and yaw of a frame in the map."""
        found = self._tf.lookup_transform(self._map, frame, at).transform
        q, p = found.rotation, found.translation
        yaw = math.atan2(2 * (q.w * q.z + q.x * q.y), 1 - 2 * (q.y * q.y + q.z * q.z))
        return np.array([p.x, p.y, p.z]), yaw

    def _command(self) -> None:
        """Ten times a second; without all it needs it sends a stop."""
        twist, now = Twist(), self.get_clock().now()
        planner, scan = self._planner, self._scan
        if planner is not None and scan is not None and self._goal_m is not None:
            age_s = (now - Time.from_msg(scan.header.stamp)).nanoseconds / 1e9
            try:
                position, yaw = self._look_up(scan.header.frame_id, Time())
            except TransformException:
                age_s = math.inf
            if age_s < self._stale_s:
                command = planner.command(now.nanoseconds / 1e9, position[:2], yaw, np.zeros(2))
                c, s = math.cos(yaw), math.sin(yaw)
                x, y = command.velocity_mps
                twist.linear.x, twist.linear.y = c * x + s * y, c * y - s * x
                twist.linear.z = float(np.clip(0.8 * (self._goal_m[2] - position[2]), -CLIMB_MPS, CLIMB_MPS))
                twist.angular.z = command.yaw_rate_radps
        self._commands.publish(twist)


def main() -> None:
    rclpy.init()
    node = FlyToGoal()
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
