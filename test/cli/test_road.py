"""`pose2rgbd` alone: what stands in a folder, and the next command; quick, and nothing but names of files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pose2rgbd_ros.cli import road
from pose2rgbd_ros.cli.main import main


def make_dataset(folder: Path, frames: int = 2) -> Path:
    folder.mkdir(parents=True)
    (folder / "associations.txt").write_text("# stamp rgb\n" + "1.0 a 1.0 b\n" * frames)
    (folder / "groundtruth.txt").touch()
    (folder / "rgb").mkdir()
    return folder


def make_run(folder: Path, dataset: str, *files: str) -> Path:
    for name in ("checkpoint/model.yaml", *files):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "checkpoint" / "model.yaml").write_text(
        f"architecture:\n  network: relief\nprovenance:\n  dataset: {dataset}\n"
    )
    return folder


def following(folder: Path) -> list[str]:
    return [command for _, command in road.next_commands(road.look(folder))]


def test_each_station_leads_to_the_next(tmp_path: Path) -> None:
    assert following(tmp_path) == ["pose2rgbd run: a demo, simulated"]
    recording = tmp_path / "flight.mcap"
    recording.touch()
    assert following(tmp_path) == [f"pose2rgbd convert {recording} dataset"]
    dataset = make_dataset(tmp_path / "data" / "flight")
    assert following(tmp_path) == [f"pose2rgbd train relief {dataset} --max-minutes 10"]
    run = make_run(tmp_path / "runs" / "flight-relief", "flight")
    assert following(tmp_path) == [f"pose2rgbd evaluate {run} {dataset}"]
    make_run(run, "flight", "report/metrics.yaml")
    assert following(tmp_path) == [f"pose2rgbd calibrate {run} {dataset}"]
    make_run(run, "flight", "report/metrics.yaml", "checkpoint/calibration.yaml")
    assert following(tmp_path) == [f"pose2rgbd render --model {run}/checkpoint"]
    text = road.told(road.look(tmp_path))
    assert f"pose2rgbd view {run} {dataset}" in text
    for line in ("x record", "x convert", "x train", "x evaluate", "x calibrate"):
        assert f"\n{line}" in text
    another = make_dataset(tmp_path / "data" / "second")
    assert f"pose2rgbd train relief {another} --max-minutes 10" in following(tmp_path)


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (["flight/metadata.yaml", "flight/flight_0.db3"], "flight"),
        (["flight.bag"], "flight.bag"),
        (["FLIGHT.MP4"], "FLIGHT.MP4"),
        ([f"survey/IMG_{i}.JPG" for i in range(12)], "survey"),
        ([f"notes/{i}.jpg" for i in range(3)], None),
        (["a/b/c/d/e/deep.mcap"], None),
        ([".hidden/flight.mcap"], None),
    ],
)
def test_recordings_are_found_by_their_names(tmp_path: Path, files: list[str], found: str | None) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert road.look(tmp_path).recordings == ([] if found is None else [tmp_path / found])


def test_a_run_counts_once_whatever_leads_to_it_and_knows_its_own_dataset(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_dataset(tmp_path / name / "dataset", 3)
        run = make_run(tmp_path / name / "runs" / "relief", "dataset")
        (tmp_path / name / "run").symlink_to(run, target_is_directory=True)
    found = road.look(tmp_path)
    assert [run.path for run in found.runs] == [tmp_path / "one" / "run", tmp_path / "two" / "run"]
    assert list(found.datasets.values()) == [3, 3]
    assert following(tmp_path) == [
        f"pose2rgbd evaluate {tmp_path}/{name}/run {tmp_path}/{name}/dataset" for name in ("one", "two")
    ]


def test_a_folder_of_very_many_is_looked_at_in_part_and_that_is_said(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(road, "MOST_FOLDERS", 5)
    for i in range(10):
        (tmp_path / f"{i}").mkdir()
    assert "more than was looked at" in road.told(road.look(tmp_path))


def test_without_a_command_the_road_is_shown(tmp_path: Path, monkeypatch, capsys) -> None:
    make_dataset(tmp_path / "flight")
    monkeypatch.chdir(tmp_path)
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert "flight (2 frames)" in shown
    assert "next       pose2rgbd train relief flight --max-minutes 10" in shown


def test_status_is_data_too(tmp_path: Path, capsys) -> None:
    make_dataset(tmp_path / "flight")
    assert main(["status", str(tmp_path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)["result"]
    assert result["datasets"] == [{"path": str(tmp_path / "flight"), "frames": 2}]
    assert result["next"] == [f"pose2rgbd train relief {tmp_path}/flight --max-minutes 10"]
    assert main(["status", str(tmp_path / "nothing")]) == 2
    assert "is no folder" in capsys.readouterr().err
