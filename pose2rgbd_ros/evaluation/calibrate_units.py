"""Which frames calibrate, and in which units: a line is exchangeable with another line, a pixel with its neighbour is not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.splits import split_from_dict
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.training.checkpoint import Checkpoint

FEWEST_FRAMES = 16
FEWEST_LINES, STRETCHES = 6, 8  # with fewer lines each is cut, into about so many stretches in all
SHORTEST = 4  # frames; shorter pieces go to their neighbour
TURN_DEG = 60.0
LINES_GROUP = "held-out lines"


@dataclass(frozen=True)
class HeldOut:
    """Frames of a dataset that the model was not trained on.

    frames: indices (F,). unit: (F,) number of the line or stretch of each, -1 for frames that lie among trained ones and
    so only widen the evidence. kind: "lines", "stretches of 2 lines", ...: what a unit is.
    """

    frames: np.ndarray
    unit: np.ndarray
    kind: str
    notes: tuple[str, ...] = ()

    @property
    def units(self) -> np.ndarray:
        return np.unique(self.unit[self.unit >= 0])


def held_out(checkpoint: Checkpoint, dataset: Dataset) -> HeldOut:
    """The frames that calibrate; UserError when there are fewer than FEWEST_FRAMES.

    Of a dataset trained on, those its split held out: whole lines or stretches where there are any. Of another recording
    of the place, all frames.
    """
    position_m = dataset.T_map_cam[:, :3, 3]
    train = checkpoint.trained_on(dataset.stamps_ns, position_m)
    notes: tuple[str, ...] = ()
    others = np.array([], int)
    if not train.any():
        frames, notes = np.arange(len(train)), ("another recording than the training's",)
    else:
        split = split_from_dict(
            checkpoint.provenance["split"], dataset.stamps_ns, position_m, folder=dataset.path
        )
        frames = np.setdiff1d(split.test, np.flatnonzero(train))
        lines = np.intersect1d(split.groups.get(LINES_GROUP, frames), frames)
        if len(lines) >= FEWEST_FRAMES:
            frames, others = lines, np.setdiff1d(frames, lines)
        if split.name == "random":
            notes = ("held out at random: each frame has trained neighbours, so the figures flatter",)
    if len(frames) < FEWEST_FRAMES:
        raise UserError(
            f"{dataset.path}: {len(frames)} held-out frames are too few to calibrate on, {FEWEST_FRAMES} are needed; "
            "train with --split segments or lines+random, or give another recording of the place"
        )
    if notes and train.any():
        unit, kind = np.arange(len(frames)) * STRETCHES // len(frames), "stretches of random frames"
    else:
        unit, kind = units_of(frames, dataset.T_map_cam[frames, :3, 3])
    together = np.concatenate([frames, others])
    return HeldOut(together, np.concatenate([unit, np.full(len(others), -1)]), kind, notes)


def units_of(frames: np.ndarray, position_m: Float64) -> tuple[np.ndarray, str]:
    """Number (F,) of the unit of each of the frames, ascending indices with positions (F, 3), and what a unit is."""
    unit = _lines(frames, position_m)
    lines = int(unit.max()) + 1
    if lines >= FEWEST_LINES:
        return unit, "lines"
    pieces = -(-STRETCHES // lines)
    cut = np.empty_like(unit)
    for line in range(lines):
        inside = np.flatnonzero(unit == line)
        parts = min(pieces, max(1, len(inside) // SHORTEST))
        cut[inside] = np.arange(len(inside)) * parts // max(len(inside), 1) + line * pieces
    what = "1 line" if lines == 1 else f"{lines} lines"
    return np.unique(cut, return_inverse=True)[1], f"stretches of {what}"


def _lines(frames: np.ndarray, position_m: Float64) -> np.ndarray:
    """A new line begins where frames are missing, and where the way has turned from the line's beginning."""
    unit, number, begin = np.zeros(len(frames), int), 0, 0
    for i in range(1, len(frames)):
        way, start = position_m[i] - position_m[i - 1], position_m[min(begin + 2, i)] - position_m[begin]
        lengths = float(np.linalg.norm(way) * np.linalg.norm(start))
        turned = lengths > 0 and float(way @ start) < np.cos(np.radians(TURN_DEG)) * lengths
        if frames[i] != frames[i - 1] + 1 or (turned and i > begin + 2):
            number, begin = number + 1, i
        unit[i] = number
    return _merged(unit)


def _merged(unit: np.ndarray) -> np.ndarray:
    """Pieces shorter than SHORTEST join the one before, the first one the next; numbered anew."""
    merged = unit.copy()
    numbers, counts = np.unique(unit, return_counts=True)
    for number, count in zip(numbers, counts, strict=True):
        if count < SHORTEST and len(np.unique(merged)) > 1:
            first = int(np.flatnonzero(merged == number)[0])
            last = int(np.flatnonzero(merged == number)[-1])
            merged[merged == number] = (
                merged[first - 1] if first > 0 else merged[min(last + 1, len(merged) - 1)]
            )
    return np.unique(merged, return_inverse=True)[1]
