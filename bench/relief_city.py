"""A relief network of a city of random towers, 300 x 300 m, for benches: its size and its work are those of a trained
one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.relief.config import ReliefConfig
from pose2rgbd_ros.models.relief.network import Relief
from pose2rgbd_ros.training.checkpoint import Checkpoint, save_checkpoint
from pose2rgbd_ros.training.evaluators import to_store
from pose2rgbd_ros.training.families import architecture_of

SIDE_M, TOWER_M, TOP_M = 300, 15, 36.0
CELL_M, LAYER_M, FEATURE_M = 0.65, 0.95, 0.38  # as trained at 128 pixels from HEIGHT_M
HEIGHT_M, FOV_DEG = 55.0, 90.0


def relief_city(side_m: int = SIDE_M) -> Relief:
    """Towers 15 m wide, low ones more often than high ones, in cells that training at 128 pixels chooses."""
    torch.manual_seed(0)
    side, layers = round(side_m / CELL_M) + 1, round(TOP_M / LAYER_M) + 1
    model = Relief(
        ReliefConfig(
            origin_m=(-side_m / 2, -side_m / 2, 0.0),
            layers=layers,
            rows=side,
            columns=side,
            cell_m=CELL_M,
            layer_m=LAYER_M,
            feature_m=FEATURE_M,
        )
    )
    towers = torch.rand(1, 1, side_m // TOWER_M, side_m // TOWER_M) ** 3 * (layers - 3)
    height = functional.interpolate(towers, size=(side, side))[0, 0]
    with torch.no_grad():
        noise = 0.3 * torch.randn(layers, side, side)
        model.volume.logits.copy_(height - torch.arange(layers)[:, None, None] + noise)
        model.volume.seen.fill_(1)
        for table in (model.features.maps, model.features.coarse, model.features.sky):
            table.normal_(0.0, 0.1)
        for parameter in model.shader.parameters():
            parameter.normal_(0.0, 0.03)
    return model.eval()


def write_relief(path: Path, size: int, T_map_cam: np.ndarray | None = None, side_m: int = SIDE_M) -> np.ndarray:
    """A checkpoint of the city for cameras of `size` pixels a side; its poses (N, 4, 4), looking down if not given."""
    if T_map_cam is None:
        eye = np.random.default_rng(0).uniform((-60, -60, HEIGHT_M), (60, 60, HEIGHT_M + 5), (16, 3))
        T_map_cam = se3.look_at(eye, eye * (1.0, 1.0, 0.0) + (3.0, 2.0, 0.0))
    model = relief_city(side_m)
    save_checkpoint(
        path,
        Checkpoint(
            architecture=architecture_of(model),
            normalization=Normalization.fit(T_map_cam, np.array([[[1.0, 100.0]]])),
            camera=Camera.from_fov(size, size, FOV_DEG),
            map_frame="map",
            camera_frame="camera_optical_frame",
            depth_kind="metric",
            state_dict=to_store(model),
            training_stamps_ns=np.arange(len(T_map_cam)) * 10**8,
            training_T_map_cam=T_map_cam,
        ),
    )
    return T_map_cam
