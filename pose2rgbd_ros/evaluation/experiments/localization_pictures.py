"""A place's cumulative curves, from the lines that each run wrote for its frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pose2rgbd_ros.evaluation.experiments.localization import FRAMES_FILES, Place, Row
from pose2rgbd_ros.evaluation.experiments.localization_plan import TITLES
from pose2rgbd_ros.evaluation.localization import cumulative
from pose2rgbd_ros.geometry.arrays import Bool, Float64

COLOURS = {
    "posegan": "#0b6e4f", "posegan-a": "#7fbf9f", "posegan-b": "#4a90d9", "posegan-c": "#9b59b6", "posenet": "#d1781e",
    "posenet-resnet": "#c0392b", "retrieval": "#999999", "retrieval-inter": "#555555", "structure": "#000000",
    "mean-pose": "#cccccc",
}  # fmt: skip
_POINTS = 300


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
        shown = [row for row in rows if row.size in (size, None)]
        for line, (unit, what) in enumerate((("m", "position"), ("°", "orientation"))):
            axes = grid[line, column]
            limits = _range([_errors(row)[line] for row in shown])
            for method in dict.fromkeys(row.method for row in sorted(shown, key=_order)):
                _curve(axes, [row for row in shown if row.method == method], line, limits)
            axes.set(xscale="log", xlim=limits, ylim=(0, 1), xlabel=f"error of the {what} ({unit})")
            axes.set_ylabel("share of the held-out frames")
            axes.grid(alpha=0.3, which="both")
        grid[0, column].set_title(f"{size} px, all seeds together" if size else "")
    handles = grid[0, 0].get_legend_handles_labels()
    figure.legend(*handles, fontsize=8, loc="outside lower center", ncols=2 + len(sizes))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def read_frames(file: Path) -> tuple[Float64, Float64, Bool]:
    """Position (m) and orientation (deg) errors (N,), and which frames were accepted, of a frames.csv."""
    values = np.genfromtxt(
        file, delimiter=",", skip_header=1, usecols=(15, 16, 18), encoding="utf-8", ndmin=2
    )
    return values[:, 0], values[:, 1], values[:, 2] > 0.5


def _frames(row: Row) -> tuple[Float64, Float64, Bool]:
    return read_frames(row.run / FRAMES_FILES["colour"])


def _errors(row: Row) -> tuple[Float64, Float64]:
    return _frames(row)[:2]


def _curve(axes: Any, rows: list[Row], line: int, limits: tuple[float, float]) -> None:
    errors = np.concatenate([_errors(row)[line] for row in rows])
    accepted = np.concatenate([_frames(row)[2] for row in rows])
    at = np.geomspace(*limits, _POINTS)
    method = rows[0].method
    style = "-" if rows[0].size else "--"
    axes.plot(
        at, cumulative(errors, accepted, at), style, color=COLOURS[method], label=TITLES[method], lw=1.5
    )


def _order(row: Row) -> int:
    return list(TITLES).index(row.method)


def _range(errors: list[Float64]) -> tuple[float, float]:
    """From the smallest hundredth to the largest error."""
    known = np.concatenate(errors)
    known = known[np.isfinite(known)]
    if not len(known):
        return 0.01, 1.0
    low, high = max(float(np.quantile(known, 0.01)), 1e-4), float(known.max())
    return low, max(high, 1.1 * low)
