"""The parameters of the render node, and the model they name."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.nodes.look_ahead_settings import LookAheadSettings
from pose2rgbd_ros.nodes.render_camera import CameraSettings
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.settings import setting

FIXED_WHILE_CONFIGURED = ("model", "device", "backend", "threads", "guard")


@dataclass
class RenderSettings:
    """Parameters of the render node; those of a part have its name in front, as in camera.width."""

    model: str = setting("", "folder of the model to render, as `pose2rgbd train` makes it")
    autostart: bool = setting(
        True, "configure and activate at once; false leaves that to a lifecycle manager", read_only=True
    )
    map_frame: str = setting("", "frame the model lives in; empty: the one it was trained in")
    camera_frame: str = setting("", "optical frame to render for; empty: the one of the training images")
    camera_info_topic: str = setting(
        "",
        "topic of the CameraInfo whose camera to render for, such as /camera/camera_info; empty: the trained camera",
    )
    trigger: Literal["rate", "tf"] = setting("rate", "render at a fixed rate, or on every new transform")
    rate_hz: float = setting(30.0, "how often to look for a new pose (trigger: rate)", ge=0.1, le=1000.0)
    republish: bool = setting(
        False, "publish the last images again when there is no newer pose (trigger: rate)"
    )
    max_tf_age_s: float = setting(1.0, "older transforms are reported as stale", ge=0.001, le=3600.0)
    device: str = setting("auto", "where the network runs: auto, cpu, cuda or cuda:N")
    backend: Literal["auto", "torch", "onnx"] = setting("auto", "what runs the network")
    threads: int = setting(0, "CPU threads of the network; 0: a sensible number", ge=0, le=256)
    guard: bool = setting(
        True,
        "depth is unknown where held-out frames do not vouch for it; false: as the model gives it, for tests",
    )
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
