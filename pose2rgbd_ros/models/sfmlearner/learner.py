"""View synthesis as the only teacher: Eqs. 1 to 4 of Zhou et al. (CVPR 2017), at four scales.

The images of a scale are means over its pixels, the intrinsics those of `geometry.camera.Camera.resized`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from pose2rgbd_ros.depth_from_images import rigid
from pose2rgbd_ros.depth_from_images.inverse_warp import Warped, inverse_warp
from pose2rgbd_ros.depth_from_images.photometric import (
    edge_aware_smoothness,
    intrinsics_resized,
    masked_mean,
    photometric_difference,
    pyramid,
    second_order_smoothness,
)
from pose2rgbd_ros.depth_from_images.snippets import Augmentation, SnippetBatch, SnippetData
from pose2rgbd_ros.models.sfmlearner.config import Settings, SfMLearnerConfig
from pose2rgbd_ros.models.sfmlearner.network import Motion, SfMLearner
from pose2rgbd_ros.training.config import Recipe
from pose2rgbd_ros.training.video import VideoLearner

EXPLAINABLE = 1  # channel of a mask's logits


@dataclass(frozen=True)
class Objective:
    """What is made small; the settings of the same names say more (config.py)."""

    explainability: float = 0.0
    smoothness: float = 0.5
    smooth: Literal["relative-disparity", "disparity", "depth"] = "disparity"
    smoothness_falloff: float = 2.0
    outside: Literal["black", "left-out"] = "black"
    ssim: float = 0.0

    def loss(self, disparities: list[Tensor], motion: Motion, batch: SnippetBatch) -> Tensor:
        """Eq. 4: the sum over scales and sources.

        Args:
            disparities: (B, H / 2^s, W / 2^s) of the target, of scales s = 0, 1, ..., sizes rounded up.
            motion: of the sources, which are the other images of the snippet in time order.
        """
        sources = [i for i in range(batch.images.shape[1]) if i != batch.target]
        T_src_tgt = rigid.from_euler(motion.vectors)
        total = batch.images.new_zeros(())
        for scale, (images, disparity) in enumerate(
            zip(pyramid(batch.images, len(disparities)), disparities, strict=True)
        ):
            K = intrinsics_resized(batch.K, size_of(batch.images), size_of(images))
            target, depth = images[:, batch.target], 1 / disparity
            for place, source in enumerate(sources):
                warped = inverse_warp(images[:, source], depth, T_src_tgt[:, place], K)
                logits = motion.logits[scale][:, place] if motion.logits else None
                total = total + self.photometric(target, warped, logits)
                if logits is not None:
                    total = total + self.explainability * explainability_loss(logits)
            total = total + self.smoothness / self.smoothness_falloff**scale * self.roughness(disparity, target)
        return total

    def photometric(self, target: Tensor, warped: Warped, logits: Tensor | None) -> Tensor:
        """Eq. 1, and with the mask's logits (B, 2, H, W) Eq. 3: a mean over pixels and colours."""
        black = self.outside == "black"
        image = warped.image * within(warped, size_of(target))[:, None] if black else warped.image
        error = photometric_difference(image, target, self.ssim)
        if logits is not None:
            error = error * logits.softmax(dim=1)[:, EXPLAINABLE]
        return error.mean() if black else masked_mean(error, warped.valid)

    def roughness(self, disparity: Tensor, target: Tensor) -> Tensor:
        """Of a disparity (B, H, W) of the target (B, 3, H, W)."""
        if self.smooth == "relative-disparity":  # Godard et al., "Digging into Self-Supervised ...", 2019, Eq. 3
            relative = disparity / disparity.mean(dim=(-2, -1), keepdim=True)
            return edge_aware_smoothness(relative[:, None], target)
        return second_order_smoothness(disparity if self.smooth == "disparity" else 1 / disparity)


def size_of(images: Tensor) -> tuple[int, int]:
    """Height and width of images (..., H, W)."""
    return images.shape[-2], images.shape[-1]


def within(warped: Warped, size: tuple[int, int]) -> Tensor:
    """(B, H, W) bool: what the authors' sampler does not show black: from pixel 0 to before the last row and column."""
    u, v = warped.pixels.unbind(-1)
    return warped.valid & (u >= 0) & (v >= 0) & (u < size[1] - 1) & (v < size[0] - 1)


def explainability_loss(logits: Tensor) -> Tensor:
    """Cross-entropy of masks (B, 2, H, W) to "all can be explained", so that not to explain has a price."""
    return -logits.log_softmax(dim=1)[:, EXPLAINABLE].mean()


class SfMLearnerLearner(VideoLearner):
    """Depth and motion of snippets, trained together."""

    model: SfMLearner

    def __init__(self, config: Settings, data: SnippetData, device: torch.device) -> None:
        filled = config.filled
        super().__init__(config, data, device, Augmentation(flip=filled["flip"]))
        self._objective = Objective(**{name: filled[name] for name in vars(Objective())})
        self.model = SfMLearner(
            SfMLearnerConfig(
                image_size=data.size,
                frames=data.frames,
                width=filled["width"],
                batch_norm=filled["batch_norm"],
                explains=filled["explainability"] > 0,
            )
        )

    def loss(self, network: nn.Module, indices: np.ndarray, share: float) -> Tensor:
        batch = self.batch(indices)
        disparities, motion = network(batch.images)
        return self._objective.loss(disparities, motion, batch)


def make(config: Settings, recipe: Recipe, data: Any, device: torch.device) -> SfMLearnerLearner:
    """The learner of a run."""
    return SfMLearnerLearner(config, data, device)
