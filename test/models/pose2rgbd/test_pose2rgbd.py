"""The networks have exactly the published sizes, and each option does what it says."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.models.pose2rgbd.config import Pose2RGBDConfig
from pose2rgbd_ros.models.pose2rgbd.network import Pose2RGBD, confidence, fourier_features, split_image
from pose2rgbd_ros.training.families import architecture_of, build_model


def parameters(**settings: object) -> int:
    with torch.device("meta"):
        model = Pose2RGBD(Pose2RGBDConfig(**settings))  # type: ignore[arg-type]
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        # published: table 2 and 3 of the paper
        ({"output": "depth"}, 2_928_673),
        ({"output": "depth", "variant": "slice", "slices": 10}, 2_975_633),
        ({"output": "depth", "variant": "slice", "slices": 32}, 2_987_601),
        ({"output": "depth", "variant": "slice", "slices": 64}, 3_005_009),
        # implied by the same layers
        ({"output": "rgb"}, 2_928_803),
        ({"output": "rgbd"}, 2_928_868),
        ({"output": "depth", "pose_dim": 6}, 2_912_289),
        ({"variant": "slice", "slices": 10}, 2_976_668),
        ({"variant": "slice", "slices": 32}, 2_988_900),
        ({"variant": "slice", "slices": 64}, 3_006_692),
        # the guesses do not show in the counts
        ({"output": "depth", "variant": "slice", "slice_features": "first"}, 2_975_633),
        ({"output": "depth", "activation": "leaky_relu", "final": "none"}, 2_928_673),
    ],
)
def test_parameter_counts(settings: dict[str, object], count: int) -> None:
    assert parameters(**settings) == count


@pytest.mark.parametrize("size", [32, 64, 256, 1024])
@pytest.mark.parametrize("output", ["depth", "rgb", "rgbd"])
def test_shapes_at_any_power_of_two(size: int, output: str) -> None:
    config = Pose2RGBDConfig(size=size, output=output, width=1 / 16)
    image, slices, logits = Pose2RGBD(config)(torch.zeros(2, 7))
    assert image.shape == (2, {"depth": 1, "rgb": 3, "rgbd": 4}[output], size, size)
    assert slices is None
    assert logits is None


@pytest.mark.parametrize(("resolution", "side"), [("half", 32), ("full", 64)])
@pytest.mark.parametrize("features", ["first", "second"])
def test_slices_and_confidence(resolution: str, side: int, features: str) -> None:
    config = Pose2RGBDConfig(
        variant="slice", slices=5, size=64, width=0.125, slice_resolution=resolution, slice_features=features
    )
    _, slices, logits = Pose2RGBD(config)(torch.rand(2, 7))
    assert slices is not None
    assert slices.shape == (2, 5, side, side)
    assert config.slice_size == side
    torch.testing.assert_close(slices, torch.sigmoid(logits))
    torch.testing.assert_close(confidence(slices), slices[:, 0] + slices[:, 1:].sum(1))


def test_the_slices_feed_the_image() -> None:
    torch.manual_seed(0)
    model = Pose2RGBD(Pose2RGBDConfig(variant="slice", slices=4, size=32, width=0.125)).eval()
    pose = torch.rand(1, 7)
    before = model(pose).image
    with torch.no_grad():
        model.slice_head.weight.add_(1.0)
    assert (model(pose).image - before).abs().max() > 1e-3


@pytest.mark.parametrize(("final", "low", "high"), [("tanh", -1, 1), ("sigmoid", 0, 1), ("none", -1, 1)])
def test_split_image_undoes_the_target_range(final: str, low: float, high: float) -> None:
    config = Pose2RGBDConfig(final=final, size=32)
    image = torch.tensor([low, high, (low + high) / 2, high]).reshape(1, 4, 1, 1)
    rgb, depth = split_image(image, config)
    assert rgb is not None
    assert depth is not None
    assert rgb.flatten().tolist() == [0.0, 1.0, 0.5]
    assert depth.flatten().tolist() == [1.0]
    if final == "none":  # nothing bounds the network, so the picture must
        assert split_image(image * 3, config)[0].max() == 1.0  # type: ignore[union-attr]


@pytest.mark.parametrize("final", ["tanh", "sigmoid"])
def test_the_final_activation_bounds_the_image(final: str) -> None:
    config = Pose2RGBDConfig(final=final, size=32, width=0.125)
    image = Pose2RGBD(config)(100 * torch.randn(8, 7)).image
    assert image.min() >= config.target_range[0]
    assert image.max() <= config.target_range[1]


def test_fourier_features() -> None:
    features = fourier_features(torch.tensor([[0.0, 1.0]]), 2)
    torch.testing.assert_close(features, torch.tensor([[0, 1, 0, 0, 1, 0, 1, 1, 0, -1.0]]), atol=1e-6, rtol=0)
    assert Pose2RGBD(Pose2RGBDConfig(size=32, pose_frequencies=3)).dense.in_features == 7 * 7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 48}, "power of two"),
        ({"size": 16}, "at least 32"),
        ({"variant": "slice", "output": "rgb"}, "needs depth"),
        ({"final": "softmax"}, "choose one of"),
    ],
)
def test_impossible_settings_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Pose2RGBDConfig(**settings)  # type: ignore[arg-type]


def test_registry_round_trip() -> None:
    config = Pose2RGBDConfig(variant="slice", slices=3, size=32, width=0.25, pose_dim=6)
    again = build_model(architecture_of(Pose2RGBD(config)))
    assert again.config == config


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({"network": "resnet"}, "unknown network 'resnet'"),
        ({"size": 64}, "names no network"),
        ({"network": "pose2rgbd", "colour": 1}, "unknown setting colour"),
        ({"network": "pose2rgbd", "size": 33}, "power of two"),
    ],
)
def test_foreign_architectures_are_named(architecture: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_model(architecture)


def test_the_configuration_is_plain_data() -> None:
    assert all(isinstance(v, (str, int, float, bool)) for v in dataclasses.asdict(Pose2RGBDConfig()).values())
