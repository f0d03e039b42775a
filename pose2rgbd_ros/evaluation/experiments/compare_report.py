"""A comparison as files: compare.md to paste, compare.csv for programs, compare.png to look at."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.evaluation.experiments.compare import Compared, Comparison
from pose2rgbd_ros.reports.table import Column, Table, mean_spread
from pose2rgbd_ros.settings import to_yaml_dict, write_yaml

MEASURES = ("rgb_mae_px", "psnr_db", "ssim", "depth_mae", "depth_known")
EFFORT = ("bytes", "parameters", "seconds", "images", "epochs")
BASELINES = {"mean_image": "mean image", "nearest_frame": "nearest frame"}


def write_report(out: Path, comparison: Comparison, picture: bool) -> None:
    """Write what is measured so far; `picture`: draw the models' pictures too. UserError: cannot be written."""
    from pose2rgbd_ros.evaluation.experiments.compare_picture import draw_comparison

    try:
        out.mkdir(parents=True, exist_ok=True)
        layout.atomic_write(out / "compare.md", markdown(comparison).encode())
        layout.atomic_write(out / "compare.csv", _csv(comparison).encode())
        write_yaml(out / "compare.yaml", _values(comparison))
        if picture:
            draw_comparison(out / "compare.png", comparison)
    except OSError as error:
        raise UserError(f"cannot write the comparison into {out} ({error.strerror or error})") from error


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
            **_cost(each),
        })  # fmt: skip
    return Table(columns, rows)


def _render_sizes(comparison: Comparison) -> list[int]:
    return sorted({int(size) for each in comparison.models for size in each.cost.get("ms", {})})


def _cost(each: Compared) -> dict[str, float]:
    """Of rendering: "ms_128" and the like."""
    of = {what: each.cost.get(what, {}) for what in ("ms", "peak_mb")}
    return {f"{what}_{size}": value for what, values in of.items() for size, value in values.items()}


def _remarks(comparison: Comparison) -> list[str]:
    threads = comparison.config.render_threads
    notes = [
        f"Rendering: through the Renderer, {threads} thread{'s' if threads > 1 else ''}, median; the peak is that of the "
        "whole process, libraries included, rendering the sizes in rising order. Base and Slice have one size."
    ]
    collapsed = [
        each.entry.name for each in comparison.models if any(seed.collapsed for seed in each.measured)
    ]
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
            **({**measured.effort, **_cost(each)} if method == "model" else {}),
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
