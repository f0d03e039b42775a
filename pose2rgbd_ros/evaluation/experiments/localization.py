"""Ways of finding a camera side by side, each network trained for the same time; stopped and called again it goes on."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.splits import Split
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.evaluation.experiments.localization_paper import scene_of
from pose2rgbd_ros.evaluation.experiments.localization_plan import LocalizationConfig, job, place_name
from pose2rgbd_ros.evaluation.experiments.run import Job, effort_of, make_folder, read_result, train_job
from pose2rgbd_ros.evaluation.finders import Finders
from pose2rgbd_ros.evaluation.localization import localize, write_csv
from pose2rgbd_ros.evaluation.machine import machine
from pose2rgbd_ros.localization.estimate import Finder
from pose2rgbd_ros.localization.localizer import Localizer
from pose2rgbd_ros.settings import read_yaml, write_yaml
from pose2rgbd_ros.sim.dataset import SimDatasetConfig, write_sim_dataset
from pose2rgbd_ros.sim.flights import FlightConfig
from pose2rgbd_ros.training.checkpoint import load_checkpoint
from pose2rgbd_ros.training.config import TrainConfig
from pose2rgbd_ros.training.data import make_split
from pose2rgbd_ros.training.device import pick_device

logger = logging.getLogger(__name__)

RUNS, DATASETS = "runs", "datasets"
RESULT_FILE = "localized.yaml"  # in a run's folder, once it is trained and measured
FRAMES_FILES = {"colour": "frames.csv", "grey": "frames_grey.csv"}


@dataclass
class Row:
    """What came of one method (and size and seed, of networks).

    scores: "colour" and "grey" -> measure -> number, as :func:`evaluation.localization.scores` has them.
    run: its folder, with a line a frame in FRAMES_FILES. error: why there are no scores.
    """

    method: str
    run: Path
    size: int | None = None
    seed: int = 0
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    effort: dict[str, Any] = field(default_factory=dict)
    error: str = ""


@dataclass
class Place:
    """A dataset: what was measured on it so far, and on what. scene: the paper's, where it is one."""

    dataset: Path
    words: str
    scene: str | None
    rows: list[Row] = field(default_factory=list)


@dataclass
class Outcome:
    """All of the experiment."""

    config: LocalizationConfig
    machine: str
    clock: str
    places: list[Place] = field(default_factory=list)

    @property
    def failed(self) -> list[Row]:
        return [row for place in self.places for row in place.rows if row.error]


def run_localization(out: Path, config: LocalizationConfig, datasets: list[Path]) -> Outcome:
    """Train and measure every row; the files of :mod:`localization_report` are there from the first row on.

    Seed 0 of everything comes first, so that an experiment stopped early has all methods.

    Raises:
        UserError: a bad dataset, two of one name, `out` made with other settings, CUDA asked for and absent.
        KeyboardInterrupt: somebody stopped it; the same command goes on.
    """
    from pose2rgbd_ros.evaluation.experiments.localization_report import write_report

    device = pick_device(config.device)
    datasets = datasets or [_simulated(out / DATASETS / "place", config)]
    places = [place_name(path) for path in datasets]
    if len(set(places)) < len(places):
        raise UserError(f"two datasets are called {max(places, key=places.count)}; rename the folder of one")
    outcome = Outcome(config, machine(device), config.clock_on(device))
    make_folder(out / RUNS)
    for path in datasets:
        dataset = Dataset(path)
        names = [path.resolve().name, *(source.name for source in dataset.meta.sources)]
        outcome.places.append(Place(path, _words(dataset, config), scene_of(names)))
    for seed in range(config.seeds):
        for place in outcome.places:
            for row in _rows(out / RUNS, place, seed, config):
                place.rows.append(row)
                write_report(out, outcome, pictures=False)
    write_report(out, outcome, pictures=True)
    return outcome


def split_of(dataset: Dataset, config: LocalizationConfig, seed: int) -> Split:
    """The frames that every method of a seed has, and those it is measured on."""
    return make_split(dataset, config.split, TrainConfig().test_fraction, seed)


def _rows(folder: Path, place: Place, seed: int, config: LocalizationConfig) -> Iterator[Row]:
    """The rows of one seed, one after the other as they are ready."""
    dataset = Dataset(place.dataset)
    split = split_of(dataset, config, seed)
    finders = Finders(dataset, split.train)
    for method in config.finders:
        row = _finder_row(folder, method, finders, dataset, split, seed)
        if row is not None:
            yield row
    for size in config.sizes:
        for model in config.models:
            logger.info("%s: %s, %d px, seed %d", place_name(place.dataset), model, size, seed)
            yield _network_row(folder, job(model, size, seed, place.dataset, config), dataset, split)


def _network_row(folder: Path, task: Job, dataset: Dataset, split: Split) -> Row:
    run = folder / task.name
    row = Row(task.config.model, run, task.config.size, task.config.seed)
    if (run / RESULT_FILE).exists():
        return _filled(row, read_result(run / RESULT_FILE, task))
    try:
        train_job(task, run)
    except UserError as error:  # one row must not cost the table
        logger.warning("%s: %s", task.name, error)
        row.error = str(error)
        return row
    row.effort = effort_of(load_checkpoint(run), run)
    threads = torch.get_num_threads()
    try:
        _measure(row, Localizer(run, task.config.device), dataset, split.test)
    finally:
        torch.set_num_threads(
            threads
        )  # a localizer takes one; the next training shall have as many as this one had
    write_yaml(run / RESULT_FILE, {"job": task.to_dict(), "scores": row.scores, "effort": row.effort})
    return row


def _finder_row(
    folder: Path, method: str, finders: Finders, dataset: Dataset, split: Split, seed: int
) -> Row | None:
    """None where the split is that of an earlier seed: the answer would be the same."""
    facts = {"dataset": str(dataset.path), "split": _digest(split), "frames": len(dataset)}
    run = folder / f"{place_name(dataset.path)}-{method}-{facts['split']}"
    row = Row(method, run, seed=seed)
    if (run / RESULT_FILE).exists():
        before = read_yaml(run / RESULT_FILE)
        told = before.pop("job")
        if {name: told.get(name) for name in facts} != facts:
            raise UserError(
                f"{run} was made on {told.get('dataset')}; choose another --out, or remove that folder"
            )
        return _filled(row, before) if told["seed"] == seed else None
    logger.info("%s: %s, seed %d", place_name(dataset.path), method, seed)
    try:
        finder = finders.named(method)
    except UserError as error:
        logger.warning("%s: %s", run.name, error)
        row.error = str(error)
        return row
    make_folder(run)
    _measure(row, finder, dataset, split.test)
    write_yaml(run / RESULT_FILE, {"job": {**facts, "seed": seed}, "scores": row.scores})
    return row


def _measure(row: Row, finder: Finder, dataset: Dataset, frames: np.ndarray) -> None:
    """Fill in the scores, and write a line a frame."""
    for kind, name in FRAMES_FILES.items():
        localized = localize(finder, dataset, frames, kind == "grey", f"{finder.name}, {kind}")
        row.scores[kind] = localized.scores()
        write_csv(row.run / name, localized)


def _filled(row: Row, values: dict[str, Any]) -> Row:
    row.scores, row.effort = values["scores"], values.get("effort", {})
    return row


def _digest(split: Split) -> str:
    return hashlib.sha256(split.train.tobytes() + split.test.tobytes()).hexdigest()[:8]


def _words(dataset: Dataset, config: LocalizationConfig) -> str:
    split = split_of(dataset, config, 0)
    kind = {"dataset": "its own split", "random": "frames held out at random"}.get(
        split.name, "stretches held out"
    )
    return f"{counted(len(dataset), 'frame')}, {len(split.train)} to train on and {len(split.test)} to measure on ({kind})"


def _simulated(path: Path, config: LocalizationConfig) -> Path:
    """A flight over the simulated city whose frames see far, as those of a room do."""
    if (path / layout.SPLIT).exists():  # written last
        return path
    flight = FlightConfig(
        plan="paper", area_m=140.0, width_m=140.0, altitude_m=45.0, line_spacing_m=10.0, camera_pitch_deg=50.0,
        attitude_jitter_deg=4.0, wander_m=0.5, holdout=0.15,
    )  # fmt: skip
    size = max(72, 9 * max(config.sizes) // 4)  # twice the side that is cropped from, averaged
    write_sim_dataset(
        path, SimDatasetConfig(frames=config.frames, size=size, fov_deg=90.0, resume=True, flight=flight)
    )
    return path
