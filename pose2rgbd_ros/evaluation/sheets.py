"""Contact sheets: recorded | predicted | error for colour and depth, and confidence, one frame a row."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pose2rgbd_ros.reports.charts import gradient, tile_url
from pose2rgbd_ros.reports.page import Scale, Tiles

DEPTH_COLOURS = "turbo_r"  # near is red, far is blue
ERROR_COLOURS = "magma"
CONFIDENCE_COLOURS = "RdYlBu"  # 1, the ideal, is the pale middle
SHARE_COLOURS = "viridis"
UNKNOWN_GREY = "0.25"
TILE_INCH, HEAD_INCH = 1.5, 0.8
LINE_INCH, LETTERS_AN_INCH = 0.16, 13  # of the title


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
    path: Path, rows: list[SheetRow], title: str = "", depth_unit: str = "m", dpi: int = 110, is_share: bool = False
) -> None:
    """Write a PNG (or JPEG, by suffix) of the rows, with a colour bar under each column that is not a photograph.

    is_share: confidence is a share of 1, not a sum of slices.
    """
    draw_blocks(path, [Block(_columns(rows, depth_unit, is_share), [row.label for row in rows])], title, dpi)


@dataclass
class SheetColumn:
    """Images under one title, one a row (None: an empty place), with one scale for all of them."""

    title: str
    images: list[np.ndarray | None]
    colours: str | None = None  # colour map of what is not a photograph
    low: float | None = None
    high: float | None = None


@dataclass
class Block:
    """Columns side by side, a label a row."""

    columns: list[SheetColumn]
    labels: list[str]


def draw_blocks(path: Path, blocks: list[Block], title: str = "", dpi: int = 110) -> None:
    """Write blocks one below the other as a PNG or JPEG; a title too long for one line takes more. Raises OSError."""
    widest = max(len(block.columns) for block in blocks)
    rows = [max(len(_wrapped(column.title)) for column in block.columns) for block in blocks]
    heads = [HEAD_INCH + LINE_INCH * (count - 1) for count in rows]
    heights = [TILE_INCH * len(block.labels) + space for block, space in zip(blocks, heads, strict=True)]
    whole = TILE_INCH * widest + 0.5
    lines = [part for line in title.splitlines() for part in wrap(line, int(LETTERS_AN_INCH * whole))]
    head = 0.3 + LINE_INCH * max(len(lines) - 1, 0)
    high = sum(heights) + head
    figure = Figure(figsize=(whole, high), dpi=dpi)
    top = high - head
    for block, height, space in zip(blocks, heights, heads, strict=True):
        grid = figure.add_gridspec(
            len(block.labels) + 1, len(block.columns), height_ratios=[1.0] * len(block.labels) + [0.06],
            left=0.4 / whole, right=(0.4 + (whole - 0.5) * len(block.columns) / widest) / whole,
            top=(top - 0.25 - (space - HEAD_INCH)) / high, bottom=(top - height + 0.35) / high,
            wspace=0.03, hspace=0.03,
        )  # fmt: skip
        for j, column in enumerate(block.columns):
            _draw_column(figure, grid, j, column, block.labels)
        top -= height
    figure.suptitle("\n".join(lines), fontsize=9, y=1 - 0.12 / high, parse_math=False)  # names may hold a $
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def new_figure(width_inch: float, height_inch: float, dpi: int = 90) -> Figure:
    """A figure that needs no window."""
    figure = Figure(figsize=(width_inch, height_inch), dpi=dpi, layout="constrained")
    return figure


def png(figure: Figure) -> bytes:
    """The picture as a file's content, its margins cut off."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    return buffer.getvalue()


def _wrapped(title: str) -> list[str]:
    """Lines no wider than a tile: beside each other long titles would overlap."""
    return wrap(title, int(LETTERS_AN_INCH * TILE_INCH)) or [""]


def _draw_column(figure: Figure, grid: Any, j: int, column: SheetColumn, labels: list[str]) -> None:
    shown: Any = None
    for i, (image, label) in enumerate(zip(column.images, labels, strict=True)):
        axes = figure.add_subplot(grid[i, j])
        axes.set(xticks=[], yticks=[])
        axes.set_facecolor(UNKNOWN_GREY)
        if i == 0:
            axes.set_title("\n".join(_wrapped(column.title)), fontsize=8, parse_math=False)
        if j == 0:
            axes.set_ylabel(label, fontsize=7, parse_math=False)
        if image is not None:
            shown = axes.imshow(image, cmap=column.colours, vmin=column.low, vmax=column.high, aspect="equal")
    if column.colours and shown is not None:
        bar = figure.colorbar(shown, cax=figure.add_subplot(grid[len(labels), j]), orientation="horizontal")
        bar.ax.xaxis.set_major_locator(MaxNLocator(4))
        bar.ax.tick_params(labelsize=6, length=2)
        turn_labels_inward(bar.ax)


def turn_labels_inward(axes: Any) -> None:
    """Labels near an end of a colour bar are set towards its middle, so that they do not touch the next bar's."""
    low, high = axes.get_xlim()
    # The locator's ticks within the bar; set, so that they and their labels stay.
    axes.set_xticks([tick for tick in axes.get_xticks() if low <= tick <= high])
    for tick, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True):
        place = (tick - low) / (high - low)
        label.set_horizontalalignment("left" if place < 0.1 else "right" if place > 0.9 else "center")


def rgb_error(recorded: np.ndarray | None, shown: np.ndarray | None) -> np.ndarray | None:
    """(H, W) mean over the channels of the absolute difference of two uint8 (H, W, 3); None where one is absent."""
    if recorded is None or shown is None:
        return None
    difference: np.ndarray = np.abs(recorded.astype(np.float32) - shown.astype(np.float32)).mean(axis=2)
    return difference


def depth_error(recorded: np.ndarray | None, shown: np.ndarray | None) -> np.ndarray | None:
    """(H, W) absolute difference, NaN where one is unknown; None where one is absent."""
    return None if recorded is None or shown is None else np.abs(recorded - shown)


def error_limit(errors: list[np.ndarray | None]) -> float:
    """Top of an error scale: the 98th percentile, so single edges do not darken the rest."""
    there = [error[np.isfinite(error)] for error in errors if error is not None]
    known = np.concatenate(there) if there else np.array([])
    return max(float(np.percentile(known, 98)), 1e-6) if known.size else 1.0


def depth_limits(depths: list[np.ndarray | None]) -> tuple[float, float]:
    """Ends of a depth scale: all but the outermost half percents."""
    there = [depth[np.isfinite(depth)] for depth in depths if depth is not None]
    known = np.concatenate(there) if there else np.array([])
    if not known.size:
        return 0.0, 1.0
    low, high = np.percentile(known, [0.5, 99.5])
    return float(low), float(max(high, low + 1e-6))


def tiles_of(rows: Sequence[tuple[str, SheetRow]], depth_unit: str = "m", is_share: bool = False) -> Tiles:
    """The rows of a sheet, under their labels, as tiles of a page."""
    columns = _columns([row for _, row in rows], depth_unit, is_share)
    return block_tiles(Block(columns, [label for label, _ in rows]))


def block_tiles(block: Block) -> Tiles:
    """A block as tiles of a page."""
    scales, images = list[Scale | None](), list[list[str]]()
    for column in block.columns:
        if column.colours is None:
            scales.append(None)
            low, high = 0.0, 1.0
        else:
            there = [image for image in column.images if image is not None]
            known = np.concatenate([image[np.isfinite(image)] for image in there]) if there else np.zeros(1)
            ends = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
            low = ends[0] if column.low is None else column.low
            high = ends[1] if column.high is None else column.high
            scales.append(Scale(f"{low:.3g}", f"{high:.3g}", gradient(column.colours)))
        images.append(["" if image is None else tile_url(image, column.colours, low, high) for image in column.images])
    rows = [(label, list(cells)) for label, *cells in zip(block.labels, *images, strict=True)]
    return Tiles([column.title for column in block.columns], scales, rows)


def _columns(rows: list[SheetRow], depth_unit: str, is_share: bool) -> list[SheetColumn]:
    columns: list[SheetColumn] = []
    unit = f"({depth_unit.strip('()')})"

    def add(title: str, images: list[np.ndarray | None], *scale: Any) -> None:
        if any(image is not None for image in images):
            columns.append(SheetColumn(title, images, *scale))

    add("recorded", [row.rgb for row in rows])
    add("predicted", [row.rgb_predicted for row in rows])
    errors = [rgb_error(row.rgb, row.rgb_predicted) for row in rows]
    add("RGB error (0..255)", errors, ERROR_COLOURS, 0.0, error_limit(errors))
    recorded, predicted = [row.depth for row in rows], [row.depth_predicted for row in rows]
    limits = depth_limits(recorded + predicted)
    add(f"recorded depth {unit}", recorded, DEPTH_COLOURS, *limits)
    add(f"predicted depth {unit}", predicted, DEPTH_COLOURS, *limits)
    errors = [depth_error(row.depth, row.depth_predicted) for row in rows]
    add(f"depth error {unit}", errors, ERROR_COLOURS, 0.0, error_limit(errors))
    confidence = [row.confidence for row in rows]
    if is_share:
        add("confidence", confidence, SHARE_COLOURS, 0.0, 1.0)
    else:
        add("confidence (ideal 1)", confidence, CONFIDENCE_COLOURS, 0.0, 2.0)
    return columns
