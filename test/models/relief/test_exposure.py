"""Corrections of light that are learnt beside the place."""

from __future__ import annotations

import numpy as np
import torch

from pose2rgbd_ros.models.relief.learner import Exposures


def test_no_correction_at_first():
    rgb = torch.rand(2, 3, 4, 5)
    exposures = Exposures(10, np.arange(8))
    torch.testing.assert_close(exposures(rgb, np.array([3, 7])), rgb)
    assert exposures.penalty(np.array([3, 7])) == 0


def test_it_finds_gains_and_leaves_the_average_light_to_the_place():
    generator = torch.Generator().manual_seed(0)
    place = torch.rand(1, 3, 8, 8, generator=generator)
    gains = torch.tensor([0.8, 1.0, 1.25])
    photos = place * gains[:, None, None, None]
    exposures = Exposures(3, np.arange(3), strength=1e-4)
    guess = torch.nn.Parameter(torch.full_like(place, 0.5))
    optimizer = torch.optim.Adam([guess, *exposures.parameters()], lr=0.02)
    indices = np.arange(3)
    for _ in range(400):
        optimizer.zero_grad()
        loss = (exposures(guess.expand(3, -1, -1, -1), indices) - photos).square().mean()
        (loss + exposures.penalty(indices)).backward()
        optimizer.step()
    assert (guess - place).abs().mean() < 0.02
    assert loss < 1e-4
    assert 0.1 < exposures.spread()["gain"] < 0.25


def test_frames_apart_from_training_do_not_count():
    exposures = Exposures(4, np.array([0, 1]))
    with torch.no_grad():
        exposures.residual[2:] = 5.0
    torch.testing.assert_close(exposures(torch.ones(1, 3, 2, 2), np.array([0])), torch.ones(1, 3, 2, 2))
    assert exposures.spread() == {"gain": 0.0, "offset": 0.0}


def test_the_first_gains_are_those_of_the_pictures():
    place = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2
    gains = torch.tensor([[0.8, 0.9, 1.0], [1.0, 1.0, 1.0], [1.1, 1.2, 1.3], [1.5, 1.5, 1.5]])
    recorded = (place * gains[..., None, None]).clamp(0.0, 1.0)  # the last one is clipped in part
    exposures = Exposures(4, np.arange(4))
    exposures.start(np.arange(4), place, recorded)
    found = exposures.residual[:, 0].exp()
    torch.testing.assert_close(found[:3], gains[:3], rtol=0.08, atol=0)
    assert found[3].min() > 1.35
