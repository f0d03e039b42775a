"""Frames cut into depth slices, as Figure 5 of the Pose2RGBD paper shows them: a soft segmentation for free."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pose2rgbd_ros.dataset.pictures import depth_colours, evenly_spaced, image_axes, thumbnail
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float32, Int64, UInt8

_OUTSIDE = 0.12  # brightness of what lies outside a slice


def slice_of(depth: Float32, nearest: float, farthest: float, slices: int) -> Int64:
    """Index (H, W) of the slice each pixel belongs to, -1 where depth is unknown.

    Slice i holds depths from `nearest` + i / S of the range, the last one closed (paper, section 2); what lies beyond
    the range belongs to the first or last slice.
    """
    known = np.isfinite(depth)
    share = (np.where(known, depth, nearest) - nearest) / (farthest - nearest)
    index = np.clip(np.floor(share * slices), 0, slices - 1).astype(np.int64)
    return np.where(known, index, -1)


def draw_slices(dataset: Dataset, path: Path, slices: int = 4, frames: int = 3) -> None:
    """Colour, depth and each depth slice of evenly spaced frames, one frame a row.

    The slices share the range of depth of the frames shown. UserError: no depth, none known, or fewer than 2 slices.
    """
    if not dataset.has_depth:
        raise UserError(f"{dataset.path} has no depth to cut into slices")
    if not 2 <= slices <= 16:
        raise UserError(f"{slices} slices; a picture shows 2 to 16")
    indices = evenly_spaced(len(dataset), frames)
    depths = [thumbnail(dataset.depth(i)) for i in indices]
    known = np.concatenate([depth[np.isfinite(depth)] for depth in depths])
    if not known.size or known.min() == known.max():
        raise UserError(f"{dataset.path}: the frames shown hold no range of depth to cut")
    nearest, farthest = float(known.min()), float(known.max())
    bounds = np.linspace(nearest, farthest, slices + 1)
    unit = " m" if dataset.depth_kind == "metric" else ""
    titles = [
        "colour",
        "depth",
        *(f"{low:.0f} to {high:.0f}{unit}" for low, high in itertools.pairwise(bounds)),
    ]
    figure = Figure(figsize=(2.1 * len(titles), 2.1 * _aspect(dataset) * len(indices) + 0.35), dpi=110)
    grid = figure.add_gridspec(
        len(indices), len(titles), left=0.005, right=0.995, bottom=0.01,
        top=1 - 0.3 / figure.get_figheight(), wspace=0.03, hspace=0.03,
    )  # fmt: skip
    for row, (i, depth) in enumerate(zip(indices, depths, strict=True)):
        rgb = thumbnail(dataset.rgb(i))
        index = _as_large_as(rgb, slice_of(depth, nearest, farthest, slices))
        images = [rgb, depth, *(_only(rgb, index == number) for number in range(slices))]
        for column, image in enumerate(images):
            axes = image_axes(figure, grid[row, column])
            axes.imshow(image, cmap=depth_colours(), vmin=nearest, vmax=farthest)
            if row == 0:
                axes.set_title(titles[column], fontsize=9, pad=4)
    FigureCanvasAgg(figure)
    figure.savefig(path)


def _aspect(dataset: Dataset) -> float:
    return dataset.camera.height / dataset.camera.width


def _only(rgb: UInt8, inside: np.ndarray) -> UInt8:
    return np.where(inside[..., None], rgb, (rgb * _OUTSIDE).astype(np.uint8))


def _as_large_as(rgb: UInt8, index: Int64) -> Int64:
    """Nearest-neighbour enlargement where the depth image is smaller than the colour image."""
    rows = np.arange(rgb.shape[0]) * index.shape[0] // rgb.shape[0]
    columns = np.arange(rgb.shape[1]) * index.shape[1] // rgb.shape[1]
    enlarged: Int64 = index[rows[:, None], columns[None]]
    return enlarged
