"""The only bridge between ROS messages and this package's arrays, cameras and transforms.

Images that arrive are decoded by cv_bridge; those that are published are drawn straight into their messages
(docs/decisions/0003).
"""

from __future__ import annotations

import array
import contextlib

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from cv_bridge import CvBridge, CvBridgeError
from geometry_msgs.msg import Pose, Transform, TransformStamped
from pose2rgbd.msg import RelativeDepth
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import depth as depth_contract
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import AnyArray, Float32, Float64, UInt8
from pose2rgbd_ros.geometry.camera import COEFFICIENTS, Camera
from pose2rgbd_ros.geometry.depth import DepthKind
from pose2rgbd_ros.streams import samples

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


def compressed_rgb(image: Image, quality: int) -> CompressedImage:
    """An rgb8 image as JPEG, as image_transport's compressed publisher has it. quality: 1 to 100."""
    pixels = np.frombuffer(image.data, np.uint8).reshape(image.height, image.width, 3)
    done, jpeg = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise UserError(f"a {image.width} x {image.height} image cannot be written as JPEG")
    return CompressedImage(
        header=image.header, format="rgb8; jpeg compressed bgr8", data=array.array("B", jpeg.tobytes())
    )


def compressed_depth(image: Image) -> CompressedImage:
    """A 32FC1 depth image as compressed_depth_image_transport has it: inverse depth of 16 bits in a PNG, 0 unknown."""
    depth_m = np.frombuffer(image.data, np.float32).reshape(image.height, image.width)
    farthest_m, quantization = depth_contract.finest_quantization(depth_m)
    data, form = depth_contract.encode_compressed_depth(depth_m, "32FC1", farthest_m, quantization, png_level=1)
    return CompressedImage(header=image.header, format=form, data=array.array("B", data))


BRIDGE = CvBridge()
# Encodings that cv_bridge gives no colour or knows under another name, and what it is to take them for.
_TAKEN_FOR = {
    "8UC1": "mono8", "8UC3": "bgr8", "8UC4": "bgra8", "16UC1": "mono16", "uyvy": "yuv422", "yuyv": "yuv422_yuy2",
}  # fmt: skip


def rgb_of(message: Image | CompressedImage) -> UInt8:
    """RGB (H, W, 3) uint8 of an image, raw in any encoding the bag reader knows too, or compressed as JPEG, PNG or
    the like.

    UserError for another encoding or damaged data.
    """
    if isinstance(message, CompressedImage):
        return _rgb_of_file(message)
    if message.encoding not in samples.RAW_ENCODINGS:
        raise UserError(samples.no_colour(message.encoding))
    return _decoded(message, _TAKEN_FOR.get(message.encoding, message.encoding), "rgb8")


def depth_of(message: Image) -> Float32:
    """Depth (H, W) float32, NaN where unknown, of an Image of depth; UserError for another encoding."""
    depth_m = measured_depth_of(message)
    return depth_contract.known(depth_m) if message.encoding in depth_contract.FLOAT_ENCODINGS else depth_m


def measured_depth_of(message: Image) -> Float32:
    """As `depth_of`, with what a sensor says of no surface in range kept: +inf and -inf (REP-117), zero, negative.

    It may share memory with the message.
    """
    depth_contract.require_known(message.encoding)
    image = _decoded(message, message.encoding, "passthrough")
    return image if message.encoding in depth_contract.FLOAT_ENCODINGS else depth_contract.from_counts(image)


def _decoded(message: Image, encoding: str, wanted: str) -> AnyArray:
    """By cv_bridge, which is handed rows without padding in native byte order: it takes rows for whole numbers of
    pixels and their data for complete.
    """
    width, height, step, tight = message.width, message.height, message.step, message
    try:
        dtype, channels = BRIDGE.encoding_to_dtype_with_channels(encoding)
        rows = depth_contract.pixels(message.data, dtype, height, width, channels, step, bool(message.is_bigendian))
        if encoding != message.encoding or step != rows[0].nbytes or message.is_bigendian:
            as_sent = rows.flags.c_contiguous and not message.is_bigendian
            data = message.data if as_sent else array.array("B", rows.tobytes())
            tight = Image(height=height, width=width, encoding=encoding, step=rows[0].nbytes, data=data)
        image: AnyArray = BRIDGE.imgmsg_to_cv2(tight, wanted)
        return image
    except (CvBridgeError, RuntimeError, cv2.error) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"a {width} x {height} image cannot be read as {message.encoding}: {reason}") from error


def _rgb_of_file(message: CompressedImage) -> UInt8:
    """Passed through by cv_bridge, for it takes any file for 8 bit BGR, a grey one too."""
    image: AnyArray | None = None
    if not depth_contract.is_cut_off_jpeg(message.data):
        with contextlib.suppress(cv2.error):  # a damaged head may ask for absurd sizes
            image = BRIDGE.compressed_imgmsg_to_cv2(message)
    if image is None or image.dtype not in (np.uint8, np.uint16):
        raise UserError(samples.undecodable(message.data))
    if image.dtype == np.uint16:
        image = cv2.convertScaleAbs(image, alpha=1 / 257)
    code = {2: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB}[image.ndim]
    if image.ndim == 3 and image.shape[2] == 4:
        code = cv2.COLOR_BGRA2RGB
    return np.asarray(cv2.cvtColor(image, code), np.uint8)
