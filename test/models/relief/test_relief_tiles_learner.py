"""A tiny real training in tiles: it learns, resumes to the bit, is stored small, and refuses what it cannot do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.pictures import measure
from pose2rgbd_ros.models.relief.config import ReliefSettings
from pose2rgbd_ros.models.relief.learner import TiledReliefLearner
from pose2rgbd_ros.models.relief.network import TiledRelief
from pose2rgbd_ros.training import trainer
from pose2rgbd_ros.training.checkpoint import load_checkpoint
from pose2rgbd_ros.training.config import TrainConfig, resolve_recipe
from pose2rgbd_ros.training.data import open_training_data
from pose2rgbd_ros.training.families import train_config
from pose2rgbd_ros.training.trainer import make_learner, train


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory, flight_dataset: Callable[..., Path]) -> Path:
    return flight_dataset(tmp_path_factory.mktemp("tiles") / "flight", frames=16)


def tiny(**settings: object) -> TrainConfig:
    values = {"model": "relief", "size": 32, "device": "cpu", "tensorboard": False, "split": "random"}
    relief = ReliefSettings(tiles="1x2", **settings.pop("relief", {}))  # type: ignore[arg-type]
    return train_config(relief=relief, **{**values, **settings})  # type: ignore[arg-type]


def test_interrupted_and_resumed_equals_uninterrupted_and_the_place_is_learnt(
    flight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(epochs=3, validate_every=1, ema_decay=0.8)
    whole = train(flight, tmp_path / "whole", config)
    scores = measure(whole.checkpoint, flight, device="cpu").scores
    assert scores["model"]["rgb_mae_px"] < 0.7 * scores["mean_image"]["rgb_mae_px"]
    assert scores["model"]["depth_mae"] < 0.5 * scores["mean_image"]["depth_mae"]
    checkpoint = load_checkpoint(whole.checkpoint)
    assert isinstance(checkpoint.build_model(), TiledRelief)
    assert checkpoint.state_dict["tiles.1.volume.logits"].dtype == np.float16
    assert checkpoint.provenance["relief"]["tiles"] == {"rows": 1, "columns": 2}

    steps, step_once = 0, trainer._Run._step

    def step_then_interrupt(run: object, share: float) -> None:
        nonlocal steps
        step_once(run, share)  # type: ignore[arg-type]
        steps += 1
        run.stop = steps == 6  # type: ignore[attr-defined]  # of 9: the second tile learns

    monkeypatch.setattr(trainer._Run, "_step", step_then_interrupt)
    train(flight, tmp_path / "parts", config)
    monkeypatch.setattr(trainer._Run, "_step", step_once)
    assert load_file(tmp_path / "parts" / "last" / "state.safetensors")["model.number"] == 1
    resumed = train(flight, tmp_path / "parts", config, resume=True)
    once, twice = (load_file(tmp_path / part / "last" / "state.safetensors") for part in ("whole", "parts"))
    assert once.keys() == twice.keys()
    for key, tensor in once.items():
        assert torch.equal(tensor, twice[key]), f"{key} differs"
    assert resumed.scores == whole.scores


def test_only_the_tile_whose_turn_it_is_learns(flight: Path) -> None:
    config = tiny()
    data, recipe = open_training_data(flight, config), resolve_recipe(config)
    learner = make_learner(config, recipe, data)
    assert isinstance(learner, TiledReliefLearner)
    before = {key: value.clone() for key, value in learner.model.state_dict().items()}
    shares = np.array([0.0, 0.99])
    turns = [learner.stage(share)[0] for share in shares]
    assert turns == [0, 1]
    for turn, share in zip(turns, shares, strict=True):
        learner.loss(learner.model, data.split.train[:3], share).backward()
        learner.after_step()
        for key, value in learner.model.state_dict().items():
            if key.endswith("volume.logits"):
                assert torch.equal(value, before[key]) != (key == f"tiles.{turn}.volume.logits"), key
                before[key] = value.clone()
        learner.zero_grad()
    assert 0.0 <= learner.schedule_share(0.99) <= 1.0
    assert learner.schedule_share(learner._ends[0] + 1e-6) < 0.01  # the second tile's schedule begins anew


@pytest.mark.parametrize("part", [{"exposure": "learn"}, {"refine_poses": True}])
def test_what_is_one_for_all_tiles_is_refused(flight: Path, part: dict[str, Any]) -> None:
    config = tiny(relief=part)
    with pytest.raises(UserError, match=r"is for one volume; .* --tiles 1"):
        make_learner(config, resolve_recipe(config), open_training_data(flight, config))


def test_several_processes_are_refused(flight: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"--tiles .* one process"):
        make_learner(tiny(), resolve_recipe(tiny()), open_training_data(flight, tiny()))
