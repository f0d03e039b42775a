"""The tables as files: tables.md to paste, tables.csv and tables.yaml for programs, index.html to look at first."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.evaluation.experiments.tables import Filled, Outcome
from pose2rgbd_ros.evaluation.experiments.tables_findings import MEASURES, finding
from pose2rgbd_ros.reports.page import Page, Picture, Section, listed
from pose2rgbd_ros.reports.table import Column, Table
from pose2rgbd_ros.settings import to_flat, to_yaml_dict, write_yaml

BASELINES = {"mean_image": "mean image", "nearest_frame": "nearest frame"}
NOTHING = "n/a"  # as the paper writes it
SHORT = {"held-out lines": "lines"}  # groups, in headings
CSV_COLUMNS = (
    "table", "row", "output", "group", "method", "rgb_mae_px", "psnr_db", "ssim", "depth_mae", "depth_known",
    "paper_rgb_px", "paper_depth", "depth_unit", "images", "epochs", "seconds", "parameters", "bytes", "error",
)  # fmt: skip


def write_report(out: Path, outcome: Outcome, pictures: bool) -> None:
    """Write the files of what is measured so far; `pictures`: also draw each table's. UserError: cannot be written."""
    from pose2rgbd_ros.evaluation.experiments.tables_pictures import draw_table

    try:
        out.mkdir(parents=True, exist_ok=True)
        if pictures:
            for filled in outcome.tables:
                draw_table(out / f"table{filled.table.number}.png", filled)
        layout.atomic_write(out / "tables.md", markdown(outcome).encode())
        layout.atomic_write(out / "tables.csv", _csv(outcome).encode())
        write_yaml(out / "tables.yaml", _values(outcome))
        layout.atomic_write(out / "index.html", _page(out, outcome).html())
    except OSError as error:
        raise UserError(f"cannot write the tables into {out} ({error.strerror or error})") from error


def markdown(outcome: Outcome) -> str:
    """All tables, with headings and what they were measured on, ready to paste."""
    parts = [effort(outcome)]
    for filled in outcome.tables:
        parts += [f"### {heading(filled)}", scored(filled).markdown(), *remarks(filled)]
    return "\n\n".join(parts) + "\n"


def heading(filled: Filled) -> str:
    """Such as "Table 2: Base against Slice"."""
    return f"Table {filled.table.number}: {filled.table.title}"


def effort(outcome: Outcome) -> str:
    """One sentence on scale, training time and machine."""
    config = outcome.config
    clock = "processor" if "processor" in outcome.machine else "wall"
    parts = [f"{config.size} px", f"recipe {config.recipe}", f"seed {config.seed}"]
    if config.width != 1:
        parts.append(f"networks of {config.width:g} times the paper's width")
    if config.minutes is not None:
        parts.append(f"{config.minutes:g} minutes of the {clock} a row")
    if config.epochs is not None:
        parts.append(f"at most {counted(config.epochs, 'epoch')}")
    return (
        f"Scale {config.scale}: {', '.join(parts)}; {outcome.machine}. Mean absolute errors, colour in 0..255. "
        "*Random*: frames held out at random, whose neighbours were trained on (the paper's split); *lines*: whole lines "
        "of the flight (or stretches of it) that nobody saw. One training serves both."
    )


def scored(filled: Filled) -> Table:
    """The paper's figures, ours by group, what each row was shown; then the baselines."""
    unit = next((each.depth_unit for _, each in filled.rows if not each.error), "m")
    groups, names = group_names(filled), filled.table.columns
    of = (("RGB", "of 255"), ("depth", unit if unit == "m" else "rel."))
    columns = [Column(name, missing="") for name in names]
    columns += [Column(f"paper {what}", f"paper: {what}", "g", unit, NOTHING) for what, unit in of]
    for group in groups:
        columns += [
            Column(f"{group} {measure}", f"{SHORT.get(group, group)}: {what}", _digits, unit, NOTHING)
            for measure, (what, unit) in zip(MEASURES, of, strict=True)
        ]
    rows: list[dict[str, Any]] = []
    for row, each in filled.rows:
        paper = {f"paper {what}": value for (what, _), value in zip(of, row.paper, strict=True)}
        ours = _figures({group: methods.get("model", {}) for group, methods in each.groups.items()})
        rows.append({**dict(zip(names, row.cells, strict=True)), **paper, **ours, **each.effort})
    rows += [{names[0]: label, **_figures(baseline(filled, name))} for name, label in BASELINES.items()]
    return Table(
        [*columns, Column("epochs", format=".3g", missing="")], rows,
        muted=range(len(filled.rows), len(rows)),
    )  # fmt: skip


def _figures(scores: dict[str, dict[str, float]]) -> dict[str, float]:
    """Of group -> measure -> value, by the keys of :func:`scored`."""
    return {f"{group} {name}": value for group, values in scores.items() for name, value in values.items()}


def _digits(value: float) -> str:
    """Two decimals, three digits where that is more."""
    return f"{value:.2f}" if value >= 1 else f"{value:.3g}"


def group_names(filled: Filled) -> list[str]:
    """The groups of held-out frames, in the order the split names them."""
    return next((list(each.groups) for _, each in filled.rows if not each.error), [])


def baseline(filled: Filled, method: str) -> dict[str, dict[str, float]]:
    """Group -> measure -> mean of a baseline, put together from rows: a depth network's evaluation knows no colour."""
    found: dict[str, dict[str, float]] = {}
    for _, each in filled.rows:
        for group, methods in each.groups.items():
            found[group] = {**methods.get(method, {}), **found.get(group, {})}
    return found


def remarks(filled: Filled) -> list[str]:
    """What stands under a table."""
    notes = [f"Measured on {filled.measured_on}."]
    found = finding(filled.table.number, filled.rows, group_names(filled))
    notes += [*([found] if found else []), *filled.table.remarks]
    collapsed = [" ".join(row.cells) for row, each in filled.rows if each.collapsed]
    if collapsed:
        notes.append(f"Collapsed to nearly one image, whatever the pose: {', '.join(collapsed)}.")
    notes += [
        f"{' '.join(row.cells)} was not trained: {each.error}" for row, each in filled.rows if each.error
    ]
    return notes


def _csv(outcome: Outcome) -> str:
    """A line for each row, group and method."""
    rows = [
        {
            "table": filled.table.number, **dict(zip(("row", "output"), row.cells, strict=True)),
            "group": group, "method": method, **scores,
            **dict(zip(("paper_rgb_px", "paper_depth"), row.paper, strict=True)),
            "depth_unit": each.depth_unit, **each.effort, "error": each.error,
        }
        for filled in outcome.tables
        for row, each in filled.rows
        for group, methods in (each.groups or {"": {"": {}}}).items()
        for method, scores in methods.items()
    ]  # fmt: skip
    return Table([*map(Column, CSV_COLUMNS)], rows).csv()


def _values(outcome: Outcome) -> dict[str, Any]:
    return {
        "config": to_yaml_dict(outcome.config),
        "machine": outcome.machine,
        "tables": [
            {
                "number": filled.table.number,
                "title": filled.table.title,
                "dataset": str(filled.dataset),
                "measured_on": filled.measured_on,
                "rows": [
                    {
                        "cells": list(row.cells),
                        "paper": list(row.paper),
                        **{**dataclasses.asdict(each), "run": each.run.name},
                    }
                    for row, each in filled.rows
                ],
            }
            for filled in outcome.tables
        ],
    }


def _page(out: Path, outcome: Outcome) -> Page:
    sections = [Section(text=[effort(outcome).replace("*", "")])]
    for filled in outcome.tables:
        picture = f"table{filled.table.number}.png"
        pictures = [Picture(picture, "recorded and predicted")] if (out / picture).exists() else []
        sections.append(Section(heading(filled), scored(filled), remarks(filled), pictures))
    trained = [each for filled in outcome.tables for _, each in filled.rows if not each.error]
    verdict = f"{counted(len(trained), 'network')} trained and measured"
    if outcome.failed:
        verdict += f", {len(outcome.failed)} could not be trained"
    collapsed = sum(each.collapsed for each in trained)
    if collapsed:
        verdict += f", {collapsed} collapsed to nearly one image"
    return Page(
        "Tables of the paper, on our data",
        f"{verdict}.",
        sections,
        provenance={
            **{heading(filled): str(filled.dataset) for filled in outcome.tables},
            "machine": outcome.machine,
            "settings": listed(to_flat(outcome.config)),
        },
        mood="bad" if outcome.failed or collapsed else "neutral",
    )
