"""TrianFlow and the baselines that have a PoseNet in place of its geometry, as networks of depth and motion."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pose2rgbd_ros.depth_from_images import rigid
from pose2rgbd_ros.depth_from_images.odometry import Flow, OdometrySettings, relative_motion
from pose2rgbd_ros.depth_from_images.optical_flow import consistent, seen_in_both
from pose2rgbd_ros.depth_from_images.snippets import target_of
from pose2rgbd_ros.models.trianflow.config import PoseNetVideoConfig, TrianFlowConfig
from pose2rgbd_ros.models.trianflow.depth_network import DepthNetwork, PoseNetwork
from pose2rgbd_ros.models.trianflow.flow_network import FlowNetwork

SEEN = 0.5  # of the occlusion mask, below which a pixel gives no match


class PairOutputs(NamedTuple):
    """What a network makes of B pairs of images; None: not asked for, or not there.

    flows_1_2, flows_2_1: (B, 2, H, W) and at 1/2, 1/4 and 1/8 of the size, each in its own pixels.
    disparity_1, disparity_2: (B, H, W), inverse depth.
    T_2_1: (B, 4, 4), takes points of the first camera to the second; of baselines.
    """

    flows_1_2: list[Tensor] | None = None
    flows_2_1: list[Tensor] | None = None
    disparity_1: Tensor | None = None
    disparity_2: Tensor | None = None
    T_2_1: Tensor | None = None


class PairNetwork(nn.Module):
    """What TrianFlow and its baselines have in common: a depth network, and most of them a flow network."""

    depth_network: DepthNetwork
    flow: FlowNetwork | None

    def __init__(self, config: TrianFlowConfig | PoseNetVideoConfig) -> None:
        super().__init__()
        self.config = config
        self.image_size = config.image_size

    def depth(self, images: Tensor) -> Tensor:
        """See :class:`~pose2rgbd_ros.training.families.VideoModel`."""
        return 1 / self.depth_network(images)

    def flows(self, images_1: Tensor, images_2: Tensor, learns: bool = False) -> tuple[list[Tensor], list[Tensor]]:
        """Flow both ways, with gradients only if it `learns`; see :class:`FlowNetwork`."""
        assert self.flow is not None
        with torch.set_grad_enabled(learns and torch.is_grad_enabled()):
            return self.flow.both_ways(images_1, images_2)

    def disparities(self, images_1: Tensor, images_2: Tensor) -> tuple[Tensor, Tensor]:
        """Of both images of each pair, which a batch normalisation sees together."""
        first, second = self.depth_network(torch.cat([images_1, images_2])).chunk(2)
        return first, second


class TrianFlow(PairNetwork):
    """Flow network and depth network; the camera's motion follows from flow by geometry (Zhao et al., 2020)."""

    def __init__(self, config: TrianFlowConfig) -> None:
        super().__init__(config)
        self.flow = FlowNetwork(config.width, config.centred)
        self.depth_network = DepthNetwork(config.width, config.nearest, config.farthest)

    def forward(self, images_1: Tensor, images_2: Tensor, stage: str = "joint") -> PairOutputs:
        """What a stage of the training needs: "flow", "depth" (flow has no gradient) or "joint"."""
        flows = self.flows(images_1, images_2, learns=stage != "depth")
        return PairOutputs(*flows, *(self.disparities(images_1, images_2) if stage != "flow" else (None, None)))

    def motion(self, images_1: Tensor, images_2: Tensor, K: Tensor) -> Tensor:
        """T_1_2 (B, 4, 4): the essential matrix of the flow, its length from depth; PnP where flow is small."""
        (there, *_), (back, *_) = self.flows(images_1, images_2)
        seen = (seen_in_both(back) > SEEN) & consistent(there, back)
        depths = (self.depth(each).cpu().numpy() for each in (images_1, images_2))
        parts = (there.movedim(1, -1), back.movedim(1, -1), seen, K.double())
        settings = OdometrySettings()
        found = [
            relative_motion(Flow(forward, backward, valid), camera, settings, *each).T_first_second
            for forward, backward, valid, camera, *each in zip(
                *(part.cpu().numpy() for part in parts), *depths, strict=True
            )
        ]
        return torch.from_numpy(np.stack(found)).to(images_1)

    @torch.no_grad()
    def motions(self, images: Tensor, K: Tensor) -> Tensor:
        """See :class:`~pose2rgbd_ros.training.families.VideoModel`. No gradients; the geometry runs on the CPU."""
        return motions_of_pairs(images, lambda one, two: self.motion(one, two, K))


def motions_of_pairs(images: Tensor, motion: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """T_tgt_i (B, N, 4, 4) of snippets (B, N, 3, H, W) by the motion T_1_2 of pairs: of the target and each other."""
    frames = images.shape[1]
    target = target_of(frames)
    identity = torch.eye(4, dtype=images.dtype, device=images.device).expand(len(images), 4, 4)
    pairs = [motion(images[:, target], images[:, i]) if i != target else identity for i in range(frames)]
    return torch.stack(pairs, dim=1)


class PoseNetVideo(PairNetwork):
    """TrianFlow's depth network beside a PoseNet on the image pair or on its flow (supplement, section C)."""

    def __init__(self, config: PoseNetVideoConfig) -> None:
        super().__init__(config)
        self.flow = FlowNetwork(config.width, config.centred) if config.sees == "flow" else None
        self.depth_network = DepthNetwork(config.width, config.nearest, config.farthest)
        self.pose_network = PoseNetwork(2 if config.sees == "flow" else 6, config.width)

    def forward(self, images_1: Tensor, images_2: Tensor, stage: str = "depth") -> PairOutputs:
        """What a stage needs: "flow" (posenet-flow only), or "depth", in which flow has no gradient."""
        if stage == "flow":
            return PairOutputs(*self.flows(images_1, images_2, learns=True))
        disparities = self.disparities(images_1, images_2)
        return PairOutputs(None, None, *disparities, self.motion(images_1, images_2))

    def motion(self, images_1: Tensor, images_2: Tensor) -> Tensor:
        """T_2_1 (B, 4, 4)."""
        if self.flow is None:
            return rigid.from_euler(self.pose_network(torch.cat([images_1, images_2], dim=1)))
        with torch.no_grad():
            flow = self.flow(images_1, images_2)[0]
        size = flow.new_tensor([flow.shape[-1], flow.shape[-2]])[:, None, None]
        return rigid.from_euler(self.pose_network(flow / size))

    def motions(self, images: Tensor, K: Tensor) -> Tensor:
        """See :class:`~pose2rgbd_ros.training.families.VideoModel`. K is not looked at."""
        return motions_of_pairs(images, lambda one, two: rigid.inverse(self.motion(one, two)))


NETWORKS = {"trianflow": (TrianFlowConfig, TrianFlow), "posenet-video": (PoseNetVideoConfig, PoseNetVideo)}
