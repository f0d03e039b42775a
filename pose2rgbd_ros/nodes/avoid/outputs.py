"""What the avoid node publishes: cloud, scan, distances for autopilots and range below, each made only if somebody
listens; and what it says about itself.
"""

from __future__ import annotations

import array
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tf2_ros
from pose2rgbd.msg import ObstacleStatus
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import LaserScan, PointCloud2, PointField, Range

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float32, Float64, UInt8
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.nodes.avoid.settings import AvoidSettings
from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.nodes.common.conversions import to_stamp
from pose2rgbd_ros.nodes.common.status import NodeState, Rate
from pose2rgbd_ros.nodes.common.topics import advertise
from pose2rgbd_ros.obstacles.surroundings import (
    BINS,
    INCREMENT_DEG,
    LARGEST_M,
    Surroundings,
    mavros_ranges,
    obstacle_distances_cm,
)
from pose2rgbd_ros.obstacles.view import cloud_shape, colours_of, marks_of, organised_cloud

try:
    from px4_msgs.msg import ObstacleDistance
except ImportError:  # PX4's messages are no part of ROS
    ObstacleDistance = None

# The x axis of the frame of range_below points down, as sensor_msgs/Range wants it.
T_LEVEL_BELOW: Float64 = np.array(
    [[0.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)


class CloudBuffer:
    """An organised PointCloud2 allocated once, whose points (H, W, 3) float32 are a numpy array; colours (H, W), or
    None.
    """

    def __init__(self, rows: int, columns: int, coloured: bool) -> None:
        names = ("x", "y", "z", "rgb") if coloured else ("x", "y", "z")
        self.message, values = _cloud(rows, columns, names)
        self.points: Float32 = values[..., :3]
        self.colours: Float32 | None = values[..., 3] if coloured else None


def _cloud(rows: int, columns: int, names: Sequence[str]) -> tuple[PointCloud2, Float32]:
    """A PointCloud2 of these float32 fields, and its values (rows, columns, fields), which share its memory."""
    fields = [PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1) for i, name in enumerate(names)]
    step = 4 * len(names)
    message = PointCloud2(height=rows, width=columns, fields=fields, point_step=step, row_step=step * columns)
    message.data = array.array("B", bytes(step * columns * rows))
    return message, np.frombuffer(message.data, np.float32).reshape(rows, columns, len(names))


class ScanBuffer:
    """A LaserScan allocated once, whose ranges (bins,) float32 are a numpy array."""

    def __init__(self, bins: int, angle_min_rad: float, range_max_m: float) -> None:
        step = 2 * math.pi / bins
        self.message = LaserScan(
            angle_min=angle_min_rad, angle_max=angle_min_rad + (bins - 1) * step, angle_increment=step,
            range_min=0.0, range_max=range_max_m,
        )  # fmt: skip
        self.message.ranges = array.array("f", bytes(4 * bins))
        self.ranges: Float32 = np.frombuffer(self.message.ranges, np.float32)


class Publishers:
    """Publishers and preallocated messages; belongs to one thread at a time."""

    def __init__(self, node: Node, settings: AvoidSettings) -> None:
        self._node = node
        self._publishers: dict[str, Publisher] = {
            "points": advertise(node, PointCloud2, "~/points"),
            "scan": advertise(node, LaserScan, "~/scan"),
            "mavros_scan": advertise(node, LaserScan, "~/mavros_scan"),
            "range_below": advertise(node, Range, "~/range_below"),
        }
        if ObstacleDistance is not None:
            # Best effort, as the agent of uXRCE-DDS subscribes; a newer one is worth more than one sent again.
            self._publishers["px4"] = advertise(
                node, ObstacleDistance, "~/obstacle_distance", ReliabilityPolicy.BEST_EFFORT
            )
        self._broadcaster = tf2_ros.TransformBroadcaster(node)
        self._frames_sent_ns = 0
        self._cloud: CloudBuffer | None = None
        self.use(settings)

    def use(self, settings: AvoidSettings) -> None:
        """Go on with these settings."""
        self.settings, scan = settings, settings.scan
        self._scan = ScanBuffer(scan.bins, -math.pi, scan.range_max_m)
        self._mavros = ScanBuffer(BINS, 0.0, min(scan.range_max_m, LARGEST_M))
        below = Range(radiation_type=Range.INFRARED, min_range=0.0, max_range=scan.range_max_m)
        below.field_of_view = 2 * math.atan(settings.radius_m / scan.near_m)
        self._below = below

    @property
    def frame(self) -> str:
        """Frame of the scan."""
        return f"{self.settings.body_frame}_level" if self.settings.level else self.settings.body_frame

    def publish(self, seen: Surroundings, stamp_ns: int, R_level_body: Float64) -> None:
        """Everything but the cloud."""
        if self.wanted("scan") or self.wanted("range_below"):
            self._send_frames(stamp_ns, R_level_body)
        stamp, settings = conversions.to_stamp(stamp_ns), self.settings
        if self.wanted("scan"):
            np.copyto(self._scan.ranges, seen.ranges)
            self._send("scan", self._scan.message, stamp, self.frame)
        if self.wanted("mavros_scan"):
            np.copyto(self._mavros.ranges, mavros_ranges(seen.ranges, settings.scan.range_max_m))
            self._send("mavros_scan", self._mavros.message, stamp, self.frame)
        if self.wanted("range_below"):
            self._below.range = seen.below_m if seen.below_m < settings.scan.range_max_m else _beyond(seen.below_m)
            self._send("range_below", self._below, stamp, self._below_frame)
        if self.wanted("px4"):
            self._publishers["px4"].publish(self._px4_message(seen, stamp_ns))

    def publish_cloud(
        self, depth_m: Float32, camera: Camera, T: Float64 | None, rgb: UInt8 | None, stamp_ns: int, frame_id: str
    ) -> None:
        """The cloud of a depth image (H, W): in its optical frame, or in that to which T (4, 4) takes it; rgb (H, W,
        3).
        """
        if rgb is not None and rgb.shape[:2] != depth_m.shape:
            sizes = (f"{image.shape[1]} x {image.shape[0]}" for image in (rgb, depth_m))
            raise UserError("colour of {} pixels for depth of {}; remap rgb to the same renderer".format(*sizes))
        every = self.settings.cloud_every
        shape, coloured = (*cloud_shape(camera, every), 3), rgb is not None and every == 1
        if self._cloud is None or (self._cloud.points.shape, self._cloud.colours is not None) != (shape, coloured):
            self._cloud = CloudBuffer(shape[0], shape[1], coloured)
        points = organised_cloud(depth_m, camera, T, every, out=self._cloud.points)
        if self.settings.cloud_marks:
            known = marks_of(points)
            message, values = _cloud(1, len(known), ("x", "y", "z", "intensity"))
            np.copyto(values[0], known)
            message.is_dense = True
            self._send("points", message, conversions.to_stamp(stamp_ns), frame_id)
            return
        if self._cloud.colours is not None and rgb is not None:
            np.copyto(self._cloud.colours, colours_of(rgb))
        self._send("points", self._cloud.message, conversions.to_stamp(stamp_ns), frame_id)

    def destroy(self) -> None:
        """Remove the topics."""
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)
        self._node.destroy_publisher(self._broadcaster.pub_tf)
        self._publishers = {}

    @property
    def _below_frame(self) -> str:
        return f"{self.frame}_below"

    def wanted(self, name: str) -> bool:
        """Whether this output has subscribers."""
        publisher = self._publishers.get(name)
        return publisher is not None and publisher.get_subscription_count() > 0

    def _send(self, name: str, message: Any, stamp: Any, frame_id: str) -> None:
        message.header.stamp, message.header.frame_id = stamp, frame_id
        self._publishers[name].publish(message)

    def _send_frames(self, stamp_ns: int, R_level_body: Float64) -> None:
        """Our two frames, in the order of time and once: a step back would look as if the clock had jumped."""
        behind_s = (self._frames_sent_ns - stamp_ns) / 1e9
        if 0 <= behind_s <= self.settings.max_age_s:
            return
        self._frames_sent_ns = stamp_ns
        frames = [(T_LEVEL_BELOW, self.frame, self._below_frame)]
        if self.settings.level:
            T_body_level = np.eye(4)
            T_body_level[:3, :3] = R_level_body.T
            frames.append((T_body_level, self.settings.body_frame, self.frame))
        self._broadcaster.sendTransform(
            [conversions.to_transform_stamped(T, stamp_ns, parent, child) for T, parent, child in frames]
        )

    def _px4_message(self, seen: Surroundings, stamp_ns: int) -> Any:
        range_max_m = self.settings.scan.range_max_m
        return ObstacleDistance(
            timestamp=stamp_ns // 1000,
            frame=ObstacleDistance.MAV_FRAME_BODY_FRD,
            sensor_type=ObstacleDistance.MAV_DISTANCE_SENSOR_LASER,
            distances=obstacle_distances_cm(seen.ranges, range_max_m),
            increment=INCREMENT_DEG,
            min_distance=0,
            max_distance=int(min(range_max_m, LARGEST_M) * 100),
            angle_offset=0.0,
        )


def _beyond(below_m: float) -> float:
    return math.nan if math.isnan(below_m) else math.inf


@dataclass
class Stats:
    """Figures of the last images; written by the worker, read by the executor."""

    compute_ms: float = float("nan")
    latency_s: float = float("nan")
    published: int = 0
    known: float = float("nan")
    rate: Rate = field(default_factory=Rate)  # of images

    def served(self, known: float, compute_ms: float, latency_s: float) -> None:
        """Take down that what a depth image shows went out."""
        self.known, self.compute_ms, self.latency_s = known, compute_ms, latency_s
        self.published += 1
        self.rate.count()

    def values(self) -> dict[str, Any]:
        """The figures for /diagnostics."""
        return {
            "rate_hz": self.rate.hz,
            "compute_ms": self.compute_ms,
            "latency_s": self.latency_s,
            "known_percent": round(100 * self.known, 1),
            "images_served": self.published,
        }


def status_message(
    state: NodeState, seen: Surroundings, stamp_ns: int, body_frame: str, R_level_body: Float64, latency_s: float
) -> ObstacleStatus:
    """The status about the depth of `stamp_ns`; directions are turned from the level frame into the body's own."""
    found = ObstacleStatus(
        state=state.state, message=state.message, nearest_m=seen.nearest.distance_m,
        time_to_collision_s=seen.time_to_collision_s, clearance_below_m=seen.below_m,
        clearance_ahead_m=seen.ahead_m, speed_mps=seen.speed_mps, known=seen.known,
        sources=seen.sources, latency_s=latency_s,
    )  # fmt: skip
    direction = R_level_body.T @ np.asarray(seen.nearest.direction, np.float64)
    found.direction.x, found.direction.y, found.direction.z = direction.tolist()
    found.header.stamp, found.header.frame_id = to_stamp(stamp_ns), body_frame
    return found
