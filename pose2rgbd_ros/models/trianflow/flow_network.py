"""Optical flow of an image pair: the flow branch of TrianFlow, a light PWC-Net (Sun et al., CVPR 2018).

5,134,324 parameters at width 1: pyramid 1,040,744, decoder 3,574,026, context 519,554.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from pose2rgbd_ros.depth_from_images.optical_flow import warp_by_flow

PYRAMID = (16, 32, 64, 96, 128, 196)  # channels of levels 1 to 6; level l has 1 / 2^l of the resolution
ESTIMATOR = (128, 128, 96, 64, 32)
CONTEXT = ((128, 1), (128, 2), (128, 4), (96, 8), (64, 16), (32, 1))  # channels and dilation
FINEST = 2  # level at which the decoder ends
RADIUS = 4  # pixels of a level that are compared to each side
SLOPE = 0.1
MEAN, SPREAD = 0.45, 0.225  # of colours 0..1, about ImageNet's
LEAST_SPREAD = 1e-3  # of a channel's features, below which they are as good as constant
FIRST_FLOW = 0.02  # share of the usual weights that a head begins with, so that flow begins near zero (ours)


def channels(count: int, width: float) -> int:
    """Channels of a layer at a width factor."""
    return max(4, round(count * width))


def cost_volume(features_1: Tensor, features_2: Tensor, radius: int = RADIUS) -> Tensor:
    """(B, (2 r + 1)^2, H, W) mean product over the channels of each pixel of 1 with its surroundings in 2.

    Channel (dv + r) (2 r + 1) + du + r compares with the pixel du to the right and dv below; beyond the edge is zero.
    """
    height, width = features_1.shape[-2:]
    padded = functional.pad(features_2, [radius] * 4)
    side = 2 * radius + 1
    rows = [
        (features_1 * padded[:, :, dv : dv + height, du : du + width]).mean(dim=1)
        for dv in range(side)
        for du in range(side)
    ]
    return torch.stack(rows, dim=1)


def standardized(one: Tensor, two: Tensor) -> tuple[Tensor, Tensor]:
    """Features (B, C, H, W) of two images at zero mean and unit spread of both together, channel by channel."""
    both = torch.cat([one, two], dim=-1)
    spread, mean = torch.std_mean(both, dim=(2, 3), keepdim=True)
    return (one - mean) / (spread + LEAST_SPREAD), (two - mean) / (spread + LEAST_SPREAD)


def resized_flow(flow: Tensor, height: int, width: int) -> Tensor:
    """The flow field of images of another size, in their pixels."""
    factor = flow.new_tensor([width / flow.shape[-1], height / flow.shape[-2]])[:, None, None]
    return functional.interpolate(flow, (height, width), mode="bilinear", align_corners=False) * factor


class Conv(nn.Sequential):
    """3 x 3 convolution and LeakyReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation), nn.LeakyReLU(SLOPE)
        )


class Pyramid(nn.ModuleList):
    """Images (B, 3, H, W) -> features of levels 1 to 6, the finest first."""

    def __init__(self, width: float) -> None:
        counts = [3, *(channels(count, width) for count in PYRAMID)]
        super().__init__(
            nn.Sequential(Conv(before, after, stride=2), Conv(after, after))
            for before, after in itertools.pairwise(counts)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        return list(itertools.accumulate(self, lambda x, level: level(x), initial=image))[1:]


class Estimator(nn.Module):
    """Flow of one level: (B, inputs, h, w) -> features (B, 32 width, h, w) and residual flow (B, 2, h, w).

    From the third convolution on each is given the outputs of the two before it.
    """

    def __init__(self, inputs: int, width: float) -> None:
        super().__init__()
        counts = [channels(count, width) for count in ESTIMATOR]
        before = [inputs, counts[0], *(a + b for a, b in itertools.pairwise(counts))]
        self.convs = nn.ModuleList(Conv(a, b) for a, b in zip(before[:-1], counts, strict=True))
        self.flow = nn.Conv2d(before[-1], 2, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        before, last = x, self.convs[0](x)
        for index, conv in enumerate(self.convs[1:]):
            before, last = last, conv(last if index == 0 else torch.cat([before, last], dim=1))
        return last, self.flow(torch.cat([before, last], dim=1))


class FlowDecoder(nn.Module):
    """An estimator for each level from 6 to 2; the flow found above is upsampled, and what is left is looked for."""

    def __init__(self, width: float, centred: bool) -> None:
        """centred: features are compared at zero mean and unit spread (ours), and the cost volume passes a LeakyReLU,
        as in PWC-Net; in the code of TrianFlow's authors it does not."""
        super().__init__()
        self._centred, self._slope = centred, SLOPE if centred else 1.0
        cost = (2 * RADIUS + 1) ** 2
        counts = [0, *(channels(count, width) + 2 for count in PYRAMID[-2 : FINEST - 2 : -1])]
        self.estimators = nn.ModuleList(Estimator(cost + count, width) for count in counts)

    def forward(self, pyramid_1: list[Tensor], pyramid_2: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The last features, and flow of levels 2 to 6 in their pixels, the finest first."""
        flows: list[Tensor] = []
        features = pyramid_1[-1]
        for estimator, one, two in zip(self.estimators, pyramid_1[:0:-1], pyramid_2[:0:-1], strict=True):
            compared = standardized(one, two) if self._centred else (one, two)
            if not flows:
                features, flow = estimator(functional.leaky_relu(cost_volume(*compared), self._slope))
            else:
                before = resized_flow(flows[0], *one.shape[-2:])
                warped = warp_by_flow(compared[1], before)
                cost = functional.leaky_relu(cost_volume(compared[0], warped), self._slope)
                features, flow = estimator(torch.cat([cost, one, before], dim=1))
                flow = flow + before
            flows.insert(0, flow)
        return features, flows


class FlowNetwork(nn.Module):
    """Flow between the images of a pair."""

    def __init__(self, width: float = 1.0, centred: bool = False) -> None:
        """centred: colours, and features where they are compared, are taken to zero mean and unit spread, and the cost
        volume is activated (ours); without it the network is that of the published weights."""
        super().__init__()
        self._centred = centred
        self.pyramid = Pyramid(width)
        self.decoder = FlowDecoder(width, centred)
        counts = [(channels(ESTIMATOR[-1], width) + 2, 1), *((channels(c, width), dilation) for c, dilation in CONTEXT)]
        self.context = nn.Sequential(
            *(Conv(a, b, dilation=dilation) for (a, _), (b, dilation) in itertools.pairwise(counts)),
            nn.Conv2d(counts[-1][0], 2, 3, padding=1),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=SLOPE)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        for head in (*(estimator.flow for estimator in self.decoder.estimators), self.context[-1]):
            with torch.no_grad():
                head.weight.mul_(FIRST_FLOW)  # type: ignore[union-attr, operator]

    def forward(self, images_1: Tensor, images_2: Tensor) -> list[Tensor]:
        """Flow of images (B, 3, H, W) in 0..1 at 1, 1/2, 1/4 and 1/8 of their size, in pixels of that size."""
        one, two = self._features(images_1, images_2)
        return self._flows(one, two, images_1.shape)

    def both_ways(self, images_1: Tensor, images_2: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """:meth:`forward` from 1 to 2 and from 2 to 1; the features are worked out once."""
        one, two = self._features(images_1, images_2)
        return self._flows(one, two, images_1.shape), self._flows(two, one, images_1.shape)

    def _features(self, images_1: Tensor, images_2: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        images = torch.cat([images_1, images_2])
        features = self.pyramid((images - MEAN) / SPREAD if self._centred else images)
        count = len(images_1)
        return [each[:count] for each in features], [each[count:] for each in features]

    def _flows(self, one: list[Tensor], two: list[Tensor], shape: torch.Size) -> list[Tensor]:
        features, flows = self.decoder(one, two)
        flows[0] = flows[0] + self.context(torch.cat([features, flows[0]], dim=1))
        # Level 2 at a quarter of the resolution becomes the flow of the whole, and so on: four times larger each.
        sizes = [(-(-shape[-2] // 2**scale), -(-shape[-1] // 2**scale)) for scale in range(len(flows) - 1)]
        return [resized_flow(flow, *size) for flow, size in zip(flows, sizes, strict=False)]
