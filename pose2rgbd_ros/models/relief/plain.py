"""The relief renderer in the plain order of things, against which the quick one (backend.py) is checked and timed.

All pixels of some rows are marched one by one, then looked up, their features spread into the planes that ONNX Runtime
convolves, and its answer composed: a barrier between each.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.models import backends
from pose2rgbd_ros.models.backends import RenderedImages, all_threads, onnx_session
from pose2rgbd_ros.models.relief import kernels as march_numba
from pose2rgbd_ros.models.relief.backend import relief_tables
from pose2rgbd_ros.models.relief.config import ReliefConfig

Float32 = NDArray[np.float32]
_ROWS_A_TASK = 8  # rows of the shader's input


def _array(values: Any) -> Float32:
    return np.ascontiguousarray(values, np.float32)


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
    weights = [_array(state[f"{prefix}{number}{end}"]) for number in numbers]
    graph, value = Graph(), "input"
    for number, weight in zip(numbers, weights, strict=True):
        last = number == numbers[-1]
        bias = _array(state[f"{prefix}{number}.bias"])
        value = graph.conv(value, weight, bias, output="residual" if last else "")
        if not last:
            value = graph.add("Relu", value)
    made = graph.finished(
        "shader",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, weights[0].shape[1], "h", "w"])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, [1, len(weights[-1]), "h", "w"])],
    )
    return bytes(made.SerializeToString())


class PlainReliefBackend:
    """As :class:`backend.ReliefBackend`; no part of the program renders with it."""

    name = "plain"

    def __init__(self, config: ReliefConfig, state: Mapping[str, Any], threads: int | None = None) -> None:
        """`state`: as :func:`relief_tables` takes it, of a relief without a memory, charts, light or rays at edges.

        UserError when numba, onnx or ONNX Runtime is missing.
        """
        if config.memory_frames or config.charts or config.light_frames or config.edge_rays > 1:
            raise UserError(
                "the plain order of things knows no memory, charts, light or rays at edges; train with --memory none "
                "--charts none --exposure none --edge-rays 1"
            )
        if not backends.HAS_NUMBA:
            raise UserError(f"{backends.WHY_NO_NUMBA}; install numba")
        from pose2rgbd_ros.models.relief import render_kernels

        self._kernels = render_kernels
        self._threads = threads or all_threads()
        self._pool = ThreadPoolExecutor(self._threads) if self._threads > 1 else None
        self._session = onnx_session(shader_graph(state), self._threads)
        self._config = config
        self._T_vol_map = se3.inverse(config.T_map_vol)
        self._tables = relief_tables(config, state)
        self._frame: tuple[Camera, PlainFrame] | None = None
        self._lock = threading.Lock()  # one set of buffers
        self._compile()

    def render(self, T_map_cam: NDArray[np.float64], camera: Camera, out: RenderedImages) -> None:
        """Poses (B, 4, 4) float64 seen by any calibrated camera, straight into `out`."""
        with self._lock:
            if self._frame is None or self._frame[0] != camera:
                self._frame = camera, self.frame(camera.rays(), camera.focal_px)
            for index, T in enumerate(T_map_cam):
                self.render_frame(T, self._frame[1], out, index)

    def frame(self, rays_cam: NDArray[np.float64], focal_px: float) -> PlainFrame:
        """Buffers for views through rays (H, W, 3), z = 1."""
        return PlainFrame(rays_cam, focal_px, self._config.unshuffle, self._shader_channels)

    def render_frame(self, T_map_cam: NDArray[np.float64], frame: PlainFrame, out: RenderedImages, index: int) -> None:
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

    def _shade(self, frame: PlainFrame) -> None:
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


class PlainFrame:
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
