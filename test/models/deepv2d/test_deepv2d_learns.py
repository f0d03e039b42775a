"""DeepV2D's networks learn in seconds what they are made for: walls at depths that only other views tell."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pose2rgbd_ros.depth_from_images import rigid
from pose2rgbd_ros.depth_from_images.gauss_newton import reprojected
from pose2rgbd_ros.depth_from_images.inverse_warp import look_up
from pose2rgbd_ros.models.deepv2d.config import DeepV2DConfig
from pose2rgbd_ros.models.deepv2d.network import DeepV2D

SIDE = 64
K = torch.tensor([[[60.0, 0.0, 31.5], [0.0, 60.0, 31.5], [0.0, 0.0, 1.0]]])
SOURCES = (0, 2)


class Walls(NamedTuple):
    images: Tensor
    K: Tensor
    T_tgt_i: Tensor
    depth: Tensor


def walls(count: int, generator: torch.Generator) -> Walls:
    """Snippets of three views of walls at depths of 2 to 8, from up to 0.6 beside each other."""
    z = 2 + 6 * torch.rand(count, generator=generator)
    noise = torch.rand(count, 3, SIDE // 2, SIDE // 2, generator=generator)
    wide = functional.interpolate(noise, (2 * SIDE, 2 * SIDE), mode="bicubic").clamp(0, 1)
    T = torch.eye(4).repeat(count, 3, 1, 1)
    T[:, SOURCES, :2, 3] = 1.2 * torch.rand(count, 2, 2, generator=generator) - 0.6
    v, u = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    places = torch.stack([u, v], dim=-1) + SIDE / 2 + (60 * T[..., :2, 3] / z[:, None, None])[:, :, None, None]
    images = torch.stack([look_up(wide, each) for each in places.unbind(1)], dim=1)
    return Walls(images, K.expand(count, 3, 3), T, z[:, None, None].expand(count, SIDE, SIDE))


def network(**given: Any) -> DeepV2D:
    torch.manual_seed(0)
    values = {"width": 0.125, "views": 3, "depths": 16, "min_depth": 1.0, "max_depth": 9.0, "norm": "group"}
    return DeepV2D(DeepV2DConfig(image_size=(SIDE, SIDE), **{**values, **given}))


def abs_rel(made: DeepV2D, given: Walls) -> float:
    with torch.no_grad():
        depth = made.stereo(given.images, given.K, given.T_tgt_i)[-1]
    return float(((depth - given.depth).abs() / given.depth).mean())


@pytest.mark.slow
def test_stereo_learns_depth_from_views_and_not_without_them() -> None:
    held_out = walls(16, torch.Generator().manual_seed(9))
    found = {}
    for stereo in (True, False):
        made, generator = network(stereo=stereo), torch.Generator().manual_seed(1)
        optimizer = torch.optim.Adam(made.parameters(), 3e-3)
        for _ in range(120 if stereo else 40):
            given = walls(4, generator)
            loss = sum((each - given.depth).abs().mean() for each in made.stereo(*given[:3]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        found[stereo] = abs_rel(made.eval(), held_out)
    assert found[True] < 0.2
    assert found[False] > 0.25  # what the mean depth gives


def errors_px(T_tgt_i: Tensor, given: Walls) -> Tensor:
    """How far from where they belong the target's pixels land in the sources (count, 2, H, W, 2)."""
    found = []
    for i in SOURCES:
        here, there = (reprojected(given.depth, given.K, rigid.inverse(T[:, i])) for T in (T_tgt_i, given.T_tgt_i))
        known = (here.valid & there.valid)[..., None]
        found.append(torch.where(known, here.pixels - there.pixels, 0.0))
    return torch.stack(found, dim=1)


@pytest.mark.slow
def test_motions_learn_to_be_refined() -> None:
    made, generator = network(), torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(made.parameters(), 2e-3)

    def start_of(given: Walls) -> Tensor:
        twists = torch.tensor([0.4, 0.4, 0.3, 0.06, 0.06, 0.06]) * torch.randn(len(given.K), 3, 6, generator=generator)
        twists[:, 1] = 0
        return rigid.exponential(twists) @ given.T_tgt_i

    held_out = walls(16, generator)
    start = start_of(held_out)
    for _ in range(240):
        given = walls(4, generator)
        steps = made.motion(given.images, given.K, given.depth, start_of(given), steps=2).T_tgt_i
        loss = sum(functional.huber_loss(e := errors_px(T, given) / 4, torch.zeros_like(e)) for T in steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        steps = made.eval().motion(held_out.images, held_out.K, held_out.depth, start, steps=2).T_tgt_i
    before, first, last = (errors_px(T, held_out).norm(dim=-1).mean() for T in (start, *steps))
    assert before > 8
    assert first < 0.9 * before
    assert last < 0.85 * before


@pytest.mark.slow
def test_a_step_at_full_width() -> None:
    torch.manual_seed(0)
    made = DeepV2D(DeepV2DConfig(image_size=(SIDE, SIDE), views=3))
    given = walls(2, torch.Generator().manual_seed(0))
    T_tgt_i = made.initial_motions(given.images, given.K)
    depths = made.stereo(given.images, given.K, T_tgt_i)
    motion = made.motion(given.images, given.K, depths[-1].detach(), T_tgt_i, steps=1)
    (depths[-1].mean() + motion.T_tgt_i[-1].sum() + motion.residuals[-1].square().mean()).backward()
    assert depths[-1].shape == (2, SIDE, SIDE)
    missing = [
        name for name, each in made.named_parameters() if each.grad is None or not torch.isfinite(each.grad).all()
    ]
    assert missing == []
