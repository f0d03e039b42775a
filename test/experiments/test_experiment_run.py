"""One row of an experiment: finished ones are read, interrupted ones go on, and what cannot be trained says why."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.pictures import measure as measure_checkpoint
from pose2rgbd_ros.experiments import run
from pose2rgbd_ros.experiments.run import Job, measure
from pose2rgbd_ros.settings import read_yaml, write_yaml
from pose2rgbd_ros.training import trainer
from pose2rgbd_ros.training.families import train_config


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory, flight_dataset: Callable[..., Path]) -> Path:
    return flight_dataset(tmp_path_factory.mktemp("data") / "flight")


def job(flight: Path, **settings: object) -> Job:
    values = {
        "model": "base",
        "size": 32,
        "width": 0.125,
        "device": "cpu",
        "epochs": 2,
        "split": "lines+random",
        "batch_size": 8,
    }
    return Job("row", flight, train_config(tensorboard=False, **{**values, **settings}))  # type: ignore[arg-type]


def test_a_row_is_measured_by_groups_once(flight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = measure(job(flight), tmp_path)
    assert set(first.groups) == {"random", "held-out lines"}
    again = measure_checkpoint(first.run, flight, device="cpu")  # of the frames that judge, group by group
    assert (again.trained_on, again.chosen_by) == (0, 0)
    frames = {group: again.stamps_ns[inside] for group, inside in again.groups.items()}
    assert not set(frames["random"]) & set(frames["held-out lines"])
    for group, methods in first.groups.items():
        assert set(methods) == {"model", "mean_image", "nearest_frame"}
        for method, scores in methods.items():
            for name, value in scores.items():
                mean = np.nanmean(again.per_frame[method][name][again.groups[group]])
                assert value == pytest.approx(mean, rel=1e-3, abs=1e-4), f"{group}, {method}: {name}"
    assert 1 < first.effort["epochs"] <= 2, "whole batches of two epochs"
    assert first.effort["bytes"] > 4 * first.effort["parameters"] > 0
    assert (first.run / "report" / "index.html").exists()
    monkeypatch.setattr(run, "train", None)  # nothing is trained again
    second = measure(job(flight), tmp_path)
    assert second.groups == first.groups
    assert second.effort == first.effort
    finished = first.run / run.RESULT_FILE
    values = read_yaml(finished)
    del values["job"]["consistency_weight"], values["job"]["bce_weight"]  # as if they came later
    values["job"]["relief"] = {"channels": 4}  # as when rows kept the settings of all models
    write_yaml(finished, values)
    assert measure(job(flight), tmp_path).groups == first.groups
    with pytest.raises(UserError, match=r"made with consistency_weight=0.0, now it is 1.0"):
        measure(job(flight, consistency_weight=1.0), tmp_path)
    with pytest.raises(UserError, match=r"made with epochs=2, now it is 3.*another --out"):
        measure(job(flight, epochs=3), tmp_path)


def test_an_interrupted_row_goes_on_where_it_was(flight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    step = trainer._Run._step

    def counted(running: trainer._Run, share: float) -> None:
        steps.append(running.state.step)
        if len(steps) == 3:
            signal.raise_signal(signal.SIGINT)
        step(running, share)

    monkeypatch.setattr(trainer._Run, "_step", counted)
    with pytest.raises(KeyboardInterrupt):
        measure(job(flight), tmp_path)
    assert not (tmp_path / "row" / run.RESULT_FILE).exists()
    run.train_job(job(flight), tmp_path / "row")
    assert steps == [0, 1, 2, 3], "each step once"


def test_the_slope_of_the_last_quarter_is_of_a_line_through_it(tmp_path: Path) -> None:
    """From 8 m at three quarters to 6 m at the end, whatever came before and between."""
    log = tmp_path / "metrics.csv"
    steps = range(100, 1700, 100)

    def written(values: list[float]) -> float | None:
        lines = [f"{step},{value}" for step, value in zip(steps, values, strict=True)]
        log.write_text("\n".join(["step,depth_mae", *lines]))
        return run.slope(log, "depth_mae")

    assert written([99.0] * 11 + [8.0, 7.5, 7.0, 6.5, 6.0]) == pytest.approx(-2 / 6)
    assert written([5.0] * 16) == pytest.approx(0.0, abs=1e-9)
    assert written([1.0] * 12 + [float("nan")] * 3 + [1.0]) is None, "too few to say"
    assert run.slope(log, "position_median_m") is None
    assert run.slope(tmp_path / "none.csv", "depth_mae") is None


def test_the_interval_of_differences_is_student_s() -> None:
    a, b = np.array([1.0, 3.0, 2.0]), np.array([2.0, 5.0, 2.5])
    found = run.interval(list(a - b))
    limits = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert found == pytest.approx(((a - b).mean(), limits.low, limits.high))
    assert run.interval([1.0]) is None


def test_a_run_killed_at_once_is_begun_anew(flight: Path, tmp_path: Path) -> None:
    begun = tmp_path / "row"
    begun.mkdir()
    (begun / "config.yaml").write_text("model: base\n")
    run.train_job(job(flight), begun)
    assert (begun / "checkpoint").is_dir()


def test_what_cannot_be_trained_says_why_and_does_not_stop_the_others(
    tmp_path: Path, flight_dataset: Callable[..., Path]
) -> None:
    blind = flight_dataset(tmp_path / "blind", frames=12, depth_kind=None)
    measured = measure(job(blind, model="slice-4"), tmp_path)
    assert "no depth" in measured.error
    assert measured.groups == {}
    assert not (tmp_path / "row" / run.RESULT_FILE).exists(), "it is tried again the next time"
