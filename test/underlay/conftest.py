"""Helpers of the underlay's tests, which run unchanged against the ROS packages it stands in for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
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
