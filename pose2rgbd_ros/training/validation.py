"""How good the network is on frames it was not trained on, and how good the mean image is there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pose2rgbd_ros.models.view import Pictures
from pose2rgbd_ros.training.data import TrainingData, mean_image
from pose2rgbd_ros.training.metrics import Scores

BATCH = 16


def batches(indices: np.ndarray, size: int = BATCH) -> Iterator[np.ndarray]:
    """The indices in order, at most `size` at a time."""
    for start in range(0, len(indices), size):
        yield indices[start : start + size]


@torch.inference_mode()
def pictures_of(
    model: nn.Module, data: TrainingData, indices: np.ndarray, device: torch.device | None = None
) -> Pictures:
    """What the model shows at the poses of the frames `indices`, through the cache's camera."""
    T_map_cam = torch.from_numpy(data.T_map_cam[indices]).to(device)
    network: Any = model
    pictures: Pictures = network.pictures(T_map_cam, data.cache.camera, data.normalization)
    return pictures


@torch.inference_mode()
def poses_of(
    model: nn.Module, data: TrainingData, indices: np.ndarray, device: torch.device | None = None
) -> np.ndarray:
    """The poses (N, 4, 4) that a PoseModel reads from the frames `indices`; its training mode is restored."""
    was_training = model.training
    model.eval()
    network: Any = model
    found = []
    for chunk in batches(indices):
        rgb, _ = data.truth(chunk, device)
        found.append(network.poses(rgb, data.normalization).T_map_cam.cpu().numpy())
    model.train(was_training)
    return np.concatenate(found)


@torch.inference_mode()
def validate(
    model: nn.Module, data: TrainingData, indices: np.ndarray, device: torch.device | None = None
) -> dict[str, float]:
    """Mean measures over the frames `indices` (see metrics.py); the model's training mode is restored."""
    was_training = model.training
    model.eval()
    scores = Scores()
    for chunk in batches(indices):
        shown = pictures_of(model, data, chunk, device)
        scores.add(shown.rgb, *_paired(data, chunk, device, shown.depth))
    model.train(was_training)
    return scores.result()


@torch.inference_mode()
def validate_mean_image(data: TrainingData, indices: np.ndarray) -> dict[str, float]:
    """The same measures of the mean training image."""
    rgb_mean, depth_mean = mean_image(data.cache, data.split.train, data.max_depth)
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
