"""`pose2rgbd import` and `pose2rgbd export` from the shell's side."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from support import foreign_datasets as foreign

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.formats.settings import NAMES


def test_import_says_what_it_found_and_export_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    foreign.tum(tmp_path / "fr1")
    assert main(["import", str(tmp_path / "fr1"), str(tmp_path / "data")]) == 0
    printed = capsys.readouterr().out
    assert "4 frames written (fr1: tum)" in printed
    assert "note: " in printed
    assert "--camera or --fov-deg" in printed
    assert main(["export", str(tmp_path / "data"), str(tmp_path / "out"), "--format", "7scenes"]) == 0
    assert "out: 4 frames as 7scenes" in capsys.readouterr().out
    assert main(["export", str(tmp_path / "data"), str(tmp_path / "out"), "--format=7scenes"]) == 2
    assert "--force" in capsys.readouterr().err


def test_warnings_of_an_import_are_errors_with_strict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What inspect warns of is said at once, such as poses in another unit than metres."""
    foreign.tum(tmp_path / "fr1")
    source, strict = str(tmp_path / "fr1"), ["--fov-deg", "70", "--strict"]
    assert main(["import", source, str(tmp_path / "good"), *strict]) == 0
    assert "warning:" not in capsys.readouterr().out
    assert main(["import", source, str(tmp_path / "far"), *strict, "--scale", "100000"]) == 1
    printed = capsys.readouterr()
    told = [line for line in printed.out.splitlines() if line.startswith("warning: ")]
    assert any("m/s (median)" in line for line in told)
    words = f"{len(told)} warning{'s' if len(told) > 1 else ''}"
    assert printed.err.splitlines()[-1] == f"error: {words} (--strict); {tmp_path / 'far'} is kept"
    assert len(Dataset(tmp_path / "far")) == 4
    report = yaml.safe_load((tmp_path / "far" / "import_report.yaml").read_text())
    assert [f"warning: {text}" for text in report["warnings"]] == told


def test_export_tells_a_dataset_from_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    foreign.tum(tmp_path / "fr1")
    main(["import", str(tmp_path / "fr1"), str(tmp_path / "data")])
    capsys.readouterr()
    assert main(["export", str(tmp_path / "data"), str(tmp_path / "out")]) == 2
    assert f"needs --format; choose one of: {', '.join(NAMES)}" in capsys.readouterr().err
    (tmp_path / "run").mkdir()
    assert main(["export", str(tmp_path / "run"), "--force"]) == 2  # an empty run folder: the checkpoint's words
    assert "checkpoint" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "nowhere"), str(tmp_path / "out"), "--format", "tum"]) == 2
    assert "is not a dataset" in capsys.readouterr().err


def test_help_tells_both_uses_of_export(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--help"]) == 0
    printed = capsys.readouterr().out
    assert "CHECKPOINT" in printed
    assert "--undistort" in printed
    assert "7scenes" in printed
    assert main(["import"]) == 2
