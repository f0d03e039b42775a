"""The tables as files: tables.md to paste, tables.csv and tables.yaml for programs, index.html to look at first."""

from __future__ import annotations

import base64
import csv
import dataclasses
import html
import io
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.evaluation.experiments.run import GroupScores, Measured
from pose2rgbd_ros.evaluation.experiments.tables import Filled, Outcome
from pose2rgbd_ros.evaluation.experiments.tables_findings import MEASURES, finding
from pose2rgbd_ros.evaluation.experiments.tables_plan import Row
from pose2rgbd_ros.settings import to_yaml_dict, write_yaml

BASELINES = {"mean_image": "mean image", "nearest_frame": "nearest frame"}
NOTHING = "n/a"  # as the paper writes it
CSV_MEASURES = ("rgb_mae_px", "psnr_db", "ssim", "depth_mae", "depth_known")
EFFORT = ("images", "epochs", "seconds", "parameters", "bytes")

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Tables of the paper, on our data</title>
<style>
 body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2rem auto; padding: 0 1rem; color: #222; }}
 table {{ border-collapse: collapse; margin: 1rem 0; }}
 th, td {{ padding: .3rem .9rem; border-bottom: 1px solid #ddd; text-align: right; }}
 th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) {{ text-align: left; }}
 tr.baseline td {{ color: #777; }} img {{ max-width: 100%; }}
</style>
<h1>Tables of the paper, on our data</h1>
<p>{effort}</p>
{tables}
</html>
"""


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
        layout.atomic_write(out / "index.html", _page(out, outcome).encode())
    except OSError as error:
        raise UserError(f"cannot write the tables into {out} ({error.strerror or error})") from error


def markdown(outcome: Outcome) -> str:
    """All tables, with headings and what they were measured on, ready to paste."""
    parts = [effort(outcome)]
    for filled in outcome.tables:
        header, *rows = cells(filled)
        left = len(filled.table.columns)
        marks = ["---"] * left + ["---:"] * (len(header) - left)
        lines = "\n".join(f"| {' | '.join(line)} |" for line in (header, marks, *rows))
        parts += [f"### {heading(filled)}", lines, *remarks(filled)]
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


def cells(filled: Filled) -> list[list[str]]:
    """The table as text, the header first: the paper's figures, ours by group, what each row was shown."""
    unit = next((each.depth_unit for _, each in filled.rows if not each.error), "m")
    depth = "depth (m)" if unit == "m" else "depth (rel.)"
    groups = group_names(filled)
    header = [*filled.table.columns, "paper: RGB (of 255)", f"paper: {depth}"]
    for group in groups:
        header += [f"{_short(group)}: RGB (of 255)", f"{_short(group)}: {depth}"]
    rows = [_row_cells(row, each, groups) for row, each in filled.rows]
    for method, label in BASELINES.items():
        scores = baseline(filled, method)
        figures = [_number(scores.get(g, {}).get(m), m) for g in groups for m in MEASURES]
        blank = [""] * (len(filled.table.columns) - 1)
        rows.append([f"*{label}*", *blank, NOTHING, NOTHING, *figures, ""])
    return [[*header, "epochs"], *rows]


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


def _row_cells(row: Row, each: Measured, groups: list[str]) -> list[str]:
    paper = [_number(value, None) for value in row.paper]
    figures = [_number(_model(each.groups, g).get(m), m) for g in groups for m in MEASURES]
    return [*row.cells, *paper, *figures, f"{each.effort['epochs']:.3g}" if each.effort else ""]


def _model(groups: GroupScores, group: str) -> dict[str, float]:
    return groups.get(group, {}).get("model", {})


def _number(value: float | None, measure: str | None) -> str:
    """Two decimals, three digits where that is more; the paper's (measure None) as printed."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if measure is None:
        return f"{value:g}"
    return f"{value:.2f}" if value >= 1 else f"{value:.3g}"


def _short(group: str) -> str:
    return {"held-out lines": "lines"}.get(group, group)


def _csv(outcome: Outcome) -> str:
    """A line for each row, group and method."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    front = ["table", "row", "output", "group", "method"]
    writer.writerow([*front, *CSV_MEASURES, "paper_rgb_px", "paper_depth", "depth_unit", *EFFORT, "error"])
    for filled in outcome.tables:
        for row, each in filled.rows:
            lines = [(g, m, s) for g, methods in each.groups.items() for m, s in methods.items()]
            for group, method, scores in lines or [("", "", {})]:
                writer.writerow(
                    [filled.table.number, *row.cells, group, method]
                    + [scores.get(name, "") for name in CSV_MEASURES]
                    + ["" if value is None else value for value in row.paper]
                    + [each.depth_unit, *(each.effort.get(name, "") for name in EFFORT), each.error]
                )
    return text.getvalue()


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


def _page(out: Path, outcome: Outcome) -> str:
    parts = []
    for filled in outcome.tables:
        header, *rows = cells(filled)
        body = "".join(
            f'<tr class="{"baseline" if row[0].startswith("*") else "model"}">'
            + "".join(f"<td>{html.escape(cell.strip('*'))}</td>" for cell in row)
            + "</tr>"
            for row in rows
        )
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
        parts.append(f"<h2>{html.escape(heading(filled))}</h2><table><tr>{head}</tr>{body}</table>")
        parts += [f"<p>{html.escape(note)}</p>" for note in remarks(filled)]
        picture = out / f"table{filled.table.number}.png"
        if picture.exists():
            parts.append(f'<img alt="recorded and predicted" src="{_embedded(picture)}">')
    return PAGE.format(effort=html.escape(effort(outcome).replace("*", "")), tables="\n".join(parts))


def _embedded(picture: Path) -> str:
    """As a JPEG, a fifth of the PNG's size, so that the page stays easy to send."""
    pixels = np.asarray(cv2.imread(str(picture)))
    _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 88])
    return "data:image/jpeg;base64," + base64.b64encode(bytes(encoded)).decode()
