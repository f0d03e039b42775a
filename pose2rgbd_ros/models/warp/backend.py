"""Warping on a CPU, without PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.backends import Backend, RenderedImages
from pose2rgbd_ros.models.warp.config import WarpConfig
from pose2rgbd_ros.models.warp.views import StoredFrames, compiled_kernels
from pose2rgbd_ros.training.checkpoint import Checkpoint

NAME = "numba"


class WarpBackend:
    """Views warped frame by frame, into their place."""

    name = NAME

    def __init__(self, config: WarpConfig, frames: StoredFrames) -> None:
        """UserError: Numba is missing or broken here."""
        compiled_kernels()
        self._config, self._frames = config, frames

    def render(self, T_map_cam: NDArray[np.float64], camera: Camera, out: RenderedImages) -> None:
        """Poses (B, 4, 4) float64 seen by any calibrated camera, into `out`."""
        for index, T in enumerate(T_map_cam):
            colour, depth_m = self._frames.view(T, camera, self._config.frames)
            if out.rgb is not None:
                out.rgb[index] = np.rint(colour)
            if out.depth is not None:
                out.depth[index] = depth_m / np.float32(self._config.unit_m)


def make(directory: Path, checkpoint: Checkpoint, threads: int | None) -> Backend:
    """See training/families.py. UserError: Numba is missing or broken here."""
    config, state = checkpoint.config(), checkpoint.state_dict
    fx, fy, cx, cy = state["intrinsics"].tolist()
    camera = Camera(config.width, config.height, fx, fy, cx, cy)
    return WarpBackend(config, StoredFrames(state["rgb"], state["depth"], state["T_map_cam"], camera))
