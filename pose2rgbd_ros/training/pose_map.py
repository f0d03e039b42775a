"""Pictures from a running training of a network that finds poses."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from pose2rgbd_ros.models.view import ViewModel
from pose2rgbd_ros.training.data import TrainingData
from pose2rgbd_ros.training.outcome import picture_rows
from pose2rgbd_ros.training.samples import sheet, write_picture
from pose2rgbd_ros.training.validation import poses_of, spread

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
    if isinstance(model, ViewModel):
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
