"""Times the transform buffer: three edges with 10 s of history at 200 Hz. `python bench/tf_buffer.py`.

Runs against whichever tf2_ros is installed, the underlay's or the real one.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable
from typing import Any

import tf2_ros
from geometry_msgs.msg import TransformStamped
from rclpy.time import Time

from pose2rgbd_ros.evaluation.machine import described

EDGES = (("map", "odom"), ("odom", "base"), ("base", "camera"))
START_NS = 1_700_000_000_000_000_000


def sample(parent: str, child: str, step: int) -> TransformStamped:
    """T_parent_child at `step` of 5 ms each, on a circle."""
    message = TransformStamped()
    message.header.frame_id, message.child_frame_id = parent, child
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(START_NS + step * 5_000_000, 10**9)
    message.transform.translation.x = float(step)
    message.transform.rotation.z, message.transform.rotation.w = math.sin(step / 100), math.cos(step / 100)
    return message


def times_us(function: Callable[[Any], object], arguments: Iterable[Any]) -> list[float]:
    """Sorted wall-clock times of single calls."""
    result = []
    for argument in arguments:
        start = time.perf_counter()
        function(argument)
        result.append((time.perf_counter() - start) * 1e6)
    return sorted(result)


def report(name: str, times: list[float]) -> None:
    """One line: median and 95th percentile."""
    print(f"{name:32s} p50 {times[len(times) // 2]:7.1f} us   p95 {times[len(times) * 95 // 100]:7.1f} us")


def main() -> None:
    """Fill the buffer, then look up."""
    print(f"{tf2_ros.__file__}; {described()}")
    random.seed(0)
    buffer = tf2_ros.Buffer()
    messages = [sample(parent, child, step) for step in range(2000) for parent, child in EDGES]
    report("set_transform", times_us(lambda message: buffer.set_transform(message, "bench"), messages))
    moments = [Time(nanoseconds=START_NS + random.randrange(9_990_000_000)) for _ in range(5000)]
    report("lookup_transform, any time", times_us(lambda t: buffer.lookup_transform("map", "camera", t), moments))
    latest = [Time()] * 5000
    report("lookup_transform, latest", times_us(lambda t: buffer.lookup_transform("map", "camera", t), latest))


if __name__ == "__main__":
    main()
