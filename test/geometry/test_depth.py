"""The depth contract: raw images, counts, units, unknown pixels, topic names."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import depth
from pose2rgbd_ros.geometry.camera import Camera

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


def a_plane(camera: Camera, slope: tuple[float, float]) -> np.ndarray:
    """Depth of a plane about 10 m away before a camera."""
    return np.asarray(10 / (camera.rays() @ np.array([*slope, 1.0])), np.float32)


@given(
    st.integers(24, 60), st.integers(24, 60), st.integers(4, 80), st.integers(4, 80), st.floats(-0.1, 0.1),
    st.floats(-0.1, 0.1),
)  # fmt: skip
def test_a_plane_at_another_size_stays_itself(h: int, w: int, height: int, width: int, a: float, b: float) -> None:
    camera = Camera.from_fov(w, h, 60.0)
    wanted = a_plane(camera.resized(width, height), (a, b))
    found = depth.resize_depth(a_plane(camera, (a, b)), width, height)
    inside = slice(height // 20 + 1, height - height // 20 - 1), slice(width // 20 + 1, width - width // 20 - 1)
    np.testing.assert_allclose(found[inside], wanted[inside], rtol=1e-5)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_depths_of_two_surfaces_are_never_blended(h: int, w: int, height: int, width: int, seed: int) -> None:
    image = np.random.default_rng(seed).choice(np.array([4.0, 9.0, np.nan], np.float32), (h, w))
    found = depth.resize_depth(image, width, height)
    assert found.shape == (height, width)
    assert found.dtype == np.float32
    known = found[np.isfinite(found)]
    assert np.isin(known.round(4), [4.0, 9.0]).all()
    if not np.isnan(image).any():
        assert np.isfinite(found).all()


@pytest.mark.parametrize("size", [64, 128])
def test_an_image_made_smaller_is_not_moved(size: int) -> None:
    rows, columns = np.mgrid[:256, :256]
    near = (columns - 120.3) ** 2 + (rows - 130.7) ** 2 < 60**2
    image = np.where(near, np.float32(10), np.float32(20))
    shown = np.argwhere(depth.resize_depth(image, size, size) < 15)
    np.testing.assert_allclose((shown.mean(0) + 0.5) * 256 / size - 0.5, [130.7, 120.3], atol=0.1)
    nearest = np.argwhere(depth.resize_nearest(image, size, size) < 15)
    off = np.abs((nearest.mean(0) + 0.5) * 256 / size - 0.5 - [130.7, 120.3])
    assert (off > 0.3).all(), "taking the pixel under the centre moves it by half a pixel"


def test_sparse_depth_stays_sparse_and_keeps_its_values() -> None:
    image = np.full((40, 40), np.nan, np.float32)
    image[5, 7] = image[20, 21] = 3.0
    same = depth.resize_depth(image, 40, 40)
    np.testing.assert_array_equal(same, image)
    half = depth.resize_depth(image, 20, 20)
    assert half[2, 3] == 3.0
    assert np.isfinite(half).sum() == 1
    np.testing.assert_array_equal(half, depth.resize_nearest(image, 20, 20))


def test_places_outside_the_image_have_no_depth() -> None:
    found = depth.sample_depth(np.full((3, 3), 5, np.float32), np.array([[np.nan, 1.2]]), np.array([[np.nan, 0.4]]))
    np.testing.assert_allclose(found, [[np.nan, 5.0]])
