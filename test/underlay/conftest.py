"""Helpers of the underlay's tests, which run unchanged against the ROS packages it stands in for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tf2_ros
from geometry_msgs.msg import TransformStamped
from scipy.spatial.transform import Rotation


def stamped(
    parent: str,
    child: str,
    stamp_s: float = 0.0,
    position_m: tuple[float, float, float] = (0.0, 0.0, 0.0),
    quat_xyzw: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0),
) -> TransformStamped:
    """T_parent_child at a time."""
    message = TransformStamped()
    message.header.frame_id, message.child_frame_id = parent, child
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(round(stamp_s * 1e9), 1_000_000_000)
    t, q = message.transform.translation, message.transform.rotation
    t.x, t.y, t.z = map(float, position_m)
    q.x, q.y, q.z, q.w = map(float, quat_xyzw)
    return message


def as_matrix(message: TransformStamped) -> np.ndarray:
    """The 4x4 matrix of a transform message."""
    t, q = message.transform.translation, message.transform.rotation
    matrix = np.identity(4)
    matrix[:3, :3] = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()
    matrix[:3, 3] = t.x, t.y, t.z
    return matrix


@pytest.fixture
def make_transform() -> Callable[..., TransformStamped]:
    """The function `stamped`."""
    return stamped


@pytest.fixture
def matrix_of() -> Callable[[TransformStamped], np.ndarray]:
    """The function `as_matrix`."""
    return as_matrix


@pytest.fixture
def buffer() -> tf2_ros.Buffer:
    """An empty buffer without a node."""
    return tf2_ros.Buffer()


@pytest.fixture
def moving(buffer: tf2_ros.Buffer) -> tf2_ros.Buffer:
    """map -> base moves from x = 0 to 2 m and turns by 90 deg within seconds 10 to 12; base -> camera is static."""
    yaw_90 = (0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5))
    buffer.set_transform(stamped("map", "base", 10.0), "test")
    buffer.set_transform(stamped("map", "base", 12.0, (2.0, 0.0, 0.0), yaw_90), "test")
    buffer.set_transform_static(stamped("base", "camera", 0.0, (0.0, 1.0, 0.0)), "test")
    return buffer
