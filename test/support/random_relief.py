"""A relief network of random towers and features, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.relief.config import ReliefConfig
from pose2rgbd_ros.models.relief.network import Relief
from pose2rgbd_ros.training.checkpoint import Checkpoint, save_checkpoint
from pose2rgbd_ros.training.families import architecture_of

LAYERS, ROWS, COLUMNS = 10, 40, 48


def random_relief(seed: int = 0, **config: Any) -> Relief:
    """Towers on 10 x 40 x 48 vertices about the map's origin, a strip of it never seen, turned by 20 degrees."""
    turned = (0.0, 0.0, np.sin(np.pi / 18), np.cos(np.pi / 18))
    settings: dict[str, Any] = {"origin_m": (-20.0, -22.0, 1.0), "quat_xyzw": turned, **config}
    torch.manual_seed(seed)
    model = Relief(ReliefConfig(layers=LAYERS, rows=ROWS, columns=COLUMNS, **settings)).eval()
    towers = functional.interpolate(torch.rand(1, 1, ROWS // 5, COLUMNS // 6), size=(ROWS, COLUMNS))[0, 0]
    layer = torch.arange(LAYERS)[:, None, None]
    with torch.no_grad():
        model.volume.logits.copy_(towers**2 * (LAYERS - 2) - layer + 0.2 * torch.randn(LAYERS, ROWS, COLUMNS))
        model.volume.seen.fill_(1)
        model.volume.seen[:, :, :9] = 0
        for table in (model.features.maps, model.features.coarse, model.features.sky):
            table.normal_(0, 0.1)
        if model.features.charts is not None:  # two blocks of three have one, facing any axis
            model.features.charts.normal_(0, 0.1)
            codes = torch.randint(3 * model.config.charts, model.config.chart_grid, dtype=torch.int32)
            model.features.chart_of.copy_(torch.where(torch.rand(model.config.chart_grid) < 1 / 3, -1, codes))
        for parameter in model.shader.parameters():
            parameter.normal_(0, 0.05)
    return model


def views() -> np.ndarray:
    """T_map_cam (5, 4, 4): steep, slanting, from afar, flat among the towers, up to the sky."""
    eye = np.array([[1, 2, 40], [20, -15, 25], [90, 60, 70], [-9, -20, 5.3], [3, 4, 14.0]])
    target = np.array([[3, 4, 0], [-5, 5, 0], [0, 0, 0], [8, 19, 5], [30, 30, 20.0]])
    return se3.look_at(eye, target)


def relief_checkpoint(path: Path, model: Relief, camera: Camera) -> Path:
    """A checkpoint of a network, as training would leave it."""
    T_map_cam = views()
    save_checkpoint(
        path,
        Checkpoint(
            architecture=architecture_of(model),
            normalization=Normalization.fit(T_map_cam, np.array([[[4.0, 60.0]]])),
            camera=camera,
            map_frame="map",
            camera_frame="camera_optical",
            depth_kind="metric" if model.config.output == "rgbd" else None,
            state_dict=model.state_dict(),
            training_stamps_ns=np.arange(len(T_map_cam)),
            training_T_map_cam=T_map_cam,
        ),
    )
    return path
