"""D: an image in; whether it was recorded, and the pose it was taken at, out (Eq. 3 of the paper)."""

from __future__ import annotations

import itertools
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from pose2rgbd_ros.models.posegan.blocks import DBlock, Linear
from pose2rgbd_ros.models.posegan.config import PoseGANConfig, channels_of


class Verdict(NamedTuple):
    """What the discriminator says of B images.

    pose: (B, P) encoded, phi3(phi1(x)), which the paper calls F(x).
    realism: (B,) varphi(phi1(x)); above 0 for recorded.
    features: (B, F) phi1(x).
    """

    pose: Tensor
    realism: Tensor
    features: Tensor


class Trunk(nn.Module):
    """phi1: DBlocks, ReLU, and the last map summed over its pixels (or flattened)."""

    def __init__(
        self,
        inputs: int,
        size: int,
        blocks: int,
        width: float,
        pool: str,
        spectral: bool = True,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        widths = channels_of(blocks, width)
        stages = enumerate(itertools.pairwise([inputs, *widths]))
        self.blocks = nn.Sequential(
            *(
                DBlock(before, after, first=i == 0, spectral=spectral, gain=gain)
                for i, (before, after) in stages
            )
        )
        self._pool = pool
        self.features = widths[-1] * ((size >> blocks) ** 2 if pool == "flatten" else 1)

    def forward(self, image: Tensor) -> Tensor:
        """Images (B, C, S, S) in [-1, 1] -> features (B, F)."""
        last = functional.relu(self.blocks(image))
        return last.flatten(1) if self._pool == "flatten" else last.sum(dim=(2, 3))


class Discriminator(nn.Module):
    """phi1, phi3 and varphi. With depth it takes two more channels: depth, and where it is known."""

    def __init__(self, config: PoseGANConfig) -> None:
        super().__init__()
        inputs = 5 if config.has_depth else 3
        self.trunk = Trunk(inputs, config.size, config.blocks, config.width, config.pool, gain=config.gain)
        self.pose = Linear(self.trunk.features, config.pose_dim)
        self.realism = Linear(self.trunk.features, 1)

    def forward(self, image: Tensor) -> Verdict:
        """Images (B, C, S, S) in [-1, 1]."""
        features = self.trunk(image)
        return Verdict(self.pose(features), self.realism(features)[:, 0], features)
