"""Measurements become the messages that a drone's own recorder would have written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.bags.messages import MessageFactory, StampedTransform
from pose2rgbd_ros.dataset.frames import encode_image
from pose2rgbd_ros.geometry import depth, se3
from pose2rgbd_ros.geometry.arrays import Float32, Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.sim import topics
from pose2rgbd_ros.sim.gl.view import View
from pose2rgbd_ros.sim.sensors.measurement import (
    Exposure,
    GpsFix,
    ImuReading,
    Measurement,
    OdometryReading,
    PressureReading,
)
from pose2rgbd_ros.sim.state import BASE, CAMERA, GPS_ANTENNA, MAP, ODOM, true_seconds

DEPTH_STEPS_PER_M = (
    1024.0  # of 32FC1: finer digits are the renderer's noise, and double the size of a compressed bag
)
DepthEncoding = Literal["32FC1", "16UC1", "none"]
Messages: TypeAlias = list[tuple[str, Any]]


class Recorder:
    """Makes the (topic, message) pairs of a measurement; topics begin with a slash.

    Args:
        make: builds the messages.
        camera: of colour and depth alike.
        render: what the camera sees at an exposure.
        depth_encoding: 32FC1 (raw, metres), 16UC1 (compressedDepth, millimetres) or none.
        max_depth_m: surfaces farther away have unknown depth, like beyond a sensor's range.
        T_map_body: true poses (N, 4, 4) at times (N,), for the transform from map to odom; None: it is not sent.
    """

    def __init__(
        self,
        make: MessageFactory,
        camera: Camera,
        render: Callable[[Exposure], View],
        depth_encoding: DepthEncoding,
        max_depth_m: float,
        T_map_body: Callable[[npt.ArrayLike], Float64] | None,
    ) -> None:
        self._make, self._camera, self._render = make, camera, render
        self._depth_encoding, self._max_depth_m, self._T_map_body = depth_encoding, max_depth_m, T_map_body

    def mounts(self, stamp_ns: int, T_body_cam: Float64, antenna_m: npt.ArrayLike) -> Messages:
        """Where camera and antenna sit on the body: the one message on /tf_static."""
        antenna = se3.make(antenna_m, [0.0, 0.0, 0.0, 1.0])
        transforms = [
            _transform(stamp_ns, BASE, CAMERA, T_body_cam),
            _transform(stamp_ns, BASE, GPS_ANTENNA, antenna),
        ]
        return [(topics.TF_STATIC, self._make.tf_message(transforms))]

    def messages(self, item: Measurement) -> Messages:
        """The messages of one measurement, in the order in which they are sent."""
        value = item.value
        if isinstance(value, Exposure):
            return self._images(item.stamp_ns, value)
        if isinstance(value, GpsFix):
            return [(_absolute(topics.FIX), self._fix(item.stamp_ns, value))]
        if isinstance(value, OdometryReading):
            return self._odometry(item, value)
        if isinstance(value, ImuReading):
            return [(_absolute(topics.IMU), self._imu(item.stamp_ns, value))]
        return [(_absolute(topics.PRESSURE), self._pressure(item.stamp_ns, value))]

    def _images(self, stamp_ns: int, exposure: Exposure) -> Messages:
        view, camera, make = self._render(exposure), self._camera, self._make
        info = make.camera_info(stamp_ns, CAMERA, camera.width, camera.height, camera.K)
        _, jpeg = encode_image(view.rgb, camera, "jpeg")
        colour = make.compressed_image(stamp_ns, CAMERA, jpeg, "rgb8; jpeg compressed bgr8")
        sent = [(topics.RGB_COMPRESSED, colour), (topics.RGB_INFO, info)]
        if self._depth_encoding != "none":
            seen = np.where(view.depth_m <= self._max_depth_m, view.depth_m, np.float32(np.nan))
            sent += [self._depth(stamp_ns, seen), (topics.DEPTH_INFO, info)]
        return [(_absolute(topic), message) for topic, message in sent]

    def _depth(self, stamp_ns: int, depth_m: Float32) -> tuple[str, Any]:
        if self._depth_encoding == "32FC1":
            depth_m = np.rint(depth_m * np.float32(DEPTH_STEPS_PER_M)) / np.float32(DEPTH_STEPS_PER_M)
            return topics.DEPTH, self._make.image(stamp_ns, CAMERA, depth.encode_32fc1(depth_m), "32FC1")
        data, layout = depth.encode_compressed_depth(depth_m, "16UC1", png_level=1)
        return topics.DEPTH_COMPRESSED, self._make.compressed_image(stamp_ns, CAMERA, data, layout)

    def _fix(self, stamp_ns: int, fix: GpsFix) -> Any:
        covariance = (
            fix.covariance_m2 if fix.covariance_m2.any() else None
        )  # zeros would be taken for certainty
        return self._make.nav_sat_fix(
            stamp_ns,
            GPS_ANTENNA,
            fix.latitude_deg,
            fix.longitude_deg,
            fix.altitude_m,
            covariance,
            fix.status,
        )

    def _odometry(self, item: Measurement, reading: OdometryReading) -> Messages:
        stamp_ns, make = item.stamp_ns, self._make
        position_m, quat_xyzw = se3.split(reading.T_odom_body)
        odometry = make.odometry(
            stamp_ns,
            ODOM,
            BASE,
            position_m.tolist(),
            quat_xyzw.tolist(),
            reading.linear_mps.tolist(),
            reading.angular_radps.tolist(),
            reading.pose_covariance,
            reading.twist_covariance,
        )
        transforms = [StampedTransform(stamp_ns, ODOM, BASE, position_m.tolist(), quat_xyzw.tolist())]
        if self._T_map_body is not None:
            T_map_odom = self._T_map_body(true_seconds(item.true_ns))[0] @ se3.inverse(reading.T_odom_body)
            transforms.insert(0, _transform(stamp_ns, MAP, ODOM, T_map_odom))
        return [(_absolute(topics.ODOMETRY), odometry), (topics.TF, make.tf_message(transforms))]

    def _imu(self, stamp_ns: int, reading: ImuReading) -> Any:
        return self._make.imu(
            stamp_ns,
            BASE,
            reading.angular_velocity_radps.tolist(),
            reading.specific_force_mps2.tolist(),
            reading.angular_velocity_variance * np.eye(3),
            reading.specific_force_variance * np.eye(3),
            None if reading.quat_xyzw is None else reading.quat_xyzw.tolist(),
            reading.orientation_variance * np.eye(3),
        )

    def _pressure(self, stamp_ns: int, reading: PressureReading) -> Any:
        return self._make.fluid_pressure(stamp_ns, BASE, reading.pressure_pa, reading.variance_pa2)


def _transform(stamp_ns: int, parent: str, child: str, T_parent_child: Float64) -> StampedTransform:
    position_m, quat_xyzw = se3.split(T_parent_child)
    return StampedTransform(stamp_ns, parent, child, position_m.tolist(), quat_xyzw.tolist())


def _absolute(topic: str) -> str:
    return f"/{topic}"
