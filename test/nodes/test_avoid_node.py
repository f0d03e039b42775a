"""The avoid node over DDS, fed with depth images of exact geometry."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from nav_msgs.msg import Odometry
from pose2rgbd.msg import ObstacleStatus
from sensor_msgs.msg import CameraInfo, Image, LaserScan, PointCloud2, Range

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.nodes import conversions
from pose2rgbd_ros.nodes.avoid import AvoidNode

pytestmark = pytest.mark.ros

CAMERA = Camera.from_fov(64, 48, 90.0)
T_BODY_CAM = se3.compose(se3.make([0.1, 0.0, 0.0], [0, 0, 0, 1]), se3.T_BODY_OPTICAL)
OPTICAL = "camera_optical"


class Flight:
    """Publishes the depth of a wall `ahead_m` in front of the body, its camera_info, TF and odometry."""

    def __init__(self, bench: Any, ahead_m: float = 12.0, speed_mps: float = 4.0) -> None:
        self.bench, self.speed_mps = bench, speed_mps
        self.depth_m = np.full((CAMERA.height, CAMERA.width), ahead_m - 0.1, np.float32)
        node = bench.node
        self.images = node.create_publisher(Image, "depth_lower", 5)
        self.infos = node.create_publisher(CameraInfo, "camera_info", 5)
        self.odometry = node.create_publisher(Odometry, "odometry", 5)
        self.offset_ns = 0
        self.timer = node.create_timer(0.05, self.send)

    def send(self) -> None:
        stamp_ns = self.bench.node.get_clock().now().nanoseconds + self.offset_ns
        self.bench.send(se3.make([1.0, 2.0, 30.0], [0, 0, 0, 1]), stamp_ns, "map", "base_link")
        self.bench.send(T_BODY_CAM, stamp_ns, "base_link", OPTICAL)
        self.images.publish(conversions.to_image(self.depth_m, stamp_ns, OPTICAL))
        info = conversions.camera_to_info(CAMERA)
        info.header.stamp, info.header.frame_id = conversions.to_stamp(stamp_ns), OPTICAL
        self.infos.publish(info)
        odometry = Odometry(child_frame_id="base_link")
        odometry.header.stamp = info.header.stamp
        odometry.twist.twist.linear.x = self.speed_mps
        self.odometry.publish(odometry)

    def stop(self) -> None:
        self.bench.node.destroy_timer(self.timer)


@pytest.fixture
def avoid(bench: Any) -> Callable[..., tuple[Flight, AvoidNode]]:
    """A flight and an avoid node that follows it; its status messages gather in `bench.status`."""

    def start(flight: dict[str, Any] | None = None, **parameters: Any) -> tuple[Flight, AvoidNode]:
        bench.status = bench.collect(ObstacleStatus, "/avoid/status")
        flown = Flight(bench, **(flight or {}))
        return flown, bench.spin(AvoidNode, **parameters)

    return start


def test_a_wall_ahead(bench, avoid):
    scans = bench.collect(LaserScan, "/avoid/scan")
    clouds = bench.collect(PointCloud2, "/avoid/points")
    ranges = bench.collect(Range, "/avoid/range_below")
    avoid()
    status = bench.wait_state(ObstacleStatus.OK)
    assert status.nearest_m == pytest.approx(12.0, abs=0.02)
    assert status.direction.x == pytest.approx(1.0, abs=1e-3)
    assert status.clearance_ahead_m == pytest.approx(11.5, abs=0.1)
    assert status.time_to_collision_s == pytest.approx(11.5 / 4, abs=0.03)
    assert np.isnan(status.clearance_below_m), "the camera does not look down"
    assert status.sources == ObstacleStatus.PREDICTED
    bench.wait(lambda: scans and clouds and ranges)
    scan = scans[-1]
    assert scan.header.frame_id == "base_link_level"
    values = np.array(scan.ranges)
    assert values[180] == pytest.approx(12.0, abs=0.01)
    assert np.isnan(values[:130]).all()
    assert np.isnan(values[230:]).all()
    points = np.frombuffer(clouds[-1].data, np.float32).reshape(48, 64, 3)
    np.testing.assert_allclose(points[..., 2], 11.9, atol=1e-3)


def test_silence_is_told_as_unknown_within_a_tenth_of_a_second(bench, avoid):
    scans = bench.collect(LaserScan, "/avoid/scan")
    flight, _ = avoid()
    bench.wait_state(ObstacleStatus.OK)
    flight.stop()
    stopped = time.monotonic()
    bench.wait_state(ObstacleStatus.STALE)
    assert time.monotonic() - stopped < 0.5 + 0.1 + 0.1
    before = len(scans)
    bench.wait(lambda: len(scans) > before + 3)
    assert np.isnan(scans[-1].ranges).all()
