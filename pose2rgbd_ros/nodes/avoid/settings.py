"""The parameters of the avoid node."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.geodesy import Datum
from pose2rgbd_ros.obstacles.surroundings import ScanSettings
from pose2rgbd_ros.settings import profile_setting, setting

FIXED_WHILE_ACTIVE = ("bound", "cloud", "cloud_rgb", "body_frame", "level")


@dataclass
class AvoidSettings:
    """Parameters of the avoid node, and its profile; those of the scan have its name in front: scan.range_max_m."""

    PROFILE: ClassVar = "profile"
    IN_PROFILE: ClassVar = (
        "least_known", "live_timeout_s", "max_odometry_age_s", "max_datum_offset_m", "scan.near_m", "scan.unknown_share"
    )  # fmt: skip

    autostart: bool = setting(
        True, "configure and activate at once; false leaves that to a lifecycle manager", read_only=True
    )
    body_frame: str = setting("base_link", "frame of the body: x forward, y left, z up")
    map_frame: str = setting("map", "frame in which up is known")
    level: bool = setting(True, "scan and distances in the level body frame (only yaw kept); false: in the body's own")
    bound: Literal["lower", "depth"] = setting(
        "lower", "what distances are taken from: the calibrated lower bound of depth, or depth less margin_m"
    )
    margin_m: float = setting(0.0, "taken off every depth (bound: depth, which needs it above 0)", ge=0.0, le=100.0)
    cloud: Literal["lower", "depth"] = setting("lower", "what the points are made of")
    cloud_frame: Literal["camera", "body", "map"] = setting(
        "camera", "frame of the points; rays start at the origin of camera only"
    )
    cloud_every: int = setting(1, "one point, the nearest, per block of this many pixels along each side", ge=1, le=64)
    cloud_rgb: bool = setting(False, "points with colour, from the topic rgb (cloud_every: 1)")
    cloud_marks: bool = setting(
        False,
        "only points of known depth, in one row, with the log-odds of a hit as intensity: marks for a map that no ray "
        "may free",
    )
    radius_m: float = setting(0.5, "radius of the body, for free distance and time to collision", ge=0.01, le=50.0)
    max_age_s: float = setting(0.5, "depth with an older stamp is stale: everything is unknown", ge=0.02, le=60.0)
    least_known: float = setting(0.05, "share of the view; with less known the state is UNKNOWN", ge=0.0, le=1.0)
    live_timeout_s: float = setting(
        0.3, "a live sensor that is silent for longer, or has older stamps, is lost", ge=0.02, le=60.0
    )
    live_range_m: float = setting(10.0, "how far the live depth camera sees at most", ge=0.1, le=600.0)
    max_odometry_age_s: float = setting(
        0.5, "a velocity whose stamp differs more from the depth's is not used", ge=0.01, le=60.0
    )
    model: str = setting(
        "", "folder of the model, to compare its datum with that of the map; empty: not compared", read_only=True
    )
    map_datum: str = setting(
        "", "where the origin of map_frame lies: 'latitude longitude altitude', degrees and metres; empty: not known"
    )
    max_datum_offset_m: float = setting(
        1.0,
        "the model's datum may be this far from that of the map, and twice the standard deviation of one found from "
        "GPS",
        ge=0.0,
        le=1e6,
    )
    profile: str = profile_setting()
    scan: ScanSettings = field(default_factory=ScanSettings)

    @property
    def bound_role(self) -> str:
        """The image that distances are taken from."""
        return "depth_lower" if self.bound == "lower" else "depth"

    def datum(self) -> Datum | None:
        """The datum of the map, where one is given. UserError for words that make none."""
        if not self.map_datum.strip():
            return None
        try:
            latitude, longitude, altitude = (float(word) for word in self.map_datum.replace(",", " ").split())
        except ValueError:
            raise UserError(
                f"map_datum is {self.map_datum!r}; write latitude, longitude and altitude, as in '47.39 8.54 488.0'"
            ) from None
        return Datum(latitude, longitude, altitude)
