"""Consistency between nearby poses, which the paper names as further work: two predicted views must show one place.

A view is predicted at a pose near a recorded one and looked up where the predicted depth of the recorded pose says its
pixels lie; there it must show the recorded colour, at the distance the motion implies. That teaches the network poses
nobody flew. The paper gives no formula; this is a reconstruction: view synthesis as by Zhou et al. ("Unsupervised
Learning of Depth and Ego-Motion from Video", 2017), the symmetric relative error of depths as by Bian et al.
("Unsupervised Scale-consistent Depth and Ego-motion Learning from Monocular Video", 2019).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from pose2rgbd_ros.depth_from_images.inverse_warp import inverse_warp
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.camera import Camera

# Adversarial training, which the paper names as its next step: a small discriminator that judges patches.
#
# A pixel-wise loss asks for the mean of all pictures that fit, which is blurred. A discriminator sees only
# whether a patch
# looks like a recorded one. The paper gives no design; this is a reconstruction from published parts: strided
# 4x4
# convolutions ending in a map of verdicts (Isola et al., "Image-to-Image Translation with Conditional
# Adversarial Networks",
# 2017), spectral normalisation and the hinge loss (Miyato et al., "Spectral Normalization for Generative
# Adversarial
# Networks", 2018), or least squares instead of the hinge (Mao et al., "Least Squares Generative Adversarial
# Networks", 2017).


CHANNELS = 16  # of the first layer; each further one has twice as many
DOWNSAMPLINGS = 3  # a verdict on 34 x 34 pixels


class PatchDiscriminator(nn.Module):
    """Says of each patch of (B, C, H, W) images in [-1, 1] how much it looks recorded: (B, 1, h, w), no activation.

    Spectral normalisation keeps every layer's Lipschitz constant at one, so that the verdict cannot grow without bound.
    """

    def __init__(self, image_channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = image_channels
        for stage in range(DOWNSAMPLINGS):
            layers += [spectral_norm(nn.Conv2d(before, CHANNELS << stage, 4, 2, 1)), nn.LeakyReLU(0.2)]
            before = CHANNELS << stage
        self.layers = nn.Sequential(*layers, spectral_norm(nn.Conv2d(before, 1, 3, padding=1)))
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):  # PyTorch's begins large beside normalised weights (Miyato et al.: 0)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Tensor:
        verdict: Tensor = self.layers(image)
        return verdict


def generator_loss(verdict: Tensor, kind: str) -> Tensor:
    """How far the network is from passing its pictures off as recorded; `verdict` on predicted pictures."""
    return -verdict.mean() if kind == "hinge" else (verdict - 1).square().mean()


def discriminator_loss(recorded: Tensor, predicted: Tensor, kind: str) -> Tensor:
    """How far the discriminator is from telling them apart: its verdicts on recorded and on predicted pictures."""
    if kind == "hinge":
        return (1 - recorded).relu().mean() + (1 + predicted).relu().mean()
    return (recorded - 1).square().mean() + predicted.square().mean()


def adversarial_losses(
    discriminator: PatchDiscriminator, image: Tensor, target: Tensor, known: Tensor, kind: str
) -> tuple[Tensor, Tensor]:
    """The network's loss and the discriminator's, whose sum one backward pass can take.

    The first gives no gradient to the discriminator, the second none to the network.

    Args:
        image: (B, C, H, W) predicted, in [-1, 1].
        target: the same of the recording; `known`: where it says something. Elsewhere both are shown as 0, or else the
            holes of recorded depth would betray it.
        kind: "hinge" or "least-squares".
    """
    predicted, recorded = image.where(known, 0.0), target.where(known, 0.0)
    with _frozen(discriminator):
        network = generator_loss(discriminator(predicted), kind)
    return network, discriminator_loss(discriminator(recorded), discriminator(predicted.detach()), kind)


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """What is computed meanwhile passes gradients through the module, but gives none to its parameters."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)


STEP_SHARE = (
    0.05  # standard deviation of the motion along each axis, as a share of the scene's distance: 3 m from 55 m up
)
TURN_DEG = 2.0  # standard deviation of the turn about each axis
OCCLUDED_SHARE = 0.1  # a point so much farther than what the other view shows there is hidden from it


def nearby_poses(T_map_cam: Float64, distance_m: float, random: np.random.Generator) -> Float64:
    """A pose near each of (B, 4, 4): moved and turned at random, less the nearer the scene (at `distance_m`) is."""
    moved = np.array(T_map_cam, dtype=np.float64)
    turn = Rotation.from_rotvec(random.normal(0.0, np.deg2rad(TURN_DEG), (len(moved), 3))).as_matrix()
    moved[:, :3, :3] = moved[:, :3, :3] @ turn
    moved[:, :3, 3] += random.normal(0.0, STEP_SHARE * distance_m, (len(moved), 3))
    return moved


def require_usable(camera: Camera, depth_kind: str | None) -> None:
    """UserError unless predicted pictures of this camera can be warped: metric depth, calibrated, no lens
    distortion.
    """
    if depth_kind != "metric":
        have = "relative depth" if depth_kind else "no depth"
        raise UserError(
            f"--consistency-weight needs metric depth, in the unit of the poses; this dataset has {have}; "
            "train with --consistency-weight 0"
        )
    if not camera.is_calibrated or camera.is_distorted:
        state = "has lens distortion" if camera.is_calibrated else "is not calibrated"
        raise UserError(
            f"--consistency-weight needs pinhole images; this dataset's camera {state}; train with "
            "--consistency-weight 0"
        )


def consistency_loss(
    rgb: Tensor | None, depth: Tensor, rgb_near: Tensor | None, depth_near: Tensor, T_near_here: Tensor, K: Tensor
) -> Tensor:
    """How little the view predicted nearby shows what is here: mean error of colour (0..2) and of depth (0..1).

    Args:
        rgb: (B, 3, H, W) in [0, 1], recorded here; `rgb_near`: predicted at the nearby pose; None: depth alone.
        depth, depth_near: (B, H, W) in metres, predicted here and at the nearby pose.
        T_near_here: (B, 4, 4) takes points of the camera here to the nearby one's frame.
        K: (3, 3) of the camera, the same for both.
    """
    shown = depth_near[:, None] if rgb_near is None else torch.cat([depth_near[:, None], rgb_near], dim=1)
    there = inverse_warp(shown, depth, T_near_here, K)
    implied, seen = there.depth, there.image[:, 0]
    visible = (there.valid & (implied < seen * (1 + OCCLUDED_SHARE))).detach()
    apart = (implied - seen).abs() / (implied + seen).clamp(min=1e-6)
    loss = _mean(apart, visible)
    if rgb is not None and rgb_near is not None:
        loss = loss + _mean(2 * (there.image[:, 1:] - rgb).abs().mean(dim=1), visible)
    return loss


def _mean(values: Tensor, where: Tensor) -> Tensor:
    return torch.where(where, values, 0.0).sum() / where.sum().clamp(min=1)
