"""The message bridge: values survive the way there and back, and images are filled without a copy."""

from __future__ import annotations

import array
from typing import Any

import cv2
import numpy as np
import pytest
from geometry_msgs.msg import Pose
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.nodes.common import conversions
from pose2rgbd_ros.streams.samples import RAW_ENCODINGS, decode_compressed, raw_image_to_rgb

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


def image_of(row_bytes: int, encoding_: str, padding: int = 0, is_bigendian: bool = False, **fields: Any) -> Image:
    """Eight rows of random bytes and their padding, 8 pixels wide."""
    data = np.random.default_rng(0).integers(0, 256, 8 * (row_bytes + padding), np.uint8)
    message = Image(height=8, width=8, encoding=encoding_, step=row_bytes + padding, is_bigendian=is_bigendian)
    message.data = array.array("B", data.tobytes())
    for name, value in fields.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize("is_bigendian", [False, True])
@pytest.mark.parametrize("padding", [0, 1, 6])
def test_live_images_are_read_as_recorded_ones(padding, is_bigendian):
    """In every encoding, padded by what is no whole pixel too, of either byte order."""
    for encoding in RAW_ENCODINGS:
        names = {"rgba": 4, "bgra": 4, "rgb": 3, "bgr": 3, "8UC3": 3, "8UC4": 4, "yu": 2, "uy": 2, "": 1}
        channels = next(count for name, count in names.items() if encoding.startswith(name))
        message = image_of(8 * channels * (2 if "16" in encoding else 1), encoding, padding, is_bigendian)
        fields = {name: getattr(message, name) for name in ("data", "height", "width", "encoding", "step")}
        recorded = raw_image_to_rgb(**fields, is_bigendian=is_bigendian).astype(int)
        apart = 1 if "bayer" in encoding and "16" in encoding else 0  # its colours are found before it has 8 bits
        assert np.abs(conversions.rgb_of(message) - recorded).max() <= apart, encoding


def test_rows_without_a_step_and_infinite_depth():
    rgb = image_of(24, "rgb8")
    with_step = conversions.rgb_of(rgb)
    rgb.step = 0
    np.testing.assert_array_equal(conversions.rgb_of(rgb), with_step)
    depth = conversions.to_image(np.array([[1.5, np.inf, -np.inf, 0.0]], np.float32), 0, "cam")
    np.testing.assert_array_equal(conversions.measured_depth_of(depth), [[1.5, np.inf, -np.inf, 0.0]])
    np.testing.assert_array_equal(conversions.depth_of(depth), [[1.5, np.nan, np.nan, np.nan]])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"encoding": "nv12"}, "'nv12'; accepted: rgb8, bgr8"),
        ({"encoding": "32FC1"}, "'32FC1'; accepted: rgb8, bgr8"),
        ({"width": 0}, "0 x 8 pixels: both must be positive"),
        ({"step": 23}, "in rows of 23 bytes does not fit its 192 bytes"),
        ({"height": 9}, "does not fit its 192 bytes of data"),
        ({"width": 7, "encoding": "yuyv"}, "a 7 x 8 image cannot be read as yuyv: "),
    ],
)
def test_damaged_images_are_one_line(fields, said):
    with pytest.raises(UserError, match=said) as caught:
        conversions.rgb_of(image_of(24, "rgb8", **fields))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"encoding": "rgb8"}, "depth image of encoding 'rgb8'"),
        ({"step": 31}, "in rows of 31 bytes does not fit its 256 bytes"),
        ({"height": 9}, "does not fit its 256 bytes of data"),
    ],
)
def test_damaged_depth_is_one_line(fields, said):
    with pytest.raises(UserError, match=said):
        conversions.depth_of(image_of(32, "32FC1", **fields))


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 3), (6, 8, 4)])
@pytest.mark.parametrize(("extension", "dtype"), [(".png", np.uint8), (".png", np.uint16), (".jpg", np.uint8)])
def test_compressed_images_of_any_kind(shape, extension, dtype):
    deep = np.random.default_rng(0).integers(0, 256, shape).astype(dtype) * dtype(257 if dtype == np.uint16 else 1)
    data = cv2.imencode(extension, deep)[1].tobytes()
    message = CompressedImage(format="told wrongly", data=array.array("B", data))
    np.testing.assert_array_equal(conversions.rgb_of(message), decode_compressed(data))
    for damaged in (data[: len(data) // 2], b"", b"no image"):
        message.data = array.array("B", damaged)
        with pytest.raises(UserError, match=f"of {len(damaged)} bytes cannot be decoded"):
            conversions.rgb_of(message)
