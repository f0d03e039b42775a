"""The demo recording reads back as what was flown."""

from __future__ import annotations

import numpy as np
import pytest

from pose2rgbd_ros.bags.reader import open_bag
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import depth, se3
from pose2rgbd_ros.sim.demo_bag import START_NS, DemoBagConfig, body_to_camera, write_demo_bag
from pose2rgbd_ros.sim.flight import OrbitFlight


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> DemoBagConfig:
    path = tmp_path_factory.mktemp("demo") / "demo.mcap"
    config = DemoBagConfig(out=path, duration_s=2.0, image_hz=4.0, width=64, height=48, max_depth_m=30.0)
    write_demo_bag(config)
    return config


def test_topics_and_rates(config: DemoBagConfig) -> None:
    with open_bag(config.out) as bag:
        counts = {name: info.count for name, info in bag.topics.items()}
    assert counts == {
        "/tf_static": 1,
        "/odom": pytest.approx(101, abs=2),
        "/camera/image/compressed": 8,
        "/camera/depth/compressedDepth": 8,
        "/camera/camera_info": 8,
    }


def test_odometry_and_mount_give_the_flown_camera_pose(config: DemoBagConfig) -> None:
    with open_bag(config.out) as bag:
        _, _, odometry = next(iter(bag.messages(["/odom"])))
    p, q = odometry.pose.pose.position, odometry.pose.pose.orientation
    T_map_cam = se3.compose(se3.make([p.x, p.y, p.z], [q.x, q.y, q.z, q.w]), body_to_camera())
    t_s = odometry.header.stamp.sec - START_NS / 1e9 + odometry.header.stamp.nanosec / 1e9
    flown = OrbitFlight(config.seed, duration_s=config.duration_s).T_map_cam(np.array([t_s]))[0]
    np.testing.assert_allclose(T_map_cam, flown, atol=1e-9)


def test_depth_is_in_range_and_unknown_beyond(config: DemoBagConfig) -> None:
    with open_bag(config.out) as bag:
        _, _, message = next(iter(bag.messages(["/camera/depth/compressedDepth"])))
    depth_m = depth.decode_compressed_depth(message.data.tobytes(), message.format)
    assert depth_m.shape == (48, 64)
    assert np.isnan(depth_m).any()
    assert 10 < np.nanmin(depth_m) < np.nanmax(depth_m) <= 30.0


def test_an_existing_file_is_not_overwritten(config: DemoBagConfig) -> None:
    with pytest.raises(UserError, match="exists"):
        write_demo_bag(config)
