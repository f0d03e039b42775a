"""View synthesis as the only teacher: Eqs. 1 to 4 of Zhou et al. (CVPR 2017), at four scales.

The images of a scale are means over its pixels, the intrinsics those of `geometry.camera.Camera.resized`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pose2rgbd_ros.depth_from_images.inverse_warp import Warped, inverse_warp
from pose2rgbd_ros.depth_from_images.snippets import Augmentation, SnippetBatch, SnippetData
from pose2rgbd_ros.models.sfmlearner.config import Settings, SfMLearnerConfig
from pose2rgbd_ros.models.sfmlearner.network import Motion, SfMLearner, transforms
from pose2rgbd_ros.training.config import Recipe
from pose2rgbd_ros.training.learner import Learner

EXPLAINABLE = 1  # channel of a mask's logits
C1, C2 = 0.01**2, 0.03**2  # of structural similarity


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
            disparities: (B, H / 2^s, W / 2^s) of the target, of scales s = 0, 1, ...
            motion: of the sources, which are the other images of the snippet in time order.
        """
        batch_size, count = len(batch.images), batch.images.shape[1] - 1
        sources = [i for i in range(count + 1) if i != batch.target]
        T_src_tgt = transforms(motion.vectors)
        total = batch.images.new_zeros(())
        for scale, disparity in enumerate(disparities):
            size = disparity.shape[-2:]
            images = resized(batch.images.flatten(0, 1), size).unflatten(0, (batch_size, count + 1))
            K = intrinsics_of(batch.K, batch.images.shape[-2:], size)
            target, depth = images[:, batch.target], 1 / disparity
            for place, source in enumerate(sources):
                warped = inverse_warp(images[:, source], depth, T_src_tgt[:, place], K)
                logits = motion.logits[scale][:, place] if motion.logits else None
                total = total + self.photometric(target, warped, logits)
                if logits is not None:
                    total = total + self.explainability * explainability_loss(logits)
            if self.smooth == "relative-disparity":
                rough = edge_aware_smoothness(disparity, target)
            else:
                rough = smoothness_loss(disparity if self.smooth == "disparity" else depth)
            total = total + self.smoothness / self.smoothness_falloff**scale * rough
        return total

    def photometric(self, target: Tensor, warped: Warped, logits: Tensor | None) -> Tensor:
        """Eq. 1, and with the mask's logits (B, 2, H, W) Eq. 3: a mean over pixels and colours."""
        seen = within(warped, target.shape[-2:]) if self.outside == "black" else warped.valid
        image = warped.image * seen[:, None] if self.outside == "black" else warped.image
        error = (image - target).abs()
        if self.ssim > 0:
            error = (1 - self.ssim) * error + self.ssim * dissimilarity(image, target)
        if logits is not None:
            error = error * logits.softmax(dim=1)[:, EXPLAINABLE, None]
        if self.outside == "black":
            return error.mean()
        return (error.mean(dim=1) * seen).sum() / seen.sum().clamp(min=1)


def resized(images: Tensor, size: torch.Size) -> Tensor:
    """Images (B, C, H, W) at a smaller size, each pixel the mean of those it covers."""
    return images if images.shape[-2:] == size else functional.interpolate(images, size, mode="area")


def intrinsics_of(K: Tensor, before: torch.Size, after: torch.Size) -> Tensor:
    """Intrinsics (B, 3, 3) of images resized from (height, width) `before` to `after`."""
    sy, sx = after[0] / before[0], after[1] / before[1]
    change = K.new_tensor([[sx, 0.0, (sx - 1) / 2], [0.0, sy, (sy - 1) / 2], [0.0, 0.0, 1.0]])
    return change @ K


def within(warped: Warped, size: torch.Size) -> Tensor:
    """(B, H, W) bool: what the authors' sampler does not show black: from pixel 0 to before the last row and column."""
    u, v = warped.pixels.unbind(-1)
    return warped.valid & (u >= 0) & (v >= 0) & (u < size[1] - 1) & (v < size[0] - 1)


def explainability_loss(logits: Tensor) -> Tensor:
    """Cross-entropy of masks (B, 2, H, W) to "all can be explained", so that not to explain has a price."""
    return -logits.log_softmax(dim=1)[:, EXPLAINABLE].mean()


def smoothness_loss(values: Tensor) -> Tensor:
    """Mean absolute second differences of maps (B, H, W), along both axes and across: xx, xy, yx and yy summed."""
    dy, dx = values.diff(dim=-2), values.diff(dim=-1)
    second = (dx.diff(dim=-1), dx.diff(dim=-2), dy.diff(dim=-1), dy.diff(dim=-2))
    return sum((each.abs().mean() for each in second if each.numel()), values.new_zeros(()))


def edge_aware_smoothness(values: Tensor, images: Tensor) -> Tensor:
    """Mean absolute first differences of maps (B, H, W) over their means, weighted by exp(-|dI|) of images (B, 3, H, W)
    in 0..1, x and y summed (Godard et al., "Digging into Self-Supervised Monocular Depth Estimation", 2019, Eq. 3)."""
    relative = values / values.mean(dim=(-2, -1), keepdim=True)
    total = values.new_zeros(())
    for axis in (-1, -2):
        weight = torch.exp(-images.diff(dim=axis).abs().mean(dim=1))
        difference = relative.diff(dim=axis).abs() * weight
        total = total + (difference.mean() if difference.numel() else 0.0)
    return total


def dissimilarity(images: Tensor, others: Tensor) -> Tensor:
    """(1 - SSIM) / 2 of (B, C, H, W) in 0..1, in windows of 3 x 3 pixels, mirrored at the edges (Wang et al., 2004)."""
    mode = "reflect" if min(images.shape[-2:]) > 1 else "replicate"

    def mean(values: Tensor) -> Tensor:
        return functional.avg_pool2d(functional.pad(values, (1, 1, 1, 1), mode), 3, stride=1)

    a, b = mean(images), mean(others)
    variance = mean(images**2) - a**2 + mean(others**2) - b**2
    covariance = mean(images * others) - a * b
    similarity = (2 * a * b + C1) * (2 * covariance + C2) / ((a**2 + b**2 + C1) * (variance + C2))
    return ((1 - similarity) / 2).clamp(0, 1)


class SfMLearnerLearner(Learner):
    """Depth and motion of snippets, trained together."""

    model: SfMLearner

    def __init__(self, config: Settings, data: SnippetData, device: torch.device) -> None:
        super().__init__()
        filled = config.filled
        self._data, self._device = data, device
        self._augment = Augmentation(flip=filled["flip"]) if config.augment else False
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
        batch = self._data.batch(indices, augment=self._augment)
        images, K = batch.images.to(self._device), batch.K.to(self._device)
        disparities, motion = network(images)
        return self._objective.loss(disparities, motion, SnippetBatch(images, K, batch.target))


def make(config: Settings, recipe: Recipe, data: Any, device: torch.device) -> SfMLearnerLearner:
    """The learner of a run."""
    return SfMLearnerLearner(config, data, device)
