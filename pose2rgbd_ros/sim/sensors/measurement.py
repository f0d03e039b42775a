"""What the sensors measure, in plain numpy, with the truth about each measurement."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.sim.state import BodyState

StateAt: TypeAlias = Callable[[float], BodyState]


@dataclass(frozen=True, eq=False)
class Exposure:
    """An image to be rendered: the camera (4, 4) at `true_ns`, the middle of the exposure."""

    true_ns: int
    T_map_cam: Float64


@dataclass(frozen=True, eq=False)
class GpsFix:
    """A position of the antenna on the WGS-84 ellipsoid; covariance (3, 3) in ENU; status -1: no fix, values NaN."""

    latitude_deg: float
    longitude_deg: float
    altitude_m: float
    covariance_m2: Float64
    status: int


@dataclass(frozen=True, eq=False)
class OdometryReading:
    """The pose of the body in `odom` (4, 4) and its twist in the body.

    Covariances (6, 6) are of x, y, z and the turns about them: of the pose in the axes of `odom`, of the twist in the
    body's.
    """

    T_odom_body: Float64
    linear_mps: Float64
    angular_radps: Float64
    pose_covariance: Float64
    twist_covariance: Float64


@dataclass(frozen=True, eq=False)
class ImuReading:
    """Angular velocity and specific force (+9.8 along z at rest), each (3,) in the body; variances are per axis."""

    angular_velocity_radps: Float64
    specific_force_mps2: Float64
    quat_xyzw: Float64 | None  # of the body in the map; None: not measured
    angular_velocity_variance: float
    specific_force_variance: float
    orientation_variance: float


@dataclass(frozen=True)
class PressureReading:
    """Static pressure in Pascal."""

    pressure_pa: float
    variance_pa2: float


Value: TypeAlias = Exposure | GpsFix | OdometryReading | ImuReading | PressureReading


@dataclass(frozen=True, eq=False)
class Measurement:
    """One message of a sensor.

    `true_ns`: when it was measured (of an image: the middle of the exposure). `stamp_ns`: what the sensor's own clock
    says about that. `arrival_ns`: when it arrives, in true time. `fault` names what befell this one, "" nothing;
    `errors` are the numbers of the truth that go with it (measured minus true, biases), by name with unit.
    """

    sensor: str
    true_ns: int
    stamp_ns: int
    arrival_ns: int
    value: Value
    fault: str = ""
    errors: Mapping[str, float] = field(default_factory=dict)


class Sensor(Protocol):
    """A sensor that is asked for one measurement after the other."""

    name: str
    next_true_ns: int

    def take(self, state_at: StateAt) -> Measurement | None:
        """Measure at `next_true_ns` and move on; None: this one was lost."""

    def drawn(self) -> dict[str, object]:
        """The faults that were drawn so far, ready for YAML."""


def named(prefix: str, xyz: Float64, unit: str, axes: Sequence[str] = "xyz") -> dict[str, float]:
    """Three numbers by name: prefix_x_unit and so on."""
    return {f"{prefix}_{axis}_{unit}": float(number) for axis, number in zip(axes, xyz, strict=True)}
