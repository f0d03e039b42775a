"""The SE(3) layer: motions from where pixels went."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from pose2rgbd_ros.depth_from_images import rigid
from pose2rgbd_ros.depth_from_images.gauss_newton import VARIANTS, GaussNewton, refined_motion, reprojected

K = torch.tensor([[[40.0, 0.0, 19.5], [0.0, 42.0, 14.5], [0.0, 0.0, 1.0]]], dtype=torch.float64)
STILL = torch.eye(4, dtype=torch.float64)[None]
MOTION = rigid.exponential(torch.tensor([[0.4, -0.2, 0.3, 0.03, -0.05, 0.08]], dtype=torch.float64))


class Scene(NamedTuple):
    T: Tensor
    wanted: Tensor
    weights: Tensor
    depth: Tensor
    K: Tensor


def scene(T: Tensor = MOTION, size: tuple[int, int] = (30, 40), start: Tensor = STILL) -> Scene:
    """Depths of 3 to 9, and where their pixels are after a motion."""
    generator = torch.Generator().manual_seed(0)
    depth = 3 + 6 * torch.rand(1, *size, dtype=torch.float64, generator=generator)
    wanted = reprojected(depth, K, T).pixels
    return Scene(start, wanted, torch.ones_like(wanted), depth, K)


@pytest.mark.parametrize("variant", VARIANTS)
def test_perfect_flow_gives_the_motion(variant) -> None:
    found = refined_motion(*scene(), replace(VARIANTS[variant], steps=8))
    assert torch.allclose(found, MOTION, rtol=0, atol=1e-6)


def test_a_step_goes_with_the_flow_and_not_against_it() -> None:
    small = rigid.exponential(1e-3 * rigid.logarithm(MOTION))
    found = refined_motion(*scene(small))
    # All but what is of second order is found at once, which a wrong derivative would not do.
    assert torch.allclose(rigid.logarithm(found), rigid.logarithm(small), rtol=0, atol=3e-6)


def test_it_starts_from_a_motion() -> None:
    near = rigid.exponential(torch.tensor([[0.01, 0.02, -0.01, 0.01, 0.0, -0.01]], dtype=torch.float64)) @ MOTION
    one = refined_motion(*scene(start=near))
    assert (one - MOTION).abs().max() < 0.05 * (near - MOTION).abs().max()


def test_single_precision_is_solved_in_double() -> None:
    found = refined_motion(*(each.float() for each in scene()), GaussNewton(steps=8))
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), MOTION, rtol=0, atol=2e-7)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_agree_with_differences(variant) -> None:
    _, wanted, _, depth, K = scene(size=(2, 4))
    generator = torch.Generator().manual_seed(1)
    wanted = wanted + 0.3 * torch.randn(wanted.shape, dtype=torch.float64, generator=generator)
    weights = 0.2 + torch.rand(wanted.shape, dtype=torch.float64, generator=generator)
    how = replace(VARIANTS[variant], largest_gradient=None, steps=2, reweighted=0)  # those weights are constants
    inputs = tuple(each.clone().requires_grad_() for each in (MOTION, wanted, weights, depth))
    assert gradcheck(lambda T, wanted, weights, depth: refined_motion(T, wanted, weights, depth, K, how), inputs)


def test_what_contradicts_the_others_counts_less() -> None:
    given = scene()
    wanted = given.wanted.clone()
    wanted[:, :, :12] += torch.tensor([6.0, -4.0], dtype=torch.float64)  # three tenths went elsewhere
    off = [
        (refined_motion(given.T, wanted, *given[2:], how) - MOTION).abs().max()
        for how in (replace(VARIANTS["preprint"], steps=8), GaussNewton(reweighted=16))
    ]
    assert off[1] < 0.05 * off[0]


def test_reweighted_steps_pass_gradients_to_the_flow() -> None:
    given = scene(size=(6, 8))
    wanted = (given.wanted + 0.1).requires_grad_()
    refined_motion(given.T, wanted, *given[2:], VARIANTS["robust"]).square().sum().backward()
    assert wanted.grad is not None
    assert torch.isfinite(wanted.grad).all()
    assert wanted.grad.abs().max() > 0


def test_weights_leave_out_what_moves_by_itself() -> None:
    given = scene()
    wanted, weights = given.wanted.clone(), given.weights.clone()
    wanted[:, 5:15, 5:30] += 7.0
    wanted[:, 20:, :, 0] -= 9.0  # u only: v still counts
    how = GaussNewton(steps=8)
    assert not torch.allclose(refined_motion(given.T, wanted, weights, given.depth, K, how), MOTION, atol=1e-2)
    weights[:, 5:15, 5:30], weights[:, 20:, :, 0] = 0.0, 0.0
    assert torch.allclose(refined_motion(given.T, wanted, weights, given.depth, K, how), MOTION, rtol=0, atol=1e-6)


def test_holes_and_what_is_not_finite_are_left_out() -> None:
    given = scene()
    depth, wanted, weights = given.depth.clone(), given.wanted.clone(), given.weights.clone()
    depth[:, 0], depth[:, 1], depth[:, 2], depth[:, 3] = torch.nan, 0.0, -1.0, torch.inf
    wanted[:, 4], weights[:, 5] = torch.nan, torch.inf
    inputs = [each.requires_grad_() for each in (wanted, weights, depth)]
    found = refined_motion(given.T, *inputs, K, GaussNewton(steps=8))
    assert torch.allclose(found, MOTION, rtol=0, atol=1e-6)
    found.sum().backward()
    assert all(torch.isfinite(each.grad).all() for each in inputs)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("nothing", ["depth", "weights", "sight", "all but a pixel", "all but a row"])
def test_where_nothing_is_said_the_motion_stays(variant, nothing) -> None:
    """Beside a snippet of which all is known, which is not disturbed."""
    given = scene()
    T, wanted, weights, depth, K = (each.repeat(2, *[1] * (each.ndim - 1)) for each in given)
    if nothing == "depth":
        depth[0] = 0.0
    elif nothing == "weights":
        weights[0] = 0.0
    elif nothing == "sight":
        T[0, 2, 3] = -20.0  # all points lie behind the source
    else:
        kept = weights[0, 7, 9].clone()
        weights[0, : 7 if nothing == "all but a row" else None] = 0.0
        weights[0, 8:] = 0.0
        weights[0, 7, 9] = kept
    inputs = [each.requires_grad_() for each in (wanted, weights, depth)]
    found = refined_motion(T, *inputs, K, VARIANTS[variant])
    if nothing.startswith("all but"):
        assert (found[0] - T[0]).abs().max() < 1.5  # what one row says, no more
    else:
        assert torch.allclose(found[0], T[0], rtol=0, atol=1e-12)
    assert torch.allclose(found[1], refined_motion(*given, VARIANTS[variant])[0])
    found.square().sum().backward()
    assert all(torch.isfinite(each.grad).all() for each in inputs)


def test_an_update_is_bounded() -> None:
    given = scene()
    found = refined_motion(given.T, given.wanted + 1e4, *given[2:])
    limit = given.depth.mean() + 1e-6  # a mean depth, and one radian, in each of three directions
    twist = rigid.logarithm(found)
    assert twist[:, :3].abs().max() <= limit
    assert twist[:, 3:].norm() <= 3**0.5 + 1e-6


def test_the_unit_of_depth_does_not_matter() -> None:
    given = scene()
    near = refined_motion(*given)
    far = refined_motion(given.T, given.wanted, given.weights, 1000 * given.depth, K)
    assert torch.allclose(far[:, :3, :3], near[:, :3, :3])
    assert torch.allclose(far[:, :3, 3], 1000 * near[:, :3, 3])


def test_the_code_drops_large_gradients() -> None:
    given = scene()
    gradients = {}
    for name, largest in {"all": None, "some": 1e-3}.items():
        wanted = given.wanted.clone().requires_grad_()
        found = refined_motion(given.T, wanted, *given[2:], replace(VARIANTS["code"], largest_gradient=largest))
        found.sum().backward()
        gradients[name] = wanted.grad
    large = gradients["all"].abs() > 1e-3
    assert large.any()
    assert not large.all()
    assert torch.equal(gradients["some"], torch.where(large, 0.0, gradients["all"]))
