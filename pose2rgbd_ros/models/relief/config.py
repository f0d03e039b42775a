"""What determines a relief network's tensors (:class:`ReliefConfig`) and what a user may say of one (:class:`ReliefSettings`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from pose2rgbd_ros import settings
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.models.relief.scene_box import SceneBox, SceneBoxSettings
from pose2rgbd_ros.settings import setting

DIRECT_CHANNELS = 3  # the first channels of the features are colour already
LARGE_IMAGE_PX = 256  # from here on the shader takes 4 x 4 pixels together
# The coarse feature volume, which alone tells the storeys of a wall apart, holds this share of the values of the finest
# map, and its cells are at most so many of the occupancy's.
COARSE_SHARE, MOST_COARSE = 0.25, 4.0


@dataclass(frozen=True)
class ReliefSettings:
    """Settings of a relief in a training run; what is left out follows from the flight."""

    box: SceneBoxSettings = field(default_factory=SceneBoxSettings)
    tiles: str = setting(
        "1",
        "volumes side by side: a number, rows and columns (2x3), or auto: one, and more where that would be far "
        "above box.model_mb (every tile has its share of the training time)",
    )
    channels: int = setting(8, "features a texel of the ground-plane map holds", ge=3)
    coarse_channels: int = setting(8, "features a cell of the coarse volume holds", ge=3)
    width: int = setting(32, "channels of the shader's hidden layers", ge=4)
    unshuffle: int | None = setting(
        None,
        "pixels per side that the shader takes together (2; 4 for images of 256 pixels or more)",
        ge=1,
        le=8,
    )
    start: bool = setting(True, "start from the training depth and colour fused into the volume")
    depth_weight: float = setting(0.02, "weight of the depth error, per metre", ge=0.0)
    occupancy_weight: float = setting(0.1, "weight of the cross entropy of free and occupied samples", ge=0.0)
    depth: Literal["auto", "recorded", "pictures"] = setting(
        "auto",
        "what tells the geometry: recorded depth (relative depth is scaled), or the pictures and poses alone; "
        "auto: recorded where there is any",
    )
    ground_m: float | None = setting(
        None, "height of the ground, where the pictures tell the geometry (they tell it too)"
    )
    exposure: bool = setting(
        False, "learn how light differed from frame to frame; rendered is the average light"
    )
    refine_poses: bool = setting(False, "learn small corrections of the training poses")
    crop: int = setting(128, "side of the patches a step trains on, where images are larger", ge=16)


@dataclass(frozen=True)
class ReliefConfig:
    """The tensors of a relief, and where its volume lies."""

    output: Literal["rgb", "rgbd"] = setting("rgbd", "what the network predicts")
    origin_m: tuple[float, ...] = setting((0.0, 0.0, 0.0), "corner of the volume in the map")
    quat_xyzw: tuple[float, ...] = setting(
        (0.0, 0.0, 0.0, 1.0), "axes of the volume in the map; z to the cameras"
    )
    layers: int = setting(8, "occupancy layers", ge=2)
    rows: int = setting(8, "occupancy vertices along y", ge=2)
    columns: int = setting(8, "occupancy vertices along x", ge=2)
    cell_m: float = setting(1.0, "distance of vertices along x and y", ge=1e-6)
    layer_m: float = setting(1.5, "distance of layers", ge=1e-6)
    feature_m: float = setting(0.5, "texel of the finest feature map", ge=1e-6)
    levels: int = setting(4, "feature maps, each of twice the texel of the one before", ge=1, le=12)
    channels: int = setting(8, "features of a texel", ge=3)
    coarse_cell_m: float = setting(2.0, "cell of the coarse feature volume along x and y", ge=1e-6)
    coarse_layer_m: float = setting(3.0, "cell of the coarse feature volume along z", ge=1e-6)
    coarse_channels: int = setting(8, "features of a coarse cell", ge=3)
    width: int = setting(32, "channels of the shader's hidden layers", ge=4)
    unshuffle: int = setting(2, "pixels per side that the shader takes together", ge=1, le=8)
    depth_scale_m: float = setting(50.0, "typical depth, for the shader's inputs", ge=1e-6)
    unit_m: float = setting(
        1.0, "metres in one unit of the dataset's depth (relative depth has its own)", ge=1e-9
    )

    def __post_init__(self) -> None:
        settings.check(self)
        # YAML gives lists; a camera's pose needs them as they were.
        object.__setattr__(self, "origin_m", tuple(float(value) for value in self.origin_m))
        object.__setattr__(self, "quat_xyzw", tuple(float(value) for value in self.quat_xyzw))

    @property
    def T_map_vol(self) -> Float64:
        """Pose (4, 4) of the volume's frame."""
        return se3.make(self.origin_m, self.quat_xyzw)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Layers, rows, columns of the occupancy logits."""
        return self.layers, self.rows, self.columns

    @property
    def step_m(self) -> tuple[float, float, float]:
        """Distance of vertices along x, y, z."""
        return self.cell_m, self.cell_m, self.layer_m

    @property
    def size_m(self) -> tuple[float, float, float]:
        """Extent along x, y, z."""
        return (
            (self.columns - 1) * self.cell_m,
            (self.rows - 1) * self.cell_m,
            (self.layers - 1) * self.layer_m,
        )

    def texel_m(self, level: int) -> float:
        """Texel of a feature map."""
        return self.feature_m * 2.0**level

    def map_shape(self, level: int) -> tuple[int, int]:
        """Rows and columns of a feature map, whose first texel is at the volume's origin."""
        x, y, _ = self.size_m
        return int(-(-y // self.texel_m(level))) + 2, int(-(-x // self.texel_m(level))) + 2

    @property
    def coarse_shape(self) -> tuple[int, int, int]:
        """Layers, rows and columns of the coarse feature volume."""
        x, y, z = self.size_m
        return (
            int(-(-z // self.coarse_layer_m)) + 2,
            int(-(-y // self.coarse_cell_m)) + 2,
            int(-(-x // self.coarse_cell_m)) + 2,
        )


def relief_config(
    box: SceneBox,
    chosen: ReliefSettings,
    output: Literal["rgb", "rgbd"],
    depth_scale_m: float,
    unit_m: float = 1.0,
    image_px: int = 128,
) -> ReliefConfig:
    """The network for a box; `unit_m` metres are one unit of the dataset's depth, `image_px` the side of its images."""
    position_m, quat_xyzw = se3.split(box.T_map_vol)
    layers, rows, columns = box.shape
    coarser = coarse_factor(box, chosen)
    return ReliefConfig(
        output=output,
        origin_m=tuple(position_m),
        quat_xyzw=tuple(quat_xyzw),
        layers=layers,
        rows=rows,
        columns=columns,
        cell_m=box.cell_m,
        layer_m=box.layer_m,
        feature_m=box.feature_m,
        channels=chosen.channels,
        coarse_cell_m=coarser * box.cell_m,
        coarse_layer_m=max(1.0, coarser / 2) * box.layer_m,
        coarse_channels=chosen.coarse_channels,
        width=chosen.width,
        unshuffle=chosen.unshuffle or (4 if image_px >= LARGE_IMAGE_PX else 2),
        depth_scale_m=depth_scale_m,
        unit_m=unit_m,
    )


def coarse_factor(box: SceneBox, chosen: ReliefSettings) -> float:
    """How many occupancy cells are one of the coarse volume along x and y: as few as COARSE_SHARE allows, 1 at least."""
    values = chosen.coarse_channels * float(np.prod(box.shape))
    allowed = COARSE_SHARE * chosen.channels * float(np.prod(box.feature_shape))
    return float(np.clip((2 * values / allowed) ** (1 / 3), 1.0, MOST_COARSE))
