"""The parameters of the render node's look-ahead."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.nodes.render.camera import CameraSettings
from pose2rgbd_ros.obstacles.paths import Facing, ProfileSettings
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.settings import profile_setting, setting


@dataclass
class LookAheadSettings:
    """What is looked at ahead of the body; `facing`, `body_frame` and what follows hold for ~/render_path too."""

    mode: Literal["none", "path", "twist"] = setting(
        "none", "look along ~/path, or as far as the twist in ~/odometry carries"
    )
    rate_hz: float = setting(2.0, "how often to look ahead, as far as rendering keeps up", ge=0.01, le=100.0)
    poses: int = setting(16, "how many poses to look at", ge=1, le=256)
    spacing_m: float = setting(
        2.0, "distance between the poses along the path; 0: the path's own poses", ge=0.0, le=1000.0
    )
    horizon_s: float = setting(4.0, "how long the twist is carried on", ge=0.1, le=600.0)
    radius_m: float = setting(1.0, "radius of the body, for conflicts and free distances", ge=0.05, le=50.0)
    with_rgb: bool = setting(False, "publish colour too")
    width: int = setting(
        0,
        "width of the images in pixels, smaller is quicker; 0: as published. Of models of geometry alone: the others "
        "render at one size",
        ge=0,
        le=8192,
    )
    body_frame: str = setting("base_link", "frame whose poses a path holds")
    facing: Facing = setting(
        "auto",
        "which way the body looks along a path: as its poses say, along the path, or auto: along the path where no "
        "pose has an orientation",
    )
    range_m: float = setting(100.0, "largest free distance that is reported", ge=1.0, le=10000.0)
    near_m: float = setting(
        10.0,
        "a ray of unknown depth that leaves the body's way nearer than this does not make the free distance unknown",
        ge=0.1,
        le=100.0,
    )
    unknown_share: float = setting(
        0.0,
        "of the other rays in the body's way, how many may be unknown beside something known that ends it; 0 is the "
        "safe one",
        ge=0.0,
        le=1.0,
    )
    min_known: float = setting(0.5, "share of a view that must be known, or its clearance is unknown", ge=0.01, le=1.0)
    merged_views: int = setting(
        4, "surfaces in the views of this many poses before and after count for a pose too", ge=0, le=64
    )
    uncalibrated_margin: float = setting(
        0.0,
        "share of the depth that is taken off to bound it, where the model has no calibration; 0: all is unknown then",
        ge=0.0,
        le=0.95,
    )
    chunk_ms: float = setting(
        25.0, "how long poses are rendered at a time, so that live images wait no longer", ge=1.0, le=1000.0
    )

    def profile(self, radius_m: float = 0.0) -> ProfileSettings:
        """Of the profile, for a body of another radius where one is given."""
        return ProfileSettings(
            radius_m or self.radius_m, self.range_m, self.near_m, self.min_known, self.merged_views, self.unknown_share
        )


# The parameters of the render node, and the model they name.


FIXED_WHILE_CONFIGURED = ("model", "device", "backend", "threads", "profile")


@dataclass
class RenderSettings:
    """Parameters of the render node, and its profile; those of a part have its name in front, as in camera.width."""

    PROFILE: ClassVar = "profile"
    IN_PROFILE: ClassVar = (
        "guard", "camera.fx", "camera.fy", "camera.cx", "camera.cy", "camera.distortion_model", "camera.distortion",
        "look_ahead.facing", "look_ahead.range_m", "look_ahead.near_m", "look_ahead.unknown_share",
        "look_ahead.min_known", "look_ahead.merged_views", "look_ahead.chunk_ms",
    )  # fmt: skip

    model: str = setting("", "folder of the model to render, as `pose2rgbd train` makes it")
    autostart: bool = setting(
        True, "configure and activate at once; false leaves that to a lifecycle manager", read_only=True
    )
    map_frame: str = setting("", "frame the model lives in; empty: the one it was trained in")
    camera_frame: str = setting("", "optical frame to render for; empty: the one of the training images")
    camera_info_topic: str = setting(
        "", "topic of the CameraInfo whose camera to render for, such as /camera/camera_info; empty: the trained camera"
    )
    trigger: Literal["rate", "tf"] = setting("rate", "render at a fixed rate, or on every new transform")
    rate_hz: float = setting(30.0, "how often to look for a new pose (trigger: rate)", ge=0.1, le=1000.0)
    republish: bool = setting(False, "publish the last images again when there is no newer pose (trigger: rate)")
    jpeg_quality: int = setting(80, "of ~/rgb/image/compressed", ge=1, le=100)
    max_tf_age_s: float = setting(1.0, "older transforms are reported as stale", ge=0.001, le=3600.0)
    device: str = setting("auto", "where the network runs: auto, cpu, cuda or cuda:N")
    backend: Literal["auto", "torch", "onnx"] = setting("auto", "what runs the network")
    threads: int = setting(0, "CPU threads of the network; 0: a sensible number", ge=0, le=256)
    guard: bool = setting(
        True, "depth is unknown where held-out frames do not vouch for it; false: as the model gives it, for tests"
    )
    profile: str = profile_setting()
    camera: CameraSettings = field(default_factory=CameraSettings)
    look_ahead: LookAheadSettings = field(default_factory=LookAheadSettings)


def load_renderer(settings: RenderSettings) -> Renderer:
    """The model of these settings. UserError says why there is none."""
    if not settings.model:
        raise UserError("no model given; set the parameter model to a folder made by pose2rgbd train")
    model = Path(settings.model).expanduser()
    return Renderer(model, settings.device, settings.backend, settings.threads or None, guard=settings.guard)


def trust_of(renderer: Renderer) -> str:
    """Whether depth has bounds, in a few words."""
    if renderer.depth_kind != "metric":
        return "no metric depth"
    if renderer.calibration is None:
        return "depth is not calibrated: no bounds (pose2rgbd calibrate)"
    return f"depth has bounds that hold {renderer.calibration.level:.0%}"


def model_name(model: Path) -> str:
    """What a model is called in messages: its folder, or that of the run around it."""
    folder = model.expanduser().resolve()
    return folder.parent.name if folder.name == "checkpoint" else folder.name
