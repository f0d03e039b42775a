"""PoseGAN's and PoseNet's networks: their layers, sizes, and what a query's shortcut must not change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from pose2rgbd_ros.dataset.normalization import Normalization
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.models.posegan.config import PoseGANConfig, PoseNetConfig
from pose2rgbd_ros.models.posegan.network import Conv, Generator, Linear, PoseGAN, PoseNet
from pose2rgbd_ros.training.families import PoseEstimates, PoseModel, RenderModel, architecture_of, build_model

RESNET34 = 21_284_672  # parameters of the published network without its last layer
RESNET18 = 11_176_512


def poses(count: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    quats = random.normal(size=(count, 4)) * 0.2 + [0.0, 0.0, 0.0, 1.0]
    return np.asarray(se3.make(random.uniform(-5, 5, (count, 3)), quats / np.linalg.norm(quats, axis=1)[:, None]))


def detached(value: torch.Tensor | None) -> torch.Tensor | None:
    return None if value is None else value.detach()


def count_parameters(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 6), st.sampled_from(["down", "up"]), st.integers(0, 99))
@settings(max_examples=40)
def test_strided_convolutions_are_the_plain_ones(inputs: int, outputs: int, half: int, resize: str, seed: int) -> None:
    torch.manual_seed(seed)
    for kernel in (1, 3):
        layer = Conv(inputs, outputs, kernel, resize, spectral=False)
        nn.init.normal_(layer.bias)  # type: ignore[arg-type]
        x = torch.randn(2, inputs, 2 * half, 2 * half)
        before = functional.interpolate(x, scale_factor=2.0) if resize == "up" else x
        plain = functional.conv2d(before, layer.weight, layer.bias, padding=kernel // 2)
        expected = functional.avg_pool2d(plain, 2) if resize == "down" else plain
        torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-4)


def test_the_trunk_is_less_than_a_third_of_a_resnet_regressor() -> None:
    with torch.device("meta"):
        posegan = PoseGAN(PoseGANConfig())
        regressor = PoseNet(PoseNetConfig(trunk="resnet34"))
        smaller = PoseNet(PoseNetConfig(trunk="resnet18"))
    trunk = count_parameters(posegan.discriminator.trunk, posegan.discriminator.pose)
    assert count_parameters(regressor) == RESNET34 + 513 * 7
    assert count_parameters(smaller) == RESNET18 + 513 * 7
    assert trunk <= 0.3 * count_parameters(regressor)
    convolutions = [
        part
        for name, part in posegan.discriminator.trunk.named_modules()
        if isinstance(part, nn.Conv2d) and "shortcut" not in name
    ]
    assert len(convolutions) == 10, "section 5.2: 'only contains 10 convolutional layers'"


@pytest.mark.parametrize("size", [32, 64, 128, 256])
@pytest.mark.parametrize("pose_dim", [6, 7])
@pytest.mark.parametrize("output", ["rgb", "rgbd"])
def test_shapes_at_every_size(size: int, pose_dim: int, output: str) -> None:
    model = PoseGAN(PoseGANConfig(output=output, pose_dim=pose_dim, size=size, width=0.125)).eval()
    with torch.inference_mode():
        image = model("generator", torch.zeros(2, pose_dim))
        verdict = model("discriminator", torch.zeros(2, 3 if output == "rgb" else 5, size, size))
    assert image.shape == (2, 3 if output == "rgb" else 4, size, size)
    assert verdict.pose.shape == (2, pose_dim)
    assert verdict.realism.shape == (2,)
    assert verdict.features.shape == (2, 64)


@pytest.mark.parametrize("gain", [1.0, 2.0])
def test_every_weight_of_both_players_has_a_spectral_norm_of_one(gain: float) -> None:
    torch.manual_seed(0)
    model = PoseGAN(PoseGANConfig(size=32, width=0.125, blocks=3, generator_width=0.25, gain=gain))
    layers = {name: part for name, part in model.named_modules() if isinstance(part, (nn.Conv2d, nn.Linear))}
    assert len(layers) == 2 * 3 * 3 + 1 + 1 + 2, "blocks; first and last of the generator; phi3 and varphi"
    for moved in (False, True):
        if moved:  # as training does, only farther: what the norm was found for is gone
            for layer in layers.values():
                nn.init.normal_(layer.weight, std=0.3)  # type: ignore[arg-type]
        for _ in range(60):  # the norm is found by power iteration, a step a forward pass
            model("discriminator", model("generator", torch.rand(4, 7)))
        for name, layer in layers.items():
            norm = torch.linalg.matrix_norm(layer.used_weight().detach().flatten(1), 2)  # type: ignore[operator]
            assert float(norm) == pytest.approx(gain if "trunk" in name else 1.0, rel=0.05)
    model.eval()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model("discriminator", model("generator", torch.rand(4, 7)))
    assert all(torch.equal(before[name], buffer) for name, buffer in model.named_buffers()), "a query moves it"


def test_no_gradient_of_a_normalised_weight_is_along_it() -> None:
    """What is used has one length, so making a weight longer changes nothing: sigma passes gradients on."""
    torch.manual_seed(0)
    for layer, x in ((Conv(3, 6, 3, gain=2.0), torch.rand(2, 3, 8, 8)), (Linear(5, 6), torch.rand(2, 5))):
        layer(x).square().sum().backward()
        weight, gradient = layer.weight.detach(), layer.weight.grad
        assert gradient is not None
        along = (weight * gradient).sum() / (weight.norm() * gradient.norm())
        assert abs(float(along)) < 1e-5


@pytest.mark.parametrize(("size", "octaves"), [(32, 0), (128, 0), (128, 3)])
def test_what_enters_the_generator_s_first_batch_normalisation_is_the_pose(size: int, octaves: int) -> None:
    """It takes each channel's mean over poses and pixels; what differs by pixel alone would be all that is left."""
    torch.manual_seed(0)
    generator = Generator(PoseGANConfig(size=size, generator_width=0.25, pose_frequencies=octaves))
    seen: list[torch.Tensor] = []
    norm: torch.nn.Module = generator.blocks[0].norm1  # type: ignore[assignment]
    norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    poses = torch.rand(16, 7)
    with torch.no_grad():
        generator(torch.cat([poses, -poses]))
    by_pose = seen[0].var(dim=0, correction=0).mean(dim=(1, 2))
    share = float((by_pose / seen[0].var(dim=(0, 2, 3), correction=0)).mean())
    assert share > (0.8 if octaves else 0.99), "0.02 with the bias of nn.Linear, with octaves 0.4"


@pytest.mark.parametrize(
    "architecture",
    [
        {"network": "posegan", "size": 32, "width": 0.125, "output": "rgbd"},
        {"network": "posenet", "size": 32, "width": 0.125},
        {"network": "posenet", "size": 32, "width": 0.125, "spectral": True},
        {"network": "posenet", "size": 32, "trunk": "resnet18", "width": 0.125},
    ],
)
def test_every_bias_begins_at_zero(architecture: dict[str, object]) -> None:
    biases = {
        name: part.bias
        for name, part in build_model(architecture).named_modules()
        if isinstance(part, (nn.Conv2d, nn.Linear)) and part.bias is not None
    }
    assert biases
    assert [name for name, bias in biases.items() if bool(bias.any())] == []


@pytest.mark.parametrize("rotation", ["quaternion", "euler"])
def test_it_shows_and_finds_poses_of_the_normalisation(rotation: str) -> None:
    T = poses(6)
    normalization = Normalization.fit(T, rotation=rotation)  # type: ignore[arg-type]
    model = build_model({"network": "posegan", "size": 32, "width": 0.125, "pose_dim": normalization.pose_dim}).eval()
    assert isinstance(model, RenderModel)
    assert isinstance(model, PoseModel)
    rgb = torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        found = model.poses(rgb, normalization)
        encoded = model.discriminator(rgb * 2 - 1).pose.double().numpy()
        shown = model.pictures(torch.from_numpy(T[:2]), None, normalization)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.T_map_cam.numpy(), normalization.decode_pose(encoded), atol=1e-5)
    assert found.realism is not None
    assert found.realism.shape == (3,)
    assert shown.rgb is not None
    assert shown.rgb.shape == (2, 3, 32, 32)
    assert shown.depth is None
    assert 0 <= float(shown.rgb.min()) <= float(shown.rgb.max()) <= 1


@pytest.mark.parametrize(
    "architecture",
    [
        {"network": "posegan", "size": 64, "width": 0.125},
        {"network": "posegan", "size": 32, "width": 0.25, "blocks": 3, "pool": "flatten", "output": "rgbd"},
        {"network": "posenet", "size": 32, "width": 0.125},
        {"network": "posenet", "size": 32, "width": 0.125, "spectral": True},
        {"network": "posenet", "size": 32, "width": 0.125, "trunk": "resnet18"},
    ],
)
def test_a_query_is_the_network_s_own_answer_however_it_is_changed(architecture: dict[str, object]) -> None:
    torch.manual_seed(1)
    normalization = Normalization.fit(poses(6))
    model = build_model(architecture)
    rgb = torch.rand(2, 3, architecture["size"], architecture["size"])  # type: ignore[arg-type]

    def differs() -> float:
        with torch.no_grad():
            quick = model.poses(rgb, normalization)
        slow = PoseEstimates(*map(detached, model.poses(rgb, normalization)))  # with gradients: the network itself
        return float((quick.features - slow.features).abs().max() + (quick.T_map_cam - slow.T_map_cam).abs().max())

    model.eval()
    assert differs() < 1e-4
    rgb = torch.cat([rgb, rgb.flip(3), rgb.flip(2)])  # the same copy, another number of images
    assert differs() < 1e-4
    other = build_model(architecture)
    model.load_state_dict(other.state_dict())
    assert differs() < 1e-4, "the copy of the old weights must be forgotten"
    model.train()
    for parameter in model.parameters():
        parameter.data.mul_(1.1).add_(0.01)
    model.eval()
    assert differs() < 1e-4
    assert build_model(architecture_of(model)).state_dict().keys() == model.state_dict().keys()


def test_depth_is_decoded_and_a_query_shows_none() -> None:
    T = poses(6)
    normalization = Normalization.fit(T, np.array([[[2.0]], [[40.0]]]))
    model = PoseGAN(PoseGANConfig(output="rgbd", size=32, width=0.125)).eval()
    with torch.inference_mode():
        shown = model.pictures(torch.from_numpy(T[:2]), None, normalization)  # type: ignore[arg-type]
        assert shown.depth is not None
        assert shown.depth.shape == (2, 32, 32)
        assert 2.0 <= float(shown.depth.min()) <= float(shown.depth.max()) <= 40.0
        assert model.poses(torch.rand(1, 3, 32, 32), normalization).T_map_cam.shape == (1, 4, 4)


def test_gradients_reach_the_pixels_of_a_query() -> None:
    """Saliency needs them."""
    model = PoseGAN(PoseGANConfig(size=32, width=0.125)).eval()
    rgb = torch.rand(1, 3, 32, 32, requires_grad=True)
    model.discriminator(rgb * 2 - 1).pose.sum().backward()
    assert rgb.grad is not None
    assert float(rgb.grad.abs().max()) > 0


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"network": "posegan", "size": 48}, "size is 48"),
        ({"network": "posegan", "size": 32, "blocks": 6}, "halve 32 pixels away"),
        ({"network": "posenet", "trunk": "vgg"}, "trunk is 'vgg'"),
        ({"network": "posenet", "output": "rgb"}, "unknown setting output"),
    ],
)
def test_impossible_architectures_are_refused(values: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        build_model(values)
