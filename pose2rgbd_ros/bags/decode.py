"""rosbags messages of ROS 1 and ROS 2 to samples."""

from __future__ import annotations

from typing import Any

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.streams.samples import (
    CameraInfoSample,
    DepthSample,
    FixSample,
    GimbalSample,
    ImageSample,
    ImuSample,
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
        return np.asarray(
            getattr(message, name) if hasattr(message, name) else getattr(message, name.upper())
        )

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
        stamp_ns,
        frame_name(message.header.frame_id),
        child,
        _xyz(pose.position),
        _xyzw(pose.orientation),
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
