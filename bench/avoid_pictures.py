"""Pictures of what obstacle avoidance gets: cloud, scan and 72 bins of one moment, beside the true city.

    pose2rgbd up sim render avoid --ros-args -p render:model:=RUN -p render:use_sim_time:=true -p
    avoid:use_sim_time:=true ... & python bench/avoid_pictures.py docs/images/avoid.png

Listens to a simulator (default city), renderer and avoid node that run, takes the first moment with a known bearing,
and draws the real messages of it. The outline is where the simulated city is higher than the body.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
import tf2_ros
from matplotlib import pyplot
from rclpy.duration import Duration
from rclpy.time import Time
from sensor_msgs.msg import LaserScan, PointCloud2

from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.sim.city.city import City

TOPICS: dict[str, type] = {"points": PointCloud2, "scan": LaserScan, "mavros_scan": LaserScan}
HALF_M, TIMEOUT_S = 45.0, 240.0


def receive() -> tuple[dict[str, Any], Float64, Float64]:
    """The messages of one stamp, T_map_camera and T_map_level. SystemExit when none come."""
    rclpy.init()
    node = rclpy.create_node("pictures", parameter_overrides=[rclpy.Parameter("use_sim_time", value=True)])
    buffer = tf2_ros.Buffer(cache_time=Duration(seconds=30.0), node=node)
    listener = tf2_ros.TransformListener(buffer, node)
    seen: dict[int, dict[str, Any]] = {}
    for topic, kind in TOPICS.items():

        def take(message: Any, topic: str = topic) -> None:
            seen.setdefault(conversions.stamp_ns(message.header.stamp), {})[topic] = message

        node.create_subscription(kind, f"/avoid/{topic}", take, 10)
    end = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end:
        rclpy.spin_once(node, timeout_sec=0.1)
        for stamp_ns in sorted(seen):
            found = seen[stamp_ns]
            if len(found) < len(TOPICS) or not np.isfinite(found["mavros_scan"].ranges).any():
                continue
            frames = (found["points"].header.frame_id, found["scan"].header.frame_id)
            if all(buffer.can_transform("map", frame, Time(nanoseconds=stamp_ns)) for frame in frames):
                T = [
                    conversions.matrix_of(buffer.lookup_transform("map", frame, Time(nanoseconds=stamp_ns)).transform)
                    for frame in frames
                ]
                listener.unregister()
                return found, T[0], T[1]
    raise SystemExit(f"no moment with cloud, a known bearing and transforms in {TIMEOUT_S:.0f} s")


def draw(found: dict[str, Any], T_map_cam: Float64, T_map_level: Float64, path: Path) -> None:
    """Three panels."""
    figure = pyplot.figure(figsize=(15, 5))
    cloud, scan, bins = found["points"], found["scan"], found["mavros_scan"]
    values = np.frombuffer(cloud.data, np.float32).reshape(-1, cloud.point_step // 4)[:, :3]
    points = values[np.isfinite(values).all(axis=1)] @ T_map_cam[:3, :3].T + T_map_cam[:3, 3]
    points = points[np.abs(points[:, :2] - T_map_cam[:2, 3]).max(axis=1) < HALF_M]
    space = figure.add_subplot(131, projection="3d")
    space.scatter(*points.T, s=2, c=points[:, 2], cmap="viridis")
    space.scatter(*T_map_cam[:3, 3], s=60, c="red")
    space.set_aspect("equal")
    space.set_title(f"cloud: {len(points)} of {len(values)} points near by, red: camera")

    middle, height = T_map_level[:2, 3], T_map_level[2, 3]
    at = np.linspace(-HALF_M, HALF_M, 361)
    x, y = np.meshgrid(middle[0] + at, middle[1] + at)
    above = City().surface_height_m(np.stack([x.ravel(), y.ravel()], axis=-1)).reshape(x.shape) - height
    plan = figure.add_subplot(132)
    plan.contourf(x, y, above, levels=[0.0, 1e3], colors=["0.8"])
    ranges = np.array(scan.ranges)
    bearing = scan.angle_min + scan.angle_increment * np.arange(len(ranges))
    for mask, length, colour, label in (
        (np.isfinite(ranges), ranges, "tab:red", "obstacle (lower bound)"),
        (np.isposinf(ranges), np.full_like(ranges, scan.range_max), "tab:green", "clear to range_max"),
    ):
        ends = np.stack([np.cos(bearing), np.sin(bearing)], axis=-1)[mask] * length[mask, None]
        ends = ends @ T_map_level[:2, :2].T + middle
        plan.plot(*ends.T, ".", color=colour, label=label)
    plan.plot(*middle, "k^")
    plan.set(aspect="equal", xlabel="x, m", ylabel="y, m", xlim=(x.min(), x.max()), ylim=(y.min(), y.max()))
    plan.set_title("scan; grey: the city is higher than the body")
    plan.legend(loc="lower right", fontsize=8)

    polar = figure.add_subplot(133, projection="polar")
    polar.set_theta_zero_location("N")
    polar.set_theta_direction(-1)
    told = np.array(bins.ranges)
    angle = np.arange(len(told)) * bins.angle_increment
    colours = np.where(told > bins.range_max, "tab:green", "tab:red")
    known = np.isfinite(told)
    polar.bar(angle[known], told[known], width=bins.angle_increment, color=colours[known], edgecolor="w")
    polar.bar(angle[~known], np.full((~known).sum(), bins.range_max), width=bins.angle_increment, color="0.9")
    polar.set_title("72 bins from the nose, clockwise; grey: unknown", pad=14)
    figure.tight_layout()
    figure.savefig(path, dpi=80, bbox_inches="tight")


if __name__ == "__main__":
    draw(*receive(), Path(sys.argv[1] if len(sys.argv) > 1 else "avoid.png"))
