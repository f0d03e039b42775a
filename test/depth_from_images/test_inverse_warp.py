"""View synthesis between two cameras, against projections and pictures that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.blockworld import BlockWorld

from pose2rgbd_ros.depth_from_images.inverse_warp import inverse_warp, swept
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera

TARGET = Camera.from_fov(64, 48, 60.0)
SOURCE = Camera(80, 64, 70.0, 66.0, 41.0, 30.0)


def tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(values, np.float64))


def coordinates(camera: Camera) -> torch.Tensor:
    """(1, 2, H, W): an image that shows u and v of its own pixels."""
    u, v = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    return tensor(np.stack([u, v]))[None]


@settings(max_examples=25)
@given(st.tuples(*[st.floats(-1.5, 1.5)] * 3), st.tuples(*[st.floats(-0.15, 0.15)] * 3), st.floats(5.0, 60.0))
def test_pixels_are_looked_up_where_the_source_projects_them(
    step_m: tuple[float, ...], turn: tuple[float, ...], distance_m: float
) -> None:
    T_src_tgt = se3.make(step_m, np.array([*turn, 1.0]) / np.linalg.norm([*turn, 1.0]))
    depth = torch.full((1, 48, 64), distance_m, dtype=torch.float64)
    warped = inverse_warp(coordinates(SOURCE), depth, tensor(T_src_tgt)[None], tensor(TARGET.K), tensor(SOURCE.K))
    points = se3.transform_points(T_src_tgt, TARGET.rays() * distance_m)
    pixels = SOURCE.project(points)
    in_front = points[..., 2] > 0
    assert np.allclose(warped.depth[0].numpy(), points[..., 2])
    assert np.allclose(warped.pixels[0].numpy()[in_front], pixels[in_front])
    inner = ((pixels >= 0) & (pixels <= (79, 63))).all(axis=-1)
    assert np.allclose(warped.image[0].permute(1, 2, 0).numpy()[inner], pixels[inner], atol=1e-6)
    assert warped.valid[0].numpy()[inner].all()
    assert not warped.valid[0].numpy()[~((pixels >= -0.51) & (pixels <= (79.51, 63.51))).all(axis=-1)].any()


def test_the_same_camera_sees_the_same_image_to_its_last_pixel() -> None:
    image = torch.rand(2, 3, 48, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    depth = torch.full((2, 48, 64), 7.0, dtype=torch.float64)
    warped = inverse_warp(image, depth, torch.eye(4, dtype=torch.float64)[None], tensor(TARGET.K))
    assert torch.allclose(warped.image, image)
    assert warped.valid.all()


def test_a_view_is_the_view_of_another_scale() -> None:
    """A target of half the size sees the same place: what pyramids of scales need."""
    half = SOURCE.resized(40, 32)
    depth = torch.full((1, 32, 40), 9.0, dtype=torch.float64)
    warped = inverse_warp(
        coordinates(SOURCE), depth, torch.eye(4, dtype=torch.float64)[None], tensor(half.K), tensor(SOURCE.K)
    )
    # Each pixel lies in the middle of four.
    assert torch.allclose(warped.image[0, 0], 2 * torch.arange(40.0, dtype=torch.float64) + 0.5)
    assert warped.valid.all()


def test_a_rendered_view_is_made_from_another_one() -> None:
    world = BlockWorld(seed=2)
    T_map_tgt = se3.look_at([0.0, -4.0, 22.0], [0.0, 0.0, 0.0], up=(0.0, 1.0, 0.0))
    T_map_src = T_map_tgt.copy()
    T_map_src[:3, 3] += T_map_tgt[:3, 0]
    (rgb, depth), (rgb_src, depth_src) = (world.render(T, TARGET, supersample=2) for T in (T_map_tgt, T_map_src))
    T_src_tgt = tensor(se3.inverse(T_map_src) @ T_map_tgt)[None]
    source = tensor(np.concatenate([rgb_src, depth_src[..., None]], axis=-1)).permute(2, 0, 1)[None]
    warped = inverse_warp(source, tensor(depth)[None], T_src_tgt, tensor(TARGET.K))
    seen = warped.valid & ((warped.image[:, 3] - warped.depth).abs() < 0.2)  # not hidden by a block
    assert seen.float().mean() > 0.7
    off = (warped.image[0, :3].permute(1, 2, 0) - tensor(rgb)).abs().mean(dim=-1)
    assert off[seen[0]].median() < 5
    unmoved = (tensor(rgb_src) - tensor(rgb)).abs().mean(dim=-1)
    assert off[seen[0]].mean() < 0.5 * unmoved[seen[0]].mean()


@pytest.mark.parametrize(("ahead_m", "valid"), [(-3.0, [False] * 5), (3.0, [False] * 4 + [True])])
def test_unknown_depth_and_what_lies_behind_are_invalid_and_harmless(ahead_m: float, valid: list[bool]) -> None:
    depth = torch.tensor([[[np.nan, np.inf, 0.0, -2.0, 1.0]]], requires_grad=True)
    T_src_tgt = tensor(se3.make([0.0, 0.0, ahead_m], [0.0, 0.0, 0.0, 1.0]))[None].float().requires_grad_()
    warped = inverse_warp(torch.ones(1, 1, 4, 4), depth, T_src_tgt, torch.eye(3))
    assert warped.valid[0, 0].tolist() == valid
    warped.image.sum().backward()
    assert torch.isfinite(depth.grad).all()
    assert torch.isfinite(T_src_tgt.grad).all()


def test_mixed_precision_does_not_round_pixels() -> None:
    T = tensor(se3.exponential([0.3, 0.1, 0.2, 0.02, 0.03, 0.01]))[None]
    exact = coordinates(TARGET), torch.full((1, 48, 64), 7.0, dtype=torch.float64), T, tensor(TARGET.K)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = inverse_warp(*(value.float() for value in exact))
    assert torch.allclose(mixed.pixels.double(), inverse_warp(*exact).pixels, atol=1e-3)


@pytest.mark.parametrize("argument", range(5), ids=["source", "depth", "motion", "K", "K_source"])
def test_gradients_are_those_of_finite_differences(argument: int) -> None:
    generator = torch.Generator().manual_seed(1)
    small = Camera(7, 6, 6.0, 6.5, 3.1, 2.4)
    T = tensor(np.stack([se3.exponential([0.2, -0.1, 0.15, 0.03, -0.05, 0.04]), se3.exponential([0.1] * 6)]))
    values = [
        torch.rand(2, 2, 6, 7, generator=generator, dtype=torch.float64),
        2.0 + torch.rand(2, 6, 7, generator=generator, dtype=torch.float64),
        T,
        tensor(small.K).repeat(2, 1, 1),
        tensor(small.K).repeat(2, 1, 1) + 0.05,
    ]

    def warped(value: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = inverse_warp(*[value if i == argument else other for i, other in enumerate(values)])
        return found.image, found.depth, found.pixels

    # The bends of bilinear interpolation, at pixel centres and the image's edge, lie farther off than eps.
    assert torch.autograd.gradcheck(warped, values[argument].clone().requires_grad_(), eps=1e-7, atol=1e-5)


def test_planes_are_swept_as_they_are_warped_one_by_one() -> None:
    generator = torch.Generator().manual_seed(0)
    source = torch.rand(2, 3, 48, 64, generator=generator, dtype=torch.float64) + 1
    # The second camera has half of the planes behind it.
    T = tensor(se3.make([[0.5, -0.3, 0.2], [0.1, 0.0, -10.0]], [[0.02, -0.03, 0.05, 1.0], [0.0, 0.0, 0.0, 1.0]]))
    K, planes = tensor(TARGET.K), torch.tensor([4.0, 7.0, 9.0, 14.0, 30.0], dtype=torch.float64)
    volume = swept(source, planes, T, K)
    assert volume.shape == (2, 3, 5, 48, 64)
    for index, depth in enumerate(planes):
        warped = inverse_warp(source, depth.expand(2, 48, 64), T, K)
        assert torch.allclose(volume[:, :, index], warped.image * warped.valid[:, None])
    assert not volume[1, :, :3].any()
