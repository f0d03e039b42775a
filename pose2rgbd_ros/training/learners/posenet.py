"""Regressors of poses: PoseNet, and config A of the PoseGAN paper, its discriminator with nobody to play against."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pose2rgbd_ros.models.posegan.config import POSENETS, PoseNetConfig, blocks_of
from pose2rgbd_ros.models.posegan.posenet import PoseNet
from pose2rgbd_ros.training.config import Recipe, TrainConfig, posegan_settings
from pose2rgbd_ros.training.crops import Crops
from pose2rgbd_ros.training.data import TrainingData
from pose2rgbd_ros.training.judges import Judge, PoseJudge
from pose2rgbd_ros.training.learners.learner import Learner
from pose2rgbd_ros.training.learners.posegan import BETAS, pose_scale


class PoseNetLearner(Learner):
    """Error of the encoded pose: config A by the norm of Eq. 6's first term, PoseNet by Kendall's sum of two norms."""

    model: PoseNet
    steps: Tensor

    def __init__(self, config: TrainConfig, data: TrainingData, device: torch.device) -> None:
        super().__init__()
        self._data, self._device = data, device
        self._is_config_a = config.model == "posegan-a"
        self._crops = Crops(data, device, config.seed, config.posegan.crop == "random")
        self.model = PoseNet(posenet_config(config, data))
        self._scale = pose_scale(config.posegan, data).to(device)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def judge(self, data: TrainingData, device: torch.device) -> Judge:
        return PoseJudge(data, device)

    def parameter_groups(self, recipe: Recipe) -> list[dict[str, Any]]:
        """Config A has the paper's Adam."""
        group: dict[str, Any] = {"params": list(self.parameters())}
        return [{**group, "betas": BETAS} if self._is_config_a else group]

    def loss(self, network: nn.Module, indices: np.ndarray, share: float) -> Tensor:
        """See :class:`Learner`."""
        image, _ = self._crops.images(indices, int(self.steps))
        found, _ = network(image)
        error = (found - self._data.poses[indices].to(self._device)) * self._scale
        parts = (error,) if self._is_config_a else (error[:, :3], error[:, 3:])
        return torch.stack([torch.linalg.vector_norm(part, dim=1).mean() for part in parts]).sum()

    def after_step(self) -> None:
        self.steps += 1


def posenet_config(config: TrainConfig, data: TrainingData) -> PoseNetConfig:
    """The network of a run."""
    is_config_a, chosen = config.model == "posegan-a", posegan_settings(config)
    assert chosen.gain is not None
    return PoseNetConfig(
        trunk="posegan" if is_config_a else chosen.trunk or POSENETS[config.model],
        spectral=is_config_a,
        pose_dim=data.normalization.pose_dim,
        size=config.size,  # type: ignore[arg-type]
        width=chosen.width,
        blocks=blocks_of(chosen, config.size),
        pool=chosen.pool,
        gain=chosen.gain,
    )


def make(config: TrainConfig, recipe: Recipe, data: TrainingData, device: torch.device) -> PoseNetLearner:
    """See :func:`make_learner`."""
    return PoseNetLearner(config, data, device)
