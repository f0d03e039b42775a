"""SfMLearner: layers by counts and shapes, losses against plain ones and against a scene that is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from support.blockworld import BlockWorld
from torch import Tensor

from pose2rgbd_ros.depth_from_images import rigid
from pose2rgbd_ros.depth_from_images.inverse_warp import Warped
from pose2rgbd_ros.depth_from_images.photometric import area_resized, second_order_smoothness
from pose2rgbd_ros.depth_from_images.snippets import SnippetBatch
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.sfmlearner.config import FIGURES, Settings, SfMLearnerConfig
from pose2rgbd_ros.models.sfmlearner.learner import Objective, explainability_loss
from pose2rgbd_ros.models.sfmlearner.network import DispNet, Motion, PoseExplainNet, SfMLearner
from pose2rgbd_ros.training.config import resolve_recipe


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# Layers: built on the "meta" device, which has shapes and no memory.


def test_the_networks_are_the_authors_to_the_last_parameter() -> None:
    with torch.device("meta"):
        assert count(DispNet(1.0, norm=False)) == 31_596_900
        for sources, motion, mask in ((2, 1_590_668, 1_048_512), (4, 1_598_456, 1_061_776)):
            assert count(PoseExplainNet(sources, 1.0, norm=False, explains=False)) == motion
            assert count(PoseExplainNet(sources, 1.0, norm=False, explains=True)) == motion + mask
        whole = SfMLearner(SfMLearnerConfig(explains=True))
    assert count(whole) == 31_596_900 + 1_590_668 + 1_048_512


@pytest.mark.parametrize("size", [(128, 416), (37, 51), (64, 96), (16, 16)])
@pytest.mark.parametrize("norm", [False, True])
def test_every_scale_has_half_the_size_rounded_up(size: tuple[int, int], norm: bool) -> None:
    config = SfMLearnerConfig(image_size=size, frames=5, width=0.25, batch_norm=norm, explains=True)
    with torch.device("meta"):
        disparities, motion = SfMLearner(config)(torch.zeros(2, 5, 3, *size))
    scales = [tuple(-(-side // 2**scale) for side in size) for scale in range(4)]
    assert [tuple(each.shape) for each in disparities] == [(2, *scale) for scale in scales]
    assert [tuple(each.shape) for each in motion.logits] == [(2, 4, 2, *scale) for scale in scales]
    assert motion.vectors.shape == (2, 4, 6)


def test_batch_normalisation_spares_what_is_shown() -> None:
    with torch.device("meta"):
        network = SfMLearner(SfMLearnerConfig(batch_norm=True, explains=True))
    norms = sum(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    assert norms == (14 + 14) + (5 + 2 + 5)  # down, up and join; shared, motion, mask


def test_disparity_stays_between_its_bounds() -> None:
    torch.manual_seed(0)
    network = SfMLearner(SfMLearnerConfig(image_size=(32, 48), width=0.1))
    assert network.depth(torch.rand(2, 3, 32, 48)).shape == (2, 32, 48)
    for bias, depth in ((-1000.0, 1 / 0.01), (1000.0, 1 / 10.01)):
        for convolution in network.disparity.show:
            torch.nn.init.constant_(convolution.bias, bias)
        assert torch.allclose(network.depth(torch.rand(1, 3, 32, 48)), torch.tensor(depth))


# Motion.


def turn(axis: int, angle: float) -> np.ndarray:
    """Rotation about a coordinate axis."""
    R = np.eye(3)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    R[i, i] = R[j, j] = np.cos(angle)
    R[i, j], R[j, i] = -np.sin(angle), np.sin(angle)
    return R


def test_motion_is_translation_then_rx_ry_rz() -> None:
    vector = np.array([0.3, -0.2, 0.7, 0.11, -0.23, 0.31])
    T = rigid.from_euler(torch.from_numpy(vector)[None, None])[0, 0].numpy()
    assert np.allclose(T[:3, :3], turn(0, 0.11) @ turn(1, -0.23) @ turn(2, 0.31))
    assert np.allclose(T[:3, 3], vector[:3])
    assert np.allclose(T[3], (0, 0, 0, 1))


@pytest.mark.parametrize(("frames", "target"), [(2, 0), (3, 1), (5, 2)])
def test_poses_of_a_snippet_are_in_the_targets_camera(frames: int, target: int) -> None:
    torch.manual_seed(0)
    network = SfMLearner(SfMLearnerConfig(image_size=(32, 32), frames=frames, width=0.1)).eval()
    torch.nn.init.normal_(network.motion.motion[-1].bias, std=30.0)
    images = torch.rand(2, frames, 3, 32, 32)
    _, motion = network(images)
    T_tgt_i = network.motions(images, torch.eye(3).expand(2, 3, 3))
    assert torch.equal(T_tgt_i[:, target], torch.eye(4).expand(2, 4, 4))
    sources = [i for i in range(frames) if i != target]
    assert torch.allclose(
        T_tgt_i[:, sources] @ rigid.from_euler(motion.vectors), torch.eye(4).expand(2, 1, 4, 4), atol=1e-5
    )
    with pytest.raises(UserError, match=f"snippets of {frames} images, not {frames + 2}"):
        network.motions(torch.rand(1, frames + 2, 3, 32, 32), torch.eye(3)[None])


def test_the_target_is_shown_to_the_motion_network_first() -> None:
    torch.manual_seed(0)
    network = SfMLearner(SfMLearnerConfig(image_size=(32, 32), width=0.1)).eval()
    seen: list[Tensor] = []
    network.motion.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    before, target, after = torch.rand(3, 3, 32, 32)
    network.motions(torch.stack([before, target, after])[None], torch.eye(3)[None])
    assert torch.allclose(seen[0][0], 2 * torch.cat([target, before, after]) - 1)


# Losses against plain ones.


def test_smoothness_of_ours_heeds_edges_and_no_scale() -> None:
    values, images = np.random.default_rng(0).uniform(1, 5, (2, 4, 5)), np.random.default_rng(1).random((2, 3, 4, 5))
    relative = values / values.mean(axis=(1, 2), keepdims=True)
    expected = sum(
        (np.abs(np.diff(relative, axis=axis)) * np.exp(-np.abs(np.diff(images, axis=axis + 1)).mean(axis=1))).mean()
        for axis in (1, 2)
    )
    for factor in (1.0, 7.0):
        found = Objective(smooth="relative-disparity").roughness(
            torch.from_numpy(factor * values), torch.from_numpy(images)
        )
        assert np.isclose(float(found), expected)


def test_the_mask_pays_for_what_it_does_not_explain() -> None:
    logits = np.random.default_rng(0).normal(size=(2, 2, 3, 4))
    probability = np.exp(logits[:, 1]) / np.exp(logits).sum(axis=1)
    assert np.isclose(float(explainability_loss(torch.from_numpy(logits))), -np.log(probability).mean())


@pytest.mark.parametrize("outside", ["black", "left-out"])
@pytest.mark.parametrize("masked", [False, True])
def test_photometric_error_counts_what_the_source_sees(outside: str, masked: bool) -> None:
    rng = np.random.default_rng(0)
    target, image = rng.random((2, 2, 3, 4, 5))
    logits = rng.normal(size=(2, 2, 4, 5))
    u, v = np.meshgrid(np.linspace(-1, 5, 5), np.linspace(-1, 4, 4))
    pixels = np.broadcast_to(np.stack([u, v], axis=-1), (2, 4, 5, 2))
    valid = (u > -0.5) & (u < 4.5) & (v > -0.5) & (v < 3.5)
    whole = (u >= 0) & (u < 4) & (v >= 0) & (v < 3)
    weight = np.exp(logits[:, 1]) / np.exp(logits).sum(axis=1) if masked else np.ones((2, 4, 5))
    if outside == "black":
        expected = (weight[:, None] * np.abs(np.where(whole, image, 0.0) - target)).mean()
    else:
        expected = (weight[:, None] * np.abs(image - target))[:, :, valid].mean()
    warped = Warped(*(torch.from_numpy(np.array(x)) for x in (image, np.array([valid] * 2), valid, pixels)))
    objective = Objective(outside=outside)  # type: ignore[arg-type]
    found = objective.photometric(torch.from_numpy(target), warped, torch.from_numpy(logits) if masked else None)
    assert np.isclose(float(found), expected)


def test_the_whole_loss_is_the_sum_over_scales_and_sources() -> None:
    rng = np.random.default_rng(0)
    image = rng.random((1, 3, 16, 24))
    batch = SnippetBatch(torch.from_numpy(np.stack([image] * 3, axis=1)), torch.eye(3, dtype=torch.float64)[None], 1)
    disparity = rng.uniform(0.1, 0.9, (1, 16, 24))
    disparities = [torch.from_numpy(disparity[:, :: 2**s, :: 2**s].copy()) for s in range(4)]
    logits = [torch.from_numpy(rng.normal(size=(1, 2, 2, 16 >> s, 24 >> s))) for s in range(4)]
    still = Motion(torch.zeros(1, 2, 6, dtype=torch.float64), [])
    for smooth, falloff in (("disparity", 2.0), ("depth", 2.3)):
        objective = Objective(smoothness=0.7, smooth=smooth, smoothness_falloff=falloff, outside="left-out")  # type: ignore[arg-type]
        values = disparities if smooth == "disparity" else [1 / each for each in disparities]
        expected = sum(0.7 / falloff**s * second_order_smoothness(each) for s, each in enumerate(values))
        assert torch.isclose(objective.loss(disparities, still, batch), expected)
    # Half a unit to the right and down before a wall in two units: a quarter of a pixel, an eighth at half size, ...
    wall = [torch.full_like(each, 0.5) for each in disparities]
    aside = Motion(torch.tensor([[[0.5, 0.5, 0.0, 0.0, 0.0, 0.0]] * 2], dtype=torch.float64), [])
    expected = 0.0
    for s in range(4):
        small = image.reshape(1, 3, 16 >> s, 1 << s, 24 >> s, 1 << s).mean(axis=(3, 5))
        share, moved = 0.25 / 2**s, np.zeros_like(small)  # beyond its last pixel's centre the source is black
        rows = (1 - share) * small[:, :, :-1] + share * small[:, :, 1:]
        moved[:, :, :-1, :-1] = (1 - share) * rows[..., :-1] + share * rows[..., 1:]
        expected += 2 * np.abs(moved - small).mean()
    assert float(Objective(smoothness=0.0).loss(wall, aside, batch)) == pytest.approx(expected)
    explained = Objective(explainability=0.2, smoothness=0.0, outside="left-out")
    expected = sum(0.2 * explainability_loss(each[:, i]) for each in logits for i in (0, 1))
    assert torch.isclose(explained.loss(disparities, still._replace(logits=logits), batch), expected)


# A scene that is known.


@pytest.fixture(scope="module")
def scene() -> tuple[SnippetBatch, list[Tensor], Tensor]:
    """A snippet over blocks of a camera that shifts, climbs and turns; true disparities by scale and motions."""
    world, camera = BlockWorld(seed=2), Camera.from_fov(96, 64, 60.0)
    T_map_cam = np.array(
        [
            se3.look_at([shift, -12.0 + shift, 16.0 + 0.3 * i], [1.0 - 2 * shift, 0.5 * shift, 0.0])
            for i, shift in enumerate((-0.9, 0.0, 1.1))
        ]
    )
    views = [world.render(T, camera, supersample=2) for T in T_map_cam]
    images = np.stack([rgb for rgb, _ in views]).transpose(0, 3, 1, 2)[None] / 255
    disparity = torch.from_numpy(1 / np.nan_to_num(views[1][1], nan=1e3)).double()[None]
    disparities = [area_resized(disparity[:, None], (64 >> s, 96 >> s))[:, 0] for s in range(4)]
    vectors = [vector_of(se3.inverse(T_map_cam[i]) @ T_map_cam[1]) for i in (0, 2)]
    batch = SnippetBatch(torch.from_numpy(images), torch.from_numpy(camera.K)[None], 1)
    return batch, disparities, torch.tensor([vectors], dtype=torch.float64)


def vector_of(T: np.ndarray) -> list[float]:
    """tx ty tz rx ry rz of which R = Rx Ry Rz."""
    R = T[:3, :3]
    return [*T[:3, 3], np.arctan2(-R[1, 2], R[2, 2]), np.arcsin(R[0, 2]), np.arctan2(-R[0, 1], R[0, 0])]


def test_true_depth_and_motion_explain_the_images_best(scene: tuple[SnippetBatch, list[Tensor], Tensor]) -> None:
    batch, disparities, vectors = scene
    objective = Objective(smoothness=0.0, outside="left-out")
    inverse = torch.tensor([[vector_of(se3.inverse(T)) for T in rigid.from_euler(vectors)[0].numpy()]])
    rotated = torch.cat([vectors[..., :3], vectors[..., [5, 4, 3]]], dim=-1)
    shifted = torch.cat([vectors[..., [1, 0, 2]], vectors[..., 3:]], dim=-1)
    flat = [each.mean().expand_as(each) for each in disparities]
    loss = {
        name: float(objective.loss(depths, Motion(motion, []), batch))
        for name, (depths, motion) in {
            "true": (disparities, vectors),
            "inverse motion": (disparities, inverse),
            "the other source's": (disparities, vectors.flip(1)),
            "none": (disparities, torch.zeros_like(vectors)),
            "rotation in another order": (disparities, rotated),
            "translation in another order": (disparities, shifted),
            "half the depth": ([2 * each for each in disparities], vectors),
            "twice the depth": ([each / 2 for each in disparities], vectors),
            "no relief": (flat, vectors),
        }.items()
    }
    true = loss.pop("true")
    assert all(true < 0.8 * wrong for wrong in loss.values()), (true, loss)


@pytest.mark.parametrize("recipe", ["default", "paper", "pytorch-port"])
def test_gradients_reach_every_parameter(scene: tuple[SnippetBatch, list[Tensor], Tensor], recipe: str) -> None:
    torch.manual_seed(0)
    filled = Settings("sfmlearner", recipe=recipe).filled  # type: ignore[arg-type]
    explains, norm = filled["explainability"] > 0, filled["batch_norm"]
    network = SfMLearner(SfMLearnerConfig(image_size=(64, 96), width=0.1, explains=explains, batch_norm=norm))
    objective = Objective(**{name: filled[name] for name in vars(Objective())})
    images, K = scene[0].images.float(), scene[0].K.float()
    batch = SnippetBatch(torch.cat([images, images.flip(-1)]), torch.cat([K, K]), 1)
    objective.loss(*network(batch.images), batch).backward()
    idle = [name for name, each in network.named_parameters() if each.grad is None or not each.grad.abs().sum() > 0]
    assert not idle


# Settings.


def test_recipes_are_what_their_names_say() -> None:
    paper, released, port = (Settings("sfmlearner", recipe=name) for name in ("paper", "released", "pytorch-port"))  # type: ignore[arg-type]
    for each in (paper, released, port):
        recipe = resolve_recipe(each)
        optimiser = (recipe.learning_rate, recipe.schedule, recipe.batch_size, recipe.steps, recipe.weight_decay)
        assert optimiser == (2e-4, "fixed", 4, 200_000, 0.0)
        assert each.filled["width"] == 1
    assert (paper.filled["explainability"], paper.filled["batch_norm"]) == (0.2, True)
    assert (released.filled["explainability"], released.filled["batch_norm"]) == (0.0, False)
    assert (port.filled["smooth"], port.filled["smoothness"], port.filled["smoothness_falloff"]) == ("depth", 2.0, 2.3)
    own = dataclasses.replace(paper, explainability=0.0, width=0.5)
    assert own.filled == {**FIGURES["paper"], "explainability": 0.0, "width": 0.5}
    assert own.resolved()["explainability"] == 0.0
    assert (paper.filled["flip"], port.filled["flip"]) == (False, True)
    with pytest.raises(UserError, match="at least 2 snippets a step"):
        dataclasses.replace(paper, batch_size=1)
    with pytest.raises(UserError, match=r"ssim is 1\.5"):
        Settings("sfmlearner", ssim=1.5)
