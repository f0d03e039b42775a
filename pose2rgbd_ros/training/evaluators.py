"""What a run is scored by: its pictures, or the poses it finds."""

from __future__ import annotations

import dataclasses
import platform
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from pose2rgbd_ros.dataset.meta import software
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.training import metrics
from pose2rgbd_ros.training.checkpoint import StoredModel
from pose2rgbd_ros.training.config import RunConfig, resolve_recipe
from pose2rgbd_ros.training.data import RunData, TrainingData
from pose2rgbd_ros.training.families import RenderModel, architecture_of
from pose2rgbd_ros.training.metrics import pictures_of, poses_of, spread, validate, validate_mean_image

# Quick pictures from a running training: recorded above predicted, one column a frame.


UNKNOWN_GREY = 40


def depth_to_rgb(depth: np.ndarray, nearest: float, farthest: float) -> np.ndarray:
    """(H, W) depth -> (H, W, 3) uint8 RGB in the turbo colours, near is red, far is blue, unknown dark grey."""
    span = max(farthest - nearest, 1e-9)
    unit = np.nan_to_num(1.0 - (depth - nearest) / span, nan=0.0)
    levels = np.clip(np.rint(unit * 255), 0, 255).astype(np.uint8)
    picture = np.ascontiguousarray(cv2.applyColorMap(levels, cv2.COLORMAP_TURBO)[..., ::-1])
    picture[~np.isfinite(depth)] = UNKNOWN_GREY
    return picture


def confidence_to_rgb(confidence: np.ndarray) -> np.ndarray:
    """(H, W) sum of slices -> (H, W, 3) uint8 grey: 0 black, the ideal 1 mid grey, 2 and more white."""
    grey = np.clip(np.rint(confidence * 127.5), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def write_samples(path: Path, rows: list[list[np.ndarray]]) -> None:
    """Write a PNG of rows of equally sized (H, W, 3) uint8 RGB tiles; small tiles are enlarged to 128 px."""
    write_picture(path, sheet(rows))


def sheet(rows: list[list[np.ndarray]]) -> np.ndarray:
    """The rows as one picture (H, W, 3) uint8."""
    height, width = (max(tile.shape[axis] for row in rows for tile in row) for axis in (0, 1))
    larger = max(1.0, 128 / height)
    size = round(width * larger), round(height * larger)
    tiles = [[_fitted(tile, size) for tile in row] for row in rows]
    return np.concatenate([np.concatenate(row, axis=1) for row in tiles], axis=0)


def write_picture(path: Path, rgb: np.ndarray) -> None:
    """Write a picture (H, W, 3) uint8 RGB; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), rgb[..., ::-1])


def _fitted(tile: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    fitted = cv2.resize(tile, size, interpolation=cv2.INTER_NEAREST)
    return cv2.copyMakeBorder(fitted, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(255, 255, 255))


# What a run hands on: the checkpoint with its provenance, and sample pictures.


SAMPLE_FRAMES = 6


def make_checkpoint(
    model: nn.Module,
    state_dict: dict[str, Tensor],
    data: RunData,
    config: RunConfig,
    metrics: dict[str, float],
    effort: dict[str, Any],
) -> StoredModel:
    """A checkpoint of `state_dict`, made by :func:`to_store`.

    `effort` (steps, images, seconds, device) goes into the provenance.
    """
    provenance = {
        **data.provenance(config),
        "split": data.split.to_dict(),
        "config": config.resolved(),
        "recipe": dataclasses.asdict(resolve_recipe(config)),
        **effort,
        "software": {"pose2rgbd": software(), "torch": str(torch.__version__), "python": platform.python_version()},
    }
    return data.checkpoint(
        architecture=architecture_of(model), state_dict=state_dict, provenance=provenance, metrics=metrics
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


def draw_samples(model: nn.Module, data: TrainingData, indices: np.ndarray, path: Path, device: torch.device) -> None:
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


# Pictures from a running training of a network that finds poses.


SHOWN_FRAMES = 6
MAP_PX, BORDER_PX = 780, 40
TRAINING, TRUE, FOUND = (205, 205, 205), (40, 90, 200), (200, 60, 30)


@torch.inference_mode()
def draw_pose_samples(
    model: nn.Module, data: TrainingData, indices: np.ndarray, path: Path, device: torch.device
) -> None:
    """Recorded above shown pictures of some of the frames, if the model shows any, and below them the map."""
    found = poses_of(model, data, indices, device)
    train_m = data.T_map_cam[data.split.train, :3, 3]
    picture = position_map(train_m, data.T_map_cam[indices, :3, 3], found[:, :3, 3])
    if isinstance(model, RenderModel):
        shown = sheet(picture_rows(model, data, spread(indices, SHOWN_FRAMES), device))
        side = shown.shape[1]
        picture = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
        picture = np.concatenate([shown, picture])
    write_picture(path, picture)


def position_map(train_m: np.ndarray, true_m: np.ndarray, found_m: np.ndarray) -> np.ndarray:
    """Seen along the direction in which the training frames differ least: their positions (N, 3) grey, true positions
    (M, 3) blue, each joined to the found one (M, 3), red. (MAP_PX, MAP_PX, 3) uint8 RGB."""
    axes = np.sort(np.argsort(train_m.max(axis=0) - train_m.min(axis=0))[1:])
    corner = np.concatenate([train_m, true_m])[:, axes].min(axis=0)
    span = float(max((np.concatenate([train_m, true_m])[:, axes].max(axis=0) - corner).max(), 1e-6))
    scale = (MAP_PX - 2 * BORDER_PX) / span

    def pixels(position_m: np.ndarray) -> np.ndarray:
        at = (position_m[:, axes] - corner) * scale + BORDER_PX
        at[:, 1] = MAP_PX - 1 - at[:, 1]  # the map's second axis points up
        return np.clip(np.rint(at), -MAP_PX, 2 * MAP_PX).astype(int)

    picture = np.full((MAP_PX, MAP_PX, 3), 255, np.uint8)
    for at in pixels(train_m):
        cv2.circle(picture, tuple(map(int, at)), 1, TRAINING, -1)
    for true, found in zip(pixels(true_m), pixels(found_m), strict=True):
        ends = tuple(map(int, true)), tuple(map(int, found))
        cv2.line(picture, *ends, TRAINING, 1, cv2.LINE_AA)
        cv2.circle(picture, ends[0], 3, TRUE, -1, cv2.LINE_AA)
        cv2.circle(picture, ends[1], 3, FOUND, -1, cv2.LINE_AA)
    names = "xyz"[axes[0]], "xyz"[axes[1]]
    text = f"{names[0]} right, {names[1]} up; {span:.3g} m.  true: blue  found: red  training: grey"
    cv2.putText(picture, text, (BORDER_PX, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (60, 60, 60), 1, cv2.LINE_AA)
    return picture


LEAST_BASELINE = {"position_median_m": 0.01, "rotation_median_deg": 0.1}  # a smaller spread is noise of the poses


class Evaluator(Protocol):
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


class PictureEvaluator:
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
        frames = spread(indices, SAMPLE_FRAMES)
        draw_samples(model, self._data, frames, path, self._device)


class PoseEvaluator:
    """Of networks that find poses: median errors of position and orientation, beside the mean training pose.

    Of one that shows pictures too, PSNR and SSIM are reported; they do not count.
    """

    compared_with = "mean_pose"

    def __init__(self, data: TrainingData, device: torch.device) -> None:
        self._data, self._device = data, device

    def scores(self, model: nn.Module, indices: np.ndarray) -> dict[str, float]:
        found = poses_of(model, self._data, indices, self._device)
        scores = self._errors(found, indices)
        if isinstance(model, RenderModel):
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
        """Recorded above shown pictures of some frames, and a map of true and found positions of the watched ones."""
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
