"""The depth contract: raw images, counts, units, unknown pixels, topic names."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import depth

counts_image = hnp.arrays(np.uint16, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8))
float_image = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.floats(width=32))


def padded(image: np.ndarray, padding: int) -> tuple[bytes, int]:
    """The rows of `image` with `padding` bytes of rubbish behind each, and the step."""
    rows = image.view(np.uint8).reshape(len(image), -1)
    rubbish = np.full((len(image), padding), 0xA5, np.uint8)
    return np.hstack([rows, rubbish]).tobytes(), rows.shape[1] + padding


@given(counts_image, st.sampled_from([0, 1, 6]), st.booleans(), st.sampled_from(["16UC1", "mono16"]))
def test_millimetre_images_lose_nothing(counts: np.ndarray, padding: int, big: bool, encoding: str) -> None:
    data, step = padded(counts.astype(">u2" if big else "<u2"), padding)
    height, width = counts.shape
    raw = depth.raw_counts(data, encoding, height, width, step, big)
    assert raw is not None
    np.testing.assert_array_equal(raw, counts)
    metres = depth.decode_depth(data, encoding, height, width, step, big)
    assert metres.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(metres), counts == 0)
    np.testing.assert_array_equal(metres[counts > 0], (counts[counts > 0] / 1000.0).astype(np.float32))
    np.testing.assert_array_equal(depth.to_counts(metres, 0.001), counts)


@given(float_image, st.sampled_from([0, 4, 7]), st.booleans())
def test_float_images_come_through_with_unknown_as_nan(image: np.ndarray, padding: int, big: bool) -> None:
    data, step = padded(image.astype(">f4" if big else "<f4"), padding)
    metres = depth.decode_depth(data, "32FC1", *image.shape, step, big)
    measured = np.isfinite(image) & (image > 0)
    np.testing.assert_array_equal(metres[measured], image[measured])
    assert np.isnan(metres[~measured]).all()
    again = depth.decode_depth(depth.encode_32fc1(metres).tobytes(), "32FC1", *image.shape)
    np.testing.assert_array_equal(again, metres)


@given(counts_image, st.sampled_from([0.001, 0.01, 0.0002, 1 / 256]))
def test_counts_of_any_unit_round_trip(counts: np.ndarray, unit_m: float) -> None:
    np.testing.assert_array_equal(depth.to_counts(depth.from_counts(counts, unit_m), unit_m), counts)


def test_depth_that_does_not_fit_becomes_unknown_never_a_wrong_number() -> None:
    metres = np.array([[0.0004, 0.0006, 65.535, 65.5356, 1e9, np.inf, -np.inf, np.nan, -1.0, 0.0]], np.float32)
    np.testing.assert_array_equal(depth.to_counts(metres, 0.001), [[0, 1, 65535, 0, 0, 0, 0, 0, 0, 0]])
    assert depth.to_counts(np.float32(300.0), 0.01) == 30000  # aerial depth in centimetres


@pytest.mark.parametrize("encoding", ["rgb8", "8UC1", "64FC1", "", "32FC3"])
def test_other_encodings_are_refused_with_what_is_accepted(encoding: str) -> None:
    with pytest.raises(UserError, match=f"'{encoding}'; accepted: 32FC1 .*16UC1"):
        depth.decode_depth(bytes(64), encoding, 4, 4)


@pytest.mark.parametrize(("size", "step"), [(31, 0), (64, 7), (0, 0)])
def test_data_that_does_not_fit_is_refused(size: int, step: int) -> None:
    with pytest.raises(UserError, match="does not fit its"):
        depth.decode_depth(bytes(size), "16UC1", 4, 4, step)


def test_an_image_without_size_is_refused() -> None:
    with pytest.raises(UserError, match="must be positive"):
        depth.decode_depth(b"", "16UC1", 0, 0)


def test_a_last_row_without_its_padding_is_accepted() -> None:
    data, step = padded(np.arange(1, 5, dtype=np.uint16).reshape(2, 2), 8)
    raw = depth.raw_counts(data[:-8], "16UC1", 2, 2, step)
    np.testing.assert_array_equal(raw, [[1, 2], [3, 4]])


def test_relative_depth_has_a_topic_nobody_takes_for_metres() -> None:
    assert depth.depth_topic("metric") == "depth/image"
    assert depth.depth_topic("relative") == "depth_relative/image"
    with pytest.raises(UserError, match="'metric' or 'relative'"):
        depth.depth_topic("metres")  # type: ignore[arg-type]


@pytest.mark.parametrize("unit_m", [0.0, -1.0, float("nan")])
def test_a_unit_must_be_positive(unit_m: float) -> None:
    with pytest.raises(UserError, match="must be positive"):
        depth.to_counts(np.ones((2, 2)), unit_m)
    with pytest.raises(UserError, match="must be positive"):
        depth.from_counts(np.ones((2, 2), np.uint16), unit_m)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_nearest_resizing_takes_the_pixel_under_the_centre(h: int, w: int, height: int, width: int) -> None:
    image = np.arange(h * w, dtype=np.float32).reshape(h, w)
    resized = depth.resize_nearest(image, width, height)
    assert resized.shape == (height, width)
    row, column = height // 2, width // 2
    assert resized[row, column] == image[int((row + 0.5) * h / height), int((column + 0.5) * w / width)]
    assert np.isin(resized, image).all()
