"""The paper's tables 1, 2 and 3 on our data: simulate, train, measure, print; stopped and called again it goes on."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.evaluation.experiments.relative import write_relative_twin
from pose2rgbd_ros.evaluation.experiments.run import Job, Measured, measure
from pose2rgbd_ros.evaluation.experiments.tables_plan import Place, Row, Table, TablesConfig, tables
from pose2rgbd_ros.sim.dataset import SimDatasetConfig, write_sim_dataset
from pose2rgbd_ros.sim.flights import FlightConfig
from pose2rgbd_ros.sim.flights.config import Plan
from pose2rgbd_ros.training.config import TrainConfig
from pose2rgbd_ros.training.device import pick_device

logger = logging.getLogger(__name__)

RUNS, DATASETS = "runs", "datasets"
HIDDEN_UNIT = "divided by a factor that nobody is told"


@dataclass
class Filled:
    """A table with what was measured so far, and the words that say on what."""

    table: Table
    dataset: Path
    measured_on: str
    rows: list[tuple[Row, Measured]] = field(default_factory=list)


@dataclass
class Outcome:
    """All of an experiment: its settings with the scale's values filled in, its tables, the machine in words."""

    config: TablesConfig
    machine: str
    tables: list[Filled] = field(default_factory=list)

    @property
    def failed(self) -> list[tuple[Row, Measured]]:
        return [(row, each) for filled in self.tables for row, each in filled.rows if each.error]


def run_tables(
    out: Path, config: TablesConfig, dataset: Path | None = None, real: Path | None = None
) -> Outcome:
    """Make the tables in `out`; the files of :mod:`tables_report` are there from the first row on.

    Args:
        dataset: with metric depth, in place of the simulated flight in the paper's pattern.
        real: in place of the stand-in for the paper's real flight. Its depth loses its unit first if it is metric.

    Raises:
        UserError: paper scale without a GPU, a dataset without the depth it needs, `out` made with other settings.
        KeyboardInterrupt: somebody stopped it; the same command goes on.
    """
    from pose2rgbd_ros.evaluation.experiments.tables_report import write_report

    config = config.resolved()
    device = pick_device(config.device)
    if config.scale == "paper" and device == "cpu" and not config.force:
        raise UserError(
            "paper scale is 19 trainings of 890,000 images of 512 px each, weeks on a processor; run it where there is "
            "a GPU, use --scale cpu, or --force if you mean it"
        )
    given = {"synthetic": dataset, "real": real}
    outcome = Outcome(config, _machine(device))
    for table in tables(config):
        place, words = _place(out / DATASETS, table.place, given[table.place], config)
        filled = Filled(table, place, words)
        outcome.tables.append(filled)
        for row in table.rows:
            job = Job(f"{table.place}-{row.name}", place, train_config(row, config))
            logger.info("table %d: %s", table.number, ", ".join(row.cells))
            filled.rows.append((row, measure(job, out / RUNS)))
            write_report(out, outcome, pictures=False)
    write_report(out, outcome, pictures=True)
    return outcome


def train_config(row: Row, config: TablesConfig) -> TrainConfig:
    """The settings of a row's training; `config` has its scale's values."""
    return TrainConfig(
        **row.settings,
        size=config.size or 128,
        width=config.width,
        recipe=config.recipe or "default",
        epochs=config.epochs,
        max_minutes=config.minutes,
        clock="cpu" if pick_device(config.device) == "cpu" else "wall",
        split="lines+random",
        seed=config.seed,
        device=config.device,
        precision=config.precision,
        tensorboard=False,
    )


def _place(folder: Path, place: Place, given: Path | None, config: TablesConfig) -> tuple[Path, str]:
    """The dataset of a table, made in `folder` if need be, and what it is in words."""
    if given is None:
        path, words = _made(folder, place, config)
    else:
        sources = "; ".join(source.name for source in Dataset(given).meta.sources[:3])
        path, words = given, given.resolve().name + (f" ({sources})" if sources else "")
    if place == "real" and Dataset(path).depth_kind == "metric":
        path, words = _without_unit(path, folder, config), f"{words}; its depth {HIDDEN_UNIT}"
    dataset = Dataset(path)
    kind = {"synthetic": "metric", "real": "relative"}[place]
    if dataset.depth_kind != kind:
        option = "--dataset" if place == "synthetic" else "--real"
        raise UserError(
            f"{path} has {dataset.depth_kind or 'no'} depth; {option} takes one with {kind} depth"
        )
    return path, f"{words}: {counted(len(dataset), 'frame')}"


def _made(folder: Path, place: Place, config: TablesConfig) -> tuple[Path, str]:
    if place == "synthetic":
        return _simulated(
            folder / "synthetic", "paper", config
        ), "simulated city, flown in the paper's pattern"
    words = "STAND-IN for the paper's real flight: the simulated city, flown as that survey was"
    return _simulated(folder / "survey", "survey", config), words


def _without_unit(source: Path, folder: Path, config: TablesConfig) -> Path:
    twin = folder / f"{source.resolve().name}-relative"
    finished = twin / ".twin-of"  # written last
    facts = f"{source.resolve()} {config.seed}"
    if not finished.exists():
        write_relative_twin(source, twin, config.seed)
        finished.write_text(facts)
    elif finished.read_text() != facts:
        raise UserError(f"{twin} was made from {finished.read_text()}; choose another --out, or remove it")
    return twin


def _simulated(path: Path, plan: Plan, config: TablesConfig) -> Path:
    frames = config.frames or 1500
    if (path / layout.SPLIT).exists():  # written last
        if len(Dataset(path)) != frames:
            raise UserError(
                f"{path} was made with {counted(len(Dataset(path)), 'frame')}; choose another --out, or remove it"
            )
        return path
    size = min(512, 2 * (config.size or 128))  # averaged when it is made small; larger files serve nobody
    settings = SimDatasetConfig(
        frames=frames, size=size, resume=True, flight=FlightConfig(plan=plan, seed=config.seed)
    )
    write_sim_dataset(path, settings)
    return path


def _machine(device: str) -> str:
    if device == "cuda":
        import torch

        return str(torch.cuda.get_device_name())
    threads = os.environ.get("OMP_NUM_THREADS")
    return f"processor with {os.cpu_count()} cores" + (f", {threads} used" if threads else "")
