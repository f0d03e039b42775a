"""The settings of importing and exporting, and the formats' names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from pose2rgbd_ros.dataset.encode import DepthFormat
from pose2rgbd_ros.settings import setting

# In the order in which "auto" tries them: a folder of nerfstudio's may hold a COLMAP model as well.
FormatName = Literal["nerfstudio", "tum", "kitti", "euroc", "7scenes", "cambridge", "colmap"]
NAMES = get_args(FormatName)
World = Literal["auto", "x-up", "y-up", "z-up", "x-down", "y-down", "z-down"]
SplitChoice = Literal["own", "training", "none"]


@dataclass(frozen=True)
class ImportConfig:
    """How another tool's dataset becomes one of ours."""

    format: Literal["auto", FormatName] = setting("auto", "the source's format; auto looks at its contents")
    camera: str = setting(
        "",
        "intrinsics where the source has none or wrong ones: 'fx fy cx cy', then 'k1 k2 p1 p2 [k3 [k4 k5 k6]]' where "
        "the lens distorts (pixels, centres at integers)",
    )
    fov_deg: float = setting(0.0, "horizontal field of view, for a source without intrinsics; 0: unknown", ge=0, le=175)
    with_depth: bool = setting(True, "take depth images along where there are some")
    depth_unit_m: float = setting(0.0, "metres of one depth count; 0: as the format says", ge=0)
    depth_tolerance_s: float = setting(0.02, "largest time between an image and its depth", ge=0)
    max_pose_gap_s: float = setting(0.5, "no pose is interpolated over a longer silence", ge=0)
    rate_hz: float = setting(
        0.0, "frames a second of a source without stamps; 0: the format's usual rate", ge=0, le=1e6
    )
    start_s: float = setting(0.0, "stamp of frame 0 of a source without stamps", ge=0, le=9e9)
    scale: float = setting(1.0, "metres of the source's unit of length, where that is no metre", ge=1e-9, le=1e9)
    world: World = setting(
        "auto",
        "which axis of the source's world is vertical, and whether it points up; poses are turned so that z is up. "
        "auto: z-up, but y-down with KITTI",
    )
    outside: bool = setting(False, "take files that lie outside the source's folder, too")
    depth_format: DepthFormat = setting("auto", "how float depth is stored; auto loses no range")
    resume: bool = setting(False, "go on with a dataset that is there, or add a source to it")


@dataclass(frozen=True)
class ExportConfig:
    """How a dataset becomes another tool's."""

    format: FormatName | None = setting(None, "the format to write")
    split: SplitChoice = setting(
        "own",
        "training and test frames: own (the dataset's split.txt, if it has one), training (what our training would "
        "hold out), none",
    )
    with_depth: bool = setting(True, "write depth where the format has a place for it")
    depth_unit_m: float = setting(0.0, "metres of one depth count; 0: what the format's readers expect", ge=0)
    undistort: bool = setting(
        False, "resample images and depth to a pinhole camera, for formats that know no distortion"
    )
    keep_jpeg: bool = setting(False, "leave JPEG images as they are where the format's own are PNG")
    link: bool = setting(False, "hard links in place of copies: no space, but a change of one is one of both")
    points: int = setting(
        50_000,
        "colmap, nerfstudio: points for splats to begin from, of an alignment or else of depth; 0: none",
        ge=0,
        le=10_000_000,
    )
    force: bool = setting(False, "replace an earlier export")
