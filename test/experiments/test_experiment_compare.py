"""A comparison of models: trained once, read again, written so far as it went, and timed in a process of its own."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.experiments import compare as module
from pose2rgbd_ros.experiments import run
from pose2rgbd_ros.experiments.compare import CompareConfig, Comparison, compare, jobs, markdown
from pose2rgbd_ros.experiments.run import render_cost
from pose2rgbd_ros.settings import read_yaml
from pose2rgbd_ros.training.trainer import train

COST = {"backend": "torch", "clock": "cpu", "loaded_mb": 300.0, "ms": {"32": 1.5}, "peak_mb": {"32": 400.0}}


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory, flight_dataset: Callable[..., Path]) -> Path:
    return flight_dataset(tmp_path_factory.mktemp("data") / "flight")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compare")


def config(**settings: Any) -> CompareConfig:
    values = {"models": ("warp-3", "base", "gsplat"), "epochs": 1, "seeds": 2, "size": 32}
    return CompareConfig(**{**values, "device": "cpu", "render_sizes": (32,), **settings})


@pytest.fixture(scope="module")
def compared(flight: Path, out: Path) -> Comparison:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "render_cost", lambda *_: COST)
        return compare(flight, out, config())


def test_the_table_tells_quality_by_group_and_cost(compared: Comparison, out: Path) -> None:
    text = markdown(compared)
    assert text == (out / "compare.md").read_text()
    for part in ("### Random", "### Held-out lines", "### Cost", "over 2 seeds"):
        assert part in text
    assert "gsplat is missing: model gsplat needs a CUDA GPU" in text
    warp, base = (next(line for line in text.splitlines() if line.startswith(f"| {n} |")) for n in ("warp-3", "base"))
    assert float(warp.split("|")[3].split("±")[0]) < float(base.split("|")[3].split("±")[0])
    assert "*nearest frame*" in text
    rows = list(csv.DictReader((out / "compare.csv").open()))
    assert {(row["model"], row["seed"]) for row in rows} == {
        (name, seed) for name in ("warp-3", "base") for seed in "01"
    }
    assert {row["method"] for row in rows} == {"model", "mean_image", "nearest_frame"}
    for row in rows:
        measured = next(each for each in compared.models if each.entry.name == row["model"]).measured
        report = read_yaml(measured[int(row["seed"])].run / "report" / "metrics.yaml")
        scores = report["group_scores"][row["group"]][row["method"]]
        for name in ("rgb_mae_px", "psnr_db", "depth_mae"):
            assert float(row[name]) == pytest.approx(scores[name], rel=1e-3), f"{row['model']}: {name}"
    assert (out / "compare.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_finished_is_not_done_again(
    compared: Comparison, flight: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "render_cost", lambda *_: pytest.fail("timed again"))
    one = config(models=("warp-3", "base"))
    monkeypatch.setattr(run, "train", lambda *_, **__: pytest.fail("trained again"))
    again = compare(flight, out, one)
    before = {each.entry.name: each for each in compared.models}
    for each in again.models:
        assert [seed.groups for seed in each.seeds] == [seed.groups for seed in before[each.entry.name].seeds]
        assert each.cost == COST
    with pytest.raises(UserError, match=r"made with epochs=1, now it is 2"):
        compare(flight, out, config(models=("base",), epochs=2))


def test_rendering_is_timed_in_a_process_of_its_own(flight: Path, out: Path, compared: Comparison) -> None:
    cost = render_cost(compared.models[0].seeds[0].run, (48, 32), "cpu", 1)
    assert list(cost["ms"]) == ["32", "48"]
    assert all(value > 0 for value in cost["ms"].values())
    assert 50 < cost["loaded_mb"] <= cost["peak_mb"]["32"] <= cost["peak_mb"]["48"] < 4000


def test_what_the_process_complains_of_is_told(out: Path) -> None:
    with pytest.raises(UserError, match="there is no checkpoint"):
        render_cost(out / "nothing", (32,), "cpu", 1)


def test_a_stopped_comparison_keeps_what_it_has(flight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped_at_base(dataset: Path, path: Path, settings: Any, resume: bool = False) -> Any:
        if settings.model == "base":
            raise KeyboardInterrupt
        return train(dataset, path, settings, resume)

    monkeypatch.setattr(run, "train", stopped_at_base)
    monkeypatch.setattr(module, "render_cost", lambda *_: COST)
    with pytest.raises(KeyboardInterrupt):
        compare(flight, tmp_path, config(models=("warp-3", "base"), seeds=1))
    assert "| warp-3 | 32 |" in (tmp_path / "compare.md").read_text()


def test_a_model_may_have_a_size_of_its_own(tmp_path: Path) -> None:
    small, large = config(models=("relief", "relief@512")).entries()
    assert (small.model, small.size, large.model, large.size) == ("relief", 32, "relief", 512)
    planned = jobs(large, tmp_path, config(minutes=3.0), "cpu")
    assert [job.config.seed for job in planned] == [0, 1]
    assert {(job.config.size, job.config.max_minutes, job.config.clock) for job in planned} == {(512, 3.0, "cpu")}


def test_a_model_may_have_settings_of_its_own(tmp_path: Path) -> None:
    plain, auto = config(models=("relief", "relief@64,memory=auto")).entries()
    planned = [jobs(entry, tmp_path, config(), "cpu")[0] for entry in (plain, auto)]
    assert [job.name for job in planned] == ["relief-32-seed0", "relief,memory=auto-64-seed0"]
    assert [(job.config.size, job.config.relief.memory) for job in planned] == [(32, "none"), (64, "auto")]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"models": ()}, "no models to compare"),
        ({"models": ("base", "base")}, "named twice"),
        ({"models": ("base", "base@32")}, "named twice"),
        ({"models": ("warp-x",)}, "unknown model 'warp-x'"),
        ({"models": ("relief@9",)}, "model@pixels"),
        ({"models": ("relief,memories=full",)}, "--models has 'memories=full' .*no setting.*memory"),
        ({"models": ("relief,seed=2",)}, "--models has 'seed=2' .the experiment sets it"),
        ({"models": ("base,bce_weight=2",)}, "bce_weight=2 means nothing to base"),
        ({"render_sizes": (8,)}, "--render-sizes must lie in"),
    ],
)
def test_bad_settings_are_told(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        config(**settings)


def test_a_folder_that_cannot_be_made_ends_it(flight: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot make the folder"):
        compare(flight, tmp_path / "file" / "out", config(models=("warp-3",), seeds=1))


def test_the_command_tells_a_dataset_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiments", "compare", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
