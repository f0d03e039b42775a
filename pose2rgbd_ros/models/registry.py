"""Networks by name: what a checkpoint's `architecture` mapping says is what gets built."""

from __future__ import annotations

from typing import Any

from torch import nn

from pose2rgbd_ros import settings
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.models.gsplat.network import GsplatConfig, GsplatModel
from pose2rgbd_ros.models.pose2rgbd.network import Pose2RGBD, Pose2RGBDConfig
from pose2rgbd_ros.models.posegan.config import PoseGANConfig, PoseNetConfig
from pose2rgbd_ros.models.posegan.network import PoseGAN, PoseNet
from pose2rgbd_ros.models.relief.config import ReliefConfig
from pose2rgbd_ros.models.relief.network import Relief
from pose2rgbd_ros.models.relief.tiles import TiledRelief, TiledReliefConfig
from pose2rgbd_ros.models.warp.network import WarpConfig, WarpModel

# name -> (configuration dataclass, network class taking it). A network keeps its configuration as `.config`.
NETWORKS: dict[str, tuple[type, type[nn.Module]]] = {
    "pose2rgbd": (Pose2RGBDConfig, Pose2RGBD),
    "relief": (ReliefConfig, Relief),
    "relief-tiles": (TiledReliefConfig, TiledRelief),
    "warp": (WarpConfig, WarpModel),
    "gsplat": (GsplatConfig, GsplatModel),
    "posegan": (PoseGANConfig, PoseGAN),
    "posenet": (PoseNetConfig, PoseNet),
}


def build_model(architecture: dict[str, Any]) -> nn.Module:
    """Network of an architecture mapping ``{"network": name, **configuration}``.

    Raises:
        UserError: unknown network, unknown or out-of-bounds settings.
    """
    if not isinstance(architecture, dict) or "network" not in architecture:
        raise UserError("the architecture names no network; is this a pose2rgbd model?")
    values = dict(architecture)
    name = values.pop("network")
    if name not in NETWORKS:
        raise UserError(f"unknown network {name!r}; known: {', '.join(NETWORKS)} (a newer pose2rgbd may know it)")
    config_class, network = NETWORKS[name]
    return network(settings.from_yaml_dict(config_class, values, where=f"architecture of {name}"))


def architecture_of(model: nn.Module) -> dict[str, Any]:
    """The mapping from which :func:`build_model` makes this network again (without its weights)."""
    for name, (_, network) in NETWORKS.items():
        if isinstance(model, network):
            config: Any = model.config
            return {"network": name, **vars(config)}
    raise UserError(f"{type(model).__name__} is not a registered network")
