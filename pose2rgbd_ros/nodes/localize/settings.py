"""The parameters of the localize node."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pose2rgbd_ros.localization.change import ChangeSettings
from pose2rgbd_ros.localization.map_correction import CorrectionSettings
from pose2rgbd_ros.localization.refine import RefineSettings
from pose2rgbd_ros.settings import profile_setting, setting

FIXED_WHILE_CONFIGURED = ("model", "renderer", "refine", "device", "threads", "profile")
FIXED_WHILE_ACTIVE = (
    "image_transport", "body_frame", "map_frame", "odom_frame", "send_tf", "odometry", "tf_rate_hz",
)  # fmt: skip


@dataclass
class LocalizeSettings:
    """Parameters of the localize node, and its profile; those of a part have its name in front: correction.gate."""

    PROFILE: ClassVar = "profile"
    IN_PROFILE: ClassVar = (
        "refinement", "correction.agreeing", "correction.memory_s", "correction.sigma_m", "correction.sigma_deg",
        "correction.drift", "correction.walk_m_per_sqrt_s", "correction.turn_deg_per_sqrt_s", "change.edge",
        "change.least_levels", "change.tolerance_px", "change.smoothing_px", "change.least_area_px", "change.align_px",
    )  # fmt: skip

    model: str = setting("", "folder of the network that finds poses, as `pose2rgbd train` makes it")
    renderer: str = setting(
        "",
        "folder of a renderer of the same place, for refinement and change images; empty: pictures by the network "
        "itself where it draws any, no refinement",
    )
    refine: bool = setting(True, "correct and verify each pose by rendering it (needs renderer)")
    autostart: bool = setting(
        True, "configure and activate at once; false leaves that to a lifecycle manager", read_only=True
    )
    image_transport: Literal["auto", "raw", "compressed"] = setting(
        "auto", "raw: topic image; compressed: image/compressed; auto: raw where it is published, else compressed"
    )
    map_frame: str = setting("", "frame the poses are in; empty: the one of training")
    body_frame: str = setting(
        "", "frame whose pose is published, x forward, y left, z up, connected to the camera by TF; empty: the camera"
    )
    send_tf: bool = setting(False, "send map -> odom (REP-105); needs odometry and, of a body, TF to the camera")
    odom_frame: str = setting("odom", "frame of the odometry (send_tf)")
    odometry: Literal["tf", "topic"] = setting(
        "tf", "where odom -> camera comes from: TF, or the topic odometry and TF from its child frame"
    )
    tf_rate_hz: float = setting(20.0, "how often map -> odom is sent", ge=0.1, le=1000.0)
    tf_ahead_s: float = setting(
        0.1, "map -> odom is stamped this far ahead, so that it is there when asked for", ge=0.0, le=10.0
    )
    max_wait_s: float = setting(0.5, "how long a pose waits for its transforms or odometry", ge=0.0, le=60.0)
    max_image_age_s: float = setting(
        2.0, "older images are reported; they are localized all the same", ge=0.01, le=3600.0
    )
    px4_frame: Literal["ned", "frd"] = setting(
        "ned", "what map is to PX4: ned for x east, y north; frd for any heading"
    )
    change_width: int = setting(
        0, "width of change and reference images in pixels; 0: the camera's, at most 640", ge=0, le=8192
    )
    device: str = setting("auto", "where the network runs: auto, cpu, cuda or cuda:N")
    threads: int = setting(0, "CPU threads of the network; 0: half the cores, four at most", ge=0, le=256)
    profile: str = profile_setting()
    refinement: RefineSettings = field(default_factory=RefineSettings)
    correction: CorrectionSettings = field(default_factory=CorrectionSettings)
    change: ChangeSettings = field(default_factory=ChangeSettings)
