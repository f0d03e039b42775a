"""Images of any camera, as the trained one would have seen them."""

from __future__ import annotations

import numpy as np
import pytest
import support.carpet as carpet

from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.localization.predict import QueryView

TRAINED = carpet.CAMERA.cropped(8, 8, 128, 128)
GROUND = carpet.carpet(0)
POSE = carpet.poses(np.array([1.0]), np.array([-2.0]))[0]


def test_the_recordings_own_frames_come_through_pixel_by_pixel():
    frame = carpet.seen(GROUND, POSE)
    query = QueryView(TRAINED, 8).query(frame, carpet.CAMERA)
    assert query.reason == ""
    assert query.has_margin
    assert np.array_equal(query.rgb, frame)
    assert np.array_equal(query.crop(), frame[8:136, 8:136])
    assert np.array_equal(query.crop(3, -5), frame[3:131, 11:139])


@pytest.mark.parametrize(
    "camera",
    [
        Camera.from_fov(640, 480, 110.0),
        Camera(700, 600, 280.0, 300.0, 330.0, 310.0),
        Camera(640, 560, 250.0, 250.0, 320.0, 280.0, "plumb_bob", (-0.05, 0.01, 0.0, 0.0)),
        Camera(400, 400, 130.0, 130.0, 200.0, 200.0, "equidistant", (0.01, 0.0, 0.0, 0.0)),
    ],
    ids=["wide", "off centre", "distorted", "fisheye"],
)
def test_another_camera_shows_the_same_view(camera: Camera):
    query = QueryView(TRAINED, 8).query(carpet.seen(GROUND, POSE, camera), camera)
    assert query.reason == ""
    wanted = carpet.seen(GROUND, POSE, TRAINED)
    assert np.abs(query.crop().astype(int) - wanted)[8:-8, 8:-8].mean() < 10.0
    shifted = np.abs(query.crop().astype(int)[:, 2:] - wanted[:, :-2])[8:-8, 8:-8].mean()
    assert shifted > 1.5 * np.abs(query.crop().astype(int) - wanted)[8:-8, 8:-8].mean()


def test_what_cannot_be_a_query_says_why():
    view = QueryView(TRAINED, 8)
    frame = carpet.seen(GROUND, POSE)
    narrow = Camera.from_fov(144, 144, 60.0)
    assert "shows 43% of the view" in view.query(frame, narrow).reason
    assert "not calibrated" in view.query(frame, Camera(144, 144, 0.0, 0.0, 0.0, 0.0)).reason
    assert "144 x 100 pixels, its camera 144 x 144" in view.query(frame[:100], carpet.CAMERA).reason
    assert "float64 of shape (144, 144, 3)" in view.query(frame / 255.0, carpet.CAMERA).reason
    assert "uint8 of shape (144, 144)" in view.query(frame[..., 0], carpet.CAMERA).reason


def test_a_model_of_an_uncalibrated_camera_takes_its_images_as_they_were_trained():
    trained = Camera(128, 128, 0.0, 0.0, 0.0, 0.0)
    frame = np.random.default_rng(0).integers(0, 256, (144, 288, 3), dtype=np.uint8)
    camera = Camera(288, 144, 0.0, 0.0, 0.0, 0.0)
    assert np.array_equal(QueryView(trained, 8, "crop").query(frame, camera).rgb, frame[:, 72:216])
    assert QueryView(trained, 8, "square").query(frame, camera).rgb.shape == (144, 144, 3)
