"""Which pixels a network finds its pose by: the gradient of the pose's error (Simonyan et al. 2013), as in Figures 2 to 4 of
the PoseGAN paper, and whether they lie on the image's structure or on its texture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn import functional

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.structure_texture import strength, structure_of
from pose2rgbd_ros.geometry.arrays import Float64, UInt8
from pose2rgbd_ros.models.posegan.network import PoseGAN
from pose2rgbd_ros.models.posegan.posenet import PoseNet
from pose2rgbd_ros.training.checkpoint import Checkpoint

BLUR_SHARE = 1 / 64  # of the side: what is compared is where, not which pixel of it


@dataclass(frozen=True)
class Focus:
    """Rank correlations (Spearman) over an image's pixels, -1..1: of the saliency with the strength of structure and of
    texture, and with the saliency of the same image turned grey."""

    structure: float
    texture: float
    grey: float


class Saliency:
    """Saliency maps of one checkpoint. UserError for a network that is neither PoseGAN nor PoseNet."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        model = checkpoint.build_model()
        if not isinstance(model, (PoseGAN, PoseNet)):
            raise UserError(f"a network {checkpoint.architecture['network']!r} has no saliency map")
        self._model = model.requires_grad_(False)
        self._normalization = checkpoint.normalization

    def of(self, rgb: UInt8, T_map_cam: Float64 | None = None) -> Float64:
        """(H, W) the length of the error's gradient at each pixel of an image (S, S, 3) as the trained camera sees it.

        The error is the distance of the encoded pose found to that of `T_map_cam` (4, 4). Without one (another place, whose
        poses this map has not) it is the pose's own sensitivity: all its numbers' gradients together.
        """
        image = torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None].float() / 255
        image.requires_grad_()
        pose = self._encoded(image)[0]
        if T_map_cam is None:
            parts = [torch.autograd.grad(number, image, retain_graph=True)[0] for number in pose]
        else:
            target = torch.from_numpy(self._normalization.encode_pose(T_map_cam[None]))[0]
            parts = [torch.autograd.grad(torch.linalg.vector_norm(pose - target), image)[0]]
        return np.asarray(torch.stack(parts).square().sum(dim=(0, 1, 2)).sqrt().double().numpy())

    def _encoded(self, image: Tensor) -> Tensor:
        """Encoded poses (B, P) with their graph."""
        if isinstance(self._model, PoseNet):
            return self._model(image * 2 - 1)[0]
        inputs = image * 2 - 1
        if self._model.config.has_depth:
            inputs = functional.pad(inputs, (0, 0, 0, 0, 0, 2))
        return self._model("discriminator", inputs).pose


def focus(saliency: Float64, grey: Float64, rgb: UInt8) -> Focus:
    """Where the saliency (H, W) of an image lies; `grey`: that of the image turned grey."""
    structure = structure_of(rgb)
    texture = rgb / 255.0 - structure
    return Focus(
        correlation(saliency, strength(structure)),
        correlation(saliency, strength(texture)),
        correlation(saliency, grey),
    )


def correlation(first: Float64, second: Float64) -> float:
    """Spearman's, of two maps (H, W) a little blurred; 0 where one is constant."""
    blurred = [gaussian_filter(each, BLUR_SHARE * len(each)).ravel() for each in (first, second)]
    if any(np.ptp(each) == 0 for each in blurred):
        return 0.0
    return float(spearmanr(*blurred).statistic)
