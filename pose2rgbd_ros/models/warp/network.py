"""The frames kept, as a network: what a checkpoint holds."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.warp.config import NETWORK_CONFIGS, WarpConfig
from pose2rgbd_ros.models.warp.views import StoredFrames
from pose2rgbd_ros.training.families import RenderTensors

FARTHEST_M = float(torch.finfo(torch.float16).max)


class WarpModel(nn.Module):
    """Warps the most useful of the kept frames into any view; nothing in it is learnt.

    The work is done on the CPU, whatever the device: the kernels are Numba's.
    """

    any_camera, has_confidence = WarpConfig.any_camera, WarpConfig.has_confidence
    rgb: Tensor
    depth: Tensor
    T_map_cam: Tensor
    intrinsics: Tensor

    def __init__(self, config: WarpConfig) -> None:
        super().__init__()
        self.config = config
        shape = (config.stored, config.height, config.width)
        self.register_buffer("rgb", torch.empty((*shape, 3), dtype=torch.uint8))
        self.register_buffer("depth", torch.empty(shape, dtype=torch.float16))  # NaN unknown; 1/2000 of it at worst
        self.register_buffer("T_map_cam", torch.empty((config.stored, 4, 4), dtype=torch.float64))
        self.register_buffer("intrinsics", torch.empty(4, dtype=torch.float64))  # fx, fy, cx, cy of the kept frames
        self._frames: StoredFrames | None = None

    def keep(self, rgb: NDArray[np.uint8], depth: NDArray[np.float32], T_map_cam: NDArray, camera: Camera) -> None:
        """Take the frames: rgb (M, h, w, 3), depth (M, h, w) in metres with NaN unknown, poses (M, 4, 4), a pinhole.

        What is farther than half precision reaches (65 km) counts as unknown, as the sky does.
        """
        self.rgb.copy_(torch.from_numpy(rgb))
        self.depth.copy_(torch.from_numpy(np.where(depth < FARTHEST_M, depth, np.float32(np.nan))))
        self.T_map_cam.copy_(torch.from_numpy(T_map_cam))
        self.intrinsics.copy_(torch.tensor([camera.fx, camera.fy, camera.cx, camera.cy]))
        self._frames = None

    @property
    def camera(self) -> Camera:
        """Of the kept frames."""
        return Camera(self.config.width, self.config.height, *self.intrinsics.tolist())

    @torch.no_grad()
    def pictures(self, T_map_cam: Tensor, camera: Camera, normalization: Normalization) -> RenderTensors:
        """Warp poses (B, 4, 4), one after the other. UserError: the camera is not calibrated."""
        if self._frames is None:
            rgb, depth_m, poses = (values.cpu().numpy() for values in (self.rgb, self.depth, self.T_map_cam))
            self._frames = StoredFrames(rgb, depth_m, poses, self.camera)
        views = [self._frames.view(T, camera, self.config.frames) for T in T_map_cam.double().cpu().numpy()]
        colour = torch.stack([torch.from_numpy(rgb) for rgb, _ in views]).permute(0, 3, 1, 2) / 255
        depth = torch.stack([torch.from_numpy(depth) for _, depth in views]) / self.config.unit_m
        return RenderTensors(colour.to(T_map_cam.device), depth.to(T_map_cam.device), None)


NETWORKS = {"warp": (NETWORK_CONFIGS["warp"], WarpModel)}
