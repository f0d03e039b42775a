"""SfMLearner really trained, on a short flight whose depth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.blockworld import BlockWorld

from pose2rgbd_ros.dataset.meta import DatasetMeta, DepthMeta
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.sfmlearner.network import SfMLearner
from pose2rgbd_ros.training.checkpoint import load_video_checkpoint
from pose2rgbd_ros.training.config import resolve_recipe
from pose2rgbd_ros.training.families import video_config
from pose2rgbd_ros.training.trainer import make_learner, open_data, train

CAMERA = Camera.from_fov(64, 48, 70.0)


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Low over blocks, forwards and back on another line, looking ahead and down."""
    world, path = BlockWorld(seed=3), tmp_path_factory.mktemp("flight") / "dataset"
    with DatasetWriter(path, DatasetMeta(camera=CAMERA, depth=DepthMeta())) as writer:
        for index, along in enumerate(np.linspace(-24, 24, 64)):
            eye = np.array([2.0 * np.sin(along / 5), along, 12.0 + np.cos(along / 7)])
            T_map_cam = se3.look_at(eye, eye + np.array([0.0, 10.0, -7.0]))
            writer.add((index + 1) * 100_000_000, T_map_cam, *world.render(T_map_cam, CAMERA, 1, 60.0))
    return path


@pytest.mark.slow
def test_depth_is_learnt_from_colour_alone(flight: Path, tmp_path: Path) -> None:
    """What is drawn at random says less of depth than the mean of every pixel; what is learnt says much more."""
    config = video_config(
        "sfmlearner",
        **{"image_width": 64, "image_height": 48, "test_fraction": 0.4, "device": "cpu", "tensorboard": False},
        **{
            "steps": 400,
            "stride": 2,
            "validate_every": 4,
            "width": 0.25,
            "learning_rate": 1e-3,
            "seed": 1,
            "stop_collapsed": False,
        },
    )
    train([flight], tmp_path / "run", config)
    model = load_video_checkpoint(tmp_path / "run").build_model()
    assert isinstance(model, SfMLearner)
    assert model.image_size == (48, 64)
    data = open_data([flight], config)
    torch.manual_seed(config.seed)
    drawn = make_learner(config, resolve_recipe(config), data.for_training())
    judge = drawn.judge(data, torch.device("cpu"))
    before, after = (judge.scores(each, data.split.choose)["abs_rel"] for each in (drawn.model, model))
    mean = judge.baseline(data.split.choose)["abs_rel"]
    assert before > 1.2 * mean
    assert after < 0.7 * before


@pytest.mark.slow
def test_the_papers_networks_take_a_step_at_full_size(flight: Path) -> None:
    config = video_config(
        "sfmlearner", **{"recipe": "paper", "image_width": 416, "image_height": 128, "batch_size": 2, "device": "cpu"}
    )
    recipe, data = resolve_recipe(config), open_data([flight], config)
    torch.manual_seed(0)
    learner = make_learner(config, recipe, data.for_training())
    assert sum(each.numel() for each in learner.model.parameters() if each.dim() > 1) > 33_000_000
    optimizer = torch.optim.AdamW(learner.parameter_groups(recipe), lr=recipe.learning_rate, weight_decay=0.0)
    before = {name: each.detach().clone() for name, each in learner.model.named_parameters()}
    for loss in learner.losses(learner.model, data.split.train[:2], 0.0):
        assert torch.isfinite(loss)
        loss.backward()
        optimizer.step()
    moved = {name: float((each.detach() - before[name]).abs().max()) for name, each in learner.model.named_parameters()}
    assert all(0 < most < 1.01 * recipe.learning_rate for most in moved.values())
