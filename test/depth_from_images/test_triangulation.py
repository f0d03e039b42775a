"""Triangulation of matches, and what depth is compared with, against exact scenes, autograd and a linear solution."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.two_views import CAMERA, TwoViews, motion, steps, turns, two_views

from pose2rgbd_ros.depth_from_images import triangulation
from pose2rgbd_ros.depth_from_images.triangulation import triangulate
from pose2rgbd_ros.geometry import se3

K = torch.from_numpy(CAMERA.K)


def tensors(views: TwoViews, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    """The arguments of `triangulate`."""
    arrays = (views.first, views.second, CAMERA.K, views.T_second_first)
    return [torch.from_numpy(array).to(dtype) for array in arrays]


@settings(max_examples=30)
@given(steps, turns, st.integers(0, 99))
def test_exact_matches_give_the_points_and_what_both_cameras_see(
    step: tuple[float, ...], turn: tuple[float, ...], seed: int
) -> None:
    views = two_views(motion(step, turn), 50, seed)
    arguments = tensors(views)
    angle = triangulation.ray_cosine(*arguments).numpy()
    clear = np.abs(angle) > 1e-4  # nearer the epipole digits are lost
    found = triangulate(*arguments)
    assert np.allclose(found.points.numpy()[clear], views.points[clear], rtol=1e-6, atol=1e-6)
    assert np.allclose(found.depth_first.numpy()[clear], views.points[clear, 2], rtol=1e-6)
    assert np.allclose(found.pixels_first.numpy()[clear], views.first[clear], atol=1e-5)
    assert np.allclose(found.pixels_second.numpy()[clear], views.second[clear], atol=1e-5)
    # The cosine is the sine of the angle between the rays.
    here, there = views.points, views.points - np.linalg.inv(views.T_second_first)[:3, 3]
    sine = np.linalg.norm(np.cross(here, there), axis=1) / np.linalg.norm(here, axis=1) / np.linalg.norm(there, axis=1)
    assert np.allclose(angle, sine, atol=1e-9)


def test_single_precision_suffices_for_rays_that_are_nearly_parallel() -> None:
    views = two_views(motion((1.0, 0.2, 0.1), (0.0, 0.0, 0.0)), 200)
    far = 100 * views.points / views.points[:, 2:]  # of which float32 knows 1 - cos^2 to a thousandth
    views = views._replace(points=far, second=CAMERA.project(se3.transform_points(views.T_second_first, far)))
    found = triangulate(*tensors(views, torch.float32)).depth_first.numpy()
    assert np.median(np.abs(found / 100 - 1)) < 5e-5


@settings(max_examples=15)
@given(steps, turns, st.integers(0, 99))
def test_noisy_matches_give_what_the_linear_solution_gives(
    step: tuple[float, ...], turn: tuple[float, ...], seed: int
) -> None:
    """Both solve another least squares problem; of noise of 0.1 px the answers differ far less than by the noise."""
    views = two_views(motion(step, turn), 80, seed, noise_px=0.1)
    arguments = tensors(views)
    wide = triangulation.ray_cosine(*arguments).numpy() > 0.02
    P1, P2 = CAMERA.K @ np.eye(3, 4), CAMERA.K @ views.T_second_first[:3]
    linear = cv2.triangulatePoints(P1, P2, views.first.T.copy(), views.second.T.copy())
    linear = (linear[:3] / linear[3]).T
    found = triangulate(*arguments).points.numpy()
    error = np.linalg.norm(linear - views.points, axis=1)[wide]
    assert (np.linalg.norm(found - linear, axis=1)[wide] < 0.35 * error + 0.02).mean() > 0.9


def test_gradients_agree_with_finite_differences() -> None:
    views = two_views(motion((1.0, 0.2, 0.3), (0.02, -0.05, 0.01)), 6, noise_px=0.5)
    first, second, K, T = tensors(views)
    assert triangulation.ray_cosine(first, second, K, T).min() > 0.01
    for value in (first, second):
        value.requires_grad_()

    def points(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return triangulate(first, second, K, T).points

    def depths(first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = triangulate(first, second, K, T)
        return found.depth_first, found.depth_second, found.pixels_first, found.pixels_second

    assert torch.autograd.gradcheck(points, (first, second))
    assert torch.autograd.gradcheck(depths, (first, second))


def test_the_point_is_the_least_sum_of_squared_distances_to_both_rays() -> None:
    """Eq. 1, for rays that do not meet."""
    views = two_views(motion((1.0, 0.2, 0.3), (0.02, -0.05, 0.01)), 20, noise_px=2.0)
    first, second, K, T = tensors(views)
    place = torch.linalg.inv(T)[:3, 3]
    n1 = triangulation.unit_rays(first, K)
    n2 = triangulation.unit_rays(second, K) @ T[:3, :3]
    x = triangulate(first, second, K, T).points.requires_grad_()

    def squared(start: torch.Tensor, ray: torch.Tensor) -> torch.Tensor:
        return torch.linalg.cross(x - start, ray).square().sum()

    (squared(torch.zeros(3, dtype=torch.float64), n1) + squared(place, n2)).backward()
    assert x.grad is not None
    assert x.grad.abs().max() < 1e-9


def test_poses_and_batches_broadcast() -> None:
    views = two_views(motion((1.0, 0.0, 0.1), (0.0, 0.03, 0.0)), 10)
    first, second, K, T = tensors(views)
    four = torch.stack([T, T, T, T])
    found = triangulate(first[None, None], second[None, None], K, torch.stack([four, four]))
    assert found.points.shape == (2, 4, 10, 3)
    assert torch.allclose(found.points[1, 2], triangulate(first, second, K, T).points)


def test_parallel_rays_points_behind_and_beyond_the_image_are_not_valid() -> None:
    T = torch.from_numpy(motion((1.0, 0.0, 0.0), (0.0, 0.0, 0.0)))
    T[0, 3] = -1.0  # the second camera is one to the right
    first = torch.tensor([[160.0, 120.0]] * 4, dtype=torch.float64)
    # Ahead; infinitely far; parting rays; at 5 px of parallax but in front of neither.
    second = first + torch.tensor([[-20.0, 0.0], [0.0, 0.0], [20.0, 0.0], [5.0, 0.0]], dtype=torch.float64)
    first.requires_grad_()
    found = triangulate(first, second, K, T)
    cosine = triangulation.ray_cosine(first, second, K, T)
    valid = triangulation.is_valid(found, cosine, 240, 320)
    assert valid.tolist() == [True, False, False, False]
    assert torch.isclose(found.depth_first[0], torch.tensor(250.0 / 20, dtype=torch.float64))
    assert cosine[0] > 0 > cosine[2]
    found.points.sum().backward()
    assert torch.isfinite(first.grad).all(), "parallel rays spoil no gradient"
    assert found.depth_first[1] == 0, "at the camera, not anywhere"
    assert not triangulation.is_valid(found, cosine, 240, 150).any(), "columns from 150 on are beyond a smaller image"


def test_the_scale_minimises_the_relative_error_and_has_no_gradient() -> None:
    rng = torch.Generator().manual_seed(0)
    truth = 1 + 9 * torch.rand((2, 50), generator=rng, dtype=torch.float64)
    predicted = (
        truth * torch.tensor([[3.0], [0.2]]) * (1 + 0.1 * torch.randn((2, 50), generator=rng))
    ).requires_grad_()
    valid = torch.rand((2, 50), generator=rng) > 0.3
    truth = torch.where(valid, truth, torch.nan)
    scale = triangulation.scale_to(predicted, truth, valid)
    assert not scale.requires_grad
    for factor in (0.999, 1.001):
        for b in (0, 1):
            best, other = (
                triangulation.triangulation_loss(a * predicted[b : b + 1], truth[b : b + 1], valid[b : b + 1])
                for a in (scale[b], factor * scale[b])
            )
            assert best < other
    halved = triangulation.scale_to(predicted / 2, truth, valid)
    assert torch.allclose(halved, 2 * scale), "so that dividing by a median before changes nothing"
    assert triangulation.scale_to(predicted, truth, torch.zeros_like(valid)).tolist() == [1.0, 1.0]
    loss = triangulation.triangulation_loss(scale[:, None] * predicted, truth, valid)
    loss.backward()
    assert torch.isfinite(predicted.grad).all()
    assert (predicted.grad != 0).equal(valid)


def test_depth_of_a_plane_reprojects_without_an_error_and_its_flow_is_that_of_the_motion() -> None:
    rays = torch.from_numpy(CAMERA.rays())
    normal, T = torch.tensor([0.1, -0.2, 1.0], dtype=torch.float64), motion((0.5, 0.1, 0.4), (0.02, -0.03, 0.05))
    depth = 8.0 / (rays @ normal)
    # n x = 8 in the first camera is n' x' = 8 + n' t in the second.
    R, t = torch.from_numpy(T[:3, :3]), torch.from_numpy(T[:3, 3])
    turned = R @ normal
    depth_second = (8.0 + turned @ t) / (rays @ turned)
    arguments = depth_second[None], K, torch.from_numpy(T)[None], torch.ones(1, 240, 320, dtype=torch.bool)
    assert triangulation.reprojection_loss(depth[None], *arguments) < 2e-6
    far = torch.isclose(
        triangulation.reprojection_loss(1.1 * depth[None], *arguments),
        torch.tensor(0.1, dtype=torch.float64),
        atol=0.03,
    )
    assert far
    flow, valid = triangulation.rigid_flow(depth[None], K, torch.from_numpy(T)[None])
    first = triangulation.pixel_grid(depth)
    second = CAMERA.project((rays * depth[..., None] @ R.T + t).numpy())
    assert torch.allclose((first + flow[0].movedim(0, -1)).flatten(0, 1), torch.from_numpy(second).flatten(0, 1))
    assert 0.5 < valid.double().mean() < 1
    found = triangulate(first.flatten(0, 1), torch.from_numpy(second).flatten(0, 1), K, torch.from_numpy(T))
    assert torch.allclose(found.depth_first, depth.flatten() / np.linalg.norm(T[:3, 3]), rtol=1e-2)
