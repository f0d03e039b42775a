"""Likeness and smoothness: against plain sums, and their gradients against differences in float64."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from pose2rgbd_ros.depth_from_images.inverse_warp import inverse_warp
from pose2rgbd_ros.depth_from_images.photometric import (
    area_resized,
    edge_aware_smoothness,
    intrinsics_resized,
    masked_mean,
    photometric_difference,
    pyramid,
    second_order_smoothness,
    ssim_difference,
)
from pose2rgbd_ros.geometry.camera import Camera


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_ssim_is_that_of_windows_of_nine_pixels() -> None:
    a, b = images(1, 1, 5, 6), images(1, 1, 5, 6, seed=1)
    found = ssim_difference(a, b)[0, 0]
    for row, column in ((2, 3), (0, 0), (4, 2)):
        x, y = (
            image[0, 0, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2].numpy().ravel() for image in (a, b)
        )
        ssim = (2 * x.mean() * y.mean() + 1e-4) * (2 * np.mean((x - x.mean()) * (y - y.mean())) + 9e-4)
        ssim /= (x.mean() ** 2 + y.mean() ** 2 + 1e-4) * (x.var() + y.var() + 9e-4)
        assert found[row, column] == pytest.approx(np.clip((1 - ssim) / 2, 0, 1))
    assert ssim_difference(a, a).abs().max() < 1e-12
    assert ssim_difference(a, 1 - a).mean() > 0.5


def test_a_masked_mean_is_that_of_the_pixels_in_the_mask() -> None:
    values, mask = images(2, 4, 5), images(2, 4, 5, seed=1) > 0.4
    assert masked_mean(values, mask) == pytest.approx(float(values[mask].mean()))
    nothing = values.clone().requires_grad_()
    masked_mean(nothing, torch.zeros_like(mask)).backward()
    assert nothing.grad is not None
    assert not nothing.grad.any(), "no NaN where nothing is seen"
    few = torch.zeros(1, 20, 20)
    few[0, 0, 0] = 1
    assert masked_mean(torch.ones(1, 20, 20), few) == pytest.approx(0.25), "one pixel of 400 counts as of a hundredth"


def test_planes_are_smooth_to_the_second_order_and_steps_at_edges_are_free() -> None:
    v, u = torch.meshgrid(torch.arange(8.0), torch.arange(9.0), indexing="ij")
    plane = (2 * u - 3 * v)[None, None]
    assert second_order_smoothness(plane) == 0
    assert edge_aware_smoothness(plane, torch.zeros(1, 3, 8, 9), order=2) == 0
    assert edge_aware_smoothness(plane, torch.zeros(1, 3, 8, 9)) == pytest.approx(5)
    twisted = (u * v)[None, None]
    assert second_order_smoothness(twisted) == pytest.approx(2), "xy and yx"
    step = (u > 4).float()[None, None]
    blank, edge = torch.zeros(1, 3, 8, 9), step.expand(1, 3, -1, -1)
    assert edge_aware_smoothness(step, blank) == pytest.approx(1 / 8)
    assert edge_aware_smoothness(step, edge, edge=10.0) == pytest.approx(float(np.exp(-10)) / 8)
    # Of the two second differences at the step, the former one's latter half is the image's edge.
    bend = edge_aware_smoothness(step, edge, order=2, edge=10.0)
    assert bend == pytest.approx((1 + float(np.exp(-10))) / 7)
    kink = torch.relu(u - 4)[None, None]
    assert edge_aware_smoothness(kink, edge, order=2, edge=10.0) == pytest.approx(float(np.exp(-10)) / 7)


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (3, 8)])
def test_resized_pixels_are_means_of_their_area(size: tuple[int, int]) -> None:
    image = images(2, 3, 12, 18)
    expected = cv2.resize(image[1, 2].numpy(), size[::-1], interpolation=cv2.INTER_AREA)
    assert np.allclose(area_resized(image, size)[1, 2], expected)
    snippets = image[:, None].expand(-1, 4, -1, -1, -1)
    assert torch.allclose(area_resized(snippets, size)[1, 3], area_resized(image, size)[1])


def test_a_pyramid_keeps_its_mean_and_its_intrinsics_follow() -> None:
    image = images(1, 3, 13, 18)
    levels = pyramid(image, 4)
    assert [tuple(level.shape[-2:]) for level in levels] == [(13, 18), (7, 9), (4, 5), (2, 3)]
    assert all(torch.allclose(level.mean(), image.mean()) for level in levels)
    camera = Camera(18, 13, 20.0, 21.0, 8.0, 6.5)
    K = intrinsics_resized(torch.from_numpy(camera.K)[None], (13, 18), (4, 5))
    assert np.allclose(K[0].numpy(), camera.resized(5, 4).K)


def test_gradients_agree_with_differences() -> None:
    image, other = (images(1, 2, 5, 6, seed=seed).requires_grad_() for seed in (0, 1))
    mask = images(1, 5, 6, seed=2)
    assert gradcheck(ssim_difference, (image, other))
    assert gradcheck(lambda a, b: masked_mean(photometric_difference(a, b), mask), (image, other))
    assert gradcheck(second_order_smoothness, (image,))
    assert gradcheck(lambda a, b: edge_aware_smoothness(a, b, order=1, edge=3.0), (image, other))
    assert gradcheck(lambda a, b: edge_aware_smoothness(a, b, order=2, edge=3.0), (image, other))
    assert gradcheck(lambda a: area_resized(a, (3, 4)), (image,))


def test_gradients_of_a_warp_agree_with_differences() -> None:
    """To the source, the depth, the motion and the intrinsics; pixels stay clear of the kinks between pixels."""
    source = images(1, 2, 6, 8).requires_grad_()
    depth = (4 + images(1, 5, 7, seed=1)).requires_grad_()
    T = torch.eye(4, dtype=torch.float64)[None].clone()
    T[0, :3, 3] = torch.tensor([0.21, -0.13, 0.4])
    T.requires_grad_()
    K = torch.from_numpy(Camera(7, 5, 6.0, 6.5, 3.1, 2.2).K).requires_grad_()
    K_source = torch.from_numpy(Camera(8, 6, 7.0, 7.5, 3.6, 2.7).K).requires_grad_()

    def warped(*given: torch.Tensor) -> torch.Tensor:
        return inverse_warp(*given).image

    assert gradcheck(warped, (source, depth, T, K, K_source))
