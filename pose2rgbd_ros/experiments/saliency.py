"""Which pixels a network finds its pose by: the gradient of the pose's error (Simonyan et al. 2013), as in Figures 2
to 4 of the PoseGAN paper, and whether they lie on the image's structure or on its texture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from scipy.ndimage import gaussian_filter
from scipy.sparse.linalg import splu
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn import functional

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64, UInt8
from pose2rgbd_ros.models.posegan.network import PoseGAN, PoseNet
from pose2rgbd_ros.training.checkpoint import Checkpoint

# An image as structure and texture: relative total variation (Xu, Yan, Xia, Jia, "Structure extraction from texture via
# relative total variation", 2012).
#
# Texture is what varies to and fro within a window: there the sum of absolute derivatives is large and the absolute
# value of their sum is small. Their ratio, the relative total variation, is minimised together with the distance to the
# image.


# As the paper has it: rounds in which the window halves, and what keeps ratios finite.
ROUNDS, NARROWEST_PX = 4, 0.5
LEAST_VARIATION, LEAST_STEP = 1e-3, 0.02
# Its window of 3 pixels and weight of 0.01 are for photographs; of a picture of 64 px they would leave a few patches.
WEIGHT, WINDOW_SHARE = 0.004, 1 / 80


def structure_of(rgb: UInt8, weight: float = WEIGHT, window_px: float | None = None) -> Float64:
    """The structure (H, W, 3) in 0..1 of an image (H, W, 3) uint8; image / 255 - structure is its texture.

    `window_px`: standard deviation of the window, by default WINDOW_SHARE of the longer side, at least a pixel.
    Solved by iterated least squares: with the ratios' denominators held, each round is one sparse linear system.
    """
    image = rgb.astype(np.float64) / 255
    structure = image
    window_px = max(1.0, WINDOW_SHARE * max(rgb.shape)) if window_px is None else window_px
    for round_ in range(ROUNDS):
        sigma_px = max(window_px / 2**round_, NARROWEST_PX)
        system = sparse.identity(image[..., 0].size) + weight * _variation(structure, sigma_px)
        solve = splu(system.tocsc()).solve
        structure = np.stack([solve(image[..., c].ravel()).reshape(image.shape[:2]) for c in range(3)], axis=-1)
    return np.asarray(structure.clip(0.0, 1.0))


def strength(image: Float64) -> Float64:
    """How strongly an image (H, W, 3) changes at each pixel (H, W): the length of its derivatives, all colours
    together.
    """
    down, right = np.gradient(image, axis=(0, 1))
    return np.asarray(np.sqrt((down**2 + right**2).sum(axis=-1)))


def _variation(structure: Float64, sigma_px: float) -> sparse.spmatrix:
    """The weighted Laplacian (N, N) whose quadratic form is the relative total variation at `structure`."""
    height, width = structure.shape[:2]
    total = sparse.csc_matrix((height * width, height * width))
    for axis, size in ((0, height), (1, width)):
        weights = _weights(structure, axis, sigma_px)
        step = sparse.diags_array([-np.ones(size), np.ones(size - 1)], offsets=[0, 1], shape=(size - 1, size))
        other = sparse.identity(width if axis == 0 else height)
        derivative = sparse.kron(step, other) if axis == 0 else sparse.kron(other, step)
        total = total + derivative.T @ sparse.diags_array(weights.ravel()) @ derivative
    return total


def _weights(structure: Float64, axis: int, sigma_px: float) -> Float64:
    """Weights of the derivatives along an axis: (H - 1, W) or (H, W - 1), smaller where a window agrees on a change."""
    steps = np.diff(structure, axis=axis)
    blur = (sigma_px, sigma_px, 0)
    inherent = np.abs(gaussian_filter(steps, blur)).mean(axis=-1)
    agreed = gaussian_filter(1.0 / (inherent + LEAST_VARIATION), sigma_px)
    return np.asarray(agreed / (np.abs(steps).mean(axis=-1) + LEAST_STEP))


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

        The error is the distance of the encoded pose found to that of `T_map_cam` (4, 4). Without one (another place,
        whose poses this map has not) it is the pose's own sensitivity: all its numbers' gradients together.
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
