"""What determines the layers of the paper's networks, and what a user may say of their training."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from pose2rgbd_ros import settings
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.settings import setting
from pose2rgbd_ros.training.config import Output, Recipe, TrainConfig, resolve_recipe


@dataclass(frozen=True)
class Settings(TrainConfig):
    """Settings of a training of base or slice-S."""

    RECIPES: ClassVar[dict[str, Recipe]] = {
        # The paper: AdamW, fixed learning rate 0.01, at most 100 epochs, mean squared error, "no hyperparameter
        # tuning". It does not say the batch size nor the weight decay: 16 is a guess, 0.01 AdamW's default in PyTorch.
        "paper": Recipe(
            learning_rate=0.01,
            schedule="fixed",
            warmup=0.0,
            batch_size=16,
            epochs=100,
            weight_decay=0.01,
            image_loss="mse",
        ),
        # Ours, better at equal time (bench/results/models.md). The Fourier features are not in the paper: with
        # them the first layer has more inputs; pose_frequencies 0 is the published network to the letter.
        "default": Recipe(
            learning_rate=3e-3,
            schedule="cosine",
            warmup=0.03,
            batch_size=4,
            epochs=100,
            weight_decay=1.0,
            pose_frequencies=2,
        ),
    }

    recipe: Literal["default", "paper"] = setting(
        "default", "optimisation; paper: its own (its whole set-up: --size 512 --split random too); default: ours"
    )
    width: float = setting(1.0, "factor on the network's channels (1: the paper's)", ge=1 / 64)
    final: Literal["tanh", "sigmoid", "none"] = setting("tanh", "final activation")
    activation: Literal["relu", "leaky_relu"] = setting("relu", "hidden activation")
    slice_features: Literal["second", "first"] = setting("second", "bottleneck layer under the slices")
    slice_resolution: Literal["half", "full"] = setting("half", "resolution of the slices")
    image_loss: Literal["mse", "charbonnier", "mse+l1"] | None = setting(None, "loss on colour and depth")
    pose_frequencies: int | None = setting(
        None, "Fourier features of the pose; 0: none, the paper's network; recipe default: 2", ge=0, le=12
    )
    # Open in the paper: how the per-slice cross entropies are joined and weighed against the squared error.
    bce_reduction: Literal["mean", "sum"] = setting("mean", "cross entropy over the slices")
    bce_weight: float = setting(1.0, "weight of the slices' cross entropy", ge=0.0)
    # The paper's further work; how, is a reconstruction: learner.py.
    adversarial_weight: float = setting(0.0, "weight of a discriminator's verdict on patches; 0: none", ge=0.0)
    adversarial_loss: Literal["hinge", "least-squares"] = setting("hinge", "what the discriminator is trained by")
    consistency_weight: float = setting(
        0.0, "weight of views at nearby poses agreeing with the recorded one; 0: none", ge=0.0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.slices == 1:
            raise UserError(f"unknown model {self.model!r}; slice-S has S at least 2 (slice-10)")

    @property
    def slices(self) -> int:
        """0 for base, S for slice-S."""
        return 0 if self.model == "base" else int(self.model.removeprefix("slice-"))

    @property
    def leaves_unused(self) -> bool:
        """With the first bottleneck layer under the slices the second one feeds nothing."""
        return self.slice_features == "first"

    def uses(self, name: str) -> bool:
        return bool(self.slices) or not name.startswith(("bce_", "slice_"))

    def output_for(self, has_depth: bool) -> Output:
        output = super().output_for(has_depth)
        if self.slices and not has_depth:
            raise UserError(f"the dataset has no depth, which {self.model} needs; use model base")
        return output

    def check_trainable(self, has_depth: bool) -> None:
        network_config(self, has_depth)


START_SIZE = 4
START_CHANNELS = 1024
SMALLEST_CHANNELS = 16
BOTTLENECK_CHANNELS = 60
OUTPUT_CHANNELS = {"depth": 1, "rgb": 3, "rgbd": 4}


@dataclass(frozen=True)
class Pose2RGBDConfig:
    """Everything that determines the network's layers."""

    any_camera: ClassVar[bool] = False

    variant: Literal["base", "slice"] = setting("base", "network of the paper")
    slices: int = setting(10, "number of depth slices (slice only; the paper uses 10, 32, 64)", ge=2)
    output: Literal["depth", "rgb", "rgbd"] = setting("rgbd", "what the network predicts")
    pose_dim: Literal[6, 7] = setting(7, "7: position + quaternion, 6: position + Euler angles")
    size: int = setting(512, "side of the square image in pixels, a power of two", ge=32)
    width: float = setting(1.0, "factor on the number of channels (1: the paper's)", ge=1 / 64)
    # The paper: "we also tried [0, 1] or removing the activation of the final layer; results were very similar".
    final: Literal["tanh", "sigmoid", "none"] = setting("tanh", "final activation")
    # Open in the paper: hidden activations are not named. DCGAN, its model, has ReLU in the generator.
    activation: Literal["relu", "leaky_relu"] = setting("relu", "hidden activation")
    # Open in the paper: whether an activation follows the dense layer. It has no batch normalisation (counts).
    dense_activation: bool = setting(True, "activation after the dense layer")
    # Open in the paper: "concatenated to the feature maps of the penultimate layer of the bottleneck" can mean the
    # first or the second 3x3 convolution; both have 60 channels, so the counts agree. This chooses which one feeds
    # the slices and the last layer; the first leaves the second unused by the output (kept for its parameters).
    slice_features: Literal["second", "first"] = setting("second", "bottleneck layer under the slices")
    # Open in the paper: slices live on the last hidden map, at half resolution, though "all outputs have 512x512".
    # half: true slices are reduced to the prediction's size; full: predicted slices are enlarged (bilinear).
    slice_resolution: Literal["half", "full"] = setting("half", "resolution of the slices")
    # Not in the paper: each pose number x also enters as sin, cos(2^k pi x / 2), k < pose_frequencies (NeRF's idea).
    pose_frequencies: int = setting(0, "octaves of Fourier features of the pose (0: the paper's)", ge=0, le=12)

    def __post_init__(self) -> None:
        settings.check(self)
        if self.size & (self.size - 1):
            raise UserError(f"size is {self.size}; it must be a power of two from 32 up (64, 128, 256, 512, ...)")
        if self.variant == "slice" and self.output == "rgb":
            raise UserError("the slice network needs depth: use output depth or rgbd, or the base network")

    @property
    def has_confidence(self) -> bool:
        return self.variant == "slice"

    @property
    def has_rgb(self) -> bool:
        return self.output != "depth"

    @property
    def has_depth(self) -> bool:
        return self.output != "rgb"

    @property
    def target_range(self) -> tuple[float, float]:
        """Range of the network's image values: [0, 1] under a sigmoid, else the paper's [-1, 1]."""
        return (0.0, 1.0) if self.final == "sigmoid" else (-1.0, 1.0)

    @property
    def slice_size(self) -> int:
        """Side of the predicted slices in pixels."""
        return self.size if self.slice_resolution == "full" else self.size // 2

    def channels(self) -> list[int]:
        """Channels of the trunk: the dense layer's map, then one per hidden transposed convolution."""
        stages = int(math.log2(self.size // START_SIZE)) - 1
        full = [max(START_CHANNELS >> stage, SMALLEST_CHANNELS) for stage in range(stages + 1)]
        return [max(1, round(count * self.width)) for count in full]

    @property
    def bottleneck_channels(self) -> int:
        """Channels under the slices."""
        return max(1, round(BOTTLENECK_CHANNELS * self.width))

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the network's tensors, by their names in a checkpoint."""
        channels, inputs = self.channels(), self.pose_dim * (1 + 2 * self.pose_frequencies)
        dense, features, outputs = channels[0] * START_SIZE**2, channels[-1], OUTPUT_CHANNELS[self.output]
        shapes: dict[str, tuple[int, ...]] = {"dense.weight": (dense, inputs), "dense.bias": (dense,)}
        for stage, (before, after) in enumerate(itertools.pairwise(channels)):
            shapes |= _normalized(f"trunk.{stage}", (before, after, 2, 2), after)
        if self.variant == "slice":
            under = self.bottleneck_channels
            shapes |= _normalized("bottleneck1", (under, features, 3, 3), under)
            shapes |= _normalized("bottleneck2", (under, under, 3, 3), under)
            shapes["slice_head.weight"] = (self.slices, under, 3, 3)
            features += under + self.slices
        return {**shapes, "image_head.weight": (features, outputs, 2, 2), "image_head.bias": (outputs,)}


def _normalized(name: str, kernel: tuple[int, ...], channels: int) -> dict[str, tuple[int, ...]]:
    """Shapes of a convolution without bias, and of the batch normalisation behind it."""
    norm = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (channels,))
    after = {f"{name}.1.{key}": shape for key, shape in norm.items()}
    return {f"{name}.0.weight": kernel, **after, f"{name}.1.num_batches_tracked": ()}


# The network by its name in checkpoints.
NETWORK_CONFIGS = {"pose2rgbd": Pose2RGBDConfig}


def network_config(config: Settings, has_depth: bool) -> Pose2RGBDConfig:
    """The network that a run trains. UserError: depth asked of a dataset without it."""
    return Pose2RGBDConfig(
        variant="slice" if config.slices else "base",
        slices=config.slices or 10,
        output=config.output_for(has_depth),
        pose_dim=7 if config.rotation == "quaternion" else 6,
        size=config.size,
        width=config.width,
        final=config.final,
        activation=config.activation,
        slice_features=config.slice_features,
        slice_resolution=config.slice_resolution,
        pose_frequencies=resolve_recipe(config).pose_frequencies,
    )
