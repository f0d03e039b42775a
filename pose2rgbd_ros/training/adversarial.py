"""Adversarial training, which the paper names as its next step: a small discriminator that judges patches.

A pixel-wise loss asks for the mean of all pictures that fit, which is blurred. A discriminator sees only whether a patch
looks like a recorded one. The paper gives no design; this is a reconstruction from published parts: strided 4x4
convolutions ending in a map of verdicts (Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks",
2017), spectral normalisation and the hinge loss (Miyato et al., "Spectral Normalization for Generative Adversarial
Networks", 2018), or least squares instead of the hinge (Mao et al., "Least Squares Generative Adversarial Networks", 2017).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

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
            if isinstance(
                layer, nn.Conv2d
            ):  # PyTorch's begins large beside normalised weights (Miyato et al.: 0)
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
