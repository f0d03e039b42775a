"""A localize node under test: what it said, and images sent until it says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped
from pose2rgbd.msg import LocalizationStatus

from pose2rgbd_ros.nodes.common import conversions


def matrix(message: PoseWithCovarianceStamped) -> np.ndarray:
    """Of a pose, (4, 4)."""
    return conversions.matrix_of(message.pose.pose)


def seen(bench: Any, state: int, said: str = "") -> list[LocalizationStatus]:
    """Status messages of that state that say so."""
    return [m for m in list(bench.status) if m.state == state and said in m.message]


def send_until(bench: Any, send: Callable[[], Any], condition: Callable[[], Any]) -> Any:
    """Send at 20 Hz until something is so."""
    timer = bench.node.create_timer(0.05, send)
    try:
        return bench.wait(condition)
    finally:
        bench.node.destroy_timer(timer)
