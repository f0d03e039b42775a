"""The two networks of the paper (Pose2RGBD, figure 1): a camera pose in, an RGB-D image out.

*Base* is the generator of DCGAN fed with a pose: a dense layer to 1024 x 4 x 4, then 2x2 transposed convolutions of
stride 2, each doubling the side and halving the channels, up to the image. *Slice* adds, on the last hidden map, a
bottleneck of two 3x3 convolutions and a second output: S binary maps saying in which of S equal depth intervals each
pixel lies; they are fed back into the last layer.

The paper publishes the parameter counts of four 512 x 512 depth networks with quaternion input: 2,928,673 (Base),
2,975,633 / 2,987,601 / 3,005,009 (Slice-10 / 32 / 64). Only these layer shapes reproduce all four; what the counts
leaves open is an option of :class:`Pose2RGBDConfig`, with a comment saying what the paper leaves open.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.pose2rgbd.config import NETWORK_CONFIGS, OUTPUT_CHANNELS, START_SIZE, Pose2RGBDConfig
from pose2rgbd_ros.training.families import RenderTensors


class Prediction(NamedTuple):
    """What the network says about B poses.

    image: (B, C, H, W), channels R, G, B, D (those predicted), in ``config.target_range``.
    slices: (B, S, H/2, W/2) probability of each depth slice (H, W with ``slice_resolution="full"``); None for Base.
    slice_logits: the same before the sigmoid, for a stable loss.
    """

    image: Tensor
    slices: Tensor | None
    slice_logits: Tensor | None


class Pose2RGBD(nn.Module):
    """Base or Slice network; input (B, pose_dim) encoded to [-1, 1] by ``Normalization.encode_pose``."""

    any_camera = Pose2RGBDConfig.any_camera

    def __init__(self, config: Pose2RGBDConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels()
        inputs = config.pose_dim * (1 + 2 * config.pose_frequencies)
        self.dense = nn.Linear(inputs, channels[0] * START_SIZE**2)
        self.dense_activation = _activation(config) if config.dense_activation else nn.Identity()
        self.trunk = nn.Sequential(
            *(_up_block(before, after, config) for before, after in itertools.pairwise(channels))
        )
        features = channels[-1]
        if config.variant == "slice":
            bottleneck = config.bottleneck_channels
            self.bottleneck1 = _conv_block(features, bottleneck, config)
            self.bottleneck2 = _conv_block(bottleneck, bottleneck, config)
            self.slice_head = nn.Conv2d(bottleneck, config.slices, 3, padding=1, bias=False)
            features += bottleneck + config.slices
        self.image_head = nn.ConvTranspose2d(features, OUTPUT_CHANNELS[config.output], 2, stride=2)
        self.final = {"tanh": nn.Tanh(), "sigmoid": nn.Sigmoid(), "none": nn.Identity()}[config.final]

    def forward(self, pose: Tensor) -> Prediction:
        """Render B encoded poses (B, pose_dim)."""
        dense = self.dense_activation(self.dense(fourier_features(pose, self.config.pose_frequencies)))
        features = self.trunk(dense.reshape(len(pose), -1, START_SIZE, START_SIZE))
        slices = logits = None
        if self.config.variant == "slice":
            features, slices, logits = self._add_slices(features)
        return Prediction(self.final(self.image_head(features)), slices, logits)

    @property
    def has_confidence(self) -> bool:
        return self.config.has_confidence

    def pictures(self, T_map_cam: Tensor, camera: Camera, normalization: Normalization) -> RenderTensors:
        """See :class:`RenderModel`. The camera is not looked at: this network knows the trained one only."""
        pose = torch.from_numpy(normalization.encode_pose(T_map_cam.cpu().numpy())).to(T_map_cam.device)
        prediction = self(pose)
        rgb, depth = split_image(prediction.image.float(), self.config)
        if depth is not None:
            lowest, highest = normalization.depth_min, normalization.depth_max
            depth = (depth + 1) / 2 * (highest - lowest) + lowest  # type: ignore[operator]
        return RenderTensors(rgb, depth, None if prediction.slices is None else confidence(prediction.slices.float()))

    def _add_slices(self, trunk: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features for the image head, slice probabilities and logits."""
        first = self.bottleneck1(trunk)
        chosen = self.bottleneck2(first) if self.config.slice_features == "second" else first
        logits = self.slice_head(chosen)
        # Order of the concatenation is open in the paper; it changes nothing but the order of the weights.
        features = torch.cat([trunk, chosen, torch.sigmoid(logits)], dim=1)
        if self.config.slice_resolution == "full":
            logits = nn.functional.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)
        return features, torch.sigmoid(logits), logits


def fourier_features(pose: Tensor, frequencies: int) -> Tensor:
    """(B, P) -> (B, P (1 + 2 frequencies)): the pose itself, then sines and cosines of its octaves."""
    if frequencies == 0:
        return pose
    octaves = 2.0 ** torch.arange(frequencies, device=pose.device, dtype=pose.dtype) * (math.pi / 2)
    phase = (pose[:, :, None] * octaves).flatten(1)
    return torch.cat([pose, torch.sin(phase), torch.cos(phase)], dim=1)


def confidence(slices: Tensor) -> Tensor:
    """(B, S, h, w) slice probabilities -> (B, h, w) their sum: 1 ideal, 0 no slice claimed, above 1 ambiguous."""
    return slices.sum(dim=1)


def split_image(image: Tensor, config: Pose2RGBDConfig) -> tuple[Tensor | None, Tensor | None]:
    """Network image -> (rgb (B, 3, H, W) in [0, 1] | None, depth (B, H, W) in [-1, 1] | None), clipped.

    The depth is still encoded; ``Normalization.decode_depth`` makes metres of it.
    """
    low, high = config.target_range
    unit = ((image - low) / (high - low)).clamp(0.0, 1.0)
    rgb = unit[:, :3] if config.has_rgb else None
    depth = unit[:, -1] * 2 - 1 if config.has_depth else None
    return rgb, depth


def _activation(config: Pose2RGBDConfig) -> nn.Module:
    return nn.LeakyReLU(0.2, inplace=True) if config.activation == "leaky_relu" else nn.ReLU(inplace=True)


def _up_block(inputs: int, outputs: int, config: Pose2RGBDConfig) -> nn.Sequential:
    # 2x2 kernels of stride 2 do not overlap; no bias, the batch normalisation has one.
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, outputs, 2, stride=2, bias=False), nn.BatchNorm2d(outputs), _activation(config)
    )


def _conv_block(inputs: int, outputs: int, config: Pose2RGBDConfig) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), _activation(config)
    )


NETWORKS = {"pose2rgbd": (NETWORK_CONFIGS["pose2rgbd"], Pose2RGBD)}
