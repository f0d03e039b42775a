"""What determines DeepV2D's networks: the preprint's by default, the published code's two as named options."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

from pose2rgbd_ros import settings
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.settings import setting
from pose2rgbd_ros.training.config import Recipe, VideoConfig

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
    volume: Literal["features", "difference"] = setting(
        "features",
        "what a view adds to the cost volume: its features (the paper), or their squared difference from the target's "
        "(ours; with pooling average)",
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
    gauss_newton: Literal["preprint", "code", "robust"] = setting(
        "preprint", "steps and damping of the SE(3) layer; robust (ours): what contradicts most others counts less"
    )
    unit_m: float = setting(1.0, "metres in one unit of depth, as it was taught", ge=1e-6)
    typical_depth: float = setting(1.0, "median depth of what it was taught with", ge=1e-6)
    residual_steps: int = setting(3, "steps of the motion module each time it is asked", ge=1)
    iterations: int = setting(2, "times that motions and depth are found from each other, unless asked otherwise", ge=0)
    gain: float = setting(
        1.0,
        "factor on residual flow and motions at sight as they leave their networks; ours: 3, learns sooner",
        ge=1e-3,
    )
    flow: Literal["read", "matched"] = setting(
        "read",
        "residual flow: read from both views' features (the paper), or their best match nearby, corrected so (ours)",
    )
    norm: Literal["batch", "group"] = setting(
        "batch",
        "normalisation; group (ours) learns in minutes, and from a batch of one, what batch does not, and the "
        "flow network has it too",
    )
    momentum: float = setting(0.005, "share of a batch in the running mean of batch normalisation", ge=1e-4, le=1.0)

    def __post_init__(self) -> None:
        settings.check(self)
        if len(self.image_size) != 2 or min(self.image_size) < 16 or any(side % 4 for side in self.image_size):
            raise UserError(f"image_size is {self.image_size}; height and width are multiples of 4 px, 16 px or more")
        if self.volume == "difference" and self.pooling == "concatenate":
            raise UserError("volume difference compares one view at a time; use pooling average")
        if self.min_depth >= self.max_depth:
            raise UserError(f"min_depth is {self.min_depth:g}; it must be below max_depth, which is {self.max_depth:g}")


Stage = Literal["motion", "joint"]
RecipeName = Literal["default", "paper-kitti", "paper-nyu", "released-kitti", "released-nyu"]


@dataclass(frozen=True)
class Losses:
    """What is made small (Eqs. 11-15); None: as the recipe says."""

    depth_error: Literal["absolute", "relative"] | None = setting(
        None, "error of depth: absolute, in units of depth (Eq. 11), or as a share of the true depth (default)"
    )
    smoothness: float = setting(0.02, "slopes of depth where the truth is unknown (lambda_s of Eq. 12)", ge=0.0)
    reprojection_error: Literal["huber", "l1"] | None = setting(
        None, "distance of reprojected points in pixels: huber (Eq. 13), or l1 up to 100 (released code)"
    )
    residual_weight: float = setting(0.01, "what motions leave of the residual flow (lambda_E of Eq. 15)", ge=0.0)
    flow_weight: float | None = setting(
        None,
        "error of the residual flow itself, in pixels, by the true depth and motion (ours: 1; the papers: 0)",
        ge=0.0,
    )
    confidence_weight: float = setting(
        0.01, "log loss of the largest weights, which keeps some at 1 (lambda_w)", ge=0.0
    )
    confident_share: float = setting(
        0.16, "share of the pixels whose weights are these (the code: 2,048, 16 % on KITTI)", ge=1e-3, le=1.0
    )


# What a recipe fills in where the user says nothing. default: ours, for minutes on a CPU. paper-*: the preprint, its
# layers, steps and batches (stage I, stage II). released-*: the later code of its authors. start_noise: of the six
# numbers by which the true motions are disturbed to begin with, in units of depth and radians. unit_m, near_m, far_m:
# None: found from the truth. truth_until: share of the joint stage until which the motion module may be given true
# depth, ever more seldom. Where the papers are silent the figures are the code's.
_KITTI_NOISE, _NYU_NOISE = (0.01, 0.01, 0.05, 0.005, 0.02, 0.005), (0.02,) * 6
FIGURES: dict[str, dict[str, Any]] = {
    "default": {
        "layers": {
            **{"norm": "group", "spacing": "inverse", "volume": "difference", "gain": 3.0},
            **{"flow": "matched", "gauss_newton": "robust"},
        },
        "width": 0.25,
        "unit_m": None,
        "near_m": None,
        "far_m": None,
        "motion_share": 0.3,
        "batches": (4, 4),
        "motion_rate": 1.0,
        "start_noise": (0.02, 0.02, 0.04, 0.01, 0.01, 0.01),
        "own_start": 0.5,
        "true_motions": 0.6,
        "fewest_views": 2,
        "most_views": None,
        "zoom": 1.15,
        "flip": True,
        "depth_error": "relative",
        "reprojection_error": "huber",
        "flow_weight": 1.0,
    },
    "paper-kitti": {
        "layers": PUBLISHED["preprint"],
        "width": 1.0,
        "unit_m": 10.0,
        "near_m": 1.0,
        "far_m": 80.0,
        "motion_share": 20 / 220,
        "batches": (4, 1),
        "motion_rate": 0.1,
        "start_noise": _KITTI_NOISE,
        "own_start": 0.0,
        "true_motions": 0.0,
        "fewest_views": None,
        "most_views": None,
        "zoom": 1.0,
        "flip": False,
        "depth_error": "absolute",
        "reprojection_error": "huber",
        "flow_weight": 0.0,
    },
}
FIGURES["paper-nyu"] = {
    **FIGURES["paper-kitti"],
    **{"unit_m": 1.0, "near_m": 0.2, "far_m": 10.0, "motion_share": 50 / 210, "start_noise": _NYU_NOISE},
    **{"fewest_views": 4, "most_views": 4},
}
FIGURES["released-kitti"] = {
    **FIGURES["paper-kitti"],
    **{"layers": PUBLISHED["kitti"], "motion_share": 16 / 136, "batches": (6, 3), "reprojection_error": "l1"},
}
FIGURES["released-nyu"] = {
    **FIGURES["paper-nyu"],
    **{
        "layers": PUBLISHED["nyu"],
        "motion_share": 20 / 140,
        "batches": (4, 2),
        "reprojection_error": "l1",
        "zoom": 1.2,
    },
}
_CHOICES = (
    *("width", "unit_m", "near_m", "far_m", "motion_share", "motion_rate", "own_start", "true_motions"),
    *("fewest_views", "most_views", "zoom", "flip"),
)


def _fixed(steps: int, batch: int) -> Recipe:
    """Of the papers: a fixed number of steps at a fixed rate."""
    return Recipe(1e-3, "fixed", warmup=0.0, batch_size=batch, epochs=1, weight_decay=5e-5, steps=steps)


@dataclass(frozen=True)
class Settings(VideoConfig):
    """Settings of a training of DeepV2D. None: as the recipe says."""

    supervised: ClassVar[bool] = True
    RECIPES: ClassVar[dict[str, Recipe]] = {
        "default": Recipe(1e-3, "cosine", warmup=0.02, batch_size=4, epochs=60, weight_decay=1e-4),
        "paper-kitti": _fixed(220_000, 4),
        "paper-nyu": _fixed(210_000, 4),
        "released-kitti": _fixed(136_000, 6),
        "released-nyu": _fixed(140_000, 4),
    }

    recipe: RecipeName = setting(
        "default",
        "layers, losses and optimisation; default: ours, for minutes on a CPU; paper-*: the preprint on KITTI "
        "(--image-width 1088 --image-height 192) or NYU (--image-width 640 --image-height 480 --frames 7); released-*: "
        "its authors' later code",
    )
    frames: int = setting(5, "images of a snippet, whose middle one's depth is learnt", ge=2)
    fewest_views: int | None = setting(
        None, "each step takes a number of views, drawn from this on (2; *-nyu: 4; *-kitti: all)", ge=2
    )
    most_views: int | None = setting(None, "and up to this (*-nyu: 4; others: all)", ge=2)
    width: float | None = setting(
        None, "factor on the networks' channels (0.25; the others: 1)", ge=LEAST_WIDTH, le=MOST_WIDTH
    )
    depths: int = setting(32, "planes of the cost volume", ge=2)
    near_m: float | None = setting(None, "depth of the nearest plane (from the truth; paper: 1, NYU 0.2)", ge=1e-3)
    far_m: float | None = setting(None, "depth of the farthest plane (from the truth; paper: 80, NYU 10)", ge=1e-3)
    unit_m: float | None = setting(
        None, "metres that the networks count as one (an eighth of the farthest; paper: 10, NYU 1)", ge=1e-6
    )
    spacing: Literal["linear", "inverse"] | None = setting(
        None, "of the planes: equal steps of depth (paper), or of its inverse (default)"
    )
    hourglasses: int | None = setting(None, "3-D hourglasses in a row (1; the code: 2)", ge=1)
    stereo: bool = setting(True, "off: depth of the target's image alone (the paper's ablation, Table 3)")
    se3: bool = setting(True, "off: updates of the motion are read from features directly (w/o SE3, Figure 5)")
    stage: Literal["all", "motion", "joint"] = setting(
        "all", "what is learnt: motion by true depth, motion and depth by each other; all: one after the other"
    )
    motion_share: float | None = setting(
        None, "share of a run that motion alone takes (0.3; paper: 0.09)", ge=0, le=0.9
    )
    motion_rate: float | None = setting(
        None, "factor on the learning rate of whatever finds motions (1; the others: 0.1)", ge=1e-3, le=10.0
    )
    own_start: float | None = setting(
        None,
        "share of the steps that begin with motions found at sight, not with disturbed true ones (0.5; 0)",
        ge=0,
        le=1,
    )
    true_motions: float | None = setting(
        None,
        "share of the joint steps whose depth is found with the true motions, and all while those found are no better "
        "than standing still (0.6; the others: 0)",
        ge=0,
        le=1,
    )
    zoom: float | None = setting(None, "enlarged by up to this and cropped at random (1.15; paper: 1)", ge=1.0)
    flip: bool | None = setting(None, "mirror every other snippet (default: yes; the others: no)")
    residual_steps: int = setting(3, "steps of the motion module each time it is asked", ge=1)
    iterations: int = setting(2, "times that motions and depth are found from each other where it is judged", ge=0)
    losses: Losses = field(default_factory=Losses)

    def __post_init__(self) -> None:
        super().__post_init__()
        fewest, most = (self.filled[name] for name in ("fewest_views", "most_views"))
        if not fewest <= most <= self.frames:
            raise UserError(
                f"a step takes {fewest} to {most} views of {self.frames} frames; --fewest-views, --most-views and "
                "--frames must be in this order"
            )
        if self.stage == "all" and self.filled["motion_share"] == 0:
            raise UserError("--motion-share 0 leaves no stage of motion; use --stage joint")

    @property
    def shares(self) -> dict[Stage, float]:
        """The stages of this run in their order, and the share of it that each takes."""
        if self.stage != "all":
            return {self.stage: 1.0}
        motion = self.filled["motion_share"]
        return {"motion": motion, "joint": 1 - motion}

    @property
    def filled(self) -> dict[str, Any]:
        """The recipe's figures with what the user chose in their place."""
        chosen = {name: value for name in _CHOICES if (value := getattr(self, name)) is not None}
        layers = {name: value for name in ("spacing", "hourglasses") if (value := getattr(self, name)) is not None}
        figures = {**FIGURES[self.recipe], **chosen}
        views = {name: figures[name] or self.frames for name in ("fewest_views", "most_views")}
        return {**figures, **views, "layers": {**figures["layers"], **layers}}

    @property
    def filled_losses(self) -> Losses:
        """The same of the losses."""
        missing = {each.name for each in fields(Losses) if getattr(self.losses, each.name) is None}
        return replace(self.losses, **{name: FIGURES[self.recipe][name] for name in missing})

    @property
    def leaves_unused(self) -> bool:
        return True

    def resolved(self) -> dict[str, Any]:
        own = {name: self.filled[name] for name in _CHOICES}
        return {**super().resolved(), **own, "losses": settings.to_yaml_dict(self.filled_losses)}
