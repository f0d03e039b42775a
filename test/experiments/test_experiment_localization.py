"""Ways of finding a camera side by side: measured once, read again, told with spread, gone on with where it was
stopped.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support.pages import read_page

from pose2rgbd_ros.cli.main import main
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.poses import localize, scores
from pose2rgbd_ros.experiments import localization as module
from pose2rgbd_ros.experiments import run
from pose2rgbd_ros.experiments.localization import (
    LocalizationConfig,
    Outcome,
    Place,
    Row,
    findings,
    job,
    markdown,
    read_frames,
    run_localization,
    split_of,
)
from pose2rgbd_ros.experiments.saliency import Saliency
from pose2rgbd_ros.localization.localizer import Localizer
from pose2rgbd_ros.models.posegan.config import PoseGANSettings
from pose2rgbd_ros.settings import read_yaml, write_yaml
from pose2rgbd_ros.training.checkpoint import load_checkpoint
from pose2rgbd_ros.training.config import resolve_recipe
from pose2rgbd_ros.training.trainer import train


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory, flight_dataset: Callable[..., Path]) -> Path:
    return flight_dataset(tmp_path_factory.mktemp("data") / "redkitchen", frames=30)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("localization")


def config(**settings: Any) -> LocalizationConfig:
    values = {
        "models": ("posenet", "posegan-a"), "finders": ("retrieval", "structure", "mean-pose"), "sizes": (32,),
        "seeds": 2, "minutes": 1.0, "epochs": 1, "width": 0.125, "saliency": 1, "device": "cpu",
        "variants": ("gain=6",), "posegan": PoseGANSettings(gain=4.0),  # of less, two steps leave it collapsed
    }  # fmt: skip
    return LocalizationConfig(**{**values, **settings})


@pytest.fixture(scope="module")
def outcome(flight: Path, out: Path) -> Outcome:
    return run_localization(out, config(), [flight])


def test_the_tables_tell_every_method_with_its_spread_and_the_papers_figures(outcome: Outcome, out: Path) -> None:
    text = markdown(outcome)
    assert text == (out / "tables.md").read_text()
    table = text[: text.index("Where the networks look")]
    lines = {}
    for line in filter(lambda line: line.startswith("|"), table.splitlines()):
        name, _, variant = (cell.strip() for cell in line.split("|")[1:4])
        lines[f"{name} {variant}".strip()] = line
    assert "PoseGAN-configA gain=6" in lines
    assert not any(name.startswith("PoseNet") and "gain" in name for name in lines), "it has no such norm"
    assert "PoseGAN-configA at 32 px, against its own settings: gain=6 " in text
    assert "0.49 / 8.59" in lines["PoseGAN-configA"]
    assert "0.3 / 12.3" in lines["retrieval"]
    assert all("±" in lines[name] for name in ("PoseGAN-configA", "retrieval"))
    assert "PoseNet on PoseGAN's trunk" in lines
    rows = list(csv.DictReader((out / "tables.csv").open()))
    assert {(row["method"], row["seed"], row["images"]) for row in rows} == {
        (method, seed, images)
        for method in ("posenet", "posegan-a", "retrieval", "structure", "mean-pose")
        for seed in "01"
        for images in ("colour", "grey")
    }
    for picture in ("redkitchen-curves.png", "redkitchen-saliency-32.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")
    page = read_page(out / "index.html")
    assert page.files == ["redkitchen-curves.png", "redkitchen-saliency-32.png"]
    assert page.tables[0][0][:4] == ["method", "px", "settings", "position (m)"]
    assert page.tables[0][0][4:6] == ["orientation (°)", "paper: redkitchen"]
    assert not any("choose prefer" in line for line in text.splitlines()), "no frames choose in so short a flight"
    assert len(page.tables) == 2, "the methods, and where the networks look"
    assert "is nearest, median position error" in page.verdict[1]


def test_all_methods_of_a_seed_are_measured_on_the_same_frames(outcome: Outcome) -> None:
    """Without a split of its own the dataset is split by each seed anew; what a row says is what its frames say."""
    for seed in (0, 1):
        stamps = {
            tuple(int(line["stamp_ns"]) for line in csv.DictReader((row.run / "frames.csv").open()))
            for row in outcome.places[0].rows
            if row.seed == seed
        }
        assert len(stamps) == 1
    for row in outcome.places[0].rows:
        again = scores(*read_frames(row.run / "frames.csv"))
        assert again["rejected"] == row.scores["colour"]["rejected"]
        assert again["median_position_m"] == pytest.approx(
            row.scores["colour"]["median_position_m"], rel=1e-4, nan_ok=True
        )


def test_frames_that_choose_are_in_no_figure_of_the_table(tmp_path: Path, flight_dataset: Callable[..., Path]) -> None:
    """They say which settings to prefer, apart from the frames that judge."""
    longer = flight_dataset(tmp_path / "longer", frames=80)
    chosen = config(models=("posegan-a",), finders=("mean-pose",), seeds=1, saliency=0)
    rows = run_localization(tmp_path / "out", chosen, [longer]).places[0].rows
    split = split_of(Dataset(longer), chosen, 0)
    assert len(split.choose) == len(split.judge) == 8
    for row in rows:
        stamps = [int(line["stamp_ns"]) for line in csv.DictReader((row.run / "frames.csv").open())]
        assert stamps == Dataset(longer).stamps_ns[split.judge].tolist()
    plain, varied_row = (row for row in rows if row.size)
    asked = localize(Localizer(plain.run, "cpu"), Dataset(longer), split.choose, False, "").scores()
    assert plain.scores["choose"]["median_position_m"] == pytest.approx(asked["median_position_m"], rel=1e-6)
    text = (tmp_path / "out/tables.md").read_text()
    best = min((plain, varied_row), key=lambda row: row.scores["choose"]["median_position_m"])
    metres = best.scores["choose"]["median_position_m"]
    assert f"The frames that choose prefer {best.variant or 'its own settings'} ({metres:.3g} m" in text
    result = plain.run / "localized.yaml"
    values = read_yaml(result)
    del values["measured_on"]
    write_yaml(result, values)
    with pytest.raises(UserError, match="measured on frames that choose as well, by an earlier version"):
        run_localization(tmp_path / "out", chosen, [longer])


def test_collapsed_networks_are_named_and_compared_with_nothing(tmp_path: Path) -> None:
    def row(method: str, seed: int, metres: float, collapsed: str = "") -> Row:
        kinds = {kind: {"median_position_m": metres, "rejected": 0, "frames": 1} for kind in ("colour", "grey")}
        effort = {"epochs": 1.0, "parameters": 1}
        return Row(method, tmp_path, 32, seed, kinds, effort, collapsed=collapsed)

    names = ("posegan", "posegan-c", "posegan-b", "posegan-a")
    rows = [row(name, seed, 2.0 + i) for i, name in enumerate(names) for seed in range(3)]
    rows[0] = row("posegan", 0, 9.0, "collapsed: try a --learning-rate other than 0.001")
    place = Place(tmp_path, "a place", None, rows)
    order = next(findings(place))
    assert "15 of 15 hold" in order, "three comparisons have two seeds each"
    assert "full - A -3 m (-3 to -3)" in order
    text = markdown(Outcome(config(saliency=0), "a machine", "cpu", [place]))
    assert "PoseGAN, seed 0, is left out: collapsed: try a --learning-rate other than 0.001." in text
    assert "9.00" not in text


def test_settings_that_collapsed_with_a_seed_are_not_preferred(tmp_path: Path) -> None:
    """Or the seed that it fared worst with would not count."""
    rows = []
    for variant, metres in (("", (3.0, 3.0)), ("gain=1", (2.5, 2.5)), ("alpha=1", (1.0, 9.0))):
        for seed, value in enumerate(metres):
            kinds = {kind: {"median_position_m": value} for kind in ("colour", "grey", "choose")}
            collapsed = "collapsed" if value == 9.0 else ""
            rows.append(Row("posegan", tmp_path, 32, seed, kinds, variant=variant, collapsed=collapsed))
    told = list(findings(Place(tmp_path, "", None, rows)))
    assert "The frames that choose prefer gain=1 (2.5 m; its own settings 3 m)." in told
    assert any("against its own settings: gain=1 -0.5 m (-0.5 to -0.5)." in line for line in told)


def test_what_is_finished_is_not_done_again(
    outcome: Outcome, flight: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "train", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.setattr(module, "localize", lambda *_, **__: pytest.fail("measured again"))
    again = run_localization(out, config(saliency=0), [flight])
    key = [(row.method, row.seed, row.scores) for row in again.places[0].rows]
    assert repr(key) == repr([(row.method, row.seed, row.scores) for row in outcome.places[0].rows])
    with pytest.raises(UserError, match=r"made with epochs=1, now it is 2"):
        run_localization(out, config(epochs=2), [flight])


def test_measuring_leaves_the_next_training_as_many_threads(
    outcome: Outcome, flight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a row's score would hang on whether it comes first."""
    done = next(row.run for row in outcome.places[0].rows if row.method == "posenet")
    before, threads = torch.get_num_threads(), []

    def finished(dataset: Path, path: Path, settings: Any, resume: bool = False) -> Any:
        threads.append(torch.get_num_threads())
        shutil.copytree(done, path)
        return SimpleNamespace(interrupted=False, stopped="", collapsed=False)

    monkeypatch.setattr(run, "train", finished)
    torch.set_num_threads(3)
    try:
        run_localization(tmp_path, config(seeds=1, finders=(), saliency=0, variants=()), [flight])
    finally:
        torch.set_num_threads(before)
    assert threads == [3, 3]


def test_a_stopped_experiment_keeps_what_it_has(flight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(dataset: Path, path: Path, settings: Any, resume: bool = False) -> Any:
        if settings.model == "posenet":
            raise KeyboardInterrupt
        return train(dataset, path, settings, resume)

    monkeypatch.setattr(run, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_localization(tmp_path, config(seeds=1, finders=("mean-pose",), variants=()), [flight])
    assert "mean training pose" in (tmp_path / "tables.md").read_text()


def test_what_cannot_be_done_is_told_in_its_row(tmp_path: Path, flight_dataset: Callable[..., Path]) -> None:
    colour = flight_dataset(tmp_path / "colour", frames=12, depth_kind=None)
    outcome = run_localization(tmp_path / "out", config(models=(), seeds=1, variants=()), [colour])
    assert [row.method for row in outcome.failed] == ["structure"]
    assert "structure, seed 0, is missing" in (tmp_path / "out/tables.md").read_text()


def test_the_order_of_the_ablation_is_counted_by_seed(tmp_path: Path) -> None:
    def row(method: str, seed: int, metres: float) -> Row:
        colour = {"median_position_m": metres}
        return Row(method, tmp_path, 32, seed, {"colour": colour, "grey": {"median_position_m": 2 * metres}})

    errors = {"posegan": (1.0, 2.0), "posegan-c": (2.0, 1.0), "posegan-b": (3.0, 3.0), "posegan-a": (4.0, 4.0)}
    place = Place(tmp_path, "", None, [row(name, seed, each[seed]) for name, each in errors.items() for seed in (0, 1)])
    place.rows += [row("posenet", 0, 1.0)]
    told = list(findings(place))
    assert "11 of 12 hold" in told[0]
    assert "posegan by a factor of 2.00, posenet by a factor of 2.00" in told[1]


def test_saliency_is_where_the_pose_depends_on_the_image(outcome: Outcome, flight: Path) -> None:
    """Against differences of the network's own error."""
    row = next(row for row in outcome.places[0].rows if row.method == "posenet")
    checkpoint, dataset = load_checkpoint(row.run), Dataset(flight)
    found = Saliency(checkpoint)
    rgb = np.full((32, 32, 3), 128, np.uint8)
    rgb[8:20, 8:24] = (200, 90, 40)
    given, free = found.of(rgb, dataset.T_map_cam[3]), found.of(rgb)
    assert given.shape == (32, 32)
    assert given.max() > 0
    assert (
        free >= given * (1 - 1e-4)
    ).all()  # the error's gradient is a mix, of length 1, of the pose numbers' gradients


def test_a_job_has_the_time_and_width_that_were_asked_for(tmp_path: Path) -> None:
    chosen = job("posegan-c", 64, 2, tmp_path / "place", config(minutes=3.0, sizes=(64,), clock="wall"))
    assert chosen is not None
    assert chosen.name == "place-posegan-c-64-seed2"
    assert (chosen.config.max_minutes, chosen.config.clock, chosen.config.seed) == (3.0, "wall", 2)
    assert (chosen.config.posegan.width, chosen.config.size) == (0.125, 64)
    assert chosen.config.keep == "last", "the frames it is measured on must not choose its weights"


def test_a_job_has_as_many_steps_as_were_asked_for_or_the_paper_s(tmp_path: Path) -> None:
    """The paper's for all of its networks; PoseNet, which is not in it, has ours and as many steps."""
    free = {"minutes": None, "epochs": None, "variants": ()}
    for model in ("posegan", "posegan-a", "posenet"):
        asked = job(model, 32, 0, tmp_path, config(**free, steps=7))
        assert asked is not None
        assert (asked.config.steps, asked.config.max_minutes, asked.config.recipe_name) == (7, None, "default")
        assert resolve_recipe(asked.config).steps == 7
        paper = job(model, 32, 0, tmp_path, config(**free, recipe="paper"))
        assert paper is not None
        assert (resolve_recipe(paper.config).steps, paper.config.max_minutes) == (100_000, None)
        assert paper.config.recipe_name == ("default" if model == "posenet" else "paper")
    assert config(**free).length == (None, 5.0)
    assert config(**{**free, "minutes": 2.0}, recipe="paper").length == (None, 2.0)


def test_a_variant_is_a_job_of_its_own_where_it_means_something(tmp_path: Path) -> None:
    chosen = config(
        models=("posegan", "posegan-a"), variants=("alpha=1e-1,pose-range=joint", "pull_ramp=true,pixel_norm=euclidean")
    )
    full, regressor = (
        [job(model, 32, 1, tmp_path / "place", chosen, variant) for variant in chosen.variants]
        for model in chosen.models
    )
    assert [each.name for each in full if each] == [
        "place-posegan-32-seed1-alpha=1e-1,pose-range=joint",
        "place-posegan-32-seed1-pull_ramp=true,pixel_norm=euclidean",
    ]  # fmt: skip
    assert full[0] is not None
    assert (full[0].config.posegan.alpha, full[0].config.pose_range, full[0].config.posegan.width) == (
        0.1, "joint", 0.125,
    )  # fmt: skip
    assert full[1] is not None
    assert (full[1].config.posegan.pull_ramp, full[1].config.posegan.pixel_norm) == (True, "euclidean")
    assert regressor[0] is not None, "of the poses it learns by"
    assert regressor[1] is None


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"variants": ("beta=1",)}, r"--variants has 'beta=1' \(no setting"),
        ({"variants": ("alpha",)}, "write NAME=VALUE"),
        ({"variants": ("seed=3",)}, "the experiment sets it"),
        ({"variants": ("gain=much",)}, "its value must be a number"),
        ({"variants": ("blocks=2.5",)}, "its value must be of type"),
        ({"variants": ("crop=left",)}, "posegan.crop is 'left'; choose one of"),
        ({"variants": ("gain=99",)}, "must be at most 10"),
        ({"variants": ("gain=1", "gain=1")}, "something is there twice"),
        ({"variants": ("alpha=1",)}, "alpha=1 means nothing to posenet, posegan-a"),
        ({"steps": 5}, "--steps and --epochs"),
        ({"models": ("posegan", "base")}, "--models: 'base' is unknown"),
        ({"sizes": (32, 32)}, "--sizes: something is there twice"),
        ({"finders": ("oracle",)}, "--finders: 'oracle' is unknown"),
        ({"sizes": ()}, "nothing to compare"),
    ],
)
def test_settings_that_make_no_sense_are_told(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        config(**settings)


def test_the_command_tells_a_dataset_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["experiments", "localization", "--dataset", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert capsys.readouterr().err.startswith("error: ")
