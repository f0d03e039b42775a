"""What determines the networks' tensors, and what a user may say of a training run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pose2rgbd_ros import settings
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.settings import setting
from pose2rgbd_ros.training.config import Recipe, VideoConfig

LEAST_WIDTH, MOST_WIDTH = 1 / 32, 2.0
# What a recipe fills in where the user says nothing. paper: Zhou et al. (CVPR 2017), sections 3 and 4. released: what
# its authors' code does by default, which gives the better figures of their README. pytorch-port: what its best known
# port's README trains with. default: ours, for minutes on a CPU (docs/decisions/0019-depth-from-video.md).
FIGURES: dict[str, dict[str, Any]] = {
    "default": {
        "width": 0.25,
        "batch_norm": False,
        "explainability": 0.0,
        "smoothness": 0.02,
        "smooth": "relative-disparity",
        "smoothness_falloff": 2.0,
        "outside": "left-out",
        "ssim": 0.85,
        "flip": True,
    },
    "paper": {
        "width": 1.0,
        "batch_norm": True,
        "explainability": 0.2,
        "smoothness": 0.5,
        "smooth": "disparity",
        "smoothness_falloff": 2.0,
        "outside": "black",
        "ssim": 0.0,
        "flip": False,
    },
}
FIGURES["released"] = {**FIGURES["paper"], "batch_norm": False, "explainability": 0.0}
FIGURES["pytorch-port"] = {
    **FIGURES["released"],
    "smoothness": 2.0,
    "smooth": "depth",
    "smoothness_falloff": 2.3,
    "outside": "left-out",
    "flip": True,
}
# 200,000 steps of Adam at a fixed rate, whatever the number of frames.
_PAPER = Recipe(2e-4, "fixed", warmup=0.0, batch_size=4, epochs=1, weight_decay=0.0, steps=200_000)


@dataclass(frozen=True)
class Settings(VideoConfig):
    """Settings of a training of SfMLearner. None: as the recipe says."""

    RECIPES: ClassVar[dict[str, Recipe]] = {
        "default": Recipe(5e-4, "cosine", warmup=0.02, batch_size=4, epochs=60, weight_decay=0.0),
        "paper": _PAPER,
        "released": _PAPER,
        "pytorch-port": _PAPER,
    }

    recipe: Literal["default", "paper", "released", "pytorch-port"] = setting(
        "default",
        "optimisation and losses; default: ours, for minutes on a CPU; paper, or its authors' released code (both at "
        "--image-width 416 --image-height 128 there), or its PyTorch port (--frames 5)",
    )
    width: float | None = setting(
        None, "factor on the networks' channels (0.25; the others: 1)", ge=LEAST_WIDTH, le=MOST_WIDTH
    )
    batch_norm: bool | None = setting(
        None, "batch normalisation of all layers but those that show something (paper: yes; the others: no)"
    )
    explainability: float | None = setting(
        None, "weight of the mask's cross-entropy; 0: no mask (lambda e of Eq. 3; paper: 0.2; the others: 0)", ge=0.0
    )
    smoothness: float | None = setting(
        None, "weight of smoothness at full size (lambda s; default: 0.02; pytorch-port: 2; the others: 0.5)", ge=0.0
    )
    smooth: Literal["relative-disparity", "disparity", "depth"] | None = setting(
        None,
        "what is kept small; relative-disparity: first derivatives of disparity over its mean, less at edges of the "
        "image (default); disparity: second derivatives, as in the paper; depth: of depth (pytorch-port)",
    )
    smoothness_falloff: float | None = setting(
        None, "its weight is divided by this at each smaller scale (2; pytorch-port: 2.3)", ge=1.0
    )
    outside: Literal["black", "left-out"] | None = setting(
        None,
        "what a source does not see; black, as the authors' code has it, last row and column included (paper, "
        "released), or left out of the loss (default, pytorch-port)",
    )
    ssim: float | None = setting(
        None,
        "share of structural similarity in the photometric loss, beside differences of colour (default: 0.85; the "
        "others: 0)",
        ge=0.0,
        le=1.0,
    )
    flip: bool | None = setting(
        None, "mirror every other snippet, where images are augmented (default and pytorch-port: yes; the others: no)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.filled["batch_norm"] and self.batch_size == 1:
            raise UserError(
                "batch normalisation needs at least 2 snippets a step; use --batch-size 2 or --no-batch-norm"
            )

    @property
    def filled(self) -> dict[str, Any]:
        """The recipe's figures with what the user chose in their place."""
        chosen = {name: getattr(self, name) for name in FIGURES["default"]}
        return {**FIGURES[self.recipe], **{name: value for name, value in chosen.items() if value is not None}}

    def resolved(self) -> dict[str, Any]:
        return {**super().resolved(), **self.filled}


@dataclass(frozen=True)
class SfMLearnerConfig:
    """Everything that determines the layers."""

    image_size: tuple[int, int] = setting((128, 416), "height and width of the images in pixels")
    frames: int = setting(3, "images of a snippet, one of them the target", ge=2)
    width: float = setting(1.0, "factor on the channels", ge=LEAST_WIDTH, le=MOST_WIDTH)
    batch_norm: bool = setting(False, "batch normalisation")
    explains: bool = setting(False, "whether there is an explainability mask")

    def __post_init__(self) -> None:
        settings.check(self)
        if len(self.image_size) != 2 or min(self.image_size) < 1:
            raise UserError(f"image_size is {self.image_size}; it is a height and a width in pixels")
