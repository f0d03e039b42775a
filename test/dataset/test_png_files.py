"""PNG files of ours: every reader gets the pixels back, and other tools' checks pass."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from pose2rgbd_ros.dataset.encode import encode_png

SIDES = st.integers(1, 40)


@given(st.tuples(SIDES, SIDES).flatmap(lambda size: arrays(np.uint8, (*size, 3))))
def test_colour_comes_back(rgb: np.ndarray) -> None:
    data = encode_png(rgb)
    assert np.array_equal(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1], rgb)
    with Image.open(io.BytesIO(data)) as image:  # Pillow checks lengths and checksums
        assert np.array_equal(np.asarray(image), rgb)


@given(
    st.tuples(SIDES, SIDES, st.sampled_from([np.uint8, np.uint16])).flatmap(lambda drawn: arrays(drawn[2], drawn[:2]))
)
def test_grey_comes_back(grey: np.ndarray) -> None:
    found = cv2.imdecode(np.frombuffer(encode_png(grey), np.uint8), cv2.IMREAD_UNCHANGED)
    assert found.dtype == grey.dtype
    assert np.array_equal(found, grey)


def test_views_and_either_byte_order() -> None:
    grey = np.arange(600, dtype=">u2").reshape(20, 30)[::2, ::-1]
    found = cv2.imdecode(np.frombuffer(encode_png(grey), np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(found, grey)


def test_no_larger_than_opencv_makes_them() -> None:
    ramp = cv2.resize(np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8), (320, 240))
    theirs = cv2.imencode(".png", ramp, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
    assert len(encode_png(ramp)) < 1.1 * len(theirs)


@pytest.mark.parametrize("shape", [(4, 4, 2), (4, 4, 4), (4,), (0, 4), (4, 0, 3)])
def test_what_no_png_is_made_of(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="no PNG"):
        encode_png(np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match="no PNG"):
        encode_png(np.zeros((4, 4), np.float32))
