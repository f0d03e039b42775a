"""Models side by side at equal cost: trained for the same time, measured on the same frames; stopped, it goes on."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError, counted, os_errors
from pose2rgbd_ros.evaluation.machine import machine
from pose2rgbd_ros.experiments.pictures import draw_side_by_side, frames_of_groups, show
from pose2rgbd_ros.experiments.run import Job, OfSeeds, measure, render_cost
from pose2rgbd_ros.experiments.settings import CompareConfig, Entry, configured
from pose2rgbd_ros.reports.table import Column, Table, mean_spread
from pose2rgbd_ros.settings import read_yaml, to_yaml_dict, write_yaml
from pose2rgbd_ros.training.trainer import pick_device


def jobs(entry: Entry, dataset: Path, config: CompareConfig, clock: str) -> list[Job]:
    """One training a seed. All are given the same time by the same clock ("cpu" or "wall")."""
    return [
        Job(
            f"{entry.model}-{entry.size}-seed{seed}",
            dataset,
            configured(
                entry.model,
                size=entry.size,
                max_minutes=config.minutes,
                epochs=config.epochs,
                clock=clock,
                split="lines+random",
                seed=seed,
                device=config.device,
                tensorboard=False,
            ),
        )
        for seed in range(config.seeds)
    ]


logger = logging.getLogger(__name__)

RUNS = "runs"
COST_FILE = "render_cost.yaml"  # in a run's folder, once its rendering was timed


@dataclass
class Compared(OfSeeds):
    """A model of the comparison: what came of each seed, and what rendering costs (empty where nothing was trained)."""

    entry: Entry
    cost: dict[str, Any] = field(default_factory=dict)


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
    """Train, measure and time every model; the report's files are there from the first run on.

    Seed 0 of every model comes first, so that a comparison stopped early has all of them.

    Raises:
        UserError: a bad dataset, `out` made with other settings, CUDA asked for and absent.
        KeyboardInterrupt: somebody stopped it; the same command goes on.
    """

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


# A comparison's picture: the same held-out frames as recorded and as each model shows them, with the errors.


FRAMES_A_GROUP = 2


def draw_comparison(path: Path, comparison: Comparison) -> None:
    """Write a PNG of seed 0 of each model; nothing where no model was measured."""
    models = [each for each in comparison.models if each.measured]
    if not models:
        return
    dataset = Dataset(comparison.dataset)
    frames, labels = frames_of_groups(dataset, models[0].measured[0].run, FRAMES_A_GROUP)
    shown = [
        show(each.measured[0].run, dataset, frames, device=comparison.config.device, title=each.entry.name)
        for each in models
    ]
    unit = "m" if dataset.depth_kind == "metric" else "relative"
    title = f"{comparison.measured_on}; seed 0 of each model"
    draw_side_by_side(path, shown, labels, title, unit)


# A comparison as files: compare.md to paste, compare.csv for programs, compare.png to look at.


MEASURES = ("rgb_mae_px", "psnr_db", "ssim", "depth_mae", "depth_known")
EFFORT = ("bytes", "parameters", "seconds", "images", "epochs")
BASELINES = {"mean_image": "mean image", "nearest_frame": "nearest frame"}


def write_report(out: Path, comparison: Comparison, picture: bool) -> None:
    """Write what is measured so far; `picture`: draw the models' pictures too. UserError: cannot be written."""

    with os_errors(f"cannot write the comparison into {out}"):
        out.mkdir(parents=True, exist_ok=True)
        layout.atomic_write(out / "compare.md", markdown(comparison).encode())
        layout.atomic_write(out / "compare.csv", _csv(comparison).encode())
        write_yaml(out / "compare.yaml", _values(comparison))
        if picture:
            draw_comparison(out / "compare.png", comparison)


def markdown(comparison: Comparison) -> str:
    """Quality by group of held-out frames, then cost, with what they were measured on."""
    parts = [_effort(comparison)]
    for group in _groups(comparison):
        parts += [f"### {group[0].upper()}{group[1:]}", _quality(comparison, group).markdown()]
    parts += ["### Cost", _costs(comparison).markdown(), *_remarks(comparison)]
    return "\n\n".join(parts) + "\n"


def _effort(comparison: Comparison) -> str:
    config = comparison.config
    clock = "the processor" if comparison.clock == "cpu" else "the wall"
    limit = f"{config.minutes:g} minutes of {clock} to train each" + (
        f", at most {counted(config.epochs, 'epoch')}" if config.epochs else ""
    )
    seeds = len({index for each in comparison.models for index in range(len(each.measured))})
    spread = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
    return (
        f"{comparison.measured_on}; {limit}; {spread}; {comparison.machine}. Every pixel's colour counts, a filled "
        "hole's too; depth where the model gives one (*depth known*: for what share of the recorded depth it does)."
    )


def _quality(comparison: Comparison, group: str) -> Table:
    """A row a model, and the baselines of each size."""
    unit = next((each.measured[0].depth_unit for each in comparison.models if each.measured), "m")
    columns = [
        Column("name", "model"),
        Column("size", "px", "d"),
        Column("rgb_mae_px", "RGB MAE", mean_spread(".2f"), "of 255"),
        Column("psnr_db", "PSNR", mean_spread(".2f"), "dB"),
        Column("ssim", "SSIM", mean_spread(".3f")),
        Column("depth_mae", "depth MAE", mean_spread(".2f"), unit if unit == "m" else "rel."),
        Column("depth_known", "depth known", mean_spread(".3f")),
    ]
    measured = [each for each in comparison.models if each.measured]
    rows = [_scores(each.entry.name, each, group, "model") for each in measured]
    of_size = {each.entry.size: each for each in reversed(measured)}  # the first of each size
    for size in dict.fromkeys(each.entry.size for each in measured):
        rows += [_scores(label, of_size[size], group, method) for method, label in BASELINES.items()]
    return Table(columns, rows, muted=range(len(measured), len(rows)))


def _scores(name: str, each: Compared, group: str, method: str) -> dict[str, Any]:
    seeds = [seed.groups.get(group, {}).get(method, {}) for seed in each.measured]
    values = {measure: [seed.get(measure, math.nan) for seed in seeds] for measure in MEASURES}
    return {"name": name, "size": each.entry.size, **values}


def _costs(comparison: Comparison) -> Table:
    clock = "CPU" if comparison.clock == "cpu" else "wall"
    sizes = _render_sizes(comparison)
    columns = [
        Column("name", "model"),
        Column("size", "px", "d"),
        Column("mb", "MB", ".1f"),
        Column("minutes", "training", ".1f", f"{clock} min"),
        Column("images", "images shown", "d"),
        *(Column(f"ms_{size}", f"{size} px: ms a frame", ".1f", clock) for size in sizes),
        *(Column(f"peak_mb_{size}", f"{size} px: peak MB", ".0f") for size in sizes),
        Column("backend", format="s"),
    ]
    rows = []
    for each in comparison.models:
        if not each.measured:
            continue
        effort = each.measured[0].effort
        rows.append({
            "name": each.entry.name,
            "size": each.entry.size,
            "mb": effort["bytes"] / 1e6,
            "minutes": effort["seconds"] / 60 if effort["images"] else "0",
            "images": effort["images"],
            "backend": each.cost.get("backend"),
            **_cost_text(each),
        })  # fmt: skip
    return Table(columns, rows)


def _render_sizes(comparison: Comparison) -> list[int]:
    return sorted({int(size) for each in comparison.models for size in each.cost.get("ms", {})})


def _cost_text(each: Compared) -> dict[str, float]:
    """Of rendering: "ms_128" and the like."""
    of = {what: each.cost.get(what, {}) for what in ("ms", "peak_mb")}
    return {f"{what}_{size}": value for what, values in of.items() for size, value in values.items()}


def _remarks(comparison: Comparison) -> list[str]:
    threads = comparison.config.render_threads
    notes = [
        f"Rendering: through the Renderer, {threads} thread{'s' if threads > 1 else ''}, median; the peak is that of "
        "the whole process, libraries included, rendering the sizes in rising order. Base and Slice have one size."
    ]
    collapsed = [each.entry.name for each in comparison.models if any(seed.collapsed for seed in each.measured)]
    if collapsed:
        notes.append(f"Collapsed to nearly one image, whatever the pose: {', '.join(collapsed)}.")
    notes += [f"{each.entry.name} is missing: {each.error}." for each in comparison.models if each.error]
    return notes


def _groups(comparison: Comparison) -> list[str]:
    found = [group for each in comparison.models for seed in each.measured for group in seed.groups]
    return list(dict.fromkeys(found))


def _csv(comparison: Comparison) -> str:
    """A line for each model, seed, group and method; effort and cost beside the model's own."""
    costs = [f"{what}_{size}" for what in ("ms", "peak_mb") for size in _render_sizes(comparison)]
    names = ("model", "size_px", "seed", "group", "method", *MEASURES, *EFFORT, *costs)
    rows = [
        {
            "model": each.entry.name, "size_px": each.entry.size, "seed": seed, "group": group, "method": method,
            **scores,
            **({**measured.effort, **_cost_text(each)} if method == "model" else {}),
        }
        for each in comparison.models
        for seed, measured in enumerate(each.measured)
        for group, methods in measured.groups.items()
        for method, scores in methods.items()
    ]  # fmt: skip
    return Table([*map(Column, names)], rows).csv()


def _values(comparison: Comparison) -> dict[str, object]:
    return {
        "config": to_yaml_dict(comparison.config),
        "measured_on": comparison.measured_on,
        "machine": comparison.machine,
        "clock": comparison.clock,
        "models": [
            {
                "name": each.entry.name,
                "size": each.entry.size,
                "seeds": [
                    {"run": seed.run.name, "groups": seed.groups, "effort": seed.effort, "error": seed.error}
                    for seed in each.seeds
                ],
                "cost": each.cost,
            }
            for each in comparison.models
        ],
    }
