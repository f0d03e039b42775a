"""A relief of a small place, made by hand: grassland, one house, and a part that nobody saw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.relief.config import ReliefConfig
from pose2rgbd_ros.models.relief.network import Relief
from pose2rgbd_ros.training.checkpoint import Checkpoint, save_checkpoint
from pose2rgbd_ros.training.families import architecture_of

GROUND_Z = -2.0  # of the volume's floor in the map
HOUSE_M = ((14.0, 18.0), (14.0, 18.0), 4.0)  # x, y and height in the volume
UNSEEN_FROM_X = 26.0  # metres in the volume
SIDE = 32


def small_relief() -> Relief:
    """32 x 32 m, 8 m high, with 1 m cells and layers."""
    torch.manual_seed(0)
    config = ReliefConfig(
        origin_m=(-16.0, -16.0, GROUND_Z), layers=9, rows=33, columns=33, cell_m=1.0, layer_m=1.0, feature_m=1.0,
        channels=4, coarse_cell_m=4.0, coarse_layer_m=2.0, coarse_channels=4, width=8,
    )  # fmt: skip
    model = Relief(config)
    x, y, z = (np.arange(count, dtype=float) for count in (33, 33, 9))
    inside = [(HOUSE_M[axis][0] <= values) & (values <= HOUSE_M[axis][1]) for axis, values in ((0, x), (1, y))]
    house = (z <= HOUSE_M[2])[:, None, None] & inside[1][None, :, None] & inside[0][None, None, :]
    with torch.no_grad():
        model.volume.logits.copy_(torch.from_numpy(np.where(house, 4.0, -4.0)))
        seen = np.broadcast_to(x < UNSEEN_FROM_X, (9, 33, 33)).astype(np.uint8)
        model.volume.seen.copy_(torch.from_numpy(seen.copy()))
        for table in (model.features.maps, model.features.coarse, model.features.sky):
            table.normal_(0.0, 0.1)
    return model.eval()


def write_small_relief(path: Path, depth_kind: str = "metric", model: Relief | None = None) -> Path:
    """The checkpoint of :func:`small_relief`, as if trained on 12 frames from 12 m above its middle."""
    model = model or small_relief()
    eye = np.stack([np.linspace(-2.0, 2.0, 12), np.zeros(12), np.full(12, 10.0)], axis=-1)
    T_map_cam = se3.look_at(eye, eye - [0.0, 0.0, 1.0])
    checkpoint = Checkpoint(
        architecture=architecture_of(model),
        normalization=Normalization.fit(T_map_cam, np.array([[[7.0, 13.0]]], np.float32), "quaternion"),
        camera=Camera.from_fov(SIDE, SIDE, 60.0),
        map_frame="map",
        camera_frame="camera_optical",
        depth_kind=depth_kind,
        state_dict=model.state_dict(),
        training_stamps_ns=np.arange(12) * 10**8,
        training_T_map_cam=T_map_cam,
    )
    save_checkpoint(path, checkpoint)
    return path
