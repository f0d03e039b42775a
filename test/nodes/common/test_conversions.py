"""The message bridge: values survive the way there and back, and images are filled without a copy."""

from __future__ import annotations

import array

import numpy as np
import pytest
from geometry_msgs.msg import Pose
from sensor_msgs.msg import CameraInfo, Image

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.nodes.common import conversions

CAMERAS = [
    Camera(640, 480, 500.0, 510.0, 319.5, 239.5),
    Camera(640, 480, 500.0, 510.0, 319.5, 239.5, "plumb_bob", (0.1, -0.2, 0.001, 0.002, 0.05)),
    Camera(64, 48, 50.0, 51.0, 31.0, 23.0, "equidistant", (0.1, 0.01, 0.0, 0.0)),
    Camera(64, 48, 0.0, 0.0, 0.0, 0.0),
]


@pytest.mark.parametrize("nanoseconds", [0, 1, 999_999_999, 1_700_000_000_123_456_789])
def test_stamps_are_exact(nanoseconds):
    assert conversions.stamp_ns(conversions.to_stamp(nanoseconds)) == nanoseconds


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: f"{camera.distortion_model}-{camera.fx:g}")
def test_camera_info_and_back(camera):
    info = conversions.camera_to_info(camera)
    assert conversions.camera_from_info(info) == camera
    assert (info.k[0] == 0) == (not camera.is_calibrated)
    assert info.p[2] == info.k[2]


def test_camera_info_with_region_of_interest():
    info = conversions.camera_to_info(CAMERAS[0])
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = 100, 50, 200, 100
    camera = conversions.camera_from_info(info)
    assert (camera.width, camera.height, camera.cx, camera.cy) == (200, 100, 219.5, 189.5)


def test_camera_info_that_makes_no_sense():
    with pytest.raises(UserError, match="0 x 0"):
        conversions.camera_from_info(CameraInfo())


def test_poses_and_transforms_and_back():
    T = se3.make([1.0, -2.0, 3.0], [0.1, 0.2, -0.3, 0.9])
    np.testing.assert_allclose(conversions.matrix_of(conversions.to_pose(T)), T, atol=1e-12)
    stamped = conversions.to_transform_stamped(T, 1_500_000_000, "map", "cam")
    np.testing.assert_allclose(conversions.matrix_of(stamped.transform), T, atol=1e-12)
    assert (stamped.header.frame_id, stamped.child_frame_id, stamped.header.stamp.sec) == ("map", "cam", 1)


@pytest.mark.parametrize(
    ("w", "x", "said"), [(0.0, 0.0, "all zero"), (1.0, float("nan"), "NaN"), (float("inf"), 0.0, "NaN")]
)
def test_poses_that_are_none(w, x, said):
    pose = Pose()
    pose.orientation.w, pose.position.x = w, x
    with pytest.raises(UserError, match=said):
        conversions.matrix_of(pose)


def test_image_buffer_shares_its_memory_with_the_message():
    buffer = conversions.ImageBuffer(4, 2, "32FC1")
    buffer.pixels[1, 3] = 7.5
    assert isinstance(buffer.message.data, array.array)
    assert np.frombuffer(buffer.message.data, np.float32)[7] == 7.5
    assert (buffer.message.step, buffer.message.height, buffer.message.is_bigendian) == (16, 2, 0)
    data = buffer.message.data
    assert buffer.fill(np.ones((2, 4), np.float32), 3, "cam").data is data
    with pytest.raises(TypeError):
        buffer.fill(np.ones((2, 4), np.float64), 3, "cam")


def test_images_are_read_in_their_encoding():
    bgr = Image(height=1, width=2, encoding="bgr8", step=6, data=array.array("B", [1, 2, 3, 4, 5, 6]))
    np.testing.assert_array_equal(conversions.rgb_of(bgr), [[[3, 2, 1], [6, 5, 4]]])
    mm = Image(height=1, width=2, encoding="16UC1", step=4, data=array.array("B", [0, 0, 0xE8, 3]))
    np.testing.assert_array_equal(conversions.depth_of(mm), np.array([[np.nan, 1.0]], np.float32))
    rgb = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    np.testing.assert_array_equal(conversions.rgb_of(conversions.to_image(rgb, 0, "cam")), rgb)
    with pytest.raises(UserError, match="bgr8"):
        conversions.depth_of(bgr)
