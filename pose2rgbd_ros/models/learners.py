"""How each family of networks learns: the one thing about them the training loop does not know.

A family has a file; :func:`make_learner` picks it by the model's name.
"""

from __future__ import annotations

import importlib

import torch

from pose2rgbd_ros.training.config import Recipe, TrainConfig, family_of
from pose2rgbd_ros.training.data import TrainingData
from pose2rgbd_ros.training.learner import Learner

# family -> "module:function", imported when it is needed: `function(config, recipe, data, device)` returns the learner.
FAMILIES = {
    "pose2rgbd": "pose2rgbd_ros.models.pose2rgbd.learner:make",
    "relief": "pose2rgbd_ros.models.relief.tile_learner:make",
    "warp": "pose2rgbd_ros.models.warp.learner:make",
    "gsplat": "pose2rgbd_ros.models.gsplat.learner:make",
    "posegan": "pose2rgbd_ros.models.posegan.learner:make_posegan",
    "posenet": "pose2rgbd_ros.models.posegan.learner:make_posenet",
}


def make_learner(
    config: TrainConfig, recipe: Recipe, data: TrainingData, device: torch.device | None = None
) -> Learner:
    """The learner of a run, its weights drawn from PyTorch's generator as it stands.

    Args:
        device: where it will train; what a learner computes in advance from the data is computed there.

    Raises:
        UserError: a model that cannot be trained on this data, or not on this machine.
    """
    module, _, function = FAMILIES[family_of(config.model)].partition(":")
    make = getattr(importlib.import_module(module), function)
    learner: Learner = make(config, recipe, data, device or torch.device("cpu"))
    return learner
