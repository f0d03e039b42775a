"""Tiny real trainings of a relief: it learns with and without a start, resumes to the bit, and is stored small."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.held_out import unsealed
from support.random_relief import random_relief, views
from support.two_processes import run_on_two_processes
from torch.optim.swa_utils import AveragedModel

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.pictures import measure
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.relief import march
from pose2rgbd_ros.models.relief.config import ReliefSettings
from pose2rgbd_ros.models.relief.learner import occupancy_loss
from pose2rgbd_ros.models.relief.network import Relief
from pose2rgbd_ros.training import trainer
from pose2rgbd_ros.training.checkpoint import load_checkpoint
from pose2rgbd_ros.training.config import TrainConfig, resolve_recipe
from pose2rgbd_ros.training.data import TrainingData, open_training_data
from pose2rgbd_ros.training.families import train_config
from pose2rgbd_ros.training.metrics import pictures_of
from pose2rgbd_ros.training.trainer import make_learner, train


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory, flight_dataset: Callable[..., Path]) -> Path:
    return flight_dataset(tmp_path_factory.mktemp("relief") / "flight", frames=20)


def tiny(relief: ReliefSettings | None = None, **settings: object) -> TrainConfig:
    values = {"model": "relief", "size": 32, "device": "cpu", "epochs": 4, "tensorboard": False, "split": "random"}
    return train_config(relief=relief or ReliefSettings(), **{**values, **settings})  # type: ignore[arg-type]


def test_a_run_learns_and_its_checkpoint_renders(flight: Path, tmp_path: Path) -> None:
    result = train(flight, tmp_path / "run", tiny(epochs=6))
    scores = measure(result.checkpoint, flight, device="cpu").scores
    assert scores["model"]["rgb_mae_px"] < 0.6 * scores["mean_image"]["rgb_mae_px"]
    assert scores["model"]["depth_mae"] < 0.35 * scores["mean_image"]["depth_mae"]
    checkpoint = load_checkpoint(result.checkpoint)
    model = checkpoint.build_model()
    assert isinstance(model, Relief)
    assert checkpoint.state_dict["features.maps"].dtype == np.float16
    data = unsealed(open_training_data(flight, tiny()))
    poses = torch.from_numpy(data.dataset.T_map_cam[data.split.test])
    shown = model.pictures(poses, checkpoint.camera, checkpoint.normalization)
    truth = torch.from_numpy(data.depth(data.split.test))
    assert shown.depth is not None
    error = (shown.depth - truth).abs()
    assert error[torch.isfinite(error)].mean() == pytest.approx(scores["model"]["depth_mae"], rel=0.25)


def test_a_resumed_run_still_knows_its_best_weights(flight: Path, tmp_path: Path) -> None:
    config = tiny(epochs=1, test_fraction=0.85)
    train(flight, tmp_path / "run", config)
    run = trainer._Run(trainer.make_fabric(config), trainer.open_data(flight, config), tmp_path / "run", config)
    run.restore()
    assert np.isfinite(run.state.best_score)
    assert run.kept is not None


def test_every_ray_that_ends_before_the_true_surface_is_told_so() -> None:
    """Others teach by chance; of these each lowers the logits where it met something solid, whatever is drawn."""
    model = random_relief(3)
    rays = torch.from_numpy(Camera.from_fov(40, 40, 60.0).rays()).float()
    poses = torch.from_numpy(views()[:1])
    seen = model(poses, rays, 35.0)
    hit = torch.nonzero((seen.hits.state == march.HIT) & torch.isfinite(seen.hits.t_after))[:, 0]
    too_early = hit[torch.from_numpy(np.random.default_rng(0).permutation(len(hit))[:30])]
    truth = seen.hits.t.detach().clone()
    truth[too_early] += 4 * model.config.layer_m
    met = seen.origin[too_early] + seen.hits.t_after[too_early, None] * seen.direction[too_early]
    vertex = (met / model.volume.step_m).round().long()
    for seed in range(5):
        model.zero_grad()
        occupancy_loss(model, seen, truth, np.random.default_rng(seed)).backward()
        pulled = model.volume.logits.grad
        assert pulled is not None
        x, y, z = (vertex[:, axis].clamp(0, side - 1) for axis, side in enumerate(pulled.shape[::-1]))
        assert (pulled[z, y, x] > 0).float().mean() > 0.9  # beside a vertex another ray may find matter


def test_without_a_start_the_loss_falls_and_the_geometry_is_found(flight: Path) -> None:
    config = tiny(ReliefSettings(start=False))
    data = open_training_data(flight, config)
    recipe = resolve_recipe(config)
    torch.manual_seed(0)
    learner = make_learner(config, recipe, data)
    before_m = depth_error(learner.model, data)
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
    after_m = depth_error(learner.model, data)
    assert after_m < 0.8 * before_m


def depth_error(model: torch.nn.Module, data: TrainingData) -> float:
    """Mean error in metres on held-out frames, where all but few pixels must have a depth."""
    data, frames = unsealed(data), data.split.test
    shown = pictures_of(model.eval(), data, frames)
    model.train()
    assert shown.depth is not None
    assert shown.rgb is not None
    assert torch.isfinite(shown.rgb).all()
    truth = torch.from_numpy(data.depth(frames))
    known = torch.isfinite(truth)
    answered = known & torch.isfinite(shown.depth)
    assert answered.sum() > 0.85 * known.sum()
    return float((shown.depth - truth)[answered].abs().mean())


def test_interrupted_and_resumed_equals_uninterrupted(
    flight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = ReliefSettings(crop=16, exposure="learn", refine_poses=True)
    config = tiny(everything, epochs=3, validate_every=1, ema_decay=0.8)
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
    assert resumed.scores == whole.scores


def test_a_running_average_takes_marks_as_they_are() -> None:
    network = torch.nn.Linear(1, 1)
    network.register_buffer("seen", torch.tensor([1, 0, 0], dtype=torch.uint8))
    average = AveragedModel(network, multi_avg_fn=trainer._blending(0.9), use_buffers=True)
    average.update_parameters(network)
    network.seen[1] = 1
    weight = network.weight.detach().clone()
    with torch.no_grad():
        network.weight += 1.0
    average.update_parameters(network)
    assert average.module.seen.tolist() == [1, 1, 0]
    torch.testing.assert_close(average.module.weight, weight + 0.1)


@pytest.mark.parametrize("part", [{"exposure": "learn"}, {"refine_poses": True}])
def test_what_is_learnt_beside_the_network_is_refused_on_several_processes(
    flight: Path, monkeypatch: pytest.MonkeyPatch, part: dict[str, Any]
) -> None:
    config = tiny(ReliefSettings(**part))
    data = open_training_data(flight, config)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="one process"):
        make_learner(config, resolve_recipe(config), data)


@pytest.mark.slow
def test_two_processes_keep_the_same_tables(flight: Path, tmp_path: Path) -> None:
    """The tables have an optimiser of their own, so that this is not Lightning's doing alone."""
    program = (
        "import sys; from pathlib import Path; from safetensors.torch import save_file\n"
        "from pose2rgbd_ros.training import trainer; from pose2rgbd_ros.training.families import train_config\n"
        "class Run(trainer._Run):\n"
        "    def finish(self):\n"
        "        save_file(self.learner.state_dict(), f'{sys.argv[2]}-{self.fabric.global_rank}')\n"
        "        return super().finish()\n"
        "trainer._Run = Run\n"
        "c = train_config(model='relief', size=32, device='cpu', epochs=3, tensorboard=False, split='random')\n"
        "trainer.train(Path(sys.argv[1]), Path(sys.argv[2]), c)\n"
    )
    run_on_two_processes(program, tmp_path, flight, tmp_path / "run", timeout_s=800)
    first, second = (load_file(tmp_path / f"run-{rank}") for rank in (0, 1))
    assert first["model.features.maps"].abs().max() > 0
    for key, tensor in first.items():
        assert torch.equal(tensor, second[key]), f"{key} differs"


def test_the_same_seed_gives_the_same_loss(flight: Path) -> None:
    losses = []
    for _ in range(2):
        config = tiny(ReliefSettings(crop=16))
        data = open_training_data(flight, config)
        torch.manual_seed(0)
        learner = make_learner(config, resolve_recipe(config), data)
        losses.append(learner.loss(learner.model, data.split.train[:3], 0.0).item())
    assert losses[0] == losses[1]
