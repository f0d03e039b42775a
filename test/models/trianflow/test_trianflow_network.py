"""TrianFlow's networks: exact sizes, any shape of image, flow in pixels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from pose2rgbd_ros.models.trianflow.depth_network import DepthNetwork
from pose2rgbd_ros.models.trianflow.flow_network import FlowNetwork, cost_volume, resized_flow, standardized
from pose2rgbd_ros.training.families import VideoModel, build_model


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_networks_have_the_papers_parameters() -> None:
    with torch.device("meta"):
        flow, depth = FlowNetwork(), DepthNetwork(1.0, 0.1, 100.0)
        models = {name: build_model(each) for name, each in ARCHITECTURES.items()}
    assert [count(part) for part in (flow.pyramid, flow.decoder, flow.context)] == [1_040_744, 3_574_026, 519_554]
    assert count(flow) == 5_134_324
    assert count(depth.encoder) == 11_176_512, "ResNet-18 without its last layer"
    assert count(depth.decoder) == 3_150_705
    sizes = {name: count(model) for name, model in models.items()}
    both = 11_176_512 + 3_150_705
    assert sizes == {
        "trianflow": 5_134_324 + both,
        "posenet-video": both + 1_586_774,
        "posenet-flow": 5_134_324 + both + 1_583_638,
    }


ARCHITECTURES: dict[str, dict[str, object]] = {
    "trianflow": {"network": "trianflow"},
    "posenet-video": {"network": "posenet-video"},
    "posenet-flow": {"network": "posenet-video", "sees": "flow"},
}


def test_shapes_at_full_size() -> None:
    """256 x 832, whose tensors on the meta device have shapes and no values."""
    with torch.device("meta"):
        images = torch.zeros(2, 3, 256, 832)
        flows = FlowNetwork()(images, images)
        assert [each.shape for each in flows] == [(2, 2, 256 >> s, 832 >> s) for s in range(4)]
        assert DepthNetwork(1.0, 0.1, 100.0)(images).shape == (2, 256, 832)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize(("height", "width"), [(64, 96), (49, 75), (32, 33)])
def test_any_shape_of_image(name: str, height: int, width: int) -> None:
    torch.manual_seed(0)
    architecture = {**ARCHITECTURES[name], "width": 0.1, "image_size": (height, width)}
    model = build_model(architecture).eval()
    assert isinstance(model, VideoModel)
    assert model.image_size == (height, width)
    one, two = torch.rand(2, 2, 3, height, width)
    with torch.inference_mode():
        depth = model.depth(one)
        outputs = model(one, two)
    assert depth.shape == (2, height, width)
    nearest, farthest = model.config.nearest, model.config.farthest
    assert ((depth >= nearest * 0.999) & (depth <= farthest * 1.001)).all(), (
        "the supplement's 0.1 and 100, or 0.01 and 80"
    )
    assert torch.allclose(1 / outputs.disparity_1, depth, rtol=1e-4)
    if name == "trianflow":
        sizes = [(-(-height // 2**s), -(-width // 2**s)) for s in range(4)]
        assert [each.shape[-2:] for each in outputs.flows_1_2] == sizes
        back, _ = model.flows(two, one)
        assert torch.allclose(outputs.flows_2_1[0], back[0], atol=1e-5)
    else:
        assert outputs.T_2_1.shape == (2, 4, 4)


def test_disparity_spans_the_inverse_of_the_range() -> None:
    """The supplement's D = 1 / (0.1 d + 100) would keep depth within 0.01: a misprint."""
    network = DepthNetwork(0.1, 0.1, 100.0).eval()
    head = network.decoder.disparity
    assert head.bias is not None
    with torch.no_grad():
        head.weight.zero_()
        for bias, expected in ((-40.0, 100.0), (40.0, 0.1), (0.0, 1 / (0.01 + 9.99 / 2))):
            head.bias.fill_(bias)
            depth = 1 / network(torch.rand(1, 3, 64, 64))
            assert torch.allclose(depth, torch.full_like(depth, expected), rtol=1e-4)


def test_the_cost_volume_is_that_of_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    one, two = torch.randn(2, 2, 5, 4, 6, generator=generator).numpy()
    found = cost_volume(torch.from_numpy(one), torch.from_numpy(two), radius=2).numpy()
    assert found.shape == (2, 25, 4, 6)
    for b, v, u, dv, du in itertools.product(range(2), range(4), range(6), range(-2, 3), range(-2, 3)):
        j, i = v + dv, u + du
        seen = 0 <= j < 4 and 0 <= i < 6
        expected = np.mean(one[b, :, v, u] * two[b, :, j, i]) if seen else 0.0
        assert found[b, (dv + 2) * 5 + du + 2, v, u] == pytest.approx(expected, abs=1e-6)


def test_features_are_compared_whatever_their_size_and_offset() -> None:
    one, two = torch.randn(2, 2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    size, offset = torch.tensor([1.0, 30.0, 0.1])[:, None, None], torch.tensor([0.0, 5.0, -2.0])[:, None, None]
    plain, other = standardized(one, two), standardized(one * size + offset, two * size + offset)
    assert all(torch.allclose(a, b, atol=0.05) for a, b in zip(plain, other, strict=True))
    both = torch.cat(plain, dim=-1)
    assert torch.allclose(both.mean(dim=(2, 3)), torch.zeros(2, 3), atol=1e-5)
    assert torch.allclose(both.std(dim=(2, 3)), torch.ones(2, 3), atol=0.01)
    assert all(torch.isfinite(each).all() for each in standardized(0 * one, 0 * two))


def test_a_resized_flow_is_in_the_pixels_of_its_size() -> None:
    flow = torch.tensor([3.0, -2.0])[:, None, None].expand(1, 2, 4, 6)
    larger = resized_flow(flow, 8, 18)
    assert torch.allclose(larger[:, 0], torch.tensor(9.0))
    assert torch.allclose(larger[:, 1], torch.tensor(-4.0))
