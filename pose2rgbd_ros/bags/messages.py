"""rosbags messages from plain numpy: what a drone's recording holds, for ROS 1 and ROS 2 alike.

Stamps are in nanoseconds, lengths in metres, quaternions xyzw, angles in radians.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from pose2rgbd_ros.bags.reader import typestore
from pose2rgbd_ros.errors import UserError

# Encoding of sensor_msgs/Image -> (dtype, channels)
RAW_ENCODINGS = {
    "rgb8": (np.uint8, 3),
    "bgr8": (np.uint8, 3),
    "rgba8": (np.uint8, 4),
    "bgra8": (np.uint8, 4),
    "mono8": (np.uint8, 1),
    "mono16": (np.uint16, 1),
    "16UC1": (np.uint16, 1),
    "32FC1": (np.float32, 1),
    "64FC1": (np.float64, 1),
}


class StampedTransform(NamedTuple):
    """The pose of `child_frame` in `parent_frame`, as TF says it."""

    stamp_ns: int
    parent_frame: str
    child_frame: str
    position_m: Sequence[float]
    quat_xyzw: Sequence[float]


class MessageFactory:
    """Makes messages of one ROS generation ("1" or "2")."""

    def __init__(self, ros: str = "2") -> None:
        self.ros = ros
        self.store = typestore(ros)

    def new(self, msgtype: str, **fields: Any) -> Any:
        """A message of any type in the store, e.g. new("geometry_msgs/msg/Vector3", x=..., y=..., z=...)."""
        return self.store.types[msgtype](**fields)

    def header(self, stamp_ns: int, frame_id: str) -> Any:
        """std_msgs/Header."""
        sequence = {"seq": 0} if self.ros == "1" else {}
        return self.new("std_msgs/msg/Header", stamp=self._time(stamp_ns), frame_id=frame_id, **sequence)

    def _time(self, stamp_ns: int) -> Any:
        seconds, nanoseconds = divmod(int(stamp_ns), 10**9)
        return self.new("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)

    def clock(self, stamp_ns: int) -> Any:
        """rosgraph_msgs/Clock."""
        return self.new("rosgraph_msgs/msg/Clock", clock=self._time(stamp_ns))

    def image(self, stamp_ns: int, frame_id: str, pixels: np.ndarray, encoding: str) -> Any:
        """sensor_msgs/Image of `pixels` (H, W) or (H, W, C), little-endian. UserError unless it fits `encoding`."""
        if encoding not in RAW_ENCODINGS:
            raise UserError(f"image encoding {encoding!r} cannot be written; known: {', '.join(RAW_ENCODINGS)}")
        dtype, channels = RAW_ENCODINGS[encoding]
        height, width = pixels.shape[:2]
        if pixels.dtype != dtype or pixels.size != height * width * channels:
            raise UserError(f"{encoding} cannot hold {pixels.dtype} pixels of shape {pixels.shape}")
        little = np.ascontiguousarray(pixels, dtype=np.dtype(dtype).newbyteorder("<"))
        return self.new(
            "sensor_msgs/msg/Image",
            header=self.header(stamp_ns, frame_id),
            height=height,
            width=width,
            encoding=encoding,
            is_bigendian=0,
            step=little.nbytes // height,
            data=little.reshape(-1).view(np.uint8),
        )

    def compressed_image(self, stamp_ns: int, frame_id: str, data: bytes, format: str = "jpeg") -> Any:
        """sensor_msgs/CompressedImage of ready-made bytes: JPEG, PNG, or what `encode_compressed_depth` returns."""
        return self.new(
            "sensor_msgs/msg/CompressedImage",
            header=self.header(stamp_ns, frame_id),
            format=format,
            data=np.frombuffer(data, dtype=np.uint8),
        )

    def camera_info(
        self,
        stamp_ns: int,
        frame_id: str,
        width: int,
        height: int,
        K: np.ndarray,
        distortion_model: str = "plumb_bob",
        distortion: Sequence[float] = (),
    ) -> Any:
        """sensor_msgs/CameraInfo of an unrectified camera: `K` (3, 3), R = identity, P = [K | 0]."""
        K = np.asarray(K, dtype=np.float64).reshape(3, 3)
        matrices = {
            "d": np.asarray(distortion, dtype=np.float64),
            "k": K.reshape(-1),
            "r": np.eye(3).reshape(-1),
            "p": np.hstack([K, np.zeros((3, 1))]).reshape(-1),
        }
        if self.ros == "1":
            matrices = {name.upper(): value for name, value in matrices.items()}
        roi = self.new("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
        return self.new(
            "sensor_msgs/msg/CameraInfo",
            header=self.header(stamp_ns, frame_id),
            height=height,
            width=width,
            distortion_model=distortion_model,
            binning_x=0,
            binning_y=0,
            roi=roi,
            **matrices,
        )

    def pose(self, position_m: Sequence[float], quat_xyzw: Sequence[float]) -> Any:
        """geometry_msgs/Pose."""
        x, y, z = map(float, position_m)
        qx, qy, qz, qw = map(float, quat_xyzw)
        return self.new(
            "geometry_msgs/msg/Pose",
            position=self.new("geometry_msgs/msg/Point", x=x, y=y, z=z),
            orientation=self.new("geometry_msgs/msg/Quaternion", x=qx, y=qy, z=qz, w=qw),
        )

    def pose_stamped(
        self, stamp_ns: int, frame_id: str, position_m: Sequence[float], quat_xyzw: Sequence[float]
    ) -> Any:
        """geometry_msgs/PoseStamped."""
        return self.new(
            "geometry_msgs/msg/PoseStamped",
            header=self.header(stamp_ns, frame_id),
            pose=self.pose(position_m, quat_xyzw),
        )

    def _pose_with_covariance(
        self, position_m: Sequence[float], quat_xyzw: Sequence[float], covariance: np.ndarray | None = None
    ) -> Any:
        return self.new(
            "geometry_msgs/msg/PoseWithCovariance",
            pose=self.pose(position_m, quat_xyzw),
            covariance=_flat(covariance, 36),
        )

    def pose_with_covariance_stamped(
        self, stamp_ns: int, frame_id: str, position_m: Sequence[float], quat_xyzw: Sequence[float]
    ) -> Any:
        """geometry_msgs/PoseWithCovarianceStamped; the covariance is zero: unknown."""
        return self.new(
            "geometry_msgs/msg/PoseWithCovarianceStamped",
            header=self.header(stamp_ns, frame_id),
            pose=self._pose_with_covariance(position_m, quat_xyzw),
        )

    def vector3(self, xyz: Sequence[float]) -> Any:
        """geometry_msgs/Vector3."""
        x, y, z = map(float, xyz)
        return self.new("geometry_msgs/msg/Vector3", x=x, y=y, z=z)

    def odometry(
        self,
        stamp_ns: int,
        parent_frame: str,
        child_frame: str,
        position_m: Sequence[float],
        quat_xyzw: Sequence[float],
        linear_mps: Sequence[float] = (0.0, 0.0, 0.0),
        angular_radps: Sequence[float] = (0.0, 0.0, 0.0),
        pose_covariance: np.ndarray | None = None,
        twist_covariance: np.ndarray | None = None,
    ) -> Any:
        """nav_msgs/Odometry: the pose of `child_frame` in `parent_frame`, the twist in `child_frame`.

        Covariances (6, 6) are of x, y, z and the turns about these axes; None, written as zeros: unknown.
        """
        twist = self.new(
            "geometry_msgs/msg/TwistWithCovariance",
            twist=self.new(
                "geometry_msgs/msg/Twist", linear=self.vector3(linear_mps), angular=self.vector3(angular_radps)
            ),
            covariance=_flat(twist_covariance, 36),
        )
        return self.new(
            "nav_msgs/msg/Odometry",
            header=self.header(stamp_ns, parent_frame),
            child_frame_id=child_frame,
            pose=self._pose_with_covariance(position_m, quat_xyzw, pose_covariance),
            twist=twist,
        )

    def nav_sat_fix(
        self,
        stamp_ns: int,
        frame_id: str,
        latitude_deg: float,
        longitude_deg: float,
        altitude_m: float,
        covariance_m2: np.ndarray | None = None,
        status: int = 0,
    ) -> Any:
        """sensor_msgs/NavSatFix on the WGS-84 ellipsoid; `covariance_m2` (3, 3) in ENU, None: unknown."""
        return self.new(
            "sensor_msgs/msg/NavSatFix",
            header=self.header(stamp_ns, frame_id),
            status=self.new("sensor_msgs/msg/NavSatStatus", status=status, service=1),
            latitude=float(latitude_deg),
            longitude=float(longitude_deg),
            altitude=float(altitude_m),
            position_covariance=_flat(covariance_m2, 9),
            position_covariance_type=0 if covariance_m2 is None else 3,
        )

    def imu(
        self,
        stamp_ns: int,
        frame_id: str,
        angular_radps: Sequence[float],
        linear_mps2: Sequence[float],
        angular_covariance: np.ndarray,
        linear_covariance: np.ndarray,
        quat_xyzw: Sequence[float] | None = None,
        orientation_covariance: np.ndarray | None = None,
    ) -> Any:
        """sensor_msgs/Imu with covariances (3, 3). `linear_mps2` feels gravity: +9.8 along an upward axis at rest.

        Without `quat_xyzw` the orientation's covariance begins with -1: not measured.
        """
        measured = quat_xyzw is not None
        x, y, z, w = map(float, quat_xyzw if quat_xyzw is not None else (0.0, 0.0, 0.0, 1.0))
        return self.new(
            "sensor_msgs/msg/Imu",
            header=self.header(stamp_ns, frame_id),
            orientation=self.new("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w),
            orientation_covariance=_flat(orientation_covariance, 9) if measured else np.array([-1.0] + 8 * [0.0]),
            angular_velocity=self.vector3(angular_radps),
            angular_velocity_covariance=_flat(angular_covariance, 9),
            linear_acceleration=self.vector3(linear_mps2),
            linear_acceleration_covariance=_flat(linear_covariance, 9),
        )

    def fluid_pressure(self, stamp_ns: int, frame_id: str, pressure_pa: float, variance_pa2: float) -> Any:
        """sensor_msgs/FluidPressure; a variance of 0: unknown."""
        return self.new(
            "sensor_msgs/msg/FluidPressure",
            header=self.header(stamp_ns, frame_id),
            fluid_pressure=float(pressure_pa),
            variance=float(variance_pa2),
        )

    def tf_message(self, transforms: Iterable[StampedTransform]) -> Any:
        """tf2_msgs/TFMessage."""
        return self.new("tf2_msgs/msg/TFMessage", transforms=[self._transform(item) for item in transforms])

    def _transform(self, item: StampedTransform) -> Any:
        qx, qy, qz, qw = map(float, item.quat_xyzw)
        return self.new(
            "geometry_msgs/msg/TransformStamped",
            header=self.header(item.stamp_ns, item.parent_frame),
            child_frame_id=item.child_frame,
            transform=self.new(
                "geometry_msgs/msg/Transform",
                translation=self.vector3(item.position_m),
                rotation=self.new("geometry_msgs/msg/Quaternion", x=qx, y=qy, z=qz, w=qw),
            ),
        )


def _flat(covariance: np.ndarray | None, size: int) -> np.ndarray:
    """Row-major, as messages hold them; None: zeros, which stand for unknown."""
    return np.zeros(size) if covariance is None else np.asarray(covariance, float).reshape(size)
