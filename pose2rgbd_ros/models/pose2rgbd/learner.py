"""Base and Slice networks: encoded poses in, whole images out, compared pixel by pixel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from pose2rgbd_ros.depth_from_images.inverse_warp import inverse_warp
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.pose2rgbd.config import Pose2RGBDConfig, Settings, network_config
from pose2rgbd_ros.models.pose2rgbd.network import OUTPUT_CHANNELS, Pose2RGBD, Prediction, split_image
from pose2rgbd_ros.training.config import Recipe
from pose2rgbd_ros.training.data import TrainingData
from pose2rgbd_ros.training.learner import Learner, require_one_process

# The paper's two losses: squared error on the image, binary cross entropy on each depth slice; both skip unknown depth.


def image_target(rgb: Tensor, depth: Tensor | None, config: Pose2RGBDConfig) -> tuple[Tensor, Tensor]:
    """What the network should say.

    Args:
        rgb: (B, H, W, 3) uint8.
        depth: (B, H, W) encoded to [-1, 1], NaN unknown; None without depth.

    Returns:
        target (B, C, H, W) in ``config.target_range``, 0 where unknown, and known (B, C, H, W) bool.
    """
    low, high = config.target_range
    parts = []
    if config.has_rgb:
        parts.append(rgb.permute(0, 3, 1, 2).float() * ((high - low) / 255.0) + low)
    if config.has_depth:
        assert depth is not None
        parts.append(((depth.clamp(-1, 1) + 1) / 2 * (high - low) + low)[:, None])
    target = torch.cat(parts, dim=1)
    known = torch.isfinite(target)
    return torch.where(known, target, 0.0), known


def image_loss(image: Tensor, target: Tensor, known: Tensor, kind: str) -> Tensor:
    """Mean over the known values. "mse" is the paper's; "charbonnier" is a smooth L1; "mse+l1" half of each kind."""
    error = torch.where(known, image - target, 0.0)
    if kind == "mse":
        values = error.square()
    elif kind == "charbonnier":
        values = torch.sqrt(error.square() + 1e-3) - 1e-3**0.5
    else:
        values = error.square() + 0.5 * error.abs()
    return values.sum() / known.sum().clamp(min=1)


def slice_target(depth: Tensor, slices: int, side: int) -> tuple[Tensor, Tensor]:
    """True slices of encoded depth (B, H, W), reduced to `side` by taking pixels, so no slice mixes two surfaces.

    Slice i holds [-1 + 2 i / S, -1 + 2 (i + 1) / S), the last one closed (paper, section 2); depth beyond the training
    range belongs to the first or last slice.

    Returns:
        target (B, S, side, side) float 0 or 1, and known (B, 1, side, side) bool.
    """
    step = depth.shape[-1] // side
    depth = depth[:, ::step, ::step]
    known = torch.isfinite(depth)
    index = ((torch.where(known, depth, -1.0) + 1) / 2 * slices).floor().long().clamp(0, slices - 1)
    target = functional.one_hot(index, slices).permute(0, 3, 1, 2).float()
    return target, known[:, None]


def slice_loss(logits: Tensor, target: Tensor, known: Tensor, reduction: str) -> Tensor:
    """Binary cross entropy of each slice over the known pixels; their mean or their sum over the slices."""
    each = functional.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
    per_slice = torch.where(known, each, 0.0).sum(dim=(0, 2, 3)) / known.sum().clamp(min=1)
    return per_slice.mean() if reduction == "mean" else per_slice.sum()


def total_loss(
    prediction: Prediction,
    rgb: Tensor,
    depth: Tensor | None,
    config: Pose2RGBDConfig,
    kind: str = "mse",
    bce_weight: float = 1.0,
    bce_reduction: str = "mean",
) -> Tensor:
    """Image loss plus, for the slice network, its weighted cross entropy."""
    target, known = image_target(rgb, depth, config)
    loss = image_loss(prediction.image.float(), target, known, kind)
    if prediction.slice_logits is not None and depth is not None:
        slices, known_slices = slice_target(depth, config.slices, config.slice_size)
        loss = loss + bce_weight * slice_loss(prediction.slice_logits, slices, known_slices, bce_reduction)
    return loss


# Adversarial training, which the paper names as its next step: a small discriminator that judges patches.
#
# A pixel-wise loss asks for the mean of all images that fit, which is blurred. A discriminator sees only whether a
# patch looks like a recorded one. The paper gives no design; this is a reconstruction from published parts: strided 4x4
# convolutions ending in a map of verdicts (Isola et al., "Image-to-Image Translation with Conditional Adversarial
# Networks", 2017), spectral normalisation and the hinge loss (Miyato et al., "Spectral Normalization for Generative
# Adversarial Networks", 2018), or least squares instead of the hinge (Mao et al., "Least Squares Generative Adversarial
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
    """How well the discriminator keeps them apart: its verdicts on recorded and on predicted pictures."""
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


# Consistency between nearby poses, which the paper names as further work: two predicted views must show one place.
#
# A view is predicted at a pose near a recorded one and looked up where the predicted depth of the recorded pose says
# its pixels lie; there it must show the recorded colour, at the distance the motion implies. That teaches the network
# poses nobody flew. The paper gives no formula; this is a reconstruction: view synthesis as by Zhou et al.
# ("Unsupervised Learning of Depth and Ego-Motion from Video", 2017), the symmetric relative error of depths as by Bian
# et al. ("Unsupervised Scale-consistent Depth and Ego-motion Learning from Monocular Video", 2019).


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
    """UserError unless predicted pictures of this camera can be warped: metric depth, calibrated, no distortion."""
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


# The learner.


CONSISTENCY_FROM = 0.5  # share of the run after which it joins: before, there is no depth to warp by
# As for spectral normalisation: no first momentum. A tenth of the network's high learning rate is usual for it.
DISCRIMINATOR = {"factor": 0.1, "betas": (0.0, 0.99), "weight_decay": 0.0}


class PoseLearner(Learner):
    """The paper's training: image loss and cross entropy of the slices, with its further work where that has weight."""

    def __init__(self, config: Settings, recipe: Recipe, data: TrainingData, device: torch.device) -> None:
        super().__init__()
        self._config, self._recipe, self._data, self._device = config, recipe, data, device
        self._network = network_config(config, data.dataset.has_depth)
        self.model = Pose2RGBD(self._network)
        # Channels last is the faster layout for these convolutions, on the CPU as on the GPU.
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.discriminator: PatchDiscriminator | None = None
        if config.adversarial_weight > 0:
            require_one_process("--adversarial-weight")
            self.discriminator = PatchDiscriminator(OUTPUT_CHANNELS[self._network.output])
        if config.consistency_weight > 0:
            if not self._network.has_depth:
                raise UserError("--consistency-weight needs predicted depth; use output depth or rgbd")
            require_usable(data.cache.camera, data.dataset.depth_kind)
            self._K = torch.from_numpy(data.cache.camera.K).float().to(device)

    def parameter_groups(self, recipe: Recipe) -> list[dict[str, Any]]:
        """The network, and with other settings its adversary."""
        groups: list[dict[str, Any]] = [{"params": list(self.model.parameters())}]
        if self.discriminator is not None:
            groups.append({"params": list(self.discriminator.parameters()), **DISCRIMINATOR})
        return groups

    def loss(self, network: nn.Module, indices: np.ndarray, share: float) -> Tensor:
        """See :class:`Learner`. Nearby poses go through the network with the recorded ones, in one batch."""
        poses, rgb, depth = self._data.batch(indices, self._device)
        config, count = self._config, len(indices)
        warps = config.consistency_weight > 0 and share >= CONSISTENCY_FROM
        T_near = self._nearby(indices, depth) if warps else None
        if T_near is not None:
            encoded = torch.from_numpy(self._data.normalization.encode_pose(T_near)).to(self._device)
            poses = torch.cat([poses, encoded])
        everything = network(poses)
        prediction = _part(everything, slice(0, count))
        loss = total_loss(
            prediction, rgb, depth, self._network, self._recipe.image_loss, config.bce_weight, config.bce_reduction
        )
        if self.discriminator is not None:
            loss = loss + self._adversarial(self.discriminator, prediction.image, rgb, depth)
        if T_near is not None:
            near = _part(everything, slice(count, None))
            loss = loss + config.consistency_weight * self._consistency(
                prediction.image, near.image, T_near, indices, rgb
            )
        return loss

    def _adversarial(
        self, discriminator: PatchDiscriminator, image: Tensor, rgb: Tensor, depth: Tensor | None
    ) -> Tensor:
        target, known = image_target(rgb, depth, self._network)
        kind = self._config.adversarial_loss
        ours, its = adversarial_losses(discriminator, image.float(), target, known, kind)
        return self._config.adversarial_weight * ours + its

    def _nearby(self, indices: np.ndarray, depth: Tensor | None) -> np.ndarray:
        """A pose near each frame of the batch. Which, hangs on the frames alone, so a resumed run draws the same."""
        assert depth is not None
        encoded = torch.nanmedian(depth).nan_to_num(0.0).cpu().numpy()
        distance_m = float(self._data.normalization.decode_depth(encoded))
        random = np.random.default_rng([self._config.seed, *map(int, indices)])
        return nearby_poses(self._data.T_map_cam[indices], distance_m, random)

    def _consistency(
        self, image: Tensor, image_near: Tensor, T_map_near: np.ndarray, indices: np.ndarray, rgb: Tensor
    ) -> Tensor:
        T_near_here = se3.inverse(T_map_near) @ self._data.T_map_cam[indices]
        _, depth = self._decoded(image)
        rgb_near, depth_near = self._decoded(image_near)
        return consistency_loss(
            None if rgb_near is None else rgb.permute(0, 3, 1, 2).float() / 255,
            depth,
            rgb_near,
            depth_near,
            torch.from_numpy(T_near_here).float().to(self._device),
            self._K,
        )

    def _decoded(self, image: Tensor) -> tuple[Tensor | None, Tensor]:
        """Colour in [0, 1] and depth in metres of the network's image; differentiable."""
        rgb, encoded = split_image(image.float(), self._network)
        assert encoded is not None
        lowest, highest = self._data.normalization.decode_depth([-1.0, 1.0]).tolist()
        return rgb, (encoded + 1) / 2 * (highest - lowest) + lowest


def make(config: Settings, recipe: Recipe, data: TrainingData, device: torch.device) -> PoseLearner:
    """See training/families.py."""
    return PoseLearner(config, recipe, data, device)


def _part(prediction: Prediction, which: slice) -> Prediction:
    return Prediction(*(None if values is None else values[which] for values in prediction))  # type: ignore[arg-type]
