"""Light that changes from frame to frame, learnt beside the place: an auto-exposed camera would smear it over the maps.

The corrections belong to training frames. They are centred, so that the place keeps the average light and a picture is
rendered without any; they never reach the checkpoint.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


class Exposures(nn.Module):
    """A gain and an offset per colour channel for every training frame.

    Args:
        frames: of the dataset.
        train: (T,) those of them that train.
        strength: weight of the pull towards "no correction"; a gain of 10 % and an offset of 0.1 count alike.
    """

    def __init__(self, frames: int, train: np.ndarray, strength: float = 0.01) -> None:
        super().__init__()
        self.residual = nn.Parameter(torch.zeros(frames, 2, 3))  # (log gain, offset) per channel
        self.register_buffer("_train", torch.from_numpy(np.asarray(train, np.int64)), persistent=False)
        self._train: Tensor
        self._strength = strength

    def forward(self, rgb: Tensor, indices: np.ndarray) -> Tensor:
        """What the camera made of the true colours `rgb` (B, 3, H, W) in the frames `indices` (B,)."""
        log_gain, offset = self._centred(indices).unbind(dim=1)
        return rgb * log_gain.exp()[..., None, None] + offset[..., None, None]

    @torch.no_grad()
    def start(self, indices: np.ndarray, rendered: Tensor, recorded: Tensor) -> None:
        """Set the gains of frames by what a first guess of the place shows: both (B, 3, H, W) in 0..1.

        A run sees each frame a few times only, too few to learn a gain from 1 on. Pixels too dark or clipped say nothing.
        """
        told = (rendered > 0.1) & (recorded > 0.02) & (recorded < 0.98)
        sums = [torch.where(told, image, 0.0).sum(dim=(2, 3)) for image in (recorded, rendered)]
        ratio = (sums[0] + 1e-3) / (sums[1] + 1e-3)
        frames = torch.from_numpy(np.asarray(indices, np.int64))
        self.residual[frames, 0] = ratio.log().clamp(-1.0, 1.0).to(self.residual)

    def penalty(self, indices: np.ndarray) -> Tensor:
        """To be added to the loss: mean square of the corrections of these frames, weighed."""
        return self._strength * self._centred(indices).square().mean()

    @torch.no_grad()
    def spread(self) -> dict[str, float]:
        """How much the training frames' light differed: standard deviations of gain (relative) and offset (of 1)."""
        corrections = self.residual[self._train]
        log_gain, offset = (corrections - corrections.mean(dim=0)).square().mean(dim=(0, 2)).sqrt().tolist()
        return {"gain": round(log_gain, 4), "offset": round(offset, 4)}

    def _centred(self, indices: np.ndarray) -> Tensor:
        mean = self.residual[self._train].mean(dim=0)
        return self.residual[torch.from_numpy(np.asarray(indices, np.int64)).to(mean.device)] - mean
