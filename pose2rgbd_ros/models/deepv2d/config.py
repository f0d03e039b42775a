"""What determines DeepV2D's networks: the preprint's by default, the published code's two as named options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pose2rgbd_ros import settings
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.settings import setting

LEAST_WIDTH, MOST_WIDTH = 1 / 32, 2.0
# Layers by where they were published: the preprint (arXiv 1812.04605v1), the later code as it ran on NYU and on KITTI.
PUBLISHED: dict[str, dict[str, Any]] = {
    "preprint": {},
    "nyu": {"matching": "residual", "hourglasses": 2, "gauss_newton": "code"},
    "kitti": {
        "pooling": "concatenate",
        "matching": "residual",
        "hourglasses": 2,
        "regressor": "all",
        "gauss_newton": "code",
    },
}


@dataclass(frozen=True)
class DeepV2DConfig:
    """Everything that determines the layers. Depths are in the unit that the network is trained in."""

    image_size: tuple[int, int] = setting((192, 1088), "height and width of the images in pixels")
    width: float = setting(1.0, "factor on the channels", ge=LEAST_WIDTH, le=MOST_WIDTH)
    views: int = setting(
        5, "images of a snippet, the target among them; others may be given unless all are read at once", ge=1
    )
    depths: int = setting(32, "planes of the cost volume", ge=2)
    min_depth: float = setting(0.1, "depth of the nearest plane", ge=1e-6)
    max_depth: float = setting(8.0, "depth of the farthest plane", ge=1e-6)
    spacing: Literal["linear", "inverse"] = setting(
        "linear", "equal steps of depth (the paper), or of its inverse (ours)"
    )
    matching: Literal["convolutions", "residual"] = setting(
        "convolutions",
        "what a view's volume passes before pooling: four 3 x 3 x 3 convolutions (preprint), or the code's",
    )
    pooling: Literal["average", "concatenate"] = setting(
        "average", "how views come together; concatenate: of a fixed number, the target among them (code, KITTI)"
    )
    hourglasses: int = setting(1, "3-D hourglasses in a row, each of which shows depth (preprint: 1; code: 2)", ge=1)
    regressor: Literal["pairs", "all"] = setting(
        "pairs", "the first motions are read from the target and one view at a time, or from all views at once"
    )
    stereo: bool = setting(True, "off: depth of the target's image alone (the paper's ablation, Table 3)")
    se3: bool = setting(True, "off: updates of the motion are read from features directly (w/o SE3, Figure 5)")
    gauss_newton: Literal["preprint", "code"] = setting("preprint", "steps and damping of the SE(3) layer")
    norm: Literal["batch", "group"] = setting(
        "batch", "normalisation; group (ours) learns in minutes, and from a batch of one, what batch does not"
    )
    momentum: float = setting(0.005, "share of a batch in the running mean of batch normalisation", ge=1e-4, le=1.0)

    def __post_init__(self) -> None:
        settings.check(self)
        if len(self.image_size) != 2 or min(self.image_size) < 16 or any(side % 4 for side in self.image_size):
            raise UserError(f"image_size is {self.image_size}; height and width are multiples of 4 px, 16 px or more")
        if self.min_depth >= self.max_depth:
            raise UserError(f"min_depth is {self.min_depth:g}; it must be below max_depth, which is {self.max_depth:g}")
