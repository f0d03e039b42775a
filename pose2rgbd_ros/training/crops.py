"""Random crops of frames cached at 9/8 of the size: what networks that find poses learn from (section 5.1 of PoseGAN)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pose2rgbd_ros.training.data import TrainingData


class Crops:
    """Images of a batch, each cut at a place of its own; which, follows from (seed, step), so a resumed run cuts alike."""

    def __init__(self, data: TrainingData, device: torch.device, seed: int, random: bool) -> None:
        self._data, self._device, self._seed = data, device, seed
        self._random = random

    def images(self, indices: np.ndarray, step: int) -> tuple[Tensor, Tensor | None]:
        """Colour (B, 3, S, S) in [-1, 1] and, if it is learnt, encoded depth (B, S, S) with NaN unknown."""
        data, count = self._data, len(indices)
        assert data.wide is not None
        side, corners = data.cache.camera.width, np.full((count, 2), data.margin)
        if self._random:
            generator = np.random.default_rng([self._seed, 3, step])
            corners = generator.integers(0, 2 * data.margin + 1, (count, 2))
        windows = [(slice(y, y + side), slice(x, x + side)) for y, x in corners]
        rgb = np.stack([data.wide.rgb[i][window] for i, window in zip(indices, windows, strict=True)])
        colour = torch.from_numpy(rgb).to(self._device).permute(0, 3, 1, 2).float() / 127.5 - 1
        if data.wide.depth is None or data.normalization.depth_min is None:
            return colour, None
        depth = np.stack([data.wide.depth[i][window] for i, window in zip(indices, windows, strict=True)])
        if data.max_depth is not None:
            depth[depth > data.max_depth] = np.nan
        return colour, torch.from_numpy(data.normalization.encode_depth(depth)).to(self._device)
