"""What determines the networks' tensors, and what a user may say of a training of TrianFlow or of its baselines."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

from pose2rgbd_ros import settings
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.settings import setting
from pose2rgbd_ros.training.config import Recipe, VideoConfig

Stage = Literal["flow", "depth", "joint"]
RecipeName = Literal["default", "kitti-raw", "kitti-odometry", "nyu"]
# The stages of a model in their order.
STAGES: dict[str, tuple[Stage, ...]] = {
    "trianflow": ("flow", "depth", "joint"),
    "posenet-video": ("depth",),
    "posenet-flow": ("flow", "depth"),
}
FLOW_SETTINGS = ("flow", "stage", "flow_share", "centred")  # mean nothing to posenet-video
GEOMETRY_SETTINGS = ("align", "two_views", "depth", "joint", "joint_share")  # mean nothing to both baselines
# Of a run through several stages, how they share it: ours; the paper gives each as many steps.
SHARES: dict[Stage, float] = {"flow": 0.6, "depth": 0.4, "joint": 0.0}
# Where the falling rate of our recipe stands when all begin to learn together: at a tenth, for a new peak would undo
# the flow that depth was learnt by.
JOINT_FROM = 0.8


@dataclass(frozen=True)
class DepthWeights:
    """Weights of the losses of a stage in which depth is learnt; None: as the recipe says."""

    geometric: float | None = setting(
        None, "distance of the flow from epipolar lines, where it nearly obeys them; moves flow", ge=0.0
    )
    triangulation: float | None = setting(None, "depth beside triangulated points (L_d)", ge=0.0)
    reprojection: float | None = setting(None, "depth of one image beside that of the other (L_p)", ge=0.0)
    rigid_flow: float | None = setting(None, "flow beside that of depth and motion; moves flow", ge=0.0)
    smoothness: float | None = setting(None, "slopes of disparity where the image has none (L_s)", ge=0.0)


# The authors' figures by recipe and stage; those of the default are ours.
WEIGHTS: dict[str, dict[str, DepthWeights]] = {
    "default": {"depth": DepthWeights(0.0, 1.0, 0.1, 0.0, 0.001), "joint": DepthWeights(0.01, 1.0, 0.1, 0.01, 0.001)},
    "kitti-raw": {"depth": DepthWeights(1.0, 1.0, 0.1, 0.0, 0.001), "joint": DepthWeights(0.002, 0.0, 0.0, 0.01, 0.0)},
    "kitti-odometry": {
        "depth": DepthWeights(0.1, 1.0, 0.1, 0.0, 0.0001),
        "joint": DepthWeights(0.002, 0.0, 0.0, 0.01, 0.0),
    },
    "nyu": {"depth": DepthWeights(0.0, 1.0, 0.1, 0.0, 0.0001), "joint": DepthWeights(0.1, 0.1, 0.01, 0.01, 0.0001)},
}


@dataclass(frozen=True)
class FlowLoss:
    """How flow is learnt from images; weights without a remark are the supplement's (Eq. 9)."""

    ssim: float = setting(0.85, "share of SSIM in the photometric loss (alpha), the rest is the difference", ge=0, le=1)
    smoothness: float | None = setting(
        None, "weight of the smoothness of flow (beta; 0.1 of first order, of second order 10 as in the code)", ge=0.0
    )
    order: Literal["first", "second"] = setting(
        "first", "derivatives of flow that smoothness makes small; first: the supplement's; second: the code's"
    )
    masks_from: float | None = setting(
        None,
        "share of the stage of flow from which on only what is seen in both images and returns counts; before, flow "
        "that does not fit yet would mask itself (0.4; the paper's recipes: 0)",
        ge=0.0,
        le=1.0,
    )
    consistency_px: float = setting(3.0, "there and back may end so far from where it began", ge=0.0)
    consistency_share: float = setting(0.05, "or as far as this share of the flow's length", ge=0.0, le=1.0)

    @property
    def weight(self) -> float:
        """Of the smoothness."""
        if self.smoothness is not None:
            return self.smoothness
        return 0.1 if self.order == "first" else 10.0


@dataclass(frozen=True)
class TwoViewSettings:
    """How the motion between two images follows from flow; None: as the recipe says."""

    estimator: Literal["ransac", "lmeds", "magsac"] | None = setting(
        None, "how the fundamental matrix is found (magsac, for flow that is not exact; the paper: ransac, nyu: lmeds)"
    )
    matches: int | None = setting(None, "drawn of each pair (3,000; the paper: 6,000)", ge=100)
    threshold_px: float | None = setting(
        None, "distance from its epipolar line that a match may have (0.3; the paper: 0.1)", ge=1e-3
    )
    rigid_px: float | None = setting(
        None, "what is farther from its epipolar line moves by itself (0.5; recipe nyu: 1)", ge=0.0
    )


TWO_VIEWS = {
    "default": TwoViewSettings("magsac", 3000, 0.3, 0.5),
    "kitti-raw": TwoViewSettings("ransac", 6000, 0.1, 0.5),
    "kitti-odometry": TwoViewSettings("ransac", 6000, 0.1, 0.5),
    "nyu": TwoViewSettings("lmeds", 6000, 0.1, 1.0),
}


@dataclass(frozen=True)
class PoseNetWeights:
    """Weights of the baselines' losses; None: as the recipe says."""

    photometric: float | None = setting(None, "posenet-*: image as the other one shows it", ge=0.0)
    consistency: float | None = setting(None, "posenet-*: depth of one image beside that of the other", ge=0.0)
    smoothness: float | None = setting(None, "posenet-*: slopes of disparity where the image has none", ge=0.0)


@dataclass(frozen=True)
class Losses:
    """What is made small, by stage."""

    flow: FlowLoss = field(default_factory=FlowLoss)
    depth: DepthWeights = field(default_factory=DepthWeights)
    joint: DepthWeights = field(default_factory=DepthWeights)
    posenet: PoseNetWeights = field(default_factory=PoseNetWeights)
    two_views: TwoViewSettings = field(default_factory=TwoViewSettings)


POSENET_WEIGHTS = {
    "default": PoseNetWeights(1.0, 0.1, 0.001),
    "kitti-raw": PoseNetWeights(0.5, 0.1, 1e-4),
    "kitti-odometry": PoseNetWeights(0.5, 0.1, 1e-4),
    "nyu": PoseNetWeights(10.0, 0.5, 1e-5),
}


# The authors': a fixed rate, as many steps for each stage; those of all stages together. Ours is for minutes on a CPU.
_OURS = Recipe(learning_rate=1e-3, schedule="cosine", warmup=0.02, batch_size=4, epochs=60, weight_decay=0.0)
_KITTI = Recipe(1e-4, "fixed", warmup=0.0, batch_size=8, epochs=1, weight_decay=0.0, steps=600_000)


@dataclass(frozen=True)
class Settings(VideoConfig):
    """Settings of a training of TrianFlow, or of its depth network beside a PoseNet."""

    RECIPES: ClassVar[dict[str, Recipe]] = {
        "default": _OURS,
        "kitti-raw": _KITTI,
        "kitti-odometry": _KITTI,
        "nyu": replace(_KITTI, steps=1_200_000),
    }

    recipe: RecipeName = setting(
        "default",
        "optimisation and weights of the losses; default: ours, for minutes on a CPU; the others: the paper's",
    )
    frames: int = setting(2, "images of a snippet: a pair, whose first one is the target", ge=2, le=2)
    zoom: float = setting(1.0, "enlarged by up to this, in x and y independently, and cropped at random", ge=1.0)
    flip: bool = setting(True, "mirrored, every other one (the paper: on KITTI)")
    width: float = setting(1.0, "factor on the networks' channels", ge=1 / 32, le=4.0)
    stage: Literal["all", "flow", "depth", "joint"] = setting(
        "all", "what is learnt: flow, depth by it, both together; all: one after the other in one run"
    )
    align: bool = setting(True, "take depth to the scale of the triangulated points (off: the ablation of section A)")
    flow_share: float | None = setting(
        None,
        "share of a run that flow takes, where depth follows (0.6; the paper's recipes: all alike)",
        ge=0.01,
        le=0.9,
    )
    joint_share: float | None = setting(
        None,
        "share of a run that all together take at its end (0: none; the paper's recipes: all alike)",
        ge=0.0,
        le=0.9,
    )
    centred: bool | None = setting(
        None,
        "flow is looked for in colours and features of zero mean and unit spread; it learns several times faster "
        "(the paper's recipes: no)",
    )
    depth_rate: float | None = setting(
        None, "factor on the learning rate of the depth network (0.2; the paper's recipes: 1)", ge=1e-3, le=10.0
    )
    trianflow: Losses = field(default_factory=Losses)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stage != "all" and self.stage not in STAGES[self.model]:
            known = ", ".join(STAGES[self.model])
            raise UserError(f"{self.model} has no stage {self.stage}; its stages: {known}")
        if any(part <= 0 for part in self.shares.values()):
            raise UserError("--flow-share and --joint-share leave nothing of the run for depth; make them less than 1")

    @property
    def shares(self) -> dict[Stage, float]:
        """The stages of this run in their order, and the share of it that each takes; together 1."""
        stages = STAGES[self.model] if self.stage == "all" else (self.stage,)
        ours = self.recipe == "default" and len(stages) > 1
        parts = {stage: SHARES[stage] if ours else 1.0 for stage in stages}
        if (
            len(parts) > 1
            and "joint" in parts
            and (parts["joint"] if self.joint_share is None else self.joint_share) == 0
        ):
            del parts["joint"]
        whole = sum(parts.values())
        parts = {stage: part / whole for stage, part in parts.items()}
        given = {"flow": self.flow_share, "joint": self.joint_share}
        fixed = {stage: part for stage in parts if len(parts) > 1 and (part := given.get(stage)) is not None}
        rest = sum(part for stage, part in parts.items() if stage not in fixed)
        left = 1 - sum(fixed.values())
        return {stage: fixed.get(stage, part * left / rest) for stage, part in parts.items()}

    @property
    def is_centred(self) -> bool:
        return self.recipe == "default" if self.centred is None else self.centred

    @property
    def leaves_unused(self) -> bool:
        return True

    @property
    def depth_factor(self) -> float:
        """On the learning rate of the depth network."""
        if self.depth_rate is not None:
            return self.depth_rate
        return 0.2 if self.recipe == "default" else 1.0

    @property
    def filled(self) -> Losses:
        """What was chosen, with the figures of the recipe where the user said nothing."""
        chosen, recipe = self.trianflow, self.recipe
        return replace(
            chosen,
            flow=_filled(chosen.flow, FlowLoss(masks_from=0.4 if recipe == "default" else 0.0)),
            depth=_filled(chosen.depth, WEIGHTS[recipe]["depth"]),
            joint=_filled(chosen.joint, WEIGHTS[recipe]["joint"]),
            posenet=_filled(chosen.posenet, POSENET_WEIGHTS[recipe]),
            two_views=_filled(chosen.two_views, TWO_VIEWS[recipe]),
        )

    def uses(self, name: str) -> bool:
        own = name.removeprefix("trianflow.").partition(".")[0]
        if self.model == "trianflow":
            return own != "posenet"
        return own not in GEOMETRY_SETTINGS and (self.model == "posenet-flow" or own not in FLOW_SETTINGS)

    def resolved(self) -> dict[str, Any]:
        """With figures, whatever they came from."""
        own = {"centred": self.is_centred, "depth_rate": self.depth_factor}
        return {**super().resolved(), **own, "trianflow": settings.to_yaml_dict(self.filled)}


def _filled(chosen: Any, defaults: Any) -> Any:
    """What was chosen, and the defaults for the rest."""
    missing = {each.name: getattr(defaults, each.name) for each in fields(chosen) if getattr(chosen, each.name) is None}
    return replace(chosen, **missing)


@dataclass(frozen=True)
class TrianFlowConfig:
    """Everything that determines the layers of flow and depth, and the images they were trained with."""

    width: float = setting(1.0, "factor on the number of channels", ge=1 / 32, le=4.0)
    image_size: tuple[int, int] = setting((256, 832), "height and width of the images in pixels")
    centred: bool = setting(
        False, "the flow network takes colours, and compares features, of zero mean and unit spread (ours)"
    )
    nearest: float = setting(0.1, "least depth that can be said", ge=1e-6)
    farthest: float = setting(100.0, "greatest depth that can be said", ge=1e-6)

    def __post_init__(self) -> None:
        settings.check(self)


@dataclass(frozen=True)
class PoseNetVideoConfig(TrianFlowConfig):
    """The same of the baselines."""

    nearest: float = setting(0.01, "least depth that can be said", ge=1e-6)
    farthest: float = setting(80.0, "greatest depth that can be said", ge=1e-6)
    sees: Literal["images", "flow"] = setting("images", "what the motion is read from")
