"""The quick relief renderer against the plain order of things, piece by piece and whole, on random places and poses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.random_relief import COLUMNS, ROWS, random_relief, relief_checkpoint, views
from torch.nn import functional

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.backends import RenderedImages
from pose2rgbd_ros.models.relief import kernels
from pose2rgbd_ros.rendering.renderer import PREVIEW, Renderer

if not kernels.HAS_NUMBA:
    pytest.skip("numba is not installed", allow_module_level=True)

from pose2rgbd_ros.models.relief import backend as quick
from pose2rgbd_ros.models.relief import patch_kernels, winograd
from pose2rgbd_ros.models.relief.backend import ReliefBackend
from pose2rgbd_ros.models.relief.plain import PlainReliefBackend

CAMERA = Camera.from_fov(75, 53, 80.0)  # neither squares of rays nor tiles of patches fit
# What the quick order may change: a pixel's colour rounds to the next level; table values are int16.
LEVELS, DEPTH_M, SURE = 1, 1e-3, 1e-5


def blank(camera: Camera, count: int) -> RenderedImages:
    shape = (count, camera.height, camera.width)
    return RenderedImages(np.empty((*shape, 3), np.uint8), np.empty(shape, np.float32), np.empty(shape, np.float32))


def poses(seed: int, count: int) -> np.ndarray:
    """T_map_cam (count, 4, 4): in, over, beside and under the volume, looking anywhere, some along its axes."""
    generator = np.random.default_rng(seed)
    eye = generator.uniform((-60, -60, -5), (60, 60, 60), (count, 3))
    T = se3.look_at(eye, eye + generator.normal(size=(count, 3)))
    T[::4, :3, :3] = generator.permuted(np.tile(np.eye(3), (len(T[::4]), 1, 1)), axis=1)
    T[::4, :3, 0] *= np.linalg.det(T[::4, :3, :3])[:, None]
    return np.asarray(T)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3))
def test_beams_change_no_ray(seed: int, density: int) -> None:
    """Every ray meets what it met alone, to the last bit: sparse and dense places, rays the lens does not have."""
    model = random_relief(seed)
    with torch.no_grad():
        model.volume.logits -= 1.5 * (3 - density) * (torch.rand(1, ROWS, COLUMNS) < 0.8)
    one, other = (kind(model.config, model.state_dict(), 1) for kind in (ReliefBackend, PlainReliefBackend))
    rays = CAMERA.rays()
    rays[np.random.default_rng(seed).random(rays.shape[:2]) < 0.002] = np.nan
    frame, plain = one.frame(rays, CAMERA.focal_px), other.frame(rays, CAMERA.focal_px)
    height, width = frame.shape
    for T in poses(seed, 8):
        one.render_frame(T, frame, blank(CAMERA, 1), 0)
        other.render_frame(T, plain, blank(CAMERA, 1), 0)
        np.testing.assert_array_equal(frame.t[:height, :width].ravel(), plain.found[0])
        np.testing.assert_array_equal(frame.state[:height, :width].ravel(), plain.state)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"unshuffle": 1},
        {"unshuffle": 4, "width": 12, "unit_m": 2.5},
        {"levels": 1, "channels": 5, "coarse_channels": 3},
        {"levels": 7, "feature_m": 0.25, "channels": 12},
    ],
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_pictures_are_those_of_the_plain_order(seed: int, config: dict[str, Any]) -> None:
    model, T = random_relief(seed, **config), np.concatenate([views(), poses(seed, 6)])
    found, expected = blank(CAMERA, len(T)), blank(CAMERA, len(T))
    ReliefBackend(model.config, model.state_dict(), 1).render(T, CAMERA, found)
    PlainReliefBackend(model.config, model.state_dict(), 1).render(T, CAMERA, expected)
    assert found.rgb is not None
    assert expected.rgb is not None
    assert np.abs(found.rgb.astype(int) - expected.rgb).max() <= LEVELS
    assert found.depth is not None
    assert expected.depth is not None
    known = np.isfinite(expected.depth)
    assert known.mean() > 0.1
    np.testing.assert_allclose(found.depth, expected.depth, rtol=0, atol=DEPTH_M)
    np.testing.assert_allclose(found.confidence, expected.confidence, rtol=0, atol=SURE)  # type: ignore[arg-type]


def test_threads_do_not_change_a_picture() -> None:
    model, camera = random_relief(), Camera.from_fov(200, 190, 80.0)
    found = [blank(camera, 5) for _ in range(2)]
    for threads, out in zip((1, 3), found, strict=True):
        ReliefBackend(model.config, model.state_dict(), threads).render(views(), camera, out)
    for name, images in found[0].present().items():
        np.testing.assert_array_equal(found[1].present()[name], images)


@pytest.mark.parametrize("threads", [2, 3, 4])
@pytest.mark.parametrize("stages", [4, 5, 6])
def test_threads_hardly_wait_for_one_another(stages: int, threads: int) -> None:
    """Were all tasks alike, all threads would nearly always work; each task is there once, after what it needs."""
    strips = quick.STRIPS_A_THREAD * threads
    free, ended = [0] * threads, dict[tuple[int, int], int]()
    for stage, strip in quick.in_turns(stages, strips):
        needs = [(stage - 1, at) for at in range(strip - 1, strip + 2) if stage > 0 and 0 <= at < strips]
        thread = int(np.argmin(free))
        free[thread] = ended[stage, strip] = 1 + max([free[thread], *(ended[each] for each in needs)])
    assert len(ended) == stages * strips
    assert max(free) <= stages * strips / threads + stages


def test_what_fails_in_a_thread_ends_the_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    model, camera = random_relief(), Camera.from_fov(200, 190, 80.0)
    backend = ReliefBackend(model.config, model.state_dict(), 3)
    good = quick.convolve
    calls: list[int] = []

    def fails(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 4:
            raise MemoryError("no more")
        good(*arguments)

    monkeypatch.setattr(quick, "convolve", fails)
    with pytest.raises(MemoryError, match="no more"):
        backend.render(views()[:1], camera, blank(camera, 1))
    monkeypatch.undo()
    again, expected = blank(camera, 1), blank(camera, 1)
    backend.render(views()[:1], camera, again)
    ReliefBackend(model.config, model.state_dict(), 1).render(views()[:1], camera, expected)
    np.testing.assert_array_equal(again.rgb, expected.rgb)  # type: ignore[arg-type]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 8), (13, 29)])
@pytest.mark.parametrize(("inputs", "outputs", "relu"), [(21, 32, True), (8, 4, False)])
def test_convolutions_are_those_of_pytorch(height: int, width: int, inputs: int, outputs: int, relu: bool) -> None:
    generator = np.random.default_rng(inputs)
    weight = generator.normal(size=(outputs, inputs, 3, 3)).astype(np.float32) / np.float32(np.sqrt(9 * inputs))
    bias = generator.normal(size=outputs).astype(np.float32)
    layer = winograd.convolution(weight, bias, relu)
    down, across = -(-height // winograd.TILE), -(-width // winograd.TILE)
    padded = down * winograd.TILE + 2, across * winograd.TILE + 2
    image, made = (np.zeros((*padded, count), np.float32) for count in layer.weights.shape[1:])
    image[1 : height + 1, 1 : width + 1, :inputs] = generator.normal(size=(height, width, inputs))
    winograd.convolve(image, layer, height, width, 0, down, 1, made, *winograd.scratch([layer])[0])
    planes = torch.from_numpy(np.ascontiguousarray(image[1 : height + 1, 1 : width + 1, :inputs].transpose(2, 0, 1)))
    expected = functional.conv2d(
        planes[None].double(), *(torch.from_numpy(a).double() for a in (weight, bias)), padding=1
    )
    expected = expected.relu() if relu else expected
    found = made[1 : height + 1, 1 : width + 1, :outputs].transpose(2, 0, 1).copy()
    np.testing.assert_allclose(found, expected[0].numpy(), rtol=0, atol=2e-5)
    made[1 : height + 1, 1 : width + 1] = 0
    assert not made.any(), "the margin stays zero"


def test_logarithm_and_exponential() -> None:
    x = np.geomspace(1e-3, 1e3, 1000).astype(np.float32)
    found = np.array([patch_kernels.logarithm(value) for value in x])
    np.testing.assert_allclose(found, np.log(x.astype(np.float64)), rtol=3e-7, atol=1e-7)
    x = np.linspace(-80, 5, 1000).astype(np.float32)
    found = np.array([patch_kernels.exponential(value) for value in x])
    np.testing.assert_allclose(found, np.exp(x.astype(np.float64)), rtol=3e-7)


def test_first_a_small_picture_then_the_plain_one(tmp_path: Path) -> None:
    path = relief_checkpoint(tmp_path / "model", random_relief(), CAMERA)
    renderer, zoomed = Renderer(path, "cpu", threads=1), Camera.from_fov(64, 48, 30.0)
    for camera in (CAMERA, zoomed):
        T = views()[0]
        expected = renderer.render_for_camera(T, camera)
        small, whole = renderer.progressive(T, camera)
        for name, images in whole.present().items():
            np.testing.assert_array_equal(images, expected.present()[name])
        reduced = camera.resized(camera.width // PREVIEW, camera.height // PREVIEW)
        for name, images in small.present().items():
            assert images.shape[:3] == (1, camera.height // PREVIEW, camera.width // PREVIEW)
            np.testing.assert_array_equal(images, renderer.render_for_camera(T, reduced).present()[name])


def test_the_whole_picture_is_left_to_who_wants_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    renderer = Renderer(relief_checkpoint(tmp_path / "model", random_relief(), CAMERA), "cpu", threads=1)
    out = renderer.render(views()[0])
    assert out.rgb is not None
    out.rgb[:] = 7
    pictures = renderer.progressive(views()[0], out=out)
    next(pictures)
    pictures.close()
    assert (out.rgb == 7).all()
    *_, whole = renderer.progressive(views()[0], out=out)
    assert whole is out
    assert (out.rgb != 7).any()
