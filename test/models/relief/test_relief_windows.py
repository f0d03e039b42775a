"""Which tiles a view needs, against points on all its rays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.relief.config import TiledReliefConfig
from pose2rgbd_ros.models.relief.tiles import Window, windows

TURNED = (0.0, 0.0, float(np.sin(0.3)), float(np.cos(0.3)))
CAMERA = Camera.from_fov(48, 40, 80.0)
LENS = Camera.from_fov(52, 40, 100.0)
LENS = Camera(LENS.width, LENS.height, LENS.fx, LENS.fy, LENS.cx, LENS.cy, "plumb_bob", (-0.25, 0.05, 0.0, 0.0, 0.0))
DARK = Camera(52, 40, 45.0, 45.0, 25.5, 19.5, "plumb_bob", (-0.35, 0.0, 0.0, 0.0, 0.0))  # its corners have no ray
CONFIG = TiledReliefConfig(
    origin_m=(5.0, -30.0, 2.0), quat_xyzw=TURNED, layers=8, rows=30, columns=26,
    tile_rows=3, tile_columns=4, overlap=6,
)  # fmt: skip
eyes = st.tuples(st.floats(-60, 120), st.floats(-60, 120), st.floats(-9, 60))
aims = st.tuples(*3 * [st.floats(-1, 1)])


def looking(eye: tuple[float, ...], aim: tuple[float, ...]) -> np.ndarray:
    direction = np.array([aim[0], aim[1], aim[2] + 1e-3])
    return se3.look_at(np.array(eye), np.array(eye) + direction / np.linalg.norm(direction))


def seen_by(found: list[Window], shape: tuple[int, ...]) -> np.ndarray:
    """(tile, H, W): whether a pixel is in a window of a tile."""
    seen = np.zeros((CONFIG.count, *shape), bool)
    for window in found:
        seen[window.tile, window.rows, window.columns] = True
    return seen


@pytest.mark.parametrize("camera", [CAMERA, LENS, DARK], ids=["pinhole", "lens", "lens with dark corners"])
@settings(max_examples=30)
@given(eyes, aims)
@example((0.0, 0.0, 0.0), (0.0, -1.0, 0.0))  # only pixels beside a dark corner meet a tile
@example((49.0, 0.0, 48.0), (0.0, 0.0, -1.0))  # a tile narrower in the picture than a cell
def test_a_pixel_is_in_a_window_of_all_tiles_in_which_its_ray_may_end(
    camera: Camera, eye: tuple[float, ...], aim: tuple[float, ...]
) -> None:
    T_vol_cam, rays = looking(eye, aim), camera.rays()
    found = windows(CONFIG, CONFIG.T_map_vol @ T_vol_cam, rays)
    seen = seen_by(found, rays.shape[:2])
    assert seen.any(0).all()
    points = np.array(eye) + np.linspace(0, 150, 76)[:, None, None, None] * (rays @ T_vol_cam[:3, :3].T)
    within = (points[..., 2] >= 0) & (points[..., 2] <= CONFIG.size_m[2])
    for number in range(CONFIG.count):
        low, high = CONFIG.core_m(number)
        at = points[..., :2] - CONFIG.corner_m(number)[:2]
        meets = (((at >= low) & (at < high)).all(-1) & within).any(0)
        assert seen[number][meets].all(), f"tile {number}"


def test_the_dark_corners_of_a_lens_are_dark():
    assert 10 < np.isnan(DARK.rays()[..., 0]).sum() < 500
    assert np.isnan(DARK.rays()[0, 0]).all()


@given(eyes, aims)
def test_the_tile_about_the_camera_has_all_of_the_picture_and_comes_first(
    eye: tuple[float, ...], aim: tuple[float, ...]
) -> None:
    eye = (*eye[:2], min(eye[2], CONFIG.size_m[2] - 1e-6))
    first = windows(CONFIG, CONFIG.T_map_vol @ looking(eye, aim), CAMERA.rays())[0]
    beside = np.array(eye) + 1e-9 * np.array([[x, y, 0] for x in (-1, 1) for y in (-1, 1)])  # rounding at borders
    assert first.tile in [CONFIG.home(place) for place in beside]
    assert (first.rows, first.columns) == (slice(0, CAMERA.height), slice(0, CAMERA.width))


def test_tiles_that_a_view_does_not_show_cost_nothing() -> None:
    straight_down = looking((30.0, 37.0, 30.0), (0.0, 1e-3, -1.0))
    camera = Camera.from_fov(128, 128, 20.0)
    assert [window.tile for window in windows(CONFIG, CONFIG.T_map_vol @ straight_down, camera.rays())] == [5]
    ahead = windows(CONFIG, CONFIG.T_map_vol @ looking((12.0, 12.0, 5.0), (1.0, 0.0, -0.5)), camera.rays())
    assert {window.tile for window in ahead} == {0, 1}
