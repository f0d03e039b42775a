"""What a run is scored by: its pictures, or the poses it finds."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import nn

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.models.view import ViewModel
from pose2rgbd_ros.training import metrics, outcome
from pose2rgbd_ros.training.data import TrainingData
from pose2rgbd_ros.training.pose_map import draw_pose_samples
from pose2rgbd_ros.training.validation import poses_of, spread, validate, validate_mean_image

LEAST_BASELINE = {
    "position_median_m": 0.01,
    "rotation_median_deg": 0.1,
}  # a smaller spread is noise of the poses


class Judge(Protocol):
    """Scores of a model on frames of the run's dataset; the checkpoint is the model of the least `value`.

    Attributes:
        compared_with: the baseline's name in the checkpoint's provenance.
    """

    compared_with: str

    def scores(self, model: nn.Module, indices: np.ndarray) -> dict[str, float]:
        """Measures of the frames `indices`, among them `variation`; the model's training mode is restored."""
        ...

    def baseline(self, indices: np.ndarray) -> dict[str, float]:
        """The same measures of an answer that does not look at its input."""
        ...

    def value(self, scores: dict[str, float], baseline: dict[str, float]) -> float:
        """One number, less is better: 0 perfect, 1 as good as the baseline; NaN when nothing could be measured."""
        ...

    def describe(self, scores: dict[str, float], baseline: dict[str, float]) -> str:
        """One line for people."""
        ...

    def draw(self, model: nn.Module, indices: np.ndarray, path: Path) -> None:
        """A picture of how the model does on the frames `indices`, or on some of them."""
        ...


class PictureJudge:
    """Of renderers: recorded pictures against shown ones, beside the mean image."""

    compared_with = "mean_image"

    def __init__(self, data: TrainingData, device: torch.device) -> None:
        self._data, self._device = data, device

    def scores(self, model: nn.Module, indices: np.ndarray) -> dict[str, float]:
        return validate(model, self._data, indices, self._device)

    def baseline(self, indices: np.ndarray) -> dict[str, float]:
        return validate_mean_image(self._data, indices)

    def value(self, scores: dict[str, float], baseline: dict[str, float]) -> float:
        return metrics.relative_score(scores, baseline)

    def describe(self, scores: dict[str, float], baseline: dict[str, float]) -> str:
        return metrics.describe(scores, baseline, self._data.depth_unit)

    def draw(self, model: nn.Module, indices: np.ndarray, path: Path) -> None:
        frames = spread(indices, outcome.SAMPLE_FRAMES)
        outcome.draw_samples(model, self._data, frames, path, self._device)


class PoseJudge:
    """Of networks that find poses: median errors of position and orientation, beside the mean training pose.

    Of one that shows pictures too, PSNR and SSIM are told; they do not count.
    """

    compared_with = "mean_pose"

    def __init__(self, data: TrainingData, device: torch.device) -> None:
        self._data, self._device = data, device

    def scores(self, model: nn.Module, indices: np.ndarray) -> dict[str, float]:
        found = poses_of(model, self._data, indices, self._device)
        scores = self._errors(found, indices)
        if isinstance(model, ViewModel):
            shown = validate(model, self._data, indices, self._device)
            scores |= {name: shown[name] for name in ("psnr_db", "ssim", "depth_mae") if name in shown}
        return scores

    def baseline(self, indices: np.ndarray) -> dict[str, float]:
        """Of the mean pose of the training frames."""
        mean = se3.mean(self._data.T_map_cam[self._data.split.train])
        return self._errors(np.repeat(mean[None], len(indices), axis=0), indices)

    def value(self, scores: dict[str, float], baseline: dict[str, float]) -> float:
        """The mean of both errors as shares of the baseline's; one in which the frames hardly differ does not count."""
        counted = [name for name, least in LEAST_BASELINE.items() if baseline[name] > least]
        if not counted:  # a camera that never moved
            return float(np.sum([scores[name] for name in LEAST_BASELINE]))
        return float(np.mean([scores[name] / baseline[name] for name in counted]))

    def describe(self, scores: dict[str, float], baseline: dict[str, float]) -> str:
        if not scores:
            return ""
        text = f"position {scores['position_median_m']:.2f} m"
        if baseline:
            text += f" (mean pose {baseline['position_median_m']:.3g})"
        text += f"  rotation {scores['rotation_median_deg']:.2f} deg"
        if baseline:
            text += f" ({baseline['rotation_median_deg']:.3g})"
        return text + (f"  PSNR {scores['psnr_db']:.1f}" if "psnr_db" in scores else "")

    def draw(self, model: nn.Module, indices: np.ndarray, path: Path) -> None:
        """Recorded above shown pictures of some frames, and a map of the true and found positions of the watched ones."""
        draw_pose_samples(model, self._data, indices, path, self._device)

    def _errors(self, found: np.ndarray, indices: np.ndarray) -> dict[str, float]:
        true = self._data.T_map_cam[indices]
        position_m, rotation_rad = se3.apart(found, true)
        spread_m, found_m = (float(np.linalg.norm(T[:, :3, 3].std(axis=0))) for T in (true, found))
        return {
            "position_median_m": float(np.median(position_m)),
            "rotation_median_deg": float(np.degrees(np.median(rotation_rad))),
            "variation": found_m / max(spread_m, 1e-9),
        }
