"""The real recordings: what the converter makes of them, against their sources."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.convert.bag import convert
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError


def test_kinect_bag_gives_back_its_source_frames(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "rgbd_7scenes_redkitchen" / "seq-01"
    report = convert([real_data / "rgbd_7scenes_bag_sqlite3"], tmp_path / "out")
    assert (report.frames_written, report.rejects) == (41, {})
    dataset = Dataset(tmp_path / "out")
    assert dataset.depth_kind == "metric"
    assert (dataset.camera.fx, dataset.camera.fy, dataset.camera.cx, dataset.camera.cy) == (585, 585, 320, 240)
    for i, record in enumerate(dataset.records):
        name = source / f"frame-{2 * i:06d}"
        assert (dataset.path / record.rgb).read_bytes() == name.with_suffix(".color.jpg").read_bytes()
        written = cv2.imread(str(dataset.path / record.depth), cv2.IMREAD_UNCHANGED)
        original = cv2.imread(str(name.with_suffix(".depth.png")), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(written, original)
        pose = np.loadtxt(name.with_suffix(".pose.txt"))
        pose[:3, :3] = Rotation.from_matrix(pose[:3, :3]).as_matrix()
        np.testing.assert_allclose(dataset.T_map_cam[i], pose, atol=1e-4)


def test_drone_video_bag_gives_a_colour_dataset(real_data: Path, tmp_path: Path) -> None:
    report = convert([real_data / "karma_drone_video" / "karma_bag_sqlite3"], tmp_path / "out")
    dataset = Dataset(tmp_path / "out")
    assert len(dataset) == report.frames_written == 347
    assert set(report.rejects) == {"before_first_pose", "after_last_pose"}
    assert any("assumed at its origin, looking forward" in note for note in report.notes)
    assert not dataset.has_depth
    assert not dataset.camera.is_calibrated
    assert dataset.rgb(0).shape == (480, 854, 3)
    # Once it is fast, the camera flies where it looks: its z axis is along the velocity.
    position = dataset.T_map_cam[:, :3, 3]
    velocity = position[250] - position[220]
    looking = dataset.T_map_cam[235, :3, 2]
    assert looking @ velocity / np.linalg.norm(velocity) > 0.9


@pytest.mark.parametrize(
    ("bag", "named"),
    [
        ("husky_gps_odom_imu_ros1.bag", "/fix (sensor_msgs/msg/NavSatFix, 989)"),
        ("uf_vehicle_gps_odom_ros2", "/vehicle_pose (geometry_msgs/msg/PoseStamped, 2034)"),
    ],
)
def test_bags_without_images_are_told_with_their_topics(real_data: Path, tmp_path: Path, bag: str, named: str) -> None:
    with pytest.raises(UserError, match="has no colour images") as error:
        convert([real_data / "rosbags" / bag], tmp_path / "out")
    assert named in str(error.value)
    assert not (tmp_path / "out").exists()
