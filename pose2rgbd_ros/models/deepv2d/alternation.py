"""Depth from motions and motions from depth, in turn: what DeepV2D does with a video it has not seen (section 3)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from pose2rgbd_ros.training.families import ViewsDepth

# Known motions that move the nearest plane by less than this many pixels show no depth.
LEAST_PARALLAX_PX = 0.1
# Relative standard deviation of the depth of a pixel over the planes at which confidence is one half.
HALF_SURE = 0.1


def alternate(
    network: Any,
    images: Tensor,
    K: Tensor,
    T_tgt_i: Tensor | None = None,
    iterations: int | None = None,
    start: Tensor | Literal["motion", "flat"] = "motion",
) -> ViewsDepth:
    """See :meth:`~pose2rgbd_ros.training.families.MultiViewModel.from_views`; the network is a DeepV2D.

    With motions found at sight depth follows from them before the first iteration; otherwise the depth to begin with is
    what no iteration leaves. What begins flat begins with a camera that stands still.
    """
    config = network.config
    if T_tgt_i is not None:
        T = resized(T_tgt_i, 1 / config.unit_m)
        depth, known_spread = network.stereo_with_spread(images, K, T)
        depth = torch.where(_parallax_px(K, T, config.min_depth) < LEAST_PARALLAX_PX, torch.nan, depth)
        return ViewsDepth(depth * config.unit_m, confidence_of(depth, known_spread), T_tgt_i)
    spread: Tensor | None = None
    if isinstance(start, Tensor):
        T, depth = network.initial_motions(images, K), _in_unit(start, images, config.typical_depth)
    elif start == "flat":
        T = torch.eye(4, device=images.device).expand(*images.shape[:2], 4, 4)
        depth = images.new_full((len(images), *images.shape[-2:]), config.typical_depth)
    else:
        T = network.initial_motions(images, K)
        depth, spread = network.stereo_with_spread(images, K, T)
    for _ in range(config.iterations if iterations is None else iterations):
        T = network.motion(images, K, depth, T, config.residual_steps).T_tgt_i[-1]
        depth, spread = network.stereo_with_spread(images, K, T)
    sure = depth.new_ones(depth.shape) if spread is None else confidence_of(depth, spread)
    return ViewsDepth(depth * config.unit_m, sure, resized(T, config.unit_m))


def confidence_of(depth: Tensor, spread: Tensor) -> Tensor:
    """0..1 of depth (B, H, W) and its standard deviation over the planes, 0 where depth is unknown."""
    share = spread / (HALF_SURE * depth)
    return torch.where(torch.isfinite(depth), 1 / (1 + share.square()), 0.0)


def resized(T: Tensor, factor: float) -> Tensor:
    """Motions (..., 4, 4) in another unit of length."""
    return torch.cat([torch.cat([T[..., :3, :3], T[..., :3, 3:] * factor], dim=-1), T[..., 3:, :]], dim=-2)


def _in_unit(depth: Tensor, images: Tensor, typical: float) -> Tensor:
    """Depth of another model, at the images' size and with the median that the network knows."""
    median = torch.nanmedian(depth.flatten(1), dim=1).values[:, None, None]
    return functional.interpolate((depth / median)[:, None], images.shape[-2:], mode="nearest")[:, 0] * typical


def _parallax_px(K: Tensor, T_tgt_i: Tensor, nearest: float) -> Tensor:
    """(B, 1, 1) largest displacement of a point at `nearest` by the way to one of the views."""
    centre = T_tgt_i[..., :3, 3]
    sideways = torch.linalg.vector_norm(centre[..., :2], dim=-1)
    # A way ahead moves what lies at the edge of the image.
    ahead = centre[..., 2].abs() * (K[:, None, 0, 2] / K[:, None, 0, 0])
    return ((sideways + ahead).amax(dim=1) * K[:, 0, 0] / nearest)[:, None, None]
