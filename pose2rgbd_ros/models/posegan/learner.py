"""Generator and discriminator move in turn: section 4 of the PoseGAN paper.

Open in the paper and chosen here: poses are compared as the dataset's normalisation encodes them (each number within
[-1, 1] on the training set) by their Euclidean distance, pictures by their mean absolute difference, or in the paper's
recipe by a Euclidean distance as well, since Eq. 9 writes one norm for both. gamma is a number,
not a way for gradients; F(x) in the second term of Eq. 6 is one, as it is written, unless told otherwise. Eq. 4 is what
the discriminator makes large; Eq. 8 adds an error to it that has to be small, so what is minimised is -L1 + alpha L2,
the usual hinge loss.

Two options are ours. A random crop moves the view by up to half the margin, which no pose tells: the generator, and x
in Eqs. 5 to 7, can have the middle crop. And Eq. 5 is about pictures that look like the recorded ones, which they do
not at first: each can count by how much it explains.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pose2rgbd_ros.models.posegan.config import (
    CONFIGS,
    POSENETS,
    PoseGANConfig,
    PoseGANSettings,
    PoseNetConfig,
    Settings,
    blocks_of,
)
from pose2rgbd_ros.models.posegan.network import PoseGAN, PoseNet, Verdict
from pose2rgbd_ros.training.config import Recipe
from pose2rgbd_ros.training.data import TrainingData, mean_image
from pose2rgbd_ros.training.evaluators import Evaluator, PoseEvaluator
from pose2rgbd_ros.training.learner import Learner, require_one_process
from pose2rgbd_ros.training.metrics import spread

# Random crops of frames cached at 9/8 of the size: what networks that find poses learn from (section 5.1 of PoseGAN).


class Crops:
    """Images of a batch, each cut at its own place; which, follows from (seed, step), so a resumed run cuts alike."""

    def __init__(self, data: TrainingData, device: torch.device, seed: int, random: bool) -> None:
        self._data, self._device, self._seed = data, device, seed
        self._random = random

    def images(self, indices: np.ndarray, step: int) -> tuple[Tensor, Tensor | None]:
        """Colour (B, 3, S, S) in [-1, 1] and, if it is learnt, encoded depth (B, S, S) with NaN unknown."""
        data, count = self._data, len(indices)
        assert data.wide is not None
        side, corners = data.cache.camera.width, np.full((count, 2), data.margin)
        if self._random:
            generator = np.random.default_rng([self._seed, 3, step])
            corners = generator.integers(0, 2 * data.margin + 1, (count, 2))
        windows = [(slice(y, y + side), slice(x, x + side)) for y, x in corners]
        rgb = np.stack([data.wide.rgb[i][window] for i, window in zip(indices, windows, strict=True)])
        colour = torch.from_numpy(rgb).to(self._device).permute(0, 3, 1, 2).float() / 127.5 - 1
        if data.wide.depth is None or data.normalization.depth_min is None:
            return colour, None
        depth = np.stack([data.wide.depth[i][window] for i, window in zip(indices, windows, strict=True)])
        if data.max_depth is not None:
            depth[depth > data.max_depth] = np.nan
        return colour, torch.from_numpy(data.normalization.encode_depth(depth)).to(self._device)


BETAS = (0.0, 0.9)  # of Adam; the paper's, after SN-GAN
MEASURED_FRAMES = 16  # of the training frames, whose gradients are logged
DEPTH_HIDDEN = 0.5  # share of the frames whose depth the discriminator is not shown, as when it finds a camera's pose


class PoseGANLearner(Learner):
    """The full method, and the paper's configs B (no poses of generated images) and C (gamma constant)."""

    model: PoseGAN
    steps: Tensor

    def __init__(self, config: Settings, recipe: Recipe, data: TrainingData, device: torch.device) -> None:
        super().__init__()
        require_one_process(config.model)
        self._chosen, self._kind, self._seed = config.filled, CONFIGS[config.model], config.seed
        self._data, self._device = data, device
        self._crops = Crops(data, device, config.seed, config.posegan.crop == "random")
        self._middle = Crops(data, device, config.seed, random=False)
        self.model = PoseGAN(posegan_config(config, recipe, data))
        self._mean = mean_target(data, self.model.config.has_depth).to(device) if config.posegan.pull_ramp else None
        self._scale = pose_scale(self._chosen, data).to(device)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def judge(self, data: TrainingData, device: torch.device) -> Evaluator:
        return PoseEvaluator(data, device)

    def parameter_groups(self, recipe: Recipe) -> list[dict[str, Any]]:
        """Adam without its first momentum."""
        return [{"params": list(self.parameters()), "betas": BETAS}]

    def losses(self, network: nn.Module, indices: np.ndarray, share: float) -> Iterator[Tensor]:
        """The discriminator's, and every `n_critic` steps the generator's; both see the same generated images."""
        step = int(self.steps)
        pose = self._data.poses[indices].to(self._device)
        seen, seen_known = joined(*self._crops.images(indices, step), self.model.config.has_depth)
        target, known = seen, seen_known
        if self._chosen.target_crop == "centre":
            target, known = joined(*self._middle.images(indices, step), self.model.config.has_depth)
        moves = step % self._chosen.n_critic == 0
        with torch.set_grad_enabled(moves):
            made = network("generator", pose)
        shown = self._shown(known, step)
        generated = seen_by_discriminator(made, shown)
        images = [seen_by_discriminator(seen, self._shown(seen_known, step)), generated.detach()]
        if target is not seen and self._kind != "b":
            images.append(seen_by_discriminator(target, shown))
        said: Verdict = network("discriminator", torch.cat(images))
        real, fake, *rest = (Verdict(*parts) for parts in zip(*(part.chunk(len(images)) for part in said), strict=True))
        counts = None if self._mean is None else explained(made.detach(), target, known, self._mean)
        yield self._discriminator_loss(real, fake, pose, rest[0].pose if rest else None, counts)
        if moves:
            with frozen(self.model.discriminator):
                verdict: Verdict = network("discriminator", generated)
                yield self._generator_loss(verdict, pose, made, target, known)

    def after_step(self) -> None:
        self.steps += 1

    def _distance(self, found: Tensor, pose: Tensor) -> Tensor:
        """(B,) the norm of Eqs. 3 to 9 on encoded poses (B, P)."""
        return torch.linalg.vector_norm((found - pose) * self._scale, dim=1)

    def measures(self) -> dict[str, float]:
        """Lengths of the generator's gradients by the three terms of Eq. 9, weighed as there, on training frames."""
        indices, was_training = spread(self._data.split.train, MEASURED_FRAMES), self.training
        self.eval()
        pose = self._data.poses[indices].to(self._device)
        target, known = joined(*self._middle.images(indices, 0), self.model.config.has_depth)
        with torch.enable_grad(), frozen(self.model.discriminator):
            made = self.model.generator(pose)
            verdict = self.model.discriminator(seen_by_discriminator(made, self._shown(known, 0)))
            terms = self._generator_terms(verdict, pose, made, target, known)
            weights = list(self.model.generator.parameters())
            lengths = {
                f"gradient_{name}": float(
                    torch.cat([part.flatten() for part in torch.autograd.grad(term, weights, retain_graph=True)]).norm()
                )
                for name, term in terms.items()
            }
        self.train(was_training)
        return lengths

    def _discriminator_loss(
        self, real: Verdict, fake: Verdict, pose: Tensor, found: Tensor | None = None, counts: Tensor | None = None
    ) -> Tensor:
        """Eq. 8.

        Args:
            found: (B, P) F(x) of Eqs. 5 to 7, where x is another crop than that of Eq. 6's first term.
            counts: (B,) how much each generated image counts in Eq. 6's second term; all of them fully by default.
        """
        loss = self._distance(real.pose, pose).mean()
        if self._kind != "b":
            found = real.pose if found is None else found
            gamma = self._chosen.gamma if self._kind == "c" else self._chosen.k * self._distance(found, pose).detach()
            reference = found.detach() if self._chosen.pull == "generated" else found
            beyond = (self._distance(fake.pose, reference) - gamma).clamp(min=0)  # Eqs. 5 and 7
            loss = loss + (beyond if counts is None else counts * beyond).mean()  # Eq. 6
        assert self._chosen.alpha is not None
        return adversarial_loss(real.realism, fake.realism, self._chosen.adversary) + self._chosen.alpha * loss

    def _generator_loss(self, verdict: Verdict, pose: Tensor, made: Tensor, target: Tensor, known: Tensor) -> Tensor:
        """Eq. 9."""
        return torch.stack([*self._generator_terms(verdict, pose, made, target, known).values()]).sum()

    def _generator_terms(
        self, verdict: Verdict, pose: Tensor, made: Tensor, target: Tensor, known: Tensor
    ) -> dict[str, Tensor]:
        """The three of Eq. 9, each with its weight."""
        fooled = -verdict.realism if self._chosen.adversary == "hinge" else functional.softplus(-verdict.realism)
        assert self._chosen.beta_pixel is not None
        return {
            "realism": fooled.mean(),
            "pose": self._chosen.beta_pose * self._distance(verdict.pose, pose).mean(),
            "pixels": self._chosen.beta_pixel * pixel_difference(made, target, known, self._chosen.pixel_norm),
        }

    def _shown(self, known: Tensor, step: int) -> Tensor | None:
        """(B, 1, S, S) where the discriminator is shown depth: where it is known, but not on some of the frames."""
        if not self.model.config.has_depth:
            return None
        generator = np.random.default_rng([self._seed, 4, step])
        visible = torch.from_numpy(generator.random(len(known)) >= DEPTH_HIDDEN).to(known.device)
        return known[:, 3:] * visible[:, None, None, None]


def posegan_config(config: Settings, recipe: Recipe, data: TrainingData) -> PoseGANConfig:
    """The network of a run."""
    chosen = config.filled
    assert chosen.gain is not None
    return PoseGANConfig(
        output=config.output_for(data.dataset.has_depth),  # type: ignore[arg-type]
        pose_dim=data.normalization.pose_dim,
        size=config.size,  # type: ignore[arg-type]
        width=chosen.width,
        generator_width=chosen.generator_width or chosen.width,
        blocks=blocks_of(chosen, config.size),
        pool=chosen.pool,
        gain=chosen.gain,
        pose_frequencies=recipe.pose_frequencies,
    )


def pose_scale(chosen: PoseGANSettings, data: TrainingData) -> Tensor:
    """(P,) the factors on an encoded pose's numbers in the norm: 1, and `rotation_weight` on those of the rotation."""
    scale = torch.ones(data.normalization.pose_dim)
    scale[3:] = chosen.rotation_weight
    return scale


def joined(colour: Tensor, depth: Tensor | None, has_depth: bool) -> tuple[Tensor, Tensor]:
    """The generator's target (B, C, S, S), 0 where unknown, and 1 where it is known."""
    if not has_depth or depth is None:
        return colour, torch.ones_like(colour)
    target = torch.cat([colour, depth[:, None]], dim=1)
    known = torch.isfinite(target)
    return torch.where(known, target, 0.0), known.float()


def pixel_difference(made: Tensor, target: Tensor, known: Tensor, norm: str | None) -> Tensor:
    """How far pictures (B, C, S, S) are from the recorded ones, of what is known: a mean of values, or of lengths."""
    difference = (made - target) * known
    if norm == "euclidean":
        return torch.linalg.vector_norm(difference.flatten(1), dim=1).mean()
    return difference.abs().sum() / known.sum().clamp(min=1)


def mean_target(data: TrainingData, has_depth: bool) -> Tensor:
    """(C, S, S) the mean training image as :func:`joined` has recorded ones; depth that no frame knows as 0."""
    rgb, depth = mean_image(data.cache, data.split.train, data.max_depth)
    mean = torch.from_numpy(rgb).permute(2, 0, 1).float() / 127.5 - 1
    if not has_depth or depth is None:
        return mean
    return torch.cat([mean, torch.from_numpy(data.normalization.encode_depth(depth))[None].nan_to_num(0.0)])


def explained(made: Tensor, target: Tensor, known: Tensor, mean: Tensor) -> Tensor:
    """(B,) 1 for a generated image (C, S, S) that is the recorded one, 0 for one no nearer to it than the mean image.

    Of the squared difference between the recorded and the mean image, over what is known, the share that is gone.
    """
    off, of = (((image - target) * known).square().flatten(1).sum(dim=1) for image in (made, mean))
    return (1 - off / of.clamp(min=1e-9)).clamp(0, 1)


def seen_by_discriminator(image: Tensor, shown: Tensor | None) -> Tensor:
    """The image as the discriminator takes it: with depth, that depth where it is `shown`, and where that is."""
    if shown is None:
        return image
    return torch.cat([image[:, :3], image[:, 3:] * shown, shown], dim=1)


def adversarial_loss(real: Tensor, fake: Tensor, kind: str) -> Tensor:
    """-L1 (Eq. 4) of verdicts (B,) on recorded and generated images: hinge, or with logistic functions (KL)."""
    if kind == "hinge":
        return (1 - real).clamp(min=0).mean() + (1 + fake).clamp(min=0).mean()
    return functional.softplus(-real).mean() + functional.softplus(fake).mean()


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """What is computed meanwhile passes gradients through the module, but gives none to its parameters."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)


# Regressors of poses: PoseNet, and config A of the PoseGAN paper, its discriminator with nobody to play against.


class PoseNetLearner(Learner):
    """Error of the encoded pose: config A by the norm of Eq. 6's first term, PoseNet by Kendall's sum of two norms."""

    model: PoseNet
    steps: Tensor

    def __init__(self, config: Settings, data: TrainingData, device: torch.device) -> None:
        super().__init__()
        self._data, self._device = data, device
        self._is_config_a = config.model == "posegan-a"
        self._crops = Crops(data, device, config.seed, config.posegan.crop == "random")
        self.model = PoseNet(posenet_config(config, data))
        self._scale = pose_scale(config.posegan, data).to(device)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def judge(self, data: TrainingData, device: torch.device) -> Evaluator:
        return PoseEvaluator(data, device)

    def parameter_groups(self, recipe: Recipe) -> list[dict[str, Any]]:
        """Config A has the paper's Adam."""
        group: dict[str, Any] = {"params": list(self.parameters())}
        return [{**group, "betas": BETAS} if self._is_config_a else group]

    def loss(self, network: nn.Module, indices: np.ndarray, share: float) -> Tensor:
        """See :class:`Learner`."""
        image, _ = self._crops.images(indices, int(self.steps))
        found, _ = network(image)
        error = (found - self._data.poses[indices].to(self._device)) * self._scale
        parts = (error,) if self._is_config_a else (error[:, :3], error[:, 3:])
        return torch.stack([torch.linalg.vector_norm(part, dim=1).mean() for part in parts]).sum()

    def after_step(self) -> None:
        self.steps += 1


def posenet_config(config: Settings, data: TrainingData) -> PoseNetConfig:
    """The network of a run."""
    is_config_a, chosen = config.model == "posegan-a", config.filled
    assert chosen.gain is not None
    return PoseNetConfig(
        trunk="posegan" if is_config_a else chosen.trunk or POSENETS[config.model],
        spectral=is_config_a,
        pose_dim=data.normalization.pose_dim,
        size=config.size,  # type: ignore[arg-type]
        width=chosen.width,
        blocks=blocks_of(chosen, config.size),
        pool=chosen.pool,
        gain=chosen.gain,
    )


def make(config: Settings, recipe: Recipe, data: TrainingData, device: torch.device) -> Learner:
    """See training/families.py."""
    if config.shows_images:
        return PoseGANLearner(config, recipe, data, device)
    return PoseNetLearner(config, data, device)
