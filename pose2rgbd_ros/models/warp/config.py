"""How many frames are kept and warped, and what a user may say of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pose2rgbd_ros import settings
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.settings import setting
from pose2rgbd_ros.training.config import Recipe, TrainConfig

MOST_FRAMES = 32


@dataclass(frozen=True)
class Settings(TrainConfig):
    """Settings of a "training" of warp-N: the family has none of its own."""

    # Nothing is learnt.
    RECIPES: ClassVar[dict[str, Recipe]] = {
        "default": Recipe(learning_rate=0.0, schedule="fixed", warmup=0.0, batch_size=4, epochs=100, weight_decay=0.0)
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames > MOST_FRAMES:
            raise UserError(
                f"{self.model} warps more frames than the {MOST_FRAMES} there may be; warp-12 is a good choice"
            )

    @property
    def frames(self) -> int:
        """N of warp-N."""
        return int(self.model.removeprefix("warp-"))

    def check_trainable(self, has_depth: bool) -> None:
        if not has_depth:
            raise UserError(f"the dataset has no depth, which {self.model} needs to move pixels; use base or relief")
        if self.output_for(has_depth) != "rgbd":
            raise UserError(f"{self.model} shows colour and depth; leave --output at auto, not {self.output}")


@dataclass(frozen=True)
class WarpConfig:
    """How many frames are kept, of what size, and how many make one view."""

    any_camera: ClassVar[bool] = True
    has_confidence: ClassVar[bool] = False

    frames: int = setting(12, "recorded frames warped into one view", ge=1, le=MOST_FRAMES)
    stored: int = setting(1, "recorded frames kept", ge=1)
    width: int = setting(128, "width of the kept frames in pixels", ge=2)
    height: int = setting(128, "height of the kept frames in pixels", ge=2)
    # Relative depth has a unit of its own; the frames are kept in that of the poses.
    unit_m: float = setting(1.0, "metres in one unit of the dataset's depth", ge=1e-9)
    output: Literal["rgbd"] = setting("rgbd", "what is shown")

    def __post_init__(self) -> None:
        settings.check(self)

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Of what is kept, by its names in a checkpoint."""
        images = (self.stored, self.height, self.width)
        return {"rgb": (*images, 3), "depth": images, "T_map_cam": (self.stored, 4, 4), "intrinsics": (4,)}


# The network by its name in checkpoints.
NETWORK_CONFIGS = {"warp": WarpConfig}
