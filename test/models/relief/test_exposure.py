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
from pose2rgbd_ros.models.relief.config import ReliefConfig, ReliefSettings, SeenPoints
from pose2rgbd_ros.models.relief.gains import differ, matched_gains
from pose2rgbd_ros.models.relief.learner import Exposures
from pose2rgbd_ros.models.relief.light import REACHES, choose_reach, light_at, neighbours_tell, viewpoints
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
        assert differ(np.log(np.repeat(np.array(gains, np.float32)[:, None], 3, 1))) is wanted


def test_corrections_are_pulled_to_where_they_began() -> None:
    exposures = Exposures(3, np.array([0, 2]))
    exposures.begin_with(np.log(np.array([[0.8] * 3, [1.25] * 3], np.float32)))
    torch.testing.assert_close(exposures.gain_and_offset(np.array([2]))[0, 0], torch.full((3,), 1.25))
    assert exposures.penalty(np.array([0, 2])) == 0
    with torch.no_grad():
        exposures.residual.zero_()
    assert exposures.penalty(np.array([0, 2])) > 0


def seen_at(config: ReliefConfig, gains: np.ndarray, overlap: int) -> list[SeenPoints]:
    """What frames of these gains (T,) show of a floor of random colours, each of a stretch that `overlap` share."""
    generator = np.random.default_rng(0)
    length, width, height = config.size_m
    across = generator.random((len(gains) * 400, 3)).astype(np.float32) * np.float32([length, width, 0])
    colour = np.exp(generator.normal(-1.5, 0.3, (9, 9, 3)))
    found = []
    for number, gain in enumerate(gains):
        middle = (number + 0.5) / len(gains)
        floor = across[np.abs(across[:, 0] / length - middle) < overlap / 2 / len(gains)]
        place = (floor[:, :2] / np.float32([length, width]) * 9).astype(int)
        eye = np.tile(np.float32([middle * length, width / 2, 0.9 * height]), (len(floor), 1))
        depth = eye[:, 2] - 0.1 * height
        direction = (floor + np.float32([0, 0, 0.1 * height]) - eye) / depth[:, None]
        rgb = (gain * colour[place[:, 0], place[:, 1]]).clip(0, 1)
        found.append(SeenPoints(eye, direction, depth, rgb.astype(np.float32)))
    return found


def test_gains_are_found_by_what_several_frames_show() -> None:
    """More of them than each frame's difference from the average of all that see a surface, which is bright with it."""
    config = random_relief().config
    log_gain = 0.25 * np.sin(np.linspace(0, 4, 30))
    log_gain -= log_gain.mean()
    points = seen_at(config, np.exp(log_gain), 12)
    found = matched_gains(points, config)
    assert np.abs(found - found.mean(1, keepdims=True)).max() < 0.02  # the channels alike
    assert np.corrcoef(found.mean(1), log_gain)[0, 1] > 0.95
    all_colours = np.concatenate([some.rgb for some in points])
    _, place = np.unique(
        np.concatenate([some.origin + some.depth[:, None] * some.direction for some in points]),
        axis=0,
        return_inverse=True,
    )
    frame = np.repeat(np.arange(30), [len(some.rgb) for some in points])
    value = np.log(all_colours.mean(1))
    average = (np.bincount(place, value) / np.bincount(place))[place]
    guessed = np.bincount(frame, value - average) / np.bincount(frame)
    assert 1.25 * (guessed * log_gain).sum() < (found.mean(1) * log_gain).sum() < (log_gain**2).sum()


def test_of_even_light_or_without_a_common_surface_no_gain_is_found() -> None:
    config = random_relief().config
    assert np.abs(matched_gains(seen_at(config, np.ones(20), 4), config)).max() < 0.02
    alone = seen_at(config, np.array([0.7, 1.4]), 1)
    alone[1] = SeenPoints(*(values[:0] for values in alone[1]))
    np.testing.assert_array_equal(matched_gains(alone, config), 0)
    assert matched_gains([], config).shape == (0, 3)


def test_a_view_is_shown_in_the_light_of_the_frames_near_it() -> None:
    T = along_a_line(41)
    frames, places = ramp(41), viewpoints(T)
    assert neighbours_tell(frames, places, 10.0, 0.2) > 0.9
    for at in (5, 20, 35):
        factor, summand = light_at(frames, places, T[at], 10.0, 0.2)
        np.testing.assert_allclose(factor, np.exp(frames[at, 0]), rtol=0.02)
        np.testing.assert_array_equal(summand, 0)
    far = T[40].copy()
    far[0, 3] = 1e6
    np.testing.assert_allclose(light_at(frames, places, far, 10.0, 0.2)[0], np.exp(frames[40, 0]), rtol=1e-5)


def test_the_reach_of_light_is_that_at_which_frames_tell_one_another_most() -> None:
    places = viewpoints(along_a_line(60))
    slow, quick = (np.repeat(np.sin(np.arange(60) / frames)[:, None], 3, 1).astype(np.float32) for frames in (20, 2))
    noise = np.random.default_rng(0).normal(0, 0.3, slow.shape).astype(np.float32)
    assert choose_reach(quick, places, 10.0) == min(REACHES)
    assert choose_reach(slow + noise, places, 10.0) == max(REACHES)
    assert choose_reach(slow[:1], places[:1], 10.0) in REACHES


def test_light_that_changes_as_it_likes_tells_nothing() -> None:
    frames = np.zeros((400, 2, 3), np.float32)
    frames[:, 0] = 0.15 * np.random.default_rng(0).standard_normal((400, 1))
    assert neighbours_tell(frames, viewpoints(along_a_line(400)), 10.0, 0.2) < 0.3


@given(st.integers(1, 12), st.integers(0, 2**32 - 1), st.floats(0.1, 1e4), st.sampled_from(REACHES))
def test_the_light_of_a_view_is_between_those_of_frames(count: int, seed: int, scale_m: float, reach: float) -> None:
    generator = np.random.default_rng(seed)
    frames = generator.normal(0, 0.3, (count, 2, 3)).astype(np.float32)
    T = se3.look_at(generator.normal(0, 50, (count + 1, 3)), generator.normal(0, 50, (count + 1, 3)))
    factor, summand = light_at(frames, viewpoints(T[:-1]), T[-1], scale_m, reach)
    gains = np.exp(frames[:, 0])
    assert (factor >= gains.min(0) - 1e-5).all()
    assert (factor <= gains.max(0) + 1e-5).all()
    assert (summand >= frames[:, 1].min(0) - 1e-5).all()
    assert (summand <= frames[:, 1].max(0) + 1e-5).all()
    assert 0 <= neighbours_tell(frames, viewpoints(T[:-1]), scale_m, reach) <= 1


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
