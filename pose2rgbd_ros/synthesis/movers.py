"""`pose2rgbd synthesize movers`: recorded views without what moved there (PoseGAN, section 6.1 and figure 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pose2rgbd_ros import settings
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import AnyArray, Float64, Int64, UInt8
from pose2rgbd_ros.reports.table import Column, Table
from pose2rgbd_ros.sim.dataset import MOVER_FREE
from pose2rgbd_ros.synthesis.common import (
    NearestOther,
    Recording,
    Rings,
    Shower,
    Strip,
    common_camera,
    draw_strips,
    judging,
    load,
    trained_on,
)
from pose2rgbd_ros.synthesis.settings import MoversConfig
from pose2rgbd_ros.training.metrics import spread

TRAINED, HELD_OUT = "trained on", "not trained on or chosen by"
RECORDED, NEAREST = "recording", "nearest other frame"
_LEAST_PX = 6  # of a mover that gets a ring


@dataclass(frozen=True)
class MoverScore:
    """Of one source of pictures on one group of frames, against the mover-free twin; means over pixels, in 0..255.

    inside: RGB error where something moves; outside: elsewhere. gone: share of the pixels inside that are nearer to
    the twin than to the recording.
    """

    group: str
    frames: int
    source: str
    inside: float
    outside: float
    gone: float


def remove_movers(runs: Sequence[Path], folder: Path, out: Path, config: MoversConfig) -> list[MoverScore]:
    """Write sheet.png into `out`; returns the scores, of frames that a model was trained on, and of those that judge.

    The recording's movers are where it differs from its twin, in the cameras' common view; shadows count as well.

    UserError: bad checkpoints or dataset, no twin, a twin of another flight, nothing that moves.
    """
    settings.check(config)
    models, dataset = load(runs, config.device), Dataset(folder)
    twin = _twin(dataset, config.twin)
    camera = common_camera(models, config.size)
    recording, still = Recording(dataset, camera), Recording(twin, camera)
    trained = trained_on(dataset, models)
    known = np.flatnonzero(trained) if trained.any() else np.arange(len(dataset))
    nearest = NearestOther(dataset, known)
    scores: list[MoverScore] = []
    for group, frames in {TRAINED: np.flatnonzero(trained), HELD_OUT: np.flatnonzero(judging(dataset, models))}.items():
        scores += _scored(group, spread(frames, config.most), models, recording, still, nearest, config.threshold)
    if not scores:
        raise UserError(f"{folder}: nothing moves in it (no pixel differs from {twin.path})")
    busiest = _busiest(recording, still, known, config)
    _draw(models, recording, still, busiest, config.threshold, out / "sheet.png")
    return scores


def table(scores: Sequence[MoverScore]) -> str:
    """The scores as a Markdown table."""
    columns = [
        Column("of", "frames"),
        Column("source", "picture"),
        Column("inside", "error inside the masks", ".1f", "0..255"),
        Column("outside", "error outside", ".1f"),
        Column("gone", "movers gone", ".0%"),
    ]
    return Table(columns, [{**vars(s), "of": f"{s.frames} {s.group}"} for s in scores]).markdown()


def mover_mask(recorded: AnyArray, still: AnyArray, threshold: int) -> AnyArray:
    """Where pictures (..., H, W, 3) differ from their twins by `threshold` levels or more in some channel: bool."""
    difference = np.abs(recorded.astype(np.int16) - still.astype(np.int16)).max(axis=-1)
    return np.asarray(difference >= threshold)


def rings(mask: AnyArray) -> Rings:
    """Circles (x, y, radius) around the movers in a mask (H, W); neighbours that touch share one."""
    grown = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8))
    count, labels = cv2.connectedComponents(grown)
    found = []
    for label in range(1, count):
        inside = (labels == label) & mask
        if inside.sum() >= _LEAST_PX:
            points = np.argwhere(inside)[:, ::-1].astype(np.float32)
            (x, y), radius = cv2.minEnclosingCircle(points)
            found.append((float(x), float(y), float(radius) + 2.0))
    return found


def _twin(dataset: Dataset, folder: Path | None) -> Dataset:
    path = folder or dataset.path / MOVER_FREE
    if not path.is_dir():
        raise UserError(f"{dataset.path} has no {MOVER_FREE}; name the same flight without movers with --twin")
    twin = Dataset(path)
    same = np.array_equal(twin.stamps_ns, dataset.stamps_ns) and np.allclose(twin.T_map_cam, dataset.T_map_cam)
    if not same or twin.camera != dataset.camera:
        raise UserError(f"{path} is not the flight of {dataset.path}: its stamps, poses or camera differ")
    return twin


def _scored(
    group: str,
    frames: Int64,
    models: Sequence[Shower],
    recording: Recording,
    still: Recording,
    nearest: NearestOther,
    threshold: int,
) -> list[MoverScore]:
    if not len(frames):
        return []
    T = recording.dataset.T_map_cam[frames]
    recorded, truth = recording.frames(frames), still.frames(frames)
    mask = mover_mask(recorded, truth, threshold)
    if not mask.any():
        return []
    pictures: dict[str, UInt8] = {RECORDED: recorded, NEAREST: recording.frames(nearest(T, without=frames))}
    pictures |= {model.title: model.show(T, recording.camera) for model in models}
    scores = []
    for name, shown in pictures.items():
        off = _distance(shown, truth)
        gone = off[mask] < _distance(shown, recorded)[mask]
        scores.append(
            MoverScore(group, len(frames), name, float(off[mask].mean()), float(off[~mask].mean()), float(gone.mean()))
        )
    return scores


def _distance(one: AnyArray, other: AnyArray) -> Float64:
    """(B, H, W) mean absolute difference over the channels."""
    return np.asarray(np.abs(one.astype(np.float32) - other.astype(np.float32)).mean(axis=-1))


def _busiest(recording: Recording, still: Recording, among: Int64, config: MoversConfig) -> Int64:
    """Frames of the sheet: of the middle of each of as many stretches of the flight, the one where most pixels move."""
    chosen = []
    for part in np.array_split(among, min(config.columns, len(among))):
        some = spread(part[len(part) // 4 : (len(part) - 1) * 3 // 4 + 1], 12)
        masks = mover_mask(recording.frames(some), still.frames(some), config.threshold)
        chosen.append(some[int(masks.sum(axis=(1, 2)).argmax())])
    return np.array(chosen, dtype=np.int64)


def _draw(
    models: Sequence[Shower], recording: Recording, still: Recording, frames: Int64, threshold: int, path: Path
) -> None:
    """Figure 6: recorded above, with rings; below, what the models show, and the truth."""
    dataset = recording.dataset
    recorded, truth = recording.frames(frames), still.frames(frames)
    marked = [rings(mask) for mask in mover_mask(recorded, truth, threshold)]
    seconds = (dataset.stamps_ns[frames] - dataset.stamps_ns[0]) / 1e9
    strips = [Strip("recorded", list(recorded), [f"t = {each:.1f} s" for each in seconds], marked)]
    T = dataset.T_map_cam[frames]
    strips += [Strip(model.title, list(model.show(T, recording.camera))) for model in models]
    strips.append(Strip("mover-free twin", list(truth)))
    draw_strips(path, strips, f"{dataset.path.resolve().name}: recorded views and the same without what moves")
