"""Base and Slice networks: encoded poses in, whole images out, compared pixel by pixel."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from pose2rgbd_ros.models.pose2rgbd import Pose2RGBD
from pose2rgbd_ros.training.config import Recipe, TrainConfig, network_config
from pose2rgbd_ros.training.data import TrainingData
from pose2rgbd_ros.training.learners.learner import Learner
from pose2rgbd_ros.training.losses import total_loss


class PoseLearner(Learner):
    """The paper's training: image loss, and cross entropy of the slices."""

    def __init__(self, config: TrainConfig, recipe: Recipe, data: TrainingData, device: torch.device) -> None:
        super().__init__()
        self._config, self._recipe, self._data, self._device = config, recipe, data, device
        self._network = network_config(config, data.dataset.has_depth)
        self.model = Pose2RGBD(self._network)
        # Channels last is the faster layout for these convolutions, on the CPU as on the GPU.
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def loss(self, network: nn.Module, indices: np.ndarray, share: float) -> Tensor:
        poses, rgb, depth = self._data.batch(indices, self._device)
        config = self._config
        return total_loss(
            network(poses),
            rgb,
            depth,
            self._network,
            self._recipe.image_loss,
            config.bce_weight,
            config.bce_reduction,
        )


def make(config: TrainConfig, recipe: Recipe, data: TrainingData, device: torch.device) -> PoseLearner:
    """See :func:`make_learner`."""
    return PoseLearner(config, recipe, data, device)
