"""Every setting of a training run, and the recipes that fill in what is not said."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from pose2rgbd_ros import settings
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.models.posegan.config import (
    CONFIGS,
    POSENETS,
    SIZES,
    PoseGANSettings,
    blocks_of,
    check_blocks,
    filled,
)
from pose2rgbd_ros.models.relief.config import ReliefSettings
from pose2rgbd_ros.settings import setting

if TYPE_CHECKING:
    from pose2rgbd_ros.models.pose2rgbd.network import Pose2RGBDConfig


@dataclass(frozen=True)
class Recipe:
    """How the weights are optimised; each field can be overridden by the TrainConfig field of the same name."""

    learning_rate: float
    schedule: str
    warmup: float
    batch_size: int
    epochs: int
    weight_decay: float
    ema_decay: float
    image_loss: str
    pose_frequencies: int
    steps: int | None = None  # in place of epochs


RECIPES = {
    # The paper: AdamW, fixed learning rate 0.01, at most 100 epochs, mean squared error, "no hyperparameter tuning".
    # It does not say the batch size nor the weight decay: 16 is a guess, 0.01 AdamW's default in PyTorch.
    "paper": Recipe(
        learning_rate=0.01,
        schedule="fixed",
        warmup=0.0,
        batch_size=16,
        epochs=100,
        weight_decay=0.01,
        ema_decay=0.0,
        image_loss="mse",
        pose_frequencies=0,
    ),
    # Ours, better at equal time: docs/models.md has the figures. The Fourier features are not in the paper: with them
    # the first layer has more inputs; pose_frequencies 0 is the published network to the letter.
    "default": Recipe(
        learning_rate=3e-3,
        schedule="cosine",
        warmup=0.03,
        batch_size=4,
        epochs=100,
        weight_decay=1.0,
        ema_decay=0.0,
        image_loss="charbonnier",
        pose_frequencies=2,
    ),
}
# A family of networks of its own has a recipe of its own in place of "default"; "paper" is for the paper's networks.
FAMILY_RECIPES = {
    "relief": Recipe(
        learning_rate=2e-3,  # of the shader; features and occupancy learn at multiples of it
        schedule="cosine",
        warmup=0.03,
        batch_size=4,
        epochs=20,
        weight_decay=0.01,
        ema_decay=0.0,
        image_loss="charbonnier",
        pose_frequencies=0,
    ),
    "gsplat": Recipe(
        learning_rate=1e-3,  # the unit of the factors in learners/gsplat.py
        schedule="cosine",
        warmup=0.0,
        batch_size=1,
        epochs=30,
        weight_decay=0.0,
        ema_decay=0.0,
        image_loss="charbonnier",  # not used: L1 and D-SSIM are the method's own
        pose_frequencies=0,
    ),
    # Ours, for trainings of minutes: five times the paper's rate, falling. Adam's momenta are the learner's.
    "posegan": Recipe(
        learning_rate=1e-3,
        schedule="cosine",
        warmup=0.0,
        batch_size=16,
        epochs=100,
        weight_decay=0.0,
        ema_decay=0.0,
        image_loss="charbonnier",  # not used: Eq. 9 has its own
        pose_frequencies=3,
    ),
}
FAMILY_RECIPES["posenet"] = FAMILY_RECIPES["posegan"]
# PoseGAN's paper: 100,000 iterations at a fixed rate, whatever the number of frames. The weights of its losses are in
# models/posegan/config.py.
POSEGAN_PAPER = replace(
    FAMILY_RECIPES["posegan"], learning_rate=2e-4, schedule="fixed", steps=100_000, pose_frequencies=0
)
POSE_FAMILIES = ("posegan", "posenet")  # learn from crops of frames of 9/8 the size
UNTRAINED = ("retrieval", "retrieval-inter", "structure", "mean-pose")  # evaluation/poses.py
UNLIMITED_EPOCHS = 10**6  # the time ends the run


@dataclass(frozen=True)
class TrainConfig:
    """Settings of `pose2rgbd train`; a run keeps them in its config.yaml."""

    model: str = setting(
        "base",
        "base or slice-S (the paper's; S depth slices: 10, 32, 64); relief (geometry of the place inside); "
        "warp-N (the N nearest frames, nothing learnt); gsplat (splats, needs a GPU); posegan, posegan-a, -b, -c "
        "(finds poses, and shows them); posenet, posenet-resnet (finds poses)",
    )
    output: Literal["auto", "depth", "rgb", "rgbd"] = setting(
        "auto", "what to learn; auto: rgbd, or rgb without depth and for posegan"
    )
    size: int = setting(128, "side of the images in pixels, a power of two (the paper: 512)", ge=32)
    fit: Literal["square", "crop"] = setting("square", "how frames become square: squeezed as in the paper, or cropped")
    rotation: Literal["quaternion", "euler"] = setting("quaternion", "rotation fed to the network (6DoF-Quat or 6DoF)")
    width: float = setting(1.0, "factor on the network's channels (1: the paper's)", ge=1 / 64)
    final: Literal["tanh", "sigmoid", "none"] = setting("tanh", "final activation")
    activation: Literal["relu", "leaky_relu"] = setting("relu", "hidden activation")
    slice_features: Literal["second", "first"] = setting("second", "bottleneck layer under the slices")
    slice_resolution: Literal["half", "full"] = setting("half", "resolution of the slices")

    max_depth: float | None = setting(
        None, "depth beyond this, in the dataset's unit, counts as unknown (a far horizon takes all the range)", ge=0.0
    )

    recipe: Literal["default", "paper"] = setting(
        "default",
        "optimisation; paper: its own (Pose2RGBD's whole set-up: --size 512 --split random too); default: ours",
    )
    epochs: int | None = setting(None, "passes over the training frames (100; unlimited under --max-minutes)", ge=1)
    max_minutes: float | None = setting(None, "stop after so many minutes; the schedule is fitted to it", ge=0.0)
    clock: Literal["wall", "cpu"] = setting(
        "wall", "what --max-minutes counts: time on the wall, or processor time (fair on a shared machine)"
    )
    learning_rate: float | None = setting(None, "AdamW's peak learning rate", ge=0.0)
    schedule: Literal["fixed", "cosine"] | None = setting(None, "learning rate over the run")
    warmup: float | None = setting(None, "share of the run in which the learning rate rises", ge=0.0, le=0.9)
    batch_size: int | None = setting(None, "images a step, over all processes", ge=1)
    weight_decay: float | None = setting(None, "AdamW's weight decay", ge=0.0)
    ema_decay: float | None = setting(None, "average of the weights over steps; 0: none", ge=0.0, le=0.99999)
    image_loss: Literal["mse", "charbonnier", "mse+l1"] | None = setting(None, "loss on colour and depth")
    pose_frequencies: int | None = setting(
        None, "Fourier features of the pose; 0: none, the paper's network; recipe default: 2", ge=0, le=12
    )
    # Open in the paper: how the per-slice cross entropies are joined and weighed against the squared error.
    bce_reduction: Literal["mean", "sum"] = setting("mean", "cross entropy over the slices")
    bce_weight: float = setting(1.0, "weight of the slices' cross entropy", ge=0.0)
    # The paper's further work; how, is a reconstruction: models/pose2rgbd/extra_losses.py and
    # models/pose2rgbd/extra_losses.py.
    adversarial_weight: float = setting(
        0.0, "base and slice: weight of a discriminator's verdict on patches; 0: none", ge=0.0
    )
    adversarial_loss: Literal["hinge", "least-squares"] = setting("hinge", "what the discriminator is trained by")
    consistency_weight: float = setting(
        0.0, "base and slice: weight of views at nearby poses agreeing with the recorded one; 0: none", ge=0.0
    )

    relief: ReliefSettings = field(default_factory=ReliefSettings)
    posegan: PoseGANSettings = field(default_factory=PoseGANSettings)
    splats: int = setting(300_000, "gsplat: number of splats, 92 bytes each", ge=1, le=20_000_000)

    split: Literal["auto", "dataset", "segments", "random", "lines+random"] = setting(
        "auto",
        "dataset: its own (split.txt); segments: held-out stretches of track; random: the paper's 80/20; "
        "lines+random: the first two's frames and a random share of the others, scored apart; "
        "auto: the dataset's own, or else segments",
    )
    test_fraction: float = setting(
        0.2,
        "share of the frames held out, where the dataset does not say; of these, half choose and half judge",
        ge=0.01,
        le=0.9,
    )
    seed: int = setting(0, "of the weights, the split and the order of the frames", ge=0)
    validate_every: int | None = setting(None, "epochs between validations (as often as 10 % of the time allows)", ge=1)
    early_stop: int = setting(0, "stop after so many validations without a new best; 0: never", ge=0)
    keep: Literal["best", "last"] = setting(
        "best",
        "weights in checkpoint/; best: by (at most 96 of) the held-out frames that choose, never by those that judge; "
        "last: the latest, also where too few frames are held out to choose by",
    )

    device: Literal["auto", "cpu", "cuda"] = setting("auto", "where to train")
    precision: Literal["32", "bf16"] = setting("32", "bf16 needs a GPU")
    tensorboard: bool = setting(True, "write TensorBoard logs to tb/")

    def __post_init__(self) -> None:
        settings.check(self)
        _check_pose_family(self)
        if self.keep == "last" and self.early_stop:
            raise UserError(
                "--early-stop chooses when to stop by held-out frames, --keep last chooses nothing; leave one out"
            )
        if family_of(self.model) != "pose2rgbd" and self.model not in CONFIGS and self.recipe == "paper":
            raise UserError(f"the paper has no recipe for {self.model}; leave out --recipe")
        if family_of(self.model) != "pose2rgbd" and (self.adversarial_weight or self.consistency_weight):
            raise UserError(f"adversarial and consistency losses are for base and slice-S, not for {self.model}")


# Settings of other networks, which would be silently without effect.
_OF_OTHERS = (
    "width", "final", "activation", "slice_features", "slice_resolution", "image_loss", "bce_reduction", "bce_weight",
    "splats",
)  # fmt: skip
_OF_GENERATORS = ("output", "max_depth", "pose_frequencies")


def _check_pose_family(config: TrainConfig) -> None:
    """UserError for a setting that PoseGAN or PoseNet has no use for, or that is impossible for them."""
    model, family, chosen = config.model, family_of(config.model), config.posegan
    if family not in POSE_FAMILIES:
        if chosen != PoseGANSettings():
            raise UserError(f"--posegan.* settings are for posegan and posenet models, not for {model}")
        return
    for name in (*_OF_OTHERS, *(_OF_GENERATORS if family == "posenet" else ())):
        if getattr(config, name) != getattr(TrainConfig, name):
            instead = "use --posegan.width" if name == "width" else "leave it out"
            raise UserError(f"--{name.replace('_', '-')} means nothing to {model}; {instead}")
    if config.relief != ReliefSettings():
        raise UserError(f"--relief.* settings mean nothing to {model}; leave them out")
    if config.size not in SIZES:
        raise UserError(f"{model} takes images of {', '.join(map(str, SIZES))} pixels, not {config.size}")
    check_blocks(config.size, blocks_of(chosen, config.size))
    if config.output == "depth":
        raise UserError(f"{model} shows colour, with or without depth; use output rgb or rgbd")
    if chosen.trunk is not None and model not in POSENETS:
        raise UserError(f"--posegan.trunk is for posenet; {model} has the paper's trunk")
    if config.max_depth is not None and config.output != "rgbd":
        raise UserError(f"--max-depth is for depth, which {model} learns with --output rgbd only")


def family_of(model: str) -> str:
    """Which family of networks a model's name belongs to; UserError for an unknown name."""
    if model in ("relief", "gsplat"):
        return model
    if model in CONFIGS or model in POSENETS:
        return "posegan" if model in CONFIGS and CONFIGS[model] != "a" else "posenet"
    if model.startswith("warp-"):
        numbered(model, least=1)
        return "warp"
    if model in UNTRAINED:
        raise UserError(
            f"{model} is not trained: train a model that finds poses (--model posenet), then "
            f"`pose2rgbd evaluate RUN DATASET --finders {model}` sets it beside that one, made from the same frames"
        )
    slices_of(model)
    return "pose2rgbd"


def slices_of(model: str) -> int:
    """0 for "base", S for "slice-S"; UserError otherwise."""
    return 0 if model == "base" else numbered(model, least=2)


def numbered(model: str, least: int) -> int:
    """The number in "slice-S" or "warp-N"; UserError for another name or a number below `least`."""
    match = re.fullmatch(r"(slice|warp)-([1-9]\d{0,3})", model)
    if match is None or int(match[2]) < least:
        raise UserError(
            f"unknown model {model!r}; choose base, slice-S with S at least 2 (slice-10), relief, warp-N (warp-12), "
            "gsplat, posegan, posegan-a, posegan-b, posegan-c, posenet or posenet-resnet"
        )
    return int(match[2])


def resolve_recipe(config: TrainConfig) -> Recipe:
    """The recipe with the user's own settings on top.

    Under ``max_minutes`` the default recipe's epochs do not end the run; the paper's 100 do.
    """
    recipe = FAMILY_RECIPES.get(family_of(config.model), RECIPES[config.recipe])
    if config.model in CONFIGS and config.recipe == "paper":
        recipe = POSEGAN_PAPER
    names = [field.name for field in dataclasses.fields(Recipe) if field.name != "steps"]
    given = {name: getattr(config, name) for name in names if getattr(config, name) is not None}
    if config.epochs is not None:
        given["steps"] = None
    elif config.max_minutes is not None and config.recipe == "default":
        given["epochs"] = UNLIMITED_EPOCHS
    return dataclasses.replace(recipe, **given)


def posegan_settings(config: TrainConfig) -> PoseGANSettings:
    """The run's settings of PoseGAN, with the figures of its recipe where the user said nothing."""
    return filled(config.posegan, config.recipe if config.model in CONFIGS else "default")


def resolved(config: TrainConfig) -> dict[str, Any]:
    """A run's settings as it keeps them, ready for YAML: those of PoseGAN as figures, whatever they came from.

    So a run from before a recipe said them is the same run still.
    """
    return {**settings.to_yaml_dict(config), "posegan": settings.to_yaml_dict(posegan_settings(config))}


def output_of(config: TrainConfig, has_depth: bool) -> Literal["depth", "rgb", "rgbd"]:
    """What the model is to predict: "depth", "rgb" or "rgbd". UserError: depth asked of a dataset without it."""
    finds_poses = family_of(config.model) in POSE_FAMILIES
    output = ("rgbd" if has_depth and not finds_poses else "rgb") if config.output == "auto" else config.output
    if output != "rgb" and not has_depth:
        raise UserError(f"the dataset has no depth, so output {output!r} cannot be learnt; use output rgb")
    return output


def network_config(config: TrainConfig, has_depth: bool) -> Pose2RGBDConfig:
    """The paper's network a run trains. UserError: depth asked of a dataset without it."""
    from pose2rgbd_ros.models.pose2rgbd.network import Pose2RGBDConfig  # torch only once it is needed

    output = output_of(config, has_depth)
    slices = slices_of(config.model)
    if slices and not has_depth:
        raise UserError(f"the dataset has no depth, which {config.model} needs; use model base")
    return Pose2RGBDConfig(
        variant="slice" if slices else "base",
        slices=slices or 10,
        output=output,
        pose_dim=7 if config.rotation == "quaternion" else 6,
        size=config.size,
        width=config.width,
        final=config.final,
        activation=config.activation,
        slice_features=config.slice_features,
        slice_resolution=config.slice_resolution,
        pose_frequencies=resolve_recipe(config).pose_frequencies,
    )
