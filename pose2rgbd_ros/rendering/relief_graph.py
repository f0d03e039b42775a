"""Relief as ONNX graphs."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper
from torch import nn

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.models.relief.shader import Shader
from pose2rgbd_ros.rendering.onnx_graph import Graph


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


def add_layers(graph: Graph, layers: nn.Sequential, value: str, output: str) -> str:
    """A stack of convolutions and activations; UserError for a layer of another kind."""
    for number, layer in enumerate(layers):
        name = output if number == len(layers) - 1 else ""
        if isinstance(layer, nn.Conv2d):
            weight, bias = (
                None if values is None else values.detach().cpu().numpy()
                for values in (layer.weight, layer.bias)
            )
            value = graph.conv(value, weight, bias, layer.groups, output=name)
        elif isinstance(layer, nn.ReLU):
            value = graph.add("Relu", value, output=name)
        elif isinstance(layer, nn.LeakyReLU):
            value = graph.add("LeakyRelu", value, output=name, alpha=layer.negative_slope)
        else:
            raise UserError(f"there is no ONNX export of {type(layer).__name__}; use backend torch")
    return value
