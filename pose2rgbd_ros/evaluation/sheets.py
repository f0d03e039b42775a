"""Contact sheets: recorded | predicted | error for colour and depth, and confidence, one frame a row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

DEPTH_COLOURS = "turbo_r"  # near is red, far is blue
ERROR_COLOURS = "magma"
CONFIDENCE_COLOURS = "RdYlBu"  # 1, the ideal, is the pale middle
UNKNOWN_GREY = "0.25"
TILE_INCH = 1.5


@dataclass
class SheetRow:
    """One frame: colour uint8 (H, W, 3), depth float (H, W) with NaN unknown, confidence (h, w); None where absent."""

    label: str
    rgb: np.ndarray | None = None
    rgb_predicted: np.ndarray | None = None
    depth: np.ndarray | None = None
    depth_predicted: np.ndarray | None = None
    confidence: np.ndarray | None = None


def draw_sheet(
    path: Path, rows: list[SheetRow], title: str = "", depth_unit: str = "m", dpi: int = 110
) -> None:
    """Write a PNG (or JPEG, by suffix) of the rows, with a colour bar under each column that is not a photograph."""
    columns = _columns(rows, depth_unit)
    figure = Figure(figsize=(TILE_INCH * len(columns) + 0.5, TILE_INCH * len(rows) + 1.1), dpi=dpi)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        len(rows) + 1, len(columns), height_ratios=[1.0] * len(rows) + [0.06],
        left=0.4 / figure.get_figwidth(), right=0.99, top=1 - 0.55 / figure.get_figheight(),
        bottom=0.35 / figure.get_figheight(), wspace=0.03, hspace=0.03,
    )  # fmt: skip
    for j, column in enumerate(columns):
        shown: Any = None
        for i, row in enumerate(rows):
            axes = figure.add_subplot(grid[i, j])
            axes.set(xticks=[], yticks=[])
            axes.set_facecolor(UNKNOWN_GREY)
            if i == 0:
                axes.set_title(column.title, fontsize=8)
            if j == 0:
                axes.set_ylabel(row.label, fontsize=7)
            image = column.image(row)
            if image is not None:
                shown = axes.imshow(
                    image, cmap=column.colours, vmin=column.low, vmax=column.high, aspect="equal"
                )
        if column.colours and shown is not None:
            bar = figure.colorbar(shown, cax=figure.add_subplot(grid[len(rows), j]), orientation="horizontal")
            bar.ax.xaxis.set_major_locator(MaxNLocator(4))
            bar.ax.tick_params(labelsize=6, length=2)
            turn_labels_inward(bar.ax)
    figure.suptitle(title, fontsize=9, y=1 - 0.12 / figure.get_figheight())
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def turn_labels_inward(axes: Any) -> None:
    """Labels near an end of a colour bar are set towards its middle, so that they do not touch the next bar's."""
    low, high = axes.get_xlim()
    # The locator's ticks within the bar; set, so that they and their labels stay.
    axes.set_xticks([tick for tick in axes.get_xticks() if low <= tick <= high])
    for tick, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True):
        place = (tick - low) / (high - low)
        label.set_horizontalalignment("left" if place < 0.1 else "right" if place > 0.9 else "center")


@dataclass
class _Column:
    title: str
    image: Any  # SheetRow -> array | None
    colours: str | None = None
    low: float | None = None
    high: float | None = None


def _columns(rows: list[SheetRow], depth_unit: str) -> list[_Column]:
    columns: list[_Column] = []
    unit = f"({depth_unit.strip('()')})"
    if any(row.rgb is not None for row in rows):
        columns.append(_Column("recorded", lambda row: row.rgb))
    if any(row.rgb_predicted is not None for row in rows):
        high = _high([_rgb_error(row) for row in rows])
        columns.append(_Column("predicted", lambda row: row.rgb_predicted))
        columns.append(_Column("RGB error (0..255)", _rgb_error, ERROR_COLOURS, 0.0, high))
    depths = [image for row in rows for image in (row.depth, row.depth_predicted) if image is not None]
    if depths:
        low, far = _depth_limits(depths)
        for title, image in (("recorded depth", _depth), ("predicted depth", _depth_predicted)):
            if any(image(row) is not None for row in rows):
                columns.append(_Column(f"{title} {unit}", image, DEPTH_COLOURS, low, far))
        if any(_depth_error(row) is not None for row in rows):
            high = _high([_depth_error(row) for row in rows])
            columns.append(_Column(f"depth error {unit}", _depth_error, ERROR_COLOURS, 0.0, high))
    if any(row.confidence is not None for row in rows):
        columns.append(
            _Column("confidence (ideal 1)", lambda row: row.confidence, CONFIDENCE_COLOURS, 0.0, 2.0)
        )
    return columns


def _depth(row: SheetRow) -> np.ndarray | None:
    return row.depth


def _depth_predicted(row: SheetRow) -> np.ndarray | None:
    return row.depth_predicted


def _rgb_error(row: SheetRow) -> np.ndarray | None:
    """(H, W) mean over the channels of the absolute difference."""
    if row.rgb is None or row.rgb_predicted is None:
        return None
    return np.abs(row.rgb.astype(np.float32) - row.rgb_predicted.astype(np.float32)).mean(axis=2)


def _depth_error(row: SheetRow) -> np.ndarray | None:
    return (
        None if row.depth is None or row.depth_predicted is None else np.abs(row.depth - row.depth_predicted)
    )


def _high(errors: list[np.ndarray | None]) -> float:
    """Top of an error scale: the 98th percentile, so single edges do not darken the rest."""
    known = np.concatenate([error[np.isfinite(error)] for error in errors if error is not None])
    return max(float(np.percentile(known, 98)), 1e-6) if known.size else 1.0


def _depth_limits(depths: list[np.ndarray]) -> tuple[float, float]:
    known = np.concatenate([depth[np.isfinite(depth)] for depth in depths])
    if not known.size:
        return 0.0, 1.0
    low, high = np.percentile(known, [0.5, 99.5])
    return float(low), float(max(high, low + 1e-6))
