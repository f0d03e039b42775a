"""rosbags messages of ROS 1 and ROS 2 to samples."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from rosbags.typesys import get_types_from_msg

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import geodesy
from pose2rgbd_ros.streams.samples import (
    CameraInfoSample,
    DepthSample,
    FixSample,
    GimbalSample,
    ImageSample,
    ImuSample,
    OrientationSample,
    PoseSample,
    camera_from_info,
)

COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
IMAGE = "sensor_msgs/msg/Image"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
ODOMETRY = "nav_msgs/msg/Odometry"
POSE = "geometry_msgs/msg/PoseStamped"
POSE_WITH_COVARIANCE = "geometry_msgs/msg/PoseWithCovarianceStamped"
TF = "tf2_msgs/msg/TFMessage"
NAV_SAT_FIX = "sensor_msgs/msg/NavSatFix"
IMU = "sensor_msgs/msg/Imu"
QUATERNION = "geometry_msgs/msg/QuaternionStamped"
POSE_TYPES = (ODOMETRY, POSE, POSE_WITH_COVARIANCE)


def header_stamp_ns(header: Any) -> int:
    """The acquisition stamp in nanoseconds; 0 when the publisher left it empty."""
    return int(header.stamp.sec) * 10**9 + int(header.stamp.nanosec)


def frame_name(name: str) -> str:
    """A frame without the leading slash that ROS 1 allowed."""
    return name.strip().lstrip("/")


def image_encoding(message: Any) -> str:
    """The encoding of an Image, the format of a CompressedImage."""
    return str(message.format if message.__msgtype__ == COMPRESSED_IMAGE else message.encoding)


def image_sample(message: Any, stamp_ns: int) -> ImageSample:
    """A colour image. UserError when compressed bytes are no image; raw pixels are looked at when used."""
    frame = frame_name(message.header.frame_id)
    if message.__msgtype__ == COMPRESSED_IMAGE:
        return ImageSample.from_compressed(stamp_ns, frame, message.data.tobytes())
    return ImageSample(
        stamp_ns,
        frame,
        message.encoding,
        message.data,
        int(message.width),
        int(message.height),
        int(message.step),
        bool(message.is_bigendian),
    )


def depth_sample(message: Any, stamp_ns: int) -> DepthSample:
    """A depth image. UserError when it is damaged or of an encoding that is not depth."""
    frame = frame_name(message.header.frame_id)
    if message.__msgtype__ == COMPRESSED_IMAGE:
        return DepthSample.from_compressed(stamp_ns, frame, message.data.tobytes(), message.format)
    return DepthSample.from_image(
        stamp_ns,
        frame,
        message.data,
        message.encoding,
        int(message.height),
        int(message.width),
        int(message.step),
        bool(message.is_bigendian),
    )


def camera_info_sample(message: Any, stamp_ns: int, rectified: bool = False) -> CameraInfoSample:
    """The camera of an image topic; of its rectified image (P instead of K and D) when `rectified`.

    UserError for a distortion model or matrix that is not understood.
    """

    def matrix(name: str) -> np.ndarray:
        # ROS 1 and the first ROS 2 distributions wrote the matrices in upper case.
        return np.asarray(getattr(message, name) if hasattr(message, name) else getattr(message, name.upper()))

    d, k, model = matrix("d"), matrix("k"), message.distortion_model
    if rectified and np.any(matrix("p")):
        d, k, model = np.zeros(0), matrix("p").reshape(3, 4)[:, :3], ""
    roi = message.roi
    camera = camera_from_info(
        int(message.width),
        int(message.height),
        model,
        d,
        k,
        (int(message.binning_x), int(message.binning_y)),
        (int(roi.x_offset), int(roi.y_offset), int(roi.width), int(roi.height)),
    )
    return CameraInfoSample(stamp_ns, frame_name(message.header.frame_id), camera)


def pose_sample(message: Any, stamp_ns: int) -> PoseSample:
    """The pose of an Odometry, PoseStamped or PoseWithCovarianceStamped; the latter two name no child frame ("").

    UserError for another type.
    """
    kind = message.__msgtype__
    if kind not in POSE_TYPES:
        raise UserError(f"a pose cannot be read from {kind}; accepted: {', '.join((*POSE_TYPES, TF))}")
    pose = message.pose if kind == POSE else message.pose.pose
    child = frame_name(message.child_frame_id) if kind == ODOMETRY else ""
    return PoseSample(
        stamp_ns, frame_name(message.header.frame_id), child, _xyz(pose.position), _xyzw(pose.orientation)
    )


def transform_samples(message: Any) -> list[PoseSample]:
    """The transforms of a TFMessage at their own stamps."""
    return [
        PoseSample(
            header_stamp_ns(item.header),
            frame_name(item.header.frame_id),
            frame_name(item.child_frame_id),
            _xyz(item.transform.translation),
            _xyzw(item.transform.rotation),
        )
        for item in message.transforms
    ]


def fix_sample(message: Any, stamp_ns: int) -> FixSample:
    """A GNSS position."""
    return FixSample(
        stamp_ns,
        frame_name(message.header.frame_id),
        float(message.latitude),
        float(message.longitude),
        float(message.altitude),
        np.asarray(message.position_covariance, dtype=np.float64).reshape(3, 3),
    )


def imu_sample(message: Any, stamp_ns: int) -> ImuSample:
    """An inertial measurement. A covariance that begins with -1 says that its quantity was not measured."""
    quat_xyzw = _xyzw(message.orientation)
    oriented = message.orientation_covariance[0] != -1 and np.isfinite(quat_xyzw).all() and quat_xyzw.any()
    return ImuSample(
        stamp_ns,
        frame_name(message.header.frame_id),
        _measured(message.angular_velocity, message.angular_velocity_covariance),
        _measured(message.linear_acceleration, message.linear_acceleration_covariance),
        quat_xyzw if oriented else None,
    )


def gimbal_sample(message: Any, stamp_ns: int) -> GimbalSample | None:
    """How a gimbal is turned in east, north, up, of a QuaternionStamped; None when it is not valid."""
    quat_xyzw = _xyzw(message.quaternion)
    usable = np.isfinite(quat_xyzw).all() and quat_xyzw.any()
    return GimbalSample(stamp_ns, quat_xyzw, True) if usable else None


def _measured(vector: Any, covariance: Any) -> np.ndarray:
    return np.full(3, np.nan) if covariance[0] == -1 else _xyz(vector)


def _xyz(vector: Any) -> np.ndarray:
    return np.array([vector.x, vector.y, vector.z], dtype=np.float64)


def _xyzw(quaternion: Any) -> np.ndarray:
    return np.array([quaternion.x, quaternion.y, quaternion.z, quaternion.w], dtype=np.float64)


# Messages of PX4 (px4_msgs): GPS, attitude, odometry and gimbal; north-east-down and w, x, y, z turned into ours.
#
# Recordings without embedded definitions (sqlite3 before Iron) are read by the beginning of each message, which has
# been the same since PX4 1.14; what comes after it differs from release to release and is not needed.


PX4_GPS = "px4_msgs/msg/SensorGps"
PX4_ODOMETRY = "px4_msgs/msg/VehicleOdometry"
PX4_ATTITUDE = "px4_msgs/msg/VehicleAttitude"
PX4_GIMBAL = "px4_msgs/msg/GimbalDeviceAttitudeStatus"
PX4_TYPES = (PX4_GPS, PX4_ODOMETRY, PX4_ATTITUDE, PX4_GIMBAL)
MAP, ODOM, BODY = "map", "odom", "base_link"
_POSE_FRAME_FRD = 2
_FIX_2D = 2
_LAST_US = 1 << 52  # in the year 2112
# MAVLink's GIMBAL_DEVICE_FLAGS
_YAW_LOCK, _YAW_IN_VEHICLE_FRAME, _YAW_IN_EARTH_FRAME = 16, 32, 64

# The beginning of each message, and how many bytes of CDR that is without the 4 of its header.
_BEGINNINGS = {
    PX4_GPS: (
        "uint64 timestamp\nuint64 timestamp_sample\nuint32 device_id\nfloat64 latitude_deg\nfloat64 longitude_deg\n"
        "float64 altitude_msl_m\nfloat64 altitude_ellipsoid_m\nfloat32 s_variance_m_s\nfloat32 c_variance_rad\n"
        "uint8 fix_type\nfloat32 eph\nfloat32 epv\n",
        76,
    ),
    PX4_ODOMETRY: (
        "uint64 timestamp\nuint64 timestamp_sample\nuint8 pose_frame\nfloat32[3] position\nfloat32[4] q\n"
        "uint8 velocity_frame\nfloat32[3] velocity\nfloat32[3] angular_velocity\n",
        76,
    ),
    PX4_ATTITUDE: ("uint64 timestamp\nuint64 timestamp_sample\nfloat32[4] q\n", 32),
    PX4_GIMBAL: (
        "uint64 timestamp\nuint8 target_system\nuint8 target_component\nuint16 device_flags\nfloat32[4] q\n",
        28,
    ),
}


@functools.cache
def px4_beginnings() -> dict[str, Any]:
    """Types that hold the beginnings only, ready to be registered."""
    found: dict[str, Any] = {}
    for name, (text, _) in _BEGINNINGS.items():
        found.update(get_types_from_msg(text, name))
    return found


def beginning_of(data: bytes, msgtype: str) -> bytes:
    """The bytes of a message that the type of :func:`beginnings` covers."""
    return data[: 4 + _BEGINNINGS[msgtype][1]]


def px4_stamp_ns(message: Any) -> int:
    """When it was measured, by the autopilot's clock: since boot, or the computer's where PX4 keeps the two alike.

    0 for a stamp beyond all clocks, of a damaged message.
    """
    stamp_us = int(getattr(message, "timestamp_sample", 0)) or int(message.timestamp)
    return stamp_us * 1000 if stamp_us < _LAST_US else 0


def px4_fix_sample(message: Any, stamp_ns: int) -> FixSample | None:
    """The GNSS position of a SensorGps above the ellipsoid; None without a fix.

    UserError for the layout before PX4 1.14.
    """
    if not hasattr(message, "latitude_deg"):
        raise UserError(f"{PX4_GPS} of PX4 before 1.14 is not read; its latitude is an integer")
    if message.fix_type < _FIX_2D:
        return None
    latitude, longitude = float(message.latitude_deg), float(message.longitude_deg)
    if not (abs(latitude) <= 90 and abs(longitude) <= 360):
        raise UserError(
            f"{PX4_GPS}: latitude {latitude:g}, longitude {longitude:g}: not the layout of PX4 1.14 or later"
        )
    variance = np.array([message.eph, message.eph, message.epv], dtype=np.float64) ** 2
    return FixSample(
        stamp_ns, "", latitude, longitude, float(message.altitude_ellipsoid_m), np.diag(np.nan_to_num(variance))
    )


def px4_pose_sample(message: Any, stamp_ns: int) -> PoseSample:
    """The pose of a VehicleOdometry: in `map` (ENU) where PX4 knows north, else in `odom`. Unknown parts are NaN."""
    if not hasattr(message, "position"):
        raise UserError(f"{PX4_ODOMETRY} of PX4 before 1.14 is not read; it has another layout")
    position, quat = np.asarray(message.position, dtype=np.float64), _px4_xyzw(message.q)
    if int(message.pose_frame) == _POSE_FRAME_FRD:
        position, convert, parent = geodesy.frd_to_flu(position), geodesy.quat_frd_to_flu, ODOM
    else:
        position, convert, parent = geodesy.ned_to_enu(position), geodesy.quat_ned_frd_to_enu_flu, MAP
    known = np.isfinite(quat).all() and quat.any()
    return PoseSample(stamp_ns, parent, BODY, position, convert(quat) if known else np.full(4, np.nan))


def px4_orientation_sample(message: Any, stamp_ns: int) -> OrientationSample | None:
    """The orientation of the body in ENU of a VehicleAttitude; None when it is not valid."""
    quat = _px4_xyzw(message.q)
    if not (np.isfinite(quat).all() and quat.any()):
        return None
    return OrientationSample(stamp_ns, MAP, BODY, geodesy.quat_ned_frd_to_enu_flu(quat))


def px4_gimbal_sample(message: Any, stamp_ns: int) -> GimbalSample | None:
    """How the gimbal is turned; None when it is not valid.

    By MAVLink, roll and pitch count from the horizon, and yaw from north or, by the flags, from the vehicle's heading.
    """
    quat, flags = _px4_xyzw(message.q), int(message.device_flags)
    if not (np.isfinite(quat).all() and quat.any()):
        return None
    earth = bool(flags & _YAW_IN_EARTH_FRAME) or (not flags & _YAW_IN_VEHICLE_FRAME and bool(flags & _YAW_LOCK))
    if earth:
        return GimbalSample(stamp_ns, geodesy.quat_ned_frd_to_enu_flu(quat), True)
    return GimbalSample(stamp_ns, geodesy.quat_frd_to_flu(quat), False)


def _px4_xyzw(q: Any) -> np.ndarray:
    w, x, y, z = (float(value) for value in q)
    return np.array([x, y, z, w])
