"""A relief of the simulated city made from its heights, and a flight to calibrate it on: no training, and real all
the same.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pose2rgbd_ros.dataset.meta import DatasetMeta, DepthMeta
from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.relief.config import ReliefConfig
from pose2rgbd_ros.models.relief.network import Relief
from pose2rgbd_ros.sim.city.city import City
from pose2rgbd_ros.sim.gl.renderer import SceneRenderer
from pose2rgbd_ros.training.checkpoint import Checkpoint, save_checkpoint
from pose2rgbd_ros.training.families import architecture_of

CELL_M, LAYER_M, FLOOR_M, LAYERS, HALF_M = 2.0, 2.0, -8.0, 28, 100.0
UNSEEN_M = 25.0  # nothing was seen of what lies both so far east and so far north of the middle


def city_relief(city: City, middle_m: np.ndarray) -> Relief:
    """A square about `middle_m` (2,): solid up to the city's skyline; its north-east was never seen."""
    torch.manual_seed(0)
    side = int(2 * HALF_M / CELL_M) + 1
    model = Relief(
        ReliefConfig(
            origin_m=(*(middle_m - HALF_M).tolist(), FLOOR_M), layers=LAYERS, rows=side, columns=side,
            cell_m=CELL_M, layer_m=LAYER_M, feature_m=4.0, channels=4, coarse_cell_m=8.0, coarse_layer_m=8.0,
            coarse_channels=4, width=8,
        )
    )  # fmt: skip
    at = np.linspace(-HALF_M, HALF_M, side)
    x, y = (axis.ravel() for axis in np.meshgrid(at, at))
    xy = np.stack([x, y], axis=-1) + middle_m
    inside = np.abs(xy).max(axis=1) <= city.bounds_m[1][0]
    height = np.where(inside, city.surface_height_m(xy), city.ground_height_m(xy)).reshape(side, side)
    z = FLOOR_M + LAYER_M * np.arange(LAYERS)
    unseen = ((x > UNSEEN_M) & (y > UNSEEN_M)).reshape(side, side)
    with torch.no_grad():
        logits = np.clip(2.0 * (height - z[:, None, None]) / LAYER_M, -6.0, 6.0)
        model.volume.logits.copy_(torch.from_numpy(logits))
        model.volume.seen.copy_(torch.from_numpy(np.broadcast_to(~unseen, logits.shape).astype(np.uint8)))
        for table in (model.features.maps, model.features.coarse, model.features.sky):
            table.normal_(0.0, 0.1)
    return model.eval()


def write_city_relief(path: Path, city: City, T_map_cam: np.ndarray, camera: Camera, middle_m: np.ndarray) -> Path:
    """The checkpoint, as if trained on these poses (N, 4, 4)."""
    model = city_relief(city, middle_m)
    save_checkpoint(
        path,
        Checkpoint(
            architecture=architecture_of(model),
            normalization=Normalization.fit(T_map_cam, np.array([[[2.0, 200.0]]], np.float32), "quaternion"),
            camera=camera,
            map_frame="map",
            camera_frame="camera_optical_frame",
            depth_kind="metric",
            state_dict=model.state_dict(),
            training_stamps_ns=np.arange(len(T_map_cam)) * 10**8,
            training_T_map_cam=T_map_cam,
        ),
    )
    return path


def write_recording(path: Path, city: City, T_map_cam: np.ndarray, camera: Camera) -> Path:
    """A dataset of these views of the city, with true depth."""
    meta = DatasetMeta(camera=camera, depth=DepthMeta(kind="metric"))
    with SceneRenderer(city.scene, camera, shadows=False) as renderer, DatasetWriter(path, meta) as writer:
        for index, T in enumerate(T_map_cam):
            view = renderer.render(T)
            writer.add(10**18 + index * 10**8, T, view.rgb, view.depth_m)
    return path
