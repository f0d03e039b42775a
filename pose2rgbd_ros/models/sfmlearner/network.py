"""The networks of SfMLearner: depth from one image; motion, and what can be explained by it, from a snippet.

Zhou, Brown, Snavely and Lowe, "Unsupervised Learning of Depth and Ego-Motion from Video" (CVPR 2017), section 3.5.
Sizes that are no multiples of 128 are met by nearest resampling of what is upsampled, as in the authors' code.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pose2rgbd_ros.depth_from_images import rigid
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.models.sfmlearner.config import SfMLearnerConfig

# Channels and kernels from the image down; every level has half the size of the one before.
DOWN = ((32, 7), (64, 5), (128, 3), (256, 3), (512, 3), (512, 3), (512, 3))
UP = (512, 512, 256, 128, 64, 32, 16)  # channels of the levels from the smallest up
SCALES = 4  # disparity is shown at full, half, quarter and eighth size
LARGEST, LEAST = 10.0, 0.01  # disparity lies in LEAST..LEAST + LARGEST
POSE = ((16, 7), (32, 5), (64, 3), (128, 3), (256, 3))  # channels and kernels shared by motion and explainability
MOTION = (256, 256)  # channels of the motion's own layers
EXPLAIN = ((256, 3), (128, 3), (64, 3), (32, 5), (16, 7))  # channels and kernels back up to the image's size
MOTION_SCALE = 0.01


def channels(count: int, width: float) -> int:
    """Channels of a layer at a width factor."""
    return max(4, round(count * width))


class Conv(nn.Sequential):
    """Convolution, batch normalisation where wanted, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, norm: bool) -> None:
        layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=not norm)]
        super().__init__(*layers, *([nn.BatchNorm2d(outputs)] if norm else []), nn.ReLU(inplace=True))


class UpConv(nn.Module):
    """Transposed convolution to twice the size, cut or stretched to that of what it joins; norm and ReLU as `Conv`."""

    def __init__(self, inputs: int, outputs: int, kernel: int, norm: bool) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(inputs, outputs, kernel, 2, kernel // 2, output_padding=1, bias=not norm)
        self.norm: nn.Module = nn.BatchNorm2d(outputs) if norm else nn.Identity()

    def forward(self, x: Tensor, size: torch.Size) -> Tensor:
        up: Tensor = functional.relu(self.norm(self.conv(x)))
        return up if up.shape[-2:] == size else functional.interpolate(up, size, mode="nearest")


class DispNet(nn.Module):
    """Images (B, 3, H, W) in [-1, 1] -> disparities (B, 1, H / 2^s, W / 2^s) of scales s = 0 .. 3, sizes rounded up.

    31,596,900 parameters at width 1 without norm.
    """

    def __init__(self, width: float, norm: bool) -> None:
        super().__init__()
        down = [3, *(channels(count, width) for count, _ in DOWN)]
        up = [down[-1], *(channels(count, width) for count in UP)]
        self.down = nn.ModuleList(
            nn.Sequential(Conv(a, b, kernel, 2, norm), Conv(b, b, kernel, 1, norm))
            for (a, b), (_, kernel) in zip(itertools.pairwise(down), DOWN, strict=True)
        )
        self.up = nn.ModuleList(UpConv(a, b, 3, norm) for a, b in itertools.pairwise(up))
        skips = [*down[-2:0:-1], 0]
        coarser = [0] * (len(UP) - SCALES + 1) + [1] * (SCALES - 1)  # the disparity of the scale before
        self.join = nn.ModuleList(
            Conv(count + skip + extra, count, 3, 1, norm)
            for count, skip, extra in zip(up[1:], skips, coarser, strict=True)
        )
        self.show = nn.ModuleList(nn.Conv2d(count, 1, 3, padding=1) for count in up[-SCALES:])
        initialize(self)

    def forward(self, image: Tensor) -> list[Tensor]:
        features = [image]
        for layer in self.down:
            features.append(layer(features[-1]))
        x, disparities = features[-1], list[Tensor]()
        for level, (up, join) in enumerate(zip(self.up, self.join, strict=True), start=1):
            skip = features[-1 - level]
            size = skip.shape[-2:]
            parts = [up(x, size)]
            if level < len(self.up):  # the image itself is no skip
                parts.append(skip)
            if disparities:
                parts.append(functional.interpolate(disparities[-1], size, mode="bilinear", align_corners=False))
            x = join(torch.cat(parts, dim=1))
            scale = len(self.up) - level
            if scale < SCALES:
                disparities.append(LARGEST * torch.sigmoid(self.show[SCALES - 1 - scale](x)) + LEAST)
        return disparities[::-1]


class Motion(NamedTuple):
    """What a snippet's images say.

    vectors: (B, S, 6) tx ty tz rx ry rz of each source, of which :func:`rigid.from_euler` makes T_src_tgt.
    logits: by scale (B, S, 2, H / 2^s, W / 2^s), sizes rounded up; the second channel is "explainable". Empty without
        the explainability mask.
    """

    vectors: Tensor
    logits: list[Tensor]


class PoseExplainNet(nn.Module):
    """Target and sources (B, 3 (1 + S), H, W) in [-1, 1], the target first -> motions and masks.

    Motion part at width 1: 1,590,668 parameters with two sources, 1,598,456 with four; the masks have 1,048,512 and
    1,061,776 more.
    """

    def __init__(self, sources: int, width: float, norm: bool, explains: bool) -> None:
        super().__init__()
        shared = [3 * (1 + sources), *(channels(count, width) for count, _ in POSE)]
        self.shared = nn.ModuleList(
            Conv(a, b, kernel, 2, norm) for (a, b), (_, kernel) in zip(itertools.pairwise(shared), POSE, strict=True)
        )
        motion = [shared[-1], *(channels(count, width) for count in MOTION)]
        self.motion = nn.Sequential(
            *(Conv(a, b, 3, 2, norm) for a, b in itertools.pairwise(motion)), nn.Conv2d(motion[-1], 6 * sources, 1)
        )
        self.up, self.show = nn.ModuleList(), nn.ModuleList()
        if explains:
            up = [shared[-1], *(channels(count, width) for count, _ in EXPLAIN)]
            kernels = [kernel for _, kernel in EXPLAIN]
            self.up.extend(
                UpConv(a, b, kernel, norm) for (a, b), kernel in zip(itertools.pairwise(up), kernels, strict=True)
            )
            self.show.extend(
                nn.Conv2d(count, 2 * sources, kernel, padding=kernel // 2)
                for count, kernel in zip(up[-SCALES:], kernels[-SCALES:], strict=True)
            )
        initialize(self)

    def forward(self, stack: Tensor) -> Motion:
        features = [stack]
        for layer in self.shared:
            features.append(layer(features[-1]))
        vectors = MOTION_SCALE * self.motion(features[-1]).mean(dim=(2, 3)).unflatten(1, (-1, 6))
        x, logits = features[-1], list[Tensor]()
        for level, up in enumerate(self.up, start=1):
            x = up(x, features[-1 - level].shape[-2:])
            if (shown := level - (len(self.up) - SCALES) - 1) >= 0:
                logits.append(self.show[shown](x).unflatten(1, (-1, 2)))
        return Motion(vectors, logits[::-1])


def initialize(network: nn.Module) -> None:
    """Weights after Glorot and Bengio (2010), biases zero, as in the authors' code."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class SfMLearner(nn.Module):
    """Both networks: a VideoModel."""

    def __init__(self, config: SfMLearnerConfig) -> None:
        super().__init__()
        self.config = config
        self.image_size = config.image_size
        self.disparity = DispNet(config.width, config.batch_norm)
        self.motion = PoseExplainNet(config.frames - 1, config.width, config.batch_norm, config.explains)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def target(self) -> int:
        """Place of the target in a snippet."""
        return 0 if self.config.frames == 2 else self.config.frames // 2

    def forward(self, images: Tensor) -> tuple[list[Tensor], Motion]:
        """Snippets (B, N, 3, H, W) in [0, 1], in time order -> disparities (B, H / 2^s, W / 2^s), motions."""
        images = 2 * images - 1
        target = images[:, self.target]
        disparities = [disparity[:, 0] for disparity in self.disparity(target)]
        return disparities, self.motion(torch.cat([target, *self.sources(images).unbind(1)], dim=1))

    def sources(self, images: Tensor) -> Tensor:
        """The images (B, N - 1, 3, H, W) of a snippet that are not its target."""
        return torch.cat([images[:, : self.target], images[:, self.target + 1 :]], dim=1)

    def depth(self, images: Tensor) -> Tensor:
        """See :class:`VideoModel`: the finest scale."""
        depth: Tensor = 1 / self.disparity(2 * images - 1)[0][:, 0]
        return depth

    def motions(self, images: Tensor, K: Tensor) -> Tensor:
        """See :class:`VideoModel`. K is not looked at: this network knows the camera that it was trained with.

        UserError: snippets of another length than those of the training.
        """
        if images.shape[1] != self.config.frames:
            raise UserError(
                f"this network knows motions of snippets of {self.config.frames} images, not {images.shape[1]}"
            )
        scaled = 2 * images - 1
        stack = torch.cat([scaled[:, self.target], *self.sources(scaled).unbind(1)], dim=1)
        T_tgt_src = rigid.inverse(rigid.from_euler(self.motion(stack).vectors))
        itself = torch.eye(4, dtype=T_tgt_src.dtype, device=T_tgt_src.device).expand(len(images), 1, 4, 4)
        return torch.cat([T_tgt_src[:, : self.target], itself, T_tgt_src[:, self.target :]], dim=1)


NETWORKS = {"sfmlearner": (SfMLearnerConfig, SfMLearner)}
