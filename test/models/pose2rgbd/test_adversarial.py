"""The discriminator: whose gradients go where, what it learns, and that its state resumes."""

from __future__ import annotations

import pytest
import torch

from pose2rgbd_ros.models.pose2rgbd.learner import (
    PatchDiscriminator,
    adversarial_losses,
    discriminator_loss,
    generator_loss,
)


def everywhere(image: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(image, dtype=torch.bool)


def test_losses_of_known_verdicts() -> None:
    recorded, predicted = torch.tensor([2.0, 0.0]), torch.tensor([-3.0, 0.5])
    assert float(discriminator_loss(recorded, predicted, "hinge")) == pytest.approx(0.5 + 0.75)
    assert float(generator_loss(predicted, "hinge")) == pytest.approx(1.25)
    assert float(discriminator_loss(recorded, predicted, "least-squares")) == pytest.approx(1.0 + 4.625)
    assert float(generator_loss(predicted, "least-squares")) == pytest.approx((16 + 0.25) / 2)


@pytest.mark.parametrize("kind", ["hinge", "least-squares"])
def test_each_side_gets_only_its_own_gradient(kind: str) -> None:
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(4)
    image = torch.randn(2, 4, 32, 32, requires_grad=True)
    network, own = adversarial_losses(discriminator, image, torch.randn(2, 4, 32, 32), everywhere(image), kind)
    (of_image,) = torch.autograd.grad(network, image, retain_graph=True)
    assert of_image.abs().sum() > 0
    parameters = list(discriminator.parameters())
    own.backward(retain_graph=True)
    assert image.grad is None
    before = [parameter.grad.clone() for parameter in parameters]
    assert all(gradient.abs().sum() > 0 for gradient in before if gradient.ndim == 4)
    network.backward()
    assert image.grad is not None
    assert all(map(torch.equal, before, (parameter.grad for parameter in parameters)))


def test_it_learns_to_tell_flat_pictures_from_textured_ones() -> None:
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(1)
    optimizer = torch.optim.Adam(discriminator.parameters(), 5e-3, betas=(0.0, 0.99))
    flat, textured = torch.zeros(2, 1, 16, 16), torch.randn(2, 1, 16, 16).clamp(-1, 1)
    for _ in range(40):
        _, own = adversarial_losses(discriminator, flat, textured, everywhere(flat), "hinge")
        optimizer.zero_grad()
        own.backward()
        optimizer.step()
    with torch.no_grad():
        assert discriminator(textured).mean() > 0.5 > -0.5 > discriminator(flat).mean()


def test_what_it_says_first_is_of_the_picture_alone() -> None:
    """A bias of PyTorch's would be as large as what normalised weights make of a picture."""
    torch.manual_seed(0)
    assert not PatchDiscriminator(4)(torch.zeros(1, 4, 32, 32)).any()


def test_unknown_pixels_are_shown_alike() -> None:
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(1).eval()
    image, target = torch.randn(1, 1, 32, 32), torch.randn(1, 1, 32, 32)
    known = torch.zeros_like(image, dtype=torch.bool)
    network, own = adversarial_losses(discriminator, image, target, known, "hinge")
    blank = discriminator(torch.zeros(1, 1, 32, 32)).detach()
    assert float(network.detach()) == pytest.approx(float(-blank.mean()))
    assert float(own.detach()) == pytest.approx(float(discriminator_loss(blank, blank, "hinge")))


def test_a_gradient_is_never_larger_than_spectral_normalisation_allows() -> None:
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(4)
    for parameter in discriminator.parameters():
        parameter.data *= 50.0
    for _ in range(30):  # power iterations
        discriminator(torch.randn(1, 4, 32, 32))
    image = torch.randn(1, 4, 32, 32, requires_grad=True)
    verdict = discriminator.eval()(image)
    (gradient,) = torch.autograd.grad(verdict[0, 0, 2, 2], image)
    assert float(gradient.norm()) < 10  # without it 50 to the power of 4 times as much


def test_state_resumes_with_the_power_iteration() -> None:
    torch.manual_seed(0)
    first, second = PatchDiscriminator(3), PatchDiscriminator(3)
    for _ in range(3):
        first(torch.randn(1, 3, 32, 32))
    second.load_state_dict(first.state_dict())
    image = torch.randn(1, 3, 32, 32)
    assert torch.equal(first(image), second(image))
    assert torch.equal(first(image), second(image))
