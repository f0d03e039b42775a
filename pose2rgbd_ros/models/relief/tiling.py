"""A place in tiles: which there are, and what of each counts.

Tiles are alike in size and lie side by side in the axes of `vol`, each sharing `overlap` cells with its neighbours. The
*core* of a tile ends in the middle of what it shares, and at the rim of the place it goes on for ever, so every point
of space is in one core: that tile alone shows it. What lies around a core is there to be met by rays and to learn from.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import AnyArray, Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.relief.config import ReliefConfig, ReliefSettings
from pose2rgbd_ros.models.relief.scene_box import MB, SceneBox, Surface, choose_scene_box
from pose2rgbd_ros.settings import setting

OVERLAP_CELLS = 8
# "auto" takes tiles where one volume would have to be so many times as large as `model_mb` allows.
RATHER_TILES = 2.0
MOST_TILES = 400
RESTING_BYTES = 4  # a value of a tile whose turn to learn has not come, or is over


@dataclass(frozen=True)
class TiledReliefConfig(ReliefConfig):
    """Many reliefs alike. Sizes are those of one tile, `origin_m` is of the first; columns lie along x, rows along y."""

    tile_rows: int = setting(1, "tiles along y", ge=1)
    tile_columns: int = setting(1, "tiles along x", ge=1)
    overlap: int = setting(OVERLAP_CELLS, "occupancy cells that neighbours share", ge=2)

    @property
    def count(self) -> int:
        return self.tile_rows * self.tile_columns

    @property
    def stride_m(self) -> tuple[float, float]:
        """From one tile to the next along x and y."""
        x, y, _ = self.size_m
        return x - self.overlap * self.cell_m, y - self.overlap * self.cell_m

    def corner_m(self, number: int) -> Float64:
        """Lowest corner (3,) of a tile in the first one's volume."""
        row, column = divmod(number, self.tile_columns)
        return np.array([column * self.stride_m[0], row * self.stride_m[1], 0.0])

    def tile(self, number: int) -> ReliefConfig:
        """The relief that a tile is; they are numbered row by row."""
        origin = self.T_map_vol[:3, :3] @ self.corner_m(number) + self.T_map_vol[:3, 3]
        fields = {each.name: getattr(self, each.name) for each in dataclasses.fields(ReliefConfig)}
        return ReliefConfig(**{**fields, "origin_m": tuple(origin)})

    def core_m(self, number: int) -> tuple[Float64, Float64]:
        """Lowest and highest x and y, (2,) each, of a tile's core in the tile's own volume."""
        half = self.overlap * self.cell_m / 2
        grid = (number % self.tile_columns, number // self.tile_columns)
        last = (self.tile_columns - 1, self.tile_rows - 1)
        low = [-np.inf if at == 0 else half for at in grid]
        high = [
            np.inf if at == end else size - half
            for at, end, size in zip(grid, last, self.size_m[:2], strict=True)
        ]
        return np.array(low), np.array(high)

    def home(self, point_vol: AnyArray) -> int:
        """The tile in whose core a point (3,) of the first one's volume lies."""
        half = self.overlap * self.cell_m / 2
        across = np.floor((np.asarray(point_vol)[:2] - half) / np.array(self.stride_m))
        column, row = np.clip(across, 0, [self.tile_columns - 1, self.tile_rows - 1]).astype(int)
        return int(row * self.tile_columns + column)


def choose_tiles(
    T_map_cam: Float64, camera: Camera, surface: Surface, chosen: ReliefSettings
) -> tuple[SceneBox, tuple[int, int]]:
    """The box of a flight (see :func:`choose_scene_box`) and how many tiles it is cut into, along y and x.

    Raises:
        UserError: `chosen.tiles` cannot be read; the place does not fit the memory even so.
    """
    asked, limits = parse_tiles(chosen.tiles), chosen.box
    at_will = dataclasses.replace(limits, model_mb=np.inf, memory_mb=np.inf)

    def box_of(settings: object) -> SceneBox:
        return choose_scene_box(T_map_cam, camera, surface, settings, chosen.channels)  # type: ignore[arg-type]

    box = box_of(at_will)
    needed = box.stored_mb(chosen.channels) / limits.model_mb
    if asked == 1 or (asked is None and needed <= RATHER_TILES):
        return box_of(limits), (1, 1)
    x, y, _ = box.size_m
    grid = (
        asked
        if isinstance(asked, tuple)
        else share_out(int(np.ceil(1.1 * needed)) if asked is None else asked, y / x)
    )
    count = grid[0] * grid[1]
    if count > MOST_TILES:
        raise UserError(
            f"the place is too large: {x:,.0f} x {y:,.0f} m in cells of {box.cell_m:.3g} m would be {count:,} tiles, and at "
            f"most are {MOST_TILES}; use larger cells (--relief.box.cell-m, --relief.box.feature-m), larger tiles "
            "(--relief.box.model-mb), or train a part (--relief.box.extent-m)"
        )
    box = box_of(dataclasses.replace(at_will, model_mb=count * limits.model_mb))
    values = box.values(chosen.channels)
    needed_mb = box.trained_mb(chosen.channels) / count + values * (1 - 1 / count) * RESTING_BYTES / MB
    if needed_mb > limits.memory_mb:
        raise UserError(
            f"the place is too large: {x:,.0f} x {y:,.0f} m in {grid[0]}x{grid[1]} tiles takes {needed_mb:,.0f} MB to train, "
            f"and --relief.box.memory-mb allows {limits.memory_mb:,.0f}; raise it, or train a part "
            "(--relief.box.extent-m with --relief.box.middle-x-m and --relief.box.middle-y-m)"
        )
    return box, grid


def parse_tiles(text: str) -> int | tuple[int, int] | None:
    """None for "auto", a number of tiles, or rows and columns of them."""
    text = str(text).strip().lower()
    if text == "auto":
        return None
    match = re.fullmatch(r"([1-9]\d{0,2})(?:x([1-9]\d{0,2}))?", text)
    if match is None:
        raise UserError(
            f"--relief.tiles is {text!r}; write auto, a number such as 4, or rows and columns such as 2x3"
        )
    if match[2] is None:
        return int(match[1])
    grid = int(match[1]), int(match[2])
    return 1 if grid == (1, 1) else grid


def share_out(least: int, aspect: float) -> tuple[int, int]:
    """Rows and columns of at least so many tiles, few and nearly square; `aspect` is the place's y over x."""
    grids = [(rows, -(-least // rows)) for rows in range(1, least + 1)]
    return min(grids, key=lambda grid: grid[0] * grid[1] * (1 + abs(np.log(aspect * grid[1] / grid[0]))))


def tiled(network: ReliefConfig, grid: tuple[int, int]) -> TiledReliefConfig:
    """The network of a whole box, cut into `grid` rows and columns of tiles."""
    overlap = OVERLAP_CELLS
    rows, columns = (
        max(-(-(vertices - 1 - overlap) // parts), 1) + overlap + 1
        for vertices, parts in zip((network.rows, network.columns), grid, strict=True)
    )
    values = {**vars(network), "rows": rows, "columns": columns}
    return TiledReliefConfig(**values, tile_rows=grid[0], tile_columns=grid[1], overlap=overlap)
