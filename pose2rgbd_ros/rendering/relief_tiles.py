"""A relief in tiles on a CPU: per view the tiles it meets, each rendering its part of the picture, compiled."""

from __future__ import annotations

import threading

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.relief.march import INSIDE
from pose2rgbd_ros.models.relief.network import Relief, focal_px
from pose2rgbd_ros.models.relief.tiled import Owners, off_core
from pose2rgbd_ros.models.relief.tiling import TiledReliefConfig
from pose2rgbd_ros.models.relief.windows import Window, windows
from pose2rgbd_ros.rendering.backends import Rendered
from pose2rgbd_ros.rendering.relief_backend import Frame, ReliefBackend


class TiledReliefBackend:
    """A relief in tiles on a CPU, frame by frame.

    A tile is made ready when a view first meets it, which takes part of a second; until then it costs what it is stored
    in, half precision.
    """

    name = "numba"

    def __init__(
        self, config: TiledReliefConfig, state_dict: dict[str, Tensor], threads: int | None = None
    ) -> None:
        """UserError when a compiled relief cannot be had here (see :class:`ReliefBackend`)."""
        self._config, self._state, self._threads = config, state_dict, threads
        self._ready: dict[int, ReliefBackend] = {}
        self._camera: tuple[Camera, NDArray[np.float64]] | None = None
        self._lock = threading.Lock()
        self._backend(0)  # what is missing is told now

    def render(self, T_map_cam: NDArray[np.float64], camera: Camera, out: Rendered) -> None:
        """Poses (B, 4, 4) float64 seen by any calibrated camera, into `out`."""
        with self._lock:
            if self._camera is None or self._camera[0] != camera:
                self._camera = camera, camera.rays()
            for index, T in enumerate(T_map_cam):
                self._render_one(T, self._camera[1], focal_px(camera), out, index)

    def _render_one(
        self,
        T_map_cam: NDArray[np.float64],
        rays: NDArray[np.float64],
        focal: float,
        out: Rendered,
        index: int,
    ) -> None:
        images = {name: batch[index] for name, batch in out.present().items()}
        owners = Owners(rays.shape[:2])
        for window in windows(self._config, T_map_cam, rays):
            backend = self._backend(window.tile)
            frame = backend.frame(rays[window.rows, window.columns], focal)
            part = _like(out, *frame.direction.shape[:2])
            backend.render_frame(T_map_cam, frame, part, 0)
            t, off = self._ends(T_map_cam, window, frame)
            mine = owners.take(window.rows, window.columns, t, off).numpy()
            for name, made in part.present().items():
                image = images[name][window.rows, window.columns]
                image[mine] = made[0][mine]
            if frame.state[0] == INSIDE:
                break  # the tile the camera is in comes first, and has the whole picture

    def _ends(self, T_map_cam: NDArray[np.float64], window: Window, frame: Frame) -> tuple[Tensor, Tensor]:
        """Of the rays of a frame the t (h, w) at which they end, and how far that is beside the tile's core."""
        config, shape = self._config.tile(window.tile), frame.direction.shape[:2]
        step = np.array(config.step_m[:2], np.float32)
        origin = (se3.inverse(config.T_map_vol) @ T_map_cam)[:2, 3].astype(np.float32)
        t = frame.found[0].reshape(shape)
        where = torch.from_numpy(origin + t[..., None] * (frame.direction[..., :2] * step))
        low, high = (where.new_tensor(bound) for bound in self._config.core_m(window.tile))
        return torch.from_numpy(t), off_core(where, low, high)

    def _backend(self, number: int) -> ReliefBackend:
        if number not in self._ready:
            prefix = f"tiles.{number}."
            relief = Relief(self._config.tile(number))
            own = {
                key.removeprefix(prefix): value
                for key, value in self._state.items()
                if key.startswith(prefix)
            }
            relief.load_state_dict(own)
            self._ready[number] = ReliefBackend(relief.eval(), self._threads)
        return self._ready[number]


def _like(out: Rendered, height: int, width: int) -> Rendered:
    """Unfilled images of one part of a picture, of the kinds that `out` has."""
    kinds = ("rgb", "depth", "confidence")
    return Rendered(
        *(
            None
            if (images := getattr(out, kind)) is None
            else np.empty((1, height, width, *images.shape[3:]), images.dtype)
            for kind in kinds
        )
    )
