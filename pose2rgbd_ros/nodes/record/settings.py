"""The parameters of the record node."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from pose2rgbd_ros.dataset.filters import FilterConfig
from pose2rgbd_ros.dataset.ingest import IngestSettings
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.poses import camera_pose
from pose2rgbd_ros.poses.settings import PoseSettings
from pose2rgbd_ros.settings import profile_setting, setting

_CAMERA_NAME = re.compile(r"[A-Za-z]\w*")


@dataclass(frozen=True)
class RecordSettings(IngestSettings, PoseSettings):
    """Parameters of the record node, and its profile."""

    PROFILE: ClassVar = "profile"
    IN_PROFILE: ClassVar = (
        # What the sensors do, and how poses are made of that.
        "max_pose_gap_s", "max_fix_gap_s", "interpolation", "altitude_reference", "fix_sigma_m", "fix_wander_s",
        "fix_wander_share", "odometry_drift", "odometry_walk_m_per_sqrt_min", "odometry_yaw_walk_deg_per_sqrt_min",
        "course_speed_mps", "course_smoothing_s",
        # The machine, and what is stored on it.
        "depth_format", "jobs", "queue_size", "bag_split_mib", "bag_queue_mib", "min_free_mib", "silence_s",
        # Which images are left out; their number and distance are parameters.
        "filters.min_height_m", "filters.max_height_m", "filters.height_above", "filters.min_speed_mps",
        "filters.min_turn_deg", "filters.min_sharpness",
    )  # fmt: skip

    out: str = setting(
        "flight_%Y-%m-%d_%H-%M-%S",
        "dataset folder to write; %Y and the like are the local time of the start, as in strftime",
    )
    session: str = setting(
        "",
        "file in which the recorder notes what it records into, to go on there when it is started again with the same "
        "file after it was killed; the launch files give one with use_respawn; empty: none",
    )
    start_recording: bool = setting(True, "record as soon as the node is active; false waits for ~/start")
    autostart: bool = setting(
        True, "configure and activate at once; false leaves that to a lifecycle manager", read_only=True
    )
    cameras: str = setting(
        "",
        "names of several cameras, with commas between: topics NAME/image and so on, a dataset NAME each inside out; "
        "empty: one camera",
    )
    image_transport: Literal["auto", "raw", "compressed"] = setting(
        "auto", "which colour images to take; auto: compressed ones where they are published"
    )
    depth: Literal["auto", "raw", "compressed", "none"] = setting(
        "auto",
        "which depth images to take; auto: raw before compressed ones, and a dataset of colour only when nobody "
        "publishes depth at the start",
    )
    camera_info: bool = setting(True, "take the calibration from camera_info; false: uncalibrated")
    stamps: Literal["header", "received"] = setting(
        "header", "which clock counts: the messages' own or that of their arrival"
    )
    sync: Literal["none", "check"] = setting(
        "none", "check: estimate during the flight how far the images' stamps are off, from optical flow and motion"
    )
    cameras_together_s: float = setting(
        0.0,
        "with several cameras: only images of all of them, stamped within this time, are taken; 0: each by itself",
        ge=0,
        le=10,
    )
    max_wait_s: float = setting(2.0, "how long an image waits for its pose and depth", ge=0.01, le=60)
    queue_size: int = setting(
        100, "images of a camera that may wait, for their pose or for the disk; more are rejected", ge=1, le=10_000
    )
    bag: Literal["none", "mcap"] = setting(
        "none", "mcap: also record everything received, as it is, into the folder OUT_bag"
    )
    bag_split_mib: int = setting(2048, "size at which the next file of the bag begins", ge=1, le=1_000_000)
    bag_queue_mib: int = setting(256, "messages of the bag that may wait for the disk; more are lost and counted", ge=1)
    min_free_mib: int = setting(500, "recording stops when less is free on the disk", ge=0)
    silence_s: float = setting(5.0, "a topic silent for this long is reported, with the likely reason", ge=0.5, le=3600)
    profile: str = profile_setting()
    filters: FilterConfig = field(default_factory=FilterConfig)

    def camera_names(self) -> list[str]:
        """The cameras; [""] for the one at the plain topics. UserError for a bad list."""
        names = self.cameras.replace(",", " ").split()
        for name in names:
            if not _CAMERA_NAME.fullmatch(name) or names.count(name) > 1:
                raise UserError(f"cameras is {self.cameras!r}; expected different names like front, down")
        if len(names) > 1 and (self.camera_frame or self.body_to_camera != "auto"):
            raise UserError("camera_frame and body_to_camera are of one camera; with several, TF must hold them")
        return names or [""]

    def check_poses(self) -> None:
        """UserError for sources of poses that exist offline only, and for numbers that are none."""
        if self.body_to_camera != "auto":
            camera_pose.parse_mount(self.body_to_camera)
        self.antenna()
        if self.orientation == "course" and self.position not in ("auto", "gps"):
            raise UserError("orientation course goes with position gps; poses bring an orientation of their own")

    def folder(self) -> Path:
        """The dataset folder of a recording that starts now. UserError for an empty name."""
        if not self.out.strip():
            raise UserError("out is empty; name the dataset folder to write")
        return Path(time.strftime(self.out)).expanduser().absolute()
