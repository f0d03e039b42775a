"""A place's cumulative curves, from the lines that each run wrote for its frames."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pose2rgbd_ros.evaluation import localization_curves
from pose2rgbd_ros.evaluation.experiments.localization import FRAMES_FILES, Place, Row
from pose2rgbd_ros.evaluation.experiments.localization_plan import TITLES, place_name
from pose2rgbd_ros.geometry.arrays import Bool, Float64

COLOURS = {
    "posegan": "#0b6e4f", "posegan-a": "#7fbf9f", "posegan-b": "#4a90d9", "posegan-c": "#9b59b6", "posenet": "#d1781e",
    "posenet-resnet": "#c0392b", "retrieval": "#999999", "retrieval-inter": "#555555", "structure": "#000000",
    "mean-pose": "#cccccc",
}  # fmt: skip


def draw_curves(path: Path, place: Place) -> None:
    """Share of the held-out frames within an error, a column a size: above of the position, below of the orientation."""
    rows = [row for row in place.rows if not row.error]
    if not rows:
        return
    sizes: list[int | None] = list(dict.fromkeys(row.size for row in rows if row.size)) or [None]
    figure = Figure(figsize=(6.2 * len(sizes), 8), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(2, len(sizes), squeeze=False)
    for column, size in enumerate(sizes):
        shown = sorted((row for row in rows if row.size in (size, None)), key=_order)
        for line, kind in enumerate(localization_curves.KINDS):
            axes = grid[line, column]
            localization_curves.prepare(axes, *kind, [_frames(row)[:2][line] for row in shown])
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
    localization_curves.plot(axes, errors, accepted, TITLES[method], COLOURS[method], style)


def _order(row: Row) -> int:
    return list(TITLES).index(row.method)
