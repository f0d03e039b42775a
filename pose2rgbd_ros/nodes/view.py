"""The view node: what TF, a camera and the avoid node say, into the page of `pose2rgbd view --ros`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import viser
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import Image, LaserScan

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.nodes.common import conversions, parameters
from pose2rgbd_ros.nodes.common.runner import run_nodes
from pose2rgbd_ros.nodes.common.tf import TfLookup
from pose2rgbd_ros.nodes.common.topics import SILENT_S, Candidate, TopicHealth
from pose2rgbd_ros.settings import setting
from pose2rgbd_ros.viewer.live import Live
from pose2rgbd_ros.viewer.place import Place
from pose2rgbd_ros.viewer.server import serve
from pose2rgbd_ros.viewer.settings import ViewSettings

POSE_PERIOD_S = 0.05


@dataclass(frozen=True)
class LiveSettings:
    """Parameters of the view node."""

    map_frame: str = setting("", "frame the model lives in; empty: the one it was trained in", read_only=True)
    camera_frame: str = setting("", "optical frame to follow; empty: the one of the training images", read_only=True)


class ViewNode(Node):
    """Listens to TF, `camera/image` and `avoid/scan`, and tells a page."""

    def __init__(self, live: Live, place: Place, **options: Any) -> None:
        super().__init__("view", **options)
        renderer = place.models[0].renderer
        settings = parameters.declare(self, LiveSettings())
        self._map_frame = settings.map_frame or renderer.map_frame
        self._camera_frame = settings.camera_frame or renderer.camera_frame
        self._live, self._seen_ns = live, -1
        self._tf = TfLookup(self, lambda: None, self.get_logger().warning)
        self._tf.start()
        self._image = TopicHealth(self, Candidate("camera/image", Image), remedy="remap camera/image")
        self._image.listen(self._on_image)
        self._scan = TopicHealth(
            self, Candidate("avoid/scan", LaserScan), remedy="start `pose2rgbd avoid`, or remap it"
        )
        self._scan.listen(self._on_scan)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(POSE_PERIOD_S, self._look_up, clock=steady)
        self.create_timer(1.0, self._report, clock=steady)

    def _look_up(self) -> None:
        try:
            found = self._tf.latest(self._map_frame, self._camera_frame)
        except UserError as error:
            self._live.problem = str(error)
            return
        self._live.problem = ""
        if found.stamp_ns != self._seen_ns:
            self._seen_ns = found.stamp_ns
            self._live.set_pose(found.T_map_cam)

    def _on_image(self, message: Image) -> None:
        self._image.saw(conversions.stamp_ns(message.header.stamp))
        try:
            self._live.set_image(conversions.rgb_of(message))
        except UserError as error:
            self.get_logger().warning(f"{self._image.topic}: {error}", throttle_duration_sec=5.0)

    def _on_scan(self, message: LaserScan) -> None:
        self._scan.saw(conversions.stamp_ns(message.header.stamp))
        try:
            T_map_scan = self._tf.between(self._map_frame, message.header.frame_id, 0)
        except UserError:  # said by _look_up too, where it lasts
            return
        self._live.set_scan(se3.transform_points(T_map_scan, scan_points(message)))

    def _report(self) -> None:
        """Say why what is shown of the live aircraft stands still; the log once for each reason."""
        silent = [health for health in (self._image, self._scan) if health.silent_for_s > SILENT_S]
        self._live.silent = [health.problem() for health in silent]
        if self._live.problem:
            self.get_logger().warning(self._live.problem, throttle_duration_sec=10.0)


def scan_points(message: LaserScan) -> Float64:
    """Points (N, 3) in the scan's frame; what is unknown or beyond its range is left out."""
    every = np.asarray(message.ranges, np.float64)
    hit = np.isfinite(every) & (every >= message.range_min) & (every <= message.range_max)
    angles = message.angle_min + message.angle_increment * np.flatnonzero(hit)
    ranges = every[hit]
    return np.stack([ranges * np.cos(angles), ranges * np.sin(angles), np.zeros_like(ranges)], axis=-1)


def serve_live(server: viser.ViserServer, place: Place, settings: ViewSettings, argv: Sequence[str]) -> int:
    """Serve the page beside a node until a signal; the exit status."""
    live, status = Live(), [0]

    def spin() -> None:
        status[0] = run_nodes([lambda: ViewNode(live, place)], list(argv))

    serve(server, place, settings, live, spin)
    return status[0]
