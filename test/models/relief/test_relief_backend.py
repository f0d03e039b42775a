"""The compiled relief renderer shows what the network shows, for any camera, and steps aside without numba."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.random_relief import random_relief, relief_checkpoint, views

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models import backends
from pose2rgbd_ros.models.backends import RenderedImages
from pose2rgbd_ros.models.relief import kernels
from pose2rgbd_ros.models.relief.backend import level_sums
from pose2rgbd_ros.models.relief.network import Relief
from pose2rgbd_ros.models.torch_backend import TorchBackend
from pose2rgbd_ros.rendering.renderer import Renderer

needs_numba = pytest.mark.skipif(not kernels.HAS_NUMBA, reason="numba is not installed")
CAMERA = Camera.from_fov(48, 40, 80.0)
# Both march through the same logits in float32, but on directions rounded differently in the last bit, and add features
# up in another order: a pixel's colour may round to the next level, and a ray that grazes an edge may pass it.
LEVELS, DEPTH_M, GRAZING = 1, 1e-3, 2e-3


def blank(model: Relief, camera: Camera, count: int) -> RenderedImages:
    shape = (count, camera.height, camera.width)
    depth = np.empty(shape, np.float32) if model.config.output == "rgbd" else None
    return RenderedImages(np.empty((*shape, 3), np.uint8), depth, np.empty(shape, np.float32))


def reference(model: Relief, camera: Camera) -> RenderedImages:
    T, out = views(), blank(model, camera, len(views()))
    TorchBackend(model, Normalization.fit(T, np.array([[[4.0, 60.0]]]))).render(T, camera, out)
    return out


def assert_same(found: RenderedImages, expected: RenderedImages) -> None:
    assert found.present().keys() == expected.present().keys()
    assert found.rgb is not None
    off = (np.abs(found.rgb.astype(int) - expected.rgb) > LEVELS).any(-1)
    for name, most in (("depth", DEPTH_M), ("confidence", 1e-4)):
        values, wanted = getattr(found, name), getattr(expected, name)
        if wanted is not None:
            off |= ~np.isclose(values, wanted, rtol=0, atol=most, equal_nan=True)
    assert off.mean() <= GRAZING


@needs_numba
@pytest.mark.parametrize(
    ("config", "camera"),
    [
        ({}, CAMERA),
        ({"unshuffle": 1, "output": "rgb"}, CAMERA),
        ({"unshuffle": 4, "width": 12, "unit_m": 2.5}, Camera.from_fov(45, 33, 100.0)),  # not a multiple of 4
        ({"levels": 1, "channels": 5, "coarse_channels": 3}, CAMERA),
        ({"levels": 7, "feature_m": 0.25}, Camera.from_fov(40, 24, 20.0)),
        ({"charts": 50}, CAMERA),
        ({"charts": 20, "levels": 2, "channels": 5, "feature_m": 2.0}, CAMERA),
        ({}, Camera(48, 40, 30.0, 42.0, 20.0, 25.0, "plumb_bob", (-0.2, 0.05, 0.001, 0.0, 0.0))),
    ],
)
@pytest.mark.parametrize("threads", [1, 2])
def test_shows_what_the_network_shows(config: dict[str, Any], camera: Camera, threads: int) -> None:
    from pose2rgbd_ros.models.relief.backend import ReliefBackend

    model = random_relief(**config)
    found, expected = blank(model, camera, len(views())), reference(model, camera)
    ReliefBackend(model.config, model.state_dict(), threads).render(views(), camera, found)
    assert_same(found, expected)
    assert expected.rgb is not None
    assert expected.confidence is not None
    assert expected.rgb.std() > 10
    assert {0.0, 0.5} < set(np.unique(expected.confidence))  # unknown, floor and more


@needs_numba
def test_a_frame_does_not_depend_on_the_one_before() -> None:
    from pose2rgbd_ros.models.relief.backend import ReliefBackend

    model = random_relief()
    backend, other = ReliefBackend(model.config, model.state_dict(), 1), Camera.from_fov(20, 30, 50.0)
    first, between, again = (blank(model, camera, 5) for camera in (CAMERA, other, CAMERA))
    for camera, out in ((CAMERA, first), (other, between), (CAMERA, again)):
        backend.render(views(), camera, out)
    for name, images in first.present().items():
        np.testing.assert_array_equal(again.present()[name], images)
    assert_same(between, reference(model, other))


def test_summed_levels_are_the_sum_of_levels() -> None:
    """Far outside the volume too, where every level is clamped at its own edge."""
    model = random_relief(levels=4, feature_m=0.4)
    features, config = model.features, model.config
    points = (torch.rand(400, 3) * 2 - 0.5) * torch.tensor(config.size_m)
    pixel_m = torch.zeros(len(points))
    for level, table in enumerate(level_sums(config, features.maps.detach().numpy())):
        rows, columns, _ = table.shape
        x = (points[:, 0] / config.texel_m(level)).clamp(0, columns - 1).double().numpy()
        y = (points[:, 1] / config.texel_m(level)).clamp(0, rows - 1).double().numpy()
        i, j = np.minimum(x.astype(int), columns - 2), np.minimum(y.astype(int), rows - 2)
        u, v = (x - i)[:, None], (y - j)[:, None]
        found = (table[j, i] * (1 - u) + table[j, i + 1] * u) * (1 - v) + (
            table[j + 1, i] * (1 - u) + table[j + 1, i + 1] * u
        ) * v
        with torch.no_grad():
            pixel_m.fill_(config.texel_m(level) * 2)  # this level whole, the finer ones not at all
            expected = features.ground(points, pixel_m).numpy()
        np.testing.assert_allclose(found, expected, atol=2e-5)


@needs_numba
def test_renderer_takes_it_on_a_cpu_and_renders_other_cameras(tmp_path: Path) -> None:
    path = relief_checkpoint(tmp_path / "model", random_relief(), CAMERA)
    fast, slow = Renderer(path, "cpu", threads=1), Renderer(path, "cpu", "torch")
    assert (fast.backend_name, fast.backend_note, slow.backend_name) == ("numba", "", "torch")
    assert_same(fast.render(views()), slow.render(views()))
    zoomed = Camera.from_fov(32, 32, 30.0)
    assert_same(fast.render_for_camera(views(), zoomed), slow.render_for_camera(views(), zoomed))


def test_without_numba_torch_renders_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(backends, "HAS_NUMBA", False)
    monkeypatch.setattr(backends, "WHY_NO_NUMBA", "numba is not usable here (No module named 'numba')")
    path = relief_checkpoint(tmp_path / "model", random_relief(), CAMERA)
    with caplog.at_level(logging.WARNING):
        renderer = Renderer(path, "cpu")
        renderer.render(views()[:1])
    assert renderer.backend_name == "torch"
    assert "install numba" in renderer.backend_note
    assert "slower" in renderer.backend_note
    assert len(caplog.records) == 1
