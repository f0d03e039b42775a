"""The camera of images: calibrated, guessed from a field of view, or only a size."""

from __future__ import annotations

import math

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.camera import Camera

_SAME_ASPECT = 0.02


def camera_of_images(
    width: int, height: int, calibration: Camera | None, fov_deg: float
) -> tuple[Camera, str]:
    """The camera of images of this size, and what to tell about it ("" for nothing).

    A calibration for another resolution is scaled. Without one (None, or fx = 0) the focal length comes from the
    horizontal `fov_deg`; 0 leaves the camera uncalibrated. UserError when the calibration is for another aspect.
    """
    if calibration is not None and calibration.is_calibrated:
        if abs(calibration.width * height / (calibration.height * width) - 1) > _SAME_ASPECT:
            raise UserError(
                f"calibrates {calibration.width} x {calibration.height} pixels, but the images have {width} x {height}"
            )
        scaled = (calibration.width, calibration.height) != (width, height)
        note = f"calibration scaled from {calibration.width} x {calibration.height} pixels" if scaled else ""
        return calibration.resized(width, height), note
    why = "there is no CameraInfo" if calibration is None else "CameraInfo says K[0] = 0"
    if not fov_deg:
        return Camera(width, height, 0.0, 0.0, 0.0, 0.0), f"{why}: the camera is uncalibrated"
    focal = width / 2 / math.tan(math.radians(fov_deg) / 2)
    camera = Camera(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)
    return camera, f"{why}: focal length from a field of view of {fov_deg:g} degrees"
