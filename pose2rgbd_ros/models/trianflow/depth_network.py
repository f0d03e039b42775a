"""Depth of an image: TrianFlow's depth branch, that of Godard et al., "Digging into Self-Supervised Monocular Depth
Estimation" (2019), on a ResNet-18; and the PoseNet of the baselines."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from pose2rgbd_ros.models.posegan.network import STAGES, BasicBlock
from pose2rgbd_ros.models.trianflow.flow_network import MEAN, SPREAD, channels

ENCODER = (64, 64, 128, 256, 512)  # channels at 1/2, 1/4, ... 1/32 of the resolution
DECODER = (256, 128, 64, 32, 16)  # at 1/16, 1/8, ... 1


class Encoder(nn.Module):
    """ResNet-18 without its last layers: images (B, 3, H, W) -> features at 1/2, 1/4, ... 1/32.

    11,176,512 parameters at width 1. Its weights begin at random, as in the authors' code.
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        counts = [channels(count, width) for count in ENCODER]
        self.start = nn.Sequential(
            nn.Conv2d(3, counts[0], 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(counts[0]), nn.ReLU()
        )
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.MaxPool2d(3, stride=2, padding=1) if stage == 0 else nn.Identity(),
                BasicBlock(before, after, stride=2 if stage else 1),
                *(BasicBlock(after, after, stride=1) for _ in range(blocks - 1)),
            )
            for stage, (blocks, (before, after)) in enumerate(
                zip(STAGES["resnet18"], itertools.pairwise(counts), strict=True)
            )
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> list[Tensor]:
        start = self.start((image - MEAN) / SPREAD)
        return list(itertools.accumulate(self.stages, lambda x, stage: stage(x), initial=start))


class Conv(nn.Conv2d):
    """3 x 3 convolution of an image that goes on mirrored beyond its edge."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        mode = "reflect" if min(x.shape[-2:]) > 1 else "replicate"  # a single row has nothing to mirror
        return super().forward(functional.pad(x, (1, 1, 1, 1), mode))


class Decoder(nn.Module):
    """Features of the encoder -> disparity (B, H, W) in 0..1 of an image of `size`; 3,150,705 parameters at width 1.

    Upsampling is bilinear in place of nearest, and disparity is shown at full resolution only (supplement, section E).
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        counts = [channels(count, width) for count in DECODER]
        skips = [*(channels(count, width) for count in ENCODER[-2::-1]), 0]
        before = [channels(ENCODER[-1], width), *counts]
        self.reduce = nn.ModuleList(Conv(a, b) for a, b in itertools.pairwise(before))
        self.merge = nn.ModuleList(Conv(count + skip, count) for count, skip in zip(counts, skips, strict=True))
        self.disparity = Conv(counts[-1], 1)

    def forward(self, features: list[Tensor], size: tuple[int, int]) -> Tensor:
        x = features[-1]
        for reduce, merge, skip in zip(self.reduce, self.merge, [*features[-2::-1], None], strict=True):
            x = functional.elu(reduce(x))
            larger = size if skip is None else skip.shape[-2:]
            x = functional.interpolate(x, larger, mode="bilinear", align_corners=False)
            x = functional.elu(merge(x if skip is None else torch.cat([x, skip], dim=1)))
        return torch.sigmoid(self.disparity(x))[:, 0]


class DepthNetwork(nn.Module):
    """Images (B, 3, H, W) in 0..1 -> disparity (B, H, W), the inverse of depth, from 1 / farthest to 1 / nearest.

    The supplement (section E) writes D = 1 / (a d + b) with a = 0.1 and b = 100, which would keep depth between 0.00999
    and 0.01: a misprint. 0.1 and 100 are the nearest and the farthest depth, so b = 1 / 100 and a = 1 / 0.1 - 1 / 100.
    """

    def __init__(self, width: float, nearest: float, farthest: float) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(width), Decoder(width)
        self._least, self._span = 1 / farthest, 1 / nearest - 1 / farthest

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        disparity: Tensor = self.decoder(self.encoder(images), (height, width))
        return self._least + self._span * disparity


POSE = ((16, 7), (32, 5), (64, 3), (128, 3), (256, 3), (256, 3), (256, 3))  # channels and kernels, all of stride 2
POSE_SCALE = 0.01


class PoseNetwork(nn.Sequential):
    """A motion (B, 6), tx ty tz rx ry rz, from a pair of images on 6 channels or their flow on 2 (section C)."""

    def __init__(self, inputs: int, width: float) -> None:
        layers: list[nn.Module] = []
        for count, kernel in POSE:
            outputs = channels(count, width)
            layers += [nn.Conv2d(inputs, outputs, kernel, stride=2, padding=kernel // 2), nn.ReLU()]
            inputs = outputs
        super().__init__(*layers, nn.Conv2d(inputs, 6, 1))

    def forward(self, x: Tensor) -> Tensor:
        return POSE_SCALE * super().forward(x).mean(dim=(2, 3))
