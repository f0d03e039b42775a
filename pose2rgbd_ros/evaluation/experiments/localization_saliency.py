"""Sheets after Figures 2 to 4 of the PoseGAN paper, and the correlations that say in a number what they show."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pose2rgbd_ros.dataset.cache import frame_cache
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.evaluation.experiments.localization import Place, Row, split_of
from pose2rgbd_ros.evaluation.experiments.localization_plan import TITLES, LocalizationConfig, place_name
from pose2rgbd_ros.evaluation.localization import to_grey
from pose2rgbd_ros.evaluation.saliency import Focus, Saliency, focus
from pose2rgbd_ros.evaluation.sheets import Block, Column, draw_blocks
from pose2rgbd_ros.evaluation.structure_texture import structure_of
from pose2rgbd_ros.geometry.arrays import Float64, UInt8
from pose2rgbd_ros.reports import table
from pose2rgbd_ros.reports.table import Table, mean_spread
from pose2rgbd_ros.settings import read_yaml, write_yaml
from pose2rgbd_ros.training.checkpoint import Checkpoint, load_checkpoint
from pose2rgbd_ros.training.validation import spread

SHOWN = ("posegan", "posegan-a", "posenet", "posenet-resnet")
FOCUS_FRAMES = 12  # that the correlations are the mean of
FOCUS_FILE = "saliency.yaml"  # in a run's folder
_SHOWN_PX = 256
_COLOURS = "inferno"


@dataclass
class Shown:
    """A network of a sheet."""

    title: str
    checkpoint: Checkpoint
    saliency: Saliency


def draw_saliency(out: Path, place: Place, others: list[Place], config: LocalizationConfig) -> None:
    """A sheet for each size of the networks, of seed 0: held-out frames in colour and grey, then frames of other places."""
    dataset = Dataset(place.dataset)
    frames = spread(split_of(dataset, config, 0).test, config.saliency)
    for size in config.sizes:
        rows = [row for row in place.rows if row.size == size and row.seed == 0 and not row.error]
        shown = [_open(row) for name in SHOWN for row in rows if row.method == name]
        if shown:
            first = _images(shown[0].checkpoint, dataset, frames)
            poses: list[Float64 | None] = [*dataset.T_map_cam[frames]]
            blocks = [
                _block(first, poses, shown, "held out"),
                _block([to_grey(image) for image in first], poses, shown, "grey"),
            ]
            for other in others:
                foreign = Dataset(other.dataset)
                some = spread(np.arange(len(foreign)), config.saliency)
                images = _images(shown[0].checkpoint, foreign, some)
                blocks.append(_block(images, [None] * len(some), shown, place_name(other.dataset)))
            title = f"{place_name(place.dataset)}, {size} px, seed 0: which pixels the pose depends on"
            if others:
                title += "; below, frames of other places as networks trained here see them"
            draw_blocks(out / saliency_name(place, size), blocks, title)


def saliency_name(place: Place, size: int) -> str:
    """The sheet of a place's networks of a size."""
    return f"{place_name(place.dataset)}-saliency-{size}.png"


def focus_of(row: Row, place: Place, config: LocalizationConfig) -> Focus:
    """Mean correlations of a run's saliency on FOCUS_FRAMES held-out frames; kept in the run's folder."""
    file = row.run / FOCUS_FILE
    if file.exists():
        return Focus(**read_yaml(file))
    dataset, shown = Dataset(place.dataset), _open(row)
    frames = spread(split_of(dataset, config, row.seed).test, FOCUS_FRAMES)
    found = []
    for rgb, T in zip(_images(shown.checkpoint, dataset, frames), dataset.T_map_cam[frames], strict=True):
        maps = [shown.saliency.of(image, T) for image in (rgb, to_grey(rgb))]
        found.append(dataclasses.astuple(focus(maps[0], maps[1], rgb)))
    mean = Focus(*(float(value) for value in np.mean(found, axis=0)))
    write_yaml(file, dataclasses.asdict(mean))
    return mean


def focus_table(place: Place, config: LocalizationConfig) -> Table:
    """The correlations, a row a network; mean over the seeds."""
    columns = [
        table.Column("method", "network"),
        table.Column("size", "px", "d"),
        table.Column("structure", "saliency with structure", mean_spread(".2f")),
        table.Column("texture", "with texture", mean_spread(".2f")),
        table.Column("difference", format=mean_spread(".2f")),
        table.Column("grey", "colour with grey", mean_spread(".2f")),
    ]
    lines = []
    for size in config.sizes:
        for name in SHOWN:
            rows = [row for row in place.rows if (row.method, row.size) == (name, size) and not row.error]
            found = [dataclasses.astuple(focus_of(row, place, config)) for row in rows]
            if found:
                structure, texture, grey = np.transpose(found)
                line = {"structure": structure, "texture": texture, "difference": structure - texture}
                lines.append({"method": TITLES[name], "size": size, **line, "grey": grey})
    return Table(columns, lines)


def _open(row: Row) -> Shown:
    checkpoint = load_checkpoint(row.run)
    return Shown(row.method, checkpoint, Saliency(checkpoint))


def _images(checkpoint: Checkpoint, dataset: Dataset, frames: np.ndarray) -> list[UInt8]:
    """Frames as the network takes them."""
    told = checkpoint.provenance
    cache = frame_cache(dataset, checkpoint.camera.width, told.get("fit", "square"), told.get("margin", 0))
    return [np.ascontiguousarray(cache.rgb[index]) for index in frames]


def _block(images: list[UInt8], poses: list[Float64 | None], shown: list[Shown], label: str) -> Block:
    """Images beside SIFT's keypoints, their structure and texture, and each network's saliency."""
    columns = [Column("image", [*images]), Column("SIFT", [_keypoints(image) for image in images])]
    structures = [structure_of(image) for image in images]
    columns.append(Column("structure", [*structures]))
    textures = [
        (image / 255 - structure).mean(axis=-1) for image, structure in zip(images, structures, strict=True)
    ]
    columns.append(Column("texture", [*textures], "gray", -0.2, 0.2))
    for network in shown:
        maps = [_scaled(network.saliency.of(image, T)) for image, T in zip(images, poses, strict=True)]
        columns.append(Column(network.title, [*maps], _COLOURS, 0.0, 1.0))
    return Block(columns, [label] * len(images))


def _scaled(saliency: Float64) -> np.ndarray:
    """To 1 at its 99th percentile: networks differ by orders of magnitude."""
    return np.asarray(np.clip(saliency / max(float(np.percentile(saliency, 99)), 1e-12), 0.0, 1.0))


def _keypoints(rgb: UInt8) -> UInt8:
    """The image with its SIFT keypoints, as large as they are."""
    scale = max(1, _SHOWN_PX // len(rgb))
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    large = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    for point in cv2.SIFT.create().detect(grey, None):
        x, y = ((np.array(point.pt) + 0.5) * scale).astype(int)
        radius = max(2, round(point.size * scale / 2))
        cv2.circle(large, (int(x), int(y)), radius, (255, 60, 0), 1, cv2.LINE_AA)
    return np.asarray(large, np.uint8)
