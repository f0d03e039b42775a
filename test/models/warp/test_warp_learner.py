"""Warping as a model of train, evaluate and render like any other, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.held_out import unsealed

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.picture_report import evaluate
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.training.checkpoint import load_checkpoint
from pose2rgbd_ros.training.config import TrainConfig
from pose2rgbd_ros.training.data import open_training_data
from pose2rgbd_ros.training.families import train_config
from pose2rgbd_ros.training.trainer import train


def config(**settings: object) -> TrainConfig:
    values = {"model": "warp-6", "size": 32, "device": "cpu", "tensorboard": False, "split": "random"}
    return train_config(**{**values, **settings})  # type: ignore[arg-type]


def test_it_is_trained_evaluated_and_rendered_like_the_others(
    flight_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    flight = flight_dataset(tmp_path / "flight")
    result = train(flight, tmp_path / "run", config())
    checkpoint = load_checkpoint(tmp_path / "run")
    assert checkpoint.state_dict["rgb"].shape == (32, 32, 32, 3)
    assert result.images == 0
    evaluation = evaluate(tmp_path / "run", flight, tmp_path / "report", device="cpu")
    assert evaluation.scores["model"]["depth_mae"] < evaluation.scores["nearest_frame"]["depth_mae"]
    model, mean = evaluation.scores["model"], evaluation.scores["mean_image"]
    assert model["rgb_mae_px"] < 0.5 * mean["rgb_mae_px"]
    assert model["depth_known"] > 0.95
    # The render path gives the same picture as the one that was scored, and any other size.
    data = unsealed(open_training_data(flight, config()))
    frame = data.split.test[:1]
    renderer = Renderer(tmp_path / "run", "cpu")
    T = Dataset(flight).T_map_cam[frame]
    rgb = renderer.render(T).rgb
    assert rgb is not None
    assert np.abs(rgb.astype(float) - data.cache.rgb[frame]).mean() < 2 * model["rgb_mae_px"]
    assert renderer.render_for_camera(T, Camera.from_fov(50, 20, 40.0)).depth.shape == (1, 20, 50)


def test_relative_depth_is_scaled_to_the_poses(flight_dataset: Callable[..., Path], tmp_path: Path) -> None:
    flight = flight_dataset(tmp_path / "relative", depth_kind="relative")  # a seventh of the metres
    result = train(flight, tmp_path / "run", config())
    unit_m = load_checkpoint(tmp_path / "run").architecture["unit_m"]
    assert unit_m == pytest.approx(7.0, rel=0.03)
    assert result.scores["depth_mae"] < 0.3 * result.baseline["depth_mae"]


def test_what_it_cannot_use_is_told_in_one_line(flight_dataset: Callable[..., Path], tmp_path: Path) -> None:
    flight = flight_dataset(tmp_path / "colour", frames=8, depth_kind=None)
    with pytest.raises(UserError, match=r"no depth, which warp-6 needs"):
        train(flight, tmp_path / "a", config())
    flight = flight_dataset(tmp_path / "flight", frames=8)
    with pytest.raises(UserError, match=r"leave --output at auto"):
        train(flight, tmp_path / "b", config(output="rgb"))
    with pytest.raises(UserError, match="more frames than the 32"):
        train(flight, tmp_path / "c", config(model="warp-40"))
