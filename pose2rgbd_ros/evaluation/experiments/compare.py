"""Models side by side at equal cost: trained for the same time, measured on the same frames; stopped, it goes on."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.evaluation.experiments.compare_plan import CompareConfig, Entry, jobs
from pose2rgbd_ros.evaluation.experiments.render_cost import render_cost
from pose2rgbd_ros.evaluation.experiments.run import Measured, measure
from pose2rgbd_ros.evaluation.machine import machine
from pose2rgbd_ros.settings import read_yaml, write_yaml
from pose2rgbd_ros.training.device import pick_device

logger = logging.getLogger(__name__)

RUNS = "runs"
COST_FILE = "render_cost.yaml"  # in a run's folder, once its rendering was timed


@dataclass
class Compared:
    """A model of the comparison: what came of each seed, and what rendering costs (empty where nothing was trained)."""

    entry: Entry
    seeds: list[Measured] = field(default_factory=list)
    cost: dict[str, Any] = field(default_factory=dict)

    @property
    def measured(self) -> list[Measured]:
        return [each for each in self.seeds if not each.error]

    @property
    def error(self) -> str:
        return next((each.error for each in self.seeds if each.error), "")


@dataclass
class Comparison:
    """All of it: settings, the dataset in words, the machine in words, the models."""

    config: CompareConfig
    dataset: Path
    measured_on: str
    machine: str
    clock: str
    models: list[Compared] = field(default_factory=list)


def compare(dataset: Path, out: Path, config: CompareConfig) -> Comparison:
    """Train, measure and time every model; the files of :mod:`compare_report` are there from the first run on.

    Seed 0 of every model comes first, so that a comparison stopped early has all of them.

    Raises:
        UserError: a bad dataset, `out` made with other settings, CUDA asked for and absent.
        KeyboardInterrupt: somebody stopped it; the same command goes on.
    """
    from pose2rgbd_ros.evaluation.experiments.compare_report import write_report

    device = pick_device(config.device)
    clock = "cpu" if device == "cpu" else "wall"
    frames = Dataset(dataset)
    words = f"{dataset.resolve().name}: {counted(len(frames), 'frame')}, depth {frames.depth_kind or 'none'}"
    comparison = Comparison(config, dataset, words, machine(device), clock)
    comparison.models = [Compared(entry) for entry in config.entries()]
    planned = {each.entry.name: jobs(each.entry, dataset, config, clock) for each in comparison.models}
    for seed in range(config.seeds):
        for each in comparison.models:
            job = planned[each.entry.name][seed]
            if each.error:  # what cannot be trained with one seed cannot with another
                continue
            logger.info("%s, seed %d", each.entry.name, seed)
            each.seeds.append(measure(job, out / RUNS))
            if not each.cost and not each.error:
                each.cost = _cost(each.seeds[-1].run, config, device)
            write_report(out, comparison, picture=False)
    write_report(out, comparison, picture=True)
    return comparison


def _cost(run: Path, config: CompareConfig, device: str) -> dict[str, Any]:
    """Timed once and kept in the run's folder; timed again when other sizes or threads are asked for."""
    asked = {"sizes": list(config.render_sizes), "threads": config.render_threads, "device": device}
    if (run / COST_FILE).exists():
        before = read_yaml(run / COST_FILE)
        if before.pop("asked", None) == asked:
            return before
    try:
        cost = render_cost(run, config.render_sizes, device, config.render_threads)
    except UserError as error:
        logger.warning("%s", error)
        return {}
    write_yaml(run / COST_FILE, {"asked": asked, **cost})
    return cost
