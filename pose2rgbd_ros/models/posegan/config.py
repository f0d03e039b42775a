"""What determines the networks' tensors, and what a user may say of a training run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, get_args

from pose2rgbd_ros import settings
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.settings import setting
from pose2rgbd_ros.training.config import Recipe, TrainConfig

BLOCKS = 5
SMALLEST_MAP = 4  # pixels a side, after the last block
FIRST_CHANNELS, MOST_CHANNELS = (32, 512)  # of the discriminator's first block; each further block has twice as many
Size = Literal[32, 64, 128, 256]
SIZES = get_args(Size)
CONFIGS = {"posegan": "full", "posegan-a": "a", "posegan-b": "b", "posegan-c": "c"}  # the paper's table 1
Trunk = Literal["posegan", "resnet18", "resnet34"]
POSENETS: dict[str, Trunk] = {"posenet": "posegan", "posenet-resnet": "resnet34"}
CHANNELS_OF = {"rgb": 3, "rgbd": 4}
# Settings of PoseGAN that mean something without a generator too.
OF_REGRESSORS = frozenset({"width", "blocks", "pool", "gain", "crop", "rotation_weight", "trunk"})
# What a recipe fills in where the user says nothing: ours, for trainings of minutes (docs/decisions/0012-posegan.md),
# and the paper's. It writes one norm for poses and pictures (Eq. 9): then its 10 weighs pixels as 554 (32 pixels a
# side) to 2,217 (128) would in front of their root mean square difference.
FIGURES: dict[str, dict[str, float | str]] = {
    "default": {"gain": 2.0, "alpha": 10.0, "beta_pixel": 300.0, "pixel_norm": "mean-absolute"},
    "paper": {"gain": 1.0, "alpha": 0.1, "beta_pixel": 10.0, "pixel_norm": "euclidean"},
}


@dataclass(frozen=True)
class PoseGANSettings:
    """Settings of PoseGAN and PoseNet in a training run; weights without a remark are the paper's (section 4).

    None: as the recipe says, or as another setting has it.
    """

    width: float = setting(1.0, "factor on the networks' channels", ge=1 / 32, le=4.0)
    generator_width: float | None = setting(
        None, "factor on the generator's channels, where it differs from width", ge=1 / 32, le=4.0
    )
    blocks: int | None = setting(
        None, "blocks of each network (down to 4 x 4 pixels: 3 at 32 pixels, the paper's 5 at 128)", ge=2, le=6
    )
    pool: Literal["sum", "flatten"] = setting("sum", "how the trunk's last map becomes features")
    gain: float | None = setting(
        None, "norm of the discriminator's convolutions, where spectral (2; recipe paper: 1)", ge=0.1, le=10.0
    )
    crop: Literal["random", "centre"] = setting("random", "part of the 9/8 larger images that is trained on")
    target_crop: Literal["same", "centre"] = setting(
        "same",
        "the generator's target, and x in Eqs. 5 to 7; same: the crop above; centre: the middle one, the only one that "
        "follows from the pose",
    )
    adversary: Literal["hinge", "kl"] = setting("hinge", "how real and generated distributions are compared")
    alpha: float | None = setting(
        None, "weight of the poses in the discriminator's loss (Eq. 8; 10; recipe paper: 0.1)", ge=0.0
    )
    beta_pose: float = setting(0.5, "weight of the pose in the generator's loss (beta 1 of Eq. 9)", ge=0.0)
    beta_pixel: float | None = setting(
        None, "weight of the pixels in the generator's loss (beta 2 of Eq. 9; 300; recipe paper: 10)", ge=0.0
    )
    pixel_norm: Literal["mean-absolute", "euclidean"] | None = setting(
        None,
        "how pictures differ (Eq. 9); mean-absolute: a mean over the pixels; euclidean: a length, as of poses "
        "(mean-absolute; recipe paper: euclidean)",
    )
    k: float = setting(0.1, "gamma as a share of the error on recorded images (Eq. 7)", ge=0.0)
    gamma: float = setting(0.01, "posegan-c: the constant gamma", ge=0.0)
    pull: Literal["generated", "both"] = setting(
        "both",
        "whose poses the second term of Eq. 6 moves: of recorded images too (as written), or of generated ones alone",
    )
    pull_ramp: bool = setting(
        False,
        "a generated image counts in the second term of Eq. 6 by the share of its recorded picture that it explains "
        "beyond the mean image",
    )
    n_critic: int = setting(1, "steps of the discriminator for one of the generator", ge=1, le=100)
    rotation_weight: float = setting(1.0, "factor on rotation in the norm of pose errors", ge=0.0)
    trunk: Trunk | None = setting(
        None, "posenet: the network under the pose (posenet: posegan; posenet-resnet: resnet34)"
    )


# Ours, for trainings of minutes: five times the paper's rate, falling. Adam's momenta are the learner's.
_OURS = Recipe(
    learning_rate=1e-3, schedule="cosine", warmup=0.0, batch_size=16, epochs=100, weight_decay=0.0, pose_frequencies=3
)


@dataclass(frozen=True)
class Settings(TrainConfig):
    """Settings of a training of PoseGAN, its configs or PoseNet. Their losses are the paper's (Eq. 9)."""

    RECIPES: ClassVar[dict[str, Recipe]] = {
        "default": _OURS,
        # The paper's: 100,000 iterations at a fixed rate, whatever the number of frames.
        "paper": replace(_OURS, learning_rate=2e-4, schedule="fixed", steps=100_000, pose_frequencies=0),
    }
    finds_poses: ClassVar[bool] = True

    recipe: Literal["default", "paper"] = setting(
        "default", "optimisation, and weights of the losses; paper: its own, for posegan and its configs; default: ours"
    )
    pose_frequencies: int | None = setting(
        None, "Fourier features of the pose that is shown; 0: none, the paper's network; recipe default: 3", ge=0, le=12
    )
    posegan: PoseGANSettings = field(default_factory=PoseGANSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.recipe == "paper" and self.model not in CONFIGS:
            raise UserError(f"the paper has no recipe for {self.model}; leave out --recipe")
        for name in () if self.shows_images else ("output", "max_depth", "pose_frequencies"):
            if getattr(self, name) != getattr(type(self), name):
                raise UserError(f"--{name.replace('_', '-')} means nothing to {self.model}; leave it out")
        if self.size not in SIZES:
            raise UserError(f"{self.model} takes images of {', '.join(map(str, SIZES))} pixels, not {self.size}")
        check_blocks(self.size, blocks_of(self.posegan, self.size))
        if self.output == "depth":
            raise UserError(f"{self.model} shows colour, with or without depth; use output rgb or rgbd")
        if self.posegan.trunk is not None and self.model not in POSENETS:
            raise UserError(f"--trunk is for posenet; {self.model} has the paper's trunk")
        if self.max_depth is not None and self.output != "rgbd":
            raise UserError(f"--max-depth is for depth, which {self.model} learns with --output rgbd only")

    @property
    def shows_images(self) -> bool:
        return CONFIGS.get(self.model, "a") != "a"

    @property
    def filled(self) -> PoseGANSettings:
        """What was chosen, with the figures of the recipe where the user said nothing."""
        missing = {name: value for name, value in FIGURES[self.recipe].items() if getattr(self.posegan, name) is None}
        return replace(self.posegan, **missing)  # type: ignore[arg-type]

    def uses(self, name: str) -> bool:
        if self.shows_images:
            return name != "posegan.trunk"
        part, _, own = name.rpartition(".")
        if part:
            return own in OF_REGRESSORS and (own != "gain" or self.model in CONFIGS)
        return name not in ("output", "max_depth", "pose_frequencies") and (name != "recipe" or self.model in CONFIGS)

    def resolved(self) -> dict[str, Any]:
        """With figures, whatever they came from: so a run from before a recipe said them is the same run still."""
        return {**super().resolved(), "posegan": settings.to_yaml_dict(self.filled)}


@dataclass(frozen=True)
class PoseGANConfig:
    """Everything that determines the layers of generator and discriminator."""

    output: Literal["rgb", "rgbd"] = setting("rgb", "what the generator shows, and the discriminator sees")
    pose_dim: Literal[6, 7] = setting(7, "7: position + quaternion, 6: position + Euler angles")
    size: Size = setting(128, "side of the square image in pixels")
    width: float = setting(1.0, "factor on the discriminator's channels", ge=1 / 32, le=4.0)
    generator_width: float = setting(1.0, "factor on the generator's channels", ge=1 / 32, le=4.0)
    blocks: int = setting(BLOCKS, "blocks of each network", ge=2, le=6)
    pool: Literal["sum", "flatten"] = setting("sum", "how the trunk's last map becomes features")
    pose_frequencies: int = setting(0, "octaves of Fourier features of the pose (0: the paper's)", ge=0, le=12)
    gain: float = setting(1.0, "norm of the discriminator's convolutions", ge=0.1, le=10.0)

    def __post_init__(self) -> None:
        settings.check(self)
        check_blocks(self.size, self.blocks)

    @property
    def has_depth(self) -> bool:
        return self.output == "rgbd"

    @property
    def bottom(self) -> int:
        """Side of the smallest map."""
        return self.size >> self.blocks


@dataclass(frozen=True)
class PoseNetConfig:
    """Everything that determines the layers of a regressor."""

    trunk: Trunk = setting("posegan", "network under the pose")
    spectral: bool = setting(False, "spectral normalisation in place of batch normalisation (trunk posegan)")
    pose_dim: Literal[6, 7] = setting(7, "7: position + quaternion, 6: position + Euler angles")
    size: Size = setting(128, "side of the square image in pixels")
    width: float = setting(1.0, "factor on the number of channels", ge=1 / 32, le=4.0)
    blocks: int = setting(BLOCKS, "blocks of the trunk posegan", ge=2, le=6)
    pool: Literal["sum", "flatten"] = setting("sum", "how the last map becomes features (trunk posegan)")
    gain: float = setting(1.0, "norm of the discriminator's convolutions, where spectral", ge=0.1, le=10.0)

    def __post_init__(self) -> None:
        settings.check(self)
        check_blocks(self.size, self.blocks)


def channels_of(blocks: int, width: float) -> list[int]:
    """Channels of `blocks` blocks at a width factor."""
    return [max(4, round(min(FIRST_CHANNELS << block, MOST_CHANNELS) * width)) for block in range(blocks)]


def blocks_of(chosen: PoseGANSettings, size: int) -> int:
    """Blocks of a run's networks."""
    return chosen.blocks or (size // SMALLEST_MAP).bit_length() - 1


def check_blocks(size: int, blocks: int) -> None:
    """UserError where so many halvings leave less than a pixel."""
    if size >> blocks < 1:
        raise UserError(f"{blocks} blocks halve {size} pixels away; use fewer blocks or larger images")
