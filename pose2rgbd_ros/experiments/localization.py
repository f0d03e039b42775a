"""Ways of finding a camera side by side, each network trained for the same time or as many steps; stopped and called
again it goes on.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import logging
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.reader import Dataset, frame_cache
from pose2rgbd_ros.dataset.splits import Split
from pose2rgbd_ros.errors import UserError, counted, os_errors
from pose2rgbd_ros.evaluation import poses
from pose2rgbd_ros.evaluation.machine import machine
from pose2rgbd_ros.evaluation.poses import PoseEstimators, localize, to_grey, write_csv
from pose2rgbd_ros.evaluation.sheets import Block, SheetColumn, draw_blocks
from pose2rgbd_ros.experiments.run import Job, effort_of, interval, make_folder, read_result, simulated, train_job
from pose2rgbd_ros.experiments.saliency import Focus, Saliency, focus, structure_of
from pose2rgbd_ros.experiments.settings import LocalizationConfig, varied
from pose2rgbd_ros.geometry.arrays import Bool, Float64, UInt8
from pose2rgbd_ros.localization.estimate import PoseEstimator
from pose2rgbd_ros.localization.localizer import Localizer
from pose2rgbd_ros.models.posegan.config import CONFIGS
from pose2rgbd_ros.reports import table
from pose2rgbd_ros.reports.page import Page, Picture, Section, listed
from pose2rgbd_ros.reports.table import Column, Table, mean_spread
from pose2rgbd_ros.settings import read_yaml, to_flat, to_yaml_dict, write_yaml
from pose2rgbd_ros.sim.dataset import SimDatasetConfig
from pose2rgbd_ros.sim.flights.config import FlightConfig
from pose2rgbd_ros.training.checkpoint import Checkpoint, load_checkpoint
from pose2rgbd_ros.training.data import make_split
from pose2rgbd_ros.training.families import train_config
from pose2rgbd_ros.training.metrics import spread
from pose2rgbd_ros.training.trainer import pick_device

# What the PoseGAN paper printed: medians of tables 1 and 2, in metres and degrees, for the scenes it names.


Figures = tuple[float, float]

PAPER_SCENES = (
    "KingsCollege", "OldHospital", "ShopFacade", "StMarysChurch",
    "chess", "fire", "heads", "office", "pumpkin", "redkitchen", "stairs",
)  # fmt: skip

# A row of the paper's table 1, the scenes in the order above.
_TABLE_1 = {
    "posegan": "1.22/4.44 1.52/4.91 0.88/4.80 1.82/5.79 "
    "0.09/4.58 0.24/9.46 0.17/13.38 0.19/8.80 0.16/6.28 0.26/8.23 0.28/10.14",
    "posegan-a": "1.97/5.20 2.27/5.17 1.53/7.41 2.67/7.89 "
    "0.21/6.23 0.39/12.30 0.27/13.21 0.35/7.11 0.33/7.16 0.49/8.59 0.46/11.22",
    "posegan-b": "1.51/6.23 1.62/5.43 1.12/5.76 1.94/6.84 "
    "0.13/5.15 0.31/10.23 0.23/14.13 0.25/9.78 0.23/7.68 0.41/9.92 0.39/11.21",
    "posegan-c": "1.34/5.10 1.55/4.92 0.97/5.12 1.90/5.99 "
    "0.11/4.15 0.29/9.19 0.19/12.10 0.23/9.23 0.20/6.68 0.33/8.72 0.34/10.21",
    "posenet-resnet": "1.92/5.40 2.31/5.38 1.46/8.08 2.65/8.48 "
    "0.32/8.12 0.47/14.4 0.29/12.0 0.48/7.68 0.47/8.42 0.59/8.64 0.47/13.8",
    "retrieval": "2.80/5.72 4.01/7.13 1.11/7.61 2.31/8.00 "
    "0.21/12.5 0.33/13.8 0.15/14.9 0.28/11.2 0.31/11.3 0.30/12.3 0.25/15.8",
    "retrieval-inter": "1.48/4.45 2.68/4.63 0.90/4.32 1.62/6.06 "
    "0.18/10.0 0.33/12.4 0.14/14.3 0.25/10.1 0.26/9.42 0.27/11.1 0.24/14.7",
    "structure": "0.42/0.55 0.44/1.01 0.12/0.40 0.19/0.54 "
    "0.04/1.96 0.03/1.53 0.02/1.45 0.09/3.61 0.08/3.10 0.07/3.37 0.03/2.22",
}  # fmt: skip
# Of table 2, on grey images. Its PoseGAN figure of Stairs repeats table 1's, perhaps by mistake.
_TABLE_2 = {
    "posegan": "8.59/14.20 7.83/25.26 3.66/13.84 10.48/8.51 "
    "0.35/12.03 0.47/25.87 0.32/10.79 0.29/11.89 0.48/28.63 0.85/21.10 0.28/10.14",
    "posenet-resnet": "9.68/16.25 14.65/30.83 5.11/17.51 23.99/25.87 "
    "0.74/16.24 0.65/20.51 0.52/16.71 0.88/12.68 0.74/20.12 1.15/29.39 0.65/18.22",
}  # fmt: skip
# Whose rows these are, where the paper's name is another than ours.
PAPER_NAMES = {
    "posenet-resnet": "PoseNet",
    "retrieval": "DenseVLAD",
    "retrieval-inter": "DenseVLAD + Inter",
    "structure": "Active Search",
}


def scene_of(names: list[str]) -> str | None:
    """The paper's scene that a dataset's folder or sources are called after; None for another place."""
    words = [re.findall(r"[a-z0-9]+", name.lower()) for name in names]
    joined = {"".join(parts[a:b]) for parts in words for a in range(len(parts)) for b in range(a + 1, len(parts) + 1)}
    return next((scene for scene in PAPER_SCENES if scene.lower() in joined), None)


def printed(method: str, scene: str | None, grey: bool = False) -> Figures | None:
    """(m, deg) as the paper prints a method in a scene; None where it prints none."""
    row = (_TABLE_2 if grey else _TABLE_1).get(method)
    if row is None or scene is None:
        return None
    metres, degrees = row.split()[PAPER_SCENES.index(scene)].split("/")
    return float(metres), float(degrees)


# Which ways of finding a camera are compared, at which cost.


TITLES = {
    "posegan": "PoseGAN",
    "posegan-a": "PoseGAN-configA",
    "posegan-b": "PoseGAN-configB",
    "posegan-c": "PoseGAN-configC",
    "posenet": "PoseNet on PoseGAN's trunk",
    "posenet-resnet": "PoseNet on ResNet-34",
    "retrieval": "retrieval",
    "retrieval-inter": "retrieval + interpolation",
    "structure": "structure",
    "mean-pose": "mean training pose",
}


def job(model: str, size: int, seed: int, dataset: Path, config: LocalizationConfig, variant: str = "") -> Job | None:
    """One training; None where a variant means nothing to the model.

    All are given the same time by the same clock, or as many steps; the frames they are measured on choose nothing.
    PoseNet has no recipe of PoseGAN's paper, so it keeps ours.
    """
    steps, minutes = config.length
    chosen = train_config(
        model,
        size=size,
        recipe=config.recipe if model in CONFIGS else "default",
        max_minutes=minutes,
        steps=steps,
        epochs=config.epochs,
        clock=config.clock_on(pick_device(config.device)),
        split=config.split,
        seed=seed,
        keep="last",
        device=config.device,
        tensorboard=False,
        posegan=dataclasses.replace(config.posegan, width=config.width),
    )
    own = varied(chosen, variant)
    name = f"{place_name(dataset)}-{model}-{size}-seed{seed}"
    return None if own is None else Job(f"{name}-{variant}" if variant else name, dataset, own)


def place_name(dataset: Path) -> str:
    """A dataset in the names of its runs."""
    return dataset.resolve().name


logger = logging.getLogger(__name__)

RUNS, DATASETS = "runs", "datasets"
RESULT_FILE = "localized.yaml"  # in a run's folder, once it is trained and measured
FRAMES_FILES = {"colour": "frames.csv", "grey": "frames_grey.csv"}
JUDGED = "frames that judge"


@dataclass
class Row:
    """What came of one method (and size and seed, of networks).

    scores: "colour" and "grey" -> measure -> number, as :func:`evaluation.poses.scores` has them, of the frames that
    judge; "choose": of those that may choose among variants, in colour.
    run: its folder, with a line a frame in FRAMES_FILES. variant: the settings it has of its own. collapsed: that it
    answers nearly alike, and what to change. error: why there are no scores.
    """

    method: str
    run: Path
    size: int | None = None
    seed: int = 0
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    effort: dict[str, Any] = field(default_factory=dict)
    variant: str = ""
    collapsed: str = ""
    error: str = ""

    @property
    def counts(self) -> bool:
        """Whether it is compared with others: measured, and not collapsed."""
        return not self.error and not self.collapsed


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
    """Train and measure every row; the report's files are there from the first row on.

    Seed 0 of everything comes first, so that an experiment stopped early has all methods.

    Raises:
        UserError: a bad dataset, two of one name, `out` made with other settings, CUDA asked for and absent.
        KeyboardInterrupt: somebody stopped it; the same command goes on.
    """

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
    return make_split(dataset, config.split, train_config("posenet").test_fraction, seed)


def _rows(folder: Path, place: Place, seed: int, config: LocalizationConfig) -> Iterator[Row]:
    """The rows of one seed, one after the other as they are ready."""
    dataset = Dataset(place.dataset)
    split = split_of(dataset, config, seed)
    finders = PoseEstimators(dataset, split.train)
    for method in config.finders:
        row = _finder_row(folder, method, finders, dataset, split, seed)
        if row is not None:
            yield row
    for size in config.sizes:
        for model, variant in ((model, variant) for variant in ("", *config.variants) for model in config.models):
            task = job(model, size, seed, place.dataset, config, variant)
            if task is not None:
                logger.info("%s", task.name)
                yield _network_row(folder, task, dataset, split, variant)


def _network_row(folder: Path, task: Job, dataset: Dataset, split: Split, variant: str) -> Row:
    run = folder / task.name
    row = Row(task.config.model, run, task.config.size, task.config.seed, variant=variant)
    if (run / RESULT_FILE).exists():
        return _filled(row, read_result(run / RESULT_FILE, task))
    try:
        result = train_job(task, run)
    except UserError as error:  # one row must not cost the table
        logger.warning("%s: %s", task.name, error)
        row.error = str(error)
        return row
    trained = load_checkpoint(run)
    shown = {"psnr_db": trained.metrics["psnr_db"]} if "psnr_db" in trained.metrics else {}
    row.effort = {**effort_of(trained, run), **shown}
    row.collapsed = result.stopped or ("it answers nearly alike whatever its input" if result.collapsed else "")
    threads = torch.get_num_threads()
    try:
        _measure(row, Localizer(run, task.config.device), dataset, split)
    finally:
        torch.set_num_threads(threads)  # a localizer takes one; the next training shall have as many as this one had
    facts = {"scores": row.scores, "effort": row.effort, "collapsed": row.collapsed}
    write_yaml(run / RESULT_FILE, {"job": task.to_dict(), "measured_on": JUDGED, **facts})
    return row


def _finder_row(
    folder: Path, method: str, finders: PoseEstimators, dataset: Dataset, split: Split, seed: int
) -> Row | None:
    """None where the split is that of an earlier seed: the answer would be the same."""
    facts = {"dataset": str(dataset.path), "split": _digest(split), "frames": len(dataset)}
    run = folder / f"{place_name(dataset.path)}-{method}-{facts['split']}"
    row = Row(method, run, seed=seed)
    if (run / RESULT_FILE).exists():
        before = read_yaml(run / RESULT_FILE)
        told = before.pop("job")
        if {name: told.get(name) for name in facts} != facts:
            raise UserError(f"{run} was made on {told.get('dataset')}; choose another --out, or remove that folder")
        return _filled(row, before) if told["seed"] == seed else None
    logger.info("%s: %s, seed %d", place_name(dataset.path), method, seed)
    try:
        finder = finders.named(method)
    except UserError as error:
        logger.warning("%s: %s", run.name, error)
        row.error = str(error)
        return row
    make_folder(run)
    _measure(row, finder, dataset, split)
    write_yaml(run / RESULT_FILE, {"job": {**facts, "seed": seed}, "measured_on": JUDGED, "scores": row.scores})
    return row


def _measure(row: Row, finder: PoseEstimator, dataset: Dataset, split: Split) -> None:
    """Fill in the scores, and write a line for each frame that judges."""
    for kind, name in FRAMES_FILES.items():
        localized = localize(finder, dataset, split.judge, kind == "grey", f"{finder.name}, {kind}")
        row.scores[kind] = localized.scores()
        write_csv(row.run / name, localized)
    if row.size and len(split.choose):
        row.scores["choose"] = localize(finder, dataset, split.choose, False, f"{finder.name}, to choose").scores()


def _filled(row: Row, values: dict[str, Any]) -> Row:
    if values.get("measured_on") != JUDGED:
        raise UserError(
            f"{row.run} was measured on frames that choose as well, by an earlier version; choose another --out"
        )
    row.scores, row.effort, row.collapsed = values["scores"], values.get("effort", {}), values.get("collapsed", "")
    return row


def _digest(split: Split) -> str:
    return hashlib.sha256(split.train.tobytes() + split.test.tobytes()).hexdigest()[:8]


def _words(dataset: Dataset, config: LocalizationConfig) -> str:
    split = split_of(dataset, config, 0)
    kind = {"dataset": "its own split", "random": "frames held out at random"}.get(split.name, "stretches held out")
    chosen_by = f" ({len(split.choose)} more may choose among settings)" if len(split.choose) else ""
    frames = f"{counted(len(dataset), 'frame')}, {len(split.train)} to train on and {len(split.judge)} to measure on"
    return f"{frames}{chosen_by}, {kind}"


def _simulated(path: Path, config: LocalizationConfig) -> Path:
    """A flight over the simulated city whose frames see far, as those of a room do."""
    flight = FlightConfig(
        plan="paper", area_m=140.0, width_m=140.0, altitude_m=45.0, line_spacing_m=10.0, camera_pitch_deg=50.0,
        attitude_jitter_deg=4.0, wander_m=0.5, holdout=0.15,
    )  # fmt: skip
    size = max(72, 9 * max(config.sizes) // 4)  # twice the side that is cropped from, averaged
    return simulated(path, SimDatasetConfig(config.frames, size=size, fov_deg=90.0, resume=True, flight=flight))


# Whether what the paper concludes from its tables holds in ours: counted, not judged.


ORDER = ("posegan", "posegan-c", "posegan-b", "posegan-a")  # the paper's, best first, in every scene's position error
LETTERS = {"posegan": "full", "posegan-c": "C", "posegan-b": "B", "posegan-a": "A"}


def findings(place: Place) -> Iterator[str]:
    """Sentences: the order of the ablation, what each variant changed, and how much worse grey images make each
    network; none too early.
    """
    for size in dict.fromkeys(row.size for row in place.rows if row.size):
        rows = [row for row in place.rows if row.size == size and row.counts]
        for variant in dict.fromkeys(row.variant for row in rows):
            medians = {method: _by_seed(rows, method, variant) or _by_seed(rows, method) for method in ORDER}
            if all(medians.values()):
                yield _order_sentence(f"{size} px{f', {variant}' if variant else ''}", medians)
        yield from _changes(rows, size)
        rows = [row for row in rows if not row.variant]
        risen = {method: _risen(rows, method) for method in ("posegan", "posenet", "posenet-resnet")}
        told = [f"{method} by a factor of {factor:.2f}" for method, factor in risen.items() if factor is not None]
        if len(told) > 1:
            yield f"Grey images raise the median position error at {size} px: {', '.join(told)}."


def _order_sentence(what: str, medians: dict[str, dict[int, float]]) -> str:
    means = {method: float(np.mean(list(values.values()))) for method, values in medians.items()}
    ours = " < ".join(LETTERS[method] for method in sorted(means, key=lambda method: means[method]))
    held = total = 0
    apart = []
    for i, better in enumerate(ORDER):
        for worse in ORDER[i + 1 :]:
            seeds = set(medians[better]) & set(medians[worse])
            held += sum(medians[better][seed] < medians[worse][seed] for seed in seeds)
            total += len(seeds)
            apart.append(_difference(f"{LETTERS[better]} - {LETTERS[worse]}", medians[better], medians[worse]))
    told = f" Differences, with 95 % intervals over the seeds: {'; '.join(filter(None, apart))}." if any(apart) else ""
    return (
        f"Position error at {what}: {ours}; the paper has full < C < B < A. Of its six comparisons, seed by seed, "
        f"{held} of {total} hold.{told}"
    )


def _difference(name: str, a: dict[int, float], b: dict[int, float]) -> str:
    """Of two rows' errors by seed, a - b; "" below two seeds in both."""
    found = interval([a[seed] - b[seed] for seed in sorted(set(a) & set(b))])
    return "" if found is None else f"{name} {found[0]:+.3g} m ({found[1]:+.3g} to {found[2]:+.3g})"


def _changes(rows: list[Row], size: int) -> Iterator[str]:
    """What each variant changed in each network, on the frames that judge, and which those that choose prefer."""
    for method in dict.fromkeys(row.method for row in rows if row.variant):
        plain = _by_seed(rows, method)
        variants = [name for name in dict.fromkeys(row.variant for row in rows if row.method == method) if name]
        told = [_difference(name, _by_seed(rows, method, name), plain) for name in variants]
        if any(told):
            yield f"{TITLES[method]} at {size} px, against its own settings: {'; '.join(filter(None, told))}."
        means = {name: _by_seed(rows, method, name, "choose") for name in ("", *variants)}
        full = set.union(*(set(each) for each in means.values()))  # a variant that collapsed with a seed is no choice
        known = {
            name: float(np.mean(list(each.values()))) for name, each in means.items() if each and set(each) == full
        }
        if known:
            best = min(known, key=lambda name: known[name])
            yield (
                f"The frames that choose prefer {best or 'its own settings'} ({known[best]:.3g} m"
                + (f"; its own settings {known['']:.3g} m)." if best and "" in known else ").")
            )


def _by_seed(rows: list[Row], method: str, variant: str = "", kind: str = "colour") -> dict[int, float]:
    return {
        row.seed: float(row.scores[kind]["median_position_m"])
        for row in rows
        if (row.method, row.variant) == (method, variant) and kind in row.scores
    }


def _risen(rows: list[Row], method: str) -> float | None:
    """The median over the seeds of grey's error over colour's."""
    name = "median_position_m"
    shares = [row.scores["grey"][name] / row.scores["colour"][name] for row in rows if row.method == method]
    return float(np.median(shares)) if shares else None


# A place's cumulative curves, from the lines that each run wrote for its frames.


COLOURS = {
    "posegan": "#0b6e4f", "posegan-a": "#7fbf9f", "posegan-b": "#4a90d9", "posegan-c": "#9b59b6", "posenet": "#d1781e",
    "posenet-resnet": "#c0392b", "retrieval": "#999999", "retrieval-inter": "#555555", "structure": "#000000",
    "mean-pose": "#cccccc",
}  # fmt: skip


def draw_curves(path: Path, place: Place) -> None:
    """Share of the held-out frames within an error, a column a size: above of the position, below of the
    orientation.
    """
    rows = [row for row in place.rows if row.counts and not row.variant and (row.run / FRAMES_FILES["colour"]).exists()]
    if not rows:
        return
    sizes: list[int | None] = list(dict.fromkeys(row.size for row in rows if row.size)) or [None]
    figure = Figure(figsize=(6.2 * len(sizes), 8), dpi=90, layout="constrained")
    grid = figure.subplots(2, len(sizes), squeeze=False)
    for column, size in enumerate(sizes):
        shown = sorted((row for row in rows if row.size in (size, None)), key=_row_order)
        for line, kind in enumerate(poses.CURVE_KINDS):
            axes = grid[line, column]
            poses.prepare_curves(axes, *kind, [_frames(row)[:2][line] for row in shown])
            for method in dict.fromkeys(row.method for row in shown):
                _curve(axes, [row for row in shown if row.method == method], line)
        seeds = len({row.seed for row in shown})
        together = f", {seeds} seeds together" if seeds > 1 else ""
        title = f"{place_name(place.dataset)}{f', {size} px' if size else ''}{together}"
        grid[0, column].set_title(title, parse_math=False)
    handles = grid[0, 0].get_legend_handles_labels()
    figure.legend(*handles, fontsize=8, loc="outside lower center", ncols=2 + len(sizes))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def read_frames(file: Path) -> tuple[Float64, Float64, Bool]:
    """Position (m) and orientation (deg) errors (N,), and which frames were accepted, of a frames.csv."""
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    metres, degrees = (
        np.array([row[name] for row in rows], float) for name in ("position_error_m", "rotation_error_deg")
    )
    return metres, degrees, np.array([row["accepted"] == "1" for row in rows], bool)


def _frames(row: Row) -> tuple[Float64, Float64, Bool]:
    return read_frames(row.run / FRAMES_FILES["colour"])


def _curve(axes: Axes, rows: list[Row], line: int) -> None:
    errors, accepted = (np.concatenate([_frames(row)[part] for row in rows]) for part in (line, 2))
    method = rows[0].method
    style = "-" if rows[0].size else "--"
    poses.plot_curves(axes, errors, accepted, TITLES[method], COLOURS[method], style)


def _row_order(row: Row) -> int:
    return list(TITLES).index(row.method)


# Sheets after Figures 2 to 4 of the PoseGAN paper, and the correlations that say in a number what they show.


SHOWN = ("posegan", "posegan-a", "posenet", "posenet-resnet")
FOCUS_FRAMES = 12  # that the correlations are the mean of
FOCUS_FILE = "saliency.yaml"  # in a run's folder
_SHOWN_PX = 256
_COLOURS = "inferno"


@dataclass
class Shown:
    """A network of a sheet."""

    title: str
    checkpoint: Checkpoint
    saliency: Saliency


def draw_saliency(out: Path, place: Place, others: list[Place], config: LocalizationConfig) -> None:
    """A sheet for each size of the networks, of seed 0: held-out frames in colour and grey, then frames of other
    places.
    """
    dataset = Dataset(place.dataset)
    frames = spread(split_of(dataset, config, 0).judge, config.saliency)
    for size in config.sizes:
        rows = [row for row in place.rows if (row.size, row.seed, row.variant) == (size, 0, "") and not row.error]
        shown = [_open(row) for name in SHOWN for row in rows if row.method == name]
        if shown:
            first = _images(shown[0].checkpoint, dataset, frames)
            poses: list[Float64 | None] = [*dataset.T_map_cam[frames]]
            blocks = [
                _block(first, poses, shown, "held out"),
                _block([to_grey(image) for image in first], poses, shown, "grey"),
            ]
            for other in others:
                foreign = Dataset(other.dataset)
                some = spread(np.arange(len(foreign)), config.saliency)
                images = _images(shown[0].checkpoint, foreign, some)
                blocks.append(_block(images, [None] * len(some), shown, place_name(other.dataset)))
            title = f"{place_name(place.dataset)}, {size} px, seed 0: which pixels the pose depends on"
            if others:
                title += "; below, frames of other places as networks trained here see them"
            draw_blocks(out / saliency_name(place, size), blocks, title)


def saliency_name(place: Place, size: int) -> str:
    """The sheet of a place's networks of a size."""
    return f"{place_name(place.dataset)}-saliency-{size}.png"


def focus_of(row: Row, place: Place, config: LocalizationConfig) -> Focus:
    """Mean correlations of a run's saliency on FOCUS_FRAMES held-out frames; kept in the run's folder."""
    file = row.run / FOCUS_FILE
    if file.exists():
        return Focus(**read_yaml(file))
    dataset, shown = Dataset(place.dataset), _open(row)
    frames = spread(split_of(dataset, config, row.seed).judge, FOCUS_FRAMES)
    found = []
    for rgb, T in zip(_images(shown.checkpoint, dataset, frames), dataset.T_map_cam[frames], strict=True):
        maps = [shown.saliency.of(image, T) for image in (rgb, to_grey(rgb))]
        found.append(dataclasses.astuple(focus(maps[0], maps[1], rgb)))
    mean = Focus(*(float(value) for value in np.mean(found, axis=0)))
    write_yaml(file, dataclasses.asdict(mean))
    return mean


def focus_table(place: Place, config: LocalizationConfig) -> Table:
    """The correlations, a row a network; mean over the seeds."""
    columns = [
        table.Column("method", "network"),
        table.Column("size", "px", "d"),
        table.Column("structure", "saliency with structure", mean_spread(".2f")),
        table.Column("texture", "with texture", mean_spread(".2f")),
        table.Column("difference", format=mean_spread(".2f")),
        table.Column("grey", "colour with grey", mean_spread(".2f")),
    ]
    lines = []
    for size in config.sizes:
        for name in SHOWN:
            key = (name, size, "")
            rows = [row for row in place.rows if (row.method, row.size, row.variant) == key and not row.error]
            found = [dataclasses.astuple(focus_of(row, place, config)) for row in rows]
            if found:
                structure, texture, grey = np.transpose(found)
                line = {"structure": structure, "texture": texture, "difference": structure - texture}
                lines.append({"method": TITLES[name], "size": size, **line, "grey": grey})
    return Table(columns, lines)


def _open(row: Row) -> Shown:
    checkpoint = load_checkpoint(row.run)
    return Shown(row.method, checkpoint, Saliency(checkpoint))


def _images(checkpoint: Checkpoint, dataset: Dataset, frames: np.ndarray) -> list[UInt8]:
    """Frames as the network takes them."""
    told = checkpoint.provenance
    cache = frame_cache(dataset, checkpoint.camera.width, told.get("fit", "square"), told.get("margin", 0))
    return [np.ascontiguousarray(cache.rgb[index]) for index in frames]


def _block(images: list[UInt8], poses: list[Float64 | None], shown: list[Shown], label: str) -> Block:
    """Images beside SIFT's keypoints, their structure and texture, and each network's saliency."""
    columns = [SheetColumn("image", [*images]), SheetColumn("SIFT", [_keypoints(image) for image in images])]
    structures = [structure_of(image) for image in images]
    columns.append(SheetColumn("structure", [*structures]))
    textures = [(image / 255 - structure).mean(axis=-1) for image, structure in zip(images, structures, strict=True)]
    columns.append(SheetColumn("texture", [*textures], "gray", -0.2, 0.2))
    for network in shown:
        maps = [_scaled(network.saliency.of(image, T)) for image, T in zip(images, poses, strict=True)]
        columns.append(SheetColumn(network.title, [*maps], _COLOURS, 0.0, 1.0))
    return Block(columns, [label] * len(images))


def _scaled(saliency: Float64) -> np.ndarray:
    """To 1 at its 99th percentile: networks differ by orders of magnitude."""
    return np.asarray(np.clip(saliency / max(float(np.percentile(saliency, 99)), 1e-12), 0.0, 1.0))


def _keypoints(rgb: UInt8) -> UInt8:
    """The image with its SIFT keypoints, as large as they are."""
    scale = max(1, _SHOWN_PX // len(rgb))
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    large = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    for point in cv2.SIFT.create().detect(grey, None):
        x, y = ((np.array(point.pt) + 0.5) * scale).astype(int)
        radius = max(2, round(point.size * scale / 2))
        cv2.circle(large, (int(x), int(y)), radius, (255, 60, 0), 1, cv2.LINE_AA)
    return np.asarray(large, np.uint8)


# The comparison as files: tables.md to paste, tables.csv and tables.yaml for programs, index.html to look at first.


METRES, DEGREES = "median_position_m", "median_rotation_deg"
ROOM_M = 2.0  # where even the worst method's median is below this, the place is a room
ROOM, OUTDOORS = ((0.05, 5.0), (0.25, 2.0)), ((0.5, 5.0), (5.0, 10.0))  # of poses.THRESHOLDS

FOCUS_WORDS = (
    "Where the networks look: rank correlation of the saliency map with the strength of the image's structure and of "
    "its texture (relative total variation), and of the maps of one image in colour and in grey; mean over held-out "
    "frames, and over seeds. The paper says that PoseGAN looks at structure, its config A and PoseNet at texture."
)


def write_report(out: Path, outcome: Outcome, pictures: bool) -> None:
    """Write the files of what is measured so far; `pictures`: draw curves and saliency too. UserError: cannot be
    written.
    """

    with os_errors(f"cannot write the comparison into {out}"):
        out.mkdir(parents=True, exist_ok=True)
        if pictures:
            for place in outcome.places:
                draw_curves(out / curves_name(place), place)
                if outcome.config.saliency:
                    others = [other for other in outcome.places if other is not place]
                    draw_saliency(out, place, others, outcome.config)
        layout.atomic_write(out / "tables.md", markdown(outcome, pictures).encode())
        layout.atomic_write(out / "tables.csv", _csv(outcome).encode())
        write_yaml(out / "tables.yaml", to_yaml_dict(outcome))
        _page(out, outcome, pictures).write(out / "index.html")


def markdown(outcome: Outcome, finished: bool = True) -> str:
    """Everything in words and tables, ready to paste; once all is `finished`, what the networks look at too."""
    parts = [effort(outcome)]
    for place in outcome.places:
        parts += [f"### {place_name(place.dataset)}", f"{place.words}.", scored(place).markdown()]
        parts += remarks(place)
        focus = _focus(outcome, place, finished)
        parts += [FOCUS_WORDS, focus.markdown()] if focus else []
    return "\n\n".join(parts) + "\n"


def effort(outcome: Outcome) -> str:
    """One paragraph: cost, machine, what the figures are."""
    config = outcome.config
    clock = "the processor" if outcome.clock == "cpu" else "the wall"
    steps, minutes = config.length
    parts = [f"{steps:,} steps each"] if steps else []
    parts += [f"{minutes:g} minutes of {clock} to train each"] if minutes is not None else []
    parts += [f"at most {counted(config.epochs, 'epoch')}"] if config.epochs else []
    parts += ["recipe paper (PoseNet: ours)"] if config.recipe == "paper" else []
    spread = f"mean ± standard deviation over {config.seeds} seeds" if config.seeds > 1 else "one seed"
    return (
        f"Networks: {', '.join(parts)}, {config.width:g} times the paper's width, the weights of the end; medians of "
        f"frames that judge, {spread}; {outcome.machine}. Position in metres, orientation in degrees. Rejected frames "
        "are in no median but in the shares of all frames within a bound. Grey: the same frames, their images turned "
        "to grey. Last quarter: by what share of itself the position error, of frames that choose, still changed in "
        "it. Pictures: what the generator shows at the poses of those frames. PoseGAN's weights count its generator, "
        "which finding a camera does not need (config A has none)."
    )


def curves_name(place: Place) -> str:
    """The picture of a place's cumulative curves."""
    return f"{place_name(place.dataset)}-curves.png"


def scored(place: Place) -> Table:
    """A row for each method and size, its seeds together."""
    places = bounds(place)
    columns = [
        Column("method"),
        Column("size", "px", "d"),
        Column("variant", "settings", missing=""),
        Column("position", "position", "s", "m"),
        Column("orientation", "orientation", mean_spread(".2f"), "°"),
        Column("paper", f"paper: {place.scene}", "s"),
        *(
            Column(_share(*bound), f"within {bound[0]:g} m, {bound[1]:g}°", mean_spread(".0f", " %"))
            for bound in places
        ),
        Column("rejected", format=".1%"),
        Column("grey position", "grey: position", "s", "m"),
        Column("grey orientation", "grey: orientation", mean_spread(".2f"), "°"),
        Column("paper grey", "paper: grey", "s"),
        Column("epochs", format=mean_spread(".0f")),
        Column("slope", "last quarter", mean_spread(".0f", " %")),
        Column("psnr", "pictures: PSNR", mean_spread(".1f"), "dB"),
        Column("weights", "million weights", ".2f"),
        Column("ms", "ms a frame", mean_spread(".1f")),
    ]
    if place.scene is None:
        columns = [column for column in columns if not column.key.startswith("paper")]
    if not any(row.variant for row in place.rows):
        columns = [column for column in columns if column.key != "variant"]
    return Table(columns, [_row(key, rows, place) for key, rows in grouped(place).items()])


def bounds(place: Place) -> tuple[tuple[float, float], ...]:
    """The bounds (m, deg) that say something here: those of a room, or of the outdoors."""
    medians = [value for rows in grouped(place).values() for value in values_of(rows, METRES)]
    return ROOM if max(filter(math.isfinite, medians), default=0.0) < ROOM_M else OUTDOORS


def grouped(place: Place) -> dict[tuple[str, int | None, str], list[Row]]:
    """The rows of each method, size and variant that count, its seeds together: networks by size, then what is not
    trained.
    """
    found: dict[tuple[str, int | None, str], list[Row]] = {}
    for row in place.rows:
        if row.counts:
            found.setdefault((row.method, row.size, row.variant), []).append(row)
    order = list(TITLES)
    return dict(sorted(found.items(), key=lambda item: (item[0][1] or 9999, order.index(item[0][0]))))


def values_of(rows: list[Row], name: str, kind: str = "colour") -> list[float]:
    """A measure of each seed."""
    return [float(row.scores[kind].get(name, math.nan)) for row in rows]


def remarks(place: Place) -> list[str]:
    """What stands under a table."""
    notes = list(findings(place))
    if place.scene:
        others = [f"{TITLES[method]}: {name}" for method, name in PAPER_NAMES.items()]
        notes.append(
            f"The paper's column is of other methods of the same kind where it has not ours ({'; '.join(others)})."
        )
    notes += [f"{_row_name(row)}, is missing: {row.error}." for row in place.rows if row.error]
    notes += [f"{_row_name(row)}, is left out: {row.collapsed}." for row in place.rows if row.collapsed]
    return notes


def _row_name(row: Row) -> str:
    """Such as "PoseGAN, alpha=1, seed 2"."""
    return ", ".join(filter(None, [TITLES[row.method], row.variant, f"seed {row.seed}"]))


def _focus(outcome: Outcome, place: Place, finished: bool) -> Table | None:
    """None where there is nothing to tell."""
    if not finished or not outcome.config.saliency:
        return None
    table = focus_table(place, outcome.config)
    return table if table.rows else None


def _row(key: tuple[str, int | None, str], rows: list[Row], place: Place) -> dict[str, Any]:
    (method, size, variant), scene = key, place.scene
    metres = mean_spread(".3f" if scene is not None or max(values_of(rows, METRES)) < 1 else ".2f")
    shares = {_share(*bound): values_of(rows, _share(*bound)) for bound in bounds(place)}
    rejected = [row.scores["colour"]["rejected"] / max(1, row.scores["colour"]["frames"]) for row in rows]
    effort = rows[0].effort
    return {
        "method": TITLES[method],
        "size": size,
        "variant": variant,
        "position": metres(values_of(rows, METRES)),
        "orientation": values_of(rows, DEGREES),
        "paper": _printed(method, scene, grey=False),
        **{name: [100 * value for value in values] for name, values in shares.items()},
        "rejected": float(np.mean(rejected)),
        "grey position": metres(values_of(rows, METRES, "grey")),
        "grey orientation": values_of(rows, DEGREES, "grey"),
        "paper grey": _printed(method, scene, grey=True),
        "epochs": [row.effort["epochs"] for row in rows] if effort else None,
        "slope": [100 * row.effort.get("slope_position_median_m", math.nan) for row in rows] if effort else None,
        "psnr": [row.effort["psnr_db"] for row in rows] if "psnr_db" in effort else None,
        "weights": effort["parameters"] / 1e6 if effort else None,
        "ms": values_of(rows, "median_ms"),
    }


def _share(metres: float, degrees: float) -> str:
    """The measure's name, as poses.scores has it."""
    return f"within_{metres:g}_m_{degrees:g}_deg"


def _printed(method: str, scene: str | None, grey: bool) -> str | None:
    figures = printed(method, scene, grey) if scene else None
    return None if figures is None else f"{figures[0]:g} / {figures[1]:g}"


def _csv(outcome: Outcome) -> str:
    """A line a row and kind of image, every measure."""
    lines = [
        {
            "dataset": place_name(place.dataset), "method": row.method, "size": row.size or "", "seed": row.seed,
            "variant": row.variant, "collapsed": bool(row.collapsed), "images": kind, **scores,
            **{f"effort_{name}": value for name, value in row.effort.items()},
        }
        for place in outcome.places
        for row in place.rows
        for kind, scores in row.scores.items()
    ]  # fmt: skip
    return Table([*map(Column, dict.fromkeys(name for line in lines for name in line))], lines).csv()


def _page(out: Path, outcome: Outcome, finished: bool) -> Page:
    sections, verdicts = [Section(text=[effort(outcome)])], []
    for place in outcome.places:
        name, focus = place_name(place.dataset), _focus(outcome, place, finished)
        files = [curves_name(place), *(saliency_name(place, size) for size in outcome.config.sizes)]
        pictures = [Picture(file, Path(file).stem) for file in files if finished and (out / file).exists()]
        sections.append(Section(name, scored(place), [f"{place.words}.", *remarks(place)]))
        if focus or pictures:
            words = [FOCUS_WORDS] if focus else []
            sections.append(Section(f"{name}: errors and where the networks look", focus, words, pictures))
        verdicts.append(f"{name}: {_nearest(place)}")
    return Page(
        "Localization side by side",
        f"{'; '.join(verdicts)}.",
        sections,
        provenance={
            **{place_name(place.dataset): str(place.dataset) for place in outcome.places},
            "machine": outcome.machine,
            "settings": listed(to_flat(outcome.config)),
        },
        mood="bad" if outcome.failed else "neutral",
    )


def _nearest(place: Place) -> str:
    """The method of the smallest median position error, in words."""
    medians = {key: float(np.mean(values_of(rows, METRES))) for key, rows in grouped(place).items()}
    known = {key: value for key, value in medians.items() if math.isfinite(value)}
    if not known:
        return "no method found a pose yet"
    method, size, variant = best = min(known, key=lambda key: known[key])
    name = TITLES[method] + (f" at {size} px" if size else "") + (f" with {variant}" if variant else "")
    return f"{name} is nearest, median position error {known[best]:.3g} m"
