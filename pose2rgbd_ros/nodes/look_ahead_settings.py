"""The parameters of the render node's look-ahead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pose2rgbd_ros.obstacles.paths import Facing
from pose2rgbd_ros.obstacles.profile import ProfileSettings
from pose2rgbd_ros.settings import setting


@dataclass
class LookAheadSettings:
    """What is looked at ahead of the body; `facing`, `body_frame` and what follows hold for ~/render_path too."""

    mode: Literal["none", "path", "twist"] = setting(
        "none", "look along ~/path, or as far as the twist in ~/odometry carries"
    )
    rate_hz: float = setting(2.0, "how often to look ahead, as far as rendering keeps up", ge=0.01, le=100.0)
    poses: int = setting(16, "how many poses to look at", ge=1, le=256)
    spacing_m: float = setting(
        2.0, "distance between the poses along the path; 0: the path's own poses", ge=0.0, le=1000.0
    )
    horizon_s: float = setting(4.0, "how long the twist is carried on", ge=0.1, le=600.0)
    radius_m: float = setting(1.0, "radius of the body, for conflicts and free distances", ge=0.05, le=50.0)
    with_rgb: bool = setting(False, "publish colour too")
    width: int = setting(
        0,
        "width of the images in pixels, smaller is quicker; 0: as published. Of models of geometry alone: the others "
        "render at one size",
        ge=0,
        le=8192,
    )
    body_frame: str = setting("base_link", "frame whose poses a path holds")
    facing: Facing = setting(
        "auto",
        "which way the body looks along a path: as its poses say, along the path, or auto: along the path where no pose "
        "has an orientation",
    )
    range_m: float = setting(100.0, "largest free distance that is reported", ge=1.0, le=10000.0)
    near_m: float = setting(
        10.0,
        "a ray of unknown depth that leaves the body's way nearer than this does not make the free distance unknown",
        ge=0.1,
        le=100.0,
    )
    unknown_share: float = setting(
        0.0,
        "of the other rays in the body's way, how many may be unknown beside something known that ends it; 0 is the "
        "safe one",
        ge=0.0,
        le=1.0,
    )
    min_known: float = setting(
        0.5, "share of a view that must be known, or its clearance is unknown", ge=0.01, le=1.0
    )
    merged_views: int = setting(
        4, "surfaces in the views of this many poses before and after count for a pose too", ge=0, le=64
    )
    uncalibrated_margin: float = setting(
        0.0,
        "share of the depth that is taken off to bound it, where the model has no calibration; 0: all is unknown then",
        ge=0.0,
        le=0.95,
    )
    chunk_ms: float = setting(
        25.0, "how long poses are rendered at a time, so that live images wait no longer", ge=1.0, le=1000.0
    )

    def profile(self, radius_m: float = 0.0) -> ProfileSettings:
        """Of the profile, for a body of another radius where one is given."""
        return ProfileSettings(
            radius_m or self.radius_m,
            self.range_m,
            self.near_m,
            self.min_known,
            self.merged_views,
            self.unknown_share,
        )
