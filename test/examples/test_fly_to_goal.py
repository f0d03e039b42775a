"""examples/fly_to_goal.py as a process: scans, a goal and TF go in over DDS, cmd_vel comes out."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from pathlib import Path

import rclpy
from geometry_msgs.msg import PoseStamped, TransformStamped, Twist
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import LaserScan
from tf2_ros import TransformBroadcaster

BINS = 360


class Drone(Node):
    """Stands at (10, 20, 8) and sees nothing within 30 m, 40 degrees to each side; silent when told."""

    def __init__(self, context: Context) -> None:
        super().__init__("drone", context=context)
        self.ahead_m, self.commands = math.inf, list[Twist]()
        self._tf = TransformBroadcaster(self)
        self._scans = self.create_publisher(LaserScan, "/avoid/scan", qos_profile_sensor_data)
        self._goals = self.create_publisher(PoseStamped, "goal_pose", 1)
        self.create_subscription(Twist, "cmd_vel", self.commands.append, 1)
        self.create_timer(0.05, self._send)
        self.is_scanning = True

    def _send(self) -> None:
        now = self.get_clock().now().to_msg()
        T = TransformStamped()
        T.header.stamp, T.header.frame_id, T.child_frame_id = now, "map", "base_link_level"
        T.transform.translation.x, T.transform.translation.y, T.transform.translation.z = 10.0, 20.0, 8.0
        self._tf.sendTransform(T)
        if not self.is_scanning:
            return
        scan = LaserScan(angle_min=-math.pi, angle_increment=2 * math.pi / BINS, range_max=30.0)
        scan.header.stamp, scan.header.frame_id = now, "base_link_level"
        seen = [abs(i - BINS / 2) < 40 for i in range(BINS)]
        scan.ranges = [self.ahead_m if known else math.nan for known in seen]
        self._scans.publish(scan)

    def goal(self, frame: str) -> None:
        """To 30 m ahead, 2 m above."""
        message = PoseStamped()
        message.header.frame_id = frame
        message.pose.position.x, message.pose.position.y, message.pose.position.z = 40.0, 20.0, 10.0
        self._goals.publish(message)


def _until(executor: SingleThreadedExecutor, drone: Drone, wanted: object, seconds: float = 120.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        executor.spin_once(timeout_sec=0.1)
        if drone.commands and wanted(drone.commands[-1]):  # type: ignore[operator]
            return True
    return False


def test_it_flies_ahead_stops_for_a_wall_and_for_silence(repository: Path, ros_domain: int) -> None:
    context = Context()
    rclpy.init(context=context, domain_id=ros_domain)
    drone = Drone(context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(drone)
    process = subprocess.Popen([sys.executable, str(repository / "examples/fly_to_goal.py")], env=dict(os.environ))
    try:
        assert _until(executor, drone, lambda twist: twist == Twist()), "no stop without a goal"
        drone.goal("odom")
        assert not _until(executor, drone, lambda twist: twist.linear.x > 0.5, 1.5), "a goal of another frame"
        drone.goal("map")
        assert _until(executor, drone, lambda twist: twist.linear.x > 2.0 and 0 < twist.linear.z <= 1.0)
        drone.ahead_m = 2.0
        assert _until(executor, drone, lambda twist: twist.linear.x < 0.6)
        drone.ahead_m = math.inf
        assert _until(executor, drone, lambda twist: twist.linear.x > 1.5)
        drone.is_scanning = False
        assert _until(executor, drone, lambda twist: twist == Twist())
    finally:
        process.terminate()
        process.wait(60.0)
        executor.shutdown()
        drone.destroy_node()
        rclpy.shutdown(context=context)
