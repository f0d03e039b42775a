"""Which frames calibrate, which judge, and in which units: a line is exchangeable with another line, a pixel with its
neighbour is not.

What calibrates are the held-out frames that may choose. Those that judge are looked at once all is decided.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.splits import Split, split_from_dict
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.geometry.arrays import Float64, Int64
from pose2rgbd_ros.training.checkpoint import Checkpoint
from pose2rgbd_ros.training.data import make_split
from pose2rgbd_ros.training.metrics import spread

FEWEST_FRAMES = 16
FEWEST_UNITS = 4  # they are dealt into halves, and of a half one is left out in turn
FEWEST_LINES, STRETCHES = 6, 8  # with fewer lines each is cut, into about so many stretches in all
SHORTEST = 4  # frames; shorter pieces go to their neighbour
TURN_DEG = 60.0
LINES_GROUP = "held-out lines"


@dataclass(frozen=True, eq=False)
class Units:
    """Frames by line.

    frames: indices (F,). unit: (F,) number of the line or stretch of each, -1 for frames that lie among trained ones
        and so only widen the evidence. kind: "lines", "stretches of 2 lines", ...: what a unit is.
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

    def at_most(self, most: int, widened: bool) -> HeldOut:
        """Evenly spaced frames when there are more; those that only widen the evidence give way first, or all of them
        where it shall not be `widened`."""
        mine, others = np.flatnonzero(self.unit >= 0), np.flatnonzero(self.unit < 0)
        others = spread(others, max(most - len(mine), most // 4)) if widened else others[:0]
        taken = np.concatenate([spread(mine, most), others])
        judging = spread(np.arange(len(self.judge.frames)), most)
        judge = replace(self.judge, frames=self.judge.frames[judging], unit=self.judge.unit[judging])
        return replace(self, frames=self.frames[taken], unit=self.unit[taken], judge=judge)

    def facts(self, dataset: Dataset) -> dict[str, Any]:
        """What a calibration was made on, as plain values for its file."""
        return {
            "dataset": dataset.path.resolve().name,
            "frames": len(self.frames),
            "units": len(self.units),
            "unit": self.kind,
            "notes": list(self.notes),
        }


def held_out(checkpoint: Checkpoint, dataset: Dataset) -> HeldOut:
    """The frames that calibrate and those that judge; UserError when fewer than FEWEST_FRAMES can calibrate.

    Of a dataset trained on, those its split held out: whole lines or stretches where there are any. Of another
        recording of the place, all frames calibrate.
    """
    position_m = dataset.T_map_cam[:, :3, 3]
    train = checkpoint.trained_on(dataset.stamps_ns, position_m)
    if not train.any():
        every = _by_line(np.arange(len(train)), position_m)
        _check_enough(every, dataset)
        nothing = Units(np.array([], int), np.array([], int), "lines")
        return HeldOut(every.frames, every.unit, every.kind, nothing, ("another recording than the training's",))
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
        notes = (f"{chosen.kind} share ground, light and heading: another line may be off by far more than these say",)
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
        f"{dataset.path}: {len(chosen.frames)} held-out frames ({len(chosen.units)} {chosen.kind}) that may choose are "
        f"too few to calibrate on, {FEWEST_FRAMES} in {FEWEST_UNITS} are needed; hold more out, train with --split "
        "segments or lines+random, or give another recording of the place"
    )


def _by_line(frames: np.ndarray, position_m: Float64) -> Units:
    """Frames, ascending, by line; positions (N, 3) are of the whole dataset."""
    if len(frames) == 0:
        return Units(frames, frames, "lines")
    return Units(frames, *units_of(frames, position_m[frames]))


def _by_share(frames: np.ndarray, position_m: Float64) -> Units:
    """Frames that were dealt at random, in stretches of time."""
    return Units(frames, np.arange(len(frames)) * STRETCHES // max(len(frames), 1), "stretches of random frames")


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
            merged[merged == number] = merged[first - 1] if first > 0 else merged[min(last + 1, len(merged) - 1)]
    return np.unique(merged, return_inverse=True)[1]


# Which frames of a dataset a model is measured on.


SPLITS = ("checkpoint", "choose", "dataset", "segments", "random", "lines+random", "all")
CHOSE_TOO = (
    "made when frames that choose and frames that judge were not yet kept apart: the frames measured on also chose the "
    "weights, which flatters; train anew"
)
NOTHING_CHOSE = "too few frames were held out to choose by: nothing was chosen, and the latest weights were kept"


@dataclass
class EvalSplit:
    """test: indices of the frames. train, choose: of those trained on, and of those held out that may have chosen the
    weights; `test` may hold some of both when the split is a new one.

    split: a key of pictures.SPLIT_WORDS. groups: parts of `test` that are scored apart. notes: for the reader.
    """

    test: Int64
    train: Int64
    choose: Int64
    split: str = "all"
    groups: dict[str, Int64] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def seen(self) -> str:
        """How many of `test` were trained on or chose, in words."""
        parts = [
            f"{count} of them {what}"
            for count, what in (
                (len(np.intersect1d(self.test, self.train)), "trained on"),
                (len(np.intersect1d(self.test, self.choose)), "looked at to choose the weights"),
            )
            if count
        ]
        return ", ".join(parts) or "none of them trained on or chosen by"


def choose_frames(checkpoint: Checkpoint, dataset: Dataset, split: str) -> EvalSplit:
    """The frames by the name of a split, one of SPLITS (see :func:`pictures.measure`).

    Raises:
        UserError: an unknown split, one that the dataset has not; every frame was trained on; none chose.
    """
    if split not in SPLITS:
        raise UserError(f"split is {split!r}; choose one of: {', '.join(SPLITS)}")
    train = np.flatnonzero(checkpoint.trained_on(dataset.stamps_ns, dataset.T_map_cam[:, :3, 3]))
    chosen = _choose(checkpoint, dataset, split, train)
    if len(chosen.test) == 0 and split == "choose":
        raise UserError(f"{dataset.path}: no frame was held out to choose by; evaluate with --split checkpoint")
    if len(chosen.test) == 0:
        raise UserError(f"{dataset.path}: the model was trained on all frames; evaluate with --split all")
    return chosen


def _choose(checkpoint: Checkpoint, dataset: Dataset, name: str, train: Int64) -> EvalSplit:
    everything = np.arange(len(dataset))
    recorded = checkpoint.provenance.get("split")
    if len(train) == 0 and name in ("checkpoint", "choose", "all"):
        note = "another recording than the training's: all its frames are evaluated"
        frames = everything[:0] if name == "choose" else everything
        return EvalSplit(frames, train, everything[:0], notes=[] if name == "all" else [note])
    if len(train) == 0 or recorded is None:
        choose = everything[:0]
    else:
        repeated = split_from_dict(recorded, dataset.stamps_ns, dataset.T_map_cam[:, :3, 3], folder=dataset.path)
        choose = frames_that_chose(checkpoint, dataset, repeated)
    if name == "all":
        return EvalSplit(everything, train, choose)
    if recorded is None:
        raise UserError("this checkpoint does not say which frames it held out; evaluate with --split all")
    if name not in ("checkpoint", "choose"):
        drawn = make_split(dataset, name, 0.2, int(recorded.get("seed", 0)))
        frames = np.setdiff1d(drawn.test, choose)  # a figure asked for by name shall not flatter either
        return EvalSplit(frames, train, choose, drawn.name, drawn.groups)
    notes = [NOTHING_CHOSE] if checkpoint.provenance.get("scored_on") == "train" else []
    if repeated.parameters.get("sha256") != recorded.get("sha256"):
        notes.append("the dataset's own split changed since the training")
    if len(np.intersect1d(repeated.test, train)) or len(train) < len(checkpoint.training_stamps_ns):
        notes.append("the dataset changed since the training; frames trained on are left out")
    held_out = np.setdiff1d(repeated.test, train)
    if name == "choose":
        return EvalSplit(np.intersect1d(choose, held_out), train, choose, recorded["name"], repeated.groups, notes)
    judge = np.setdiff1d(held_out, np.union1d(choose, repeated.choose))
    if checkpoint.choosing_stamps_ns is None:
        judge = held_out
        if len(choose):
            notes.append(CHOSE_TOO)
    return EvalSplit(judge, train, choose, recorded["name"], repeated.groups, notes)


def frames_that_chose(checkpoint: Checkpoint, dataset: Dataset, split: Split) -> Int64:
    """Indices of the frames that may have chosen a checkpoint's weights; `split` is that of its training, repeated."""
    if checkpoint.choosing_stamps_ns is not None:
        return np.flatnonzero(np.isin(dataset.stamps_ns, checkpoint.choosing_stamps_ns))
    kept = checkpoint.provenance.get("config", {}).get("keep", "best")
    return split.test[:0] if kept == "last" else split.test


def training_frames(
    checkpoint: Checkpoint, dataset: Dataset, chosen: EvalSplit, folder: Path | None
) -> tuple[Dataset | None, Int64]:
    """The dataset that holds frames trained on, this one or that of a `folder`, and which; None where none is at hand.

    UserError: the folder holds none of them.
    """
    other = None if folder is None else Dataset(folder)  # a wrong folder is reported, needed or not
    if len(chosen.train):
        return dataset, chosen.train
    if other is None:
        return None, np.zeros(0, int)
    train = np.flatnonzero(checkpoint.trained_on(other.stamps_ns, other.T_map_cam[:, :3, 3]))
    if len(train) == 0:
        raise UserError(f"{folder} holds none of the frames that the model was trained on")
    return other, train
