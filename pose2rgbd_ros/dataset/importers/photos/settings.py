"""The settings that only photographs have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pose2rgbd_ros.settings import setting

YawCheck = Literal["fix", "warn", "off"]
PitchZero = Literal["auto", "horizon", "nadir"]


@dataclass(frozen=True)
class PhotoSettings:
    """How a folder of photographs becomes a dataset, beyond what holds for recordings."""

    poses: Path | None = setting(
        None,
        "file of poses that replaces those of the photos: lines 'name,x,y,z,qx,qy,qz,qw', metres east, north and up of "
        "the datum, orientation of the optical frame",
    )
    yaw_check: YawCheck = setting(
        "fix",
        "photos whose pixels show them turned by 180 degrees against their recorded yaw: fix (turn the pose), warn, off",
    )
    pitch_zero: PitchZero = setting(
        "auto",
        "where a camera of XMP Camera:Pitch 0 looks (Pix4D's tags, Parrot's): horizon, nadir, or auto: by the make, the "
        "tags, their values and the pictures",
    )
    sensor_width_mm: float = setting(
        0.0, "width of the sensor, which makes pixels of EXIF's focal length; 0: not known", ge=0, le=200
    )
