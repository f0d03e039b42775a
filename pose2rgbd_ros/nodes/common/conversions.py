"""The only bridge between ROS messages and this package's arrays, cameras and transforms."""

from __future__ import annotations

import array
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose, Transform, TransformStamped
from pose2rgbd.msg import RelativeDepth
from sensor_msgs.msg import CameraInfo, Image

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import depth as depth_contract
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float32, Float64, UInt8
from pose2rgbd_ros.geometry.camera import COEFFICIENTS, Camera
from pose2rgbd_ros.geometry.depth import DepthKind
from pose2rgbd_ros.streams import samples
from pose2rgbd_ros.streams.samples import raw_image_to_rgb

NANOSECONDS = 1_000_000_000
# encoding -> (numpy type, channels) of the images this package publishes
PUBLISHED_ENCODINGS = {"rgb8": (np.uint8, 3), "32FC1": (np.float32, 1), "mono8": (np.uint8, 1)}
# The message that carries each kind of depth: what is not metres cannot be subscribed to as if it were.
DEPTH_MESSAGES: dict[DepthKind, type[Image] | type[RelativeDepth]] = {"metric": Image, "relative": RelativeDepth}


def stamp_ns(stamp: Time) -> int:
    """Nanoseconds since the epoch of a message stamp."""
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)


def to_stamp(nanoseconds: int) -> Time:
    """The message stamp of nanoseconds since the epoch."""
    sec, nanosec = divmod(int(nanoseconds), NANOSECONDS)
    return Time(sec=sec, nanosec=nanosec)


def matrix_of(message: Pose | Transform) -> Float64:
    """The 4x4 matrix of a Pose or Transform; UserError when it is not finite or its quaternion is zero."""
    position = message.position if isinstance(message, Pose) else message.translation
    rotation = message.orientation if isinstance(message, Pose) else message.rotation
    numbers = np.array([position.x, position.y, position.z, rotation.x, rotation.y, rotation.z, rotation.w])
    if not np.all(np.isfinite(numbers)):
        raise UserError("the pose holds NaN or infinity")
    if not np.any(numbers[3:]):
        raise UserError("the orientation is all zero; for no rotation set w = 1")
    return se3.make(numbers[:3], numbers[3:])


def depth_message(image: Image, kind: DepthKind) -> Image | RelativeDepth:
    """The message that carries a 32FC1 depth image of this kind; it shares the image's header and pixels."""
    return image if kind == "metric" else RelativeDepth(header=image.header, image=image)


def to_transform(T: Float64) -> Transform:
    """The Transform message of a 4x4 matrix."""
    position, quat_xyzw = se3.split(T)
    message = Transform()
    message.translation.x, message.translation.y, message.translation.z = position.tolist()
    rotation = message.rotation
    rotation.x, rotation.y, rotation.z, rotation.w = quat_xyzw.tolist()
    return message


def to_pose(T: Float64) -> Pose:
    """The Pose message of a 4x4 matrix."""
    position, quat_xyzw = se3.split(T)
    message = Pose()
    message.position.x, message.position.y, message.position.z = position.tolist()
    q = message.orientation
    q.x, q.y, q.z, q.w = quat_xyzw.tolist()
    return message


def to_transform_stamped(T: Float64, nanoseconds: int, parent: str, child: str) -> TransformStamped:
    """`T_parent_child` at a time, as broadcast on /tf."""
    message = TransformStamped(child_frame_id=child, transform=to_transform(T))
    message.header.stamp, message.header.frame_id = to_stamp(nanoseconds), parent
    return message


def camera_from_info(info: CameraInfo) -> Camera:
    """The camera of a CameraInfo; K[0] = 0 gives an uncalibrated one. UserError for one that makes no sense."""
    roi = (info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height)
    binning = (info.binning_x, info.binning_y)
    return samples.camera_from_info(info.width, info.height, info.distortion_model, info.d, info.k, binning, roi)


def camera_to_info(camera: Camera) -> CameraInfo:
    """The CameraInfo of a camera (header left to the caller); an uncalibrated one has K = 0."""
    info = CameraInfo(width=camera.width, height=camera.height)
    model = "plumb_bob" if camera.distortion_model == "none" else camera.distortion_model
    info.distortion_model = model
    info.d = [float(value) for value in camera.distortion or (0.0,) * max(COEFFICIENTS[model])]
    if camera.is_calibrated:
        K = camera.K
        info.k = K.ravel()
        info.r = np.eye(3).ravel()
        info.p = np.hstack([K, np.zeros((3, 1))]).ravel()
    return info


class ImageBuffer:
    """An Image message allocated once, whose pixels are a numpy array.

    rclpy copies an ``array.array('B')`` in one go; any other type in ``Image.data`` costs a check per byte. `pixels`
    is (H, W, 3) uint8 for rgb8, (H, W) uint8 for mono8 and (H, W) float32 for 32FC1; writing it fills the message.
    """

    def __init__(self, width: int, height: int, encoding: str) -> None:
        dtype, channels = PUBLISHED_ENCODINGS[encoding]
        step = width * channels * np.dtype(dtype).itemsize
        self.message = Image(height=height, width=width, encoding=encoding, step=step, is_bigendian=0)
        self.message.data = array.array("B", bytes(step * height))
        shape = (height, width, channels) if channels > 1 else (height, width)
        self.pixels: np.ndarray = np.frombuffer(self.message.data, dtype=dtype).reshape(shape)

    def fill(self, pixels: np.ndarray, nanoseconds: int, frame_id: str) -> Image:
        """Copy `pixels` in, set the header and return the message, which the next call overwrites."""
        np.copyto(self.pixels, pixels, casting="no")
        self.message.header.stamp = to_stamp(nanoseconds)
        self.message.header.frame_id = frame_id
        return self.message


def to_image(pixels: np.ndarray, nanoseconds: int, frame_id: str) -> Image:
    """A new Image: rgb8 of uint8 (H, W, 3) or 32FC1 of float32 (H, W)."""
    encoding = "rgb8" if pixels.ndim == 3 else "32FC1"
    return ImageBuffer(pixels.shape[1], pixels.shape[0], encoding).fill(pixels, nanoseconds, frame_id)


def rgb_of(message: Image) -> UInt8:
    """RGB (H, W, 3) uint8 of an Image in any encoding the bag reader knows too; UserError otherwise."""
    return raw_image_to_rgb(**_fields(message))


def depth_of(message: Image) -> Float32:
    """Depth (H, W) float32, NaN where unknown, of an Image of depth; UserError for another encoding."""
    return depth_contract.decode_depth(**_fields(message))


def _fields(message: Image) -> dict[str, Any]:
    return {
        "data": np.frombuffer(message.data, np.uint8),
        "height": message.height,
        "width": message.width,
        "encoding": message.encoding,
        "step": message.step,
        "is_bigendian": bool(message.is_bigendian),
    }
