"""DeepV2D's motion module: motions refined by the flow that they leave; and the first motions (section 3.3)."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pose2rgbd_ros.depth_from_images import rigid
from pose2rgbd_ros.depth_from_images.gauss_newton import VARIANTS, refined_motion, reprojected
from pose2rgbd_ros.depth_from_images.inverse_warp import inverse_warp
from pose2rgbd_ros.models.deepv2d.config import DeepV2DConfig
from pose2rgbd_ros.models.deepv2d.layers import (
    STRIDE,
    Encoder,
    channels,
    initialize,
    norm,
    per_view,
    quarter_intrinsics,
)
from pose2rgbd_ros.models.sfmlearner.network import Conv, UpConv

FEATURES = 64  # of a view
FLOW_DOWN = ((32, 7), (64, 5), (128, 3), (256, 3), (512, 3))  # channels and kernels; each has half the size
FLOW_UP = (256, 128, 64, 32, 32)
MATCH_RADIUS, FIRST_SHARPNESS = 4, 100.0  # pixels of features to each side; factor on cosines
LEAST_SPREAD = 1e-3  # of a channel's features, below which they are as good as constant
FIRST_FLOW = 0.02  # share of the usual weights that flow begins with, so that first steps are small (ours)
# Channels, kernel (height, width) and stride of the pose regressor.
REGRESSOR = (
    (32, (7, 7), 2),
    (32, (1, 7), 1),
    (32, (7, 1), 1),
    (64, (3, 3), 2),
    (64, (1, 5), 1),
    (64, (5, 1), 1),
    (128, (3, 3), 2),
    (128, (3, 3), 1),
    (256, (3, 3), 2),
    (256, (3, 3), 1),
    (256, (3, 3), 2),
    (256, (3, 3), 1),
    (256, (3, 3), 2),
)
WHOLE = 512  # channels of its last layer, which sees the whole image
MOTION_SCALE = 0.01
# Translations that are read without geometry are in this share of the greatest depth, the published 8 of which gives 1.
UNIT = 1 / 8


class FlowNet(nn.Module):
    """Features of the target and of a warped view (B, 128, h, w) -> residual flow and logits of its confidence, each
    (B, 2, h, w); 8,205,380 parameters at width 1. Without `shows_flow`: the update of a motion (B, 6) instead.
    """

    def __init__(self, inputs: int, config: DeepV2DConfig) -> None:
        super().__init__()
        width, shows_flow = config.width, config.se3

        def conv(a: int, b: int, kernel: int, stride: int) -> Conv:
            made = Conv(a, b, kernel, stride, norm=False)
            if config.norm == "group":
                made.insert(1, norm(2, b, config, scales=True))
            return made

        def up_conv(a: int, b: int) -> UpConv:
            made = UpConv(a, b, 3, norm=False)
            if config.norm == "group":
                made.norm = norm(2, b, config, scales=True)
            return made

        down = [inputs, *(channels(count, width) for count, _ in FLOW_DOWN)]
        self.down = nn.ModuleList(
            nn.Sequential(conv(a, b, kernel, 2), conv(b, b, kernel, 1))
            for (a, b), (_, kernel) in zip(itertools.pairwise(down), FLOW_DOWN, strict=True)
        )
        self.up, self.join = nn.ModuleList(), nn.ModuleList()
        if shows_flow:
            up = [down[-1], *(channels(count, width) for count in FLOW_UP)]
            self.up.extend(up_conv(a, b) for a, b in itertools.pairwise(up))
            skips = [*down[-2:0:-1], 0]
            self.join.extend(conv(a + b, a, 3, 1) for a, b in zip(up[1:], skips, strict=True))
        count = 2 if shows_flow else 6
        last = up[-1] if shows_flow else down[-1]
        self.heads = nn.ModuleList(
            nn.Conv2d(last, count, 3 if shows_flow else 1, padding="same") for _ in range(2 if shows_flow else 1)
        )
        initialize(self)
        for head in self.heads:
            with torch.no_grad():
                head.weight.mul_(FIRST_FLOW)  # type: ignore[operator]

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [x]
        for layer in self.down:
            features.append(layer(features[-1]))
        y = features[-1]
        for level, (up, join) in enumerate(zip(self.up, self.join, strict=True), start=2):
            size = features[-level].shape[-2:]
            y = up(y, size)
            y = join(torch.cat([y, features[-level]], dim=1) if level <= len(FLOW_DOWN) else y)
        return [head(y) for head in self.heads]


class Matcher(nn.Module):
    """Where the target's features are found again within MATCH_RADIUS pixels of the warped view: ours.

    Likely displacements follow from how alike features are, as the stereo module's depths do, so that features learn
    from the first step on, and what is wrong is where flow is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(FIRST_SHARPNESS)))

    def forward(self, key: Tensor, warped: Tensor) -> tuple[Tensor, Tensor]:
        """Flow (B, 2, h, w) in pixels, and how sharp the match is (B, 1, h, w), of features (B, C, h, w)."""
        width, reach = key.shape[-1], MATCH_RADIUS
        side, padded = 2 * reach + 1, width + 2 * reach
        # Of a row all pixels of the rows nearby are looked at together, and those that are too far away ruled out:
        # several times the products that are needed, as one multiplication of matrices.
        rows = functional.pad(_normalized(warped), [reach] * 4).unfold(2, side, 1)
        nearby = rows.permute(0, 2, 1, 4, 3).flatten(3)  # (B, h, C, side padded)
        alike = (self.log_sharpness.exp() * _normalized(key)).permute(0, 2, 3, 1) @ nearby
        u = torch.arange(width, dtype=key.dtype, device=key.device)
        u_there = torch.arange(-reach, width + reach, dtype=key.dtype, device=key.device).repeat(side)
        dv = torch.arange(-reach, reach + 1, dtype=key.dtype, device=key.device).repeat_interleave(padded)
        too_far = torch.where((u_there - u[:, None]).abs() > reach, -torch.inf, 0.0)
        likely = (alike + too_far).softmax(dim=-1)
        found = likely @ torch.stack([u_there, dv], dim=1)  # (B, h, w, 2)
        flow = torch.stack([found[..., 0] - u, found[..., 1]], dim=1)
        return flow, likely.detach().amax(dim=-1)[:, None]


def _normalized(features: Tensor) -> Tensor:
    """Of length one at each pixel, after what a channel has everywhere was taken off."""
    spread, mean = torch.std_mean(features, dim=(2, 3), keepdim=True)
    return functional.normalize((features - mean) / (spread + LEAST_SPREAD), dim=1)


class Steps(NamedTuple):
    """By step, of B pairs: T_src_tgt (B, 4, 4), and (B, h, w, 2) flow, weights and residuals, see `MotionSteps`."""

    T_src_tgt: list[Tensor]
    flows: list[Tensor]
    weights: list[Tensor]
    residuals: list[Tensor]


class MotionModule(nn.Module):
    """Encoder (344,160 parameters at width 1), and a flow network whose weights all steps share."""

    def __init__(self, config: DeepV2DConfig) -> None:
        super().__init__()
        self._se3, self._how = config.se3, VARIANTS[config.gauss_newton]
        self._unit, self._gain = UNIT * config.max_depth, config.gain
        self.encoder = Encoder(FEATURES, config, scales=False)
        initialize(self.encoder)
        self.matcher = Matcher() if config.flow == "matched" and config.se3 else None
        self.flow = FlowNet(2 * channels(FEATURES, config.width) + (0 if self.matcher is None else 3), config)

    def forward(self, images: Tensor, K: Tensor, depth: Tensor, T_src_tgt: Tensor, steps: int) -> Steps:
        """Of images (B, 1 + S, 3, H, W) in 0..1, the target first; its depth (B, H, W); T_src_tgt (B S, 4, 4)."""
        features, sources = per_view(self.encoder, images), images.shape[1] - 1
        source = features[:, 1:].flatten(0, 1)
        key = features[:, 0].repeat_interleave(sources, dim=0)
        depth = depth[:, ::STRIDE, ::STRIDE].repeat_interleave(sources, dim=0)
        K, T = quarter_intrinsics(K).repeat_interleave(sources, dim=0), T_src_tgt
        found = Steps([], [], [], [])
        for _ in range(steps):
            T = T.detach()
            warped = inverse_warp(source, depth, T, K)
            seen = warped.valid[:, None]
            views, matched, sharp = [key, warped.image * seen], torch.zeros(()), torch.ones(())
            if self.matcher is not None:
                matched, sharp = self.matcher(*views)
                views += [matched, sharp]
            said = self.flow(torch.cat(views, dim=1))
            if not self._se3:
                T = rigid.exponential(self._gain * _motion(said[0], self._unit)) @ T
            else:
                flow = (matched + self._gain * said[0]).movedim(1, -1)
                weights = (torch.sigmoid(said[1]) * sharp * seen).movedim(1, -1)
                wanted = torch.where(warped.valid[..., None], warped.pixels, 0.0) + flow
                T = refined_motion(T, wanted, weights, depth, K, self._how)
                there = reprojected(depth, K, T)
                known = (there.valid & warped.valid)[..., None]
                found.flows.append(flow)
                found.weights.append(weights)
                found.residuals.append(torch.where(known, wanted - there.pixels, 0.0))
            found.T_src_tgt.append(T)
        return found


class PoseRegressor(nn.Module):
    """Stacked images (B, 3 n, H, W) in -1..1, the target first -> motions T_src_tgt (B, sources, 4, 4), coarse."""

    def __init__(self, images: int, sources: int, config: DeepV2DConfig) -> None:
        super().__init__()
        self._size = tuple(side // 2 for side in config.image_size)
        self._unit, self._scale = UNIT * config.max_depth, MOTION_SCALE * config.gain
        layers: list[nn.Module] = []
        count, left = 3 * images, self._size
        for outputs, kernel, stride in REGRESSOR:
            wide = channels(outputs, config.width)
            padding = (kernel[0] // 2, kernel[1] // 2)
            layers += [nn.Conv2d(count, wide, kernel, stride, padding), nn.ReLU(inplace=True)]
            count, left = wide, tuple(-(-side // stride) for side in left)
        whole = channels(WHOLE, config.width)
        last = [nn.Conv2d(count, whole, (left[0], left[1])), nn.ReLU(inplace=True), nn.Conv2d(whole, 6 * sources, 1)]
        self.layers = nn.Sequential(*layers, *last)
        initialize(self)

    def forward(self, stack: Tensor) -> Tensor:
        small = functional.interpolate(stack, self._size, mode="area")
        said = self.layers(small)[..., 0, 0].unflatten(1, (-1, 6))
        return rigid.from_euler(self._scale * said * _units(said, self._unit))


def _motion(said: Tensor, unit: float) -> Tensor:
    """Twists (B, 6) of maps (B, 6, h, w)."""
    mean = MOTION_SCALE * said.mean(dim=(2, 3))
    return mean * _units(mean, unit)


def _units(like: Tensor, unit: float) -> Tensor:
    return like.new_tensor([unit] * 3 + [1.0] * 3)
