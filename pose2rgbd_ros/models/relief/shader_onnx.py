"""Relief's shader as an ONNX graph: the part of the network that ONNX Runtime does for the compiled renderer."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper
from torch import nn

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.models.pose2rgbd.onnx import Graph
from pose2rgbd_ros.models.relief.network import Shader


def shader_graph(shader: Shader) -> onnx.ModelProto:
    """The shader's layers: `input` float32 (1, C, h, w) to `residual` (1, 4 s s, h, w), both unshuffled.

    UserError for a layer that is neither a convolution nor a ReLU.
    """
    graph, value = Graph(), "input"
    for number, layer in enumerate(shader.layers):
        output = "residual" if number == len(shader.layers) - 1 else ""
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            weight, bias = (part.detach().cpu().numpy() for part in (layer.weight, layer.bias))
            value = graph.conv(value, weight, bias, layer.groups, output=output)
        elif isinstance(layer, nn.ReLU):
            value = graph.add("Relu", value, output=output)
        else:
            raise UserError(f"there is no ONNX form of {type(layer).__name__}; use backend torch")
    channels = [layer for layer in shader.layers if isinstance(layer, nn.Conv2d)]
    return graph.finished(
        "shader",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, channels[0].in_channels, "h", "w"])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, [1, channels[-1].out_channels, "h", "w"])],
    )
