"""A place in tiles: which there are, and what of each counts.

Tiles are alike in size and lie side by side in the axes of `vol`, each sharing `overlap` cells with its neighbours. The
*core* of a tile ends in the middle of what it shares, and at the rim of the place it goes on for ever, so every point
of space is in one core: that tile alone shows it. What lies around a core is there to be met by rays and to learn from.
"""

from __future__ import annotations

import dataclasses
import re
import threading
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import AnyArray, Bool, Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models.backends import RenderedImages
from pose2rgbd_ros.models.base import RenderTensors
from pose2rgbd_ros.models.relief.backend import Frame, ReliefBackend
from pose2rgbd_ros.models.relief.config import MB, ReliefConfig, ReliefSettings, SceneBox, Surface, choose_scene_box
from pose2rgbd_ros.models.relief.march import INSIDE
from pose2rgbd_ros.models.relief.network import Relief, ReliefOutput, focal_px
from pose2rgbd_ros.settings import setting

OVERLAP_CELLS = 8
# "auto" takes tiles where one volume would have to be so many times as large as `model_mb` allows.
RATHER_TILES = 2.0
MOST_TILES = 400
RESTING_BYTES = 4  # a value of a tile whose turn to learn has not come, or is over


@dataclass(frozen=True)
class TiledReliefConfig(ReliefConfig):
    """Many reliefs alike. Sizes are those of one tile, `origin_m` is of the first; columns lie along x, rows
    along y.
    """

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
        high = [np.inf if at == end else size - half for at, end, size in zip(grid, last, self.size_m[:2], strict=True)]
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
        asked if isinstance(asked, tuple) else share_out(int(np.ceil(1.1 * needed)) if asked is None else asked, y / x)
    )
    count = grid[0] * grid[1]
    if count > MOST_TILES:
        raise UserError(
            f"the place is too large: {x:,.0f} x {y:,.0f} m in cells of {box.cell_m:.3g} m would be {count:,} tiles, "
            "and at "
            f"most are {MOST_TILES}; use larger cells (--relief.box.cell-m, --relief.box.feature-m), larger tiles "
            "(--relief.box.model-mb), or train a part (--relief.box.extent-m)"
        )
    box = box_of(dataclasses.replace(at_will, model_mb=count * limits.model_mb))
    values = box.values(chosen.channels)
    needed_mb = box.trained_mb(chosen.channels) / count + values * (1 - 1 / count) * RESTING_BYTES / MB
    if needed_mb > limits.memory_mb:
        raise UserError(
            f"the place is too large: {x:,.0f} x {y:,.0f} m in {grid[0]}x{grid[1]} tiles takes {needed_mb:,.0f} MB to "
            "train, "
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
        raise UserError(f"--relief.tiles is {text!r}; write auto, a number such as 4, or rows and columns such as 2x3")
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


# Which tiles of a place a view needs, and in which part of its picture.


CELL_PX = 16  # pictures are looked at in cells, and windows begin at one: the shader takes pixels together


class Window(NamedTuple):
    """The part of a picture that a tile may show."""

    tile: int
    rows: slice
    columns: slice


def windows(config: TiledReliefConfig, T_map_cam: Float64, rays_cam: AnyArray) -> list[Window]:
    """What a view at T_map_cam (4, 4) with rays (H, W, 3) needs: each pixel is in a window of every tile in whose core,
    between floor and top, its ray is somewhere.

    The tile the camera is over comes first. It also shows what looks up or meets no tile, and where the camera is
    within the height of the volume it has all of the picture: it says whether the camera is inside something.
    """
    y, x = (np.append(np.arange(0, size - 1, CELL_PX), size - 1) for size in rays_cam.shape[:2])
    T_vol_cam = se3.inverse(config.T_map_vol) @ T_map_cam
    ray = np.asarray(rays_cam[np.ix_(y, x)], np.float64) @ T_vol_cam[:3, :3].T
    eye = T_vol_cam[:3, 3]
    home = config.home(eye)
    corner_ray = np.stack([ray[:-1, :-1], ray[:-1, 1:], ray[1:, 1:], ray[1:, :-1]], axis=2)
    open_cell = np.asarray(np.isnan(corner_ray).any((-2, -1)))
    corner_ray = np.nan_to_num(corner_ray)
    view = _seen_between(config, eye, corner_ray)
    row, column, alone = _pixels_of(open_cell, y, x, rays_cam)
    lone_view = _seen_between(config, eye, (alone @ T_vol_cam[:3, :3].T)[:, None, None].repeat(4, axis=2))

    def met(number: int) -> Bool:
        mask = view.meets(config, number)
        np.logical_or.at(mask, (row, column), lone_view.meets(config, number)[:, 0])
        return mask

    meets = {number: mask for number in range(config.count) if (mask := met(number)).any()}
    none = ~np.any([*meets.values()], axis=0) if meets else np.ones(corner_ray.shape[:2], bool)
    meets[home] = meets.get(home, False) | none | (corner_ray[..., 2] >= 0).any(-1)
    if eye[2] <= config.size_m[2]:
        meets[home][:] = True
    found = [
        Window(number, _pixels(mask.max(1), y), _pixels(mask.max(0), x)) for number, mask in meets.items() if mask.any()
    ]
    return sorted(found, key=lambda window: window.tile != home)


@dataclass(frozen=True, eq=False)
class _Cells:
    """What the rays of each cell of a picture meet between floor and top, seen from above with the eye at the origin.

    eye_m: (2,) in the first tile's volume. toward: (h, w, 4, 2) horizontal directions of the corners' rays. low_m,
        high_m: (h, w, 2) rectangle that the rays are in, infinite for none. reach_m: nothing ends beyond.
    """

    eye_m: Float64
    toward: Float64
    low_m: Float64
    high_m: Float64
    reach_m: float

    def meets(self, config: TiledReliefConfig, number: int) -> Bool:
        """Which cells (h, w) a tile's core may be seen in: all in which it is, and few more."""
        # Rays of lenses are not quite between those of the corners.
        low, high = (
            np.clip(bound + config.corner_m(number)[:2] - self.eye_m + margin, -self.reach_m, self.reach_m)
            for bound, margin in zip(config.core_m(number), (-config.cell_m, config.cell_m), strict=True)
        )
        met = np.asarray(((self.low_m <= high) & (self.high_m >= low)).all(-1))
        if met.any():
            rectangle = np.array([low, [high[0], low[1]], high, [low[0], high[1]]])
            met[met] = ~_parted(self.toward[met], rectangle)
        return np.asarray(met)


def _pixels_of(open_cell: Bool, y: AnyArray, x: AnyArray, rays: AnyArray) -> tuple[AnyArray, AnyArray, Float64]:
    """Row and column (n,) of the cell, and ray (n, 3), of every pixel of cells to one of whose corners the lens has
    no ray.
    """
    rows = np.minimum(np.arange(rays.shape[0]) // CELL_PX, len(y) - 2)
    columns = np.minimum(np.arange(rays.shape[1]) // CELL_PX, len(x) - 2)
    v, u = np.nonzero(open_cell[np.ix_(rows, columns)] & np.isfinite(rays[..., 0]))
    return rows[v], columns[u], np.asarray(rays[v, u], np.float64)


def _seen_between(config: TiledReliefConfig, eye: Float64, corner_ray: Float64) -> _Cells:
    """Of cells with rays (h, w, 4, 3) at their corners. The rays within are sums of those at the corners, so what they
    meet at a height is between what those meet there; where some never meet it, what lies between goes on for ever."""
    reach_m = 4 * float(np.abs(eye[:2]).max() + np.abs(config.corner_m(config.count - 1)).max() + sum(config.size_m))
    up = corner_ray[..., 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        first, second = -eye[2] / up, (config.size_m[2] - eye[2]) / up
    within = 0 <= eye[2] <= config.size_m[2]
    near, far = np.fmin(first, second) * (not within), np.fmax(first, second)
    misses = ((up == 0) & (not within)) | (far < 0)
    endless = misses.any(-1) | (np.sign(up) != np.sign(up[..., :1])).any(-1) | (up == 0).any(-1)
    length = np.linalg.norm(corner_ray[..., :2], axis=-1)
    most = reach_m / np.maximum(length, 1e-9)
    far = np.where(endless[..., None], most, np.minimum(far, most))
    near = np.where(misses, far, np.minimum(near, far))
    ends = np.concatenate([corner_ray[..., :2] * t[..., None] for t in (near, far)], axis=2)
    nothing = misses.all(-1)[..., None]
    low, high = np.where(nothing, np.inf, ends.min(2)), np.where(nothing, -np.inf, ends.max(2))
    return _Cells(eye[:2], corner_ray[..., :2], low, high, reach_m)


def _parted(toward: Float64, rectangle: Float64) -> Bool:
    """Whether a line from the origin along one of the directions (n, 4, 2) has the others on one side and the
    rectangle's corners (4, 2) on the other."""

    def side(of: Float64) -> Float64:
        """(n, direction, corner): above 0 for what lies to the left of a direction."""
        return np.asarray(toward[:, :, None, 0] * of[..., None, :, 1] - toward[:, :, None, 1] * of[..., None, :, 0])

    cone, box = side(toward), side(rectangle)
    left, right = (cone >= 0).all(-1) & (box < 0).all(-1), (cone <= 0).all(-1) & (box > 0).all(-1)
    return np.asarray((left | right).any(-1))


def _pixels(mask: Bool, at: AnyArray) -> slice:
    """From the first cell told to the last; the last of all has the last pixel as well."""
    told = np.flatnonzero(mask)
    end = int(at[told[-1] + 1])
    return slice(int(at[told[0]]), end + 1 if told[-1] + 2 == len(at) else end)


# A place too large for one volume: reliefs side by side in one model, of which a view renders those it meets.


class TiledRelief(nn.Module):
    """Tiles of :class:`Relief`; each is whole in itself, with its own tables and shader (`TiledReliefConfig`)."""

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

    def forward(self, tile: int, T_map_cam: Tensor, rays_cam: Tensor, focal_px: float) -> ReliefOutput:
        """What one tile makes of views (see :class:`Relief`), for its training: pixels that show nothing of it teach
        nothing, that is, their depth is NaN and their colour has no gradient."""
        made: ReliefOutput = self.tile(tile)(T_map_cam, rays_cam, focal_px)
        t = made.hits.t
        size = made.origin.new_tensor(self.config.size_m[:2])
        where = (made.origin + t[:, None] * made.direction)[:, :2]
        home = torch.isnan(t) & (self._off_core(tile, made.origin[:, :2]) == 0)  # its sky
        own = (home | ((where >= 0) & (where <= size)).all(1)).reshape(made.depth.shape)
        rgb = torch.where(own[:, None], made.rgb, made.rgb.detach())
        return made._replace(rgb=rgb, depth=torch.where(own, made.depth, torch.nan))

    @torch.no_grad()
    def pictures(self, T_map_cam: Tensor, camera: Camera, normalization: Normalization) -> RenderTensors:
        """See :class:`RenderModel`."""
        rays = camera.rays()
        views = [self._picture(T[None], rays, focal_px(camera)) for T in T_map_cam]
        rgb, depth, confidence = (torch.cat(images) for images in zip(*views, strict=True))
        return RenderTensors(rgb, depth if self.config.output == "rgbd" else None, confidence)

    def _picture(self, T_map_cam: Tensor, rays: np.ndarray, focal_px: float) -> tuple[Tensor, Tensor, Tensor]:
        device, shape = T_map_cam.device, rays.shape[:2]
        rgb, depth = (torch.zeros((1, 3, *shape), device=device), torch.full((1, *shape), torch.nan, device=device))
        sure = torch.zeros((1, *shape), device=device)
        owners = Owners(shape, device)
        for tile, rows, columns in windows(self.config, T_map_cam[0].cpu().numpy(), rays):
            relief = self.tile(tile)
            cut = torch.from_numpy(np.ascontiguousarray(rays[rows, columns])).to(device)
            made: ReliefOutput = relief(T_map_cam, cut, focal_px)
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
    """Which tile shows a pixel: of those whose ray ends in their core the nearest, else the one whose end is least
    beside.

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


# A relief in tiles on a CPU: per view the tiles it meets, each rendering its part of the picture, compiled.


class TiledReliefBackend:
    """A relief in tiles on a CPU, frame by frame.

    A tile is made ready when a view first meets it, which takes part of a second; until then it costs what it is stored
    in, half precision.
    """

    name = "numba"

    def __init__(self, config: TiledReliefConfig, state_dict: dict[str, Tensor], threads: int | None = None) -> None:
        """UserError when a compiled relief cannot be had here (see :class:`ReliefBackend`)."""
        self._config, self._state, self._threads = config, state_dict, threads
        self._ready: dict[int, ReliefBackend] = {}
        self._camera: tuple[Camera, NDArray[np.float64]] | None = None
        self._lock = threading.Lock()
        self._backend(0)  # what is missing is told now

    def render(self, T_map_cam: NDArray[np.float64], camera: Camera, out: RenderedImages) -> None:
        """Poses (B, 4, 4) float64 seen by any calibrated camera, into `out`."""
        with self._lock:
            if self._camera is None or self._camera[0] != camera:
                self._camera = camera, camera.rays()
            for index, T in enumerate(T_map_cam):
                self._render_one(T, self._camera[1], focal_px(camera), out, index)

    def _render_one(
        self, T_map_cam: NDArray[np.float64], rays: NDArray[np.float64], focal: float, out: RenderedImages, index: int
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
            own = {key.removeprefix(prefix): value for key, value in self._state.items() if key.startswith(prefix)}
            relief.load_state_dict(own)
            self._ready[number] = ReliefBackend(relief.eval(), self._threads)
        return self._ready[number]


def _like(out: RenderedImages, height: int, width: int) -> RenderedImages:
    """Unfilled images of one part of a picture, of the kinds that `out` has."""
    kinds = ("rgb", "depth", "confidence")
    return RenderedImages(
        *(
            None
            if (images := getattr(out, kind)) is None
            else np.empty((1, height, width, *images.shape[3:]), images.dtype)
            for kind in kinds
        )
    )
