"""Relief on real recordings, small: better than the mean and the nearest photograph on held-out stretches."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from support.scripts import load_script

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.evaluation.pictures import measure
from pose2rgbd_ros.training.checkpoint import load_checkpoint
from pose2rgbd_ros.training.families import train_config
from pose2rgbd_ros.training.trainer import train


@pytest.fixture(scope="module")
def scenes() -> ModuleType:
    return load_script("real_scenes", "bench")


def test_sparse_points_become_depth(scenes: ModuleType, real_data: Path, tmp_path: Path) -> None:
    scenes.seneca_dataset(real_data / "aerial_seneca", tmp_path / "seneca", scenes.TO_LEARN)
    dataset = Dataset(tmp_path / "seneca")
    assert len(dataset) == 166
    depth = dataset.depth(80)
    assert 0.02 < np.isfinite(depth).mean() < 0.3
    # Flown 54 to 72 m above nearly flat ground, tilted by at most 22 degrees.
    assert np.nanmin(depth) > 45
    assert np.nanmax(depth) < 110


@pytest.mark.slow
def test_a_real_survey(scenes: ModuleType, real_data: Path, tmp_path: Path) -> None:
    scenes.seneca_dataset(real_data / "aerial_seneca", tmp_path / "seneca", scenes.TO_LEARN)
    config = train_config(model="relief", size=64, epochs=8, device="cpu", tensorboard=False, split="segments")
    result = train(tmp_path / "seneca", tmp_path / "run", config)
    scenes.seneca_dataset(real_data / "aerial_seneca", tmp_path / "judged", scenes.TO_JUDGE)
    scores = measure(tmp_path / "run", tmp_path / "judged", device="cpu").scores
    assert load_checkpoint(result.checkpoint).provenance["relief"]["depth"] == "recorded"
    for baseline in ("nearest_frame", "mean_image"):
        assert scores["model"]["rgb_mae_px"] < 0.6 * scores[baseline]["rgb_mae_px"]
    assert scores["model"]["depth_mae"] < 0.5
