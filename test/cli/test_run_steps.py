"""`pose2rgbd run` does not repeat finished steps, and repeats all that follows a changed one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.aerial import PhotoFacts, dji_xmp, write_photo

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.cli.run import RunConfig, Steps, _convert, _minutes_after
from pose2rgbd_ros.convert.settings import PhotoSettings
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError


def _pass(out: Path, inputs: dict[str, object], fresh: bool = False) -> list[tuple[str, bool]]:
    """Run three steps; returns which ran, each with whether it may resume."""
    ran: list[tuple[str, bool]] = []
    steps = Steps(out, fresh)
    for name in ("convert", "train", "evaluate"):
        steps.run(name, inputs.get(name), lambda begun, name=name: ran.append((name, begun)))
    return ran


def test_finished_steps_are_skipped(tmp_path: Path) -> None:
    assert len(_pass(tmp_path, {"train": 1})) == 3
    assert _pass(tmp_path, {"train": 1}) == []
    assert len(_pass(tmp_path, {"train": 1}, fresh=True)) == 3


def test_a_changed_step_repeats_what_follows(tmp_path: Path) -> None:
    _pass(tmp_path, {"train": 1})
    assert _pass(tmp_path, {"train": 2}) == [("train", False), ("evaluate", False)]


def test_an_interrupted_step_may_resume(tmp_path: Path) -> None:
    def interrupted(begun: bool) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Steps(tmp_path, False).run("convert", None, interrupted)
    assert _pass(tmp_path, {}) == [("convert", True), ("train", False), ("evaluate", False)]


@pytest.mark.parametrize("name", ["dataset", "runs", "run"])
def test_what_another_command_made_is_not_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=f"{name} was not made by pose2rgbd run"):
        Steps(tmp_path, True)
    assert (tmp_path / name).is_dir()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot make the folder"):
        Steps(tmp_path / "file" / "out", False)


def test_warnings_end_a_strict_run_before_the_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where the dataset was made by a run before; it is kept."""
    (tmp_path / "survey").mkdir()
    for i in range(8):
        facts = PhotoFacts(
            taken=f"2024:05:01 12:00:0{i}", place_enu_m=(5.0 * i, 0, 50), xmp=dji_xmp(0.0), focal_35mm=None
        )
        write_photo(tmp_path / "survey" / f"{i}.jpg", np.full((60, 80, 3), 90, np.uint8), facts)
    call = ["run", str(tmp_path / "survey"), "--out", str(tmp_path / "out"), "--photos.yaw-check", "off"]
    call += "--train.max-minutes 0.01 --train.size 32 --live-s 0".split()  # if it did train
    for again in ("", "convert: done before"):
        assert main([*call, "--strict"]) == 1
        printed = capsys.readouterr()
        assert again in printed.out
        (error,) = [line for line in printed.err.splitlines() if line.startswith("error: ")]
        assert "the camera is not calibrated" in error
        assert f"(--strict); {tmp_path / 'out' / 'dataset'} is kept" in error
        assert not (tmp_path / "out" / "runs").exists()
        assert len(Dataset(tmp_path / "out" / "dataset")) == 8


def test_a_source_of_depth_that_is_none_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.mp4").touch()
    assert main(["run", str(tmp_path / "a.mp4"), "--out", str(tmp_path / "out"), "--depth", "guessing"]) == 2
    assert "there is no source of depth 'guessing': stereo, plane-sweep" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_photographs_are_recordings_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "survey").mkdir()
    for i in range(2):
        facts = PhotoFacts(taken=f"2024:05:01 12:00:0{i}", place_enu_m=(5.0 * i, 0, 50), xmp=dji_xmp(0.0))
        write_photo(tmp_path / "survey" / f"{i}.jpg", np.full((60, 80, 3), 90, np.uint8), facts)
    config = RunConfig(photos=PhotoSettings(yaw_check="off"))
    for _ in range(2):
        _convert(Steps(tmp_path / "out", False), [tmp_path / "survey"], tmp_path / "out" / "dataset", config)
    assert len(Dataset(tmp_path / "out" / "dataset")) == 2
    assert "convert: done before" in capsys.readouterr().out
    minutes = _minutes_after(tmp_path / "out" / "dataset", replace(config, live_s=60.0))
    assert minutes == pytest.approx(3.0 + 1.5 + 1.0, abs=0.01)  # training, measuring and live; depth of so little: none
