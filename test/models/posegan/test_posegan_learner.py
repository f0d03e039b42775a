"""How PoseGAN and PoseNet learn: the paper's equations, whose turn it is, crops, and runs of the common trainer."""

from __future__ import annotations

import csv
import dataclasses
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.held_out import unsealed

from pose2rgbd_ros.dataset.reader import Dataset, frame_cache
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.poses import kept_weights
from pose2rgbd_ros.models.posegan.config import PoseGANSettings, blocks_of
from pose2rgbd_ros.models.posegan.learner import PoseGANLearner, adversarial_loss, explained
from pose2rgbd_ros.models.posegan.network import Verdict
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.settings import read_yaml, write_yaml
from pose2rgbd_ros.training import trainer
from pose2rgbd_ros.training.checkpoint import load_checkpoint
from pose2rgbd_ros.training.config import TrainConfig, resolve_recipe
from pose2rgbd_ros.training.data import TrainingData, open_training_data
from pose2rgbd_ros.training.evaluators import PoseEvaluator
from pose2rgbd_ros.training.families import RenderModel, train_config
from pose2rgbd_ros.training.metrics import spread
from pose2rgbd_ros.training.trainer import make_fabric, make_learner, train


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory, flight_dataset: Callable[..., Path]) -> Path:
    return flight_dataset(tmp_path_factory.mktemp("posegan") / "flight", frames=80)  # 8 choose and 8 judge


def small(model: str = "posegan", posegan: dict[str, Any] | None = None, **values: Any) -> TrainConfig:
    part = PoseGANSettings(**{"width": 0.125, "blocks": 3, "pool": "flatten", **(posegan or {})})
    common = {"size": 32, "device": "cpu", "epochs": 3, "validate_every": 2, "tensorboard": False}
    return train_config(model=model, posegan=part, **{**common, **values})


def made(flight: Path, **values: Any) -> tuple[PoseGANLearner, TrainingData]:
    learner, data = made_any(flight, **values)
    assert isinstance(learner, PoseGANLearner)
    return learner, data


def made_any(flight: Path, **values: Any) -> tuple[Any, TrainingData]:
    """A learner of any model, and its data."""
    config = small(**values)
    data = open_training_data(flight, config)
    torch.manual_seed(0)
    return make_learner(config, resolve_recipe(config), data), data


WEIGHED = np.array([1, 1, 1, 0.4, 0.4, 0.4, 0.4])  # an encoded pose, its rotation with a weight of 0.4


def verdicts(count: int, pose_dim: int, seed: int) -> Verdict:
    generator = torch.Generator().manual_seed(seed)
    pose = torch.randn(count, pose_dim, generator=generator, requires_grad=True)
    return Verdict(pose, torch.randn(count, generator=generator) * 2, torch.zeros(count, 1))


@pytest.mark.parametrize("model", ["posegan", "posegan-b", "posegan-c"])
def test_the_discriminator_s_loss_is_equation_8(flight: Path, model: str) -> None:
    chosen = {"alpha": 0.3, "k": 0.2, "gamma": 0.5, "rotation_weight": 0.4}
    learner, _ = made(flight, model=model, posegan=chosen)
    real, fake = verdicts(9, 7, 1), verdicts(9, 7, 2)
    pose = torch.randn(9, 7, generator=torch.Generator().manual_seed(3))
    found, generated, true = (x.detach().numpy() * WEIGHED for x in (real.pose, fake.pose, pose))
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


@pytest.mark.parametrize("adversary", ["hinge", "kl"])
@pytest.mark.parametrize("norm", ["mean-absolute", "euclidean"])
def test_the_generator_s_loss_is_equation_9(flight: Path, adversary: str, norm: str) -> None:
    """Of depth only what is known counts: neither a hole's value, nor how many holes there are."""
    chosen = {"beta_pose": 0.7, "beta_pixel": 3.0, "rotation_weight": 0.4}
    learner, _ = made(flight, posegan={**chosen, "adversary": adversary, "pixel_norm": norm})
    verdict = verdicts(4, 7, 5)
    pose, image, target = torch.randn(4, 7), torch.rand(4, 4, 8, 8), torch.rand(4, 4, 8, 8)
    known = torch.ones(4, 4, 8, 8)
    known[:, 3] = (torch.rand(4, 8, 8) < 0.1).float()
    loss = learner._generator_loss(verdict, pose, image, target * known, known)
    realism, off = verdict.realism.numpy(), (image - target).numpy()
    fooled = -realism if adversary == "hinge" else np.log1p(np.exp(-realism))
    error = np.linalg.norm((verdict.pose - pose).detach().numpy() * WEIGHED, axis=1)
    seen = known.numpy() > 0
    lengths = [np.linalg.norm(frame[mask]) for frame, mask in zip(off, seen, strict=True)]
    pixels = np.abs(off[seen]).mean() if norm == "mean-absolute" else np.mean(lengths)
    assert float(loss.detach()) == pytest.approx(fooled.mean() + 0.7 * error.mean() + 3 * pixels, rel=1e-5)


@pytest.mark.parametrize("rotation", ["quaternion", "euler"])
def test_the_rotation_s_weight_is_on_the_rotation_alone(flight: Path, rotation: str) -> None:
    learner, _ = made(flight, rotation=rotation, posegan={"rotation_weight": 3.0})
    numbers = 7 if rotation == "quaternion" else 6
    assert learner._scale.tolist() == [1.0] * 3 + [3.0] * (numbers - 3)


def test_the_range_of_the_poses_reaches_the_training(flight: Path) -> None:
    norm = open_training_data(flight, small(pose_range="joint")).normalization
    metres = np.subtract(norm.position_max_m, norm.position_min_m)
    np.testing.assert_allclose(metres, metres[0])


@pytest.mark.parametrize("model", ["posegan", "posegan-b", "posegan-c"])
def test_a_step_s_losses_are_of_the_pictures_they_are_named_after(flight: Path, model: str) -> None:
    """Recorded ones and those generated at their poses; nothing moves, for the networks are not in training."""
    learner, data = made(flight, model=model, posegan={"k": 0.3, "beta_pixel": 1.0})
    learner.eval()
    indices = data.split.train[:6]
    pose, (target, _) = data.poses[indices], learner._crops.images(indices, 0)
    with torch.no_grad():
        image = learner.model.generator(pose)
        real, fake = learner.model.discriminator(target), learner.model.discriminator(image)
        expected = [
            float(learner._discriminator_loss(real, fake, pose)),
            float(learner._generator_loss(fake, pose, image, target, torch.ones_like(target))),
        ]
        swapped = float(learner._discriminator_loss(fake, real, pose))
    found = [float(loss.detach()) for loss in learner.losses(learner.model, indices, 0.0)]
    assert found == pytest.approx(expected, rel=1e-4)
    assert abs(swapped - expected[0]) > 1e-3 * abs(expected[0])


@pytest.mark.parametrize("model", ["posegan", "posegan-b"])
def test_the_generator_and_equation_6_can_have_the_middle_crop(flight: Path, model: str) -> None:
    """What is learnt of recorded images stays the random crop: Eq. 4, and Eq. 6's first term."""
    learner, data = made(flight, model=model, posegan={"target_crop": "centre", "k": 0.3, "alpha": 1.0})
    learner.eval()
    indices = data.split.train[:6]
    pose, (random, _) = data.poses[indices], learner._crops.images(indices, 0)
    middle = data.truth(indices)[0] * 2 - 1
    assert not torch.equal(random, middle)
    with torch.no_grad():
        image = learner.model.generator(pose)
        real, aimed, fake = (learner.model.discriminator(each) for each in (random, middle, image))

        def apart(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return torch.linalg.vector_norm(a - b, dim=1)

        loss = adversarial_loss(real.realism, fake.realism, "hinge") + apart(real.pose, pose).mean()
        if model == "posegan":
            gamma = 0.3 * apart(aimed.pose, pose)
            loss = loss + (apart(fake.pose, aimed.pose) - gamma).clamp(min=0).mean()
        fooled = learner._generator_loss(fake, pose, image, middle, torch.ones_like(middle))
    found = [float(loss.detach()) for loss in learner.losses(learner.model, indices, 0.0)]
    assert found == pytest.approx([float(loss), float(fooled)], rel=1e-4)


def test_a_picture_explains_what_it_is_nearer_than_the_mean_image() -> None:
    mean, known = torch.zeros(3, 4, 4), torch.ones(5, 3, 4, 4)
    target = torch.full((5, 3, 4, 4), 0.8)
    image = target * torch.tensor([1.0, 0.0, 0.5, -1.0, 1.0]).reshape(5, 1, 1, 1)
    image[4, 0, 0, 0], known[4, 0, 0, 0] = 50.0, 0.0
    assert explained(image, target, known, mean).tolist() == pytest.approx([1.0, 0.0, 0.75, 0.0, 1.0])


def test_pictures_of_nothing_pull_no_poses_yet(flight: Path) -> None:
    """At the start the generator is worse than the mean image, so Eq. 6 has its first term alone."""
    found = {}
    for model, ramp in (("posegan", True), ("posegan", False), ("posegan-b", False)):
        learner, data = made(flight, model=model, posegan={"pull_ramp": ramp})
        learner.eval()
        indices = data.split.train[:6]
        found[model, ramp] = [float(loss.detach()) for loss in learner.losses(learner.model, indices, 0.0)]
        if ramp:
            target = data.truth(indices)[0] * 2 - 1
            train_mean = data.truth(data.split.train)[0].mean(dim=0) * 2 - 1
            assert learner._mean is not None
            torch.testing.assert_close(learner._mean, train_mean, atol=1e-5, rtol=0)
            assert explained(target, target, torch.ones_like(target), learner._mean).tolist() == [1.0] * 6
    assert found["posegan", True] == pytest.approx(found["posegan-b", False])
    assert found["posegan", True] != pytest.approx(found["posegan", False], rel=1e-3)


def test_lengths_of_equation_9_s_gradients_are_logged_and_change_nothing(flight: Path) -> None:
    chosen = {"beta_pose": 0.5, "beta_pixel": 3.0}
    (learner, data), (heavier, _) = (made(flight, posegan=each) for each in (chosen, {**chosen, "beta_pixel": 6.0}))
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    found, more = learner.measures(), heavier.measures()
    assert learner.training
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in learner.parameters())
    assert set(found) == {"gradient_realism", "gradient_pose", "gradient_pixels"}
    assert more["gradient_pixels"] == pytest.approx(2 * found["gradient_pixels"], rel=1e-4)
    assert more["gradient_pose"] == pytest.approx(found["gradient_pose"], rel=1e-4)
    learner.eval()
    indices = spread(data.split.train, 16)
    image = learner.model.generator(data.poses[indices])
    (3.0 * (image - (data.truth(indices)[0] * 2 - 1)).abs().mean()).backward()
    gradients = [parameter.grad for parameter in learner.model.generator.parameters()]
    length = torch.cat([each.flatten() for each in gradients if each is not None]).norm()
    assert found["gradient_pixels"] == pytest.approx(float(length), rel=1e-4)


@pytest.mark.parametrize("weights", [{"beta_pose": 0.0}, {"beta_pose": 1e4}])
def test_the_generator_learns_from_what_the_discriminator_says(flight: Path, weights: dict[str, float]) -> None:
    """Without a word on pixels: in small steps its pictures look more recorded, or their poses are found better."""
    learner, data = made(flight, posegan={"beta_pixel": 0.0, **weights})
    learner.eval()
    indices = data.split.train[:8]
    pose = data.poses[indices]
    optimizer = torch.optim.SGD(learner.model.generator.parameters(), 1e-3 / max(1.0, weights["beta_pose"]))

    def says() -> tuple[float, float]:
        with torch.no_grad():
            verdict = learner.model.discriminator(learner.model.generator(pose))
            return float(verdict.realism.mean()), float(learner._distance(verdict.pose, pose).mean())

    before = says()
    for _ in range(5):
        _, loss = learner.losses(learner.model, indices, 0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = says()
    if weights["beta_pose"]:
        assert after[1] < before[1]
    else:
        assert after[0] > before[0]


@pytest.mark.parametrize("model", ["posegan", "posegan-a", "posenet"])
def test_adam_is_the_paper_s(flight: Path, model: str) -> None:
    """Without its first momentum; PoseNet's is the usual one."""
    learner, _ = made_any(flight, model=model)
    recipe = resolve_recipe(small(model))
    optimizer = torch.optim.AdamW(learner.parameter_groups(recipe), weight_decay=recipe.weight_decay)
    (group,) = optimizer.param_groups
    assert group["betas"] == ((0.9, 0.999) if model == "posenet" else (0.0, 0.9))
    assert sum(each.numel() for each in group["params"]) == sum(p.numel() for p in learner.parameters())


@pytest.mark.parametrize("model", ["posegan-a", "posenet"])
def test_regressors_learn_by_their_own_norms(flight: Path, model: str) -> None:
    """Config A by the length of the whole error, as Eq. 6; PoseNet by those of position and rotation, added."""
    learner, data = made_any(flight, model=model, posegan={"rotation_weight": 0.4, "crop": "centre"})
    assert learner.model.config.spectral == (model == "posegan-a")
    learner.eval()
    indices = data.split.train[:6]
    with torch.no_grad():
        found, _ = learner.model(data.truth(indices)[0] * 2 - 1)
        (loss,) = learner.losses(learner.model, indices, 0.0)
    error = (found - data.poses[indices]).numpy() * WEIGHED
    position, rotation = (np.linalg.norm(part, axis=1).mean() for part in (error[:, :3], error[:, 3:]))
    whole = np.linalg.norm(error, axis=1).mean()
    assert float(loss) == pytest.approx(whole if model == "posegan-a" else position + rotation, rel=1e-5)


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
    optimizer = torch.optim.AdamW(learner.parameter_groups(resolve_recipe(small())), lr=1e-2, weight_decay=0.0)
    turns = []
    for _ in range(4):
        for loss in learner.losses(learner.model, data.split.train[:4], 0.0):
            before = {name: [p.detach().clone() for p in player.parameters()] for name, player in players.items()}
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
    train_frames = data.split.train
    np.testing.assert_array_equal(data.cache.rgb[train_frames], whole.rgb[train_frames, 2:34, 2:34])
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
    np.testing.assert_array_equal(((middle + 1) * 127.5).round().byte().permute(0, 2, 3, 1), data.cache.rgb[indices])


def test_depth_is_cut_where_its_picture_is(flight: Path) -> None:
    learner, data = made(flight, output="rgbd")
    whole, indices = frame_cache(Dataset(flight), 36), data.split.train[:8]
    assert whole.depth is not None
    colour, depth = learner._crops.images(indices, 3)
    assert depth is not None
    levels = ((colour.permute(0, 2, 3, 1) + 1) * 127.5).round().byte().numpy()
    for index, picture, shown in zip(indices, levels, depth.numpy(), strict=True):
        windows = [(slice(y, y + 32), slice(x, x + 32)) for y in range(5) for x in range(5)]
        (window,) = [each for each in windows if np.array_equal(whole.rgb[index][each], picture)]
        expected = data.normalization.encode_depth(whole.depth[index][window])
        np.testing.assert_allclose(shown, expected, atol=1e-6)


@pytest.mark.parametrize("model", ["posegan", "posegan-a"])
def test_a_run_finds_poses_and_leaves_everything_behind(flight: Path, tmp_path: Path, model: str) -> None:
    out = tmp_path / "run"
    config = small(
        model, epochs=15, validate_every=5, split="random", learning_rate=3e-3, batch_size=8, posegan={"alpha": 1.0}
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
    assert kept_weights(checkpoint) == "best"
    judge = PoseEvaluator(data, torch.device("cpu"))
    again = judge.scores(network, data.split.choose)
    assert again["position_median_m"] == pytest.approx(checkpoint.metrics["position_median_m"], rel=1e-4)
    rows = list(csv.DictReader((out / "metrics.csv").open()))
    best = min(judge.value({k: float(row[k]) for k in again if k in row}, result.baseline) for row in rows)
    assert judge.value(again, result.baseline) <= best * 1.01
    assert (out / "samples" / "best.png").stat().st_size > 1000
    shows = model == "posegan"
    assert isinstance(network, RenderModel) == shows
    assert ("gradient_pixels" in rows[0]) == shows
    assert ("psnr_db" in result.scores) == shows
    if not shows:
        with pytest.raises(UserError, match="shows no pictures"):
            Renderer(out, device="cpu")


@pytest.mark.parametrize(("model", "output"), [("posegan", "rgb"), ("posegan", "rgbd"), ("posenet", "auto")])
def test_interrupted_and_resumed_is_the_same_run(
    flight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, output: str
) -> None:
    config = small(model, output=output, epochs=1, batch_size=8, ema_decay=0.5 if output == "rgb" else None)
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
    learner.model.discriminator.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].detach()))
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
    judge = PoseEvaluator(open_training_data(flight, small()), torch.device("cpu"))

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
        ({"splats": 5}, "posegan has no setting splats"),
        ({"size": 48}, "32, 64, 128, 256"),
        ({"image_loss": "mse"}, "posegan has no setting image_loss"),
        ({"output": "depth"}, "with or without depth"),
        ({"max_depth": 5.0}, "with --output rgbd only"),
        ({"model": "posenet", "output": "rgb"}, "--output means nothing"),
        ({"posegan": {"trunk": "resnet18"}}, "is for posenet"),
        ({"posegan": {"blocks": 6}}, "halve 32 pixels away"),
        ({"model": "posenet", "recipe": "paper"}, "no recipe"),
        ({"model": "retrieval"}, "retrieval is not trained: .* --finders retrieval"),
        ({"model": "structure"}, "structure is not trained: .* --finders structure"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        small(**values)


def test_the_paper_s_recipe_and_size() -> None:
    """Sections 4 and 5.1, every figure that stands there."""
    config = train_config(model="posegan", recipe="paper")
    recipe, chosen = resolve_recipe(config), config.filled
    assert (recipe.learning_rate, recipe.schedule, recipe.warmup) == (2e-4, "fixed", 0.0)
    assert (recipe.steps, recipe.batch_size, recipe.weight_decay, recipe.ema_decay) == (100_000, 16, 0, 0)
    assert recipe.pose_frequencies == 0
    assert (chosen.alpha, chosen.beta_pose, chosen.beta_pixel) == (0.1, 0.5, 10.0)
    assert (chosen.k, chosen.gamma, chosen.n_critic, chosen.gain) == (0.1, 0.01, 1, 1.0)
    assert (chosen.pixel_norm, chosen.adversary, chosen.crop) == ("euclidean", "hinge", "random")
    assert (chosen.pull, chosen.rotation_weight, chosen.width, chosen.blocks) == ("both", 1.0, 1.0, None)
    assert (config.size, config.size // 16 * 2) == (128, 16), "144 pixels, cropped to 128"
    assert [blocks_of(PoseGANSettings(), size) for size in (32, 64, 128, 256)] == [3, 4, 5, 6]


@pytest.mark.parametrize("model", ["posegan", "posegan-a"])
def test_a_recipe_s_figures_reach_the_training_unless_others_are_asked_for(flight: Path, model: str) -> None:
    for recipe, gain in (("default", 2.0), ("paper", 1.0)):
        assert made_any(flight, model=model, recipe=recipe)[0].model.config.gain == gain
        asked = made_any(flight, model=model, recipe=recipe, posegan={"gain": 1.5})
        assert asked[0].model.config.gain == 1.5
    own = {"alpha": 10.0, "beta_pixel": 300.0, "pixel_norm": "mean-absolute"}
    for posegan in ({}, own):
        config = small(recipe="paper", posegan=posegan)
        chosen = config.filled
        figures = (chosen.alpha, chosen.beta_pixel, chosen.pixel_norm)
        assert figures == (tuple(own.values()) if posegan else (0.1, 10.0, "euclidean"))
        assert made(flight, recipe="paper", posegan=posegan)[0]._chosen == chosen
    assert resolve_recipe(small(recipe="paper")).steps is None, "--epochs ends it, if it is given"


def test_a_run_from_before_the_recipe_had_these_figures_goes_on(flight: Path, tmp_path: Path) -> None:
    """They stood in its config.yaml, where there was no norm of pixels yet."""
    out, config = tmp_path / "posegan", small(epochs=1)
    train(flight, out, config)
    kept = read_yaml(out / "config.yaml")
    assert (kept["posegan"]["gain"], kept["posegan"]["alpha"], kept["posegan"]["beta_pixel"]) == (2, 10, 300)
    del kept["posegan"]["pixel_norm"]
    write_yaml(out / "config.yaml", kept)
    assert train(flight, out, dataclasses.replace(config, epochs=2), resume=True).epochs == 2
    with pytest.raises(UserError, match="was started with recipe=default"):
        train(flight, tmp_path / "posegan", small(recipe="paper", epochs=2), resume=True)


@pytest.mark.parametrize("recipe", ["default", "paper"])
def test_the_paper_s_run_is_as_long_as_its_iterations(flight: Path, tmp_path: Path, recipe: str) -> None:
    config = train_config(model="posegan-a", size=32, recipe=recipe, device="cpu", tensorboard=False)
    data = open_training_data(flight, config)
    run = trainer._Run(make_fabric(config), data, tmp_path, config)
    assert run.progress.total_steps == (100_000 if recipe == "paper" else 100 * run.steps_per_epoch)
    asked = dataclasses.replace(config, steps=7)
    assert trainer._Run(make_fabric(asked), data, tmp_path, asked).progress.total_steps == 7
    with pytest.raises(UserError, match="--epochs and --steps"):
        dataclasses.replace(asked, epochs=2)


def test_settings_of_posegan_are_refused_for_others() -> None:
    with pytest.raises(UserError, match="base has no setting posegan"):
        train_config("base", posegan=PoseGANSettings(alpha=1.0))


def test_depth_is_needed_for_depth(flight_dataset: Callable[..., Path], tmp_path: Path) -> None:
    colour = flight_dataset(tmp_path / "colour", frames=12, depth_kind=None)
    with pytest.raises(UserError, match="no depth"):
        train(colour, tmp_path / "run", small(output="rgbd"))
