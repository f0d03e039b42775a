"""Generator and discriminator as one network: it shows poses and finds them."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.pose2rgbd.network import fourier_features
from pose2rgbd_ros.models.posegan.blocks import Conv, DBlock, GBlock, Linear, PlainCopy, ResNet
from pose2rgbd_ros.models.posegan.config import CHANNELS_OF, PoseGANConfig, PoseNetConfig, channels_of
from pose2rgbd_ros.training.families import PoseEstimates, RenderTensors

# D: an image in; whether it was recorded, and the pose it was taken at, out (Eq. 3 of the paper).


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
        self, inputs: int, size: int, blocks: int, width: float, pool: str, spectral: bool = True, gain: float = 1.0
    ) -> None:
        super().__init__()
        widths = channels_of(blocks, width)
        stages = enumerate(itertools.pairwise([inputs, *widths]))
        self.blocks = nn.Sequential(
            *(DBlock(before, after, first=i == 0, spectral=spectral, gain=gain) for i, (before, after) in stages)
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


# G: an encoded pose in, the image a camera there would take out.


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
            nn.BatchNorm2d(widths[-1]), nn.ReLU(), Conv(widths[-1], CHANNELS_OF[config.output], 3), nn.Tanh()
        )

    def forward(self, pose: Tensor) -> Tensor:
        """Encoded poses (B, P) -> images (B, C, S, S) in [-1, 1]; channels R, G, B and, if generated, depth."""
        bottom = self._config.bottom
        start = self.linear(fourier_features(pose, self._config.pose_frequencies))
        image: Tensor = self.image(self.blocks(start.reshape(len(pose), -1, bottom, bottom)))
        return image


F = TypeVar("F", bound="PoseFinder")


class PoseFinder(nn.Module):
    """What PoseGAN and PoseNet have in common: queries go to a copy of the network that is quicker.

    Without gradients and in evaluation mode, that is. The copy is made anew after ``eval``, ``to`` or
    ``load_state_dict``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._plain = PlainCopy()

    def train(self: F, mode: bool = True) -> F:
        self._plain.forget()
        return super().train(mode)

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        self._plain.forget()
        return super().load_state_dict(state_dict, strict, assign)

    def _apply(self: F, fn: Any, recurse: bool = True) -> F:
        self._plain.forget()
        return super()._apply(fn, recurse)


class PoseGAN(PoseFinder):
    """A RenderModel by its generator and a PoseModel by its discriminator."""

    any_camera = False
    has_confidence = False

    def __init__(self, config: PoseGANConfig) -> None:
        super().__init__()
        self.config = config
        self.image_size = config.size
        self.generator = Generator(config)
        self.discriminator = Discriminator(config)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, part: str, inputs: Tensor) -> Any:
        """One of the two players: "generator" or "discriminator"."""
        return self.generator(inputs) if part == "generator" else self.discriminator(inputs)

    def pictures(self, T_map_cam: Tensor, camera: Camera, normalization: Normalization) -> RenderTensors:
        """See :class:`RenderModel`. The camera is not looked at: this network knows the trained one only."""
        pose = torch.from_numpy(normalization.encode_pose(T_map_cam.cpu().numpy())).to(T_map_cam.device)
        image = self.generator(pose).float()
        depth = None
        if self.config.has_depth:
            lowest, highest = normalization.depth_min, normalization.depth_max
            depth = (image[:, 3] + 1) / 2 * (highest - lowest) + lowest  # type: ignore[operator]
        return RenderTensors((image[:, :3] + 1) / 2, depth, None)

    def poses(self, rgb: Tensor, normalization: Normalization) -> PoseEstimates:
        """See :class:`PoseModel`. A network with depth is shown none, as it was in a part of its training."""
        image = rgb * 2 - 1
        if self.config.has_depth:
            image = functional.pad(image, (0, 0, 0, 0, 0, 2))
        verdict = self._plain.of(self.discriminator)(image)
        return PoseEstimates(decoded(verdict.pose, normalization), verdict.features.float(), verdict.realism.float())


def decoded(pose: Tensor, normalization: Normalization) -> Tensor:
    """Encoded poses (B, P) -> T_map_cam (B, 4, 4) float64 on the same device."""
    T_map_cam = normalization.decode_pose(pose.detach().double().cpu().numpy())
    return torch.from_numpy(T_map_cam).to(pose.device)


# PoseNet: a regressor of poses, after Kendall et al., "PoseNet: A Convolutional Network for Real-Time 6-DOF
# Camera
# Relocalization" (2015), on PoseGAN's trunk or a ResNet.


class Regressor(nn.Module):
    """Trunk and linear layer."""

    def __init__(self, config: PoseNetConfig) -> None:
        super().__init__()
        if config.trunk == "posegan":
            self.trunk: Trunk | ResNet = Trunk(
                3, config.size, config.blocks, config.width, config.pool, config.spectral, config.gain
            )
        else:
            self.trunk = ResNet(config.trunk, config.width)
        self.pose = Linear(self.trunk.features, config.pose_dim, config.spectral)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(image)
        return self.pose(features), features


class PoseNet(PoseFinder):
    """A trunk and a linear layer: a PoseModel. With `spectral` it is PoseGAN's discriminator without varphi (config
    A).
    """

    def __init__(self, config: PoseNetConfig) -> None:
        super().__init__()
        self.config = config
        self.image_size = config.size
        self.regressor = Regressor(config)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, S, S) in [-1, 1] -> encoded poses (B, P), features (B, F)."""
        found: tuple[Tensor, Tensor] = self.regressor(image)
        return found

    def poses(self, rgb: Tensor, normalization: Normalization) -> PoseEstimates:
        """See :class:`PoseModel`."""
        pose, features = self._plain.of(self.regressor)(rgb * 2 - 1)
        return PoseEstimates(decoded(pose, normalization), features.float(), None)


# The family's networks by the names that checkpoints have for them, each with its configuration.
NETWORKS = {"posegan": (PoseGANConfig, PoseGAN), "posenet": (PoseNetConfig, PoseNet)}
