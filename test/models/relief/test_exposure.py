"""Corrections of light that are learnt beside the place, and the light that a view from anywhere is shown in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.random_relief import random_relief, relief_checkpoint, views

from pose2rgbd_ros.dataset.meta import DatasetMeta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.evaluation.pictures import measure
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.relief.config import ReliefSettings
from pose2rgbd_ros.models.relief.learner import Exposures
from pose2rgbd_ros.models.relief.light import light_at, neighbours_tell, viewpoints
from pose2rgbd_ros.models.relief.network import Relief
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.training.checkpoint import load_checkpoint
from pose2rgbd_ros.training.families import train_config
from pose2rgbd_ros.training.trainer import train


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


def along_a_line(count: int) -> np.ndarray:
    """Poses (count, 4, 4) a metre apart that look down."""
    eye = np.stack([np.arange(count), np.zeros(count), np.full(count, 30.0)], 1).astype(float)
    return se3.look_at(eye, eye * (1, 1, 0) + (0, 0.1, 0))


def ramp(count: int) -> np.ndarray:
    """The light of frames that grow brighter along the way, from 0.7 to 1.4, (count, 2, 3)."""
    light = np.zeros((count, 2, 3), np.float32)
    light[:, 0] = np.linspace(np.log(0.7), np.log(1.4), count)[:, None]
    return light - light.mean(0)


def test_frames_far_apart_in_light_are_told_from_frames_alike() -> None:
    for gains, wanted in (([0.99, 1.01, 1.0, 1.015, 0.985] * 4, False), ([0.8, 1.2, 1.0, 1.1, 0.9] * 4, True)):
        exposures = Exposures(20, np.arange(20))
        place = torch.full((20, 3, 8, 8), 0.5)
        exposures.start(np.arange(20), place, place * torch.tensor(gains)[:, None, None, None])
        assert exposures.differ() is wanted


def test_corrections_are_pulled_to_where_they_began() -> None:
    exposures = Exposures(2, np.arange(2))
    place = torch.full((2, 3, 8, 8), 0.5)
    exposures.start(np.arange(2), place, place * torch.tensor([0.8, 1.2])[:, None, None, None])
    assert exposures.penalty(np.arange(2)) == 0
    exposures.begin_at(0.5)
    assert exposures.penalty(np.arange(2)) == 0
    with torch.no_grad():
        exposures.residual.zero_()
    assert exposures.penalty(np.arange(2)) > 0


def test_a_view_is_shown_in_the_light_of_the_frames_near_it() -> None:
    T = along_a_line(41)
    frames, places = ramp(41), viewpoints(T)
    assert neighbours_tell(frames, places, 10.0) > 0.9
    for at in (5, 20, 35):
        factor, summand = light_at(frames, places, T[at], 10.0)
        np.testing.assert_allclose(factor, np.exp(frames[at, 0]), rtol=0.02)
        np.testing.assert_array_equal(summand, 0)
    far = T[40].copy()
    far[0, 3] = 1e6
    np.testing.assert_allclose(light_at(frames, places, far, 10.0)[0], np.exp(frames[40, 0]), rtol=1e-5)


def test_light_that_changes_as_it_likes_tells_nothing() -> None:
    frames = np.zeros((400, 2, 3), np.float32)
    frames[:, 0] = 0.15 * np.random.default_rng(0).standard_normal((400, 1))
    assert neighbours_tell(frames, viewpoints(along_a_line(400)), 10.0) < 0.3


@given(st.integers(1, 12), st.integers(0, 2**32 - 1), st.floats(0.1, 1e4))
def test_the_light_of_a_view_is_between_those_of_frames(count: int, seed: int, scale_m: float) -> None:
    generator = np.random.default_rng(seed)
    frames = generator.normal(0, 0.3, (count, 2, 3)).astype(np.float32)
    T = se3.look_at(generator.normal(0, 50, (count + 1, 3)), generator.normal(0, 50, (count + 1, 3)))
    factor, summand = light_at(frames, viewpoints(T[:-1]), T[-1], scale_m)
    gains = np.exp(frames[:, 0])
    assert (factor >= gains.min(0) - 1e-5).all()
    assert (factor <= gains.max(0) + 1e-5).all()
    assert (summand >= frames[:, 1].min(0) - 1e-5).all()
    assert (summand <= frames[:, 1].max(0) + 1e-5).all()
    assert 0 <= neighbours_tell(frames, viewpoints(T[:-1]), scale_m) <= 1


def lit(model: Relief) -> Relief:
    """It knows the light of frames at the views."""
    model.take_light(views())
    assert model.light is not None
    light = torch.zeros(len(views()), 2, 3)
    light[:, 0, 0], light[:, 1, 2] = torch.linspace(-0.2, 0.3, len(views())), 0.05
    model.light.frames.copy_(light)
    return model


def test_the_compiled_renderer_lights_as_torch_does(tmp_path: Path) -> None:
    camera = Camera.from_fov(64, 48, 80.0)
    run = relief_checkpoint(tmp_path / "run", lit(random_relief(1, edge_rays=2)), camera)
    assert load_checkpoint(run).config().light_frames == len(views())
    quick, torch_ = (Renderer(run, "cpu", backend, guard=False) for backend in ("auto", "torch"))
    a, b = (renderer.render(views()).rgb for renderer in (quick, torch_))
    assert a is not None
    assert b is not None
    assert (np.abs(a.astype(int) - b).max(-1) > 1).mean() < 3e-3
    plain = Renderer(relief_checkpoint(tmp_path / "plain", random_relief(1, edge_rays=2), camera), "cpu", guard=False)
    unlit = plain.render(views()).rgb
    assert unlit is not None
    inside = (unlit > 10).all(-1) & (unlit < 150).all(-1)
    ratio = [(a[i][inside[i], 0] / unlit[i][inside[i], 0].astype(float)).mean() for i in range(len(views()))]
    assert np.corrcoef(ratio, np.linspace(-0.2, 0.3, len(views())))[0, 1] > 0.9
    assert "light_frames" not in random_relief().config.architecture()


@pytest.fixture(scope="module")
def drifting(tmp_path_factory: pytest.TempPathFactory, flight_dataset: Callable[..., Path]) -> tuple[Path, Path]:
    """A flight, and the same with a camera that grows brighter along the way."""
    folder = tmp_path_factory.mktemp("light")
    even = Dataset(flight_dataset(folder / "even", frames=24))
    with DatasetWriter(folder / "drifting", DatasetMeta(camera=even.camera, depth=even.meta.depth)) as writer:
        for i, gain in enumerate(np.linspace(0.5, 1.4, len(even))):
            rgb = np.clip(even.rgb(i) * gain, 0, 255).round().astype(np.uint8)
            writer.add(int(even.stamps_ns[i]), even.T_map_cam[i], rgb, even.depth(i))
    return even.path, folder / "drifting"


def test_light_is_learnt_where_it_drifts_and_held_out_frames_are_shown_in_it(
    drifting: tuple[Path, Path], tmp_path: Path
) -> None:
    even, place = drifting
    errors = {}
    for name, dataset, exposure in (
        ("even", even, "auto"), ("auto", place, "auto"), ("none", place, "none"), ("memory", place, "auto"),
    ):  # fmt: skip
        relief = ReliefSettings(exposure=exposure, memory="thin" if name == "memory" else "none")  # type: ignore[arg-type]
        settings = {"size": 32, "device": "cpu", "epochs": 6, "tensorboard": False, "split": "random"}
        run = train(dataset, tmp_path / name, train_config("relief", relief=relief, **settings)).checkpoint
        lights = load_checkpoint(run).config().light_frames
        assert (lights > 0) is (name in ("auto", "memory"))
        errors[name] = measure(run, dataset, device="cpu").scores["model"]["rgb_mae_px"]
    assert errors["auto"] < 0.85 * errors["none"]
    assert errors["memory"] < errors["none"]
