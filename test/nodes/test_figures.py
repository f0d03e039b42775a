"""What the monitor counts."""

from __future__ import annotations

import numpy as np
import pytest

from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.nodes.monitor import Figures, Reframe, depth_mae, rgb_mae_px

SECOND = 10**9


def test_rate_latency_and_delivery():
    figures = Figures()
    figures.status(0, 5, "OK")
    for index in range(1, 11):
        if index != 4:  # lost on the way
            figures.received[index * SECOND // 10] = 0.010 + 0.001 * index
        figures.status(index * SECOND // 10, 5 + index, "OK")
    summary = figures.summary()
    assert summary["rate_hz"] == pytest.approx(8 / 0.9, abs=1e-3)
    assert (summary["published"], summary["delivered"], summary["delivered_percent"]) == (10, 9, 90.0)
    assert summary["latency_max_ms"] == pytest.approx(20.0)
    assert summary["states"] == {"OK": 11}
    assert "rgb_mae_px" not in summary, "nothing was compared"


def test_a_restarted_node_counts_from_its_new_start():
    figures = Figures()
    for stamp, frames in ((1, 100), (2, 101), (3, 0), (4, 1)):
        figures.received[stamp] = 0.0
        figures.status(stamp, frames, "OK")
    assert (figures.published(), figures.delivered(figures.received)) == (1, 1)


def test_errors_where_both_are_known():
    first = np.array([[1.0, np.nan, 3.0]], np.float32)
    assert depth_mae(first, np.array([[2.0, 1.0, 3.0]], np.float32)) == pytest.approx(0.5)
    assert np.isnan(depth_mae(first, np.full((1, 3), np.nan, np.float32)))
    assert rgb_mae_px(np.full((2, 2, 3), 10, np.uint8), np.full((2, 2, 3), 250, np.uint8)) == 240


def test_recorded_images_come_into_the_rendered_camera():
    recorded = Camera(64, 48, 60, 60, 31.5, 23.5)
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, 32:] = 200
    squeezed = Reframe(recorded, recorded.resized(32, 32)).rgb(image)
    assert squeezed.shape == (32, 32, 3)
    assert (squeezed[:, 17:] == 200).all()
    assert not squeezed[:, :15].any()
    # A camera of half the field of view sees the middle; one of twice as much sees nothing at its border.
    depth = np.arange(48 * 64, dtype=np.float32).reshape(48, 64)
    narrow = Reframe(recorded, Camera(32, 24, 60, 60, 15.5, 11.5)).depth(depth)
    np.testing.assert_array_equal(narrow, depth[12:36, 16:48])
    wide = Reframe(recorded, Camera(64, 48, 30, 30, 31.5, 23.5)).depth(depth)
    assert np.isnan(wide[:, :15]).all()
    assert np.isfinite(wide[24, 32])


def test_uncalibrated_cameras_are_compared_as_they_are():
    assert Reframe(None, Camera(8, 8, 0, 0, 0, 0)).rgb(np.zeros((4, 4, 3), np.uint8)).shape == (8, 8, 3)
