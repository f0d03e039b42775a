"""The paper's tables: what is in them, how they are printed, and all of it once in small."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.pages import read_page

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.experiments.run import Measured
from pose2rgbd_ros.experiments.tables import (
    Filled,
    Outcome,
    TablesConfig,
    config_of,
    differences,
    finding,
    markdown,
    run_tables,
    tables,
    write_relative_twin,
    write_report,
)
from pose2rgbd_ros.settings import read_yaml


def scored(rgb: float, depth: float, tmp_path: Path, choose: float = 1.0) -> Measured:
    worse = {"model": 0.0, "mean_image": 10.0, "nearest_frame": 20.0}
    groups = {
        group: {name: {"rgb_mae_px": rgb + more, "depth_mae": depth + more} for name, more in worse.items()}
        for group in ("random", "held-out lines")
    }
    effort = {"epochs": 12.34, "slope_depth_mae": -0.02}
    return Measured(tmp_path, groups, effort=effort, choose={"depth_mae": choose})


def test_the_plan_is_the_papers_three_tables() -> None:
    planned = tables(TablesConfig(further=False))
    assert [(table.number, table.place, len(table.rows)) for table in planned] == [
        (1, "synthetic", 6),
        (2, "synthetic", 8),
        (3, "real", 4),
    ]
    # The paper's own words on table 1, which its figures bear out: what RGBD loses against one output alone.
    rows = {row.cells: row.paper for row in planned[0].rows}
    assert rows["6DoF-Quat", "RGBD"][0] / rows["6DoF-Quat", "RGB"][0] == pytest.approx(1.0165, abs=1e-3)
    assert rows["6DoF-Quat", "RGBD"][1] / rows["6DoF-Quat", "Depth"][1] == pytest.approx(1.0464, abs=3e-3)
    # Base with quaternions is the same training in tables 1 and 2, so the same figures of the paper.
    shared = {row.name: row.paper for row in planned[0].rows}
    again = {row.name: row.paper for row in planned[1].rows if row.name in shared}
    assert again == {name: shared[name] for name in again}
    assert len(again) == 2


def test_each_row_is_a_training_of_its_own_name() -> None:
    rows = {row.name: row.settings for table in tables(TablesConfig())[:2] for row in table.rows}
    assert len(rows) == 6 + 8 - 2 + 3
    assert rows["base-quaternion-rgbd-adversarial-consistency"]["adversarial_weight"] == 0.003
    paper = config_of(tables(TablesConfig())[0].rows[0], TablesConfig(scale="paper").resolved())
    assert paper is not None
    assert (paper.size, paper.epochs, paper.recipe, paper.max_minutes) == (512, 100, "paper", None)
    small = config_of(tables(TablesConfig())[0].rows[0], TablesConfig(minutes=2.0, device="cpu").resolved())
    assert small is not None
    assert small.keep == "last", "all rows are equally long"
    assert (small.size, small.max_minutes, small.clock, small.rotation) == (128, 2.0, "cpu", "euler")


def test_markdown_puts_the_paper_beside_ours(tmp_path: Path) -> None:
    table = tables(TablesConfig(tables="1"))[0]
    rows = [(row, scored(30.0, 5.0, tmp_path)) for row in table.rows]
    del rows[0][1].groups["random"]["model"]["rgb_mae_px"]
    rows[1] = (rows[1][0], Measured(tmp_path, error="the loss is not finite"))
    rows[2][1].collapsed = True
    text = markdown(Outcome(TablesConfig().resolved(), "a machine", [Filled(table, tmp_path, "a city", rows)]))
    assert "| 6DoF | Depth | n/a | 8.2 | n/a | 5.00 | 30.00 | 5.00 | 12.3 | -2 % |" in text
    assert "| 6DoF | RGB | 20.96 | n/a | n/a | n/a | n/a | n/a |  |  |" in text
    assert "| *mean image* |  | n/a | n/a | 40.00 | 15.00 | 40.00 | 15.00 |  |  |" in text
    assert "6DoF RGB was not trained: the loss is not finite" in text
    assert "Left out, collapsed to nearly one image, whatever the pose: 6DoF RGBD." in text
    assert "| 6DoF | RGBD |" not in text
    assert "Measured on a city." in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert len(widths) == 1, "every line has the header's columns"


def test_the_papers_findings_are_counted(tmp_path: Path) -> None:
    table = tables(TablesConfig(tables="2"))[0]
    # Depth alone: Slice-10 better than Base, the others worse; RGBD: all better in colour, worse in depth.
    figures = {
        "Base": (30.0, 5.0), "Slice-10": (29.0, 4.0), "Slice-32": (29.0, 6.0), "Slice-64": (29.0, 6.0),
        "Base + both": (1.0, 1.0),
    }  # fmt: skip
    rows = [(row, scored(*figures.get(row.cells[0], (99.0, 99.0)), tmp_path)) for row in table.rows]
    for row, each in rows:
        for methods in each.groups.values():
            if row.cells[1] == "Depth":
                del methods["model"]["rgb_mae_px"]
    said = finding(2, rows, ["random"])
    assert "9 of 9 (the paper), 5 of 9 (ours, random)" in said
    assert finding(2, rows[:2], ["random"]) == "", "nothing to compare yet"


def test_rows_are_compared_seed_by_seed_with_the_settings_that_choosing_frames_prefer(tmp_path: Path) -> None:
    """Not with those that happen to be best on the frames that judge; and what collapsed with nothing."""
    plan = [row for row in tables(TablesConfig(tables="2"))[0].rows if row.cells[1] == "Depth"]
    base, slice_10, slice_32, _ = plan
    rows = []
    for seed, more in enumerate((0.0, 0.2, 0.4)):
        for row, depth, choose in (
            (replace(base, variant=""), 9.0, 3.0),
            (replace(base, variant="learning_rate=0.001"), 5.0 + more, 2.0),  # the frames that choose take this ...
            (replace(base, variant="learning_rate=0.01"), 1.0, 4.0),  # ... not what is best where nothing may look
            (slice_10, 4.0, 1.0),
            (slice_32, 2.0, 0.5),
        ):
            rows.append((replace(row, seed=seed), scored(0.0, depth, tmp_path, choose)))
            for methods in rows[-1][1].groups.values():
                del methods["model"]["rgb_mae_px"]
            rows[-1][1].collapsed = row is slice_32
    assert "2 of 2 (the paper), 3 of 3 (ours, random)" in finding(2, rows, ["random"])
    filled = Filled(tables(TablesConfig(tables="2"))[0], tmp_path, "a city", rows)
    apart = differences(filled)
    assert apart is not None
    assert [row[:5] for row in apart.body] == [
        ["Slice-10 - Base", "Depth", "random", "depth", "3"],
        ["Slice-10 - Base", "Depth", "lines", "depth", "3"],
    ]
    assert [apart.rows[0][name] for name in ("difference", "from", "to")] == pytest.approx(
        [-1.2, -1.697, -0.703], abs=1e-3
    )
    text = markdown(Outcome(TablesConfig(seeds=3).resolved(), "a machine", [filled]))
    assert (
        "| Base | Depth | learning_rate=0.001 | n/a | 8.02 | n/a | 5.20 ± 0.20 | n/a | 5.20 ± 0.20 | 12.3 | -2 ± 0 % |"
        in text
    )
    assert "prefer, before a row's own settings: Base Depth, learning_rate=0.001; Base Depth, learning" in text
    assert "Left out, collapsed to nearly one image, whatever the pose: Slice-32 Depth; Slice-32 Depth, seed 1;" in text
    assert "| Slice-32 |" not in text


def test_equal_epochs_seeds_and_settings_of_each_row() -> None:
    config = TablesConfig(epochs=30, seeds=2, variants=("bce_reduction=sum", "learning_rate=1e-3")).resolved()
    assert (config.minutes, config.epochs) == (None, 30), "no time that ends some rows sooner"
    assert TablesConfig(epochs=30, minutes=2.0).resolved().minutes == 2.0
    assert TablesConfig().resolved().minutes == 5.0
    base, slice_10 = (
        next(row for row in tables(config)[1].rows if row.cells[0] == name) for name in ("Base", "Slice-10")
    )
    assert config_of(replace(base, variant="bce_reduction=sum"), config) is None
    summed = config_of(slice_10, replace(config, bce_reduction="sum"))
    assert summed is not None
    assert summed.bce_reduction == "sum"
    row = replace(slice_10, variant="bce_reduction=sum", seed=1)
    chosen = config_of(row, config)
    assert chosen is not None
    assert (chosen.bce_reduction, chosen.seed, chosen.epochs) == ("sum", 1, 30)
    assert row.name == "slice-10-quaternion-depth-bce_reduction=sum-seed1"
    assert config_of(replace(base, variant="learning_rate=1e-3"), config).learning_rate == 1e-3
    with pytest.raises(UserError, match="no setting"):
        TablesConfig(variants=("bce=sum",))


def test_files_say_the_same(tmp_path: Path) -> None:
    table = tables(TablesConfig(tables="3"))[0]
    rows = [(row, scored(30.0 + i, 0.5, tmp_path)) for i, row in enumerate(table.rows)]
    write_report(tmp_path, Outcome(TablesConfig(), "m", [Filled(table, tmp_path, "a <city>", rows)]), False)
    lines = list(csv.DictReader(io.StringIO((tmp_path / "tables.csv").read_text())))
    assert len(lines) == 4 * 2 * 3
    assert lines[-3]["rgb_mae_px"] == "33.0"
    values = read_yaml(tmp_path / "tables.yaml")
    assert values["tables"][0]["rows"][3]["groups"]["random"]["model"]["rgb_mae_px"] == 33.0
    page = read_page(tmp_path / "index.html")
    assert "Measured on a <city>." in page.text
    assert page.verdict == ("neutral", "4 networks trained and measured.")
    assert page.styles[0][-2:] == ["muted", "muted"]
    assert "33.00" in page.tables[0][4]


def test_a_twin_with_relative_depth_keeps_all_but_the_unit(tmp_path: Path, flight_dataset: Callable[..., Path]) -> None:
    source = flight_dataset(tmp_path / "metric", frames=6)
    for seed, name in ((1, "a"), (1, "b"), (2, "c")):
        write_relative_twin(source, tmp_path / name, seed)
    metric, *twins = (Dataset(tmp_path / name) for name in ("metric", "a", "b", "c"))
    assert all(twin.depth_kind == "relative" for twin in twins)
    assert np.array_equal(metric.stamps_ns, twins[0].stamps_ns)
    assert np.allclose(metric.T_map_cam, twins[0].T_map_cam, atol=1e-6)
    assert np.array_equal(metric.rgb(3), twins[0].rgb(3))
    factor = metric.depth(0) / twins[0].depth(0)
    known = np.isfinite(metric.depth(0))
    assert np.array_equal(known, np.isfinite(twins[0].depth(0)))
    assert np.ptp(factor[known]) < 1e-3 * factor[known].mean(), "one factor"
    assert np.allclose((metric.depth(5) / twins[0].depth(5))[np.isfinite(metric.depth(5))], factor[known][0])
    assert np.array_equal(twins[0].depth(2), twins[1].depth(2), equal_nan=True), "the seed decides it"
    assert not np.array_equal(twins[0].depth(2), twins[2].depth(2), equal_nan=True)


@pytest.mark.slow
def test_table_three_in_small_and_again(
    tmp_path: Path, flight_dataset: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    real = flight_dataset(tmp_path / "real", frames=16, depth_kind="metric")
    out = tmp_path / "tables"
    command = ["experiments", "tables", "--out", str(out), "--real", str(real), "--tables", "3"]
    command += ["--size", "32", "--epochs", "1", "--device", "cpu"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert printed.startswith((out / "tables.md").read_text())
    assert "| Slice-10 | Depth | n/a | 0.0147 |" in printed or "Slice-10 Depth" in printed, "in the table or left out"
    assert {file.name for file in out.iterdir()} == {
        "index.html", "index.json", "datasets", "runs", "table3.png", "tables.csv", "tables.md", "tables.yaml",
    }  # fmt: skip
    assert "its depth divided by an unknown factor: 16 frames" in printed
    trained = {file: file.stat().st_mtime_ns for file in out.glob("runs/*/checkpoint/weights.safetensors")}
    assert len(trained) == 4
    assert main(command) == 0
    assert capsys.readouterr().out == printed
    assert all(file.stat().st_mtime_ns == before for file, before in trained.items()), "nothing trained again"
    for file in trained:  # as rows that were measured on another machine
        shutil.rmtree(file.parent)
    assert main(command) == 0
    assert capsys.readouterr().out == printed


def test_what_cannot_be_asked(
    tmp_path: Path, flight_dataset: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    blind = flight_dataset(tmp_path / "blind", frames=5, depth_kind=None)
    with pytest.raises(UserError, match=r"has no depth; --real takes one with relative depth"):
        run_tables(tmp_path / "out", TablesConfig(tables="3", device="cpu"), real=blind)
    relative = flight_dataset(tmp_path / "relative", frames=5, depth_kind="relative")
    with pytest.raises(UserError, match=r"has relative depth; --dataset takes one with metric depth"):
        run_tables(tmp_path / "out", TablesConfig(tables="1", device="cpu"), dataset=relative)
    assert main(["experiments", "tables", "--scale", "paper", "--device", "cpu"]) == 2
    assert "--scale cpu, or --force" in capsys.readouterr().err
    assert main(["experiments", "chairs"]) == 2
    assert "experiments has no 'chairs'" in capsys.readouterr().err
