"""The official splits of 7-Scenes and Cambridge from their files through training to the report on found poses."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.pages import read_page

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.layout import write_split
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.formats.exporting import export_dataset
from pose2rgbd_ros.formats.importing import import_datasets
from pose2rgbd_ros.formats.settings import ExportConfig
from pose2rgbd_ros.models.posegan.config import PoseGANSettings
from pose2rgbd_ros.settings import read_yaml
from pose2rgbd_ros.training.checkpoint import load_checkpoint
from pose2rgbd_ros.training.config import TrainConfig
from pose2rgbd_ros.training.families import train_config
from pose2rgbd_ros.training.trainer import train

LABELS = ["train"] * 10 + ["test"] * 5 + ["unused"] * 2 + ["train"] * 7  # Cambridge knows no unused frames


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory, flight_dataset: Callable[..., Path]) -> Path:
    folder = flight_dataset(tmp_path_factory.mktemp("official") / "flight", frames=len(LABELS))
    write_split(folder / layout.SPLIT, Dataset(folder).stamps_ns, LABELS)
    return folder


def tiny(**changes: object) -> TrainConfig:
    values = {"model": "posenet", "size": 32, "epochs": 2, "device": "cpu", "tensorboard": False}
    return train_config(**{**values, "posegan": PoseGANSettings(width=0.125), **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["7scenes", "cambridge"])
def test_the_official_split_is_trained_and_measured_on(name: str, flight: Path, tmp_path: Path) -> None:
    original = tmp_path / "original"
    export_dataset(flight, original, ExportConfig(format=name))
    official = "TestSplit.txt" if name == "7scenes" else "dataset_test.txt"
    assert (original / official).is_file()
    import_datasets([original], tmp_path / "data")
    data, before = Dataset(tmp_path / "data"), Dataset(flight)
    tested = before.T_map_cam[np.array(LABELS) == "test"]
    train(data.path, tmp_path / "run", tiny(split="dataset"))
    checkpoint = load_checkpoint(tmp_path / "run")
    assert checkpoint.provenance["split"]["name"] == "dataset"
    np.testing.assert_allclose(checkpoint.training_T_map_cam, before.T_map_cam[np.array(LABELS) == "train"], atol=1e-5)
    report = tmp_path / "report"
    assert main(["evaluate", str(tmp_path / "run"), str(data.path), "--split", "dataset", "--out", str(report)]) == 0
    values = read_yaml(report / "metrics.yaml")
    assert (values["split"], values["frames"], values["frames_trained_on"]) == ("dataset", 5, 0)
    rows = list(csv.DictReader((report / "frames.csv").open()))
    np.testing.assert_allclose(
        [[float(row[f"true_{axis}"]) for axis in "xyz"] for row in rows], tested[:, :3, 3], atol=1e-5
    )
    assert values["scores"]["colour"]["model"]["median_position_m"] > 0
    assert any("the weights are those of the end" in note for note in values["notes"])
    said = [values["scores"][kind]["mean-pose"]["median_position_m"] for kind in ("colour", "grey")]
    assert said[0] == said[1]  # it does not look


def test_a_network_of_both_kinds_is_reported_with_poses_and_pictures(
    flight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(flight, tmp_path / "run", tiny(model="posegan", epochs=1))
    words = ["evaluate", str(tmp_path / "run"), str(flight), "--finders", "mean-pose", "retrieval"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "| posegan | colour |" in text
    assert "| posegan | grey |" in text
    assert "| retrieval | colour |" in text
    assert "RGB MAE" in text
    report = tmp_path / "run" / "report"
    page = read_page(report / "index.html")
    scores = read_yaml(report / "metrics.yaml")["scores"]["colour"]
    ours, mean = (scores[name]["median_position_m"] for name in ("model", "mean-pose"))
    assert page.verdict[0] == ("good" if ours < mean else "bad")
    assert f": {ours / mean:.0%} of the mean training pose's" in page.verdict[1]
    assert page.files == ["curves.png", "map.png", "frames.png"]
    assert f"SHA-256 {load_checkpoint(tmp_path / 'run').weights_sha256[:16]}" in page.text
    for picture in ("curves.png", "map.png", "frames.png", "pictures/sheet.png"):
        assert (report / picture).read_bytes().startswith(b"\x89PNG")


def test_another_recording_needs_to_be_told_where_the_training_frames_are(
    flight: Path, tmp_path: Path, flight_dataset: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    train(flight, tmp_path / "run", tiny(epochs=1))
    other = flight_dataset(tmp_path / "other", frames=9)
    before = Dataset(other).stamps_ns
    for file in (layout.ASSOCIATIONS, layout.GROUNDTRUTH):  # as if it had been recorded later
        text = (other / file).read_text()
        for old, new in zip(before, before + 10**15, strict=True):
            text = text.replace(layout.stamp_text(int(old)) + " ", layout.stamp_text(int(new)) + " ")
        (other / file).write_text(text)
    out = str(tmp_path / "report")
    assert main(["evaluate", str(tmp_path / "run"), str(other), "--out", out]) == 0
    assert "so there is no baseline (--training-dataset)" in capsys.readouterr().out
    assert main(["evaluate", str(tmp_path / "run"), str(other), "--out", out, "--training-dataset", str(flight)]) == 0
    text = capsys.readouterr().out
    assert "| mean pose | colour |" in text
    assert "9 frames of other" in text
