"""Relief on real recordings, small: better than the mean and the nearest photograph on held-out stretches."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.training.checkpoint import load_checkpoint
from pose2rgbd_ros.training.config import TrainConfig
from pose2rgbd_ros.training.data import open_training_data
from pose2rgbd_ros.training.metrics import Scores
from pose2rgbd_ros.training.trainer import train


@pytest.fixture(scope="module")
def scenes(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("real_scenes", repository / "bench" / "real_scenes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_sparse_points_become_depth(scenes: ModuleType, real_data: Path, tmp_path: Path) -> None:
    scenes.seneca_dataset(real_data / "aerial_seneca", tmp_path / "seneca")
    dataset = Dataset(tmp_path / "seneca")
    assert len(dataset) == 166
    depth = dataset.depth(80)
    assert 0.02 < np.isfinite(depth).mean() < 0.3
    # Flown 54 to 72 m above nearly flat ground, tilted by at most 22 degrees.
    assert np.nanmin(depth) > 45
    assert np.nanmax(depth) < 110


@pytest.mark.slow
def test_a_real_survey(scenes: ModuleType, real_data: Path, tmp_path: Path) -> None:
    scenes.seneca_dataset(real_data / "aerial_seneca", tmp_path / "seneca")
    config = TrainConfig(model="relief", size=64, epochs=8, device="cpu", tensorboard=False, split="segments")
    result = train(tmp_path / "seneca", tmp_path / "run", config)
    data = open_training_data(tmp_path / "seneca", config)
    nearest = Scores()
    rgb, depth = scenes.predicted("nearest frame", data, data.split.test, {})
    truth = data.truth(data.split.test)
    nearest.add(rgb, truth[0], depth, truth[1])
    assert load_checkpoint(result.checkpoint).provenance["relief"]["depth"] == "recorded"
    assert result.scores["rgb_mae_px"] < 0.6 * nearest.result()["rgb_mae_px"]
    assert result.scores["rgb_mae_px"] < 0.6 * result.baseline["rgb_mae_px"]
    assert result.scores["depth_mae"] < 0.5
