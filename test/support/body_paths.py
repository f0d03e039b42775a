"""Paths of a body with a camera below it, as messages."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Path

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.nodes.common import conversions

LOOKS_DOWN = se3.look_at(np.zeros(3), np.array([0.0, 0.0, -1.0]))  # T_body_cam


def path_of(positions, stamps_ns=None, frame="map"):
    """A path of these positions (N, 3), stamped 5 s, without orientations."""
    message = Path()
    message.header.frame_id, message.header.stamp.sec = frame, 5
    for index, position in enumerate(np.asarray(positions, float)):
        pose = PoseStamped()
        pose.pose.position.x, pose.pose.position.y, pose.pose.position.z = position.tolist()
        if stamps_ns is not None:
            pose.header.stamp = conversions.to_stamp(stamps_ns[index])
        message.poses.append(pose)
    return message


def straight(count=5, height=10.0, **facts):
    """Over the house of the small relief, 10 m up."""
    x = np.linspace(-2.0, 2.0, count)
    return path_of(np.stack([x, np.zeros(count), np.full(count, height)], axis=-1), **facts)
