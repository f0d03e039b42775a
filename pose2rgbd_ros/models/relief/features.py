"""What surfaces look like: feature maps on the ground plane, mip levels and all, a coarse volume, and the sky."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pose2rgbd_ros.models.relief.config import ReliefConfig
from pose2rgbd_ros.models.relief.lookup import bilinear, lookup, sample_grid, sample_maps

SKY_ROWS, SKY_COLUMNS = 16, 64
# A texel a pixel covers several of is noise to it: below FULL texels per pixel it counts whole, above NONE not at all.
FULL_TEXELS, NONE_TEXELS = 2.0, 4.0


class Features(nn.Module):
    """Learned tables looked up where rays meet surfaces.

    The ground-plane map is a sum of levels, each of twice the texel of the one before (a Laplacian pyramid whose
    levels are learned by themselves). A level fades out where a pixel covers several of its texels, which is
    what choosing a mip level does. The coarse volume tells apart what lies above one another.
    """

    def __init__(self, config: ReliefConfig) -> None:
        super().__init__()
        self.config = config
        sizes = [rows * columns for rows, columns in map(config.map_shape, range(config.levels))]
        layers, rows, columns = config.coarse_shape
        self.starts = [sum(sizes[:level]) for level in range(config.levels)]
        # One row a texel, all levels in one table: one lookup sums what belongs to a point.
        self.maps = nn.Parameter(torch.zeros(sum(sizes), config.channels))
        self.coarse = nn.Parameter(torch.zeros(layers * rows * columns, config.coarse_channels))
        self.sky = nn.Parameter(torch.zeros(SKY_ROWS * SKY_COLUMNS, config.channels))

    def ground(self, points: Tensor, pixel_m: Tensor) -> Tensor:
        """Features (N, C) of the ground-plane map at points (N, 3) that pixels of size `pixel_m` (N,) show."""
        levels = range(self.config.levels)
        shares = torch.stack([self.share(level, pixel_m) for level in levels], 1)
        shapes, texels_m = zip(
            *((self.config.map_shape(k), self.config.texel_m(k)) for k in levels), strict=True
        )
        return sample_maps(self.maps, points[:, :2], shares, self.starts, shapes, texels_m)

    def share(self, level: int, pixel_m: Tensor) -> Tensor:
        """How much (N,) a level counts for pixels of a size; the coarsest always counts."""
        if level == self.config.levels - 1:
            return torch.ones_like(pixel_m)
        texels = pixel_m / self.config.texel_m(level)
        return ((NONE_TEXELS - texels) / (NONE_TEXELS - FULL_TEXELS)).clamp(0.0, 1.0)

    def volume(self, points: Tensor) -> Tensor:
        """Features (N, Cv) of the coarse volume at points (N, 3)."""
        cell_m = self.config.coarse_cell_m
        position = points / points.new_tensor([cell_m, cell_m, self.config.coarse_layer_m])
        return sample_grid(self.coarse, position, self.config.coarse_shape)

    def sky_at(self, directions: Tensor) -> Tensor:
        """Features (N, C) of rays (N, 3) that meet nothing."""
        across = torch.linalg.vector_norm(directions[:, :2], dim=1)
        elevation = torch.atan2(directions[:, 2], across) / torch.pi + 0.5
        azimuth = torch.atan2(directions[:, 1], directions[:, 0]) / (2 * torch.pi) + 0.5
        at = torch.stack([azimuth * (SKY_COLUMNS - 1), elevation * (SKY_ROWS - 1)], 1)
        return lookup(self.sky, *bilinear(at, (SKY_ROWS, SKY_COLUMNS)))
