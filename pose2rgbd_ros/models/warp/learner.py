"""Warping learns nothing: its "training" keeps the training frames at the training size."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.camera import Camera, resample, resample_map
from pose2rgbd_ros.geometry.depth import sample_depth
from pose2rgbd_ros.models.relief.surface import surface_depth
from pose2rgbd_ros.models.warp.config import Settings, WarpConfig
from pose2rgbd_ros.models.warp.network import WarpModel
from pose2rgbd_ros.models.warp.views import compiled_kernels, pinhole_around
from pose2rgbd_ros.training.config import Recipe
from pose2rgbd_ros.training.data import TrainingData
from pose2rgbd_ros.training.learner import Learner


class WarpLearner(Learner):
    """The frames, and no loss."""

    trains = False

    def __init__(self, config: Settings, data: TrainingData) -> None:
        super().__init__()
        camera, train = data.cache.camera, data.split.train
        if not camera.is_calibrated:
            raise UserError(
                f"the camera of {data.dataset.path} is not calibrated, which {config.model} needs; use model base"
            )
        compiled_kernels()  # what cannot be rendered need not be kept
        unit_m = _depth_unit_m(config, data)
        self.model = WarpModel(WarpConfig(config.frames, len(train), camera.width, camera.height, unit_m))
        rgb, depth = np.array(data.cache.rgb[train]), data.depth(train) * np.float32(unit_m)
        if camera.is_distorted:
            camera = _undistort(rgb, depth, camera)
        self.model.keep(rgb, depth, data.T_map_cam[train], camera)

    def loss(self, network: nn.Module, indices: np.ndarray, share: float) -> Tensor:
        raise NotImplementedError("warping learns nothing")


def make(config: Settings, recipe: Recipe, data: TrainingData, device: torch.device) -> WarpLearner:
    """See training/families.py. UserError: no intrinsics, or depth without a scale."""
    return WarpLearner(config, data)


def _depth_unit_m(config: Settings, data: TrainingData) -> float:
    """1 for metric depth; relative depth is scaled to the poses by what neighbouring frames show."""
    try:
        return surface_depth(data, "recorded").unit_m
    except UserError as error:
        raise UserError(
            f"{data.dataset.path} has relative depth, and {config.model} cannot find its scale; use model base"
        ) from error


def _undistort(rgb: np.ndarray, depth: np.ndarray, camera: Camera) -> Camera:
    """Resample the frames in place to the ideal pinhole that sees all they show, which is returned."""
    pinhole = pinhole_around(camera)
    lookup = resample_map(camera, pinhole)
    for i in range(len(rgb)):
        rgb[i] = resample(rgb[i], lookup, False)
        depth[i] = sample_depth(depth[i], lookup[..., 0], lookup[..., 1])
    return pinhole
