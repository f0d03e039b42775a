"""The outcome of an evaluation, as numbers and as a table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pose2rgbd_ros.errors import counted
from pose2rgbd_ros.evaluation.sheets import SheetRow
from pose2rgbd_ros.reports.table import Column, Table
from pose2rgbd_ros.training.checkpoint import Checkpoint
from pose2rgbd_ros.training.metrics import is_collapsed

METHODS = {"model": "this model", "mean_image": "mean training image", "nearest_frame": "nearest training frame"}
SPLIT_WORDS = {
    "held_out_segments": "held-out stretches of the track",
    "dataset": "lines the dataset holds out",
    "random": "frames held out at random (their neighbours were trained on)",
    "lines+random": "held-out lines, and frames held out at random",
    "all": "all frames",
}


@dataclass
class Evaluation:
    """Scores of each method (see METHODS) and what they were measured on."""

    scores: dict[str, dict[str, float]]
    per_frame: dict[str, dict[str, np.ndarray]]  # method -> measure -> (frames,)
    stamps_ns: np.ndarray  # of the frames measured on
    start_ns: int  # of the dataset: time 0 of the pictures and curves
    split: str  # a key of SPLIT_WORDS
    trained_on: int  # how many of the frames the model was trained on
    chosen_by: int  # how many of the frames may have chosen its weights
    seen: str  # both, in words
    # medians, metres and degrees, to the training frame nearest in view; None without training frames at hand
    from_training: tuple[float, float] | None
    depth_unit: str
    checkpoint: Checkpoint
    dataset: str
    notes: list[str] = field(default_factory=list)
    rows: list[SheetRow] = field(default_factory=list)
    groups: dict[str, np.ndarray] = field(default_factory=dict)  # name -> (frames,) bool: parts scored apart
    worst: np.ndarray = field(default_factory=lambda: np.array([], int))  # frames of the largest errors
    worst_rows: list[SheetRow] = field(default_factory=list)
    size: int | None = None  # side of the pictures; None: as trained
    has_geometry: bool = False  # renders any camera; its confidence is a probability

    @property
    def collapsed(self) -> bool:
        """The network answers nearly the same image whatever the pose."""
        return is_collapsed(self.scores["model"])

    def group_scores(self) -> dict[str, dict[str, dict[str, float]]]:
        """Group -> method -> measure -> mean over the group's frames (NaN left out)."""

        def mean(values: np.ndarray) -> float:
            finite = values[np.isfinite(values)]
            return float(finite.mean()) if len(finite) else float("nan")

        return {
            group: {
                method: {name: mean(values[inside]) for name, values in measures.items()}
                for method, measures in self.per_frame.items()
            }
            for group, inside in self.groups.items()
        }

    def error_share(self) -> float:
        """Error as a share of the mean image's, colour and depth averaged: 0 perfect, 1 no better than it.

        Pixels without a depth count as the mean image's, so that answering less makes nothing better. NaN without
        baseline.
        """
        mean, model = self.scores.get("mean_image", {}), self.scores["model"]
        shares = []
        for name in ("rgb_mae_px", "depth_mae"):
            if name in model and mean.get(name, 0.0) > 0:
                known = model.get("depth_known", 1.0) if name == "depth_mae" else 1.0
                share = model[name] / mean[name] if known > 0 else 0.0
                shares.append(known * share + 1.0 - known)
        return float(np.mean(shares)) if shares else float("nan")

    def better_than_mean_image(self) -> dict[str, float]:
        """Share by which the model's mean absolute errors are below the mean image's (negative: worse)."""
        mean = self.scores.get("mean_image", {})
        return {
            name: 1.0 - self.scores["model"][name] / mean[name]
            for name in ("rgb_mae_px", "depth_mae")
            if name in self.scores["model"] and mean.get(name, 0.0) > 0
        }

    def verdict(self) -> str:
        """One sentence: by how much the model beats the mean image, and whether it collapsed."""
        names = {"rgb_mae_px": "RGB", "depth_mae": "depth"}
        parts = [
            f"{names[name]} error {abs(share):.0%} {'below' if share >= 0 else 'ABOVE'} the mean image's"
            for name, share in self.better_than_mean_image().items()
        ]
        if self.collapsed:
            parts.append(
                "COLLAPSED: the network answers nearly one image, whatever the pose; train longer or otherwise"
            )
        return "; ".join(parts) or "no baseline: the training frames are not in this dataset"

    def measured_on(self) -> str:
        """What the numbers were measured on, in words."""
        split = SPLIT_WORDS.get(self.split, self.split)
        text = f"{counted(len(self.stamps_ns), 'frame')} of {self.dataset}: {split}, {self.seen}"
        if self.from_training is not None:
            moved_m, turned_deg = self.from_training
            text += f"; the nearest training frame is {moved_m:.2g} m and {turned_deg:.2g} degrees away (medians)"
        return text

    def table(self) -> str:
        """Markdown: a row a method, what it was measured on, the verdict, and each group of frames by itself."""
        parts = [self.scored().markdown(), f"Measured on {self.measured_on()}.", self.verdict() + "."]
        for group, inside in self.groups.items():
            scored = self.scored(self.group_scores()[group])
            parts.append(f"{group}, {counted(int(inside.sum()), 'frame')}:\n\n{scored.markdown()}")
        return "\n\n".join([*parts, *self.notes])

    def scored(self, scores: dict[str, dict[str, float]] | None = None) -> Table:
        """A table of scores, all frames' or those given: a row a method."""
        scores = self.scores if scores is None else scores
        columns = (
            Column("rgb_mae_px", "RGB MAE", ".2f", "of 255"),
            Column("psnr_db", "PSNR", ".2f", "dB"),
            Column("ssim", "SSIM", ".3f"),
            Column("depth_mae", "depth MAE", ".3g", self.depth_unit.strip("()")),
            Column("depth_known", "depth known", ".3f"),
            Column("variation", "variation", ".2f"),
        )
        shown = [column for column in columns if column.key in scores["model"]]
        rows = [{"method": METHODS[method], **values} for method, values in scores.items()]
        return Table([Column("method", ""), *shown], rows, strong=[list(scores).index("model")])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for metrics.yaml."""

        def rounded(values: dict[str, float]) -> dict[str, float]:
            return {name: round(float(value), 5) for name, value in values.items()}

        return {
            "dataset": self.dataset,
            "split": self.split,
            "frames": len(self.stamps_ns),
            "frames_trained_on": self.trained_on,
            "frames_chosen_by": self.chosen_by,
            "from_training_m_deg": None if self.from_training is None else [round(v, 4) for v in self.from_training],
            "depth_unit": self.depth_unit,
            "size": self.size or self.checkpoint.camera.width,
            "scores": {method: rounded(scores) for method, scores in self.scores.items()},
            "group_scores": {
                group: {method: rounded(scores) for method, scores in methods.items()}
                for group, methods in self.group_scores().items()
            },
            "error_share": round(self.error_share(), 5),
            "worst_frames": [
                {
                    "stamp_ns": int(self.stamps_ns[index]),
                    **rounded({name: values[index] for name, values in self.per_frame["model"].items()}),
                }
                for index in self.worst
            ],
            "better_than_mean_image": rounded(self.better_than_mean_image()),
            "collapsed": self.collapsed,
            "notes": self.notes,
            "checkpoint": {
                "architecture": self.checkpoint.architecture,
                "weights_sha256": self.checkpoint.weights_sha256,
            },
        }
