"""The settings of a conversion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pose2rgbd_ros.dataset.depth_files import DepthFormat
from pose2rgbd_ros.dataset.filters import FilterConfig
from pose2rgbd_ros.geometry.depth import DepthKind
from pose2rgbd_ros.settings import setting
from pose2rgbd_ros.streams.pose_settings import PoseSettings

Sync = Literal["auto", "none", "check", "apply"]


@dataclass(frozen=True)
class ConvertConfig(PoseSettings, FilterConfig):
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
    map_frame: str = setting("", "frame of the poses; needed with TF when it is none of the usual names")
    pose_frame: str = setting("", "frame whose pose is recorded, where the message names none or a wrong one")
    camera_frame: str = setting("", "optical frame of the camera, where the images name none or a wrong one")
    stamps: Literal["auto", "header", "received"] = setting(
        "auto",
        "which clock counts: the messages' own (header), the recorder's (received), or the messages' own, corrected "
        "where those of two topics differ by seconds or one was set on the way (auto)",
    )
    sync: Sync = setting(
        "auto",
        "estimate the offset of the image stamps from the pictures' motion and apply it: auto (only where the clocks look "
        "as if they differed), apply (where it can be observed), check (only tell), none",
    )
    image_time_offset_s: float = setting(0.0, "added to image stamps when their pose is looked up")
    depth_tolerance_s: float = setting(0.02, "largest time between an image and its depth", ge=0)
    trim_ground: bool = setting(False, "leave out what lies before take-off and after landing")
    fov_deg: float = setting(
        0.0, "horizontal field of view, for a camera without calibration; 0: unknown", ge=0, le=175
    )
    depth_kind: DepthKind = setting("metric", "relative: depth without a unit, stored as it is")
    depth_format: DepthFormat = setting("auto", "how float depth is stored; auto loses no range")
    raw_images: Literal["png", "jpeg"] = setting(
        "png", "how uncompressed images are stored; JPEG and PNG are kept as recorded"
    )
    jpeg_quality: int = setting(95, "quality of images that are encoded as JPEG, 1 to 100", ge=1, le=100)
    fix_topic: str = setting(
        "auto", "GPS (NavSatFix) that tells where the poses' origin lies on Earth; none: unknown"
    )
    datum: tuple[float, float, float] | None = setting(
        None,
        "latitude, longitude (degrees) and ellipsoid altitude (m) of the map's origin; not given: of the first "
        "recording's, from its GPS",
    )
    jobs: int = setting(
        0, "threads that check and encode images, whose number changes no byte; 0: one per core", ge=0, le=256
    )
    resume: bool = setting(False, "go on with a dataset that is there, or add a recording to it")
