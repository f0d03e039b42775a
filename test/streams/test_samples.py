"""Samples keep what was received."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.streams.samples import DepthSample, ImageSample, PoseSample, camera_from_info

RGB = np.random.default_rng(0).integers(0, 256, (12, 20, 3)).astype(np.uint8)
K = [500.0, 0, 318, 0, 510, 243, 0, 0, 1]


def encoded(extension: str) -> bytes:
    return cv2.imencode(extension, np.ascontiguousarray(RGB[..., ::-1]))[1].tobytes()


@pytest.mark.parametrize(("extension", "name"), [(".jpg", "jpeg"), (".png", "png")])
def test_compressed_images_stay_as_received(extension: str, name: str) -> None:
    data = encoded(extension)
    sample = ImageSample.from_compressed(7, "cam", memoryview(data))
    assert (sample.encoding, sample.width, sample.height) == (name, 20, 12)
    assert sample.compressed_bytes == data
    assert sample.rgb().shape == (12, 20, 3)
    if name == "png":
        np.testing.assert_array_equal(sample.rgb(), RGB)


def test_other_image_files_are_decoded() -> None:
    sample = ImageSample.from_compressed(7, "cam", encoded(".bmp"))
    assert sample.encoding == "rgb8"
    assert sample.compressed_bytes is None
    np.testing.assert_array_equal(sample.rgb(), RGB)


def test_a_damaged_compressed_image_is_named() -> None:
    with pytest.raises(UserError, match="cannot be decoded"):
        ImageSample.from_compressed(7, "cam", b"nothing")
    truncated = ImageSample.from_compressed(7, "cam", encoded(".png")[:60])  # the head is there, the rest is not
    with pytest.raises(UserError, match="cannot be decoded"):
        truncated.rgb()


def test_raw_images_convert_on_demand() -> None:
    sample = ImageSample(7, "cam", "bgr8", RGB[..., ::-1].tobytes(), 20, 12, 60)
    assert sample.compressed_bytes is None
    np.testing.assert_array_equal(sample.rgb(), RGB)


def test_depth_from_millimetres_keeps_its_counts() -> None:
    counts = np.array([[0, 1500], [65535, 1]], np.uint16)
    sample = DepthSample.from_image(7, "cam", counts.astype("<u2").tobytes(), "16UC1", 2, 2)
    np.testing.assert_array_equal(sample.counts, counts)
    assert sample.unit_m == 0.001
    np.testing.assert_allclose(sample.depth_m, [[np.nan, 1.5], [65.535, 0.001]], rtol=1e-6)
    assert (sample.width, sample.height) == (2, 2)
    png = bytes(12) + cv2.imencode(".png", counts)[1].tobytes()
    again = DepthSample.from_compressed(7, "cam", png, "16UC1; compressedDepth png")
    np.testing.assert_array_equal(again.counts, counts)


def test_depth_from_floats_has_no_counts() -> None:
    metres = np.array([[np.nan, 1.5, np.inf]], "<f4")
    sample = DepthSample.from_image(7, "cam", metres.tobytes(), "32FC1", 1, 3)
    assert sample.counts is None
    np.testing.assert_array_equal(sample.depth_m, [[np.nan, 1.5, np.nan]])


def test_a_pose_is_a_transform() -> None:
    T = PoseSample(7, "map", "base", np.array([1.0, 2, 3]), np.array([0.0, 0, 0, 2])).T
    np.testing.assert_array_equal(T, [[1, 0, 0, 1], [0, 1, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    ("model", "d", "expected"),
    [
        ("plumb_bob", [0.0] * 5, ("none", ())),
        ("plumb_bob", [], ("none", ())),
        ("", [0.1, 0.2], ("plumb_bob", (0.1, 0.2, 0, 0, 0))),
        ("plumb_bob", [0.1, 0.2, 0.3, 0.4], ("plumb_bob", (0.1, 0.2, 0.3, 0.4, 0))),
        ("plumb_bob", [0.1, 0, 0, 0, 0, 0, 0, 0.8], ("rational_polynomial", (0.1, 0, 0, 0, 0, 0, 0, 0.8))),
        ("rational_polynomial", [*range(1, 9), 0, 0, 0, 0], ("rational_polynomial", tuple(range(1, 9)))),
        ("equidistant", [0.0] * 4, ("equidistant", (0, 0, 0, 0))),
        ("none", [], ("none", ())),
    ],
)
def test_camera_info_distortion(model: str, d: list[float], expected: tuple[str, tuple[float, ...]]) -> None:
    camera = camera_from_info(640, 480, model, d, K)
    assert (camera.distortion_model, camera.distortion) == expected
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (500, 510, 318, 243)


def test_camera_info_region_and_binning_describe_the_image() -> None:
    full = Camera(640, 480, 500, 510, 318, 243)
    assert camera_from_info(640, 480, "plumb_bob", [], K, roi=(20, 10, 400, 300)) == full.cropped(20, 10, 400, 300)
    assert camera_from_info(640, 480, "plumb_bob", [], K, binning=(2, 2)) == full.resized(320, 240)
    assert camera_from_info(640, 480, "plumb_bob", [], K, binning=(1, 1)) == full


def test_camera_info_without_calibration_is_told_apart() -> None:
    assert not camera_from_info(640, 480, "", [], np.zeros(9)).is_calibrated


@pytest.mark.parametrize(
    ("model", "d", "k", "message"),
    [
        ("cylindrical", [], K, "unknown distortion model 'cylindrical'"),
        ("rational_polynomial", [1.0] * 12, K, "12 coefficients"),
        ("plumb_bob", [], K[:6], "K has 6 elements"),
        ("plumb_bob", [], [float("nan")] * 9, "not finite"),
    ],
)
def test_camera_info_nonsense_is_refused(model: str, d: list[float], k: list[float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        camera_from_info(640, 480, model, d, k)
