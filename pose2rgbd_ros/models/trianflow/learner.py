"""How TrianFlow learns, in stages: flow from images, depth from triangulated flow, both together; and its baselines."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pose2rgbd_ros.depth_from_images.epipolar import EpipolarSettings
from pose2rgbd_ros.depth_from_images.snippets import SnippetData
from pose2rgbd_ros.models.trianflow.config import (
    JOINT_FROM,
    DepthWeights,
    PoseNetVideoConfig,
    PoseNetWeights,
    Settings,
    Stage,
    TrianFlowConfig,
)
from pose2rgbd_ros.models.trianflow.evaluator import StagedEvaluator
from pose2rgbd_ros.models.trianflow.losses import (
    DepthLosses,
    PoseNetLosses,
    depth_losses,
    flow_loss,
    posenet_losses,
    weighted,
)
from pose2rgbd_ros.models.trianflow.network import PoseNetVideo, TrianFlow
from pose2rgbd_ros.training.config import Recipe
from pose2rgbd_ros.training.evaluators import Evaluator
from pose2rgbd_ros.training.video import VideoData, VideoLearner


class PairLearner(VideoLearner):
    """Pairs of images, through the stages of a run. A network that a stage does not move has no gradient in it."""

    model: TrianFlow | PoseNetVideo
    stage_number: Tensor

    def __init__(self, config: Settings, data: SnippetData, device: torch.device) -> None:
        super().__init__(config, data, device)
        self._chosen, self._losses = config, config.filled
        self._two_views = EpipolarSettings(**vars(self._losses.two_views))
        layers = (config.width, data.size, config.is_centred)
        if config.model == "trianflow":
            self.model = TrianFlow(TrianFlowConfig(*layers))
        else:
            self.model = PoseNetVideo(
                PoseNetVideoConfig(*layers, sees="flow" if config.model == "posenet-flow" else "images")
            )
        self.register_buffer("stage_number", torch.zeros((), dtype=torch.int64))
        self._latest: dict[str, Tensor] = {}

    @property
    def stage(self) -> Stage:
        """The stage of the latest step, also in a run that goes on."""
        return list(self._chosen.shares)[int(self.stage_number)]

    def stage_at(self, share: float) -> tuple[Stage, float]:
        """The stage at a share of the run, and how much of the stage is done."""
        start = 0.0
        for stage, part in self._chosen.shares.items():
            if share < start + part:
                return stage, (share - start) / part
            start += part
        return stage, 1.0

    def schedule_share(self, share: float) -> float:
        """Each stage has the learning rate's schedule to itself; of ours the last one only its end."""
        stage, done = self.stage_at(share)
        if stage == "joint" and self._chosen.recipe == "default" and self._chosen.stage == "all":
            return JOINT_FROM + (1 - JOINT_FROM) * done
        return done

    def parameter_groups(self, recipe: Recipe) -> list[dict[str, Any]]:
        """Depth has a rate of its own: a loss that knows no scale lets it run into the ends of its range."""
        depth = {id(parameter) for parameter in self.model.depth_network.parameters()}
        factors = (1.0, self._chosen.depth_factor)
        groups: list[dict[str, Any]] = [{"params": [], "factor": factor} for factor in factors]
        for parameter in self.parameters():
            groups[id(parameter) in depth]["params"].append(parameter)
        return [group for group in groups if group["params"]]

    def loss(self, network: nn.Module, indices: np.ndarray, share: float) -> Tensor:
        """See :class:`Learner`."""
        stage, done = self.stage_at(share)
        self.stage_number.fill_(list(self._chosen.shares).index(stage))
        images, K, *_ = self.batch(indices)
        one, two = images.unbind(1)
        outputs = network(one, two, stage)
        loss, self._latest = one.new_zeros(()), {}
        if outputs.flows_1_2 is not None and stage != "depth":
            masks_from = self._losses.flow.masks_from
            assert masks_from is not None
            loss = flow_loss(one, two, outputs, self._losses.flow, stage != "flow" or done >= masks_from)
            self._latest["flow"] = loss.detach()
        if stage == "flow":
            return loss
        if outputs.T_2_1 is not None:
            losses: DepthLosses | PoseNetLosses = posenet_losses(outputs, one, two, K)
            weights: DepthWeights | PoseNetWeights = self._losses.posenet
        else:
            losses = depth_losses(outputs, one, two, K, self._two_views, self._chosen.align)
            weights = self._losses.depth if stage == "depth" else self._losses.joint
        self._latest |= {name: value.detach() for name, value in losses._asdict().items()}
        return loss + weighted(losses, weights)

    def measures(self) -> dict[str, float]:
        """The losses of the latest batch, without their weights; NaN where the stage has none."""
        of_depth = DepthLosses if self._chosen.model == "trianflow" else PoseNetLosses
        names = ("flow", *of_depth._fields)
        return {f"loss_{name}": float(self._latest.get(name, float("nan"))) for name in names}

    def judge(self, data: VideoData, device: torch.device) -> Evaluator:
        return StagedEvaluator(data, device, lambda: self.stage, self._two_views)


def make(config: Settings, recipe: Recipe, data: SnippetData, device: torch.device) -> PairLearner:
    """See training/families.py."""
    return PairLearner(config, data, device)
