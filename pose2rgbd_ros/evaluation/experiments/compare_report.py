"""A comparison as files: compare.md to paste, compare.csv for programs, compare.png to look at."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import numpy as np

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.evaluation.experiments.compare import Compared, Comparison
from pose2rgbd_ros.settings import to_yaml_dict, write_yaml

MEASURES = {
    "rgb_mae_px": ("RGB MAE (of 255)", ".2f"),
    "psnr_db": ("PSNR (dB)", ".2f"),
    "ssim": ("SSIM", ".3f"),
    "depth_mae": ("depth MAE", ".2f"),
    "depth_known": ("depth known", ".3f"),
}
BASELINES = {"mean_image": "mean image", "nearest_frame": "nearest frame"}
NOTHING = "–"


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
        parts += [f"### {group[0].upper()}{group[1:]}", _table(_quality(comparison, group))]
    parts += ["### Cost", _table(_costs(comparison)), *_remarks(comparison)]
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


def _quality(comparison: Comparison, group: str) -> list[list[str]]:
    """The header, a row a model, and the baselines of each size."""
    unit = next((each.measured[0].depth_unit for each in comparison.models if each.measured), "m")
    labels = [label for label, _ in MEASURES.values()]
    labels[3] += " (m)" if unit == "m" else " (rel.)"
    rows = [["model", "px", *labels]]
    for each in comparison.models:
        if each.measured:
            rows.append([each.entry.name, str(each.entry.size), *_cells(each, group, "model")])
    for size in dict.fromkeys(each.entry.size for each in comparison.models):
        of_size = [each for each in comparison.models if each.entry.size == size and each.measured]
        for method, label in BASELINES.items():
            if of_size:
                rows.append([f"*{label}*", str(size), *_cells(of_size[0], group, method)])
    return rows


def _cells(each: Compared, group: str, method: str) -> list[str]:
    cells = []
    for name, (_, style) in MEASURES.items():
        values = [seed.groups.get(group, {}).get(method, {}).get(name, math.nan) for seed in each.measured]
        cells.append(_with_spread(values, style))
    return cells


def _with_spread(values: list[float], style: str) -> str:
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return NOTHING
    mean = format(float(np.mean(known)), style)
    return mean if len(known) == 1 else f"{mean} ± {float(np.std(known, ddof=1)):{style}}"


def _costs(comparison: Comparison) -> list[list[str]]:
    clock = "CPU" if comparison.clock == "cpu" else "wall"
    sizes = sorted({size for each in comparison.models for size in map(int, each.cost.get("ms", {}))})
    header = ["model", "px", "MB", f"training ({clock} min)", "images shown"]
    header += [f"{size} px: ms a frame ({clock})" for size in sizes]
    header += [f"{size} px: peak MB" for size in sizes] + ["backend"]
    rows = [header]
    for each in comparison.models:
        if not each.measured:
            continue
        effort = each.measured[0].effort
        learnt = effort["images"] > 0
        row = [each.entry.name, str(each.entry.size), f"{effort['bytes'] / 1e6:.1f}"]
        row += [f"{effort['seconds'] / 60:.1f}" if learnt else "0", str(effort["images"])]
        for what, style in (("ms", ".1f"), ("peak_mb", ".0f")):
            values = each.cost.get(what, {})
            row += [format(values[str(size)], style) if str(size) in values else NOTHING for size in sizes]
        rows.append([*row, each.cost.get("backend", NOTHING)])
    return rows


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


def _table(rows: list[list[str]]) -> str:
    header, *body = rows
    marks = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, marks, *body))


def _csv(comparison: Comparison) -> str:
    """A line for each model, seed, group and method."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    effort = ("bytes", "parameters", "seconds", "images", "epochs")
    sizes = [
        str(size) for size in sorted({int(s) for each in comparison.models for s in each.cost.get("ms", {})})
    ]
    costs = [f"{what}_{size}" for what in ("ms", "peak_mb") for size in sizes]
    writer.writerow(["model", "size_px", "seed", "group", "method", *MEASURES, *effort, *costs])
    for each in comparison.models:
        cost = [each.cost.get(what, {}).get(size, "") for what in ("ms", "peak_mb") for size in sizes]
        for seed, measured in enumerate(each.measured):
            front = [each.entry.name, each.entry.size, seed]
            told = [measured.effort.get(name, "") for name in effort]
            for group, methods in measured.groups.items():
                for method, scores in methods.items():
                    own = [*told, *cost] if method == "model" else [""] * (len(told) + len(cost))
                    writer.writerow([*front, group, method, *(scores.get(m, "") for m in MEASURES), *own])
    return text.getvalue()


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
