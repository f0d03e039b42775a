"""Generator and discriminator as one network: it shows poses and finds them."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.pose_model import PoseEstimates
from pose2rgbd_ros.models.posegan.config import PoseGANConfig
from pose2rgbd_ros.models.posegan.discriminator import Discriminator
from pose2rgbd_ros.models.posegan.generator import Generator
from pose2rgbd_ros.models.posegan.plain import PlainCopy
from pose2rgbd_ros.models.view import Pictures

F = TypeVar("F", bound="PoseFinder")


class PoseFinder(nn.Module):
    """What PoseGAN and PoseNet have in common: queries go to a copy of the network that is quicker.

    Without gradients and in evaluation mode, that is. The copy is made anew after ``eval``, ``to`` or ``load_state_dict``.
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
    """A ViewModel by its generator and a PoseModel by its discriminator."""

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

    def pictures(self, T_map_cam: Tensor, camera: Camera, normalization: Normalization) -> Pictures:
        """See :class:`ViewModel`. The camera is not looked at: this network knows the trained one only."""
        pose = torch.from_numpy(normalization.encode_pose(T_map_cam.cpu().numpy())).to(T_map_cam.device)
        image = self.generator(pose).float()
        depth = None
        if self.config.has_depth:
            lowest, highest = normalization.depth_min, normalization.depth_max
            depth = (image[:, 3] + 1) / 2 * (highest - lowest) + lowest  # type: ignore[operator]
        return Pictures((image[:, :3] + 1) / 2, depth, None)

    def poses(self, rgb: Tensor, normalization: Normalization) -> PoseEstimates:
        """See :class:`PoseModel`. A network with depth is shown none, as it was in a part of its training."""
        image = rgb * 2 - 1
        if self.config.has_depth:
            image = functional.pad(image, (0, 0, 0, 0, 0, 2))
        verdict = self._plain.of(self.discriminator)(image)
        return PoseEstimates(
            decoded(verdict.pose, normalization), verdict.features.float(), verdict.realism.float()
        )


def decoded(pose: Tensor, normalization: Normalization) -> Tensor:
    """Encoded poses (B, P) -> T_map_cam (B, 4, 4) float64 on the same device."""
    T_map_cam = normalization.decode_pose(pose.detach().double().cpu().numpy())
    return torch.from_numpy(T_map_cam).to(pose.device)
