"""Small random checkpoints, quick to export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import nn

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.pose2rgbd.config import Pose2RGBDConfig
from pose2rgbd_ros.models.pose2rgbd.network import Pose2RGBD
from pose2rgbd_ros.training.checkpoint import Checkpoint, save_checkpoint
from pose2rgbd_ros.training.families import architecture_of

MakeCheckpoint = Callable[..., Path]


def random_poses(count: int, seed: int = 0) -> np.ndarray:
    """(N, 4, 4): a camera looking down from about 20 m, turned and tilted a little."""
    generator = np.random.default_rng(seed)
    T = np.tile(np.eye(4), (count, 1, 1))
    T[:, :3, 3] = generator.uniform((-10, -10, 18), (10, 10, 22), (count, 3))
    turn = Rotation.from_euler("xyz", generator.uniform(-0.3, 0.3, (count, 3)))
    T[:, :3, :3] = (turn * Rotation.from_euler("x", np.pi)).as_matrix()
    return T


def random_checkpoint(
    seed: int = 0, depth_kind: str = "metric", camera: Camera | None = None, **config: Any
) -> Checkpoint:
    """Random weights whose images vary, with batch-norm statistics as after training."""
    settings = Pose2RGBDConfig(**{"size": 32, "width": 1 / 4, "slices": 5, **config})
    torch.manual_seed(seed)
    model = Pose2RGBD(settings)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.02, 0.1)
            nn.init.uniform_(module.weight, 0.7, 1.3)
            nn.init.uniform_(module.bias, -0.2, 0.3)
    T_map_cam = random_poses(12)
    rotation = "quaternion" if settings.pose_dim == 7 else "euler"
    side = settings.size
    return Checkpoint(
        architecture=architecture_of(model),
        normalization=Normalization.fit(T_map_cam, np.array([[[4.0, 31.0]]]), rotation),
        camera=camera or Camera(side, side, 1.2 * side, 1.1 * side, (side - 1) / 2, (side - 1) / 2),
        map_frame="map",
        camera_frame="camera_optical",
        depth_kind=depth_kind if settings.has_depth else None,
        state_dict=model.state_dict(),
        training_stamps_ns=np.arange(12),
        training_T_map_cam=T_map_cam,
    )


@pytest.fixture
def make_checkpoint(tmp_path: Path) -> MakeCheckpoint:
    """Saves a random checkpoint as asked for and gives its path."""

    def make(**config: Any) -> Path:
        save_checkpoint(tmp_path / "model", random_checkpoint(**config))
        return tmp_path / "model"

    return make


@pytest.fixture
def poses() -> np.ndarray:
    return random_poses(3, seed=5)
