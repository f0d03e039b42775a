"""cv_bridge: images to messages and back, every encoding, and the conversions between them."""

from __future__ import annotations

import array

import cv2
import numpy as np
import pytest
from cv_bridge import CvBridge, CvBridgeError
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

DTYPES = {
    "8U": np.uint8,
    "8S": np.int8,
    "16U": np.uint16,
    "16S": np.int16,
    "32S": np.int32,
    "32F": np.float32,
    "64F": np.float64,
}


@pytest.fixture
def bridge() -> CvBridge:
    return CvBridge()


@pytest.fixture
def color() -> np.ndarray:
    """Random BGR, 8 bit, odd size."""
    return np.random.default_rng(1).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def message(image: np.ndarray, encoding: str) -> Image:
    """A message filled by hand, without the bridge."""
    result = Image(height=image.shape[0], width=image.shape[1], encoding=encoding)
    result.step = image.strides[0]
    result.data = array.array("B", image.tobytes())
    return result


# Without conversion


@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("depth", DTYPES)
def test_every_opencv_type_survives_the_round_trip(bridge, depth, channels):
    shape = (4, 6) if channels is None else (4, 6, channels)
    image = (np.random.default_rng(2).random(shape) * 100).astype(DTYPES[depth])
    msg = bridge.cv2_to_imgmsg(image)
    assert msg.encoding == f"{depth}C{channels or 1}"
    assert (msg.height, msg.width, msg.step) == (4, 6, 6 * image.itemsize * (channels or 1))
    assert not msg.is_bigendian
    back = bridge.imgmsg_to_cv2(msg)
    assert back.dtype == image.dtype
    assert back.shape == ((4, 6) if channels == 1 else shape)
    assert np.array_equal(back, image.reshape(back.shape))


def test_depth_images_keep_nan_and_infinity(bridge):
    depth_m = np.array([[1.5, np.nan], [np.inf, -np.inf]], dtype=np.float32)
    msg = bridge.cv2_to_imgmsg(depth_m, encoding="32FC1")
    assert bytes(msg.data) == depth_m.tobytes()
    assert np.array_equal(bridge.imgmsg_to_cv2(msg, "32FC1"), depth_m, equal_nan=True)


def test_parts_of_images_are_sent_row_by_row(bridge, color):
    part = color[1:4, 2:5]
    msg = bridge.cv2_to_imgmsg(part, "bgr8")
    assert (msg.height, msg.width, msg.step) == (3, 3, 9)
    assert np.array_equal(bridge.imgmsg_to_cv2(msg), part)


def test_the_header_is_taken_over(bridge, color):
    header = Header(frame_id="camera_optical_frame")
    header.stamp.sec = 12
    msg = bridge.cv2_to_imgmsg(color, "bgr8", header=header)
    assert msg.header == header
    assert bridge.cv2_to_imgmsg(color).header == Header()


@pytest.mark.parametrize(("encoding", "shape"), [("rgb8", (3, 4, 3)), ("16UC1", (3, 4)), ("32FC1", (3, 4))])
def test_row_padding_is_removed(bridge, encoding, shape):
    dtype, channels = bridge.encoding_to_dtype_with_channels(encoding)
    image = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    padded = np.pad(image, [(0, 0), (0, 2), (0, 0)][: image.ndim], constant_values=99)
    msg = message(padded, encoding)
    msg.width = shape[1]
    assert msg.step == (shape[1] + 2) * channels * np.dtype(dtype).itemsize
    assert np.array_equal(bridge.imgmsg_to_cv2(msg), image)


@pytest.mark.parametrize(("encoding", "dtype"), [("16UC1", ">u2"), ("32FC1", ">f4"), ("rgb16", ">u2")])
def test_big_endian_images_become_native(bridge, encoding, dtype):
    """The vision_opencv of early Jazzy needs NumPy 1 for this one."""
    shape = (2, 3, 3) if encoding.startswith("rgb") else (2, 3)
    image = np.arange(1, np.prod(shape) + 1).reshape(shape).astype(dtype)
    msg = message(image, encoding)
    msg.is_bigendian = True
    found = bridge.imgmsg_to_cv2(msg)
    assert found.dtype.isnative
    assert np.array_equal(found, image)


def test_big_endian_arrays_are_marked(bridge):
    image = np.arange(6).reshape(2, 3).astype(">u2")
    msg = bridge.cv2_to_imgmsg(image, "mono16")
    assert msg.is_bigendian
    assert bytes(msg.data) == image.tobytes()


def test_too_few_bytes(bridge):
    msg = message(np.zeros((4, 4), np.uint8), "mono8")
    msg.height = 5
    with pytest.raises(TypeError):
        bridge.imgmsg_to_cv2(msg)


# Encodings


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("mono8", ("uint8", 1)),
        ("mono16", ("uint16", 1)),
        ("rgb8", ("uint8", 3)),
        ("bgr8", ("uint8", 3)),
        ("rgba8", ("uint8", 4)),
        ("bgra8", ("uint8", 4)),
        ("rgb16", ("uint16", 3)),
        ("bgra16", ("uint16", 4)),
        ("bayer_rggb8", ("uint8", 1)),
        ("bayer_grbg16", ("uint16", 1)),
        ("yuv422", ("uint8", 2)),
        ("yuv422_yuy2", ("uint8", 2)),
        ("8UC1", ("uint8", 1)),
        ("8SC2", ("int8", 2)),
        ("16UC1", ("uint16", 1)),
        ("16SC4", ("int16", 4)),
        ("32SC1", ("int32", 1)),
        ("32FC1", ("float32", 1)),
        ("32FC10", ("float32", 10)),
        ("64FC3", ("float64", 3)),
        ("32F", ("float32", 1)),
    ],
)
def test_encodings(bridge, encoding, expected):
    assert bridge.encoding_to_dtype_with_channels(encoding) == expected


def test_opencv_type_numbers(bridge):
    assert bridge.encoding_to_cvtype2("bgr8") == cv2.CV_8UC3
    assert bridge.encoding_to_cvtype2("32FC1") == cv2.CV_32FC1
    assert bridge.cvtype2_to_dtype_with_channels(cv2.CV_16SC2) == ("int16", 2)
    assert bridge.cvtype_to_name[cv2.CV_64FC4] == "64FC4"
    assert bridge.dtype_with_channels_to_cvtype2(np.dtype("uint16"), 3) == "16UC3"


@pytest.mark.parametrize("encoding", ["", "depth", "8UC", "8XC1", "32fc1", "rgb"])
def test_unknown_encodings(bridge, encoding, color):
    with pytest.raises(CvBridgeError, match=r"Unrecognized image encoding \["):
        bridge.encoding_to_cvtype2(encoding)
    with pytest.raises(CvBridgeError):
        bridge.imgmsg_to_cv2(message(color, encoding))


def test_an_encoding_must_fit_the_array(bridge, color):
    with pytest.raises(CvBridgeError, match="encoding specified as mono8, but image has incompatible type 8UC3"):
        bridge.cv2_to_imgmsg(color, "mono8")
    with pytest.raises(CvBridgeError, match="incompatible type 16UC1"):
        bridge.cv2_to_imgmsg(np.zeros((2, 2), np.uint16), "32FC1")


def test_only_arrays_are_images(bridge):
    with pytest.raises(TypeError, match="not a numpy array"):
        bridge.cv2_to_imgmsg([[1, 2], [3, 4]])
    with pytest.raises(TypeError, match="not a numpy array"):
        bridge.cv2_to_compressed_imgmsg("image")


def test_errors_are_type_errors():
    assert issubclass(CvBridgeError, TypeError)


# Conversions


@pytest.mark.parametrize("source", ["rgb8", "bgr8", "rgba8", "bgra8"])
@pytest.mark.parametrize("target", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8"])
def test_colors_to_colors(bridge, color, source, target):
    bgra = np.dstack([color, np.full(color.shape[:2], 255, np.uint8)])
    order = {"rgb8": [2, 1, 0], "bgr8": [0, 1, 2], "rgba8": [2, 1, 0, 3], "bgra8": [0, 1, 2, 3]}
    msg = message(np.ascontiguousarray(bgra[:, :, order[source]]), source)
    expected = cv2.cvtColor(color, cv2.COLOR_BGR2GRAY) if target == "mono8" else bgra[:, :, order[target]]
    found = bridge.imgmsg_to_cv2(msg, target)
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("target", ["rgb8", "bgr8", "rgba8", "bgra8"])
def test_gray_to_colors(bridge, color, target):
    found = bridge.imgmsg_to_cv2(message(np.ascontiguousarray(color[:, :, 0]), "mono8"), target)
    assert all(np.array_equal(found[:, :, channel], color[:, :, 0]) for channel in range(3))


def test_8_and_16_bits_are_scaled_onto_each_other(bridge):
    every_8 = np.arange(256, dtype=np.uint8).reshape(16, 16)
    every_16 = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    wide = bridge.imgmsg_to_cv2(message(every_8, "mono8"), "mono16")
    assert np.array_equal(wide, every_8.astype(np.uint16) * 257)
    narrow = bridge.imgmsg_to_cv2(message(every_16, "mono16"), "mono8")
    assert narrow.dtype == np.uint8
    assert np.array_equal(narrow, np.rint(every_16 / 257))
    assert np.array_equal(bridge.imgmsg_to_cv2(message(every_16, "16UC1"), "8UC1"), narrow)


def test_color_and_depth_change_together(bridge, color):
    found = bridge.imgmsg_to_cv2(message(color, "bgr8"), "rgb16")
    assert np.array_equal(found, color[:, :, ::-1].astype(np.uint16) * 257)
    found = bridge.imgmsg_to_cv2(message(color.astype(np.uint16) * 257, "bgr16"), "mono8")
    assert np.allclose(found, cv2.cvtColor(color, cv2.COLOR_BGR2GRAY), atol=1)


def test_other_depths_are_rounded_and_saturated(bridge):
    depth = np.array([[0.4, 0.5, 1.5, 2.5], [-3.0, 65534.6, 70000.0, 1e9]], dtype=np.float32)
    found = bridge.imgmsg_to_cv2(message(depth, "32FC1"), "16UC1")
    assert found.dtype == np.uint16
    assert found.tolist() == [[0, 0, 2, 2], [0, 65535, 65535, 65535]]
    counts = np.array([[0, 1, 1000, 65535]], dtype=np.uint16)
    meters = bridge.imgmsg_to_cv2(message(counts, "16UC1"), "32FC1")
    assert meters.dtype == np.float32
    assert np.array_equal(meters, counts)
    signed = np.array([[-5, 0, 32767]], dtype=np.int16)
    assert bridge.imgmsg_to_cv2(message(signed, "16SC1"), "16UC1").tolist() == [[0, 0, 32767]]


def test_colors_to_plain_types_keep_their_values(bridge, color):
    assert np.array_equal(bridge.imgmsg_to_cv2(message(color, "rgb8"), "8UC3"), color)
    gray = np.array([[1, 60000]], np.uint16)
    assert np.array_equal(bridge.imgmsg_to_cv2(message(gray, "mono16"), "16UC1"), gray)


@pytest.mark.parametrize(
    ("pattern", "mosaic"),
    [
        ("rggb", [[200, 100], [100, 50]]),
        ("bggr", [[50, 100], [100, 200]]),
        ("gbrg", [[100, 50], [200, 100]]),
        ("grbg", [[100, 200], [50, 100]]),
    ],
)
@pytest.mark.parametrize("bits", [8, 16])
def test_bayer(bridge, pattern, mosaic, bits):
    """A surface of one color: red 200, green 100, blue 50."""
    image = np.tile(np.array(mosaic, np.uint8 if bits == 8 else np.uint16), (4, 4))
    msg = message(image, f"bayer_{pattern}{bits}")
    assert bridge.imgmsg_to_cv2(msg, f"rgb{bits}")[4, 4].tolist() == [200, 100, 50]
    assert bridge.imgmsg_to_cv2(msg, f"bgr{bits}")[3, 4].tolist() == [50, 100, 200]
    with pytest.raises(CvBridgeError, match="Unsupported conversion"):
        bridge.imgmsg_to_cv2(msg, f"rgba{bits}")


@pytest.mark.parametrize(("encoding", "luma", "chroma"), [("yuv422", 1, 0), ("yuv422_yuy2", 0, 1)])
def test_yuv(bridge, encoding, luma, chroma):
    image = np.empty((2, 4, 2), np.uint8)
    image[:, :, luma], image[:, :, chroma] = 150, 128
    found = bridge.imgmsg_to_cv2(message(image, encoding), "bgr8")
    assert found.shape == (2, 4, 3)
    assert found.min() == found.max()
    assert found[0, 0, 0] == pytest.approx(1.164 * (150 - 16), abs=1)
    assert np.array_equal(bridge.imgmsg_to_cv2(message(image, encoding), "mono8"), np.full((2, 4), 150))


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("32FC1", "mono8", r"\[32FC1\] is not a color format\. but \[mono8\] is"),
        ("8UC3", "bgr8", r"\[8UC3\] is not a color format\. but \[bgr8\] is"),
        ("8UC3", "8UC1", r"\[8UC3\] and \[8UC1\] do not have the same number of channel"),
        ("bgr8", "8UC1", r"\[bgr8\] is a color format but \[8UC1\] is not"),
        ("bgr8", "bayer_rggb8", r"Unsupported conversion from \[bgr8\] to \[bayer_rggb8\]"),
        ("mono8", "8U", "Unknown encoding 8U"),
        ("bgr8", "depth", None),
        ("8UC3", "depth", None),
    ],
)
def test_conversions_that_make_no_sense(bridge, source, target, reason):
    dtype, channels = bridge.encoding_to_dtype_with_channels(source)
    msg = message(np.zeros((2, 2, channels), dtype), source)
    with pytest.raises(CvBridgeError, match=reason):
        bridge.imgmsg_to_cv2(msg, target)


# Compressed images


def test_png_is_lossless(bridge, color):
    msg = bridge.cv2_to_compressed_imgmsg(color, "png")
    assert msg.format == "png"
    assert bytes(msg.data[:4]) == b"\x89PNG"
    assert np.array_equal(bridge.compressed_imgmsg_to_cv2(msg), color)
    assert np.array_equal(bridge.compressed_imgmsg_to_cv2(msg, "bgr8"), color)
    assert np.array_equal(bridge.compressed_imgmsg_to_cv2(msg, "rgb8"), color[:, :, ::-1])


def test_png_keeps_16_bits(bridge):
    depth_mm = np.array([[0, 1, 65535]], np.uint16)
    found = bridge.compressed_imgmsg_to_cv2(bridge.cv2_to_compressed_imgmsg(depth_mm, "png"))
    assert found.dtype == np.uint16
    assert np.array_equal(found, depth_mm)


def test_jpeg_is_the_default(bridge):
    image = np.full((16, 16, 3), (30, 60, 90), np.uint8)
    msg = bridge.cv2_to_compressed_imgmsg(image)
    assert msg.format == "jpg"
    assert bytes(msg.data[:2]) == b"\xff\xd8"
    assert np.allclose(bridge.compressed_imgmsg_to_cv2(msg), image, atol=3)
    gray = bridge.compressed_imgmsg_to_cv2(msg, "mono8")
    assert np.allclose(gray, cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), atol=3)


def test_bytes_that_are_no_image(bridge):
    msg = CompressedImage(format="jpeg")
    msg.data = array.array("B", b"this is not an image")
    assert bridge.compressed_imgmsg_to_cv2(msg) is None
    with pytest.raises(CvBridgeError):
        bridge.compressed_imgmsg_to_cv2(msg, "rgb8")


def test_gray_images_count_as_bgr(bridge):
    """A pitfall kept from the original: decoded gray passes as bgr8, and is refused as mono8."""
    msg = bridge.cv2_to_compressed_imgmsg(np.zeros((4, 4), np.uint8), "png")
    assert bridge.compressed_imgmsg_to_cv2(msg).shape == (4, 4)
    assert bridge.compressed_imgmsg_to_cv2(msg, "bgr8").shape == (4, 4)
    with pytest.raises(CvBridgeError):
        bridge.compressed_imgmsg_to_cv2(msg, "mono8")
