"""A trained network that finds poses, on frames it has not seen: `pose2rgbd evaluate RUN DATASET` for such a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.evaluation.finders import NAMES, Finders
from pose2rgbd_ros.evaluation.localization import Localized, localize
from pose2rgbd_ros.evaluation.measured_on import MeasuredOn, choose_frames
from pose2rgbd_ros.evaluation.result import SPLIT_WORDS
from pose2rgbd_ros.localization.localizer import Localizer
from pose2rgbd_ros.reports.table import Column, Table
from pose2rgbd_ros.training.checkpoint import Checkpoint, load_checkpoint

MODEL = "model"
KEPT = {
    "best": "the weights are those that were best on the held-out frames that choose (--keep best)",
    "last": "the weights are those of the end of the training; no held-out frame chose them",
}
COLUMNS = (
    Column("method", ""),
    Column("images"),
    Column("median_position_m", "position", ".3f", "m"),
    Column("median_rotation_deg", "orientation", ".2f", "°"),
    Column("mean_position_m", "mean", ".3f", "m"),
    Column("mean_rotation_deg", "mean", ".2f", "°"),
    Column("q90_position_m", "90 % within", ".2f", "m"),
    Column("within_0.25_m_2_deg", "0.25 m, 2°", ".0%"),
    Column("within_5_m_10_deg", "5 m, 10°", ".0%"),
    Column("rejected", format="d"),
    Column("median_ms", "ms a frame", ".1f"),
)


@dataclass
class PoseEvaluation:
    """What came of it. colour, grey: method -> what it said of each frame; the network is MODEL."""

    checkpoint: Checkpoint
    dataset: Dataset
    training: Dataset | None
    chosen: MeasuredOn
    colour: dict[str, Localized]
    grey: dict[str, Localized]
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Of the network, such as "posegan-b"."""
        told = self.checkpoint.provenance.get("config", {}).get("model")
        return str(told or self.checkpoint.architecture["network"])

    def measured_on(self) -> str:
        """In words."""
        chosen = self.chosen
        return (
            f"{counted(len(chosen.test), 'frame')} of {self.dataset.path.resolve().name}: "
            f"{SPLIT_WORDS.get(chosen.split, chosen.split)}, {chosen.seen}"
        )

    def scored(self, group: str = "") -> Table:
        """Each method on colour, then on grey images; of all frames, or a group's."""
        rows = [
            {
                "method": self.name if name == MODEL else localized.name,
                "images": kind,
                **self._of(localized, group).scores(),
            }
            for kind, said in (("colour", self.colour), ("grey", self.grey))
            for name, localized in said.items()
        ]
        return Table(COLUMNS, rows, strong=[0])

    def table(self) -> str:
        """Markdown: everything in words and numbers."""
        parts = [
            self.scored().markdown(),
            f"Medians unless it says otherwise; measured on {self.measured_on()}.",
        ]
        for group, frames in self.chosen.groups.items():
            parts.append(f"{group}, {counted(len(frames), 'frame')}:\n\n{self.scored(group).markdown()}")
        return "\n\n".join([*parts, self.verdict() + ".", *self.notes])

    def share_of_mean_pose(self) -> float | None:
        """Median position error as a share of the mean training pose's; None without training frames at hand."""
        if "mean-pose" not in self.colour:
            return None
        ours, theirs = (self.colour[name].scores()["median_position_m"] for name in (MODEL, "mean-pose"))
        return float(ours / theirs)

    def verdict(self) -> str:
        """One sentence: the medians, beside always saying the mean pose where the training frames are at hand."""
        scores, share = self.colour[MODEL].scores(), self.share_of_mean_pose()
        text = f"median error {scores['median_position_m']:.3g} m, {scores['median_rotation_deg']:.3g}°"
        if share is not None:
            text += f": {share:.0%} of the mean training pose's position error"
        if scores["rejected"]:
            text += f"; {scores['rejected']} of {counted(scores['frames'], 'frame')} rejected"
        return text

    def to_dict(self) -> dict[str, Any]:
        """Plain values for metrics.yaml."""
        return {
            "model": self.name,
            "dataset": self.dataset.path.resolve().name,
            "split": self.chosen.split,
            "frames": len(self.chosen.test),
            "frames_trained_on": len(np.intersect1d(self.chosen.test, self.chosen.train)),
            "frames_chosen_by": len(np.intersect1d(self.chosen.test, self.chosen.choose)),
            "scores": {
                kind: {name: _rounded(each.scores()) for name, each in said.items()}
                for kind, said in (("colour", self.colour), ("grey", self.grey))
            },
            "group_scores": {
                group: {name: _rounded(self._of(each, group).scores()) for name, each in self.colour.items()}
                for group in self.chosen.groups
            },
            "notes": self.notes,
            "checkpoint": {
                "architecture": self.checkpoint.architecture,
                "weights_sha256": self.checkpoint.weights_sha256,
            },
        }

    def _of(self, localized: Localized, group: str) -> Localized:
        return localized.part(np.isin(self.chosen.test, self.chosen.groups[group])) if group else localized


def evaluate_poses(
    checkpoint: Path,
    dataset: Path,
    out: Path,
    split: str = "checkpoint",
    device: str = "auto",
    training_dataset: Path | None = None,
    finders: Sequence[str] = ("mean-pose",),
) -> PoseEvaluation:
    """Measure a checkpoint that finds poses; write metrics.yaml, table.md, frames.csv and index.html into `out`.

    Args:
        split: as of :func:`evaluate.evaluate`.
        training_dataset: where the frames trained on are, when `dataset` is another recording.
        finders: what it is compared with, of finders.NAMES; they are built from the training frames.

    Raises:
        UserError: a bad checkpoint or dataset, one that finds no poses, no frames to evaluate on, an unknown finder.
    """
    from pose2rgbd_ros.evaluation.localization_report import write_report

    wrong = [name for name in finders if name not in NAMES]
    if wrong:
        raise UserError(f"there is no way {wrong[0]!r} of finding a camera; choose from {', '.join(NAMES)}")
    loaded, data = load_checkpoint(checkpoint), Dataset(dataset)
    localizer = Localizer(checkpoint, device)
    chosen = choose_frames(loaded, data, split)
    notes = list(chosen.notes)
    if data.meta.map_frame != loaded.map_frame:
        notes.append(f"poses are in {data.meta.map_frame!r}, the model's in {loaded.map_frame!r}")
    if len(chosen.train):
        notes.append(KEPT[kept_weights(loaded)])
    training, train = _training(loaded, data, chosen, training_dataset)
    methods: dict[str, Any] = {MODEL: localizer}
    if training is None and finders:
        notes.append(
            "the training frames are not in this dataset, so there is no baseline (--training-dataset)"
        )
    elif training is not None:
        untrained = Finders(training, train)
        methods.update({name: untrained.named(name) for name in finders})
    said = {
        grey: {name: localize(each, data, chosen.test, grey) for name, each in methods.items()}
        for grey in (False, True)
    }
    evaluation = PoseEvaluation(loaded, data, training, chosen, said[False], said[True], notes)
    write_report(out, evaluation)
    return evaluation


def kept_weights(checkpoint: Checkpoint) -> str:
    """ "best" or "last": which weights of its training a checkpoint holds."""
    told = checkpoint.provenance
    return str(told.get("kept", told.get("config", {}).get("keep", "best")))


def _training(
    checkpoint: Checkpoint, dataset: Dataset, chosen: MeasuredOn, folder: Path | None
) -> tuple[Dataset | None, np.ndarray]:
    """The dataset that holds frames trained on, and which; None where it is not at hand."""
    other = None if folder is None else Dataset(folder)  # a wrong folder is told, needed or not
    if len(chosen.train):
        return dataset, chosen.train
    if other is None:
        return None, np.zeros(0, int)
    train = np.flatnonzero(checkpoint.trained_on(other.stamps_ns, other.T_map_cam[:, :3, 3]))
    if len(train) == 0:
        raise UserError(f"{folder} holds none of the frames that the model was trained on")
    return other, train


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in values.items()}
