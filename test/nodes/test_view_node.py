"""The view node over DDS: TF, image and scan reach the page, and what does not arrive is named."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import support.small_relief as small_relief
from sensor_msgs.msg import Image, LaserScan
from support.viewer_client import ViewerClient

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.nodes.view import ViewNode, scan_points
from pose2rgbd_ros.viewer.live import Live
from pose2rgbd_ros.viewer.place import Place
from pose2rgbd_ros.viewer.server import Viewer
from pose2rgbd_ros.viewer.settings import ViewSettings

pytestmark = pytest.mark.ros
SETTINGS = ViewSettings(size=64, moving_size=48, rest_ms=50, niceness=0, browser="none")
EYE = np.array([1.0, 0.5, 9.0])
T_MAP_CAM = se3.look_at(EYE, EYE - [0.0, 0.0, 1.0])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place([small_relief.write_small_relief(tmp_path / "house")], None, SETTINGS)


@pytest.fixture
def live() -> Iterator[Live]:
    made = Live()
    yield made
    made.close()


def scan(ranges: list[float]) -> LaserScan:
    message = LaserScan(angle_min=-math.pi, angle_increment=math.pi / 2, range_min=0.1, range_max=30.0)
    message.header.frame_id, message.ranges = "body", ranges
    return message


def test_a_scan_is_points_without_what_is_unknown() -> None:
    points = scan_points(scan([math.nan, 5.0, math.inf, 40.0]))
    np.testing.assert_allclose(points, [[0.0, -5.0, 0.0]], atol=1e-6)


def test_the_page_follows_and_shows_image_and_scan(bench: Any, place: Place, live: Live) -> None:
    viewer = Viewer(place, SETTINGS, live)
    try:
        bench.spin(functools.partial(ViewNode, live, place))
        bench.stream(T_MAP_CAM)
        bench.node.create_timer(0.1, lambda: bench.send(se3.make(EYE, [0, 0, 0, 1]), child="body"))
        images = bench.node.create_publisher(Image, "camera/image", 5)
        scans = bench.node.create_publisher(LaserScan, "avoid/scan", 5)
        rgb = np.full((24, 32, 3), (10, 200, 90), np.uint8)
        bench.node.create_timer(0.1, lambda: images.publish(conversions.to_image(rgb, 1, "camera_optical")))
        bench.node.create_timer(0.1, lambda: scans.publish(scan([2.0, math.nan, 3.0, 4.0])))
        bench.wait(lambda: live.T_map_cam is not None and live.rgb is not None and live.scan_m is not None)
        np.testing.assert_allclose(live.T_map_cam, T_MAP_CAM, atol=1e-6)
        np.testing.assert_array_equal(live.rgb, rgb)
        np.testing.assert_allclose(live.scan_m, EYE + np.array([[-2, 0, 0], [3, 0, 0], [0, 4, 0]]), atol=1e-5)

        with ViewerClient(viewer.server.get_port()) as browser:
            browser.look(*place.scene_pose(place.start_T_map_cam))
            there, _ = place.scene_pose(T_MAP_CAM)
            found = browser.wait(
                lambda message: message["type"] == "SetCameraPositionMessage" and not message["initial"], "following"
            )
            np.testing.assert_allclose(found["position"], there, atol=1e-5)
            browser.wait(lambda message: message.get("name") == "/live/scan", "the scan in the scene")
            browser.hear("TF, image and scan arrive")
    finally:
        viewer.close()


def test_what_does_not_arrive_is_named(bench: Any, place: Place, live: Live) -> None:
    bench.spin(functools.partial(ViewNode, live, place))
    bench.wait(lambda: "/tf is silent" in live.problem)
    bench.wait(lambda: len(live.silent) == 2, what="both topics")
    assert "camera/image: nobody publishes it; remap camera/image" in live.silent[0]
    assert "avoid/scan: nobody publishes it; start `pose2rgbd avoid`" in live.silent[1]
    bench.stream(T_MAP_CAM)
    bench.wait(lambda: live.T_map_cam is not None and not live.problem)
