"""What DeepV2D's modules are made of: pre-activated convolutions, residual blocks, hourglasses, the 2-D encoder.

At a quarter of the image's size, pixel (i, j) of a feature map lies at the image's (4 i, 4 j): strided kernels are odd
and stand on their middle. Intrinsics there are K with both upper rows divided by 4, and a map at that size of an
image-sized one is every fourth pixel.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from pose2rgbd_ros.models.deepv2d.config import DeepV2DConfig
from pose2rgbd_ros.models.strided import StridedPointwise

STRIDE = 4  # of the encoder
ENCODER = (32, 64)  # channels at a half and a quarter of the size
BLOCKS = 3  # residual blocks after each
# Of hourglasses in 2-D and 3-D: sizes below the first, and how many channels each has more than the one above.
LEVELS, MORE_2D, MORE_3D = 4, 64, 48


def channels(count: int, width: float) -> int:
    """Channels of a layer at a width factor."""
    return max(4, round(count * width))


def conv(dims: int, inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d | nn.Conv3d:
    """Convolution that keeps the size but for its stride."""
    made = nn.Conv2d if dims == 2 else nn.Conv3d
    return made(inputs, outputs, kernel, stride, padding=kernel // 2)


def norm(dims: int, count: int, config: DeepV2DConfig, scales: bool) -> nn.Module:
    """Normalisation of the configuration's kind; without `scales` it only shifts, as in the motion module."""
    made: nn.Module
    if config.norm == "group":
        made = nn.GroupNorm(math.gcd(8, count), count)
    else:
        made = (nn.BatchNorm2d if dims == 2 else nn.BatchNorm3d)(count, momentum=config.momentum)
    if not scales:
        del made.weight
        made.register_buffer("weight", torch.ones(count), persistent=False)
    return made


class PreConv(nn.Sequential):
    """Normalisation, ReLU, convolution of 3 pixels to each side."""

    def __init__(
        self, dims: int, inputs: int, outputs: int, config: DeepV2DConfig, scales: bool = True, stride: int = 1
    ) -> None:
        super().__init__(
            norm(dims, inputs, config, scales), nn.ReLU(inplace=True), conv(dims, inputs, outputs, 3, stride)
        )


class Residual(nn.Module):
    """What two convolutions add to their input, which a strided block takes there by one of a single pixel."""

    def __init__(
        self, dims: int, inputs: int, outputs: int, config: DeepV2DConfig, scales: bool = True, stride: int = 1
    ) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            PreConv(dims, inputs, outputs, config, scales, stride), PreConv(dims, outputs, outputs, config, scales)
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1:
            self.shortcut = StridedPointwise(inputs, outputs, stride)
        elif inputs != outputs:
            self.shortcut = conv(dims, inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        shortcut: Tensor = self.shortcut(x)
        return shortcut + self.convs(x)


class Hourglass(nn.Module):
    """Down to 1 / 2^levels of the size and up again, adding what was there on the way (Newell et al., 2016).

    Any size: halves are rounded up. What the smallest size has is not published; the parameters' number says one
    convolution in 2-D and two in 3-D.
    """

    def __init__(self, dims: int, count: int, more: int, config: DeepV2DConfig, levels: int = LEVELS) -> None:
        super().__init__()
        here, below = (channels(each, config.width) for each in (count, count + more))
        self.dims = dims
        self.before = Residual(dims, here, here, config)
        self.down = PreConv(dims, here, below, config)
        self.inner: nn.Module
        if levels > 1:
            self.inner = Hourglass(dims, count + more, more, config, levels - 1)
        else:
            self.inner = nn.Sequential(*(PreConv(dims, below, below, config) for _ in range(dims - 1)))
        self.up = PreConv(dims, below, here, config)

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        pool = functional.max_pool2d if self.dims == 2 else functional.max_pool3d
        smaller = self.up(self.inner(self.down(pool(x, 2, ceil_mode=True))))
        return x + functional.interpolate(smaller, x.shape[2:], mode="nearest")


class Encoder(nn.Sequential):
    """Images (B, 3, H, W) in -1..1 -> features (B, outputs, H / 4, W / 4), sizes rounded up."""

    def __init__(self, outputs: int, config: DeepV2DConfig, scales: bool, hourglasses: int = 0) -> None:
        half, quarter = (channels(count, config.width) for count in ENCODER)
        super().__init__(
            conv(2, 3, half, 7, stride=2),
            *(Residual(2, half, half, config, scales) for _ in range(BLOCKS)),
            Residual(2, half, quarter, config, scales, stride=2),
            *(Residual(2, quarter, quarter, config, scales) for _ in range(BLOCKS)),
            *(Hourglass(2, ENCODER[1], MORE_2D, config) for _ in range(hourglasses)),
            conv(2, quarter, channels(outputs, config.width), 1),
        )


def initialize(network: nn.Module) -> None:
    """Weights after He et al. (2015), biases zero: what the paper began with is not published."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def quarter_intrinsics(K: Tensor) -> Tensor:
    """Intrinsics (B, 3, 3) of feature maps."""
    return K * K.new_tensor([1 / STRIDE, 1 / STRIDE, 1.0])[:, None]


def enlarged(maps: Tensor) -> Tensor:
    """Maps (B, C, H / 4, W / 4) at the image's size, bilinear; beyond the last pixel the edge goes on."""
    height, width = maps.shape[-2:]
    size = (STRIDE * (height - 1) + 1, STRIDE * (width - 1) + 1)
    inner = functional.interpolate(maps, size, mode="bilinear", align_corners=True)
    return functional.pad(inner, (0, STRIDE - 1, 0, STRIDE - 1), mode="replicate")


def per_view(encoder: nn.Module, images: Tensor) -> Tensor:
    """Features (B, N, C, h, w) of images (B, N, 3, H, W) in 0..1."""
    features: Tensor = encoder(2 * images.flatten(0, 1) - 1)
    return features.unflatten(0, images.shape[:2])


def sources_of(frames: int, target: int) -> list[int]:
    """Places of the images of a snippet that are not its target."""
    return [i for i in range(frames) if i != target]


def with_target(T_tgt_src: Tensor, target: int) -> Tensor:
    """Poses (B, S, 4, 4) of the sources, and the identity at the target's place: (B, S + 1, 4, 4)."""
    itself = torch.eye(4, dtype=T_tgt_src.dtype, device=T_tgt_src.device).expand(len(T_tgt_src), 1, 4, 4)
    return torch.cat([T_tgt_src[:, :target], itself, T_tgt_src[:, target:]], dim=1)
