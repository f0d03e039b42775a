"""WGS-84 latitude, longitude and ellipsoid altitude to and from a local east-north-up frame (pymap3d)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pymap3d
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import quaternions, se3
from pose2rgbd_ros.geometry.arrays import Float64

# Aviation's axes to those of ROS: north-east-down to east-north-up, forward-right-down to forward-left-up.
#
# Autopilots (PX4, ArduPilot) and camera drones (DJI, GoPro) speak the former, everything here the latter (REP-103).


R_ENU_NED: Float64 = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
R_FLU_FRD: Float64 = np.diag([1.0, -1.0, -1.0])
for _matrix in (R_ENU_NED, R_FLU_FRD):
    _matrix.setflags(write=False)
_QUAT_ENU_NED = quaternions.from_matrix(R_ENU_NED)
_QUAT_FLU_FRD = quaternions.from_matrix(R_FLU_FRD)
_QUAT_FLU_OPTICAL = quaternions.from_matrix(se3.T_BODY_OPTICAL[:3, :3])


def ned_to_enu(vector_ned: npt.ArrayLike) -> Float64:
    """Vectors (..., 3) of north, east, down as east, north, up; the same function turns them back."""
    vector = np.asarray(vector_ned, dtype=np.float64)
    return np.stack([vector[..., 1], vector[..., 0], -vector[..., 2]], axis=-1)


def frd_to_flu(vector_frd: npt.ArrayLike) -> Float64:
    """Vectors (..., 3) of forward, right, down as forward, left, up; the same function turns them back."""
    return np.asarray(vector_frd, dtype=np.float64) * [1.0, -1.0, -1.0]


def quat_ned_frd_to_enu_flu(quat_xyzw: npt.ArrayLike) -> Float64:
    """Orientations (..., 4) of an FRD body in NED as those of its FLU axes in ENU; also the way back."""
    return quaternions.multiply(quaternions.multiply(_QUAT_ENU_NED, quat_xyzw), _QUAT_FLU_FRD)


def quat_frd_to_flu(quat_xyzw: npt.ArrayLike) -> Float64:
    """Turns (..., 4) between two FRD frames as those between the same frames with FLU axes; also the way back."""
    return quaternions.multiply(quaternions.multiply(_QUAT_FLU_FRD, quat_xyzw), _QUAT_FLU_FRD)


def gimbal_to_quat_map_cam(yaw_deg: npt.ArrayLike, pitch_deg: npt.ArrayLike, roll_deg: npt.ArrayLike) -> Float64:
    """Orientations (..., 4) of a camera's optical frame in ENU, from a gimbal's angles as DJI writes them into XMP.

    Yaw is clockwise from north, pitch up from the horizon (-90: straight down), roll about the viewing direction,
    right side down; in this order about the axes of NED as they turn. At pitch -90 the top of the image points to
    where yaw does, and roll adds to yaw. UserError for angles that are not finite.
    """
    angles = np.stack(
        np.broadcast_arrays(*(np.asarray(item, dtype=np.float64) for item in (yaw_deg, pitch_deg, roll_deg))), -1
    )
    if not np.isfinite(angles).all():
        raise UserError("a gimbal angle is not a finite number")
    turned = Rotation.from_euler("ZYX", angles.reshape(-1, 3), degrees=True).as_quat()
    quat_enu_flu = quat_ned_frd_to_enu_flu(turned.reshape(*angles.shape[:-1], 4))
    return quaternions.multiply(quat_enu_flu, _QUAT_FLU_OPTICAL)


@dataclass(frozen=True)
class Datum:
    """Where a map's origin lies on Earth: degrees, and metres above the WGS-84 ellipsoid (as in NavSatFix).

    `sigma_m` is its standard deviation (of the distance in space) where the origin was found from GPS; None: it was
    given.
    """

    latitude_deg: float
    longitude_deg: float
    altitude_m: float
    sigma_m: float | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not np.all(np.isfinite([self.latitude_deg, self.longitude_deg, self.altitude_m])):
            raise UserError(f"the datum {self} is not finite; give 0 as altitude where none is known")
        if not (abs(self.latitude_deg) <= 90 and abs(self.longitude_deg) <= 360):
            raise UserError(f"the datum {self} is not on Earth; latitude first, then longitude, in degrees")

    def __str__(self) -> str:
        """In words, for messages; the last digit is a centimetre."""
        return f"latitude {self.latitude_deg:.7f}, longitude {self.longitude_deg:.7f}, altitude {self.altitude_m:.2f} m"

    def to_dict(self) -> dict[str, float]:
        """Plain values for YAML."""
        return {key: float(value) for key, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Datum:
        """The inverse of `to_dict`. UserError when a key is missing or no number."""
        try:
            latitude, longitude, altitude = (
                float(values[key]) for key in ("latitude_deg", "longitude_deg", "altitude_m")
            )
            sigma = values.get("sigma_m")
            return cls(latitude, longitude, altitude, None if sigma is None else float(sigma))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"a datum needs latitude_deg, longitude_deg and altitude_m as numbers: {error}") from error


def wgs84_to_enu(
    latitude_deg: npt.ArrayLike, longitude_deg: npt.ArrayLike, altitude_m: npt.ArrayLike, datum: Datum
) -> Float64:
    """Positions (..., 3), metres east, north and up of `datum`, inputs broadcast.

    A NaN altitude ("none" in NavSatFix) gives NaN up, and east and north as if at the altitude of the datum. A fix
    whose latitude or longitude is NaN gives NaN throughout.
    """
    lat, lon, alt = np.broadcast_arrays(
        *(np.asarray(value, dtype=np.float64) for value in (latitude_deg, longitude_deg, altitude_m))
    )
    unknown = np.isnan(alt)
    east, north, up = pymap3d.geodetic2enu(
        lat, lon, np.where(unknown, datum.altitude_m, alt), datum.latitude_deg, datum.longitude_deg, datum.altitude_m
    )
    return np.stack([east, north, np.where(unknown, np.nan, up)], axis=-1)


def enu_to_wgs84(position_enu_m: npt.ArrayLike, datum: Datum) -> tuple[Float64, Float64, Float64]:
    """Latitude and longitude in degrees and ellipsoid altitude in metres, each (...), of positions (..., 3)."""
    enu = np.asarray(position_enu_m, dtype=np.float64)
    if enu.ndim == 0 or enu.shape[-1] != 3:
        raise UserError(f"ENU positions have shape (..., 3), not {enu.shape}")
    x, y, z = pymap3d.enu2ecef(
        enu[..., 0], enu[..., 1], enu[..., 2], datum.latitude_deg, datum.longitude_deg, datum.altitude_m
    )
    lat, lon, alt = (np.asarray(value, dtype=np.float64) for value in pymap3d.ecef2geodetic(x, y, z))
    # pymap3d's closed form (You 2000) is off by up to 0.2 mm at 100 km; Newton steps along the meridian and the
    # vertical remove that. The longitude is exact.
    for _ in range(2):
        _, north, up = pymap3d.ecef2enu(x, y, z, lat, lon, alt)
        step = np.rad2deg(np.asarray(north) / (pymap3d.rcurve.meridian(lat) + alt))
        lat, alt = np.asarray(np.clip(lat + step, -90.0, 90.0)), np.asarray(alt + up)
    return lat, lon, alt
