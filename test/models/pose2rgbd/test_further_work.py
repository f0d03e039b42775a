"""Training with the losses of the paper's further work: it learns, resumes to the bit, and refuses what cannot work."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.training import trainer
from pose2rgbd_ros.training.checkpoint import load_checkpoint
from pose2rgbd_ros.training.config import TrainConfig, resolve_recipe
from pose2rgbd_ros.training.data import open_training_data
from pose2rgbd_ros.training.families import train_config
from pose2rgbd_ros.training.trainer import make_learner, train


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory, flight_dataset: Callable[..., Path]) -> Path:
    return flight_dataset(tmp_path_factory.mktemp("data") / "flight", frames=24)


def tiny(**settings: object) -> TrainConfig:
    values = {
        "model": "base",
        "size": 32,
        "width": 0.125,
        "device": "cpu",
        "epochs": 2,
        "validate_every": 2,
        "batch_size": 6,
    }
    return train_config(**{**values, "tensorboard": False, **settings})  # type: ignore[arg-type]


def losses(flight: Path, **settings: object) -> tuple[float, ...]:
    """The first loss and the one after ten steps on one batch, late in the run."""
    config = tiny(**settings)
    data = open_training_data(flight, config)
    torch.manual_seed(0)
    learner = make_learner(config, resolve_recipe(config), data)
    optimizer = torch.optim.AdamW(
        [{k: v for k, v in g.items() if k != "factor"} for g in learner.parameter_groups(None)], 3e-3
    )
    found = []
    for _ in range(11):
        optimizer.zero_grad()
        loss = learner.loss(learner.model, data.split.train[:6], 0.9)
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    return found[0], found[-1]


@pytest.mark.parametrize("output", ["rgbd", "depth"])
def test_consistency_is_a_part_of_the_loss_and_falls(flight: Path, output: str) -> None:
    plain, plain_after = losses(flight, output=output)
    with_it, with_it_after = losses(flight, output=output, consistency_weight=2.0)
    assert with_it > plain + 0.1
    assert with_it_after - plain_after < 0.9 * (with_it - plain)


def test_consistency_joins_half_way_and_the_discriminator_learns_throughout(flight: Path) -> None:
    config = tiny(consistency_weight=1.0)
    data = open_training_data(flight, config)
    learner = make_learner(config, resolve_recipe(config), data)
    plain = make_learner(tiny(), resolve_recipe(config), data)
    plain.model.load_state_dict(learner.model.state_dict())
    for share, joined in ((0.4, False), (0.6, True)):
        loss, alone = (each.loss(each.model, data.split.train[:4], share) for each in (learner, plain))
        assert (float(loss.detach()) > float(alone.detach()) + 0.1) == joined
    adversarial = make_learner(tiny(adversarial_weight=0.1), resolve_recipe(config), data)
    adversarial.loss(adversarial.model, data.split.train[:4], 0.0).backward()
    assert all(parameter.grad is not None for parameter in adversarial.parameters())


@pytest.mark.parametrize(
    "further",
    [
        {"adversarial_weight": 0.05, "model": "slice-3"},
        {"adversarial_weight": 0.05, "adversarial_loss": "least-squares", "consistency_weight": 0.5},
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    flight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, further: dict[str, object]
) -> None:
    config = tiny(epochs=4, **further)
    train(flight, tmp_path / "whole", config)
    step = trainer._Run._step

    def step_and_interrupt(run: trainer._Run, share: float) -> None:
        if run.state.step == 5:
            signal.raise_signal(signal.SIGINT)
        step(run, share)

    with monkeypatch.context() as patch:
        patch.setattr(trainer._Run, "_step", step_and_interrupt)
        assert train(flight, tmp_path / "parts", config).interrupted
    train(flight, tmp_path / "parts", config, resume=True)
    once, twice = (load_file(tmp_path / run / "last" / "state.safetensors") for run in ("whole", "parts"))
    assert any("discriminator" in key for key in once)
    assert all(torch.equal(once[key], twice[key]) for key in once.keys() | twice.keys())
    kept = load_checkpoint(tmp_path / "whole").state_dict
    assert not any("discriminator" in key for key in kept), "the adversary is left behind"


def test_nearby_poses_hang_on_the_frames_alone(flight: Path) -> None:
    config = tiny(consistency_weight=1.0)
    data = open_training_data(flight, config)
    learner = make_learner(config, resolve_recipe(config), data)
    depth = data.batch(np.arange(3))[2]
    again, other = learner._nearby(np.arange(3), depth), learner._nearby(np.arange(1, 4), depth)
    assert np.array_equal(learner._nearby(np.arange(3), depth), again)
    assert not np.array_equal(again[1:], other[:2])


def test_what_cannot_work_is_told(
    flight: Path, tmp_path: Path, flight_dataset: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="predicted depth"):
        train(flight, tmp_path / "a", tiny(output="rgb", consistency_weight=1.0))
    relative = flight_dataset(tmp_path / "relative", frames=8, depth_kind="relative")
    with pytest.raises(UserError, match="metric depth"):
        train(relative, tmp_path / "b", tiny(consistency_weight=1.0))
    with pytest.raises(UserError, match="warp-4 has no setting adversarial_weight"):
        tiny(model="warp-4", adversarial_weight=1.0)
    data = open_training_data(flight, tiny())
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="one process"):
        make_learner(tiny(adversarial_weight=1.0), resolve_recipe(tiny()), data)
