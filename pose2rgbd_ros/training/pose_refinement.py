"""Small corrections of the training poses, learnt beside the place: GPS is off by decimetres, attitude by a degree.

A correction moves the camera in the map and turns it in its own frame. Corrections are centred, because a pose asked
for later comes uncorrected and must find the place where the average training pose says it is.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


class PoseCorrections(nn.Module):
    """A shift and a turn for every training frame.

    Args:
        frames: of the dataset.
        train: (T,) those of them that train.
        position_m: how far off a pose is thought to be; the pull towards "no correction" is measured in it.
        angle_rad: likewise for its attitude.
        strength: weight of that pull.
    """

    def __init__(
        self,
        frames: int,
        train: np.ndarray,
        position_m: float = 0.5,
        angle_rad: float = 0.0175,
        strength: float = 1e-3,
    ) -> None:
        super().__init__()
        # In units of the expected error, so that one learning rate suits both.
        self.residual = nn.Parameter(torch.zeros(frames, 6, dtype=torch.float32))
        self.register_buffer("_train", torch.from_numpy(np.asarray(train, np.int64)), persistent=False)
        units = torch.tensor([position_m] * 3 + [angle_rad] * 3, dtype=torch.float64)
        self.register_buffer("_units", units, persistent=False)
        self._units: Tensor
        self._train: Tensor
        self._strength = strength

    def forward(self, T_map_cam: Tensor, indices: np.ndarray) -> Tensor:
        """The corrected poses (B, 4, 4) float64 of the frames `indices` (B,), differentiable in the corrections."""
        twist = self._centred(indices).double() * self._units
        turned = T_map_cam[:, :3, :3] @ rotation_matrix(twist[:, 3:])
        moved = T_map_cam[:, :3, 3] + twist[:, :3]
        top = torch.cat([turned, moved[..., None]], dim=2)
        return torch.cat([top, T_map_cam[:, 3:]], dim=1)

    def penalty(self, indices: np.ndarray) -> Tensor:
        """To be added to the loss: mean square of the corrections of these frames in expected errors, weighed."""
        return self._strength * self._centred(indices).square().mean()

    @torch.no_grad()
    def sizes(self) -> dict[str, float]:
        """Root mean square of the training frames' shifts (m, all axes together) and turns (degrees)."""
        residual = self.residual[self._train].double()
        twist = (residual - residual.mean(dim=0)) * self._units
        shift, turn = (part.square().sum(dim=1).mean().sqrt() for part in (twist[:, :3], twist[:, 3:]))
        return {"position_m": round(float(shift), 4), "angle_deg": round(float(torch.rad2deg(turn)), 4)}

    def _centred(self, indices: np.ndarray) -> Tensor:
        mean = self.residual[self._train].mean(dim=0)
        return self.residual[torch.from_numpy(np.asarray(indices, np.int64)).to(mean.device)] - mean


def rotation_matrix(rotation_vector: Tensor) -> Tensor:
    """Rotations (B, 3, 3) by rotation vectors (B, 3) in radians, differentiable at zero too."""
    x, y, z = rotation_vector.unbind(dim=1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).reshape(-1, 3, 3)
    result: Tensor = torch.linalg.matrix_exp(skew)
    return result
