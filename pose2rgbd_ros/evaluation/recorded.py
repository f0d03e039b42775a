"""Recorded frames as a model's pictures are compared with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pose2rgbd_ros.dataset.cache import FrameCache
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.training.data import mean_image

Images = tuple[Tensor | None, Tensor | None]  # rgb (B, 3, H, W) in [0, 1], depth (B, H, W)


@dataclass(frozen=True, eq=False)
class Recorded:
    """The frames of a dataset; what the model does not predict is left out.

    max_depth: farther counts as unknown, as in the model's training; None: nothing does.
    """

    dataset: Dataset
    cache: FrameCache
    has_rgb: bool
    has_depth: bool
    max_depth: float | None

    def images(self, indices: np.ndarray) -> Images:
        """Colour and depth of these frames; None for what is left out."""
        rgb = depth = None
        if self.has_rgb:
            pixels = torch.from_numpy(np.ascontiguousarray(self.cache.rgb[indices]))
            rgb = pixels.permute(0, 3, 1, 2).float() / 255
        if self.has_depth and self.cache.depth is not None:
            depth = torch.from_numpy(np.array(self.cache.depth[indices]))
            if self.max_depth is not None:
                depth[depth > self.max_depth] = torch.nan
        return rgb, depth

    def mean(self, indices: np.ndarray) -> Images:
        """The mean of these frames, without the axis of frames."""
        rgb, depth = mean_image(self.cache, indices, self.max_depth)
        return (
            torch.from_numpy(rgb / 255).float().permute(2, 0, 1) if self.has_rgb else None,
            torch.from_numpy(depth).float() if self.has_depth and depth is not None else None,
        )
