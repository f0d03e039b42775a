"""What the simulated sensors measure, as ROS messages."""

from __future__ import annotations

import cv2
import numpy as np
from geometry_msgs.msg import Vector3
from nav_msgs.msg import Odometry
from sensor_msgs.msg import CompressedImage, FluidPressure, Imu, NavSatFix, NavSatStatus
from std_msgs.msg import Header

from pose2rgbd_ros.geometry.arrays import Float64, UInt8
from pose2rgbd_ros.geometry.geodesy import Datum
from pose2rgbd_ros.nodes.conversions import to_pose, to_stamp
from pose2rgbd_ros.sim.sensors.measurement import GpsFix, ImuReading, OdometryReading, PressureReading
from pose2rgbd_ros.sim.state import BASE, GPS_ANTENNA, MAP, ODOM, START_NS, BodyState

JPEG_QUALITY = 95


def header(stamp_ns: int, frame_id: str) -> Header:
    """A header."""
    return Header(stamp=to_stamp(stamp_ns), frame_id=frame_id)


def nav_sat_fix(fix: GpsFix, stamp_ns: int) -> NavSatFix:
    """Position of the antenna. Without a fix, or without faults, the covariance is zero: of unknown type, not certain."""
    known = bool(fix.covariance_m2.any())
    kind = NavSatFix.COVARIANCE_TYPE_KNOWN if known else NavSatFix.COVARIANCE_TYPE_UNKNOWN
    return NavSatFix(
        header=header(stamp_ns, GPS_ANTENNA),
        status=NavSatStatus(status=fix.status, service=NavSatStatus.SERVICE_GPS),
        latitude=fix.latitude_deg,
        longitude=fix.longitude_deg,
        altitude=fix.altitude_m,
        position_covariance=fix.covariance_m2.ravel(),
        position_covariance_type=kind,
    )


def map_origin(datum: Datum) -> NavSatFix:
    """Where the map's origin lies."""
    return NavSatFix(
        header=header(START_NS, MAP),
        latitude=datum.latitude_deg,
        longitude=datum.longitude_deg,
        altitude=datum.altitude_m,
    )


def odometry(reading: OdometryReading, stamp_ns: int) -> Odometry:
    """Pose in `odom` and twist in the body."""
    message = _odometry(
        reading.T_odom_body, reading.linear_mps, reading.angular_radps, header(stamp_ns, ODOM)
    )
    message.pose.covariance = reading.pose_covariance.ravel()
    message.twist.covariance = reading.twist_covariance.ravel()
    return message


def true_odometry(state: BodyState, stamp_ns: int) -> Odometry:
    """The exact pose in `map` and twist in the body."""
    linear_mps = state.T_map_body[:3, :3].T @ state.velocity_map_mps
    return _odometry(state.T_map_body, linear_mps, state.angular_velocity_body_radps, header(stamp_ns, MAP))


def imu(reading: ImuReading, stamp_ns: int) -> Imu:
    """Rates and specific force in the body; without an orientation its covariance begins with -1."""
    message = Imu(
        header=header(stamp_ns, BASE),
        angular_velocity=_vector(reading.angular_velocity_radps),
        linear_acceleration=_vector(reading.specific_force_mps2),
        angular_velocity_covariance=_diagonal(reading.angular_velocity_variance),
        linear_acceleration_covariance=_diagonal(reading.specific_force_variance),
    )
    if reading.quat_xyzw is None:
        message.orientation_covariance[0] = -1.0
    else:
        q = message.orientation
        q.x, q.y, q.z, q.w = reading.quat_xyzw.tolist()
        message.orientation_covariance = _diagonal(reading.orientation_variance)
    return message


def fluid_pressure(reading: PressureReading, stamp_ns: int) -> FluidPressure:
    """Static pressure in Pascal."""
    return FluidPressure(
        header=header(stamp_ns, BASE), fluid_pressure=reading.pressure_pa, variance=reading.variance_pa2
    )


def jpeg(rgb: UInt8, stamp_ns: int, frame_id: str) -> CompressedImage:
    """An (H, W, 3) image as image_transport's compressed one."""
    sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    _, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, *sampling])
    message = CompressedImage(header=header(stamp_ns, frame_id), format="rgb8; jpeg compressed bgr8")
    message.data.frombytes(data.tobytes())
    return message


def _odometry(T: Float64, linear_mps: Float64, angular_radps: Float64, header: Header) -> Odometry:
    message = Odometry(header=header, child_frame_id=BASE)
    message.pose.pose = to_pose(T)
    message.twist.twist.linear, message.twist.twist.angular = _vector(linear_mps), _vector(angular_radps)
    return message


def _vector(xyz: Float64) -> Vector3:
    x, y, z = xyz.tolist()
    return Vector3(x=x, y=y, z=z)


def _diagonal(variance: float) -> Float64:
    return (np.eye(3) * variance).ravel()
