"""Simulator and localizer together, as bringup.launch.py starts them: images and time of the one, poses of the
other.
"""

from __future__ import annotations

import numpy as np
import pytest
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry
from pose2rgbd.msg import LocalizationStatus

from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.nodes.localize.node import LocalizeNode
from pose2rgbd_ros.nodes.sim.node import SimNode

pytestmark = pytest.mark.ros


def test_every_pose_is_of_an_image_that_was_flown(bench, orbit_place):
    """The network learnt another place, so only what goes through is judged: frames, stamps, simulated time."""
    bench.status = bench.collect(LocalizationStatus, "/localize/status")
    poses = bench.collect(PoseWithCovarianceStamped, "/localize/pose")
    truth = bench.collect(Odometry, "/truth/odometry", 2000)
    topics = {"image": "camera/image", "camera_info": "camera/camera_info"}
    bench.spin(LocalizeNode, remap=topics, model=str(orbit_place.model), use_sim_time=True)
    assert bench.wait_state(LocalizationStatus.WAITING_FOR_IMAGE).message
    bench.spin(
        SimNode, width=64, height=64, fov_deg=90.0, faults=False, shadows=False, camera__rate_hz=5.0,
        city__extent_m=200.0, flight__plan="orbit", flight__altitude_m=70.0, flight__radius_m=40.0, tf="none",
    )  # fmt: skip
    bench.wait(lambda: len(poses) > 5)
    flown_ns = np.array([conversions.stamp_ns(message.header.stamp) for message in list(truth)])
    for message in poses:
        assert message.header.frame_id == "map"
        assert flown_ns.min() - 10**9 < conversions.stamp_ns(message.header.stamp) < flown_ns.max() + 10**9
    last = [m for m in list(bench.status) if m.state == LocalizationStatus.OK][-1]
    assert abs(last.latency_s) < 5.0, "in simulated time"
    assert last.header.frame_id == "camera_optical_frame"
