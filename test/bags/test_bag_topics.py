"""Which topics are chosen, and what is said about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pose2rgbd_ros.bags.reader import open_bag
from pose2rgbd_ros.bags.topics import RequestedTopics, TopicChoice, choose_topics, is_rectified
from pose2rgbd_ros.bags.writer import BagWriter
from pose2rgbd_ros.errors import UserError


def chosen(tmp_path: Path, topics: dict[str, str], **requested: str) -> TopicChoice:
    """The choice among topics given as name -> "what" or "what frame" or "what frame count"."""
    path = tmp_path / f"bag{len(list(tmp_path.iterdir()))}.mcap"
    with BagWriter(path) as bag:
        for topic, text in topics.items():
            given = text.split()
            what, frame, count = given + ["camera", "3"][len(given) - 1 :]
            for i in range(int(count)):
                bag.write(topic, _message(bag.make, what, frame, i), i)
    with open_bag(path) as reader:
        return choose_topics(reader, RequestedTopics(**requested))


def _message(make: Any, what: str, frame: str, i: int) -> Any:
    if what == "jpeg":
        return make.compressed_image(i, frame, b"...", "rgb8; jpeg compressed bgr8")
    if what == "compressedDepth":
        return make.compressed_image(i, frame, b"...", "16UC1; compressedDepth png")
    if what == "info":
        return make.camera_info(i, frame, 4, 4, np.eye(3))
    if what == "odometry":
        return make.odometry(i, "map", "base_link", (0, 0, 0), (0, 0, 0, 1))
    if what in ("pose_stamped", "pose_with_covariance_stamped"):
        return getattr(make, what)(i, "map", (0, 0, 0), (0, 0, 0, 1))
    if what == "tf":
        return make.tf_message([])
    dtype = {"16UC1": np.uint16, "mono16": np.uint16, "32FC1": np.float32}.get(what, np.uint8)
    shape = (4, 4, 3) if what in ("rgb8", "bgr8") else (4, 4)
    return make.image(i, frame, np.zeros(shape, dtype), what)


REALSENSE = {
    "/camera/color/image_raw": "rgb8 color",
    "/camera/color/camera_info": "info color",
    "/camera/infra1/image_rect_raw": "mono8 infra",
    "/camera/infra1/camera_info": "info infra",
    "/camera/depth/image_rect_raw": "16UC1 depth",
    "/camera/depth/camera_info": "info depth",
    "/camera/aligned_depth_to_color/image_raw": "16UC1 color",
    "/camera/aligned_depth_to_color/camera_info": "info color",
    "/odom": "odometry",
}


def test_a_realsense_gives_its_colour_camera_and_the_depth_aligned_to_it(tmp_path: Path) -> None:
    choice = chosen(tmp_path, REALSENSE)
    assert choice.image == "/camera/color/image_raw"
    assert choice.camera_info == "/camera/color/camera_info"
    assert choice.depth == "/camera/aligned_depth_to_color/image_raw"
    assert choice.image_frame == "color"
    told = " ".join([*choice.notes, *choice.pose_notes])
    assert "--image-topic picks another of: /camera/infra1/image_rect_raw" in told
    assert "--depth-topic picks another of: /camera/depth/image_rect_raw" in told


def test_depth_in_a_frame_of_its_own_is_told(tmp_path: Path) -> None:
    topics = {name: kind for name, kind in REALSENSE.items() if "aligned" not in name}
    choice = chosen(tmp_path, topics)
    assert choice.depth == "/camera/depth/image_rect_raw"
    assert any("is in frame 'depth', the image in 'color'" in text for text in choice.warnings)


def test_named_topics_win(tmp_path: Path) -> None:
    choice = chosen(
        tmp_path,
        {**REALSENSE, "/vio": "pose_stamped"},
        image="/camera/infra1/image_rect_raw",
        depth="none",
        pose="/vio",
    )
    assert (choice.image, choice.depth, choice.pose) == ("/camera/infra1/image_rect_raw", None, "/vio")
    assert choice.camera_info == "/camera/infra1/camera_info"


def test_one_camera_raw_and_compressed_is_taken_raw_unless_that_has_less(tmp_path: Path) -> None:
    topics = {"/cam/image": "rgb8", "/cam/image/compressed": "jpeg", "/odom": "odometry"}
    assert chosen(tmp_path, topics).image == "/cam/image"
    topics["/cam/image"] = "rgb8 camera 1"
    assert chosen(tmp_path, topics).image == "/cam/image/compressed"


@pytest.mark.parametrize("depth", ["16UC1", "32FC1", "compressedDepth", "mono16"])
def test_depth_is_known_by_encoding_or_name(tmp_path: Path, depth: str) -> None:
    topics = {"/cam/image": "bgr8", "/cam/depth": depth, "/odom": "odometry"}
    assert chosen(tmp_path, topics).depth == "/cam/depth"


def test_calibration_of_the_same_frame_when_none_lies_beside_the_image(tmp_path: Path) -> None:
    topics = {"/stream": "jpeg left", "/calib/right": "info right", "/calib/left": "info left", "/o": "odometry"}
    assert chosen(tmp_path, topics).camera_info == "/calib/left"
    topics["/stream"] = "jpeg elsewhere"
    choice = chosen(tmp_path, topics)
    assert choice.camera_info is None
    assert any("--camera-info-topic picks one" in note for note in choice.notes)


@pytest.mark.parametrize(
    ("topics", "pose"),
    [
        ({"/pose": "pose_stamped", "/odom": "odometry"}, "/odom"),
        ({"/wheel/odom": "odometry", "/vio/odom": "odometry"}, "/vio/odom"),
        ({"/goal_pose": "pose_stamped", "/p": "pose_with_covariance_stamped"}, "/p"),
        ({"/initialpose": "pose_with_covariance_stamped x 1", "/tf": "tf"}, None),
        ({"/tf": "tf", "/tf_static": "tf"}, None),
        ({"/tf": "tf", "/odom": "odometry"}, "/odom"),
    ],
)
def test_poses(tmp_path: Path, topics: dict[str, str], pose: str | None) -> None:
    choice = chosen(tmp_path, {"/image": "rgb8", **topics})
    assert choice.pose == pose
    assert choice.tf == [name for name in topics if name == "/tf"]
    assert choice.tf_static == [name for name in topics if name == "/tf_static"]


def test_tf_can_be_asked_for(tmp_path: Path) -> None:
    topics = {"/image": "rgb8", "/tf": "tf", "/odom": "odometry"}
    assert chosen(tmp_path, topics, pose="/tf").pose is None
    assert any("--pose-topic /tf takes them from TF" in note for note in chosen(tmp_path, topics).pose_notes)


def test_static_tf_alone_is_no_pose(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no poses"):
        chosen(tmp_path, {"/image": "rgb8", "/tf_static": "tf"})


def test_rectified_images_are_known_by_name() -> None:
    assert is_rectified("/camera/image_rect_color/compressed")
    assert is_rectified("/camera/image_rect")
    assert not is_rectified("/camera/image_raw")
