"""Relief on a CPU: compiled march and lookups, the shader in ONNX Runtime, no autograd and no copies between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models import backends
from pose2rgbd_ros.models.backends import Backend, RenderedImages, all_threads, is_installed, onnx_session
from pose2rgbd_ros.models.graphs import AGAIN, StoredGraphs, graph_file
from pose2rgbd_ros.models.relief import kernels as march_numba
from pose2rgbd_ros.models.relief.config import INSIDE, SKY_COLUMNS, SKY_ROWS, ReliefConfig, TiledReliefConfig
from pose2rgbd_ros.models.relief.kernels import highest_layers
from pose2rgbd_ros.models.relief.tiles import Owners, Window, off_core, windows
from pose2rgbd_ros.training.checkpoint import Checkpoint

# A relief network's tables as the compiled kernels read them: the same functions, fewer lookups.
#
# The ground-plane map is a sum of levels, and level l has a vertex at every 2^l-th vertex of level 0. A bilinear
# function stays bilinear on a finer grid, so levels l, l + 1, ... added up at the vertices of level l are one table
# with the same values in between: instead of every level two tables are looked up where a level fades out, elsewhere
# one.


NAME = "numba"


class ReliefTables(NamedTuple):
    """Arrays for render_kernels.py.

    logits: (L, Y, X). top, around: of :func:`highest_layers`. seen: (L, Y, X) uint8. step_m: (3,) along x, y, z.
    maps: (M, C) the sums of levels, one after another; starts, shapes, texel_m: (levels,), (levels, 2), (levels,).
    coarse: (Lc, Yc, Xc, Cv). coarse_step_m: (2,) across and up. sky: (rows, columns, C).
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


def relief_tables(config: ReliefConfig, state: Mapping[str, Any]) -> ReliefTables:
    """The tables of a network's state, arrays or tensors on the CPU by their names in a checkpoint."""
    logits = _float32(state["volume.logits"])
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
    )


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


_ROWS_A_TASK = 8  # rows of the shader's input

Float32 = NDArray[np.float32]


EXPORTER = "relief exporter 1"  # raise the number when the graph of the same checkpoint changes


def shader_graph(state: Mapping[str, Any]) -> bytes:
    """The shader of a network's state as an ONNX graph, the part that ONNX Runtime does: convolutions, ReLU between.

    `input` float32 (1, C, h, w) to `residual` (1, 4 s s, h, w), both unshuffled. UserError: onnx is missing.
    """
    try:
        from onnx import TensorProto, helper

        from pose2rgbd_ros.models.pose2rgbd.onnx import Graph
    except ImportError as error:
        raise UserError(f"a graph cannot be made here ({error}); install onnx") from error
    prefix, end = "shader.layers.", ".weight"
    numbers = sorted(int(key[len(prefix) : -len(end)]) for key in state if key.startswith(prefix) and key.endswith(end))
    weights = [_float32(state[f"{prefix}{number}{end}"]) for number in numbers]
    graph, value = Graph(), "input"
    for number, weight in zip(numbers, weights, strict=True):
        last = number == numbers[-1]
        bias = _float32(state[f"{prefix}{number}.bias"])
        value = graph.conv(value, weight, bias, output="residual" if last else "")
        if not last:
            value = graph.add("Relu", value)
    made = graph.finished(
        "shader",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, weights[0].shape[1], "h", "w"])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, [1, len(weights[-1]), "h", "w"])],
    )
    return bytes(made.SerializeToString())


def tile_state(state: Mapping[str, Any], tile: int | None) -> dict[str, Any]:
    """What a state holds of one tile, by the names of a relief alone; None: it is one."""
    prefix = "" if tile is None else f"tiles.{tile}."
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


class ReliefBackend:
    """A relief network on a CPU, frame by frame.

    The first one on a machine compiles the kernels, which takes about ten seconds; the code is kept (see
    :func:`backends.compiled`), and loading it takes part of a second. Unless `threads` says otherwise it takes all
    cores, at most 4: a frame takes long enough to be worth them.
    """

    name = NAME

    def __init__(
        self, config: ReliefConfig, state: Mapping[str, Any], threads: int | None = None, graph: bytes | None = None
    ) -> None:
        """`state`: as :func:`relief_tables` takes it. `graph`: of its shader; None: it is made.

        UserError when numba or ONNX Runtime is missing, or onnx where there is no graph.
        """
        if not backends.HAS_NUMBA:
            raise UserError(f"{backends.WHY_NO_NUMBA}; install numba")
        from pose2rgbd_ros.models.relief import render_kernels

        self._kernels = render_kernels
        self._threads = threads or all_threads()
        self._pool = ThreadPoolExecutor(self._threads) if self._threads > 1 else None
        self._session = onnx_session(graph or shader_graph(state), self._threads)
        self._config = config
        self._T_vol_map = se3.inverse(config.T_map_vol)
        self._tables = relief_tables(config, state)
        self._frame: tuple[Camera, Frame] | None = None
        self._lock = threading.Lock()  # one set of buffers
        self._compile()

    def render(self, T_map_cam: NDArray[np.float64], camera: Camera, out: RenderedImages) -> None:
        """Poses (B, 4, 4) float64 seen by any calibrated camera, straight into `out`."""
        with self._lock:
            if self._frame is None or self._frame[0] != camera:
                self._frame = camera, self.frame(camera.rays(), camera.focal_px)
            for index, T in enumerate(T_map_cam):
                self.render_frame(T, self._frame[1], out, index)

    def frame(self, rays_cam: NDArray[np.float64], focal_px: float) -> Frame:
        """Buffers for views through rays (H, W, 3), z = 1."""
        return Frame(rays_cam, focal_px, self._config.unshuffle, self._shader_channels)

    def render_frame(self, T_map_cam: NDArray[np.float64], frame: Frame, out: RenderedImages, index: int) -> None:
        """One pose (4, 4) into images `index` of `out`, and what its rays met into `frame`; one at a time."""
        T_vol_cam = self._T_vol_map @ T_map_cam
        sure = frame.sure if out.confidence is None else out.confidence[index]
        rgb = frame.no_rgb if out.rgb is None else out.rgb[index]
        depth = frame.no_depth if out.depth is None else out.depth[index]
        config, tables, kernels = self._config, self._tables, self._kernels
        s, (height, width, _) = config.unshuffle, frame.direction.shape
        T_grid_cam = T_vol_cam[:3] / np.array(config.step_m)[:, None]
        origin = T_grid_cam[None, :, 3].astype(np.float32)
        direction = frame.direction.reshape(-1, 3)
        focal, scale = np.float32(frame.focal_px), np.float32(config.depth_scale_m)
        metres, unit_m = np.float32(config.layer_m), np.float32(config.unit_m)

        def look_up(start: int, stop: int) -> None:
            first, last = start * s, min(stop * s, height)
            kernels.direct_rows(T_grid_cam, frame.rays, first, last, frame.direction)
            block = (tables.logits, tables.top, tables.around)
            march_numba.march_rays(*block, origin, direction, first * width, last * width, frame.state, frame.found)
            seen = (origin, frame.direction, frame.found, focal, scale)
            kernels.look_up_rows(tables, *seen, s, start, stop, frame.shader_input, frame.depth_m, sure)

        def compose(start: int, stop: int) -> None:
            answer = (frame.shader_input, frame.residual, config.channels, metres, unit_m)
            kernels.compose_rows(*answer, s, start, stop, frame.depth_m, rgb, depth)

        self._share(look_up, frame.shader_input.shape[1], _ROWS_A_TASK)
        self._shade(frame)
        self._share(compose, height, _ROWS_A_TASK * s)

    def _shade(self, frame: Frame) -> None:
        """The shader, from buffer to buffer."""
        binding = self._session.io_binding()
        for bind, name, values in (
            (binding.bind_input, "input", frame.shader_input),
            (binding.bind_output, "residual", frame.residual),
        ):
            bind(name, "cpu", 0, np.float32, (1, *values.shape), values.ctypes.data)
        self._session.run_with_iobinding(binding)

    def _share(self, run: Callable[[int, int], None], rows: int, rows_a_task: int) -> None:
        """Call `run` for all rows, some at a time, in all threads."""
        tasks = [(start, min(start + rows_a_task, rows)) for start in range(0, rows, rows_a_task)]
        if self._pool is None:
            for start, stop in tasks:  # in few rows at a time, which stay in the cache from pass to pass
                run(start, stop)
            return
        for done in [self._pool.submit(run, *task) for task in tasks]:
            done.result()

    def _compile(self) -> None:
        """Render a few pixels, so that the first frame takes no longer than the others."""
        camera = Camera.from_fov(4, 4, 60.0)
        images = RenderedImages(np.empty((1, 4, 4, 3), np.uint8), np.empty((1, 4, 4), np.float32), None)
        self.render(np.eye(4)[None], camera, images)

    @property
    def _shader_channels(self) -> int:
        return int(self._session.get_inputs()[0].shape[1])


class Frame:
    """Rays of a camera and the buffers of a frame, kept from one to the next.

    After a frame: direction (H, W, 3) of the rays in grid units, state (H W,) and found (5, H W) as the march tells
        them.
    """

    def __init__(self, rays_cam: NDArray[np.float64], focal_px: float, s: int, channels: int) -> None:
        height, width = rays_cam.shape[:2]
        h, w = -(-height // s), -(-width // s)
        self.focal_px = focal_px
        self.rays = np.ascontiguousarray(rays_cam[..., :2])
        self.direction: Float32 = np.empty((height, width, 3), np.float32)
        self.state = np.empty(height * width, np.uint8)
        self.found: Float32 = np.empty((5, height * width), np.float32)
        self.shader_input: Float32 = np.empty((channels, h, w), np.float32)
        self.residual: Float32 = np.empty((4 * s * s, h, w), np.float32)
        self.depth_m, self.sure = (np.empty((height, width), np.float32) for _ in range(2))
        self.no_rgb, self.no_depth = np.empty((0, 0, 3), np.uint8), np.empty((0, 0), np.float32)


# A relief in tiles on a CPU: per view the tiles it meets, each rendering its part of the picture, compiled.


class TiledReliefBackend:
    """A relief in tiles on a CPU, frame by frame.

    A tile is made ready when a view first meets it, which takes part of a second; until then it costs what it is stored
    in, half precision.
    """

    name = NAME

    def __init__(
        self,
        config: TiledReliefConfig,
        state: Mapping[str, Any],
        threads: int | None = None,
        graphs: Mapping[int, bytes] | None = None,
    ) -> None:
        """`graphs`: of the tiles' shaders. UserError when a compiled relief cannot be had here (see
        :class:`ReliefBackend`)."""
        self._config, self._state, self._threads, self._graphs = config, state, threads, graphs or {}
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
            part = _like(out, *frame.direction.shape[:2])
            backend.render_frame(T_map_cam, frame, part, 0)
            t, off = self._ends(T_map_cam, window, frame)
            mine = owners.take(window.rows, window.columns, t, off)
            for name, made in part.present().items():
                image = images[name][window.rows, window.columns]
                image[mine] = made[0][mine]
            if frame.state[0] == INSIDE:
                break  # the tile the camera is in comes first, and has the whole picture

    def _ends(self, T_map_cam: NDArray[np.float64], window: Window, frame: Frame) -> tuple[Float32, Float32]:
        """Of the rays of a frame the t (h, w) at which they end, and how far that is beside the tile's core."""
        config, shape = self._config.tile(window.tile), frame.direction.shape[:2]
        step = np.array(config.step_m[:2], np.float32)
        origin = (se3.inverse(config.T_map_vol) @ T_map_cam)[:2, 3].astype(np.float32)
        t = frame.found[0].reshape(shape)
        where = origin + t[..., None] * (frame.direction[..., :2] * step)
        return t, off_core(where, *self._config.core_m(window.tile))

    def _backend(self, number: int) -> ReliefBackend:
        if number not in self._ready:
            own = tile_state(self._state, number)
            self._ready[number] = ReliefBackend(self._config.tile(number), own, self._threads, self._graphs.get(number))
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
        graphs = _stored_graphs(directory, checkpoint, range(config.count))
        return TiledReliefBackend(config, state, threads, dict(enumerate(graphs)))
    return ReliefBackend(config, state, threads, *_stored_graphs(directory, checkpoint, [None]))


def _stored_graphs(directory: Path, checkpoint: Checkpoint, tiles: Iterable[int | None]) -> list[bytes]:
    """The shaders' graphs beside the checkpoint; none where they must be made. UserError: that cannot be done here."""
    stored = StoredGraphs(directory, checkpoint, EXPORTER, map(graph_file, tiles))
    if stored.why_not and not is_installed("onnx"):
        raise UserError(f"{stored.why_not}; {AGAIN}")
    return list(stored.graphs.values())
