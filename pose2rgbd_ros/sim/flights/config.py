"""Every setting of a flight, and each plan's own values for what is not said."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from pose2rgbd_ros import settings
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.settings import setting

Plan = Literal["paper", "lawnmower", "survey", "orbit", "walk", "street", "waypoints"]
# Each plan's own values; what a plan does not use has none.
PLANS: dict[Plan, dict[str, float]] = {
    # Known of the paper's synthetic flight: 300 x 300 m, about 55 m high, all three angles varied by a random
    # factor, always looking towards the city. Speed, spacing, pitch and the size of that factor are our guesses.
    "paper": {
        "altitude_m": 55.0,
        "speed_mps": 8.0,
        "area_m": 300.0,
        "width_m": 300.0,
        "line_spacing_m": 12.0,
        "camera_pitch_deg": 60.0,
        "attitude_jitter_deg": 4.0,
        "wander_m": 0.0,
    },
    "lawnmower": {
        "altitude_m": 55.0,
        "speed_mps": 8.0,
        "area_m": 300.0,
        "width_m": 300.0,
        "line_spacing_m": 15.0,
        "camera_pitch_deg": 60.0,
        "attitude_jitter_deg": 0.5,
        "wander_m": 0.2,
    },
    # The paper's real flight: 260 x 150 m, about 50 m high, gimbal almost at one angle towards the ground, U-shaped
    # passes over some 11 minutes.
    "survey": {
        "altitude_m": 50.0,
        "speed_mps": 5.0,
        "area_m": 260.0,
        "width_m": 150.0,
        "line_spacing_m": 16.0,
        "camera_pitch_deg": 70.0,
        "attitude_jitter_deg": 0.5,
        "wander_m": 0.8,
    },
    "orbit": {
        "altitude_m": 45.0,
        "speed_mps": 6.0,
        "attitude_jitter_deg": 0.5,
        "wander_m": 0.2,
        "radius_m": 60.0,
        "climb_m": 12.0,
    },
    "walk": {
        "altitude_m": 50.0,
        "speed_mps": 6.0,
        "area_m": 300.0,
        "width_m": 300.0,
        "camera_pitch_deg": 50.0,
        "attitude_jitter_deg": 1.5,
        "wander_m": 0.2,
        "climb_m": 15.0,
        "distance_m": 3000.0,
    },
    "street": {
        "altitude_m": 12.0,
        "speed_mps": 4.0,
        "camera_pitch_deg": 15.0,
        "attitude_jitter_deg": 1.0,
        "wander_m": 0.15,
        "distance_m": 2500.0,
    },
    "waypoints": {"speed_mps": 5.0, "camera_pitch_deg": 45.0, "attitude_jitter_deg": 0.5, "wander_m": 0.0},
}
OWN = -1.0  # stands for the plan's own value; ROS parameters know no None


def _own(name: str, help: str, le: float) -> Any:
    """A setting whose value is the plan's own unless it is given; the help names them."""
    values = ", ".join(f"{plan} {own[name]:g}" for plan, own in PLANS.items() if name in own)
    return setting(OWN, f"{help}; -1: {values}", ge=OWN, le=le)


@dataclass(frozen=True)
class FlightConfig:
    """What is flown. A number of -1 is the plan's own value."""

    plan: Plan = setting(
        "paper",
        "paper: dense crossing lines; lawnmower: parallel lines; survey: U-shaped passes; orbit: rising loops around a "
        "point; walk: random; street: low between the buildings; waypoints: from a file",
    )
    altitude_m: float = _own(
        "altitude_m", "height above z = 0 (orbit: of its first loop; street: above the ground)", 2000.0
    )
    speed_mps: float = _own("speed_mps", "speed along the lines, m/s", 30.0)
    area_m: float = _own("area_m", "east-west side of the area flown, centred on the origin", 5000.0)
    width_m: float = _own(
        "width_m", "north-south side of that area; with area_m given, in the plan's proportion to it", 5000.0
    )
    line_spacing_m: float = _own("line_spacing_m", "distance between parallel lines", 1000.0)
    camera_pitch_deg: float = _own(
        "camera_pitch_deg",
        "how far the camera looks down from the body's forward axis; orbit's own is towards its point",
        90.0,
    )
    attitude_jitter_deg: float = _own(
        "attitude_jitter_deg", "standard deviation of the smooth noise on roll, pitch and yaw", 20.0
    )
    wander_m: float = _own("wander_m", "standard deviation of the smooth departure from the plan", 10.0)
    acceleration_mps2: float = setting(2.5, "limit of acceleration, along the way and across it", ge=0.1, le=20.0)
    radius_m: float = _own("radius_m", "orbit: radius of the loops", 2000.0)
    loops: int = setting(6, "orbit: how many", ge=1, le=500)
    climb_m: float = _own(
        "climb_m",
        "orbit: height gained over all loops; walk: heights are drawn from altitude_m to so much above it",
        500.0,
    )
    aim_x_m: float = setting(0.0, "orbit: point looked at and flown around, east", ge=-5000.0, le=5000.0)
    aim_y_m: float = setting(0.0, "orbit: that point, north", ge=-5000.0, le=5000.0)
    aim_z_m: float = setting(5.0, "orbit: that point, up", ge=-1000.0, le=1000.0)
    distance_m: float = _own("distance_m", "how far to fly, about", 200_000.0)
    waypoints: str = setting("", "waypoints: text file of x y z [yaw_deg [pitch_deg]], metres in the map")
    holdout: float = setting(0.2, "share of the lines held out for testing; 0: none", ge=0.0, le=0.5)
    guard_m: float = setting(
        OWN, "frames nearer than this to a held-out frame, and turned alike, are in neither set; -1: 5 m, or half the "
        "distance of neighbouring lines where that is less", ge=OWN, le=100.0,
    )  # fmt: skip
    seed: int = setting(0, "draws the noise, the random plans and the lines held out", ge=0, le=2**31 - 1)


def resolve(config: FlightConfig) -> FlightConfig:
    """The settings with the plan's own values where -1 stood. UserError: a value out of bounds."""
    settings.check(config)
    own = dict(PLANS[config.plan])
    if config.area_m > 0 and "width_m" in own:
        own["width_m"] *= config.area_m / own["area_m"]
    given = {name: value for name, value in own.items() if getattr(config, name) == OWN}
    resolved = dataclasses.replace(config, **given)  # type: ignore[arg-type]
    _check_used(resolved, own)
    return resolved


def _check_used(config: FlightConfig, own: dict[str, float]) -> None:
    """Bounds of what the plan uses: those of the fields leave room for -1."""
    least = {
        "altitude_m": 1.0,
        "speed_mps": 0.2,
        "area_m": 5.0,
        "width_m": 5.0,
        "line_spacing_m": 0.5,
        "radius_m": 2.0,
        "distance_m": 10.0,
    }
    for name in own:
        value, lowest = getattr(config, name), least.get(name, 0.0)
        if value < lowest:
            raise UserError(f"{name} is {value:g}; it must be at least {lowest:g}, or -1 for the plan's own value")
    for name, value in (("camera_pitch_deg", config.camera_pitch_deg), ("guard_m", config.guard_m)):
        if value < 0 and value != OWN:
            raise UserError(f"{name} is {value:g}; it must be at least 0, or -1 for the plan's own value")
