"""Relief on a CPU: march, lookups and shader compiled, strip by strip of a picture, without autograd."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models import backends
from pose2rgbd_ros.models.backends import Backend, RenderedImages, all_threads
from pose2rgbd_ros.models.relief import charts
from pose2rgbd_ros.models.relief.beams import pyramid
from pose2rgbd_ros.models.relief.config import (
    EXTRA_CHANNELS,
    INSIDE,
    LANES,
    MEMORY_CHANNELS,
    SKY_COLUMNS,
    SKY_ROWS,
    ReliefConfig,
    TiledReliefConfig,
)
from pose2rgbd_ros.models.relief.kernels import highest_layers, march_rays
from pose2rgbd_ros.models.relief.light import light_at
from pose2rgbd_ros.models.relief.memory import WITHIN_PIXEL, View, glance_at, no_view, photographs
from pose2rgbd_ros.models.relief.patch_kernels import BEAM_PX, compose_band, edge_band, recall_band, see_band
from pose2rgbd_ros.models.relief.recorded_depth import silhouette_px
from pose2rgbd_ros.models.relief.tiles import Owners, Window, off_core, windows
from pose2rgbd_ros.models.relief.winograd import TILE, Convolution, convolution, convolve, scratch
from pose2rgbd_ros.training.checkpoint import Checkpoint

# A relief network's tables as the compiled kernels read them: the same functions, fewer lookups.
#
# The ground-plane map is a sum of levels, and level l has a vertex at every 2^l-th vertex of level 0. A bilinear
# function stays bilinear on a finer grid, so levels l, l + 1, ... added up at the vertices of level l are one table
# with the same values in between: instead of every level two tables are looked up where a level fades out, elsewhere
# one.


NAME = "numba"


Float32 = NDArray[np.float32]


class ReliefTables(NamedTuple):
    """Arrays for render_kernels.py.

    logits: (L, Y, X), rounded to half precision as in a checkpoint. top, around: of :func:`highest_layers`.
    seen: (L, Y, X) uint8. step_m: (3,) along x, y, z.
    maps: (M, C) the sums of levels, one after another; starts, shapes, texel_m: (levels,), (levels, 2), (levels,).
    coarse: (Lc, Yc, Xc, Cv). coarse_step_m: (2,) across and up. sky: (rows, columns, C).
    charts: (M, C) the sums of levels, chart after chart; none: no rows. chart_of: (Z, Y, X) codes of blocks
    (charts.py).
    """

    logits: Float32
    top: NDArray[np.int16]
    around: NDArray[np.int16]
    seen: NDArray[np.uint8]
    step_m: Float32
    maps: Float32
    starts: NDArray[np.int64]
    shapes: NDArray[np.int64]
    texel_m: Float32
    coarse: Float32
    coarse_step_m: Float32
    sky: Float32
    charts: Float32
    chart_of: charts.Int32
    chart_layout: charts.Layout


def relief_tables(config: ReliefConfig, state: Mapping[str, Any]) -> ReliefTables:
    """The tables of a network's state, arrays or tensors on the CPU by their names in a checkpoint."""
    logits = _float32(np.asarray(state["volume.logits"], np.float16))
    own, chart_of, chart_layout = _charts(config, state)
    levels = level_sums(config, _float32(state["features.maps"]))
    sizes = [rows * columns for rows, columns, _ in (level.shape for level in levels)]
    return ReliefTables(
        logits,
        *highest_layers(logits),
        np.ascontiguousarray(state["volume.seen"], np.uint8),
        np.array(config.step_m, np.float32),
        np.concatenate([level.reshape(-1, config.channels) for level in levels]),
        np.cumsum([0, *sizes[:-1]]),
        np.array([level.shape[:2] for level in levels], np.int64),
        np.array([config.texel_m(level) for level in range(config.levels)], np.float32),
        _float32(state["features.coarse"]).reshape(*config.coarse_shape, config.coarse_channels),
        np.array([config.coarse_cell_m, config.coarse_layer_m], np.float32),
        _float32(state["features.sky"]).reshape(SKY_ROWS, SKY_COLUMNS, config.channels),
        own,
        chart_of,
        chart_layout,
    )


def _charts(config: ReliefConfig, state: Mapping[str, Any]) -> tuple[Float32, charts.Int32, charts.Layout]:
    there = charts.layout(config.levels, config.chart_m)
    if not config.charts:
        return np.zeros((0, config.channels), np.float32), np.full((1, 1, 1), charts.NO_CHART, np.int32), there
    sums = charts.level_sums(config, _float32(state["features.charts"]))
    return sums, np.ascontiguousarray(state["features.chart_of"], np.int32), there


def level_sums(config: ReliefConfig, maps: Float32) -> list[Float32]:
    """Per level l the sum of levels l, l + 1, ... of the map at the vertices of level l, (rows, columns, C).

    Each reaches as far as the coarsest level: outside its own extent a level is clamped, which a table of its own
        extent could not say of a sum.
    """
    sums = [np.zeros((0, 0, config.channels), np.float32)] * config.levels
    total: Float32 | None = None
    end = len(maps)
    for level in reversed(range(config.levels)):
        shape = config.map_shape(level)
        start = end - shape[0] * shape[1]
        table, end = maps[start:end].reshape(*shape, -1), start
        if total is not None:
            finer = _twice(total)
            beyond = [(0, finer.shape[axis] - table.shape[axis]) for axis in (0, 1)]
            table = finer + np.pad(table, (*beyond, (0, 0)), mode="edge")
        total = sums[level] = np.ascontiguousarray(table)
    return sums


def _twice(table: Float32) -> Float32:
    """(rows, columns, C) at twice the density: (2 rows - 1, 2 columns - 1, C)."""
    for axis in (0, 1):
        values = np.moveaxis(table, axis, 0)
        finer = np.empty((2 * len(values) - 1, *values.shape[1:]), np.float32)
        finer[::2] = values
        finer[1::2] = (values[:-1] + values[1:]) / 2
        table = np.moveaxis(finer, 0, axis)
    return table


def _float32(values: Any) -> Float32:
    return np.ascontiguousarray(values, np.float32)


def tile_state(state: Mapping[str, Any], tile: int | None) -> dict[str, Any]:
    """What a state holds of one tile, by the names of a relief alone; None: it is one."""
    prefix = "" if tile is None else f"tiles.{tile}."
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


SHORT, TINY = 32767.0, 1e-12
STRIPS_A_THREAD, HIGHEST_STRIP = 4, 8
NO_VIEW, WITHIN = no_view(), np.array(WITHIN_PIXEL)
KEPT_FRAMES = 2  # a camera and its small picture (Renderer.progressive)


def in_registers(table: Float32) -> Float32:
    """A table with channels, its last axis, in whole registers; the added ones are 0."""
    return np.pad(table, [(0, 0)] * (table.ndim - 1) + [(0, -table.shape[-1] % LANES)])


class PatchTables(NamedTuple):
    """Arrays for patch_kernels.py: those of :class:`ReliefTables` in less memory, which is what a lookup waits for.

    shape: of the logits. seen: (Y, X, L / 8), a bit for each vertex, the lowest first. maps, coarse: int16, in units:
    (2,), and charts in those of maps. Channels in whole registers. All else as there.
    """

    shape: tuple[int, int, int]
    seen: NDArray[np.uint8]
    step_m: Float32
    maps: NDArray[np.int16]
    starts: NDArray[np.int64]
    shapes: NDArray[np.int64]
    texel_m: Float32
    coarse: NDArray[np.int16]
    coarse_step_m: Float32
    units: Float32
    sky: Float32
    charts: NDArray[np.int16]
    chart_of: charts.Int32
    chart_layout: charts.Layout


def patch_tables(tables: ReliefTables) -> PatchTables:
    """The tables as patch_kernels.py reads them."""
    maps, coarse, own = map(in_registers, (tables.maps, tables.coarse, tables.charts))
    most = [max(float(np.abs(table).max(initial=TINY)) for table in some) for some in ((maps, own), (coarse,))]
    units = np.array(most, np.float32) / np.float32(SHORT)
    return PatchTables(
        tables.logits.shape,
        np.ascontiguousarray(np.packbits(np.moveaxis(tables.seen > 0, 0, 2), axis=2, bitorder="little")),
        tables.step_m,
        np.rint(maps / units[0]).astype(np.int16),
        tables.starts,
        tables.shapes,
        tables.texel_m,
        np.rint(coarse / units[1]).astype(np.int16),
        tables.coarse_step_m,
        units,
        in_registers(tables.sky),
        np.rint(own / units[0]).astype(np.int16),
        tables.chart_of,
        tables.chart_layout,
    )


def shader_layers(config: ReliefConfig, state: Mapping[str, Any]) -> list[Convolution]:
    """The shader of a network's state, its input and its answer a patch's pixels one after another.

    A pixel of the input is the ground's features, the coarse volume's, both in whole registers, the extra ones, and
    what a memory shows; a pixel of the answer is its colour and depth, and with a memory the trust in it.
    """
    s, ground, across = config.unshuffle, config.channels, config.coarse_channels
    inputs, _, _, outputs = (channels // s**2 for channels in config.shader_widths())
    weights, biases = (
        [_float32(state[f"shader.layers.{layer}.{kind}"]) for layer in (0, 2, 4)] for kind in ("weight", "bias")
    )
    first = weights[0].reshape(-1, inputs, s, s, 3, 3)
    parts = np.split(first, [ground, ground + across], axis=1)
    parts[:2] = (np.moveaxis(in_registers(np.moveaxis(part, 1, -1)), -1, 1) for part in parts[:2])
    weights[0] = np.moveaxis(np.concatenate(parts, 1), 1, 3).reshape(len(first), -1, 3, 3)
    last = weights[2].reshape(outputs, s, s, -1, 3, 3)
    weights[2] = np.moveaxis(last, 0, 2).reshape(-1, *last.shape[3:])
    biases[2] = np.moveaxis(biases[2].reshape(outputs, s, s), 0, 2).ravel()
    # A layer gives as many outputs, in whole registers, as the next one takes.
    layers: list[Convolution] = []
    for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        if layers:
            weight = np.pad(weight, [(0, 0), (0, layers[-1].bias.size - weight.shape[1]), (0, 0), (0, 0)])
        layers.append(convolution(weight, bias, relu=number < len(weights) - 1))
    return layers


class ReliefBackend:
    """A relief network on a CPU, frame by frame.

    The first one on a machine compiles the kernels, which takes about ten seconds; the code is kept (see
    :func:`backends.compiled`), and loading it takes part of a second. Unless `threads` says otherwise it takes all
    cores, at most 4: a frame takes long enough to be worth them.
    """

    name = NAME

    def __init__(self, config: ReliefConfig, state: Mapping[str, Any], threads: int | None = None) -> None:
        """`state`: as :func:`relief_tables` takes it. UserError when numba is missing."""
        if not backends.HAS_NUMBA:
            raise UserError(f"{backends.WHY_NO_NUMBA}; install numba")
        self._threads = threads or all_threads()
        self._pool = ThreadPoolExecutor(self._threads) if self._threads > 1 else None
        self._config = config
        self._T_vol_map = se3.inverse(config.T_map_vol)
        tables = relief_tables(config, state)
        # In half precision, as stored, they take half of the memory; the march converts what it reads.
        self._volume = tables.logits.astype(np.float16).view(np.uint16), tables.top, tables.around
        self._tables = patch_tables(tables)
        self._beams = pyramid(tables.top)
        self._layers = shader_layers(config, state)
        self._memory = photographs(config, state) if config.memory_frames else None
        light = [state[f"light.{name}"] if config.light_frames else () for name in ("frames", "views")]
        self._light = _float32(light[0]), _float32(light[1])
        self._scratch = [scratch(self._layers) for _ in range(self._threads)]
        self._frames: dict[Camera, Frame] = {}
        self._lock = threading.Lock()  # one set of buffers
        self._compile()

    def render(self, T_map_cam: NDArray[np.float64], camera: Camera, out: RenderedImages) -> None:
        """Poses (B, 4, 4) float64 seen by any calibrated camera, straight into `out`."""
        with self._lock:
            frame = self._frames.pop(camera, None)
            if frame is None:
                frame = self.frame(camera.rays(), camera.focal_px)
            self._frames[camera] = frame  # the last one asked for comes last, and few are kept
            for other in list(self._frames)[:-KEPT_FRAMES]:
                del self._frames[other]
            for index, T in enumerate(T_map_cam):
                self.render_frame(T, frame, out, index)

    def frame(self, rays_cam: NDArray[np.float64], focal_px: float) -> Frame:
        """Buffers for views through rays (H, W, 3), z = 1."""
        channels = [*(layer.weights.shape[1] for layer in self._layers), self._layers[-1].bias.size]
        return Frame(rays_cam, focal_px, self._config.unshuffle, channels, self._threads)

    def render_frame(self, T_map_cam: NDArray[np.float64], frame: Frame, out: RenderedImages, index: int) -> None:
        """One pose (4, 4) into images `index` of `out`, and what its rays met into `frame`; one at a time."""
        T_vol_cam = self._T_vol_map @ T_map_cam
        known = frame.depth_m, frame.sure if out.confidence is None else out.confidence[index]
        rgb = frame.no_rgb if out.rgb is None else out.rgb[index]
        depth = frame.no_depth if out.depth is None else out.depth[index]
        config, tables, s = self._config, self._tables, self._config.unshuffle
        ground = tables.maps.shape[1]
        features = ground + tables.coarse.shape[3] + EXTRA_CHANNELS
        recalled = 0 if self._memory is None else features
        features += 0 if self._memory is None else MEMORY_CHANNELS
        T_grid_cam = T_vol_cam[:3] / np.array(config.step_m)[:, None]
        memory = self._looked_up(T_vol_cam, T_grid_cam, frame)
        light = light_at(*self._light, T_vol_cam, config.depth_scale_m, config.light_reach)
        met = frame.direction, frame.state, frame.t
        within = WITHIN[: config.rays_within if min(frame.shape) > 1 else 0]
        ends = frame.ends(len(within))
        view = np.float32(frame.focal_px), np.float32(config.depth_scale_m)
        units = np.float32(config.layer_m), np.float32(config.unit_m)
        reach_px = silhouette_px(config.cell_m, config.depth_scale_m, frame.focal_px)
        reach = np.float32(config.memory_reach * config.layer_m), reach_px
        rays, images, shape = (T_grid_cam, frame.rays, frame.bounds), frame.images, frame.patches

        def see(start: int, stop: int, _: int) -> None:
            rows = start * TILE * s, min(stop * TILE * s, frame.rays.shape[1])
            see_band(self._volume, self._beams, tables, *rays, view, s, features, *rows, met, images[0], known)

        def smooth(start: int, stop: int, _: int) -> None:
            rows = start * TILE * s, min(stop * TILE * s, frame.rays.shape[1])
            asked = frame.t, frame.shape, within, config.edge_rays, view[0]
            edge_band(self._volume, self._beams, tables, *rays, *asked, s, features, *rows, ends, images[0])

        def remember(start: int, stop: int, _: int) -> None:
            rows = start * TILE * s, min(stop * TILE * s, frame.rays.shape[1])
            seen = frame.direction, frame.t, ends, frame.shape, within[: config.memory_rays]
            recall_band(tables, memory, reach, *rays[:2], *seen, s, features, *rows, images[0], frame.depth_m)

        def shade(layer: int, start: int, stop: int, thread: int) -> None:
            margin, buffers = int(layer < len(self._layers) - 1), self._scratch[thread][layer]
            convolve(images[layer], self._layers[layer], *shape, start, stop, margin, images[layer + 1], *buffers)

        def finish(start: int, stop: int, thread: int) -> None:
            shade(2, start, stop, thread)
            rows = start * TILE * s, stop * TILE * s
            compose_band(
                images[0], images[3], ground, recalled, light, *units, s, features, *rows, frame.depth_m, rgb, depth
            )

        before = [see, *([smooth] if len(within) else []), *([remember] if self._memory is not None else [])]
        self._run([*before, partial(shade, 0), partial(shade, 1), finish], frame.strips)

    def _looked_up(self, T_vol_cam: NDArray[np.float64], T_grid_cam: NDArray[np.float64], frame: Frame) -> View:
        """The remembered frames for a view, chosen by what a few of its rays meet."""
        if self._memory is None:
            return NO_VIEW
        direction = (frame.glance @ T_grid_cam[:, :3].T).astype(np.float32)
        origin = T_grid_cam[None, :, 3].astype(np.float32)
        state, found = np.empty(len(direction), np.uint8), np.empty((5, len(direction)), np.float32)
        march_rays(*self._volume, origin, direction, 0, len(direction), state, found)
        points = (origin + found[0][:, None] * direction) * np.array(self._config.step_m, np.float32)
        chosen = self._memory.choose(T_vol_cam, points, self._config.memory_views)
        return self._memory.view(chosen, frame.focal_px)

    def _run(self, stages: list[Callable[[int, int, int], None]], strips: list[tuple[int, int]]) -> None:
        """Call every stage for every strip of rows in all threads, one of a strip when the stage before has done it and
        its neighbours: no thread waits for the end of a stage, and what a stage leaves is still in the cache for the
        next.
        """
        tasks, count = in_turns(len(stages), len(strips)), len(strips)
        if self._pool is None:
            for stage, strip in tasks:
                stages[stage](*strips[strip], 0)
            return
        done: set[tuple[int, int]] = set()
        changed, turn, failed = threading.Condition(), itertools.count(), threading.Event()

        def work(thread: int) -> None:
            try:
                while (number := next(turn)) < len(tasks) and not failed.is_set():
                    stage, strip = tasks[number]
                    before = range(max(strip - 1, 0), min(strip + 2, count)) if stage > 0 else ()
                    with changed:
                        while not (failed.is_set() or done.issuperset((stage - 1, at) for at in before)):
                            changed.wait()
                    if not failed.is_set():
                        stages[stage](*strips[strip], thread)
                    with changed:
                        done.add((stage, strip))
                        changed.notify_all()
            except BaseException:
                failed.set()
                with changed:
                    changed.notify_all()
                raise

        for ended in [self._pool.submit(work, thread) for thread in range(self._threads)]:
            ended.result()

    def _compile(self) -> None:
        """Render a few pixels, so that the first frame takes no longer than the others."""
        camera = Camera.from_fov(4, 4, 60.0)
        images = RenderedImages(np.empty((1, 4, 4, 3), np.uint8), np.empty((1, 4, 4), np.float32), None)
        self.render(np.eye(4)[None], camera, images)


def in_turns(stages: int, strips: int) -> list[tuple[int, int]]:
    """(stage, strip) of all tasks in an order in which hardly one waits for those just begun.

    A stage of a strip needs the stage before of the next strip, too, so it comes two turns after that of its own: one
    turn after, each task would wait for the one before it, and a second thread would gain nothing.
    """
    turns = range(strips + 2 * (stages - 1))
    return [(k, n - 2 * k) for n in turns for k in range(stages) if 0 <= n - 2 * k < strips]


class Frame:
    """Rays of a camera and the buffers of a frame, kept from one to the next.

    The picture is H x W pixels, and h x w patches of s x s, in whose pixels beyond the picture its edge is repeated.
    After a frame: direction (3, h s, w s) of the rays in grid units, and state and t (h s, w s) of what they met.
    """

    def __init__(
        self, rays_cam: NDArray[np.float64], focal_px: float, s: int, channels: list[int], threads: int
    ) -> None:
        """`channels` that the shader's layers take, and then how many the last one gives."""
        self.shape = height, width = rays_cam.shape[:2]
        self.patches = h, w = -(-height // s), -(-width // s)
        self.focal_px = focal_px
        rays = np.pad(rays_cam[..., :2], ((0, h * s - height), (0, w * s - width), (0, 0)), mode="edge")
        self.rays = np.ascontiguousarray(np.moveaxis(rays, 2, 0))
        self.bounds = square_bounds(self.rays, beside(self.rays))
        self.glance = rays_cam[np.ix_(glance_at(height), glance_at(width))].reshape(-1, 3)
        self._ends: Float32 = np.empty((0, h * s, w * s), np.float32)
        self.direction: Float32 = np.empty((3, h * s, w * s), np.float32)
        self.state, self.t = np.empty((h * s, w * s), np.uint8), np.empty((h * s, w * s), np.float32)
        down, across = -(-h // TILE), -(-w // TILE)
        padded = down * TILE + 2, across * TILE + 2
        self.images: list[Float32] = [np.zeros((*padded, count), np.float32) for count in channels[:-1]]
        self.images.append(np.zeros((h, w, channels[-1]), np.float32))
        # Few enough strips that calls cost little, enough of them for all threads, none too high for the cache; each of
        # whole squares of rays.
        squares = -(-BEAM_PX // (TILE * s))
        rows = -(-min(max(down // (STRIPS_A_THREAD * threads), 1), HIGHEST_STRIP) // squares) * squares
        self.strips = [(start, min(start + rows, down)) for start in range(0, down, rows)]
        self.depth_m, self.sure = (np.empty((height, width), np.float32) for _ in range(2))
        self.no_rgb, self.no_depth = np.empty((0, 0, 3), np.uint8), np.empty((0, 0), np.float32)

    def ends(self, rays: int) -> Float32:
        """Where `rays` within each pixel end (rays, h s, w s), at silhouettes alone."""
        if len(self._ends) != rays:
            self._ends = np.empty((rays, *self._ends.shape[1:]), np.float32)
        return self._ends


def beside(rays: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far, in x and y, rays within a pixel lie beside the middle one, of rays (2, H, W)."""
    reach = float(np.abs(WITHIN).max())
    steps = [np.abs(np.gradient(rays, axis=axis)) for axis in (1, 2) if rays.shape[axis] > 1]
    # Patches beyond the picture repeat its edge, which makes half a step there.
    return 2 * reach * np.sum(steps, axis=0) if steps else np.zeros_like(rays)


def square_bounds(rays: NDArray[np.float64], more: NDArray[np.float64] | float = 0.0) -> NDArray[np.float64]:
    """Lowest and highest x, then y, (4, rows, columns) of rays (2, H, W), with `more` to both sides, in squares of
    BEAM_PX; NaN where a ray is."""
    _, height, width = rays.shape
    side, found = BEAM_PX, []
    for edge, bound in ((rays - more, np.min), (rays + more, np.max)):
        whole = np.pad(edge, ((0, 0), (0, -height % side), (0, -width % side)), mode="edge")
        squares = whole.reshape(2, whole.shape[1] // side, side, whole.shape[2] // side, side)
        found.append(bound(squares, axis=(2, 4)))
    lowest, highest = found
    return np.stack([lowest[0], highest[0], lowest[1], highest[1]])


# A relief in tiles on a CPU: per view the tiles it meets, each rendering its part of the picture, compiled.


class TiledReliefBackend:
    """A relief in tiles on a CPU, frame by frame.

    A tile is made ready when a view first meets it, which takes part of a second; until then it costs what it is stored
    in, half precision.
    """

    name = NAME

    def __init__(self, config: TiledReliefConfig, state: Mapping[str, Any], threads: int | None = None) -> None:
        """UserError when a compiled relief cannot be had here (see :class:`ReliefBackend`)."""
        self._config, self._state, self._threads = config, state, threads
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
                self._render_one(T, self._camera[1], camera.focal_px, out, index)

    def _render_one(
        self, T_map_cam: NDArray[np.float64], rays: NDArray[np.float64], focal: float, out: RenderedImages, index: int
    ) -> None:
        images = {name: batch[index] for name, batch in out.present().items()}
        owners = Owners(rays.shape[:2])
        for window in windows(self._config, T_map_cam, rays):
            backend = self._backend(window.tile)
            frame = backend.frame(rays[window.rows, window.columns], focal)
            part = _like(out, *frame.shape)
            backend.render_frame(T_map_cam, frame, part, 0)
            t, off = self._ends(T_map_cam, window, frame)
            mine = owners.take(window.rows, window.columns, t, off)
            for name, made in part.present().items():
                image = images[name][window.rows, window.columns]
                image[mine] = made[0][mine]
            if frame.state[0, 0] == INSIDE:
                break  # the tile the camera is in comes first, and has the whole picture

    def _ends(self, T_map_cam: NDArray[np.float64], window: Window, frame: Frame) -> tuple[Float32, Float32]:
        """Of the rays of a frame the t (h, w) at which they end, and how far that is beside the tile's core."""
        config, (height, width) = self._config.tile(window.tile), frame.shape
        step = np.array(config.step_m[:2], np.float32)
        origin = (se3.inverse(config.T_map_vol) @ T_map_cam)[:2, 3].astype(np.float32)
        t = frame.t[:height, :width]
        where = origin + t[..., None] * (np.moveaxis(frame.direction[:2, :height, :width], 0, 2) * step)
        return t, off_core(where, *self._config.core_m(window.tile))

    def _backend(self, number: int) -> ReliefBackend:
        if number not in self._ready:
            own = tile_state(self._state, number)
            self._ready[number] = ReliefBackend(self._config.tile(number), own, self._threads)
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


def make(directory: Path, checkpoint: Checkpoint, threads: int | None) -> Backend:
    """See training/families.py. UserError when a compiled relief cannot be had here."""
    config, state = checkpoint.config(), checkpoint.state_dict
    if isinstance(config, TiledReliefConfig):
        return TiledReliefBackend(config, state, threads)
    return ReliefBackend(config, state, threads)
