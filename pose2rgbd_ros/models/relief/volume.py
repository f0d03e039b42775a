"""The occupancy of a place: logits on a grid, and rays through it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.models.relief import march
from pose2rgbd_ros.models.relief.config import ReliefConfig
from pose2rgbd_ros.models.relief.lookup import sample_grid
from pose2rgbd_ros.models.relief.march_numba import march_fast

EMPTY_LOGIT = -1.0
# Logits that differ by less across a surface do not say where it is.
LEAST_GAP = 0.05


class OccupancyVolume(nn.Module):
    """Logits (L, Y, X) of solid matter at the vertices of a grid, and where anything was seen at all.

    The paper's depth slices moved from the view into the world: each layer says where matter is at its height. Rays
    are in the volume's frame and metres outside, in grid units (see march.py) inside.
    """

    def __init__(self, config: ReliefConfig) -> None:
        super().__init__()
        self.config = config
        self.logits = nn.Parameter(torch.full(config.shape, EMPTY_LOGIT))
        # Vertices near a surface that some training frame saw; what a ray meets elsewhere is unknown.
        self.register_buffer("seen", torch.zeros(config.shape, dtype=torch.uint8))
        self.seen: Tensor
        T_vol_map = se3.inverse(config.T_map_vol)
        self.register_buffer("T_vol_map", torch.from_numpy(np.asarray(T_vol_map)), persistent=False)
        self.T_vol_map: Tensor
        self.register_buffer("step_m", torch.tensor(config.step_m), persistent=False)
        self.step_m: Tensor

    def rays(self, T_map_cam: Tensor, rays_cam: Tensor) -> tuple[Tensor, Tensor]:
        """Rays of cameras in `vol`, float32: origins (B, 3) and directions (B, P, 3) per unit of depth.

        T_map_cam (B, 4, 4) float64; rays_cam (P, 3) or (B, P, 3) with z = 1.
        """
        T_vol_cam = self.T_vol_map @ T_map_cam.to(self.T_vol_map.dtype)
        directions = rays_cam.to(T_vol_cam.dtype) @ T_vol_cam[:, :3, :3].transpose(1, 2)
        return T_vol_cam[:, :3, 3].float(), directions.float()

    @torch.no_grad()
    def hits(self, origin: Tensor, direction: Tensor) -> march.Hits:
        """What rays (N, 3), (N, 3) meet; without gradients, t is the depth."""
        return march_fast(self.logits.detach(), origin / self.step_m, direction / self.step_m)

    def depth(self, hits: march.Hits, origin: Tensor, direction: Tensor) -> Tensor:
        """Depth (N,) of hits again, differentiable in the logits around the surface and in the rays; NaN without one.

        By implicit differentiation: where the logit at the surface rises, the surface comes nearer by that much over
        the logit's slope along the ray.
        """
        at_surface = torch.nonzero((hits.state == march.HIT) & (hits.t_after > hits.t_before))[:, 0]
        t, gap = hits.t[at_surface], (hits.logit_after - hits.logit_before)[at_surface]
        slope = gap.clamp(min=LEAST_GAP) / (hits.t_after - hits.t_before)[at_surface]
        logit = self.sample(origin[at_surface] + t[:, None] * direction[at_surface])
        depth = hits.t.index_put((at_surface,), t - (logit - logit.detach()) / slope)
        if not origin.requires_grad:
            return depth
        at_floor = torch.nonzero(hits.state == march.FLOOR)[:, 0]
        return depth.index_put((at_floor,), -origin[at_floor, 2] / direction[at_floor, 2])

    def sample(self, points: Tensor) -> Tensor:
        """Logits (N,) at points (N, 3) in metres."""
        return sample_grid(self.logits, points / self.step_m, self.config.shape)[:, 0]

    @torch.no_grad()
    def mark_seen(self, points: Tensor) -> None:
        """Call the corners of the cells around points (N, 3) in metres seen; points beside the box are left out."""
        last = torch.tensor(self.seen.shape[::-1], device=points.device) - 1
        cell = points / self.step_m
        low = cell[((cell >= 0) & (cell <= last)).all(1)].long().clamp(max=last - 1)
        for corner in torch.cartesian_prod(*3 * [torch.arange(2, device=points.device)]):
            i, j, k = (low + corner).unbind(1)
            self.seen[k, j, i] = 1

    def seen_at(self, points: Tensor) -> Tensor:
        """Whether (N,) the vertex nearest to points (N, 3) in metres is near a surface somebody saw.

        Beside the box that of the box's border counts: the far field goes on like it.
        """
        last = torch.tensor(self.seen.shape[::-1], device=points.device) - 1
        vertex = (points / self.step_m).nan_to_num(0.0).round().long()
        i, j, k = vertex.clamp(min=torch.zeros_like(last), max=last).unbind(1)
        return self.seen[k, j, i] > 0
