"""Photographs with GPS and gimbal angles, of frames of a dataset whose truth is known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from support.aerial import PhotoFacts, dji_xmp, write_photo

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.geometry.camera import resample, resample_map
from pose2rgbd_ros.sim.footage import gimbal_angles

FRAMES, SIZE = 24, 320  # of the flight in test/sfm/conftest.py


def write_photographs(
    truth: Dataset, folder: Path, which: Iterable[int], sigma_m: float = 1.0, zoom: float = 1.0, **facts: object
) -> None:
    """Photographs of some frames, 3 s apart, their positions off by `sigma_m` along each axis; a zoom is not said."""
    folder.mkdir(exist_ok=True)
    focal_35mm = round(truth.camera.fx / np.hypot(truth.camera.width, truth.camera.height) * np.hypot(36, 24))
    for i in which:
        T_map_cam, rng = truth.T_map_cam[i], np.random.default_rng(i)
        minutes, seconds = divmod(3 * i, 60)
        known = {
            "taken": f"2024:05:01 12:{minutes:02d}:{seconds:02d}",
            "place_enu_m": T_map_cam[:3, 3] + rng.normal(0, sigma_m, 3),
            "focal_35mm": focal_35mm,
            "xmp": dji_xmp(*gimbal_angles(T_map_cam)),
        }
        zoomed = replace(truth.camera, fx=zoom * truth.camera.fx, fy=zoom * truth.camera.fy)
        rgb = np.asarray(resample(truth.rgb(i), resample_map(truth.camera, zoomed), nearest=False))
        write_photo(folder / f"DJI_{i:04d}.JPG", rgb, PhotoFacts(**{**known, **facts}))  # type: ignore[arg-type]
