"""DeepV2D's stereo module: depth of the target from views whose motions are known (section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pose2rgbd_ros.depth_from_images.inverse_warp import swept
from pose2rgbd_ros.models.deepv2d.config import DeepV2DConfig
from pose2rgbd_ros.models.deepv2d.layers import (
    MORE_3D,
    Encoder,
    Hourglass,
    PreConv,
    Residual,
    channels,
    conv,
    enlarged,
    initialize,
    norm,
    per_view,
    quarter_intrinsics,
)

FEATURES = 32  # of a view
HOURGLASSES_2D = 2
MATCHED = {"average": 32, "concatenate": 48}  # channels of the volume that the hourglasses are given
HEAD = 32
FIRST_LOGITS = 0.1  # share of the usual weights that likelihoods begin with, so that no depth is ruled out (ours)
CONVOLUTIONS = 4  # of a view's volume, in the preprint


class FirstConv(nn.Module):
    """The first convolution of a cost volume [F*, F warped to each depth], which is never put together.

    F* is the same at all depths: what it adds is worked out in 2-D, for the first, the last and all other depths. A
    convolution of one pixel goes before warping, which it commutes with. With `difference` the volume is
    [F*, (F warped - F*) ** 2], of which two features agree where it is 0, whatever they are.
    """

    def __init__(self, features: int, outputs: int, kernel: int, difference: bool) -> None:
        super().__init__()
        self._difference = difference
        self.conv = conv(3, 2 * features, outputs, kernel)

    def forward(self, key: Tensor, feature: Tensor, planes: Tensor, T_src_tgt: Tensor, K: Tensor) -> Tensor:
        """(B, outputs, P, h, w) of features (B, C, h, w) of the target and of a source."""
        weight, bias = self.conv.weight, self.conv.bias
        count, kernel = key.shape[1], weight.shape[-1]
        of_key, of_source = weight[:, :count], weight[:, count:]
        if kernel == 1 and not self._difference:
            constant = functional.conv2d(key, of_key[:, :, 0], bias)
            return constant[:, :, None] + swept(functional.conv2d(feature, of_source[:, :, 0]), planes, T_src_tgt, K)
        warped = swept(feature, planes, T_src_tgt, K)
        if self._difference:
            warped = (warped - key[:, :, None]).square()
        volume = functional.conv3d(warped, of_source, bias, padding=kernel // 2)
        if kernel == 1:
            return volume + functional.conv2d(key, of_key[:, :, 0])[:, :, None]
        # Beyond the first and the last depth there is nothing.
        kernels = torch.cat([of_key[:, :, 1:].sum(2), of_key.sum(2), of_key[:, :, :2].sum(2)])
        first, inner, last = functional.conv2d(key, kernels, padding=1)[:, :, None].chunk(3, dim=1)
        return volume + torch.cat([first, inner.expand(-1, -1, len(planes) - 2, -1, -1), last], dim=2)


class ViewMatcher(nn.Module):
    """A view beside the target at all depths, with weights that all views share, to be averaged over them."""

    def __init__(self, config: DeepV2DConfig) -> None:
        super().__init__()
        features, count = channels(FEATURES, config.width), channels(MATCHED["average"], config.width)
        four = config.matching == "convolutions"
        self.first = FirstConv(features, count, 3 if four else 1, config.volume == "difference")
        rest = (PreConv(3, count, count, config) for _ in range(CONVOLUTIONS - 1))
        self.rest = nn.Sequential(*rest) if four else Residual(3, count, count, config)

    def forward(self, key: Tensor, sources: Tensor, planes: Tensor, T_src_tgt: Tensor, K: Tensor) -> Tensor:
        total: Tensor | float = 0.0
        # One by one: without gradients, memory does not grow with the number of views.
        for feature, T in zip(sources.unbind(1), T_src_tgt.unbind(1), strict=True):
            total = total + self.rest(self.first(key, feature, planes, T, K))
        assert isinstance(total, Tensor)
        return total / sources.shape[1]


class AllViewsMatcher(nn.Module):
    """A fixed number of views and the target on top of each other at all depths."""

    def __init__(self, config: DeepV2DConfig) -> None:
        super().__init__()
        features, count = channels(FEATURES, config.width), channels(MATCHED["concatenate"], config.width)
        four = config.matching == "convolutions"
        rest = (PreConv(3, count, count, config) for _ in range(CONVOLUTIONS - 1))
        self.layers = nn.Sequential(
            conv(3, config.views * features, count, 3), *(rest if four else [Residual(3, count, count, config)])
        )

    def forward(self, key: Tensor, sources: Tensor, planes: Tensor, T_src_tgt: Tensor, K: Tensor) -> Tensor:
        volumes = [key[:, :, None].expand(-1, -1, len(planes), -1, -1)]
        for feature, T in zip(sources.unbind(1), T_src_tgt.unbind(1), strict=True):
            volumes.append(swept(feature, planes, T, K))
        matched: Tensor = self.layers(torch.cat(volumes, dim=1))
        return matched


class Head(nn.Sequential):
    """A volume -> how likely each depth is (B, 1, P, h, w), as logits."""

    def __init__(self, inputs: int, config: DeepV2DConfig) -> None:
        count = channels(HEAD, config.width)
        super().__init__(
            norm(3, inputs, config, scales=True),
            nn.ReLU(inplace=True),
            conv(3, inputs, count, 3),
            nn.ReLU(inplace=True),
            conv(3, count, count, 3),
            nn.ReLU(inplace=True),
            conv(3, count, 1, 1),
        )


class Stereo(nn.Module):
    """At width 1: 12,526,688 parameters in 2-D; in 3-D as published 19.59 M (code, NYU) and 24.13 M (code, KITTI)."""

    planes: Tensor

    def __init__(self, config: DeepV2DConfig) -> None:
        super().__init__()
        self.encoder = Encoder(FEATURES, config, scales=True, hourglasses=HOURGLASSES_2D)
        self.matcher = ViewMatcher(config) if config.pooling == "average" else AllViewsMatcher(config)
        count, shown = MATCHED[config.pooling], range(config.hourglasses)
        self.hourglasses = nn.ModuleList(Hourglass(3, count, MORE_3D, config) for _ in shown)
        self.heads = nn.ModuleList(Head(channels(count, config.width), config) for _ in shown)
        near, far = config.min_depth, config.max_depth
        if config.spacing == "linear":
            planes = torch.linspace(near, far, config.depths)
        else:
            planes = 1 / torch.linspace(1 / near, 1 / far, config.depths)
        self.register_buffer("planes", planes, persistent=False)
        initialize(self)
        for head in self.heads:
            with torch.no_grad():
                head[-1].weight.mul_(FIRST_LOGITS)  # type: ignore[index]

    def forward(self, images: Tensor, K: Tensor, T_src_tgt: Tensor) -> list[Tensor]:
        """Depth (B, H, W) by each hourglass of images (B, 1 + S, 3, H, W) in 0..1, the target first.

        T_src_tgt: (B, S, 4, 4) takes points of the target's camera to each source's.
        """
        return [self._expected(likely) for likely in self._likelihoods(images, K, T_src_tgt)]

    def with_spread(self, images: Tensor, K: Tensor, T_src_tgt: Tensor) -> tuple[Tensor, Tensor]:
        """Depth (B, H, W) by the last hourglass, and its standard deviation over the planes."""
        likely = self._likelihoods(images, K, T_src_tgt)[-1]
        depth = self._expected(likely)
        off = self.planes[:, None, None] - depth[:, None]
        return depth, (likely * off.square()).sum(dim=1).sqrt()

    def _expected(self, likely: Tensor) -> Tensor:
        return (likely * self.planes[:, None, None]).sum(dim=1)

    def _likelihoods(self, images: Tensor, K: Tensor, T_src_tgt: Tensor) -> list[Tensor]:
        """(B, P, H, W) by each hourglass."""
        features = per_view(self.encoder, images)
        x = self.matcher(features[:, 0], features[:, 1:], self.planes, T_src_tgt, quarter_intrinsics(K))
        found = []
        for hourglass, head in zip(self.hourglasses, self.heads, strict=True):
            x = hourglass(x)
            found.append(enlarged(head(x)[:, 0]).softmax(dim=1))
        return found
