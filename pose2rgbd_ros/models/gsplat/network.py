"""3D Gaussian splatting (Kerbl et al. 2023): a rival to compare with, trained on a CUDA GPU by the package gsplat.

Not a dependency: `pip install gsplat` where there is a GPU. Looking at splats needs neither (rasterizer.py).
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.gsplat.config import GsplatConfig
from pose2rgbd_ros.training.families import RenderTensors

SURFACE_ALPHA = 0.5  # a ray that is stopped less than this has no surface
SH_C0 = 0.28209479177387814  # the constant spherical harmonic


class GsplatModel(nn.Module):
    """A fixed number of splats, and the colour behind them.

    Parameters: means (N, 3) from `origin_m`, quats (N, 4) wxyz, log_scales (N, 3), opacity_logits (N,), sh_0 (N, 1, 3)
    and sh_rest (N, K - 1, 3) as gsplat takes them, background (3,).
    """

    any_camera = True
    has_confidence = True
    origin_m: Tensor

    def __init__(self, config: GsplatConfig) -> None:
        super().__init__()
        self.config = config
        count, coefficients = config.splats, (config.sh_degree + 1) ** 2
        self.register_buffer("origin_m", torch.zeros(3, dtype=torch.float64))
        self.means = nn.Parameter(torch.zeros(count, 3))
        self.quats = nn.Parameter(torch.zeros(count, 4))
        self.log_scales = nn.Parameter(torch.zeros(count, 3))
        self.opacity_logits = nn.Parameter(torch.zeros(count))
        self.sh_0 = nn.Parameter(torch.zeros(count, 1, 3))
        self.sh_rest = nn.Parameter(torch.zeros(count, coefficients - 1, 3))
        self.background = nn.Parameter(torch.full((3,), 0.5))

    def forward(self, T_map_cam: Tensor, camera: Camera) -> tuple[Tensor, Tensor, Tensor]:
        """Colour (B, H, W, 3), depth (B, H, W) and how much of each ray is stopped (B, H, W), 0..1; differentiable.

        Raises UserError: a distorted camera, no CUDA, or no gsplat.
        """
        require_pinhole(camera)
        T = T_map_cam.clone()
        T[:, :3, 3] -= self.origin_m
        # gsplat has the centre of the first pixel at 0.5, OpenCV (and so Camera) at 0.
        K = torch.tensor(camera.K, dtype=torch.float32, device=T.device)
        K[:2, 2] += 0.5
        images, alpha, _ = load_gsplat(T.device).rasterization(
            means=self.means,
            quats=self.quats,
            scales=self.log_scales.exp(),
            opacities=self.opacity_logits.sigmoid(),
            colors=torch.cat([self.sh_0, self.sh_rest], dim=1),
            viewmats=torch.linalg.inv(T).float(),
            Ks=K.expand(len(T), 3, 3),
            width=camera.width,
            height=camera.height,
            sh_degree=self.config.sh_degree,
            render_mode="RGB+ED",  # the expected depth along the optical axis comes as a fourth channel
            backgrounds=self.background.expand(len(T), 3),
        )
        return images[..., :3], images[..., 3], alpha[..., 0]

    def pictures(self, T_map_cam: Tensor, camera: Camera, normalization: Normalization) -> RenderTensors:
        """See RenderModel; depth is unknown where less than half of a ray is stopped. A CPU has its own rasteriser."""
        on_cpu = T_map_cam.device.type == "cpu"
        rgb, depth, alpha = self._on_cpu(T_map_cam, camera) if on_cpu else self(T_map_cam, camera)
        depth = torch.where(alpha >= SURFACE_ALPHA, depth, torch.nan)
        return RenderTensors(rgb.clamp(0, 1).permute(0, 3, 1, 2), depth, alpha.clamp(0, 1))

    @torch.no_grad()
    def _on_cpu(self, T_map_cam: Tensor, camera: Camera) -> tuple[Tensor, Tensor, Tensor]:
        """The same as `forward`, without derivatives."""
        from pose2rgbd_ros.models.gsplat.rasterizer import Splats, rasterize  # compiled; a training has no need of it

        require_pinhole(camera)
        sh = torch.cat([self.sh_0, self.sh_rest], dim=1)
        of = (self.means, self.quats, self.log_scales.exp(), self.opacity_logits.sigmoid(), sh)
        splats = Splats(*(each.detach().contiguous().numpy() for each in of))
        T = T_map_cam.double().clone()
        T[:, :3, 3] -= self.origin_m
        intrinsics = camera.fx, camera.fy, camera.cx, camera.cy
        views = [
            rasterize(splats, T_cam_map, intrinsics, (camera.width, camera.height))
            for T_cam_map in torch.linalg.inv(T).numpy()
        ]
        rgb, depth, alpha = (torch.from_numpy(np.stack(each)) for each in zip(*views, strict=True))
        return rgb + (1 - alpha)[..., None] * self.background, depth, alpha


def load_gsplat(device: torch.device) -> Any:
    """The package gsplat. UserError in one line where it cannot run."""
    if device.type != "cuda":
        raise UserError("model gsplat needs a CUDA GPU; here use relief, or warp-12")
    try:
        return importlib.import_module("gsplat")
    except (ImportError, OSError) as error:
        raise UserError(f"model gsplat needs the package gsplat ({error}); pip install gsplat") from error


def require_pinhole(camera: Camera) -> None:
    """UserError: a camera without intrinsics, or with a lens that splats do not know."""
    if not camera.is_calibrated:
        raise UserError("model gsplat needs a calibrated camera (K[0] is 0)")
    if camera.is_distorted:
        raise UserError("model gsplat renders cameras without lens distortion only; use relief, or warp-12")


NETWORKS = {"gsplat": (GsplatConfig, GsplatModel)}
