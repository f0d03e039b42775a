"""Small real checkpoints, and nodes on a domain of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.registry import build_model
from pose2rgbd_ros.training.checkpoint import Checkpoint, save_checkpoint

SIZE = 32


def training_poses() -> np.ndarray:
    """A square flight at 10 m height around (0, 0), looking down: T_map_cam (N, 4, 4)."""
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    eye = np.stack([5 * np.cos(angle), 5 * np.sin(angle), np.full_like(angle, 10.0)], axis=-1)
    return se3.look_at(eye, eye - [0.0, 0.0, 1.0])


def write_checkpoint(path: Path, **changes: Any) -> Path:
    """An untrained slice network in the format of training; `changes` override its architecture or facts."""
    torch.manual_seed(0)
    architecture = {
        "network": "pose2rgbd", "variant": "slice", "slices": 2, "output": "rgbd", "size": SIZE, "width": 0.125,
        **changes.pop("architecture", {}),
    }  # fmt: skip
    T = training_poses()
    has_depth = architecture["output"] != "rgb"
    depth = np.linspace(4, 12, 16).reshape(1, 4, 4).astype(np.float32) if has_depth else None
    facts = {
        "camera": Camera(SIZE, SIZE, 30.0, 31.0, 15.5, 15.5),
        "map_frame": "map",
        "camera_frame": "camera_optical",
        "depth_kind": "metric" if has_depth else None,
        **changes,
    }
    save_checkpoint(
        path,
        Checkpoint(
            architecture=architecture,
            normalization=Normalization.fit(T, depth, "quaternion"),
            state_dict=build_model(architecture).state_dict(),
            training_stamps_ns=np.arange(len(T)) * 10**8,
            training_T_map_cam=T,
            **facts,
        ),
    )
    return path


@pytest.fixture(scope="session")
def checkpoint_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slice network: RGB, depth and confidence of 32 x 32 pixels."""
    return write_checkpoint(tmp_path_factory.mktemp("models") / "meadow")
