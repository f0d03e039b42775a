"""The settings of conversions, and those that only photographs or videos have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pose2rgbd_ros.dataset.filters import FilterConfig
from pose2rgbd_ros.dataset.ingest import IngestSettings
from pose2rgbd_ros.dataset.meta import DatasetMeta
from pose2rgbd_ros.geometry.geodesy import Datum
from pose2rgbd_ros.poses.settings import PoseSettings
from pose2rgbd_ros.settings import setting

# The settings of a conversion.


Sync = Literal["auto", "none", "check", "apply"]


@dataclass(frozen=True)
class ConvertConfig(IngestSettings, PoseSettings, FilterConfig):
    """How recordings become a dataset."""

    image_topic: str = setting("auto", "colour images (Image or CompressedImage)")
    depth_topic: str = setting("auto", "depth images registered to the colour camera; none: colour only")
    camera_info_topic: str = setting("auto", "calibration of the colour images; none: uncalibrated")
    pose_topic: str = setting(
        "auto", "Odometry, PoseStamped or PoseWithCovarianceStamped; a TF topic takes the poses from TF"
    )
    imu_topic: str = setting("auto", "Imu whose orientation is used where one is wanted; none: none")
    gimbal_topic: str = setting(
        "auto", "attitude of the gimbal (PX4 GimbalDeviceAttitudeStatus, or a QuaternionStamped); none: none"
    )
    stamps: Literal["auto", "header", "received"] = setting(
        "auto",
        "which clock counts: the messages' own (header), the recorder's (received), or the messages' own, corrected "
        "where those of two topics differ by seconds or one was set on the way (auto)",
    )
    sync: Sync = setting(
        "auto",
        "estimate the offset of the image stamps from the pictures' motion and apply it: auto (only where the clocks "
        "look as if they differed), apply (where it can be observed), check (only report), none",
    )
    trim_ground: bool = setting(False, "leave out what lies before take-off and after landing")
    jpeg_quality: int = setting(95, "quality of images that are encoded as JPEG, 1 to 100", ge=1, le=100)
    fix_topic: str = setting("auto", "GPS (NavSatFix) that says where the poses' origin lies on Earth; none: unknown")
    datum: tuple[float, float, float] | None = setting(
        None,
        "latitude, longitude (degrees) and ellipsoid altitude (m) of the map's origin; not given: of the first "
        "recording's, from its GPS",
    )

    def datum_of_map(self, stored: DatasetMeta | None) -> Datum | None:
        """Where the map's origin lies: as given, or as frames that are there have it; None where neither says."""
        return Datum(*self.datum) if self.datum else (stored.datum if stored else None)


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
        "photos whose pixels show them turned by 180 degrees against their recorded yaw: fix (turn the pose), warn, "
        "off",
    )
    pitch_zero: PitchZero = setting(
        "auto",
        "where a camera of XMP Camera:Pitch 0 looks (Pix4D's tags, Parrot's): horizon, nadir, or auto: by the make, "
        "the tags, their values and the pictures",
    )
    sensor_width_mm: float = setting(
        0.0, "width of the sensor, which makes pixels of EXIF's focal length; 0: not known", ge=0, le=200
    )


# The settings that only videos have.


@dataclass(frozen=True)
class VideoSettings:
    """How a video with its log becomes a dataset, beyond what holds for recordings."""

    clock: Literal["auto", "flow", "creation", "log"] = setting(
        "auto",
        "how a log of its own is matched in time: flow (the picture's motion against the log's), creation (the file "
        "says when it was begun), log (both begin together), or auto: what the log says of recordings, else flow, else "
        "creation; image_time_offset_s adds to it",
    )
    poses: Literal["auto", "log", "pictures"] = setting(
        "auto",
        "where poses come from: log; pictures (the camera is followed by its pictures alone and refined; in no unit); "
        "auto: the log where there is one, else with --depth the pictures",
    )
    start_s: float = setting(0.0, "seconds into the video at which to begin", ge=0, le=86_400)
    end_s: float = setting(0.0, "seconds into the video at which to end; 0: its end", ge=0, le=86_400)
    max_rate_hz: float = setting(0.0, "most frames per second; 0: all", ge=0)
    keyframes: bool = setting(False, "take key frames only: faster, and the sharpest frames of the file")
    image_height: int = setting(0, "make frames this high, keeping their aspect; 0: as they are", ge=0, le=8192)
    images: Literal["jpeg", "png"] = setting("jpeg", "how frames are stored (jpeg_quality: how well)")
