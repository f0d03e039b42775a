"""What a run hands on: the checkpoint with its provenance, and sample pictures."""

from __future__ import annotations

import dataclasses
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pose2rgbd_ros.dataset.meta import software
from pose2rgbd_ros.models.registry import architecture_of
from pose2rgbd_ros.training.checkpoint import Checkpoint
from pose2rgbd_ros.training.config import TrainConfig, resolve_recipe, resolved
from pose2rgbd_ros.training.data import TrainingData
from pose2rgbd_ros.training.samples import confidence_to_rgb, depth_to_rgb, write_samples
from pose2rgbd_ros.training.validation import pictures_of

SAMPLE_FRAMES = 6


def make_checkpoint(
    model: nn.Module,
    state_dict: dict[str, Tensor],
    data: TrainingData,
    config: TrainConfig,
    metrics: dict[str, float],
    effort: dict[str, Any],
) -> Checkpoint:
    """A checkpoint of `state_dict`, made by :func:`to_store`.

    `effort` (steps, images, seconds, device) goes into the provenance.
    """
    dataset, meta = data.dataset, data.dataset.meta
    train = data.split.train
    learns_depth = data.normalization.depth_min is not None
    return Checkpoint(
        architecture=architecture_of(model),
        normalization=data.normalization,
        camera=data.cache.camera,
        map_frame=meta.map_frame,
        camera_frame=meta.camera_frame,
        depth_kind=dataset.depth_kind if learns_depth else None,
        state_dict=state_dict,
        training_stamps_ns=dataset.stamps_ns[train],
        training_T_map_cam=dataset.T_map_cam[train],
        choosing_stamps_ns=dataset.stamps_ns[data.split.choose],
        datum=meta.datum,
        provenance={
            "dataset": dataset.path.resolve().name,
            "sources": [source.name for source in meta.sources],
            "simulation": meta.simulation,
            "frames": {
                "all": len(dataset),
                "train": len(train),
                "choose": len(data.split.choose),
                "judge": len(data.split.judge),
            },
            "fit": config.fit,
            "margin": data.margin,
            "split": data.split.to_dict(),
            "config": resolved(config),
            "recipe": dataclasses.asdict(resolve_recipe(config)),
            **effort,
            "software": {
                "pose2rgbd": software(),
                "torch": str(torch.__version__),
                "python": platform.python_version(),
            },
        },
        metrics=metrics,
    )


def to_store(model: nn.Module) -> dict[str, Tensor]:
    """A copy of a network's state on the CPU; what it names in ``stored_as_half`` takes half the bytes.

    The trainer keeps this, not the full precision, so that a run's scores are those of what its checkpoint holds.
    """
    halved: frozenset[str] = getattr(model, "stored_as_half", frozenset())
    return {
        key: (value.detach().half() if key in halved else value.detach()).cpu().clone()
        for key, value in model.state_dict().items()
    }


def draw_samples(
    model: nn.Module, data: TrainingData, indices: np.ndarray, path: Path, device: torch.device
) -> None:
    """Recorded and predicted colour, recorded and predicted depth, confidence: rows; frames: columns."""
    write_samples(path, picture_rows(model, data, indices, device))


@torch.inference_mode()
def picture_rows(
    model: nn.Module, data: TrainingData, indices: np.ndarray, device: torch.device
) -> list[list[np.ndarray]]:
    """The pictures of :func:`draw_samples`, each (S, S, 3) uint8 RGB."""
    was_training = model.training
    model.eval()
    rgb, depth, confidence = pictures_of(model, data, indices, device)
    model.train(was_training)
    rows: list[list[np.ndarray]] = []
    if rgb is not None:
        rows.append([np.asarray(image) for image in data.cache.rgb[indices]])
        rows.append([_to_uint8(image) for image in rgb])
    if depth is not None and data.cache.depth is not None:
        limits = data.normalization.depth_min, data.normalization.depth_max
        rows.append([depth_to_rgb(image, *limits) for image in data.cache.depth[indices]])  # type: ignore[arg-type]
        rows.append([depth_to_rgb(image.cpu().numpy(), *limits) for image in depth])  # type: ignore[arg-type]
    if confidence is not None:
        rows.append([confidence_to_rgb(image.cpu().numpy()) for image in confidence])
    return rows


def _to_uint8(image: Tensor) -> np.ndarray:
    return np.asarray((image.permute(1, 2, 0) * 255).round().to(torch.uint8).cpu().numpy())
