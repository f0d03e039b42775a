"""How PoseGAN and PoseNet learn: the paper's equations, whose turn it is, crops, and runs of the common trainer."""

from __future__ import annotations

import csv
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.held_out import unsealed

from pose2rgbd_ros.cli.arguments import with_help
from pose2rgbd_ros.dataset.cache import frame_cache
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.models.posegan.config import PoseGANSettings, blocks_of
from pose2rgbd_ros.models.posegan.discriminator import Verdict
from pose2rgbd_ros.models.view import ViewModel
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.training import trainer
from pose2rgbd_ros.training.checkpoint import load_checkpoint
from pose2rgbd_ros.training.config import TrainConfig, resolve_recipe
from pose2rgbd_ros.training.data import TrainingData, open_training_data
from pose2rgbd_ros.training.judges import PoseJudge
from pose2rgbd_ros.training.learners import make_learner
from pose2rgbd_ros.training.learners.posegan import PoseGANLearner, adversarial_loss
from pose2rgbd_ros.training.trainer import train


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory, flight_dataset: Callable[..., Path]) -> Path:
    return flight_dataset(tmp_path_factory.mktemp("posegan") / "flight", frames=80)


def small(model: str = "posegan", posegan: dict[str, Any] | None = None, **values: Any) -> TrainConfig:
    part = PoseGANSettings(**{"width": 0.125, "blocks": 3, "pool": "flatten", **(posegan or {})})
    common = {"size": 32, "device": "cpu", "epochs": 3, "validate_every": 2, "tensorboard": False}
    return TrainConfig(model=model, posegan=part, **{**common, **values})


def made(flight: Path, **values: Any) -> tuple[PoseGANLearner, TrainingData]:
    config = small(**values)
    data = open_training_data(flight, config)
    torch.manual_seed(0)
    learner = make_learner(config, resolve_recipe(config), data)
    assert isinstance(learner, PoseGANLearner)
    return learner, data


def verdicts(count: int, pose_dim: int, seed: int) -> Verdict:
    generator = torch.Generator().manual_seed(seed)
    pose = torch.randn(count, pose_dim, generator=generator, requires_grad=True)
    return Verdict(pose, torch.randn(count, generator=generator) * 2, torch.zeros(count, 1))


@pytest.mark.parametrize("model", ["posegan", "posegan-b", "posegan-c"])
def test_the_discriminator_s_loss_is_equation_8(flight: Path, model: str) -> None:
    learner, _ = made(flight, model=model, posegan={"alpha": 0.3, "k": 0.2, "gamma": 0.5})
    real, fake = verdicts(9, 7, 1), verdicts(9, 7, 2)
    pose = torch.randn(9, 7, generator=torch.Generator().manual_seed(3))
    found, generated, true = (x.detach().numpy().astype(float) for x in (real.pose, fake.pose, pose))
    error = np.linalg.norm(found - true, axis=1)
    L1 = np.minimum(0, -1 + real.realism.numpy()).mean() + np.minimum(0, -1 - fake.realism.numpy()).mean()
    gamma = {"posegan": 0.2 * error, "posegan-c": 0.5}.get(model)
    L2 = error.mean()
    if gamma is not None:
        L2 += np.maximum(np.linalg.norm(generated - found, axis=1) - gamma, 0).mean()
    loss = learner._discriminator_loss(real, fake, pose)
    assert float(loss.detach()) == pytest.approx(-L1 + 0.3 * L2, rel=1e-5), "Eq. 4 is made large, Eq. 6 small"


@pytest.mark.parametrize("pull", ["generated", "both"])
def test_gradients_of_equation_6(flight: Path, pull: str) -> None:
    """None through gamma, or the discriminator would gain by finding recorded poses badly; through F(x) if told."""
    learner, _ = made(flight, posegan={"alpha": 1.0, "k": 0.9, "pull": pull})
    real, fake = verdicts(1, 7, 1), verdicts(1, 7, 2)
    learner._discriminator_loss(real, fake, torch.zeros(1, 7)).backward()
    found, generated = real.pose.detach(), fake.pose.detach()
    away = (generated - found) / (generated - found).norm()
    assert real.pose.grad is not None
    assert fake.pose.grad is not None
    torch.testing.assert_close(fake.pose.grad, away)
    torch.testing.assert_close(real.pose.grad, found / found.norm() - (away if pull == "both" else 0.0))


def test_a_generated_pose_within_gamma_costs_nothing(flight: Path) -> None:
    learner, _ = made(flight, posegan={"k": 0.5, "alpha": 0.1})
    pose, found = torch.zeros(1, 7), torch.full((1, 7), 0.2)
    away = torch.zeros(1, 7)
    away[0, 0] = 0.49 * float(found.norm())
    inside, outside = (
        float(learner._discriminator_loss(*(Verdict(p, torch.full((1,), s), pose) for p, s in pairs), pose))
        for pairs in (((found, 5.0), (found + away, -5.0)), ((found, 5.0), (found + 2 * away, -5.0)))
    )
    assert inside == pytest.approx(0.1 * float(found.norm()))
    assert outside > inside


def test_the_generator_s_loss_is_equation_9(flight: Path) -> None:
    learner, _ = made(flight, posegan={"beta_pose": 0.7, "beta_pixel": 3.0})
    verdict, pose = verdicts(4, 7, 5), torch.zeros(4, 7)
    image, target, known = torch.rand(4, 3, 8, 8), torch.rand(4, 3, 8, 8), torch.ones(4, 3, 8, 8)
    loss = learner._generator_loss(verdict, pose, image, target, known)
    expected = (
        -verdict.realism.mean() + 0.7 * verdict.pose.norm(dim=1).mean() + 3 * (image - target).abs().mean()
    )
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("kind", ["hinge", "kl"])
def test_telling_recorded_from_generated_lowers_the_loss(kind: str) -> None:
    apart, wrong = torch.full((3,), 2.0), torch.full((3,), -2.0)
    assert adversarial_loss(apart, wrong, kind) < adversarial_loss(wrong, apart, kind)
    assert float(adversarial_loss(apart, wrong, "hinge")) == 0.0
    even = torch.zeros(3)
    assert float(adversarial_loss(even, even, "kl")) == pytest.approx(2 * np.log(2))


def test_each_player_moves_in_its_turn_and_alone(flight: Path) -> None:
    learner, data = made(flight, posegan={"n_critic": 2})
    players = {"G": learner.model.generator, "D": learner.model.discriminator}
    optimizer = torch.optim.AdamW(
        learner.parameter_groups(resolve_recipe(small())), lr=1e-2, weight_decay=0.0
    )
    turns = []
    for _ in range(4):
        for loss in learner.losses(learner.model, data.split.train[:4], 0.0):
            before = {
                name: [p.detach().clone() for p in player.parameters()] for name, player in players.items()
            }
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            moved = [
                name
                for name, player in players.items()
                if any(not torch.equal(a, b) for a, b in zip(before[name], player.parameters(), strict=True))
            ]
            turns.append("".join(moved))
        learner.after_step()
    assert turns == ["D", "G", "D", "D", "G", "D"], (
        "n_critic 2: two steps of the discriminator for one of the generator"
    )
    assert all(parameter.requires_grad for parameter in learner.parameters())


def test_crops_are_of_the_larger_frames_and_a_camera_of_their_middle(flight: Path) -> None:
    config = small()
    data = unsealed(open_training_data(flight, config))
    whole = frame_cache(Dataset(flight), 36)
    np.testing.assert_array_equal(data.cache.rgb, whole.rgb[:, 2:34, 2:34])
    assert data.cache.camera == whole.camera.cropped(2, 2, 32, 32)
    learner = make_learner(config, resolve_recipe(config), data)
    indices = data.split.train[:8]
    (first, _), (again, _), (later, _) = (learner._crops.images(indices, step) for step in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    found = set()
    for image, index in zip(first, indices, strict=True):
        levels = ((image.permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
        places = [
            (y, x)
            for y in range(5)
            for x in range(5)
            if np.array_equal(whole.rgb[index, y : y + 32, x : x + 32], levels)
        ]
        assert places, "not a window of the frame"
        found.add(places[0])
    assert len(found) > 3
    fixed = make_learner(small(posegan={"crop": "centre"}), resolve_recipe(config), data)
    middle, _ = fixed._crops.images(indices, 3)
    np.testing.assert_array_equal(
        ((middle + 1) * 127.5).round().byte().permute(0, 2, 3, 1), data.cache.rgb[indices]
    )


@pytest.mark.parametrize("model", [pytest.param("posegan", marks=pytest.mark.slow), "posegan-a"])
def test_a_run_finds_poses_and_leaves_everything_behind(flight: Path, tmp_path: Path, model: str) -> None:
    out = tmp_path / "run"
    config = small(
        model,
        epochs=30,
        validate_every=10,
        split="random",
        learning_rate=3e-3,
        batch_size=8,
        posegan={"alpha": 1.0},
    )
    result = train(flight, out, config)
    assert result.scores["position_median_m"] < 0.8 * result.baseline["position_median_m"]
    assert not result.collapsed
    assert "m (mean pose" in result.description
    checkpoint = load_checkpoint(out)
    network = checkpoint.build_model()
    data = unsealed(open_training_data(flight, config))
    assert checkpoint.camera == data.cache.camera
    assert checkpoint.provenance["margin"] == 2
    judge = PoseJudge(data, torch.device("cpu"))
    again = judge.scores(network, data.split.choose)
    assert again["position_median_m"] == pytest.approx(checkpoint.metrics["position_median_m"], rel=1e-4)
    rows = list(csv.DictReader((out / "metrics.csv").open()))
    best = min(judge.value({k: float(row[k]) for k in again if k in row}, result.baseline) for row in rows)
    assert judge.value(again, result.baseline) <= best * 1.01
    assert (out / "samples" / "best.png").stat().st_size > 1000
    shows = model == "posegan"
    assert isinstance(network, ViewModel) == shows
    assert ("psnr_db" in result.scores) == shows
    if not shows:
        with pytest.raises(UserError, match="shows no pictures"):
            Renderer(out, device="cpu")


@pytest.mark.parametrize(("model", "output"), [("posegan", "rgb"), ("posegan", "rgbd"), ("posenet", "auto")])
def test_interrupted_and_resumed_is_the_same_run(
    flight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, output: str
) -> None:
    config = small(model, output=output, epochs=2, batch_size=8, ema_decay=0.5 if output == "rgb" else None)
    train(flight, tmp_path / "whole", config)
    step_once = trainer._Run._step

    def step_then_interrupt(run: trainer._Run, share: float) -> None:
        step_once(run, share)
        if run.state.step == 3:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(trainer._Run, "_step", step_then_interrupt)
        assert train(flight, tmp_path / "parts", config).interrupted
    train(flight, tmp_path / "parts", config, resume=True)
    once, twice = (load_file(tmp_path / run / "last" / "state.safetensors") for run in ("whole", "parts"))
    assert once.keys() == twice.keys()
    assert [key for key in once if not torch.equal(once[key], twice[key])] == []
    if model == "posegan":
        seen = Renderer(tmp_path / "parts", device="cpu").render(Dataset(flight).T_map_cam[:2])
        assert seen.rgb is not None
        assert seen.rgb.shape == (2, 32, 32, 3)
        assert (seen.depth is not None) == (output == "rgbd")


def test_depth_joins_the_picture_and_half_of_what_the_discriminator_sees(flight: Path) -> None:
    learner, data = made(flight, output="rgbd")
    assert data.normalization.depth_min is not None
    seen: list[torch.Tensor] = []
    learner.model.discriminator.register_forward_pre_hook(
        lambda _, arguments: seen.append(arguments[0].detach())
    )
    for loss in learner.losses(learner.model, data.split.train[:8], 0.0):
        loss.backward()
    both, generated = seen
    assert both.shape == (16, 5, 32, 32)
    torch.testing.assert_close(both[8:], generated)
    recorded = both[:8]
    torch.testing.assert_close(recorded[:, 4], generated[:, 4], msg="both are hidden alike")
    hidden = (recorded[:, 4] == 0).all(dim=(1, 2))
    assert 0 < int(hidden.sum()) < 8
    assert float(recorded[hidden, 3:].abs().max()) == 0.0
    assert float(recorded[~hidden, 3].abs().max()) > 0.0


def test_half_precision_gives_the_same_losses_roughly(flight: Path) -> None:
    """Mixed precision is for GPUs; that nothing in it clashes shows on a CPU too."""
    losses: list[list[float]] = []
    for half in (False, True):
        learner, data = made(flight)
        found = []
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            for loss in learner.losses(learner.model, data.split.train[:8], 0.0):
                loss.backward()
                found.append(float(loss.detach()))
        losses.append(found)
    assert losses[0] == pytest.approx(losses[1], rel=0.03)
    assert losses[0] != losses[1]


def test_what_the_frames_hardly_differ_in_chooses_nothing(flight: Path) -> None:
    """A drone that never turns: a tenth of a degree must not outweigh metres."""
    judge = PoseJudge(open_training_data(flight, small()), torch.device("cpu"))

    def value(metres: float, degrees: float, baseline_deg: float) -> float:
        scores = {"position_median_m": metres, "rotation_median_deg": degrees}
        return judge.value(scores, {"position_median_m": 20.0, "rotation_median_deg": baseline_deg})

    assert value(5.0, 45.0, 90.0) == pytest.approx(0.375)
    assert value(5.0, 0.2, 1e-6) < value(6.0, 0.1, 1e-6) < 1.0
    assert np.isnan(value(np.nan, 1.0, 90.0))


def test_a_diverging_run_is_named(flight: Path, tmp_path: Path) -> None:
    """Before its poses, which are no numbers, are decoded."""
    with pytest.raises(UserError, match=r"not finite any more at step .*; use a lower --learning-rate"):
        train(flight, tmp_path / "run", small("posenet", epochs=4, batch_size=16, learning_rate=1e30))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"width": 0.5}, "use --posegan.width"),
        ({"size": 48}, "32, 64, 128, 256"),
        ({"image_loss": "mse"}, "--image-loss means nothing"),
        ({"output": "depth"}, "with or without depth"),
        ({"max_depth": 5.0}, "with --output rgbd only"),
        ({"model": "posenet", "output": "rgb"}, "--output means nothing"),
        ({"posegan": {"trunk": "resnet18"}}, "is for posenet"),
        ({"posegan": {"blocks": 6}}, "halve 32 pixels away"),
        ({"model": "posenet", "recipe": "paper"}, "no recipe"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        small(**values)


def test_the_paper_s_recipe_and_size() -> None:
    recipe = resolve_recipe(TrainConfig(model="posegan", recipe="paper"))
    assert (recipe.learning_rate, recipe.schedule, recipe.batch_size, recipe.weight_decay) == (
        2e-4,
        "fixed",
        16,
        0,
    )
    assert [blocks_of(PoseGANSettings(), size) for size in (32, 64, 128, 256)] == [3, 4, 5, 6]


def test_settings_of_posegan_are_refused_for_others() -> None:
    with pytest.raises(UserError, match="not for base"):
        TrainConfig(posegan=PoseGANSettings(alpha=1.0))


def test_the_command_line_s_own_defaults_are_refused_by_nobody() -> None:
    for model in ("base", "relief", "posegan", "posenet"):
        with_help(TrainConfig)(model=model)


def test_depth_is_needed_for_depth(flight_dataset: Callable[..., Path], tmp_path: Path) -> None:
    colour = flight_dataset(tmp_path / "colour", frames=12, depth_kind=None)
    with pytest.raises(UserError, match="no depth"):
        train(colour, tmp_path / "run", small(output="rgbd"))
