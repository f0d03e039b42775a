"""A model against the mean image and the nearest training frame, on frames it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pose2rgbd_ros.dataset.cache import FrameCache, frame_cache
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.splits import split_from_dict
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.baselines import NearestFrame
from pose2rgbd_ros.evaluation.report import write_report
from pose2rgbd_ros.evaluation.result import METHODS, Evaluation
from pose2rgbd_ros.evaluation.sheets import SheetRow
from pose2rgbd_ros.models.view import Pictures
from pose2rgbd_ros.training.checkpoint import Checkpoint, load_checkpoint
from pose2rgbd_ros.training.data import make_split, mean_image
from pose2rgbd_ros.training.device import pick_device
from pose2rgbd_ros.training.metrics import Scores
from pose2rgbd_ros.training.validation import batches, spread

SPLITS = ("checkpoint", "dataset", "segments", "random", "lines+random", "all")
SHEET_FRAMES = 6


def evaluate(
    checkpoint: Path, dataset: Path, out: Path, split: str = "checkpoint", device: str = "auto"
) -> Evaluation:
    """Measure a checkpoint on a dataset and write metrics.yaml, table.md, sheet.png and index.html into `out`.

    Args:
        split: "checkpoint": the frames its training held out; on another recording, all frames. "dataset": those the
            dataset holds out itself; "segments", "random": a split drawn anew; both may hold frames trained on (the
            report counts them). "all": every frame.

    Raises:
        UserError: a bad checkpoint or dataset, no frames to evaluate on, CUDA asked for and absent.
    """
    if split not in SPLITS:
        raise UserError(f"split is {split!r}; choose one of: {', '.join(SPLITS)}")
    target = torch.device(pick_device(device))
    evaluation = _Measurement(load_checkpoint(checkpoint), Dataset(dataset), split, target).run()
    write_report(out, evaluation)
    return evaluation


class _Measurement:
    """Everything one evaluation needs; `run` goes once over the frames."""

    def __init__(self, checkpoint: Checkpoint, dataset: Dataset, split: str, device: torch.device) -> None:
        self.checkpoint, self.dataset, self.device = checkpoint, dataset, device
        self.split = "all"
        fit = checkpoint.provenance.get("fit", "square")
        self.cache: FrameCache = frame_cache(dataset, checkpoint.camera.width, fit)
        self.model: Any = checkpoint.build_model().to(device)
        self.has_depth = dataset.has_depth and checkpoint.output != "rgb"
        self.max_depth = checkpoint.provenance.get("config", {}).get("max_depth")
        self.groups: dict[str, np.ndarray] = {}
        self.train = np.flatnonzero(np.isin(dataset.stamps_ns, checkpoint.training_stamps_ns))
        self.notes: list[str] = []
        self.test = self._choose_frames(split)
        if len(self.test) == 0:
            raise UserError(f"{dataset.path}: the model was trained on all frames; evaluate with --split all")
        self._check_fit()

    def _choose_frames(self, split: str) -> np.ndarray:
        dataset = self.dataset
        if split == "all":
            return np.arange(len(dataset))
        if split in ("dataset", "segments", "random", "lines+random"):
            recorded = self.checkpoint.provenance["split"]
            chosen = make_split(dataset, split, 0.2, int(recorded.get("seed", 0)))
            self.split, self.groups = chosen.name, chosen.groups
            return chosen.test
        if len(self.train) == 0:
            self.notes.append("another recording than the training's: all its frames are evaluated")
            return np.arange(len(dataset))
        recorded = self.checkpoint.provenance["split"]
        self.split = recorded["name"]
        repeated = split_from_dict(
            recorded, dataset.stamps_ns, dataset.T_map_cam[:, :3, 3], folder=dataset.path
        )
        if repeated.parameters.get("sha256") != recorded.get("sha256"):
            self.notes.append("the dataset's own split changed since the training")
        test, self.groups = repeated.test, repeated.groups
        unseen = np.setdiff1d(test, self.train)
        if len(unseen) < len(test) or len(self.train) < len(self.checkpoint.training_stamps_ns):
            self.notes.append("the dataset changed since the training; frames trained on are left out")
        return unseen

    def _check_fit(self) -> None:
        ours, theirs = self.checkpoint.camera, self.cache.camera
        if (
            not self.model.any_camera
            and ours.is_calibrated
            and theirs.is_calibrated
            and not np.allclose(ours.K, theirs.K, rtol=0.01, atol=1.0)
        ):
            self.notes.append("this dataset's camera differs from the training's by more than 1 %")
        if self.has_depth and self.dataset.depth_kind != self.checkpoint.depth_kind:
            self.notes.append("depth is metric in one and relative in the other: depth is not compared")
            self.has_depth = False
        if self.checkpoint.output == "depth" and not self.has_depth:
            raise UserError(
                f"{self.dataset.path} has no {self.checkpoint.depth_kind} depth, all this model predicts"
            )
        if self.dataset.meta.map_frame != self.checkpoint.map_frame:
            self.notes.append(
                f"poses are in {self.dataset.meta.map_frame!r}, the model's in {self.checkpoint.map_frame!r}"
            )

    @torch.inference_mode()
    def run(self) -> Evaluation:
        scores = {name: Scores() for name in METHODS if name == "model" or len(self.train)}
        mean = self._mean_image() if len(self.train) else None
        nearest = NearestFrame(self.dataset.T_map_cam[self.train], self._scene_distance_m()) if mean else None
        for chunk in batches(self.test):
            truth = self._frames(chunk)
            rgb, depth, _ = self._predict(chunk)
            _add(scores["model"], (rgb, depth), truth)
            if mean is not None and nearest is not None:
                _add(scores["mean_image"], tuple(_repeat(image, len(chunk)) for image in mean), truth)
                copied = self.train[nearest(self.dataset.T_map_cam[chunk])]
                _add(scores["nearest_frame"], self._frames(copied), truth)
        return Evaluation(
            scores={name: each.result() for name, each in scores.items()},
            per_frame={name: each.per_frame() for name, each in scores.items()},
            stamps_ns=self.dataset.stamps_ns[self.test],
            start_ns=int(self.dataset.stamps_ns[0]),
            split=self.split,
            trained_on=len(np.intersect1d(self.test, self.train)),
            depth_unit="(relative)" if self.checkpoint.depth_kind == "relative" else "m",
            checkpoint=self.checkpoint,
            dataset=self.dataset.path.resolve().name,
            notes=self.notes,
            rows=self._sheet_rows(),
            groups={
                name: np.isin(self.test, frames) for name, frames in self.groups.items() if len(frames) > 0
            },
        )

    def _predict(self, chunk: np.ndarray) -> Pictures:
        """Pictures on the CPU; a model that renders any camera looks through this dataset's."""
        T_map_cam = torch.from_numpy(self.dataset.T_map_cam[chunk]).to(self.device)
        camera = self.cache.camera if self.model.any_camera else self.checkpoint.camera
        shown = self.model.pictures(T_map_cam, camera, self.checkpoint.normalization)
        return Pictures(*(None if image is None else image.cpu() for image in shown))

    def _frames(self, indices: np.ndarray) -> tuple[Tensor | None, Tensor | None]:
        """Recorded colour (B, 3, S, S) in [0, 1] and depth (B, S, S); None for what the model does not predict."""
        rgb = depth = None
        if self.checkpoint.output != "depth":
            rgb = (
                torch.from_numpy(np.ascontiguousarray(self.cache.rgb[indices])).permute(0, 3, 1, 2).float()
                / 255
            )
        if self.has_depth and self.cache.depth is not None:
            depth = torch.from_numpy(np.array(self.cache.depth[indices]))
            if self.max_depth is not None:  # what the model was never asked to learn
                depth[depth > self.max_depth] = torch.nan
        return rgb, depth

    def _mean_image(self) -> tuple[Tensor | None, Tensor | None]:
        rgb, depth = mean_image(self.cache, self.train, self.max_depth)
        return (
            torch.from_numpy(rgb / 255).float().permute(2, 0, 1)
            if self.checkpoint.output != "depth"
            else None,
            torch.from_numpy(depth).float() if self.has_depth and depth is not None else None,
        )

    def _scene_distance_m(self) -> float:
        """Middle of the depth range; without metric depth the extent of the track stands in for it."""
        normalization = self.checkpoint.normalization
        if self.checkpoint.depth_kind == "metric" and normalization.depth_min is not None:
            return (normalization.depth_min + float(normalization.depth_max or 0.0)) / 2
        span = np.subtract(normalization.position_max_m, normalization.position_min_m)
        return float(np.linalg.norm(span))

    def _sheet_rows(self) -> list[SheetRow]:
        frames = spread(self.test, SHEET_FRAMES)
        rgb, depth, confidence = self._predict(frames)
        start_ns = int(self.dataset.stamps_ns[0])
        rows = []
        for i, index in enumerate(frames):
            row = SheetRow(f"t = {(int(self.dataset.stamps_ns[index]) - start_ns) / 1e9:.1f} s")
            row.rgb = np.asarray(self.cache.rgb[index])
            if rgb is not None:
                row.rgb_predicted = (rgb[i].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
            if depth is not None:
                row.depth_predicted = depth[i].numpy()
                row.depth = (
                    np.asarray(self.cache.depth[index])
                    if self.has_depth and self.cache.depth is not None
                    else None
                )
            row.confidence = None if confidence is None else confidence[i].numpy()
            rows.append(row)
        return rows


def _add(scores: Scores, predicted: tuple[Any, ...], truth: tuple[Any, ...]) -> None:
    scores.add(predicted[0], truth[0], predicted[1], truth[1])


def _repeat(image: Tensor | None, count: int) -> Tensor | None:
    return None if image is None else image.expand(count, *image.shape)
