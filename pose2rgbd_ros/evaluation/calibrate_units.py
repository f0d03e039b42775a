"""Which frames calibrate, which judge, and in which units: a line is exchangeable with another line, a pixel with its
neighbour is not.

What calibrates are the held-out frames that may choose. Those that judge are looked at once all is decided.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.splits import split_from_dict
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.training.checkpoint import Checkpoint

FEWEST_FRAMES = 16
FEWEST_UNITS = 4  # they are dealt into halves, and of a half one is left out in turn
FEWEST_LINES, STRETCHES = 6, 8  # with fewer lines each is cut, into about so many stretches in all
SHORTEST = 4  # frames; shorter pieces go to their neighbour
TURN_DEG = 60.0
LINES_GROUP = "held-out lines"


@dataclass(frozen=True, eq=False)
class Units:
    """Frames by line.

    frames: indices (F,). unit: (F,) number of the line or stretch of each, -1 for frames that lie among trained ones and
    so only widen the evidence. kind: "lines", "stretches of 2 lines", ...: what a unit is.
    """

    frames: np.ndarray
    unit: np.ndarray
    kind: str

    @property
    def units(self) -> np.ndarray:
        return np.unique(self.unit[self.unit >= 0])


@dataclass(frozen=True, eq=False)
class HeldOut(Units):
    """Frames of a dataset that the model was not trained on and that may choose, and those that only judge."""

    judge: Units
    notes: tuple[str, ...] = ()


def held_out(checkpoint: Checkpoint, dataset: Dataset) -> HeldOut:
    """The frames that calibrate and those that judge; UserError when fewer than FEWEST_FRAMES can calibrate.

    Of a dataset trained on, those its split held out: whole lines or stretches where there are any. Of another recording
    of the place, all frames calibrate.
    """
    position_m = dataset.T_map_cam[:, :3, 3]
    train = checkpoint.trained_on(dataset.stamps_ns, position_m)
    if not train.any():
        every = _by_line(np.arange(len(train)), position_m)
        _check_enough(every, dataset)
        nothing = Units(np.array([], int), np.array([], int), "lines")
        return HeldOut(
            every.frames, every.unit, every.kind, nothing, ("another recording than the training's",)
        )
    recipe = checkpoint.provenance["split"]
    split = split_from_dict(recipe, dataset.stamps_ns, position_m, folder=dataset.path)
    trained = np.flatnonzero(train)
    lines = split.groups.get(LINES_GROUP, split.test)
    unit_of = _by_share if split.name == "random" else _by_line
    choose = np.setdiff1d(split.choose, trained)
    judge = np.intersect1d(np.setdiff1d(split.judge, trained), lines)
    own, others = np.intersect1d(choose, lines), np.setdiff1d(choose, lines)
    chosen = unit_of(own, position_m)
    _check_enough(chosen, dataset)
    notes: tuple[str, ...] = ()
    if split.name == "random":
        notes = ("held out at random: each frame has trained neighbours, so the figures flatter",)
    elif chosen.kind != "lines":
        notes = (
            f"{chosen.kind} share ground, light and heading: another line may be off by far more than these tell",
        )
    return HeldOut(
        np.concatenate([chosen.frames, others]),
        np.concatenate([chosen.unit, np.full(len(others), -1)]),
        chosen.kind,
        unit_of(judge, position_m),
        notes,
    )


def _check_enough(chosen: Units, dataset: Dataset) -> None:
    if len(chosen.frames) >= FEWEST_FRAMES and len(chosen.units) >= FEWEST_UNITS:
        return
    raise UserError(
        f"{dataset.path}: {len(chosen.frames)} held-out frames ({len(chosen.units)} {chosen.kind}) that may choose are too "
        f"few to calibrate on, {FEWEST_FRAMES} in {FEWEST_UNITS} are needed; hold more out, train with --split segments or "
        "lines+random, or give another recording of the place"
    )


def _by_line(frames: np.ndarray, position_m: Float64) -> Units:
    """Frames, ascending, by line; positions (N, 3) are of the whole dataset."""
    if len(frames) == 0:
        return Units(frames, frames, "lines")
    return Units(frames, *units_of(frames, position_m[frames]))


def _by_share(frames: np.ndarray, position_m: Float64) -> Units:
    """Frames that were dealt at random, in stretches of time."""
    return Units(
        frames, np.arange(len(frames)) * STRETCHES // max(len(frames), 1), "stretches of random frames"
    )


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
    return np.unique(cut, return_inverse=True)[1], f"stretches of {counted(lines, 'line')}"


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
