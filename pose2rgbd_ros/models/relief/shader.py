"""A small convolutional network that turns what rays found into an image."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pose2rgbd_ros.models.relief.config import DIRECT_CHANNELS, ReliefConfig

EXTRA_CHANNELS = 5  # direction (3), logarithm of the depth, whether there is a surface


class Shader(nn.Module):
    """Residuals of colour and depth from features, at 1 / unshuffle of the resolution.

    It mends what a lookup at single points cannot know: edges, thin things, what depends on the direction.
    """

    def __init__(self, config: ReliefConfig) -> None:
        super().__init__()
        self.config = config
        blocks = config.unshuffle**2
        inputs = (config.channels + config.coarse_channels + EXTRA_CHANNELS) * blocks
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, config.width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(config.width, config.width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(config.width, 4 * blocks, 3, padding=1),
        )
        last = self.layers[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) -> colour (B, 3, H, W), about 0..1, and residual depth (B, H, W) in metres."""
        height, width = features.shape[-2:]
        step = self.config.unshuffle
        padded = functional.pad(features, (0, -width % step, 0, -height % step), mode="replicate")
        residual = functional.pixel_shuffle(self.layers(functional.pixel_unshuffle(padded, step)), step)
        residual = residual[..., :height, :width]
        ground, coarse = (features[:, first : first + DIRECT_CHANNELS] for first in (0, self.config.channels))
        return 0.5 + ground + coarse + residual[:, :3], residual[:, 3] * self.config.layer_m


def extra_channels(direction: Tensor, depth: Tensor, found: Tensor, depth_scale_m: float) -> Tensor:
    """(N, 5) of directions (N, 3), depths (N,) and whether they are of a surface (N,)."""
    unit = functional.normalize(direction, dim=1)
    far = torch.where(found, (depth / depth_scale_m).clamp(1e-3, 1e3), 1.0).log()
    return torch.cat([unit, far[:, None], found[:, None].to(unit.dtype)], 1)
