"""The same held-out frames as recorded and as several models show them, with the errors and their scales."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pose2rgbd_ros.dataset.reader import Dataset, frame_cache
from pose2rgbd_ros.errors import UserError, os_errors
from pose2rgbd_ros.evaluation.held_out import choose_frames
from pose2rgbd_ros.evaluation.pictures import LEAST_SIZE, MOST_SIZE, Recorded, model_name, worst_frames
from pose2rgbd_ros.evaluation.sheets import (
    DEPTH_COLOURS,
    ERROR_COLOURS,
    Block,
    SheetColumn,
    depth_error,
    depth_limits,
    draw_blocks,
    error_limit,
    rgb_error,
)
from pose2rgbd_ros.rendering.renderer import Renderer
from pose2rgbd_ros.training.checkpoint import load_checkpoint
from pose2rgbd_ros.training.metrics import spread


@dataclass
class Shown:
    """What a model shows of some frames, and what was recorded at its size; None for what is not there.

    rgb: uint8 (F, S, S, 3). depth: float32 (F, S, S), NaN unknown.
    """

    title: str
    rgb: np.ndarray | None
    depth: np.ndarray | None
    true_rgb: np.ndarray
    true_depth: np.ndarray | None

    def rgb_errors(self) -> list[np.ndarray | None]:
        """Of each frame, in levels of 0..255."""
        return [rgb_error(truth, None if self.rgb is None else self.rgb[i]) for i, truth in enumerate(self.true_rgb)]

    def depth_errors(self) -> list[np.ndarray | None]:
        """Of each frame, in the dataset's unit."""
        if self.true_depth is None or self.depth is None:
            return [None] * len(self.true_rgb)
        return [depth_error(truth, shown) for truth, shown in zip(self.true_depth, self.depth, strict=True)]


def show(
    run: Path,
    dataset: Dataset,
    frames: np.ndarray,
    size: int | None = None,
    device: str = "auto",
    title: str | None = None,
) -> Shown:
    """A checkpoint's pictures of the frames `frames`, of side `size` where the model can, else as trained.

    Recorded depth beyond the `max_depth` of the training is unknown. UserError: a bad checkpoint, a camera or size
    that cannot be rendered.
    """
    if size is not None and not LEAST_SIZE <= size <= MOST_SIZE:
        raise UserError(f"a size of {size} px; choose {LEAST_SIZE} to {MOST_SIZE}")
    checkpoint, renderer = load_checkpoint(run), Renderer(run, device)
    side = size if size is not None and renderer.any_camera else checkpoint.camera.width
    provenance = checkpoint.provenance
    cache = frame_cache(dataset, side, provenance.get("fit", "square"), provenance.get("margin", 0))
    camera = cache.camera if renderer.any_camera else renderer.camera
    images = renderer.render_for_camera(dataset.T_map_cam[frames], camera)
    max_depth = checkpoint.provenance.get("config", {}).get("max_depth")
    same_kind = dataset.depth_kind == checkpoint.depth_kind
    recorded = Recorded(dataset, cache, has_rgb=False, has_depth=same_kind, max_depth=max_depth)
    true_depth = recorded.images(frames)[1]
    return Shown(
        title or model_name(checkpoint),
        images.rgb,
        images.depth,
        np.array(cache.rgb[frames]),
        None if true_depth is None else true_depth.numpy(),
    )


def draw_side_by_side(
    path: Path, models: list[Shown], labels: list[str], title: str = "", depth_unit: str = "m", errors: bool = True
) -> None:
    """Write a PNG or JPEG: recorded, each model, each model's error; colour above, depth below, a row a frame.

    UserError when it cannot be written.
    """
    finest = max(models, key=lambda model: model.true_rgb.shape[1])
    blocks = []
    if any(model.rgb is not None for model in models):
        columns = [SheetColumn("recorded", list(finest.true_rgb))]
        columns += [SheetColumn(model.title, _frames(model.rgb, labels)) for model in models]
        if errors:
            columns += _error_columns(models, [model.rgb_errors() for model in models], "0..255")
        blocks.append(Block(columns, labels))
    if any(model.depth is not None for model in models):
        recorded = _frames(finest.true_depth, labels)
        shown = [_frames(model.depth, labels) for model in models]
        limits = depth_limits([*recorded, *(image for images in shown for image in images)])
        columns = [SheetColumn(f"recorded depth ({depth_unit})", recorded, DEPTH_COLOURS, *limits)]
        columns += [
            SheetColumn(f"{model.title} ({depth_unit})", images, DEPTH_COLOURS, *limits)
            for model, images in zip(models, shown, strict=True)
        ]
        if errors:
            columns += _error_columns(models, [model.depth_errors() for model in models], depth_unit)
        blocks.append(Block(columns, labels))
    with os_errors(f"cannot write {path}"):
        draw_blocks(path, blocks, title)


def _error_columns(models: list[Shown], errors: list[list[np.ndarray | None]], unit: str) -> list[SheetColumn]:
    """A column a model, on one scale."""
    high = error_limit([image for images in errors for image in images])
    return [
        SheetColumn(f"{model.title} error ({unit})", images, ERROR_COLOURS, 0.0, high)
        for model, images in zip(models, errors, strict=True)
    ]


def frames_of_groups(dataset: Dataset, run: Path, count: int) -> tuple[np.ndarray, list[str]]:
    """At most `count` frames of each group that judge a checkpoint, evenly spread, and their groups."""
    measured = choose_frames(load_checkpoint(run), dataset, "checkpoint")
    groups = {name: np.intersect1d(frames, measured.test) for name, frames in measured.groups.items()}
    groups = groups or {"held out": measured.test}
    chosen = {name: spread(frames, count) for name, frames in groups.items() if len(frames)}
    labels = [name for name, frames in chosen.items() for _ in frames]
    return np.concatenate(list(chosen.values())), labels


def held_out_by_all(dataset: Dataset, runs: list[Path]) -> np.ndarray:
    """Indices of the frames that no checkpoint was trained on or chosen by; UserError when there are none."""
    checkpoints = [load_checkpoint(run) for run in runs]
    seen = [checkpoint.training_stamps_ns for checkpoint in checkpoints]
    seen += [each.choosing_stamps_ns for each in checkpoints if each.choosing_stamps_ns is not None]
    free = np.flatnonzero(~np.isin(dataset.stamps_ns, np.concatenate(seen)))
    if len(free) == 0:
        raise UserError(f"{dataset.path}: every frame was trained on, or chosen by, by one of the models")
    return free


def worst_of(run: Path, dataset: Dataset, among: np.ndarray, count: int, device: str = "auto") -> np.ndarray:
    """The `count` of the frames `among` at which a checkpoint's errors are largest, in the order they were taken."""
    shown = show(run, dataset, among, device=device)
    errors = {"rgb_mae_px": shown.rgb_errors(), "depth_mae": shown.depth_errors()}
    per_frame = {
        name: np.array([np.nan if image is None else np.nanmean(image) for image in images])
        for name, images in errors.items()
        if any(image is not None for image in images)
    }
    return np.sort(among[worst_frames(per_frame, count)])


def _frames(images: np.ndarray | None, labels: list[str]) -> list[np.ndarray | None]:
    return [None] * len(labels) if images is None else list(images)
