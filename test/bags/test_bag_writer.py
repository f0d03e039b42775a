"""What BagWriter writes, read back by the rosbags library itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from pose2rgbd_ros.bags.messages import MessageFactory, StampedTransform
from pose2rgbd_ros.bags.writer import BagWriter
from pose2rgbd_ros.errors import UserError

T0 = 1_700_000_000_123_456_789
POSITION, QUAT = (1.0, -2.0, 3.5), (0.5, -0.5, 0.5, 0.5)
HOMES = [
    ("bag", {}),
    ("bag", {"storage": "sqlite3"}),
    ("bag", {"compression": "message"}),
    ("bag", {"storage": "sqlite3", "compression": "file"}),
    ("bag", {"compression": "storage"}),
    ("bag.mcap", {}),
    ("bag.db3", {}),
    ("bag.bag", {"ros": "1"}),
]


def every_message(make: MessageFactory) -> dict[str, object]:
    """One message of each kind on a topic of its own."""
    rgb = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    K = np.array([[100.0, 0, 3], [0, 101, 2], [0, 0, 1]])
    return {
        "/tf_static": make.tf_message([StampedTransform(T0, "base", "cam", POSITION, QUAT)]),
        "/rgb": make.image(T0, "cam", rgb, "rgb8"),
        "/depth": make.image(T0, "cam", np.full((4, 6), 2.5, np.float32), "32FC1"),
        "/rgb/compressed": make.compressed_image(T0, "cam", b"\xff\xd8jpeg"),
        "/camera_info": make.camera_info(T0, "cam", 6, 4, K, "plumb_bob", (0.1, 0, 0, 0, 0)),
        "/odom": make.odometry(
            T0, "map", "base", POSITION, QUAT, (1, 2, 3), (4, 5, 6), np.diag(np.arange(6.0)), np.eye(6)
        ),
        "/pose": make.pose_stamped(T0, "map", POSITION, QUAT),
        "/pose_cov": make.pose_with_covariance_stamped(T0, "map", POSITION, QUAT),
        "/fix": make.nav_sat_fix(T0, "gps", 47.5, 8.5, 432.1, np.diag([1.0, 2, 3])),
        "/imu": make.imu(T0, "base", (1, 2, 3), (0, 0, 9.8), 0.1 * np.eye(3), 0.2 * np.eye(3)),
        "/ahrs": make.imu(T0, "base", (1, 2, 3), (0, 0, 9.8), np.eye(3), np.eye(3), QUAT, 0.3 * np.eye(3)),
        "/pressure": make.fluid_pressure(T0, "base", 95461.0, 2.25),
        "/clock": make.clock(T0),
    }


@pytest.mark.parametrize(("name", "options"), HOMES, ids=[f"{name}-{options}" for name, options in HOMES])
def test_every_message_comes_back(tmp_path: Path, name: str, options: dict) -> None:
    path = tmp_path / name
    with BagWriter(path, **options) as bag:
        sent = every_message(bag.make)
        for i, (topic, message) in enumerate(sent.items()):
            bag.write(topic, message, T0 + i)
    assert [item.name for item in tmp_path.iterdir()] == [name]
    with AnyReader([path]) as reader:
        got = {c.topic: (t, reader.deserialize(raw, c.msgtype)) for c, t, raw in reader.messages()}
    assert [t - T0 for t, _ in got.values()] == list(range(len(sent)))
    assert got["/rgb"][1].header.stamp.nanosec == 123_456_789
    assert got["/rgb"][1].step == 18
    assert bytes(got["/rgb"][1].data) == bytes(range(72))
    assert bytes(got["/rgb/compressed"][1].data) == b"\xff\xd8jpeg"
    assert np.all(got["/depth"][1].data.view("<f4") == 2.5)
    info = got["/camera_info"][1]
    assert (info.K if options.get("ros") == "1" else info.k)[4] == 101
    assert got["/odom"][1].pose.pose.orientation.y == -0.5
    assert got["/odom"][1].twist.twist.angular.z == 6
    assert got["/odom"][1].pose.covariance[35] == 5
    assert got["/odom"][1].twist.covariance[0] == 1
    assert got["/imu"][1].orientation_covariance.tolist() == [-1.0] + 8 * [0.0]
    assert got["/imu"][1].linear_acceleration.z == 9.8
    assert got["/imu"][1].angular_velocity_covariance[4] == 0.1
    assert got["/ahrs"][1].orientation.x == 0.5
    assert got["/ahrs"][1].orientation_covariance[8] == 0.3
    assert (got["/pressure"][1].fluid_pressure, got["/pressure"][1].variance) == (95461.0, 2.25)
    assert got["/clock"][1].clock.nanosec == 123_456_789
    assert got["/tf_static"][1].transforms[0].transform.translation.z == 3.5
    assert got["/fix"][1].position_covariance[8] == 3


def test_a_failed_recording_leaves_no_file_that_looks_whole(tmp_path: Path) -> None:
    def interrupted() -> None:
        with BagWriter(tmp_path / "flight.mcap") as bag:
            bag.write("/pose", bag.make.pose_stamped(T0, "map", POSITION, QUAT), T0)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exists already"):
        BagWriter(tmp_path)
    with pytest.raises(UserError, match="sqlite3, mcap"):
        BagWriter(tmp_path / "bag", storage="tape")
    with BagWriter(tmp_path / "bag") as bag:
        with pytest.raises(UserError, match="rgb8 cannot hold float32"):
            bag.make.image(T0, "cam", np.zeros((2, 2, 3), np.float32), "rgb8")
        bag.write("/pose", bag.make.pose_stamped(T0, "map", POSITION, QUAT), T0)
        with pytest.raises(UserError, match="/pose carries"):
            bag.write("/pose", bag.make.nav_sat_fix(T0, "gps", 0, 0, 0), T0)
