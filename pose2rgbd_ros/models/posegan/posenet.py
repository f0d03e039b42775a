"""PoseNet: a regressor of poses, after Kendall et al., "PoseNet: A Convolutional Network for Real-Time 6-DOF Camera
Relocalization" (2015), on PoseGAN's trunk or a ResNet."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.models.pose_model import PoseEstimates
from pose2rgbd_ros.models.posegan.blocks import Linear
from pose2rgbd_ros.models.posegan.config import PoseNetConfig
from pose2rgbd_ros.models.posegan.discriminator import Trunk
from pose2rgbd_ros.models.posegan.network import PoseFinder, decoded
from pose2rgbd_ros.models.posegan.resnet import ResNet


class Regressor(nn.Module):
    """Trunk and linear layer."""

    def __init__(self, config: PoseNetConfig) -> None:
        super().__init__()
        if config.trunk == "posegan":
            self.trunk: Trunk | ResNet = Trunk(
                3, config.size, config.blocks, config.width, config.pool, config.spectral, config.gain
            )
        else:
            self.trunk = ResNet(config.trunk, config.width)
        self.pose = Linear(self.trunk.features, config.pose_dim, config.spectral)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(image)
        return self.pose(features), features


class PoseNet(PoseFinder):
    """A trunk and a linear layer: a PoseModel. With `spectral` it is PoseGAN's discriminator without varphi (config A)."""

    def __init__(self, config: PoseNetConfig) -> None:
        super().__init__()
        self.config = config
        self.image_size = config.size
        self.regressor = Regressor(config)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, S, S) in [-1, 1] -> encoded poses (B, P), features (B, F)."""
        found: tuple[Tensor, Tensor] = self.regressor(image)
        return found

    def poses(self, rgb: Tensor, normalization: Normalization) -> PoseEstimates:
        """See :class:`PoseModel`."""
        pose, features = self._plain.of(self.regressor)(rgb * 2 - 1)
        return PoseEstimates(decoded(pose, normalization), features.float(), None)
