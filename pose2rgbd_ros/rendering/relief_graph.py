"""Relief as ONNX graphs: its shader alone, for the compiled renderer, and the whole network in plain operators."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper
from torch import Tensor, nn

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.models.relief.config import DIRECT_CHANNELS
from pose2rgbd_ros.models.relief.features import FULL_TEXELS, NONE_TEXELS, SKY_COLUMNS, SKY_ROWS
from pose2rgbd_ros.models.relief.network import Relief
from pose2rgbd_ros.models.relief.shader import EXTRA_CHANNELS, Shader
from pose2rgbd_ros.rendering.onnx_graph import Array, Graph
from pose2rgbd_ros.rendering.onnx_values import Value, concat, constant
from pose2rgbd_ros.rendering.relief_graph_march import Triple, march_nodes

_PI = float(np.pi)


def shader_graph(shader: Shader) -> onnx.ModelProto:
    """The shader's layers: `input` float32 (1, C, h, w) to `residual` (1, 4 s s, h, w), both unshuffled."""
    graph = Graph()
    value = add_layers(graph, shader.layers, "input", "residual")
    channels = [layer for layer in shader.layers if isinstance(layer, nn.Conv2d)]
    return graph.finished(
        "shader",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, channels[0].in_channels, "h", "w"])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, [1, channels[-1].out_channels, "h", "w"])],
    )


def relief_graph(model: Relief) -> onnx.ModelProto:
    """The whole network.

    Inputs: `T_map_cam` float64 (1, 4, 4); `rays` float32 (H, W, 3) with z = 1, of any camera, NaN where a pixel has
    none; `focal_px` float32 (1,), the size of a pixel on a surface being depth / focal_px.
    Outputs: `rgb` uint8 (1, H, W, 3); `depth` float32 (1, H, W), NaN where unknown, unless the model is of colour only;
    `confidence` float32 (1, H, W).
    """
    return _ReliefGraph(model).build()


def add_layers(
    graph: Graph, layers: nn.Sequential, value: str, output: str, input_order: Array | None = None
) -> str:
    """Convolutions and activations; `input_order` says which channel of the first one's input each channel is.

    UserError for a layer of another kind.
    """
    for number, layer in enumerate(layers):
        name = output if number == len(layers) - 1 else ""
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            weight = _numpy(layer.weight)
            if number == 0 and input_order is not None:
                weight = weight[:, input_order]
            value = graph.conv(value, weight, _numpy(layer.bias), layer.groups, output=name)
        elif isinstance(layer, nn.ReLU):
            value = graph.add("Relu", value, output=name)
        elif isinstance(layer, nn.LeakyReLU):
            value = graph.add("LeakyRelu", value, output=name, alpha=layer.negative_slope)
        else:
            raise UserError(f"there is no ONNX export of {type(layer).__name__}; use backend torch")
    return value


class _ReliefGraph:
    def __init__(self, model: Relief) -> None:
        self.model, self.config, self.graph = model, model.config, Graph()
        self.outputs: list[onnx.ValueInfoProto] = []

    def build(self) -> onnx.ModelProto:
        graph, config = self.graph, self.config
        origin, direction = self._rays()
        steps = config.step_m
        logits = constant(graph, _numpy(self.model.volume.logits).reshape(-1))
        in_grid = [
            _triple([value / step for value, step in zip(values, steps, strict=True)])
            for values in (origin, direction)
        ]
        met = march_nodes(graph, logits, config.shape, *in_grid)
        found = ~met.t.isnan()
        t = found.where(met.t, 0.0)
        points = _triple([o + t * d for o, d in zip(origin, direction, strict=True)])
        features = concat(
            [
                found.reshape(1, 1, -1).where(self._ground(points, t), self._sky(direction)),
                found.reshape(1, 1, -1).where(self._coarse(points), 0.0),
                self._extra(direction, t, found),
            ],
            axis=1,
        )
        rgb, residual = self._shade(features)
        known = found & self._seen(points)
        self._output("rgb", (rgb.clip(0.0, 1.0) * 255.0).apply("Round").to(np.uint8), [3])
        if config.output == "rgbd":
            depth = (t + residual * config.layer_m).maximum(0.0) / config.unit_m
            self._output("depth", known.where(depth, np.nan), [])
        self._output("confidence", known.where((met.rise * 0.5).apply("Sigmoid"), 0.0), [])
        return graph.finished(
            "relief",
            [
                helper.make_tensor_value_info("T_map_cam", TensorProto.DOUBLE, [1, 4, 4]),
                helper.make_tensor_value_info("rays", TensorProto.FLOAT, ["height", "width", 3]),
                helper.make_tensor_value_info("focal_px", TensorProto.FLOAT, [1]),
            ],
            self.outputs,
        )

    def _rays(self) -> tuple[Triple, Triple]:
        """Origin (1,) and direction (N,) in `vol`, metres; directions are 0 where a pixel has no ray."""
        graph = self.graph
        T_vol_map = constant(graph, se3.inverse(self.config.T_map_vol), np.float64)
        T = T_vol_map.apply("MatMul", Value(graph, "T_map_cam", np.float64).reshape(4, 4))
        rays = Value(graph, "rays").reshape(-1, 3).to(np.float64)
        turned = [
            (rays.apply("Mul", T.take(axis).take(constant(graph, [0, 1, 2], np.int64))))
            .apply("ReduceSum", constant(graph, [1], np.int64), keepdims=0)
            .to(np.float32)
            for axis in range(3)
        ]
        absent = (turned[0] + turned[1] + turned[2]).isnan()
        direction = _triple([absent.where(constant(graph, 0.0), values) for values in turned])
        origin = _triple([T.take(axis).take(3).to(np.float32).reshape(1) for axis in range(3)])
        return origin, direction

    def _ground(self, points: Triple, t: Value) -> Value:
        """(1, C, N) of the ground-plane map, level by level."""
        pixel_m, total = t / Value(self.graph, "focal_px"), None
        maps = _numpy(self.model.features.maps)
        for level in range(self.config.levels):
            rows, columns = self.config.map_shape(level)
            start, texel_m = self.model.features.starts[level], self.config.texel_m(level)
            table = maps[start : start + rows * columns].reshape(rows, columns, -1)
            values = self._grid_sample(table, points[0] / texel_m, points[1] / texel_m)
            if level < self.config.levels - 1:
                share = (NONE_TEXELS - pixel_m / texel_m) / (NONE_TEXELS - FULL_TEXELS)
                values = values * share.clip(0.0, 1.0).reshape(1, 1, -1)
            total = values if total is None else total + values
        assert total is not None
        return total

    def _coarse(self, points: Triple) -> Value:
        """(1, Cv, N) of the coarse volume: the map of every layer, weighted by how near the point is to it."""
        config, total = self.config, None
        layers, rows, columns = config.coarse_shape
        tables = _numpy(self.model.features.coarse).reshape(layers, rows, columns, -1)
        x, y = points[0] / config.coarse_cell_m, points[1] / config.coarse_cell_m
        z = (points[2] / config.coarse_layer_m).clip(0.0, layers - 1.0)
        for layer in range(layers):
            weight = (1.0 - (z - float(layer)).abs()).maximum(0.0).reshape(1, 1, -1)
            values = self._grid_sample(tables[layer], x, y) * weight
            total = values if total is None else total + values
        assert total is not None
        return total

    def _sky(self, direction: Triple) -> Value:
        """(1, C, N) of directions."""
        x, y, z = direction
        across = (x * x + y * y).apply("Sqrt")
        elevation = _atan2(z, across) / _PI + 0.5
        azimuth = _atan2(y, x) / (2 * _PI) + 0.5
        table = _numpy(self.model.features.sky).reshape(SKY_ROWS, SKY_COLUMNS, -1)
        return self._grid_sample(table, azimuth * (SKY_COLUMNS - 1.0), elevation * (SKY_ROWS - 1.0))

    def _grid_sample(self, table: Array, x: Value, y: Value) -> Value:
        """A table (rows, columns, C) at positions (N,), clamped: (1, C, N)."""
        rows, columns, channels = table.shape
        grid = [
            (position * (2.0 / (size - 1)) - 1.0).reshape(1, 1, -1, 1)
            for position, size in ((x, columns), (y, rows))
        ]
        image = constant(self.graph, table.transpose(2, 0, 1)[None])
        sampled = image.apply(
            "GridSample", concat(grid, axis=3), align_corners=1, mode="bilinear", padding_mode="border"
        )
        return sampled.reshape(1, channels, -1)

    def _extra(self, direction: Triple, t: Value, found: Value) -> Value:
        """(1, 5, N): unit direction, logarithm of the depth, whether there is a surface."""
        x, y, z = direction
        length = (x * x + y * y + z * z).apply("Sqrt").maximum(1e-12)
        far = found.where((t / self.config.depth_scale_m).clip(1e-3, 1e3), 1.0).apply("Log")
        values = [x / length, y / length, z / length, far, found.to(np.float32)]
        return concat([value.reshape(1, 1, -1) for value in values], axis=1)

    def _shade(self, features: Value) -> tuple[Value, Value]:
        """Colour (3, N), not yet clipped, and residual depth (N,) in layers."""
        graph, config, s = self.graph, self.config, self.config.unshuffle
        count = config.channels + config.coarse_channels + EXTRA_CHANNELS
        size = Value(graph, graph.add("Shape", "rays"), np.int64)
        height, width = (size.take(constant(graph, [axis], np.int64)) for axis in (0, 1))
        image_shape = concat([constant(graph, [1, count], np.int64), height, width], axis=0)
        image = features.apply("Reshape", image_shape)
        zeros = constant(graph, [0] * 6, np.int64)
        more = [(0 - length).apply("Mod", s) for length in (height, width)]
        padded = image.apply("Pad", concat([zeros, *more], axis=0), mode="edge")
        patches = padded.apply("SpaceToDepth", blocksize=s)
        # ONNX counts (place in the patch, channel), PyTorch (channel, place in the patch).
        order = np.arange(count * s * s).reshape(count, s * s).T.reshape(-1)
        answer = add_layers(graph, self.model.shader.layers, patches.name, "residual", order)
        full = Value(graph, answer).apply("DepthToSpace", blocksize=s, mode="CRD")
        ends = concat([height, width], axis=0)
        full = full.apply("Slice", constant(graph, [0, 0], np.int64), ends, constant(graph, [2, 3], np.int64))
        full = full.reshape(4, -1)
        colours = features.reshape(count, -1)
        direct = np.arange(DIRECT_CHANNELS)
        ground, coarse = (
            colours.take(constant(graph, first + direct, np.int64)) for first in (0, config.channels)
        )
        residual = full.take(constant(graph, direct, np.int64))
        return 0.5 + ground + coarse + residual, full.take(DIRECT_CHANNELS)

    def _seen(self, points: Triple) -> Value:
        """Whether (N,) the nearest vertex is near a surface somebody saw."""
        seen = constant(self.graph, self.model.volume.seen.cpu().numpy().reshape(-1), np.uint8)
        sizes = self.config.shape[::-1]
        i, j, k = (
            (p / step).apply("Round").clip(0.0, size - 1.0).to(np.int64)
            for p, step, size in zip(points, self.config.step_m, sizes, strict=True)
        )
        return seen.take((k * sizes[1] + j) * sizes[0] + i).to(np.bool_)

    def _output(self, name: str, value: Value, channels: list[int]) -> None:
        """An image (1, H, W) of values (N,), or (1, H, W, C) of values (C, N)."""
        graph = self.graph
        if channels:
            value = value.apply("Transpose", perm=[1, 0])
        size = Value(graph, graph.add("Shape", "rays"), np.int64)
        size = size.take(constant(graph, [0, 1], np.int64))
        shape = concat([constant(graph, [1], np.int64), size, constant(graph, channels, np.int64)], axis=0)
        graph.add("Reshape", value.name, shape.name, output=name)
        kind = TensorProto.UINT8 if value.dtype is np.uint8 else TensorProto.FLOAT
        self.outputs.append(helper.make_tensor_value_info(name, kind, [1, "height", "width", *channels]))


def _atan2(y: Value, x: Value) -> Value:
    angle = (y / x).apply("Atan")
    half_turn = (y >= 0.0).where(y * 0.0 + _PI, -_PI)
    angle = (x < 0.0).where(angle + half_turn, angle)
    return angle.isnan().where(y * 0.0, angle)


def _triple(values: list[Value]) -> Triple:
    first, second, third = values
    return first, second, third


def _numpy(tensor: Tensor) -> Array:
    return tensor.detach().cpu().numpy()
