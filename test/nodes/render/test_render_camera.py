"""Which camera is rendered for, and which are refused; no node needed."""

from __future__ import annotations

import pytest

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.nodes.render.camera import CameraSettings, choose_camera
from pose2rgbd_ros.rendering.renderer import check_camera

pytestmark = pytest.mark.ros
TRAINED = Camera(128, 128, 110.0, 100.0, 63.5, 63.5)
REAL = Camera(1920, 1080, 1500.0, 1500.0, 950.0, 545.0, "plumb_bob", (-0.2, 0.05, 0.0, 0.0, 0.0))


def test_the_trained_camera_unless_told_otherwise() -> None:
    assert choose_camera(CameraSettings(), TRAINED, "", None) == TRAINED
    assert choose_camera(CameraSettings(), TRAINED, "/camera_info", REAL) == REAL


def test_one_side_keeps_the_proportions() -> None:
    small = choose_camera(CameraSettings(width=480), TRAINED, "/camera_info", REAL)
    assert (small.width, small.height) == (480, 270)
    assert small == REAL.resized(480, 270)
    assert choose_camera(CameraSettings(height=64), TRAINED, "", None) == TRAINED.resized(64, 64)


def test_a_camera_by_parameters() -> None:
    settings = CameraSettings(640, 480, 500.0, distortion_model="plumb_bob", distortion="-0.1, 0.02 0 0")
    assert choose_camera(settings, TRAINED, "", None) == Camera(
        640, 480, 500.0, 500.0, 319.5, 239.5, "plumb_bob", (-0.1, 0.02, 0.0, 0.0)
    )


@pytest.mark.parametrize(
    ("settings", "topic", "said"),
    [
        (CameraSettings(fx=500.0), "", "set camera.width and camera.height too"),
        (CameraSettings(cx=3.0), "", "camera.fx is 0"),
        (CameraSettings(distortion="0.1"), "", "camera.fx is 0"),
        (CameraSettings(640, 480, 500.0), "/camera_info", "both give a camera"),
        (CameraSettings(640, 480, 500.0, distortion_model="plumb_bob", distortion="a b"), "", "holds numbers"),
        (CameraSettings(640, 480, 500.0, distortion_model="plumb_bob", distortion="1 2"), "", "expected 4 or 5"),
    ],
)
def test_settings_without_sense(settings: CameraSettings, topic: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        choose_camera(settings, TRAINED, topic, REAL)
    assert "\n" not in str(caught.value)


def test_what_is_told_of_the_pictures() -> None:
    assert check_camera(TRAINED, TRAINED, any_camera=False) == ""
    assert check_camera(TRAINED.resized(300, 200), TRAINED, any_camera=False) == ""
    wide = Camera(128, 128, 40.0, 40.0, 63.5, 63.5)
    told = check_camera(wide, TRAINED, any_camera=False)
    inside = (40.0 / 110.0) * (40.0 / 100.0)
    assert told.startswith(f"{1 - inside:.0%}"), told
    assert check_camera(wide, TRAINED, any_camera=True) == ""
    assert "14.3 times finer" in check_camera(REAL, TRAINED, any_camera=True)


def test_what_cannot_be_rendered_for() -> None:
    uncalibrated = Camera(128, 128, 0, 0, 0, 0)
    assert check_camera(uncalibrated, uncalibrated, any_camera=False) == ""
    for camera, trained in ((uncalibrated, TRAINED), (TRAINED, uncalibrated)):
        with pytest.raises(UserError, match="not calibrated"):
            check_camera(camera, trained, any_camera=False)
    with pytest.raises(UserError, match="pixels are more than"):
        check_camera(REAL.resized(8192, 8192), TRAINED, any_camera=True)
    aside = Camera(64, 64, 100.0, 100.0, -500.0, 31.5)
    with pytest.raises(UserError, match="sees nothing of the trained field of view"):
        check_camera(aside, TRAINED, any_camera=False)
    check_camera(aside, TRAINED, any_camera=True)
