"""compressedDepth against the definition in compressed_depth_image_transport: an encoder written out pixel by pixel."""

from __future__ import annotations

import contextlib
import struct

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import depth

METHODS = ["", "; compressedDepth", "; compressedDepth png"]
counts_image = hnp.arrays(
    np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.just(0) | st.integers(0, 65535)
)


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def ros_quantized(metres: np.ndarray, maximum: float = 10.0, quantization: float = 100.0) -> tuple[np.ndarray, bytes]:
    """What the publisher does to a 32FC1 image: its inverse depth image and its header."""
    a = np.float32(quantization * (quantization + 1))
    b = np.float32(1 - a / np.float32(maximum))
    image = np.zeros(metres.shape, np.uint16)
    for at, z in np.ndenumerate(metres):
        if z < maximum:
            image[at] = int(a / z + b)  # truncated, as a C++ float to unsigned short
    return image, struct.pack("<iff", 0, a, b)


def ros_rvl(counts: np.ndarray) -> bytes:
    """Wilson's RVL encoder, number by number, behind the size that ROS puts in front."""
    nibbles: list[int] = []

    def put(value: int) -> None:
        while True:
            more = value >> 3
            nibbles.append(value & 7 | (8 if more else 0))
            if not more:
                return
            value = more

    pixels, at, previous = counts.reshape(-1).astype(int).tolist(), 0, 0
    while at < len(pixels):
        start = at
        while at < len(pixels) and pixels[at] == 0:
            at += 1
        put(at - start)
        end = at
        while end < len(pixels) and pixels[end] != 0:
            end += 1
        put(end - at)
        for value in pixels[at:end]:
            delta = value - previous
            put((delta << 1) ^ (delta >> 31))
            previous = value
        at = end
    nibbles += [0] * (-len(nibbles) % 8)
    words = [int("".join(f"{n:x}" for n in nibbles[i : i + 8]), 16) for i in range(0, len(nibbles), 8)]
    return struct.pack("<II", counts.shape[1], counts.shape[0]) + struct.pack(f"<{len(words)}I", *words)


@given(counts_image, st.sampled_from(METHODS))
def test_16uc1_is_lossless(counts: np.ndarray, method: str) -> None:
    data = struct.pack("<iff", 0, 0.0, 0.0) + png(counts)
    np.testing.assert_array_equal(depth.raw_counts_from_compressed(data, "16UC1" + method), counts)
    np.testing.assert_array_equal(depth.decode_compressed_depth(data, "16UC1" + method), depth.from_counts(counts))


@given(counts_image)
def test_rvl_is_lossless(counts: np.ndarray) -> None:
    data = bytes(12) + ros_rvl(counts)
    np.testing.assert_array_equal(depth.raw_counts_from_compressed(data, "16UC1; compressedDepth rvl"), counts)


def test_rvl_of_a_camera_image() -> None:
    rng = np.random.default_rng(0)
    counts = (1500 + np.add.outer(np.arange(120), np.arange(160)) * 3 + rng.integers(0, 5, (120, 160))).astype(
        np.uint16
    )
    counts[rng.random(counts.shape) < 0.1] = 0
    counts[30:60] = 0
    data = bytes(12) + ros_rvl(counts)
    np.testing.assert_array_equal(depth.raw_counts_from_compressed(data, "16UC1; compressedDepth rvl"), counts)


@given(hnp.arrays(np.float32, (4, 5), elements=st.floats(0.16015625, 12.0, width=32)))
def test_32fc1_decodes_what_the_ros_publisher_writes(metres: np.ndarray) -> None:
    image, header = ros_quantized(metres)
    decoded = depth.decode_compressed_depth(header + png(image), "32FC1; compressedDepth png")
    assert depth.raw_counts_from_compressed(header + png(image), "32FC1; compressedDepth png") is None
    near = metres < 9.98
    step = metres**2 / (100 * 101)  # one step of the inverse depth
    np.testing.assert_array_less(np.abs(decoded - metres)[near], (1.1 * step + 1e-4)[near])
    assert np.isnan(decoded[metres >= 10.0]).all()


@given(hnp.arrays(np.float32, (4, 5), elements=st.floats(0.25, 90.0, width=32)), st.sampled_from([20.0, 100.0]))
def test_32fc1_round_trip_errs_by_half_a_step(metres: np.ndarray, maximum: float) -> None:
    data, format = depth.encode_compressed_depth(metres, "32FC1", depth_max_m=maximum)
    decoded = depth.decode_compressed_depth(data, format)
    assert format == "32FC1; compressedDepth png"
    fits = metres < 0.99 * maximum
    np.testing.assert_array_less(np.abs(decoded - metres)[fits], (0.55 * metres**2 / 10100 + 1e-3)[fits])
    assert np.isnan(decoded[metres >= maximum]).all()


@given(hnp.arrays(np.float32, (3, 4), elements=st.floats(0.25, 60, width=32)), st.sampled_from([10.0, 30.0]))
def test_32fc1_is_what_the_ros_publisher_writes(metres: np.ndarray, maximum: float) -> None:
    """Header and counts, but for the rounding: decoded by others, by the header they expect."""
    counts, header = ros_quantized(metres, maximum)
    data, _ = depth.encode_compressed_depth(metres, "32FC1", maximum)
    np.testing.assert_allclose(struct.unpack("<iff", data[:12]), struct.unpack("<iff", header), rtol=1e-6)
    ours = cv2.imdecode(np.frombuffer(data[12:], np.uint8), cv2.IMREAD_UNCHANGED).astype(int)
    assert np.abs(ours - counts).max() <= 1


def test_32fc1_too_near_for_16_bits_is_unknown() -> None:
    data, format = depth.encode_compressed_depth(np.array([[0.1, np.nan, 0.0, 5.0]], np.float32), "32FC1")
    np.testing.assert_array_equal(np.isnan(depth.decode_compressed_depth(data, format)), [[True, True, True, False]])


def test_16uc1_round_trip() -> None:
    metres = np.array([[0.5, 1.2344, 65.535, 70.0, np.nan]], np.float32)
    data, format = depth.encode_compressed_depth(metres)
    assert data[:4] == b"\0\0\0\0"
    assert format == "16UC1; compressedDepth png"
    np.testing.assert_array_equal(depth.raw_counts_from_compressed(data, format), [[500, 1234, 65535, 0, 0]])


def test_files_without_the_header_are_read_too() -> None:
    counts = np.array([[0, 1500]], np.uint16)
    np.testing.assert_array_equal(depth.raw_counts_from_compressed(png(counts), "16UC1; png compressed "), counts)
    tiff = cv2.imencode(".tiff", np.array([[np.nan, 1.5]], np.float32))[1].tobytes()
    np.testing.assert_array_equal(depth.decode_compressed_depth(tiff, "32FC1; tiff compressed "), [[np.nan, 1.5]])
    assert depth.raw_counts_from_compressed(tiff, "32FC1; tiff compressed ") is None


HEADER = bytes(12)
GOOD = HEADER + png(np.ones((4, 4), np.uint16))


@pytest.mark.parametrize(
    ("data", "format", "message"),
    [
        (b"", "16UC1; compressedDepth png", "too short"),
        (HEADER, "16UC1; compressedDepth png", "too short"),
        (HEADER + b"rubbish", "16UC1; compressedDepth png", "readable PNG"),
        (GOOD[:40], "16UC1; compressedDepth png", "readable PNG"),
        (GOOD, "bgr8; jpeg compressed bgr8", "'bgr8'; accepted: 32FC1"),
        (GOOD, "16UC1; compressedDepth zstd", "or rvl"),
        (HEADER + png(np.ones((4, 4), np.uint8)), "16UC1; compressedDepth png", "expected one channel of 16 bits"),
        (HEADER + png(np.ones((4, 4, 3), np.uint16)), "16UC1; compressedDepth", "expected one channel of 16 bits"),
        (png(np.ones((4, 4), np.uint16)), "32FC1; compressedDepth png", "lacks its 12-byte header"),
        (HEADER + b"\1", "16UC1; compressedDepth rvl", "RVL depth image is damaged"),
        (HEADER + struct.pack("<II", 0, 5) + bytes(8), "16UC1; compressedDepth rvl", "damaged"),
        (HEADER + struct.pack("<II", 1 << 31, 1 << 31) + bytes(8), "16UC1; compressedDepth rvl", "damaged"),
        (HEADER + struct.pack("<II", 4, 4) + b"\xff" * 16, "16UC1; compressedDepth rvl", "damaged"),
        (HEADER + ros_rvl(np.full((9, 9), 777, np.uint16))[:20], "16UC1; compressedDepth rvl", "damaged"),
    ],
)
def test_damaged_or_foreign_data_is_one_clear_line(data: bytes, format: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        depth.decode_compressed_depth(data, format)


@settings(max_examples=300)
@given(st.sampled_from(["png", "rvl"]), st.integers(0, 10**6), st.integers(0, 255), st.floats(0, 1))
def test_damaged_bytes_give_depth_or_one_line(method: str, where: int, value: int, share: float) -> None:
    counts = np.arange(99, dtype=np.uint16).reshape(9, 11)
    data = bytearray(HEADER + (png(counts) if method == "png" else ros_rvl(counts)))
    data[where % len(data)] = value
    damaged = bytes(data[: max(1, round(share * len(data)))])
    with contextlib.suppress(UserError):  # any other exception fails
        decoded = depth.decode_compressed_depth(damaged, f"16UC1; compressedDepth {method}")
        assert decoded.dtype == np.float32
        assert decoded.ndim == 2


@given(hnp.arrays(np.float32, (3, 4), elements=st.just(np.float32(np.nan)) | st.floats(2**-2, 2**13, width=32)))
def test_the_finest_quantization_uses_all_bits_for_a_picture(depth_m):
    data, form = depth.encode_compressed_depth(depth_m, "32FC1", *depth.finest_quantization(depth_m))
    found_m = depth.decode_compressed_depth(data, form)
    np.testing.assert_array_equal(np.isfinite(found_m), np.isfinite(depth_m))
    known = np.isfinite(depth_m)
    if known.any():
        nearest = max(depth_m[known].min(), depth_m[known].max() / 65535)
        step_m = depth_m[known] ** 2 / nearest / 65534  # the most that a step may be
        assert (np.abs(found_m - depth_m)[known] <= step_m + 1e-3 * depth_m[known]).all()
