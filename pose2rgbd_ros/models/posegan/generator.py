"""G: an encoded pose in, the image a camera there would take out."""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from pose2rgbd_ros.models.pose2rgbd import fourier_features
from pose2rgbd_ros.models.posegan.blocks import Conv, GBlock, Linear
from pose2rgbd_ros.models.posegan.config import CHANNELS_OF, PoseGANConfig, channels_of


class Generator(nn.Module):
    """A linear layer to the smallest map, GBlocks, and BN, ReLU, Conv, tanh."""

    def __init__(self, config: PoseGANConfig) -> None:
        super().__init__()
        self._config = config
        widths = channels_of(config.blocks, config.generator_width)[::-1]  # the discriminator's, backwards
        inputs = config.pose_dim * (1 + 2 * config.pose_frequencies)
        self.linear = Linear(inputs, widths[0] * config.bottom**2)
        stages = itertools.pairwise([widths[0], *widths])
        self.blocks = nn.Sequential(*(GBlock(before, after) for before, after in stages))
        self.image = nn.Sequential(
            nn.BatchNorm2d(widths[-1]),
            nn.ReLU(),
            Conv(widths[-1], CHANNELS_OF[config.output], 3),
            nn.Tanh(),
        )

    def forward(self, pose: Tensor) -> Tensor:
        """Encoded poses (B, P) -> images (B, C, S, S) in [-1, 1]; channels R, G, B and, if generated, depth."""
        bottom = self._config.bottom
        start = self.linear(fourier_features(pose, self._config.pose_frequencies))
        image: Tensor = self.image(self.blocks(start.reshape(len(pose), -1, bottom, bottom)))
        return image
