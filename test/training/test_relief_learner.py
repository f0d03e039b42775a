"""Tiny real trainings of a relief: it learns with and without a start, resumes to the bit, and is stored small."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pose2rgbd_ros.models.relief.config import ReliefSettings
from pose2rgbd_ros.models.relief.network import Relief
from pose2rgbd_ros.training import trainer
from pose2rgbd_ros.training.checkpoint import load_checkpoint
from pose2rgbd_ros.training.config import TrainConfig, resolve_recipe
from pose2rgbd_ros.training.data import open_training_data
from pose2rgbd_ros.training.learners import make_learner
from pose2rgbd_ros.training.trainer import train


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory, flight_dataset: Callable[..., Path]) -> Path:
    return flight_dataset(tmp_path_factory.mktemp("relief") / "flight", frames=20)


def tiny(relief: ReliefSettings | None = None, **settings: object) -> TrainConfig:
    values = {
        "model": "relief",
        "size": 32,
        "device": "cpu",
        "epochs": 4,
        "tensorboard": False,
        "split": "random",
    }
    return TrainConfig(relief=relief or ReliefSettings(), **{**values, **settings})  # type: ignore[arg-type]


def test_a_run_learns_and_its_checkpoint_renders(flight: Path, tmp_path: Path) -> None:
    result = train(flight, tmp_path / "run", tiny(epochs=8))
    assert result.scores["rgb_mae_px"] < 0.6 * result.baseline["rgb_mae_px"]
    assert result.scores["depth_mae"] < 0.35 * result.baseline["depth_mae"]
    checkpoint = load_checkpoint(result.checkpoint)
    model = checkpoint.build_model()
    assert isinstance(model, Relief)
    assert checkpoint.state_dict["features.maps"].dtype == torch.float16
    data = open_training_data(flight, tiny())
    poses = torch.from_numpy(data.dataset.T_map_cam[data.split.test])
    shown = model.pictures(poses, checkpoint.camera, checkpoint.normalization)
    truth = torch.from_numpy(data.depth(data.split.test))
    assert shown.depth is not None
    error = (shown.depth - truth).abs()
    assert error[torch.isfinite(error)].mean() == pytest.approx(result.scores["depth_mae"], rel=0.25)


def test_without_a_start_the_loss_falls_and_the_geometry_is_found(flight: Path) -> None:
    config = tiny(ReliefSettings(start=False))
    data = open_training_data(flight, config)
    recipe = resolve_recipe(config)
    torch.manual_seed(0)
    learner = make_learner(config, recipe, data)
    groups = [{"factor": 1.0, **group} for group in learner.parameter_groups(recipe)]
    for group in groups:
        group["lr"] = recipe.learning_rate * group["factor"]
    optimizer = torch.optim.AdamW(groups)
    losses = []
    for step in range(36):
        loss = learner.loss(learner.model, data.split.train[np.arange(4) + 4 * (step % 4)], step / 36)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        learner.after_step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:8])
    shown = learner.model.eval().pictures(  # type: ignore[operator]
        torch.from_numpy(data.dataset.T_map_cam[data.split.test]), data.cache.camera, data.normalization
    )
    assert shown.rgb is not None
    assert torch.isfinite(shown.rgb).all()


def test_interrupted_and_resumed_equals_uninterrupted(
    flight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(ReliefSettings(crop=16), epochs=3, validate_every=1)
    whole = train(flight, tmp_path / "whole", config)
    steps = 0
    step_once = trainer._Run._step

    def step_then_interrupt(run: object, share: float) -> None:
        nonlocal steps
        step_once(run, share)  # type: ignore[arg-type]
        steps += 1
        run.stop = steps == 5  # type: ignore[attr-defined]

    monkeypatch.setattr(trainer._Run, "_step", step_then_interrupt)
    train(flight, tmp_path / "parts", config)
    monkeypatch.setattr(trainer._Run, "_step", step_once)
    resumed = train(flight, tmp_path / "parts", config, resume=True)
    assert resumed.epochs == whole.epochs
    assert steps == 5
    once, twice = (load_file(tmp_path / part / "last" / "state.safetensors") for part in ("whole", "parts"))
    assert once.keys() == twice.keys()
    for key, tensor in once.items():
        assert torch.equal(tensor, twice[key]), f"{key} differs"


def test_the_same_seed_gives_the_same_loss(flight: Path) -> None:
    losses = []
    for _ in range(2):
        config = tiny(ReliefSettings(crop=16))
        data = open_training_data(flight, config)
        torch.manual_seed(0)
        learner = make_learner(config, resolve_recipe(config), data)
        losses.append(learner.loss(learner.model, data.split.train[:3], 0.0).item())
    assert losses[0] == losses[1]
