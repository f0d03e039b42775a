"""The camera of photographs, from what their EXIF and XMP say about the lens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pose2rgbd_ros.dataset.importers.photos.exif import Lens, Photo
from pose2rgbd_ros.geometry.arrays import Bool
from pose2rgbd_ros.geometry.camera import Camera

# 35 mm film: 36 x 24 mm. Equivalents are rounded to millimetres, and makers compare diagonals.
_FILM_DIAGONAL_MM = math.hypot(36.0, 24.0)
# Wider pictures are cut from a sensor of 4:3 at its full width, as drones do for 16:9.
_WIDEST_SENSOR, _COMMON_SENSOR = 1.6, 4 / 3
SAME_FOCAL_LENGTH = 0.02


@dataclass(frozen=True, eq=False)
class PhotoCamera:
    """The camera; in words where its focal length comes from; and the photos taken at another one (N,)."""

    camera: Camera
    how: str
    other_focal_length: Bool


def camera_of(
    photos: Sequence[Photo], width: int, height: int, fov_deg: float = 0.0, sensor_width_mm: float = 0.0
) -> PhotoCamera:
    """The camera of files of `width` x `height` pixels.

    What EXIF says holds for the original photo; a file that was made smaller since sees the same angle. Lenses are
    taken to be free of distortion and centred, which EXIF does not tell. Without a focal length the camera is
    uncalibrated.
    """
    same = np.zeros(len(photos), dtype=bool)
    if fov_deg:
        how = f"field of view as given, {fov_deg:g} degrees"
        return PhotoCamera(Camera.from_fov(width, height, fov_deg), how, same)
    found = [_per_width(photo.lens, width / height, sensor_width_mm) for photo in photos]
    known = sorted(item for item in found if item is not None)
    if not known:
        how = "the photos do not tell their focal length: uncalibrated; --fov-deg gives its field of view"
        return PhotoCamera(Camera(width, height, 0.0, 0.0, 0.0, 0.0), how, same)
    share, source = known[len(known) // 2]
    other = [item is not None and abs(item[0] / share - 1) > SAME_FOCAL_LENGTH for item in found]
    focal = share * width
    camera = Camera(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)
    return PhotoCamera(camera, f"focal length {focal:.1f} px of {width}: {source}", np.array(other))


def _per_width(lens: Lens, aspect: float, sensor_width_mm: float) -> tuple[float, str] | None:
    """Focal length over image width, and where it comes from; the most exact source first."""
    if sensor_width_mm and lens.focal_mm:
        return (
            lens.focal_mm / sensor_width_mm,
            f"{lens.focal_mm:g} mm by EXIF, sensor {sensor_width_mm:g} mm wide as given",
        )
    if lens.focal_original_px and lens.original_width:
        return (
            lens.focal_original_px / lens.original_width,
            f"DJI's calibrated {lens.focal_original_px:g} px of {lens.original_width}",
        )
    if lens.focal_mm and lens.sensor_width_mm:
        return (
            lens.focal_mm / lens.sensor_width_mm,
            f"{lens.focal_mm:g} mm by EXIF, sensor {lens.sensor_width_mm:.2f} mm wide by its focal plane resolution",
        )
    if lens.focal_35mm:
        cut = aspect > _WIDEST_SENSOR
        sensor = _COMMON_SENSOR if cut else max(aspect, 1 / aspect)
        # Diagonal of the sensor in widths of the image; an upright photo is as wide as its sensor is high.
        diagonal = math.hypot(1.0, 1.0 / sensor) if aspect >= 1 else math.hypot(1.0, sensor)
        note = ", of a 4:3 sensor" if cut else ""
        return (
            lens.focal_35mm / _FILM_DIAGONAL_MM * diagonal,
            f"{lens.focal_35mm:g} mm of 35 mm film by EXIF{note}, good to 3 %",
        )
    return None
