"""A strided convolution of a single pixel: the function of nn.Conv2d, with gradients that are right everywhere."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pose2rgbd_ros.models.deepv2d.config import DeepV2DConfig
from pose2rgbd_ros.models.deepv2d.network import DeepV2D
from pose2rgbd_ros.models.posegan.network import ResNet
from pose2rgbd_ros.models.strided import StridedPointwise


@pytest.mark.parametrize(("inputs", "outputs", "side"), [(4, 8, 32), (8, 16, 33), (16, 20, 7)])
def test_it_is_the_convolution_with_a_stride(inputs: int, outputs: int, side: int) -> None:
    """In float64, where the library's own is right."""
    torch.manual_seed(0)
    ours, theirs = StridedPointwise(inputs, outputs, 2), nn.Conv2d(inputs, outputs, 1, 2)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, inputs, side, side + 1)
    out = ours(x.to(memory_format=torch.channels_last))
    expected = theirs.double()(x.double())
    torch.testing.assert_close(out, expected.float())
    slope = torch.randn_like(expected)
    out.backward(slope.float())
    expected.backward(slope)
    for got, wanted in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(got.grad, wanted.grad.float(), rtol=1e-4, atol=1e-4)


def test_no_network_has_one_of_the_library() -> None:
    """Which would corrupt memory where it is narrow; see StridedPointwise."""
    with torch.device("meta"):
        networks = [DeepV2D(DeepV2DConfig(image_size=(64, 64), width=0.25)), ResNet("resnet18", 0.125)]
    for network in networks:
        for module in network.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
                assert module.stride == (1, 1)
        assert any(isinstance(module, StridedPointwise) for module in network.modules())
