"""Cameras against OpenCV: projection, distortion, resizing, cropping, resampling."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.camera import Camera, pixel_grid, resample, resample_map

LENSES = {
    "none": Camera(640, 480, 500, 510, 318, 243),
    "plumb_bob": Camera(640, 480, 500, 510, 318, 243, "plumb_bob", (-0.3, 0.1, 0.001, -0.002, 0.02)),
    "rational_polynomial": Camera(
        640, 480, 500, 510, 318, 243, "rational_polynomial", (0.5, 0.1, 0.001, 0.0, 0.02, 0.8, 0.2, 0.01)
    ),
    "equidistant": Camera(640, 480, 300, 310, 318, 243, "equidistant", (0.01, 0.002, 0.001, 0.0)),
}
every_lens = pytest.mark.parametrize("camera", LENSES.values(), ids=LENSES.keys())


@every_lens
def test_projecting_the_rays_gives_the_pixels_back(camera: Camera) -> None:
    rays = camera.rays()
    assert rays.shape == (480, 640, 3)
    np.testing.assert_array_equal(rays[..., 2], 1)
    np.testing.assert_allclose(camera.project(rays * 7.5), pixel_grid(640, 480), atol=1e-6)


@every_lens
def test_projection_is_opencvs(camera: Camera) -> None:
    points = np.random.default_rng(0).uniform([-2, -1.5, 4], [2, 1.5, 9], size=(50, 3))
    zero, D = np.zeros(3), np.array(camera.distortion)
    if camera.distortion_model == "equidistant":
        expected, _ = cv2.fisheye.projectPoints(points[:, None], zero, zero, camera.K, D)
    else:
        expected, _ = cv2.projectPoints(points, zero, zero, camera.K, D)
    np.testing.assert_allclose(camera.project(points), expected.reshape(-1, 2), atol=1e-9)


@every_lens
def test_points_that_cannot_be_seen_are_nan(camera: Camera) -> None:
    points = [[0, 0, 1.0], [0, 0, -1.0], [0, 0, 0.0], [np.nan, 0, 1.0]]
    np.testing.assert_array_equal(np.isnan(camera.project(points)).any(axis=1), [False, True, True, True])


@given(st.integers(8, 900), st.integers(8, 900), st.floats(0, 1), st.floats(0, 1))
def test_resizing_scales_the_picture_not_the_view(width: int, height: int, a: float, b: float) -> None:
    camera = LENSES["plumb_bob"]
    small = camera.resized(width, height)
    corner = np.array([[-0.5, -0.5], [639.5, 479.5], [a * 639, b * 479]])  # image edges stay image edges
    scaled = (corner + 0.5) * [width / 640, height / 480] - 0.5
    np.testing.assert_allclose(small.unproject(scaled), camera.unproject(corner), atol=1e-9)
    back = small.resized(640, 480)
    assert (back.fx, back.fy, back.cx, back.cy) == pytest.approx((500, 510, 318, 243))


def test_resizing_to_a_square_agrees_with_cv2_resize() -> None:
    camera = LENSES["none"]
    x = camera.rays()[..., 0].astype(np.float32)  # an image that shows its own ray
    small = camera.resized(160, 160)
    assert small.fx != small.fy
    resized = cv2.resize(x, (160, 160), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(resized, small.rays()[..., 0], atol=1e-4)


@every_lens
def test_cropping_cuts_a_window(camera: Camera) -> None:
    window = camera.cropped(100, 50, 320, 200)
    np.testing.assert_allclose(window.rays(), camera.rays()[50:250, 100:420], atol=1e-9)


@every_lens
def test_undistorting_is_opencvs(camera: Camera) -> None:
    target = Camera(512, 512, 420, 400, 250, 260)
    library = cv2.fisheye if camera.distortion_model == "equidistant" else cv2
    D = np.array(camera.distortion) if camera.distortion else np.zeros(5)
    x, y = library.initUndistortRectifyMap(camera.K, D, np.eye(3), target.K, (512, 512), cv2.CV_32FC1)
    found = resample_map(camera, target)
    inside = np.isfinite(found).all(axis=-1)
    assert inside.mean() > 0.5
    np.testing.assert_allclose(found[inside], np.stack([x, y], axis=-1)[inside], atol=1e-3)


def test_a_camera_maps_onto_itself() -> None:
    for camera in (lens.resized(160, 120) for lens in LENSES.values()):
        np.testing.assert_allclose(resample_map(camera, camera), pixel_grid(160, 120), atol=1e-3)


def test_outside_the_source_is_nan_and_gets_the_fill() -> None:
    source = LENSES["none"]
    wide = Camera(640, 480, 250, 255, 318, 243)
    found = resample_map(source, wide)
    inside = np.isfinite(found).all(axis=-1)
    assert inside.mean() == pytest.approx(0.25, abs=0.01)  # half the focal length, a quarter of the picture
    depth = np.full((480, 640), 3.0, np.float32)
    resampled = resample(depth, found, nearest=True, fill=np.nan)
    np.testing.assert_array_equal(np.isnan(resampled), ~inside)
    colour = resample(np.full((480, 640, 3), 200, np.uint8), found, nearest=False)
    assert set(np.unique(colour)) == {0, 200}


def test_a_folded_polynomial_shows_nothing_twice() -> None:
    camera = Camera(640, 480, 400, 400, 320, 240, "plumb_bob", (-0.35, 0.0, 0.0, 0.0, 0.0))
    wide = Camera(300, 300, 33, 33, 150, 150)
    rays = wide.rays()
    raw = camera.project(rays)
    lands_inside = ((raw >= 0) & (raw <= [639, 479])).all(axis=-1)
    found = resample_map(camera, wide)
    inside = np.isfinite(found).all(axis=-1)
    assert (lands_inside & ~inside).any()  # the polynomial alone would have shown these
    np.testing.assert_allclose(camera.unproject(found[inside]), rays[inside], atol=2e-3)


@pytest.mark.parametrize("shape", [(480, 640), (480, 640, 1), (480, 640, 3), (480, 640, 5)])
@pytest.mark.parametrize("nearest", [True, False])
def test_resampling_keeps_shape_and_type(shape: tuple[int, ...], nearest: bool) -> None:
    image = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint16)
    same = resample(image, pixel_grid(640, 480).astype(np.float32), nearest)
    assert same.dtype == image.dtype
    np.testing.assert_array_equal(same, image)


def test_nearest_never_invents_a_depth() -> None:
    depth = np.where(np.arange(640) < 320, 1.0, 9.0) * np.ones((480, 1))
    smaller = LENSES["none"].resized(300, 200)
    values = resample(depth, resample_map(LENSES["none"], smaller), nearest=True)
    assert set(np.unique(values)) == {1.0, 9.0}


def test_fisheye_rays_beyond_the_lens_are_nan() -> None:
    lens = Camera(800, 800, 150, 150, 400, 400, "equidistant", (0.0, 0.0, 0.0, 0.0))
    ray = lens.unproject([[400, 400], [399 + 150 * np.pi / 2 - 20, 400], [799, 400]])
    np.testing.assert_allclose(ray[0], [0, 0, 1], atol=1e-9)
    assert np.isfinite(ray[1]).all()
    assert np.isnan(ray[2]).all()  # 152 degrees off the axis: behind the camera


def test_pixels_that_no_ray_reaches_are_nan() -> None:
    barrel = Camera(640, 480, 300, 300, 320, 240, "plumb_bob", (-0.5, 0.0, 0.0, 0.0, 0.0))
    rays = barrel.rays()
    reached = np.isfinite(rays).all(axis=-1)
    assert not reached[0, 0]  # r (1 - r^2 / 2) never exceeds 0.54, 163 pixels
    assert reached[240, 320]
    assert reached.mean() == pytest.approx(np.pi * 163**2 / (640 * 480), abs=0.03)
    np.testing.assert_allclose(barrel.project(rays)[reached], pixel_grid(640, 480)[reached], atol=0.1)


def test_an_uncalibrated_camera_has_a_size_but_no_rays() -> None:
    camera = Camera(640, 480, 0, 0, 0, 0)
    assert not camera.is_calibrated
    assert camera.resized(320, 240).width == 320
    with pytest.raises(UserError, match=r"K\[0\] = 0"):
        camera.rays()
    with pytest.raises(UserError, match="not calibrated"):
        camera.project([0, 0, 1])


def test_a_field_of_view_ends_at_the_edges_of_the_outermost_pixels() -> None:
    camera = Camera.from_fov(64, 48, 90.0)
    assert np.allclose(camera.project([[-7.0, 0, 7], [7.0, 0, 7]])[:, 0], [-0.5, 63.5])
    assert (camera.cx, camera.cy, camera.fx) == (31.5, 23.5, camera.fy)
    with pytest.raises(UserError, match="between 0 and 180"):
        Camera.from_fov(64, 48, 180.0)


@every_lens
def test_a_camera_survives_its_dict(camera: Camera) -> None:
    assert Camera.from_dict(camera.to_dict()) == camera


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0}, "must be positive"),
        ({"fx": float("nan")}, "not finite"),
        ({"fy": -1.0}, "negative"),
        ({"distortion_model": "brown"}, "unknown distortion model 'brown'"),
        ({"distortion_model": "equidistant", "distortion": [1.0]}, "1 distortion coefficients; expected 4"),
        ({"cx": "left"}, "as numbers"),
    ],
)
def test_nonsense_is_refused_by_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Camera.from_dict({**LENSES["none"].to_dict(), **change})


def test_missing_intrinsics_are_named() -> None:
    with pytest.raises(UserError, match="'fx'"):
        Camera.from_dict({"width": 3, "height": 4})


def test_a_camera_is_told_in_words() -> None:
    assert str(Camera(640, 480, 500, 501.5, 320, 240)) == (
        "640 x 480 pixels, fx 500.00, fy 501.50, cx 320.00, cy 240.00"
    )
    assert str(Camera(640, 480, 0, 0, 0, 0)) == "640 x 480 pixels, uncalibrated"
    fisheye = Camera(640, 480, 500, 500, 320, 240, "equidistant", (0.1, 0, 0, 0))
    assert str(fisheye).endswith("cy 240.00, equidistant [0.1, 0, 0, 0]")
