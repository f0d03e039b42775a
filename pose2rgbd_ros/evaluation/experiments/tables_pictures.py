"""A table's picture: held-out frames as recorded and as each network of the table shows them."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pose2rgbd_ros.dataset.cache import frame_cache
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.splits import split_from_dict
from pose2rgbd_ros.evaluation.experiments.tables import Filled
from pose2rgbd_ros.evaluation.sheets import DEPTH_COLOURS, UNKNOWN_GREY
from pose2rgbd_ros.models.view import Pictures
from pose2rgbd_ros.training.checkpoint import Checkpoint, load_checkpoint
from pose2rgbd_ros.training.validation import spread

FRAMES_A_GROUP = 2
TILE_INCH = 1.35
LETTERS_AN_INCH = 14  # of the title


@dataclass
class _Column:
    title: str
    rgb: list[np.ndarray]  # uint8 (S, S, 3) a frame
    depth: list[np.ndarray]  # float (S, S) a frame, NaN unknown


def draw_table(path: Path, filled: Filled) -> None:
    """Write a PNG: two frames of each group, colour above depth; columns: recorded, then the RGBD rows."""
    shown = [(row, each) for row, each in filled.rows if not each.error and row.settings["output"] == "rgbd"]
    if not shown:
        return
    checkpoints = [load_checkpoint(each.run) for _, each in shown]
    dataset = Dataset(filled.dataset)
    frames, labels = _frames(dataset, checkpoints[0])
    columns = [_recorded(dataset, checkpoints[0], frames)]
    for (row, _), checkpoint in zip(shown, checkpoints, strict=True):
        columns.append(_predicted(row.cells[0], dataset, checkpoint, frames))
    _draw(path, columns, labels, f"Table {filled.table.number}: {filled.table.title}\n{filled.measured_on}")


def _frames(dataset: Dataset, checkpoint: Checkpoint) -> tuple[np.ndarray, list[str]]:
    split = split_from_dict(
        checkpoint.provenance["split"], dataset.stamps_ns, dataset.T_map_cam[:, :3, 3], folder=dataset.path
    )
    groups = split.groups or {"held out": split.test}
    chosen = {name: spread(frames, FRAMES_A_GROUP) for name, frames in groups.items() if len(frames)}
    labels = [name for name, frames in chosen.items() for _ in frames]
    return np.concatenate(list(chosen.values())), labels


def _recorded(dataset: Dataset, checkpoint: Checkpoint, frames: np.ndarray) -> _Column:
    cache = frame_cache(dataset, checkpoint.camera.width, checkpoint.provenance.get("fit", "square"))
    depth = [] if cache.depth is None else [np.asarray(image) for image in cache.depth[frames]]
    return _Column("recorded", [np.asarray(image) for image in cache.rgb[frames]], depth)


@torch.inference_mode()
def _predicted(title: str, dataset: Dataset, checkpoint: Checkpoint, frames: np.ndarray) -> _Column:
    poses = torch.from_numpy(dataset.T_map_cam[frames])
    model: Any = checkpoint.build_model()
    pictures: Pictures = model.pictures(poses, checkpoint.camera, checkpoint.normalization)
    assert pictures.rgb is not None
    rgb = (pictures.rgb.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()
    depth = [] if pictures.depth is None else list(pictures.depth.numpy())
    return _Column(title, list(rgb), depth)


def _draw(path: Path, columns: list[_Column], labels: list[str], title: str) -> None:
    lines = 2 * len(labels)
    width = TILE_INCH * len(columns) + 0.4
    title = "\n".join(textwrap.fill(line, int(LETTERS_AN_INCH * width)) for line in title.splitlines())
    head = 0.35 + 0.15 * len(title.splitlines())  # inches
    figure = Figure(figsize=(width, TILE_INCH * lines + head + 0.05), dpi=110)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        lines, len(columns), left=0.3 / figure.get_figwidth(), right=0.995,
        top=1 - head / figure.get_figheight(), bottom=0.005, wspace=0.03, hspace=0.03,
    )  # fmt: skip
    known = np.concatenate([image[np.isfinite(image)] for image in columns[0].depth] or [np.zeros(1)])
    near, far = np.percentile(known, [1, 99]) if known.size else (0.0, 1.0)
    for j, column in enumerate(columns):
        for i, label in enumerate(labels):
            for below, images in enumerate((column.rgb, column.depth)):
                axes = figure.add_subplot(grid[2 * i + below, j])
                axes.set(xticks=[], yticks=[], facecolor=UNKNOWN_GREY)
                if images:
                    axes.imshow(images[i], cmap=DEPTH_COLOURS, vmin=near, vmax=far)
                if j == 0:
                    axes.set_ylabel(label if below == 0 else "depth", fontsize=7)
                if i == 0 and below == 0:
                    axes.set_title(column.title, fontsize=8)
    figure.suptitle(title, fontsize=8, y=1 - 0.08 / figure.get_figheight())
    figure.savefig(path)
