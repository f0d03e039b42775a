"""Rays within the pixels at silhouettes: what they show, in torch and compiled, and what they leave as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.random_relief import random_relief, relief_checkpoint, views
from support.remembered import remembering_relief

from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.backends import HAS_NUMBA
from pose2rgbd_ros.models.relief.network import Relief
from pose2rgbd_ros.rendering.renderer import Renderer

if not HAS_NUMBA:
    pytest.skip("numba is not installed", allow_module_level=True)

from pose2rgbd_ros.models.relief.memory import WITHIN_PIXEL, silhouettes

CAMERA = Camera.from_fov(75, 53, 80.0)


def without_a_shader(model: Relief) -> Relief:
    """Its picture is what the features say themselves."""
    with torch.no_grad():
        for parameter in model.shader.parameters():
            parameter.zero_()
    return model


def twin(model: Relief, edge_rays: int) -> Relief:
    """The same tables, seen by other rays."""
    made = without_a_shader(random_relief(3, edge_rays=edge_rays))
    made.load_state_dict(model.state_dict())
    return made


@pytest.mark.parametrize("rays", [2, 4])
def test_a_silhouette_shows_the_mean_of_its_rays(rays: int) -> None:
    plain = without_a_shader(random_relief(3))
    T_map_cam = torch.from_numpy(views())
    rays_cam = torch.from_numpy(CAMERA.rays())
    a_pixel = torch.tensor([1 / CAMERA.fx, 1 / CAMERA.fy])
    with torch.no_grad():
        middle = plain(T_map_cam, rays_cam, CAMERA.focal_px)
        shifted = []
        for offset in WITHIN_PIXEL[:rays]:
            moved = rays_cam.clone()
            moved[..., :2] += torch.tensor(offset) * a_pixel
            shifted.append(plain(T_map_cam, moved, CAMERA.focal_px).rgb)
        shown = twin(plain, rays)(T_map_cam, rays_cam, CAMERA.focal_px)
    at_edges = torch.zeros(middle.depth.shape, dtype=torch.bool)
    for view, depth in enumerate(middle.depth.numpy()):
        at_edges[view][silhouettes(depth)] = True
    assert 0.05 < at_edges.float().mean() < 0.95
    mean = torch.stack(shifted).mean(0).permute(0, 2, 3, 1)
    here, usual = shown.rgb.permute(0, 2, 3, 1), middle.rgb.permute(0, 2, 3, 1)
    # Rounded otherwise, a ray may just miss a tower.
    assert ((here[at_edges] - mean[at_edges]).abs().amax(-1) > 1e-4).float().mean() < 2e-3
    assert torch.equal(here[~at_edges], usual[~at_edges])
    assert (here[at_edges] - usual[at_edges]).abs().mean() > 0.01
    np.testing.assert_array_equal(shown.depth.numpy(), middle.depth.numpy())


@pytest.mark.parametrize(
    ("config", "memory_rays"),
    [
        ({"edge_rays": 2}, None),
        ({"edge_rays": 4, "unshuffle": 4, "width": 12, "charts": 40}, None),
        ({"edge_rays": 2}, 4),
        ({"edge_rays": 3, "unshuffle": 1, "channels": 5, "coarse_channels": 3}, 2),
    ],
)
def test_the_compiled_renderer_shows_what_torch_shows(
    config: dict[str, Any], memory_rays: int | None, tmp_path: Path
) -> None:
    model = (
        random_relief(1, **config) if memory_rays is None else remembering_relief(1, memory_rays=memory_rays, **config)
    )
    run = relief_checkpoint(tmp_path / "run", model, CAMERA)
    quick, torch_ = (Renderer(run, "cpu", backend, guard=False) for backend in ("auto", "torch"))
    assert (quick.backend_name, torch_.backend_name) == ("numba", "torch")
    bent = Camera(70, 50, 45.0, 45.0, 34.0, 26.0, "plumb_bob", (-0.2, 0.03, 0.0, 0.0, 0.0))
    for camera in (CAMERA, CAMERA.resized(64, 64), bent):
        a, b = (renderer.render_for_camera(views(), camera) for renderer in (quick, torch_))
        assert a.rgb is not None
        assert b.rgb is not None
        # A ray that grazes a tower may be told otherwise, which the shader spreads over the neighbours.
        off = np.abs(a.rgb.astype(int) - b.rgb).max(-1)
        assert (off > 1).mean() < 3e-3
        assert (np.abs(a.depth - b.depth) > 0.05).mean() < 1e-3


def test_a_picture_of_one_row_has_middle_rays_alone(tmp_path: Path) -> None:
    run = relief_checkpoint(tmp_path / "run", random_relief(1, edge_rays=4), CAMERA)
    quick, torch_ = (Renderer(run, "cpu", backend, guard=False) for backend in ("auto", "torch"))
    row = Camera(40, 1, 30.0, 30.0, 20.0, 0.5)
    a, b = (renderer.render_for_camera(views(), row) for renderer in (quick, torch_))
    assert a.rgb is not None
    assert np.abs(a.rgb.astype(int) - b.rgb).max() <= 1


def test_one_ray_a_pixel_is_the_model_as_it_was() -> None:
    assert "edge_rays" not in random_relief().config.architecture()
    assert random_relief(edge_rays=2).config.architecture()["edge_rays"] == 2
    assert random_relief().state_dict().keys() == random_relief(edge_rays=2).state_dict().keys()


def test_textures_and_poses_learn_by_all_rays_of_a_pixel() -> None:
    model = random_relief(2, edge_rays=2)
    model.train()
    T_map_cam = torch.from_numpy(views()[1:2]).requires_grad_()
    rays_cam = torch.from_numpy(CAMERA.rays()).float()
    made = model(T_map_cam, rays_cam, CAMERA.focal_px)
    rows, columns = silhouettes(made.depth[0].detach().numpy())
    made.rgb[0, :, rows, columns].sum().backward()
    assert T_map_cam.grad is not None
    assert torch.isfinite(T_map_cam.grad).all()
    assert T_map_cam.grad.abs().sum() > 0
    touched = (model.features.maps.grad != 0).any(1).sum()
    model.zero_grad()
    single = random_relief(2)
    single.train()
    single(T_map_cam.detach(), rays_cam, CAMERA.focal_px).rgb[0, :, rows, columns].sum().backward()
    assert touched > (single.features.maps.grad != 0).any(1).sum()
