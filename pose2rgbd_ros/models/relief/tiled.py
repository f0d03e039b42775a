"""A place too large for one volume: reliefs side by side in one model, of which a view renders those it meets."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.relief.march import INSIDE
from pose2rgbd_ros.models.relief.network import Relief, Rendering, focal_px
from pose2rgbd_ros.models.relief.tiling import TiledReliefConfig
from pose2rgbd_ros.models.relief.windows import windows
from pose2rgbd_ros.models.view import Pictures


class TiledRelief(nn.Module):
    """Tiles of :class:`Relief`; each is whole in itself, with its own tables and shader. See tiling.py for what is whose."""

    any_camera = True
    has_confidence = True

    def __init__(self, config: TiledReliefConfig) -> None:
        super().__init__()
        self.config = config
        self.tiles = nn.ModuleList(Relief(config.tile(number)) for number in range(config.count))

    @property
    def stored_as_half(self) -> frozenset[str]:
        """As each tile says."""
        return frozenset(
            f"tiles.{number}.{name}" for number in range(self.config.count) for name in Relief.stored_as_half
        )

    def tile(self, number: int) -> Relief:
        """One of them."""
        return cast(Relief, self.tiles[number])

    def forward(self, tile: int, T_map_cam: Tensor, rays_cam: Tensor, focal_px: float) -> Rendering:
        """What one tile makes of views (see :class:`Relief`), for its training: pixels that show nothing of it teach
        nothing, that is, their depth is NaN and their colour has no gradient."""
        made: Rendering = self.tile(tile)(T_map_cam, rays_cam, focal_px)
        t = made.hits.t
        size = made.origin.new_tensor(self.config.size_m[:2])
        where = (made.origin + t[:, None] * made.direction)[:, :2]
        home = torch.isnan(t) & (self._off_core(tile, made.origin[:, :2]) == 0)  # its sky
        own = (home | ((where >= 0) & (where <= size)).all(1)).reshape(made.depth.shape)
        rgb = torch.where(own[:, None], made.rgb, made.rgb.detach())
        return made._replace(rgb=rgb, depth=torch.where(own, made.depth, torch.nan))

    @torch.no_grad()
    def pictures(self, T_map_cam: Tensor, camera: Camera, normalization: Normalization) -> Pictures:
        """See :class:`ViewModel`."""
        rays = camera.rays()
        views = [self._picture(T[None], rays, focal_px(camera)) for T in T_map_cam]
        rgb, depth, confidence = (torch.cat(images) for images in zip(*views, strict=True))
        return Pictures(rgb, depth if self.config.output == "rgbd" else None, confidence)

    def _picture(self, T_map_cam: Tensor, rays: np.ndarray, focal_px: float) -> tuple[Tensor, Tensor, Tensor]:
        device, shape = T_map_cam.device, rays.shape[:2]
        rgb, depth = (
            torch.zeros((1, 3, *shape), device=device),
            torch.full((1, *shape), torch.nan, device=device),
        )
        sure = torch.zeros((1, *shape), device=device)
        owners = Owners(shape, device)
        for tile, rows, columns in windows(self.config, T_map_cam[0].cpu().numpy(), rays):
            relief = self.tile(tile)
            cut = torch.from_numpy(np.ascontiguousarray(rays[rows, columns])).to(device)
            made: Rendering = relief(T_map_cam, cut, focal_px)
            shown = relief.shown(made)
            t = made.hits.t.reshape(cut.shape[:2])
            where = (made.origin + made.hits.t[:, None] * made.direction)[:, :2].reshape(*cut.shape[:2], 2)
            mine = owners.take(rows, columns, t, self._off_core(tile, where))
            assert shown.rgb is not None
            rgb[0, :, rows, columns] = torch.where(mine, shown.rgb[0], rgb[0, :, rows, columns])
            for image, part in ((depth, shown.depth), (sure, shown.confidence)):
                if part is not None:
                    image[0, rows, columns] = torch.where(mine, part[0], image[0, rows, columns])
            if (made.hits.state == INSIDE).any():
                break  # the tile the camera is in comes first, and has the whole picture
        return rgb, depth, sure

    def _off_core(self, tile: int, where: Tensor) -> Tensor:
        low, high = (where.new_tensor(bound) for bound in self.config.core_m(tile))
        return off_core(where, low, high)


def off_core(where: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """How far (...) points (..., 2) lie beside the rectangle from low to high, along the worse axis; 0 within."""
    return torch.maximum(low - where, where - high).amax(-1).clamp(min=0.0)


class Owners:
    """Which tile shows a pixel: of those whose ray ends in their core the nearest, else the one whose end is least beside.

    So a surface at the border of two cores, which each of them may take for the other's, is shown by one. What meets
    nothing stays with the first tile that had it.
    """

    def __init__(self, shape: tuple[int, int], device: torch.device | None = None) -> None:
        self._off = torch.full(shape, torch.inf, device=device)
        self._t = torch.full(shape, torch.inf, device=device)
        self._free = torch.ones(shape, dtype=torch.bool, device=device)

    def take(self, rows: slice, columns: slice, t: Tensor, off: Tensor) -> Tensor:
        """Which pixels (h, w) of a window a tile shows, by where its rays end: t, NaN for none, and `off` its core."""
        best_off, best_t, free = (each[rows, columns] for each in (self._off, self._t, self._free))
        off, t = torch.where(torch.isnan(t), torch.inf, off), t.nan_to_num(torch.inf)
        mine = free | (off < best_off) | ((off == best_off) & (t < best_t))
        best_off[mine], best_t[mine], free[mine] = off[mine], t[mine], False
        return mine
