"""A dataset's own split through training and evaluation, and checkpoints from before there was one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.layout import write_split
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.picture_report import evaluate
from pose2rgbd_ros.settings import read_yaml, write_yaml
from pose2rgbd_ros.training.checkpoint import load_checkpoint
from pose2rgbd_ros.training.config import TrainConfig
from pose2rgbd_ros.training.families import train_config
from pose2rgbd_ros.training.trainer import train

LABELS = np.array(["train"] * 16 + ["unused"] * 2 + ["test"] * 4 + ["unused"] * 2)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, flight_dataset: Callable[..., Path]) -> Path:
    folder = flight_dataset(tmp_path_factory.mktemp("own") / "flight", frames=len(LABELS))
    label(folder, LABELS)
    return folder


@pytest.fixture(scope="module")
def run(dataset: Path) -> Path:
    train(dataset, dataset.parent / "run", tiny())
    return dataset.parent / "run"


def tiny(**changes: object) -> TrainConfig:
    values = {"model": "base", "size": 32, "width": 0.125, "device": "cpu", "epochs": 2, "tensorboard": False}
    return train_config(**{**values, **changes})  # type: ignore[arg-type]


def label(folder: Path, labels: np.ndarray) -> None:
    write_split(folder / layout.SPLIT, Dataset(folder).stamps_ns, labels)


def test_training_takes_the_datasets_own_split_unasked_and_evaluation_repeats_it(
    dataset: Path, run: Path, tmp_path: Path
) -> None:
    stamps = Dataset(dataset).stamps_ns
    checkpoint = load_checkpoint(run)
    assert checkpoint.provenance["split"]["name"] == "dataset"
    np.testing.assert_array_equal(checkpoint.training_stamps_ns, stamps[LABELS == "train"])
    for split in ("checkpoint", "dataset"):
        result = evaluate(run, dataset, tmp_path / split, split=split, device="cpu")
        np.testing.assert_array_equal(result.stamps_ns, stamps[LABELS == "test"])
        assert (result.split, result.trained_on, result.chosen_by) == ("dataset", 0, 0)
    assert "lines the dataset holds out, none of them trained on" in result.table()


def test_a_split_that_changed_since_is_told_and_no_trained_frame_counts(
    dataset: Path, run: Path, tmp_path: Path
) -> None:
    changed = LABELS.copy()
    changed[10:14] = "test"  # trained on
    try:
        label(dataset, changed)
        result = evaluate(run, dataset, tmp_path / "report", device="cpu")
        (dataset / layout.SPLIT).unlink()
        with pytest.raises(UserError, match=r"split\.txt does not exist"):
            evaluate(run, dataset, tmp_path / "without", device="cpu")
    finally:
        label(dataset, LABELS)
    np.testing.assert_array_equal(result.stamps_ns, Dataset(dataset).stamps_ns[LABELS == "test"])
    assert any("own split changed" in note for note in result.notes)


def test_the_datasets_own_split_can_be_passed_over(dataset: Path, tmp_path: Path) -> None:
    train(dataset, tmp_path / "run", tiny(split="segments"))
    assert load_checkpoint(tmp_path / "run").provenance["split"]["name"] == "held_out_segments"
    result = evaluate(tmp_path / "run", dataset, tmp_path / "report", split="dataset", device="cpu")
    assert len(result.stamps_ns) == 4
    assert f"{result.trained_on} of them trained on" in result.table()


def test_checkpoints_from_before_split_files_evaluate_as_they_did(
    tmp_path: Path, flight_dataset: Callable[..., Path]
) -> None:
    """Trained when "segments" was the default and recorded it; a split.txt that came later changes nothing."""
    folder = flight_dataset(tmp_path / "flight", frames=24)
    train(folder, tmp_path / "run", tiny())
    model = tmp_path / "run" / "checkpoint" / "model.yaml"
    values = read_yaml(model)
    assert values["provenance"]["split"] == {
        "name": "held_out_segments",
        "fraction": 0.2,
        "segments": 5,
        "guard_frames": None,
        "seed": 0,
        "choose_fraction": 0.5,
    }
    values["provenance"]["config"]["split"] = "segments"
    del values["provenance"]["split"]["choose_fraction"], values["provenance"]["scored_on"]  # came later
    write_yaml(model, values)
    poses = tmp_path / "run" / "checkpoint" / "training_poses.safetensors"
    tensors = load_file(poses)
    del tensors["choosing_stamps_ns"]
    save_file(tensors, poses)
    before = evaluate(tmp_path / "run", folder, tmp_path / "before", device="cpu")
    label(folder, LABELS)
    after = evaluate(tmp_path / "run", folder, tmp_path / "after", device="cpu")
    assert (after.split, after.trained_on, after.chosen_by) == ("held_out_segments", 0, len(after.stamps_ns))
    assert "also chose the weights" in after.table()
    np.testing.assert_array_equal(after.stamps_ns, before.stamps_ns)
    assert after.scores == before.scores


def test_a_dataset_without_its_own_split_says_so(tmp_path: Path, flight_dataset: Callable[..., Path]) -> None:
    folder = flight_dataset(tmp_path / "flight", frames=12)
    with pytest.raises(UserError, match=r"split\.txt does not exist: the dataset brings no split of its own"):
        train(folder, tmp_path / "run", tiny(split="dataset"))
