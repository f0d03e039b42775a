"""How each family of networks learns: the one thing about them the training loop does not know.

A family has a file here; :func:`make_learner` picks it by the model's name.
"""

from __future__ import annotations

import importlib

import torch

from pose2rgbd_ros.training.config import Recipe, TrainConfig, family_of
from pose2rgbd_ros.training.data import TrainingData
from pose2rgbd_ros.training.learners.learner import Learner

# family -> module, imported when it is needed: its `make(config, recipe, data, device)` returns the learner.
FAMILIES = ("pose2rgbd", "relief", "warp", "gsplat", "posegan", "posenet")


def make_learner(
    config: TrainConfig, recipe: Recipe, data: TrainingData, device: torch.device | None = None
) -> Learner:
    """The learner of a run, its weights drawn from PyTorch's generator as it stands.

    Args:
        device: where it will train; what a learner computes in advance from the data is computed there.

    Raises:
        UserError: a model that cannot be trained on this data, or not on this machine.
    """
    family = family_of(config.model)
    assert family in FAMILIES
    module = importlib.import_module(f"{__name__}.{family}")
    learner: Learner = module.make(config, recipe, data, device or torch.device("cpu"))
    return learner
