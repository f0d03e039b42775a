"""Figures of pictures, and of GPS fixes beside the motion."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pose2rgbd_ros.doctor.gps import FixQuality, judge_motion
from pose2rgbd_ros.doctor.pictures import blur_of, is_sampled, look_at
from pose2rgbd_ros.geometry.geodesy import Datum, enu_to_wgs84
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.streams.samples import FixSample

DATUM = Datum(47.0, 8.0, 400.0)


def picture(seed: int, cell_px: int = 12) -> np.ndarray:
    """Edges of many directions and a grain, as photographs have."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 200, (240 // cell_px, 320 // cell_px)).astype(np.uint8)
    grown = cv2.resize(coarse, (320, 240), interpolation=cv2.INTER_NEAREST)
    return np.clip(grown + rng.normal(0, 2, grown.shape), 0, 255).astype(np.uint8)


@given(st.integers(0, 20), st.sampled_from([8, 12, 20]))
def test_the_more_blurred_the_higher(seed: int, cell_px: int) -> None:
    sharp = picture(seed, cell_px)
    values = [blur_of(sharp), *(blur_of(cv2.GaussianBlur(sharp, (0, 0), sigma)) for sigma in (1.5, 3.0, 5.0))]
    assert values == sorted(values)
    assert values[0] < 0.5 < values[2]


@pytest.mark.parametrize("axis", [0, 1])
def test_blur_along_one_direction_shows(axis: int) -> None:
    kernel = np.zeros((15, 15), np.float32)
    kernel[(7, slice(None)) if axis else (slice(None), 7)] = 1 / 15
    assert blur_of(cv2.filter2D(picture(0), -1, kernel)) > 0.5 > blur_of(picture(0))


def test_brightness_does_not_blur_and_black_is_blank() -> None:
    dark = (picture(0) * 0.3).astype(np.uint8)
    assert blur_of(dark) == pytest.approx(blur_of(picture(0)), abs=0.1)
    assert not look_at(0, dark).blank
    assert look_at(0, np.zeros((48, 64), np.uint8)).blank
    assert look_at(0, np.full((48, 64), 255, np.uint8)).clipped == 1.0


@given(st.integers(1, 2000), st.integers(1, 80))
def test_as_many_are_sampled_as_asked_for(of: int, samples: int) -> None:
    assert sum(is_sampled(i, of, samples) for i in range(of)) == min(of, samples)


def flown(turned_rad: float, count: int = 120) -> tuple[FixQuality, Trajectory]:
    """Fixes at 5 Hz of a curved way, and odometry of it whose north is turned."""
    t = np.arange(count) / 5
    xy = np.stack([6 * t, 30 * np.sin(0.2 * t)], axis=1)
    stamps = (1e9 * t).astype(np.int64) + 10**18
    noise = np.random.default_rng(0).normal(0, 0.4, (count, 2))
    found = FixQuality("/fix", count)
    for at, (east, north) in zip(stamps, xy + noise, strict=True):
        latitude, longitude, up = (float(it) for it in enu_to_wgs84(np.array([east, north, 50.0]), DATUM))
        found.log.add(FixSample(int(at), "gps", latitude, longitude, up, np.eye(3)))
    c, s = np.cos(turned_rad), np.sin(turned_rad)
    level = np.tile([0.0, 0.0, 0.0, 1.0], (count, 1))
    odometry = np.column_stack([xy @ np.array([[c, s], [-s, c]]), np.zeros(count)])
    return found, Trajectory(stamps, odometry, level)


def shifted(found: FixQuality, which: slice, east_m: float) -> FixQuality:
    """The same with some fixes moved."""
    stamps, place = found.log.wgs84()
    place[which, 1] += east_m / (111_320 * np.cos(np.radians(47)))
    moved = FixQuality(found.topic, found.count)
    for at, (latitude, longitude, altitude) in zip(stamps, place, strict=True):
        moved.log.add(FixSample(int(at), "gps", latitude, longitude, altitude, np.eye(3)))
    return moved


@given(st.floats(-3.1, 3.1))
def test_fixes_that_fit_the_motion_do_not_jump_whatever_its_north(turned_rad: float) -> None:
    found, body = flown(turned_rad)
    judge_motion(found, body)
    assert (found.jumps, found.steps_m) == (0, ())
    assert found.sigma_m == pytest.approx(1.0)


@given(st.integers(10, 80), st.floats(-3.1, 3.1))
def test_a_lasting_shift_is_one_and_an_outlier_is_another_thing(begin: int, turned_rad: float) -> None:
    found, body = flown(turned_rad)
    lasting = shifted(found, slice(begin, begin + 20), 25.0)
    judge_motion(lasting, body)
    assert len(lasting.steps_m) == 2
    outlier = shifted(found, slice(begin, begin + 1), 25.0)
    judge_motion(outlier, body)
    assert (outlier.jumps, outlier.steps_m) == (1, ())
