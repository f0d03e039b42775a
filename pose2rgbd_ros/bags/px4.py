"""Messages of PX4 (px4_msgs): GPS, attitude, odometry and gimbal; north-east-down and w, x, y, z turned into ours.

Recordings without embedded definitions (sqlite3 before Iron) are read by the beginning of each message, which has been
the same since PX4 1.14; what comes after it differs from release to release and is not needed.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from rosbags.typesys import get_types_from_msg

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import aviation
from pose2rgbd_ros.streams.samples import FixSample, GimbalSample, OrientationSample, PoseSample

GPS = "px4_msgs/msg/SensorGps"
ODOMETRY = "px4_msgs/msg/VehicleOdometry"
ATTITUDE = "px4_msgs/msg/VehicleAttitude"
GIMBAL = "px4_msgs/msg/GimbalDeviceAttitudeStatus"
TYPES = (GPS, ODOMETRY, ATTITUDE, GIMBAL)
MAP, ODOM, BODY = "map", "odom", "base_link"
_POSE_FRAME_FRD = 2
_FIX_2D = 2
_LAST_US = 1 << 52  # in the year 2112
# MAVLink's GIMBAL_DEVICE_FLAGS
_YAW_LOCK, _YAW_IN_VEHICLE_FRAME, _YAW_IN_EARTH_FRAME = 16, 32, 64

# The beginning of each message, and how many bytes of CDR that is without the 4 of its header.
_BEGINNINGS = {
    GPS: (
        "uint64 timestamp\nuint64 timestamp_sample\nuint32 device_id\nfloat64 latitude_deg\nfloat64 longitude_deg\n"
        "float64 altitude_msl_m\nfloat64 altitude_ellipsoid_m\nfloat32 s_variance_m_s\nfloat32 c_variance_rad\n"
        "uint8 fix_type\nfloat32 eph\nfloat32 epv\n",
        76,
    ),
    ODOMETRY: (
        "uint64 timestamp\nuint64 timestamp_sample\nuint8 pose_frame\nfloat32[3] position\nfloat32[4] q\n"
        "uint8 velocity_frame\nfloat32[3] velocity\nfloat32[3] angular_velocity\n",
        76,
    ),
    ATTITUDE: ("uint64 timestamp\nuint64 timestamp_sample\nfloat32[4] q\n", 32),
    GIMBAL: (
        "uint64 timestamp\nuint8 target_system\nuint8 target_component\nuint16 device_flags\nfloat32[4] q\n",
        28,
    ),
}


@functools.cache
def beginnings() -> dict[str, Any]:
    """Types that hold the beginnings only, ready to be registered."""
    found: dict[str, Any] = {}
    for name, (text, _) in _BEGINNINGS.items():
        found.update(get_types_from_msg(text, name))
    return found


def beginning_of(data: bytes, msgtype: str) -> bytes:
    """The bytes of a message that the type of :func:`beginnings` covers."""
    return data[: 4 + _BEGINNINGS[msgtype][1]]


def stamp_ns(message: Any) -> int:
    """When it was measured, by the autopilot's clock: since boot, or the computer's where PX4 keeps the two alike.

    0 for a stamp beyond all clocks, of a damaged message.
    """
    stamp_us = int(getattr(message, "timestamp_sample", 0)) or int(message.timestamp)
    return stamp_us * 1000 if stamp_us < _LAST_US else 0


def fix_sample(message: Any, stamp_ns: int) -> FixSample | None:
    """The GNSS position of a SensorGps above the ellipsoid; None without a fix.

    UserError for the layout before PX4 1.14.
    """
    if not hasattr(message, "latitude_deg"):
        raise UserError(f"{GPS} of PX4 before 1.14 is not read; its latitude is an integer")
    if message.fix_type < _FIX_2D:
        return None
    latitude, longitude = float(message.latitude_deg), float(message.longitude_deg)
    if not (abs(latitude) <= 90 and abs(longitude) <= 360):
        raise UserError(
            f"{GPS}: latitude {latitude:g}, longitude {longitude:g}: not the layout of PX4 1.14 or later"
        )
    variance = np.array([message.eph, message.eph, message.epv], dtype=np.float64) ** 2
    return FixSample(
        stamp_ns,
        "",
        latitude,
        longitude,
        float(message.altitude_ellipsoid_m),
        np.diag(np.nan_to_num(variance)),
    )


def pose_sample(message: Any, stamp_ns: int) -> PoseSample:
    """The pose of a VehicleOdometry: in `map` (ENU) where PX4 knows north, else in `odom`. Unknown parts are NaN."""
    if not hasattr(message, "position"):
        raise UserError(f"{ODOMETRY} of PX4 before 1.14 is not read; it has another layout")
    position, quat = np.asarray(message.position, dtype=np.float64), _xyzw(message.q)
    if int(message.pose_frame) == _POSE_FRAME_FRD:
        position, convert, parent = aviation.frd_to_flu(position), aviation.quat_frd_to_flu, ODOM
    else:
        position, convert, parent = aviation.ned_to_enu(position), aviation.quat_ned_frd_to_enu_flu, MAP
    known = np.isfinite(quat).all() and quat.any()
    return PoseSample(stamp_ns, parent, BODY, position, convert(quat) if known else np.full(4, np.nan))


def orientation_sample(message: Any, stamp_ns: int) -> OrientationSample | None:
    """The orientation of the body in ENU of a VehicleAttitude; None when it is not valid."""
    quat = _xyzw(message.q)
    if not (np.isfinite(quat).all() and quat.any()):
        return None
    return OrientationSample(stamp_ns, MAP, BODY, aviation.quat_ned_frd_to_enu_flu(quat))


def gimbal_sample(message: Any, stamp_ns: int) -> GimbalSample | None:
    """How the gimbal is turned; None when it is not valid.

    By MAVLink, roll and pitch count from the horizon, and yaw from north or, by the flags, from the vehicle's heading.
    """
    quat, flags = _xyzw(message.q), int(message.device_flags)
    if not (np.isfinite(quat).all() and quat.any()):
        return None
    earth = bool(flags & _YAW_IN_EARTH_FRAME) or (
        not flags & _YAW_IN_VEHICLE_FRAME and bool(flags & _YAW_LOCK)
    )
    if earth:
        return GimbalSample(stamp_ns, aviation.quat_ned_frd_to_enu_flu(quat), True)
    return GimbalSample(stamp_ns, aviation.quat_frd_to_flu(quat), False)


def _xyzw(q: Any) -> np.ndarray:
    w, x, y, z = (float(value) for value in q)
    return np.array([x, y, z, w])
