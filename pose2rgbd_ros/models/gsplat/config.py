"""How many splats there are, and what a user may say of their training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pose2rgbd_ros import settings
from pose2rgbd_ros.settings import setting
from pose2rgbd_ros.training.config import Recipe, TrainConfig


@dataclass(frozen=True)
class Settings(TrainConfig):
    """Settings of a training of splats; its loss is the method's own, L1 and D-SSIM."""

    RECIPES: ClassVar[dict[str, Recipe]] = {
        "default": Recipe(
            learning_rate=1e-3,  # the unit of the factors in learner.py
            schedule="cosine",
            warmup=0.0,
            batch_size=1,
            epochs=30,
            weight_decay=0.0,
        )
    }

    splats: int = setting(300_000, "number of splats, 92 bytes each", ge=1, le=20_000_000)


@dataclass(frozen=True)
class GsplatConfig:
    """How many splats there are, and how their colour may change with the direction."""

    splats: int = setting(300_000, "number of splats", ge=1)
    sh_degree: int = setting(1, "degree of the spherical harmonics of a splat's colour", ge=0, le=3)
    output: Literal["rgbd"] = setting("rgbd", "what is shown")

    def __post_init__(self) -> None:
        settings.check(self)
