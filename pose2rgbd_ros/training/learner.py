"""What the training loop asks of a family of networks."""

from __future__ import annotations

import os
from abc import ABC
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.training.config import Recipe
from pose2rgbd_ros.training.evaluators import Evaluator, PictureEvaluator


class Learner(nn.Module, ABC):
    """A network and whatever is learnt beside it.

    Attributes:
        model: the network (a RenderModel, a PoseModel or a VideoModel) whose state becomes the checkpoint's. Anything
            else in this module (exposures, corrections of poses) is trained and resumed with it, and left behind at
            the end.
        trains: False when there is nothing to optimise; the run then ends at once.
    """

    model: nn.Module
    trains: bool = True

    def parameter_groups(self, recipe: Recipe) -> list[dict[str, Any]]:
        """AdamW's groups. "factor" multiplies the run's learning rate; "weight_decay" may overrule the recipe's."""
        return [{"params": list(self.parameters())}]

    def losses(self, network: nn.Module, indices: np.ndarray, share: float) -> Iterator[Tensor]:
        """Losses of one step, which the optimiser follows one after the other: most learners have one.

        It moves only what has a gradient, so that players of a game who freeze each other move in turn. The arguments
        are those of :meth:`loss`.
        """
        yield self.loss(network, indices, share)

    def loss(self, network: nn.Module, indices: np.ndarray, share: float) -> Tensor:
        """Loss of one step; a learner has this or :meth:`losses`.

        Args:
            network: `model` as the loop wrapped it for its device and its processes; call this one forward.
            indices: frames of this process's batch.
            share: how much of the run is done, 0..1.
        """
        raise NotImplementedError

    def judge(self, data: Any, device: torch.device) -> Evaluator:
        """What the run is judged by on held-out frames of its data, a TrainingData or VideoData."""
        return PictureEvaluator(data, device)

    def schedule_share(self, share: float) -> float:
        """How much of the learning rate's schedule is done at `share` of the run; with parts it begins anew."""
        return share

    def optimized_by(self, optimizer: torch.optim.Optimizer) -> None:
        """Called once, with the optimiser of the parameter groups: for a learner that rearranges what has moments."""

    def after_step(self) -> None:
        """Called when the optimiser has moved; most learners have nothing to do."""

    def measures(self) -> dict[str, float]:
        """What a validation writes into the log beside the scores; it leaves the training as it is."""
        return {}

    def candidates(self, model: nn.Module) -> list[nn.Module]:
        """What may be kept at the end, the least error on the frames that choose deciding: `model`, the network with
        the kept weights, and simpler ones made of it; of equals the first."""
        return [model]

    def provenance(self) -> dict[str, Any]:
        """What the checkpoint should say of the training beyond settings and effort, ready for YAML."""
        return {}


def require_one_process(option: str) -> None:
    """UserError under torchrun: DDP keeps the network equal on all processes, but not what is learnt beside it."""
    if in_several_processes():
        raise UserError(f"{option} trains on one process; start it without torchrun, or leave it out")


def in_several_processes() -> bool:
    """Whether torchrun started more than one of these."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1
