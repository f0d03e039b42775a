"""Colour conversions against cv_bridge's definitions."""

from __future__ import annotations

import contextlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.depth import is_cut_off_jpeg
from pose2rgbd_ros.streams.samples import compressed_size, decode_compressed, jpeg_tables, raw_image_to_rgb

WIDTH, HEIGHT = 6, 4
RGB = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
RED = np.broadcast_to(np.array([220, 30, 40], np.uint8), (16, 24, 3))  # flat, so that subsampling loses nothing


def send(image: np.ndarray, encoding: str, padding: int = 0, is_bigendian: bool = False) -> np.ndarray:
    """`image` as a ROS message with padded rows, and back."""
    rows = image.view(np.uint8).reshape(len(image), -1)
    padded = np.hstack([rows, np.full((len(rows), padding), 0xA5, np.uint8)])
    step = padded.shape[1]
    return raw_image_to_rgb(padded.tobytes(), image.shape[0], image.shape[1], encoding, step, is_bigendian)


@pytest.mark.parametrize("padding", [0, 1, 5])
@pytest.mark.parametrize(
    ("encoding", "order"), [("rgb8", "rgb"), ("bgr8", "bgr"), ("rgba8", "rgba"), ("bgra8", "bgra"), ("8UC3", "bgr")]
)
def test_colour_orders(encoding: str, order: str, padding: int) -> None:
    planes = {"r": RGB[..., 0], "g": RGB[..., 1], "b": RGB[..., 2], "a": np.full((HEIGHT, WIDTH), 7, np.uint8)}
    image = np.ascontiguousarray(np.stack([planes[name] for name in order], axis=-1))
    back = send(image, encoding, padding)
    np.testing.assert_array_equal(back, RGB)
    assert back.flags.c_contiguous
    assert back.flags.writeable


@given(hnp.arrays(np.uint16, (3, 5)))
def test_16_bits_become_8_with_both_ends_kept(image: np.ndarray) -> None:
    expected = np.rint(image * (255.0 / 65535.0)).astype(np.uint8)
    for is_bigendian in (False, True):
        back = send(image.astype(">u2" if is_bigendian else "<u2"), "mono16", 3, is_bigendian)
        np.testing.assert_array_equal(back, np.repeat(expected[..., None], 3, axis=-1))


def test_grey_fills_all_three() -> None:
    np.testing.assert_array_equal(send(RGB[..., 0].copy(), "mono8"), np.repeat(RGB[..., :1], 3, axis=-1))


def test_deep_colour_keeps_its_order() -> None:
    np.testing.assert_array_equal(send(RGB[..., ::-1].astype(np.uint16) * 257, "bgr16"), RGB)


@pytest.mark.parametrize("order", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("bits", [8, 16])
def test_bayer_names_the_top_left_pixels(order: str, bits: int) -> None:
    mosaic = np.empty((16, 24), np.uint8)
    for position, colour in enumerate(order):  # top left, top right, bottom left, bottom right
        mosaic[position // 2 :: 2, position % 2 :: 2] = RED[0, 0, "rgb".index(colour)]
    image = mosaic if bits == 8 else mosaic.astype("<u2") * 257
    np.testing.assert_array_equal(send(image, f"bayer_{order}{bits}"), RED)


@pytest.mark.parametrize(("encoding", "order"), [("yuv422", "uyvy"), ("yuv422_yuy2", "yuyv"), ("yuyv", "yuyv")])
def test_yuv_422(encoding: str, order: str) -> None:
    red, green, blue = RED[0, 0].astype(float)
    luma = 16 + (65.738 * red + 129.057 * green + 25.064 * blue) / 256  # ITU-R BT.601, video range
    u = 128 + (-37.945 * red - 74.494 * green + 112.439 * blue) / 256
    v = 128 + (112.439 * red - 94.154 * green - 18.285 * blue) / 256
    values = {"y": luma, "u": u, "v": v}
    image = np.empty((16, 24, 2), np.uint8)
    image.reshape(16, 12, 4)[...] = np.rint([values[name] for name in order])
    assert np.abs(send(image, encoding, 4).astype(int) - RED).max() <= 2


@pytest.mark.parametrize("encoding", ["32FC1", "", "rgb", "nv12", "TYPE_8UC3"])
def test_what_is_no_colour_image_is_named(encoding: str) -> None:
    with pytest.raises(UserError, match=f"'{encoding}'; accepted: rgb8, bgr8"):
        raw_image_to_rgb(bytes(1000), 4, 4, encoding)


def test_too_little_data_and_odd_yuv_are_one_line() -> None:
    with pytest.raises(UserError, match="does not fit its 20 bytes"):
        raw_image_to_rgb(bytes(20), 4, 4, "rgb8")
    with pytest.raises(UserError, match="cannot be read as yuyv"):
        raw_image_to_rgb(bytes(100), 3, 5, "yuyv")


@pytest.mark.parametrize("shape", [(7, 13, 3), (300, 17, 3), (2, 2), (64, 48)])
@pytest.mark.parametrize(
    ("extension", "flags"), [(".png", []), (".jpg", []), (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])]
)
def test_size_is_read_from_the_head(shape: tuple[int, ...], extension: str, flags: list[int]) -> None:
    data = cv2.imencode(extension, np.zeros(shape, np.uint8), flags)[1].tobytes()
    name = {".png": "png", ".jpg": "jpeg"}[extension]
    assert compressed_size(data) == (name, shape[1], shape[0])


def exif_rotated(jpeg: bytes) -> bytes:
    """The JPEG with an EXIF segment that asks for a quarter turn."""
    tiff = b"MM\0*\0\0\0\x08" + b"\0\x01" + b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0" + bytes(4)
    body = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + jpeg[2:]


def test_exif_never_turns_the_picture() -> None:
    plain = cv2.imencode(".jpg", np.ascontiguousarray(RED[..., ::-1]))[1].tobytes()
    turned = exif_rotated(plain)
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape == (24, 16, 3)  # OpenCV would
    np.testing.assert_array_equal(decode_compressed(turned), decode_compressed(plain))
    assert compressed_size(turned) == ("jpeg", 24, 16)


def test_compressed_colours_are_rgb() -> None:
    data = cv2.imencode(".png", np.ascontiguousarray(RGB[..., ::-1]))[1].tobytes()
    np.testing.assert_array_equal(decode_compressed(data), RGB)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"not an image at all"])
def test_damaged_heads_have_no_size_and_no_picture(data: bytes) -> None:
    assert compressed_size(data) is None
    with pytest.raises(UserError, match="cannot be decoded"):
        decode_compressed(data)


@given(st.sampled_from([".png", ".jpg"]), st.floats(0, 0.99))
def test_a_truncated_file_never_becomes_half_a_picture(extension: str, share: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    data = cv2.imencode(extension, image)[1].tobytes()
    with pytest.raises(UserError, match="cannot be decoded"):
        decode_compressed(data[: int(share * len(data))])


@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("with_thumbnail", [False, True])
def test_a_jpeg_is_cut_off_where_its_last_scan_has_no_end(progressive: int, with_thumbnail: bool) -> None:
    """OpenCV of Ubuntu 24.04 gives such a file with grey where it ends."""
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive])[1].tobytes()
    if with_thumbnail:  # a file of its own in a tag, which has an end
        small = cv2.imencode(".jpg", image[:8, :8])[1].tobytes()
        data = data[:2] + b"\xff\xe1" + (len(small) + 2).to_bytes(2, "big") + small + data[2:]
    np.testing.assert_array_equal(decode_compressed(data).shape, image.shape)
    for whole in (data, data + bytes(100), data + data):
        assert not is_cut_off_jpeg(whole)
    begins = data.rindex(b"\xff\xda")
    assert all(is_cut_off_jpeg(data[:end]) for end in range(begins + 2, len(data)))
    assert not is_cut_off_jpeg(b"\x89PNG\xff\xda")


@settings(max_examples=200)
@given(st.sampled_from([".png", ".jpg"]), st.integers(0, 10**6), st.integers(0, 255))
def test_damaged_bytes_give_a_picture_or_one_line(extension: str, where: int, value: int) -> None:
    data = bytearray(cv2.imencode(extension, np.zeros((9, 7, 3), np.uint8))[1].tobytes())
    data[where % len(data)] = value
    found = compressed_size(bytes(data))
    assert found is None or min(found[1:]) > 0
    with contextlib.suppress(UserError):  # any other exception fails
        assert decode_compressed(bytes(data)).shape[2] == 3


def _jpeg(seed: int, quality: int) -> bytes:
    image = np.random.default_rng(seed).integers(0, 255, (24, 40, 3), np.uint8)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def test_tables_are_those_of_the_camera_not_of_the_picture() -> None:
    one, other, coarser = _jpeg(0, 90), _jpeg(1, 90), _jpeg(0, 50)
    assert one != other
    assert jpeg_tables(one) == jpeg_tables(other) is not None
    assert jpeg_tables(one) != jpeg_tables(coarser)
    tagged = one[:2] + b"\xff\xe1\x00\x06Exif" + one[2:]
    assert jpeg_tables(tagged) == jpeg_tables(one)


@given(st.integers(0, 10_000))
def test_a_cut_head_has_no_tables(share: int) -> None:
    data = _jpeg(0, 90)
    first_scan = data.index(b"\xff\xda") + 14  # the scan header is 14 bytes long
    cut = share * first_scan // 10_000
    assert (jpeg_tables(data[:cut]) is None) == (cut < first_scan)
