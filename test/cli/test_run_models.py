"""`pose2rgbd run` trains several models and serves the best; what cannot be trained is left out in one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pose2rgbd_ros.cli.run import RunTraining, Trained, choose, demo_training, serve, train_models, training_minutes
from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.layout import write_split
from pose2rgbd_ros.dataset.meta import MadeDepth, read_meta, write_meta
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.pictures import measure
from pose2rgbd_ros.settings import read_yaml

TINY = RunTraining(size=32, width=1 / 16, epochs=1, device="cpu", tensorboard=False)


def do(name: str, inputs: Any, job: Callable[[bool], Any]) -> None:
    job(False)


def test_a_recording_without_depth_gets_the_network_that_needs_none(
    tmp_path: Path, flight_dataset: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = flight_dataset(tmp_path / "flight", frames=12, depth_kind=None)
    (only,) = train_models(do, dataset, tmp_path / "runs", TINY)
    assert only.name == "base"
    told = capsys.readouterr().out
    assert "relief and warp-12 are left out: this recording has no depth" in told
    choose([only])
    assert "is served" not in capsys.readouterr().out, "there was no choice"


def test_where_depth_was_made_of_the_pictures_relief_has_all_the_time(
    tmp_path: Path, flight_dataset: Callable[..., Path]
) -> None:
    dataset = flight_dataset(tmp_path / "flight", frames=12)
    asked: dict[str, float] = {}

    def only_ask(name: str, inputs: Any, job: Callable[[bool], Any]) -> None:
        if name.startswith("train"):
            asked[name] = inputs["max_minutes"]
            raise UserError("not now")

    for expected in (
        {"train relief": 1.0, "train warp-12": 2.0, "train base": 2.0},
        {"train relief": 2.0, "train warp-12": 2.0},
    ):
        with pytest.raises(UserError, match="not now"):
            train_models(only_ask, dataset, tmp_path / "runs", replace(TINY, max_minutes=2.0, epochs=None))
        assert asked == expected
        asked.clear()
        meta = read_meta(dataset)
        assert meta.depth is not None
        write_meta(dataset, replace(meta, depth=replace(meta.depth, made=MadeDepth("multi-view stereo"))))


def test_a_model_that_cannot_be_trained_is_left_out(
    tmp_path: Path, flight_dataset: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = flight_dataset(tmp_path / "flight", frames=12)
    asked: list[tuple[str, float]] = []

    def refuse_relief(name: str, inputs: Any, job: Callable[[bool], Any]) -> None:
        if name.startswith("train"):
            asked.append((name, inputs["max_minutes"]))
        if name == "train relief":
            raise UserError("no room here")
        job(False)

    config = replace(TINY, max_minutes=0.01, epochs=None)
    trained = train_models(refuse_relief, dataset, tmp_path / "runs", config)
    assert [each.name for each in trained] == ["warp-12", "base"]
    assert "relief is left out: no room here" in capsys.readouterr().out
    assert asked == [("train relief", 0.005), ("train warp-12", 0.01), ("train base", 0.01)], "no time is lost"
    with pytest.raises(UserError, match="no room"):
        train_models(refuse_relief, dataset, tmp_path / "runs", replace(TINY, model="relief", width=1.0))


def test_the_best_that_did_not_collapse_is_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def trained(name: str, share: float, collapsed: bool = False) -> Trained:
        (tmp_path / "runs" / name).mkdir(parents=True)
        return Trained(name, tmp_path / "runs" / name, share, collapsed, "RGB 1 of 255")

    best = choose([trained("relief", 0.4), trained("base", 0.6), trained("slice-10", 0.1, collapsed=True)])
    assert best.name == "relief"
    told = capsys.readouterr().out
    assert "served" in told
    assert "error 40% of the mean image's" in told
    link = tmp_path / "run"
    link.mkdir()  # as an earlier version left it
    for each in (best, Trained("base", tmp_path / "runs" / "base", 0.6, False, "")):
        serve(each, link)
        assert link.resolve() == each.folder.resolve()
    assert not Path(link.readlink()).is_absolute(), "the folder may be moved"


def test_the_choice_is_by_frames_that_choose_and_the_report_of_frames_that_judge(
    tmp_path: Path, flight_dataset: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = Dataset(flight_dataset(tmp_path / "flight", frames=24))
    roles = np.array(["train"] * 12 + ["choose"] * 4 + ["unused"] * 2 + ["test"] * 6)
    write_split(dataset.path / layout.SPLIT, dataset.stamps_ns, roles)
    trained = train_models(do, dataset.path, tmp_path / "runs", TINY)
    assert [each.name for each in trained] == ["relief", "warp-12", "base"]
    for each in trained:
        of_choice = measure(each.folder, dataset.path, "choose", "cpu")
        of_report = measure(each.folder, dataset.path, "checkpoint", "cpu")
        np.testing.assert_array_equal(of_choice.stamps_ns, dataset.stamps_ns[roles == "choose"])
        np.testing.assert_array_equal(of_report.stamps_ns, dataset.stamps_ns[roles == "test"])
        assert each.error_share == pytest.approx(of_choice.error_share(), rel=1e-3)
        report = read_yaml(each.folder / "report" / "metrics.yaml")
        assert report["error_share"] == pytest.approx(of_report.error_share(), rel=1e-3)
        assert report["error_share"] != pytest.approx(each.error_share, rel=1e-3)
    best = choose(trained)
    assert best.error_share == min(each.error_share for each in trained if not each.collapsed)


def test_without_frames_to_choose_by_the_first_that_did_not_collapse_is_served(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = float("nan")
    models = [Trained(name, tmp_path, unknown, name == "relief", "") for name in ("relief", "warp-12", "base")]
    assert choose(models).name == "warp-12"
    assert "too few held-out frames to choose by: warp-12 is served" in capsys.readouterr().out


def test_one_model_can_be_chosen() -> None:
    assert RunTraining().model == "best"
    assert RunTraining(model="warp-12").model == "warp-12"
    with pytest.raises(UserError, match="unknown model"):
        RunTraining(model="better")
    with pytest.raises(UserError, match=r"--train\.width means nothing to relief"):
        RunTraining(model="relief", width=0.3)


def test_pictures_alone_are_trained_on_for_longer_unless_the_user_says_how_long() -> None:
    usual = demo_training()
    assert training_minutes(usual, False) == 1.5
    assert training_minutes(usual, True) == 3.0
    assert training_minutes(replace(usual, max_minutes=0.1), True) == 0.1
    assert training_minutes(replace(usual, epochs=3), True) is None
