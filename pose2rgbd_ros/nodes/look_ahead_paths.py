"""Paths and twists of messages, judged: frames, stamps and numbers that contradict each other are refused."""

from __future__ import annotations

import numpy as np
from nav_msgs.msg import Odometry, Path

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.nodes import conversions
from pose2rgbd_ros.obstacles.paths import Waypoints


def waypoints_of(path: Path) -> Waypoints:
    """The poses of a path, in its own frame; times after the path's stamp, where each pose has its own.

    Raises:
        UserError: empty, not finite, poses of other frames than the path's, stamps that go back or that some lack.
    """
    frame = path.header.frame_id
    for index, stamped in enumerate(path.poses):
        other = stamped.header.frame_id
        if other and other != frame:
            raise UserError(
                f"pose {index} of the path is in frame {other!r}, the path in {frame!r}; send one frame"
            )
    numbers = np.array(
        [
            (p.position.x, p.position.y, p.position.z, q.x, q.y, q.z, q.w)
            for p, q in ((stamped.pose, stamped.pose.orientation) for stamped in path.poses)
        ],
        dtype=np.float64,
    ).reshape(-1, 7)
    return Waypoints(numbers[:, :3], numbers[:, 3:], _times_s(path))


def twist_of(message: Odometry) -> Float64:
    """Velocity and turning (6,) of an odometry, in the frame of its child."""
    linear, angular = message.twist.twist.linear, message.twist.twist.angular
    return np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])


def seen_from(twist: Float64, T_child_body: Float64) -> Float64:
    """The twist (6,) of a frame fixed to the one whose twist is given."""
    R, p = T_child_body[:3, :3], T_child_body[:3, 3]
    velocity, turning = twist[:3], twist[3:]
    return np.concatenate([R.T @ (velocity + np.cross(turning, p)), R.T @ turning])


def _times_s(path: Path) -> Float64:
    """Seconds after the path's stamp (N,); NaN when the poses have none of their own."""
    stamps_ns = np.array(
        [conversions.stamp_ns(stamped.header.stamp) for stamped in path.poses], dtype=np.int64
    )
    unknown = np.full(len(stamps_ns), np.nan)
    if len(stamps_ns) == 0 or not np.ptp(stamps_ns):
        return unknown  # none, or the same everywhere, as planners leave them
    if (stamps_ns == 0).any():
        missing = int((stamps_ns == 0).argmax())
        raise UserError(f"pose {missing} of the path has no stamp and others have one; stamp all or none")
    back = np.diff(stamps_ns) < 0
    if back.any():
        index = int(back.argmax()) + 1
        raise UserError(
            f"the stamps of the path contradict its order: pose {index} is {-np.diff(stamps_ns)[index - 1] / 1e9:.3f} s "
            "before the one ahead of it"
        )
    begin_ns = conversions.stamp_ns(path.header.stamp) or int(stamps_ns[0])
    seconds: Float64 = (stamps_ns - begin_ns) / 1e9
    return seconds
