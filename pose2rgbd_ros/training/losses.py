"""The paper's two losses: squared error on the image, binary cross entropy on each depth slice; both skip unknown depth."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from pose2rgbd_ros.models.pose2rgbd import Pose2RGBDConfig, Prediction


def image_target(rgb: Tensor, depth: Tensor | None, config: Pose2RGBDConfig) -> tuple[Tensor, Tensor]:
    """What the network should say.

    Args:
        rgb: (B, H, W, 3) uint8.
        depth: (B, H, W) encoded to [-1, 1], NaN unknown; None without depth.

    Returns:
        target (B, C, H, W) in ``config.target_range``, 0 where unknown, and known (B, C, H, W) bool.
    """
    low, high = config.target_range
    parts = []
    if config.has_rgb:
        parts.append(rgb.permute(0, 3, 1, 2).float() * ((high - low) / 255.0) + low)
    if config.has_depth:
        assert depth is not None
        parts.append(((depth.clamp(-1, 1) + 1) / 2 * (high - low) + low)[:, None])
    target = torch.cat(parts, dim=1)
    known = torch.isfinite(target)
    return torch.where(known, target, 0.0), known


def image_loss(image: Tensor, target: Tensor, known: Tensor, kind: str) -> Tensor:
    """Mean over the known values. "mse" is the paper's; "charbonnier" is a smooth L1; "mse+l1" half of each kind."""
    error = torch.where(known, image - target, 0.0)
    if kind == "mse":
        values = error.square()
    elif kind == "charbonnier":
        values = torch.sqrt(error.square() + 1e-3) - 1e-3**0.5
    else:
        values = error.square() + 0.5 * error.abs()
    return values.sum() / known.sum().clamp(min=1)


def slice_target(depth: Tensor, slices: int, side: int) -> tuple[Tensor, Tensor]:
    """True slices of encoded depth (B, H, W), reduced to `side` by taking pixels, so no slice mixes two surfaces.

    Slice i holds [-1 + 2 i / S, -1 + 2 (i + 1) / S), the last one closed (paper, section 2); depth beyond the training
    range belongs to the first or last slice.

    Returns:
        target (B, S, side, side) float 0 or 1, and known (B, 1, side, side) bool.
    """
    step = depth.shape[-1] // side
    depth = depth[:, ::step, ::step]
    known = torch.isfinite(depth)
    index = ((torch.where(known, depth, -1.0) + 1) / 2 * slices).floor().long().clamp(0, slices - 1)
    target = functional.one_hot(index, slices).permute(0, 3, 1, 2).float()
    return target, known[:, None]


def slice_loss(logits: Tensor, target: Tensor, known: Tensor, reduction: str) -> Tensor:
    """Binary cross entropy of each slice over the known pixels; their mean or their sum over the slices."""
    each = functional.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
    per_slice = torch.where(known, each, 0.0).sum(dim=(0, 2, 3)) / known.sum().clamp(min=1)
    return per_slice.mean() if reduction == "mean" else per_slice.sum()


def total_loss(
    prediction: Prediction,
    rgb: Tensor,
    depth: Tensor | None,
    config: Pose2RGBDConfig,
    kind: str = "mse",
    bce_weight: float = 1.0,
    bce_reduction: str = "mean",
) -> Tensor:
    """Image loss plus, for the slice network, its weighted cross entropy."""
    target, known = image_target(rgb, depth, config)
    loss = image_loss(prediction.image.float(), target, known, kind)
    if prediction.slice_logits is not None and depth is not None:
        slices, known_slices = slice_target(depth, config.slices, config.slice_size)
        loss = loss + bce_weight * slice_loss(prediction.slice_logits, slices, known_slices, bce_reduction)
    return loss
