"""A comparison's picture: the same held-out frames as recorded and as each model shows them, with the errors below."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pose2rgbd_ros.dataset.cache import frame_cache
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.splits import split_from_dict
from pose2rgbd_ros.evaluation.experiments.compare import Comparison
from pose2rgbd_ros.evaluation.sheets import DEPTH_COLOURS, ERROR_COLOURS, UNKNOWN_GREY
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.training.checkpoint import load_checkpoint

FRAMES_OF_GROUP = {"random": 1}
FRAMES_OF_OTHERS = 2
TILE_INCH = 1.5
RGB_ERROR_PX = 80.0  # top of the scale
DEPTH_ERROR_SHARE = 0.1  # top of the scale, as a share of the frame's median depth


@dataclass
class _Column:
    """A model's images of the frames, and what was recorded at its size."""

    title: str
    rgb: np.ndarray | None  # uint8 (F, S, S, 3)
    depth: np.ndarray | None  # float (F, S, S), NaN unknown
    true_rgb: np.ndarray
    true_depth: np.ndarray | None


def draw_comparison(path: Path, comparison: Comparison) -> None:
    """Write a PNG of seed 0 of each model; nothing where no model was measured."""
    models = [each for each in comparison.models if each.measured]
    if not models:
        return
    dataset = Dataset(comparison.dataset)
    frames, labels = _frames(dataset, models[0].measured[0].run)
    columns = [_column(each.entry.name, dataset, each.measured[0].run, frames, comparison) for each in models]
    _draw(path, columns, labels, f"{comparison.measured_on}; seed 0 of each model")


def _frames(dataset: Dataset, run: Path) -> tuple[np.ndarray, list[str]]:
    recorded = load_checkpoint(run).provenance["split"]
    split = split_from_dict(recorded, dataset.stamps_ns, dataset.T_map_cam[:, :3, 3], folder=dataset.path)
    chosen, labels = [], []
    for name, indices in (split.groups or {"held out": split.test}).items():
        count = min(FRAMES_OF_GROUP.get(name, FRAMES_OF_OTHERS), len(indices))
        chosen += [int(indices[int((i + 0.5) / count * len(indices))]) for i in range(count)]
        labels += [name] * count
    return np.array(chosen, int), labels


def _column(title: str, dataset: Dataset, run: Path, frames: np.ndarray, comparison: Comparison) -> _Column:
    checkpoint = load_checkpoint(run)
    cache = frame_cache(dataset, checkpoint.camera.width, checkpoint.provenance.get("fit", "square"))
    shown = Renderer(run, comparison.config.device).render(dataset.T_map_cam[frames])
    true_depth = None if cache.depth is None else np.array(cache.depth[frames])
    return _Column(title, shown.rgb, shown.depth, np.array(cache.rgb[frames]), true_depth)


def _draw(path: Path, columns: list[_Column], labels: list[str], title: str) -> None:
    """Four lines a frame: colour, its error, depth, its error."""
    lines = [line for i, label in enumerate(labels) for line in _lines(columns, i, label)]
    figure = Figure(figsize=(TILE_INCH * (len(columns) + 1) + 0.4, TILE_INCH * len(lines) + 0.6), dpi=90)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        len(lines), len(columns) + 1, left=0.3 / figure.get_figwidth(), right=0.995,
        top=1 - 0.55 / figure.get_figheight(), bottom=0.005, wspace=0.03, hspace=0.03,
    )  # fmt: skip
    for i, (label, images, style) in enumerate(lines):
        for j, image in enumerate(images):
            axes = figure.add_subplot(grid[i, j])
            axes.set(xticks=[], yticks=[], facecolor=UNKNOWN_GREY)
            if image is not None:
                axes.imshow(image, **style)
            elif j == 0:
                axes.set_facecolor("white")
                axes.set_frame_on(False)
            if j == 0:
                axes.set_ylabel(label, fontsize=7)
            if i == 0:
                axes.set_title(["recorded", *(column.title for column in columns)][j], fontsize=8)
    figure.suptitle(title, fontsize=8, y=1 - 0.08 / figure.get_figheight())
    figure.savefig(path)


def _lines(columns: list[_Column], i: int, label: str) -> list[tuple[str, list[Any], dict[str, Any]]]:
    """(label, images of recorded and of each model, how they are drawn) of one frame."""
    largest = max(columns, key=lambda column: column.true_rgb.shape[1])
    lines: list[tuple[str, list[Any], dict[str, Any]]] = []
    if any(column.rgb is not None for column in columns):
        rgb = [None if column.rgb is None else column.rgb[i] for column in columns]
        off = [
            None if image is None else np.abs(image.astype(float) - column.true_rgb[i]).mean(axis=2)
            for image, column in zip(rgb, columns, strict=True)
        ]
        lines.append((label, [largest.true_rgb[i], *rgb], {}))
        scale = {"cmap": ERROR_COLOURS, "vmin": 0.0, "vmax": RGB_ERROR_PX}
        lines.append((f"error, 0..{RGB_ERROR_PX:.0f} px", [None, *off], scale))
    truth = None if largest.true_depth is None else largest.true_depth[i]
    if truth is not None and np.isfinite(truth).any() and any(c.depth is not None for c in columns):
        depth = [None if column.depth is None else column.depth[i] for column in columns]
        away = [
            None if image is None or column.true_depth is None else np.abs(image - column.true_depth[i])
            for image, column in zip(depth, columns, strict=True)
        ]
        near, far = np.nanpercentile(truth, [1, 99])
        most = DEPTH_ERROR_SHARE * float(np.nanmedian(truth))
        lines.append(("depth", [truth, *depth], {"cmap": DEPTH_COLOURS, "vmin": near, "vmax": far}))
        scale = {"cmap": ERROR_COLOURS, "vmin": 0.0, "vmax": most}
        lines.append((f"error, 0..{most:.1f}", [None, *away], scale))
    return lines
