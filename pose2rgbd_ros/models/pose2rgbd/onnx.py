"""Pose2RGBD as an ONNX graph that runs fast on one CPU core: the same function, another order of the same sums.

Batch normalisation is folded into the convolutions, and the images leave the graph finished (uint8 colour, depth in
metres, confidence), so nothing is left to do in Python. Two facts about the network make the rest:

* A 2x2 transposed convolution of stride 2 does not overlap: each input pixel makes its own 2x2 block. It is a 1x1
  convolution to 4 C' channels followed by a shuffle of pixels, and the layers after it do not care where a pixel
  lies. So the shuffles of Base's last stages are put off to the image itself, which is 16 times smaller than the map
  before it: the four children of a pixel stay side by side as channels, and the next layer treats them alike, as a
  grouped convolution. No map is ever reordered, and two plain transpositions of the image (whole rows, then within
  rows) do in 0.1 ms what a general pixel shuffle does in 0.9 ms.
* The image head takes four children at once and answers in 4x4 patches: four times the multiplications of the
  smallest layer, but outputs that fill a vector register.

Slice's 3x3 convolutions need neighbours, so there the trunk keeps image order throughout.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.models.pose2rgbd.config import START_SIZE
from pose2rgbd_ros.models.pose2rgbd.network import Pose2RGBD

OPSET = 17
IR_VERSION = 9
DEFERRED_STAGES = 3  # last hidden stages of Base whose pixels stay unshuffled; measured best of 1..6 at 512 px

Array = NDArray[Any]


def build_graph(model: Pose2RGBD, normalization: Normalization) -> onnx.ModelProto:
    """The graph of `model`: input `pose` float32 (1, pose_dim), encoded by ``Normalization.encode_pose``.

    Outputs, those the model has: `rgb` uint8 (1, H, W, 3); `depth` float32 (1, H, W) in the normalization's unit,
    always between its extremes; `confidence` float32 (1, H, W), each value of a half-resolution slice map standing
    for its 2x2 pixels. The batch is one because batching gains nothing on a CPU.
    """
    return _Pose2RGBDGraph(model, normalization).build()


class Graph:
    """Nodes and constants of a graph under construction; values are referred to by name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(
            numpy_helper.from_array(np.ascontiguousarray(values, dtype=dtype).reshape(np.shape(values)), name)
        )
        return name

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def reshape(self, value: str, shape: list[int], output: str = "") -> str:
        return self.add("Reshape", value, self.constant(shape, np.int64), output=output)

    def conv(self, value: str, weight: Array, bias: Array | None, groups: int = 1, output: str = "") -> str:
        """Convolution keeping the size; weight (out, in / groups, k, k) with k 1 or 3."""
        size = weight.shape[-1]
        inputs = [value, self.constant(weight)] + ([] if bias is None else [self.constant(bias)])
        attributes = {"kernel_shape": [size, size], "pads": [size // 2] * 4, "group": groups}
        return self.add("Conv", *inputs, output=output, **attributes)

    def finished(
        self, name: str, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
    ) -> onnx.ModelProto:
        """The finished graph, checked."""
        graph = helper.make_graph(self.nodes, name, inputs, outputs, self.constants)
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, producer_name="pose2rgbd", ir_version=IR_VERSION, opset_imports=opset)
        onnx.checker.check_model(model)
        return model


class _Pose2RGBDGraph(Graph):
    def __init__(self, model: Pose2RGBD, normalization: Normalization) -> None:
        super().__init__()
        self.model = model
        self.config = model.config
        self.normalization = normalization
        self.stages = [_folded(block) for block in model.trunk]
        self.outputs: list[onnx.ValueInfoProto] = []

    def build(self) -> onnx.ModelProto:
        features = self._dense()
        if self.config.variant == "slice":
            self._slice_network(self._transposed_convs(features, self.stages))
        else:
            self._base_network(features)
        pose = helper.make_tensor_value_info("pose", TensorProto.FLOAT, [1, self.config.pose_dim])
        return self.finished("pose2rgbd", [pose], self.outputs)

    def _dense(self) -> str:
        """(1, C, 4, 4) from the pose."""
        layer = self.model.dense
        weight, bias = _numpy(layer.weight), _numpy(layer.bias)
        value = self.add("Gemm", self._fourier_features(), self.constant(weight.T), self.constant(bias))
        if self.config.dense_activation:
            value = self._activation(value)
        return self.reshape(value, [1, -1, START_SIZE, START_SIZE])

    def _fourier_features(self) -> str:
        """The pose, with sines and cosines of its octaves where the model has them."""
        count, pose_dim = self.config.pose_frequencies, self.config.pose_dim
        if count == 0:
            return "pose"
        octaves = 2.0 ** np.arange(count) * (np.pi / 2)
        phase = self.add("Mul", self.reshape("pose", [1, pose_dim, 1]), self.constant(octaves[None, None]))
        phase = self.reshape(phase, [1, pose_dim * count])
        return self.add("Concat", "pose", self.add("Sin", phase), self.add("Cos", phase), axis=1)

    def _activation(self, value: str) -> str:
        if self.config.activation == "leaky_relu":
            return self.add("LeakyRelu", value, alpha=0.2)
        return self.add("Relu", value)

    def _transposed_convs(self, value: str, stages: list[tuple[Array, Array]]) -> str:
        """Stages in image order, as they are."""
        for weight, bias in stages:
            inputs = (value, self.constant(weight), self.constant(bias))
            value = self._activation(self.add("ConvTranspose", *inputs, kernel_shape=[2, 2], strides=[2, 2]))
        return value

    def _base_network(self, features: str) -> None:
        direct = max(0, len(self.stages) - DEFERRED_STAGES)
        value = self._transposed_convs(features, self.stages[:direct])
        groups = 1
        for weight, bias in self.stages[direct:]:
            value = self._activation(self._grouped_conv(value, _as_1x1(weight), np.tile(bias, 4), groups))
            groups *= 4
        groups //= 4  # the head takes the last four children together
        for name, weight, bias in self._heads():
            patches = self._grouped_conv(value, _as_1x1_on_four(weight), np.tile(bias, 16), groups)
            self._finish(name, patches, len(self.stages) - direct - 1, 4, START_SIZE << direct)

    def _grouped_conv(self, value: str, weight: Array, bias: Array, groups: int) -> str:
        """The same 1x1 convolution on each of `groups` blocks of channels."""
        return self.conv(value, np.tile(weight, (groups, 1, 1, 1)), np.tile(bias, groups), groups)

    def _slice_network(self, trunk: str) -> None:
        model, side = self.model, self.config.size // 2
        chosen = self._activation(self.conv(trunk, *_folded(model.bottleneck1)))
        if self.config.slice_features == "second":
            chosen = self._activation(self.conv(chosen, *_folded(model.bottleneck2)))
        logits = self.conv(chosen, _numpy(model.slice_head.weight), None)
        slices = self.add("Sigmoid", logits)
        heads = self._heads()
        weight = np.concatenate([_as_1x1(weight) for _, weight, _ in heads])
        bias = np.concatenate([np.tile(bias, 4) for _, _, bias in heads])
        # The sum of three convolutions is the convolution of the concatenation, without making the latter.
        counts = [self.stages[-1][0].shape[1], model.slice_head.in_channels]
        for_trunk, for_chosen, for_slices = np.split(weight, np.cumsum(counts), axis=1)
        value = self.add("Add", self.conv(trunk, for_trunk, bias), self.conv(chosen, for_chosen, None))
        value = self.add("Add", value, self.conv(slices, for_slices, None))
        start = 0
        for name, _, head_bias in heads:
            end = start + 4 * len(head_bias)
            self._finish(name, self._channels(value, start, end), 0, 2, side)
            start = end
        self._confidence(logits, slices)

    def _channels(self, value: str, start: int, end: int) -> str:
        bounds = (self.constant([bound], np.int64) for bound in (start, end, 1))  # the last is the axis
        return self.add("Slice", value, *bounds)

    def _confidence(self, logits: str, slices: str) -> None:
        count, size = self.config.slices, self.config.size
        if self.config.slice_resolution == "half":
            self._finish("confidence", self.conv(slices, np.ones((4, count, 1, 1)), None), 0, 2, size // 2)
            return
        scales = self.constant([1, 1, 2, 2])
        full = self.add("Resize", logits, "", scales, mode="linear", coordinate_transformation_mode="half_pixel")
        total = self.conv(self.add("Sigmoid", full), np.ones((1, count, 1, 1)), None)
        self.reshape(total, [1, size, size], output="confidence")
        self._declare("confidence", TensorProto.FLOAT, [1, size, size])

    def _heads(self) -> list[tuple[str, Array, Array]]:
        """The image head's weight (in, out, 2, 2) and bias (out,), apart for colour and depth, scaled for `_unit`."""
        weight, bias = _numpy(self.model.image_head.weight), _numpy(self.model.image_head.bias)
        if self.config.final == "tanh":  # (tanh x + 1) / 2 = sigmoid 2x
            weight, bias = 2 * weight, 2 * bias
        elif self.config.final == "none":  # [-1, 1] to [0, 1]
            weight, bias = weight / 2, bias / 2 + 0.5
        heads = []
        if self.config.has_rgb:
            heads.append(("rgb", weight[:, :3], bias[:3]))
        if self.config.has_depth:
            heads.append(("depth", weight[:, -1:], bias[-1:]))
        return heads

    def _unit(self, value: str) -> str:
        """The head's values in [0, 1]."""
        if self.config.final == "none":
            return self.add("Clip", value, self.constant(0.0), self.constant(1.0))
        return self.add("Sigmoid", value)

    def _finish(self, name: str, patches: str, children: int, patch: int, side: int) -> None:
        """From the head's patches to the finished image `name`."""
        size = self.config.size
        if name == "rgb":
            scale, zero = self.constant(1 / 255), self.constant(0, np.uint8)
            levels = self.add("QuantizeLinear", self._unit(patches), scale, zero)
            levels = self._image_order(levels, children, patch, side, 3)
            self.reshape(levels, [1, size, size, 3], output=name)
            self._declare(name, TensorProto.UINT8, [1, size, size, 3])
            return
        if name == "depth":
            lowest, highest = self.normalization.depth_min, self.normalization.depth_max
            value = self._image_order(self._unit(patches), children, patch, side, 1)
            value = self.add("Mul", value, self.constant(highest - lowest))  # type: ignore[operator]
            value = self.reshape(value, [1, size, size])
            self.add("Add", value, self.constant(lowest), output=name)
        else:
            self.reshape(self._image_order(patches, children, patch, side, 1), [1, size, size], output=name)
        self._declare(name, TensorProto.FLOAT, [1, size, size])

    def _image_order(self, value: str, children: int, patch: int, side: int, channels: int) -> str:
        """(2, 2) * children, patch, patch, channels, side, side -> (rows, side, columns of a row's pixel and channel).

        Each child axis pair and the patch are (row, column), coarse to fine.
        """
        value = self.reshape(value, [2, 2] * children + [patch, patch, channels, side, side])
        axes = 2 * children + 2
        rows, columns = list(range(0, axes, 2)), list(range(1, axes, 2))
        value = self.add("Transpose", value, perm=[axes + 1, *rows, *columns, axes, axes + 2])
        value = self.reshape(value, [self.config.size, -1, side])
        return self.add("Transpose", value, perm=[0, 2, 1])

    def _declare(self, name: str, kind: int, shape: list[int]) -> None:
        self.outputs.append(helper.make_tensor_value_info(name, kind, shape))


def _numpy(tensor: Any) -> Array:
    return tensor.detach().cpu().double().numpy()


def _folded(block: Any) -> tuple[Array, Array]:
    """Weight and bias of a (transposed) convolution without bias followed by batch normalisation."""
    conv, norm = block[0], block[1]
    scale = _numpy(norm.weight) / np.sqrt(_numpy(norm.running_var) + norm.eps)
    weight = _numpy(conv.weight)
    outputs = 1 if isinstance(conv, nn.ConvTranspose2d) else 0
    weight = weight * np.moveaxis(scale.reshape(-1, 1, 1, 1), 0, outputs)
    return weight, _numpy(norm.bias) - _numpy(norm.running_mean) * scale


def _as_1x1(weight: Array) -> Array:
    """Transposed convolution (in, out, 2, 2) as a 1x1 convolution to (row, column, out)."""
    return weight.transpose(2, 3, 1, 0).reshape(-1, weight.shape[0], 1, 1)


def _as_1x1_on_four(weight: Array) -> Array:
    """The same for four children (row, column, in) at once, to (row of 4, column of 4, out)."""
    inputs, outputs = weight.shape[:2]
    joined = np.zeros((2, 2, 2, 2, outputs, 2, 2, inputs))
    for row in range(2):
        for column in range(2):
            joined[row, :, column, :, :, row, column] = weight.transpose(2, 3, 1, 0)
    return joined.reshape(16 * outputs, 4 * inputs, 1, 1)
