"""How good the network is on frames it was not trained on, and how good the mean image is there."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.models.pose2rgbd import confidence, split_image
from pose2rgbd_ros.training.data import TrainingData, mean_image
from pose2rgbd_ros.training.metrics import Scores

BATCH = 16


def predict(
    model: nn.Module, poses: Tensor, normalization: Normalization
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Pictures of encoded poses (B, P) on the model's device, by the model as it is (call ``model.eval()`` first).

    Returns:
        rgb (B, 3, H, W) in [0, 1], depth (B, H, W) in the dataset's unit, confidence (B, h, w); None what it lacks.
    """
    prediction = model(poses)
    rgb, depth = split_image(prediction.image.float(), model.config)  # type: ignore[arg-type]
    if depth is not None:
        decoded = normalization.decode_depth(depth.cpu().numpy())
        depth = torch.from_numpy(np.asarray(decoded)).to(poses.device)
    return rgb, depth, None if prediction.slices is None else confidence(prediction.slices.float())


def batches(indices: np.ndarray, size: int = BATCH) -> Iterator[np.ndarray]:
    """The indices in order, at most `size` at a time."""
    for start in range(0, len(indices), size):
        yield indices[start : start + size]


@torch.inference_mode()
def validate(
    model: nn.Module, data: TrainingData, indices: np.ndarray, device: torch.device | None = None
) -> dict[str, float]:
    """Mean measures over the frames `indices` (see metrics.py); the model's training mode is restored."""
    was_training = model.training
    model.eval()
    scores = Scores()
    for chunk in batches(indices):
        rgb, depth, _ = predict(model, data.poses[chunk].to(device), data.normalization)
        scores.add(rgb, *_paired(data, chunk, device, depth))
    model.train(was_training)
    return scores.result()


@torch.inference_mode()
def validate_mean_image(data: TrainingData, indices: np.ndarray) -> dict[str, float]:
    """The same measures of the mean training image."""
    rgb_mean, depth_mean = mean_image(data.cache, data.split.train)
    rgb = torch.from_numpy(rgb_mean / 255.0).float().permute(2, 0, 1)
    scores = Scores()
    for chunk in batches(indices):
        depth = None
        if depth_mean is not None:
            depth = torch.from_numpy(depth_mean).float().expand(len(chunk), -1, -1)
        scores.add(rgb.expand(len(chunk), -1, -1, -1), *_paired(data, chunk, None, depth))
    result = scores.result()
    result["variation"] = 0.0
    return result


def spread(indices: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of the indices, evenly spaced."""
    if len(indices) <= most:
        return indices
    return indices[np.linspace(0, len(indices) - 1, most).round().astype(int)]


def _paired(
    data: TrainingData, chunk: np.ndarray, device: torch.device | None, depth: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """True colour, predicted depth, true depth: the tail of the arguments of ``Scores.add``."""
    rgb_truth, depth_truth = data.truth(chunk, device)
    return rgb_truth, depth, depth_truth
