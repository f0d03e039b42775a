"""Which frames of a dataset a model is measured on."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.splits import Split, split_from_dict
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Int64
from pose2rgbd_ros.training.checkpoint import Checkpoint
from pose2rgbd_ros.training.data import make_split

SPLITS = ("checkpoint", "choose", "dataset", "segments", "random", "lines+random", "all")
CHOSE_TOO = (
    "made when frames that choose and frames that judge were not yet kept apart: the frames measured on also chose the "
    "weights, which flatters; train anew"
)
NOTHING_CHOSE = (
    "too few frames were held out to choose by: nothing was chosen, and the latest weights were kept"
)


@dataclass
class MeasuredOn:
    """test: indices of the frames. train, choose: of those trained on, and of those held out that may have chosen the
    weights; `test` may hold some of both when the split is a new one.

    split: a key of result.SPLIT_WORDS. groups: parts of `test` that are scored apart. notes: what a reader should know.
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


def choose_frames(checkpoint: Checkpoint, dataset: Dataset, split: str) -> MeasuredOn:
    """The frames by the name of a split, one of SPLITS (see :func:`evaluate.evaluate`).

    Raises:
        UserError: an unknown split, one that the dataset has not; every frame was trained on; none chose.
    """
    if split not in SPLITS:
        raise UserError(f"split is {split!r}; choose one of: {', '.join(SPLITS)}")
    train = np.flatnonzero(checkpoint.trained_on(dataset.stamps_ns, dataset.T_map_cam[:, :3, 3]))
    chosen = _choose(checkpoint, dataset, split, train)
    if len(chosen.test) == 0 and split == "choose":
        raise UserError(
            f"{dataset.path}: no frame was held out to choose by; evaluate with --split checkpoint"
        )
    if len(chosen.test) == 0:
        raise UserError(f"{dataset.path}: the model was trained on all frames; evaluate with --split all")
    return chosen


def _choose(checkpoint: Checkpoint, dataset: Dataset, name: str, train: Int64) -> MeasuredOn:
    everything = np.arange(len(dataset))
    recorded = checkpoint.provenance.get("split")
    if len(train) == 0 and name in ("checkpoint", "choose", "all"):
        note = "another recording than the training's: all its frames are evaluated"
        frames = everything[:0] if name == "choose" else everything
        return MeasuredOn(frames, train, everything[:0], notes=[] if name == "all" else [note])
    if len(train) == 0 or recorded is None:
        choose = everything[:0]
    else:
        repeated = split_from_dict(
            recorded, dataset.stamps_ns, dataset.T_map_cam[:, :3, 3], folder=dataset.path
        )
        choose = frames_that_chose(checkpoint, dataset, repeated)
    if name == "all":
        return MeasuredOn(everything, train, choose)
    if recorded is None:
        raise UserError("this checkpoint does not say which frames it held out; evaluate with --split all")
    if name not in ("checkpoint", "choose"):
        drawn = make_split(dataset, name, 0.2, int(recorded.get("seed", 0)))
        frames = np.setdiff1d(drawn.test, choose)  # a figure asked for by name shall not flatter either
        return MeasuredOn(frames, train, choose, drawn.name, drawn.groups)
    notes = [NOTHING_CHOSE] if checkpoint.provenance.get("scored_on") == "train" else []
    if repeated.parameters.get("sha256") != recorded.get("sha256"):
        notes.append("the dataset's own split changed since the training")
    if len(np.intersect1d(repeated.test, train)) or len(train) < len(checkpoint.training_stamps_ns):
        notes.append("the dataset changed since the training; frames trained on are left out")
    held_out = np.setdiff1d(repeated.test, train)
    if name == "choose":
        return MeasuredOn(
            np.intersect1d(choose, held_out), train, choose, recorded["name"], repeated.groups, notes
        )
    judge = np.setdiff1d(held_out, np.union1d(choose, repeated.choose))
    if checkpoint.choosing_stamps_ns is None:
        judge = held_out
        if len(choose):
            notes.append(CHOSE_TOO)
    return MeasuredOn(judge, train, choose, recorded["name"], repeated.groups, notes)


def frames_that_chose(checkpoint: Checkpoint, dataset: Dataset, split: Split) -> Int64:
    """Indices of the frames that may have chosen a checkpoint's weights; `split` is that of its training, repeated."""
    if checkpoint.choosing_stamps_ns is not None:
        return np.flatnonzero(np.isin(dataset.stamps_ns, checkpoint.choosing_stamps_ns))
    kept = checkpoint.provenance.get("config", {}).get("keep", "best")
    return split.test[:0] if kept == "last" else split.test
