"""Which frames of a dataset a model is measured on."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.splits import split_from_dict
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Int64
from pose2rgbd_ros.training.checkpoint import Checkpoint
from pose2rgbd_ros.training.data import make_split

SPLITS = ("checkpoint", "dataset", "segments", "random", "lines+random", "all")


@dataclass
class MeasuredOn:
    """test: indices of the frames. train: of those trained on, which `test` may hold some of when the split is a new one.

    split: a key of result.SPLIT_WORDS. groups: parts of `test` that are scored apart. notes: what a reader should know.
    """

    test: Int64
    train: Int64
    split: str = "all"
    groups: dict[str, Int64] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def choose_frames(checkpoint: Checkpoint, dataset: Dataset, split: str) -> MeasuredOn:
    """The frames by the name of a split, one of SPLITS (see :func:`evaluate.evaluate`).

    Raises:
        UserError: an unknown split, one that the dataset has not; every frame was trained on.
    """
    if split not in SPLITS:
        raise UserError(f"split is {split!r}; choose one of: {', '.join(SPLITS)}")
    train = np.flatnonzero(checkpoint.trained_on(dataset.stamps_ns, dataset.T_map_cam[:, :3, 3]))
    chosen = _choose(checkpoint, dataset, split, train)
    if len(chosen.test) == 0:
        raise UserError(f"{dataset.path}: the model was trained on all frames; evaluate with --split all")
    return chosen


def _choose(checkpoint: Checkpoint, dataset: Dataset, name: str, train: Int64) -> MeasuredOn:
    if name == "all":
        return MeasuredOn(np.arange(len(dataset)), train)
    recorded = checkpoint.provenance["split"]
    if name != "checkpoint":
        drawn = make_split(dataset, name, 0.2, int(recorded.get("seed", 0)))
        return MeasuredOn(drawn.test, train, drawn.name, drawn.groups)
    if len(train) == 0:
        note = "another recording than the training's: all its frames are evaluated"
        return MeasuredOn(np.arange(len(dataset)), train, notes=[note])
    repeated = split_from_dict(recorded, dataset.stamps_ns, dataset.T_map_cam[:, :3, 3], folder=dataset.path)
    notes = []
    if repeated.parameters.get("sha256") != recorded.get("sha256"):
        notes.append("the dataset's own split changed since the training")
    unseen = np.setdiff1d(repeated.test, train)
    if len(unseen) < len(repeated.test) or len(train) < len(checkpoint.training_stamps_ns):
        notes.append("the dataset changed since the training; frames trained on are left out")
    return MeasuredOn(unseen, train, recorded["name"], repeated.groups, notes)
