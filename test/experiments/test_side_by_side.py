"""Recorded frames beside what models show: sizes, errors, which frames; the picture itself is for the eye."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.small_relief import small_relief, write_small_relief

from pose2rgbd_ros.cli import experiments
from pose2rgbd_ros.dataset.reader import Dataset, frame_cache
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.picture_report import evaluate
from pose2rgbd_ros.evaluation.sheets import HEAD_INCH, TILE_INCH
from pose2rgbd_ros.experiments.pictures import held_out_by_all, show, worst_of
from pose2rgbd_ros.settings import read_yaml, write_yaml


@pytest.fixture(scope="module")
def relief(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_relief(tmp_path_factory.mktemp("side") / "relief")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, flight_dataset: Callable[..., Path]) -> Path:
    return flight_dataset(tmp_path_factory.mktemp("side") / "flight", frames=10)


def test_pictures_are_those_of_the_datasets_camera(relief: Path, dataset: Path) -> None:
    frames = np.array([2, 5])
    shown = show(relief, Dataset(dataset), frames, size=24, device="cpu")
    cache = frame_cache(Dataset(dataset), 24)
    np.testing.assert_array_equal(shown.true_rgb, cache.rgb[frames])
    assert shown.rgb is not None
    assert shown.depth is not None
    assert shown.rgb.shape == (2, 24, 24, 3)
    import torch

    from pose2rgbd_ros.training.checkpoint import load_checkpoint

    T = torch.from_numpy(Dataset(dataset).T_map_cam[frames])
    expected = small_relief().pictures(T, cache.camera, load_checkpoint(relief).normalization)
    np.testing.assert_allclose(shown.depth, expected.depth, atol=0.05)
    error = shown.rgb_errors()[1]
    assert error is not None
    difference = np.abs(shown.rgb[1].astype(float) - cache.rgb[5]).mean(axis=2)
    np.testing.assert_allclose(error, difference, atol=1e-3)


def test_only_frames_that_nobody_was_trained_on(relief: Path, dataset: Path) -> None:
    free = held_out_by_all(Dataset(dataset), [relief])
    stamps = Dataset(dataset).stamps_ns[free]
    assert 0 < len(free) < 10
    assert not np.isin(stamps, np.arange(12) * 10**8).any()
    worst = worst_of(relief, Dataset(dataset), free, 3, "cpu")
    shown = show(relief, Dataset(dataset), free, device="cpu")
    rgb = np.array([np.mean(error) for error in shown.rgb_errors() if error is not None])
    depth = np.array([np.nanmean(error) for error in shown.depth_errors() if error is not None])
    error = rgb / rgb.mean() + depth / depth.mean()
    assert list(worst) == sorted(free[np.argsort(-error)[:3]])


@pytest.mark.parametrize("options", [[], ["--worst", "--size", "48"]])
def test_the_command(relief: Path, dataset: Path, tmp_path: Path, options: list[str]) -> None:
    call = [str(dataset), str(relief), str(relief), "--out", str(tmp_path / "models.png"), "--frames", "2"]
    assert experiments.main(["pictures", *call, *options, "--device", "cpu"]) == 0
    picture = cv2.imread(str(tmp_path / "models.png"))
    high, wide = (side / 110 for side in picture.shape[:2])
    assert wide == pytest.approx(5 * TILE_INCH + 0.5, abs=0.02), "five columns"
    assert 4 * TILE_INCH + 2 * HEAD_INCH < high < 5 * TILE_INCH + 2 * HEAD_INCH, "two rows of colour, two of depth"
    assert picture.std() > 10


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--out", "models.txt"], "must end in .png or .jpg"),
        (["--out", "models"], "must end in .png or .jpg"),
        (["--size", "0"], "a size of 0 px; choose 16 to 4096"),
        (["--frames", "0"], "at least one frame"),
        (["--out", "/proc/models.png", "--frames", "1"], "cannot write /proc/models.png"),
    ],
)
def test_bad_options_are_told(relief: Path, dataset: Path, options: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        experiments.main(["pictures", str(dataset), str(relief), "--device", "cpu", *options])


def test_nothing_to_draw(dataset: Path) -> None:
    with pytest.raises(UserError, match="at least one checkpoint"):
        experiments.main(["pictures", str(dataset)])


@pytest.mark.parametrize("size", [0, 8, -5, 100_000])
def test_a_size_that_cannot_be_measured(relief: Path, dataset: Path, tmp_path: Path, size: int) -> None:
    with pytest.raises(UserError, match="choose 16 to 4096"):
        evaluate(relief, dataset, tmp_path, split="all", device="cpu", size=size)


def test_an_uncalibrated_dataset_is_refused(relief: Path, dataset: Path, tmp_path: Path) -> None:
    uncalibrated = tmp_path / "uncalibrated"
    shutil.copytree(dataset, uncalibrated, ignore=shutil.ignore_patterns(".cache"))
    meta = read_yaml(uncalibrated / "meta.yaml")
    meta["camera"] |= {"fx": 0.0, "fy": 0.0}
    write_yaml(uncalibrated / "meta.yaml", meta)
    with pytest.raises(UserError, match="is not calibrated"):
        evaluate(relief, uncalibrated, tmp_path / "out", split="all", device="cpu")
    assert not (tmp_path / "out").exists()


def test_depth_farther_than_in_training_is_unknown(relief: Path, dataset: Path, tmp_path: Path) -> None:
    limited = tmp_path / "limited"
    shutil.copytree(relief, limited)
    (model,) = limited.rglob("model.yaml")
    values = read_yaml(model)
    depth = np.asarray(frame_cache(Dataset(dataset), 24).depth)
    limit = float(np.nanmedian(depth[[2]]))
    values["provenance"].setdefault("config", {})["max_depth"] = limit
    write_yaml(model, values)
    shown = show(limited, Dataset(dataset), np.array([2]), size=24, device="cpu")
    assert shown.true_depth is not None
    np.testing.assert_array_equal(shown.true_depth, np.where(depth[[2]] > limit, np.nan, depth[[2]]))


def test_a_model_of_geometry_is_measured_at_any_size(relief: Path, dataset: Path, tmp_path: Path) -> None:
    result = evaluate(relief, dataset, tmp_path, split="all", device="cpu", size=24)
    shown = show(relief, Dataset(dataset), np.arange(10), size=24, device="cpu")
    expected = np.mean([np.mean(error) for error in shown.rgb_errors() if error is not None])
    assert result.scores["model"]["rgb_mae_px"] == pytest.approx(expected, abs=0.3), "rounded to levels there"
    assert 0 < result.scores["model"]["depth_known"] < 1
    assert read_yaml(tmp_path / "metrics.yaml")["size"] == 24
    assert "relief rgbd 24 px on flight" in (tmp_path / "index.html").read_text()
    assert "| depth known |" in (tmp_path / "table.md").read_text()
