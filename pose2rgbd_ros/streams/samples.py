"""Time-stamped samples, one small class per kind, in SI units and ENU: what bags and live topics both become."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import depth, se3
from pose2rgbd_ros.geometry.arrays import AnyArray, Float32, Float64, UInt8, UInt16
from pose2rgbd_ros.geometry.camera import COEFFICIENTS, Camera
from pose2rgbd_ros.geometry.depth import decode_file, pixels

# Colour images as ROS sends them, raw or compressed, to RGB; the encodings that cv_bridge users have.


# Channels and the OpenCV code to RGB (None: RGB already), by sensor_msgs encoding. 8UC1 and 8UC3 have no colour order
# of their own; like cv_bridge they are taken as grey and BGR.
_CONVERSIONS: dict[str, tuple[int, int | None]] = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
    "8UC1": (1, cv2.COLOR_GRAY2RGB),
    "8UC3": (3, cv2.COLOR_BGR2RGB),
    "8UC4": (4, cv2.COLOR_BGRA2RGB),
    "bayer_rggb8": (1, cv2.COLOR_BayerRGGB2RGB),
    "bayer_bggr8": (1, cv2.COLOR_BayerBGGR2RGB),
    "bayer_gbrg8": (1, cv2.COLOR_BayerGBRG2RGB),
    "bayer_grbg8": (1, cv2.COLOR_BayerGRBG2RGB),
    "yuv422": (2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": (2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (2, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": (2, cv2.COLOR_YUV2RGB_YUY2),
}
# 16 bit encodings, reduced to the 8 bit ones above.
_SIXTEEN_BIT = {
    "mono16": "mono8",
    "16UC1": "mono8",
    "rgb16": "rgb8",
    "bgr16": "bgr8",
    "rgba16": "rgba8",
    "bgra16": "bgra8",
    **{f"bayer_{order}16": f"bayer_{order}8" for order in ("rggb", "bggr", "gbrg", "grbg")},
}
RAW_ENCODINGS = (*_CONVERSIONS, *_SIXTEEN_BIT)


def raw_image_to_rgb(
    data: Any, height: int, width: int, encoding: str, step: int = 0, is_bigendian: bool = False
) -> UInt8:
    """RGB uint8 (H, W, 3) of the fields of a sensor_msgs/Image. 16 bit images are scaled by 255/65535.

    UserError for an encoding that is no colour or grey image, or data that does not fit.
    """
    if encoding in _SIXTEEN_BIT:
        base = _SIXTEEN_BIT[encoding]
        deep = pixels(data, np.uint16, height, width, _CONVERSIONS[base][0], step, is_bigendian)
        image: AnyArray = ((deep.astype(np.uint32) + 128) // 257).astype(np.uint8)
    elif encoding in _CONVERSIONS:
        base = encoding
        image = pixels(data, np.uint8, height, width, _CONVERSIONS[base][0], step)
    else:
        raise UserError(no_colour(encoding))
    code = _CONVERSIONS[base][1]
    if code is None:
        return np.array(image, order="C")
    try:
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(image), code), dtype=np.uint8)
    except cv2.error as error:
        raise UserError(f"a {width} x {height} image cannot be read as {encoding}: {error.err}") from error


def decode_compressed(data: bytes) -> UInt8:
    """RGB uint8 (H, W, 3) of a JPEG, PNG or other image file in memory, rows as stored (EXIF rotation is ignored).

    UserError when the bytes are not a readable image.
    """
    image = decode_file(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise UserError(undecodable(data))
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def no_colour(encoding: str) -> str:
    """What to say of an encoding that is no colour or grey image."""
    return f"colour image of encoding {encoding!r}; accepted: {', '.join(RAW_ENCODINGS)}"


def undecodable(data: Any) -> str:
    """What to say of compressed bytes that are no readable image."""
    return f"a compressed image of {len(data)} bytes cannot be decoded; it is damaged or no JPEG, PNG or the like"


def compressed_size(data: bytes) -> tuple[str, int, int] | None:
    """ "jpeg" or "png" with width and height, read from the first bytes; None for anything else or a damaged head."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        width, height = struct.unpack_from(">II", data, 16)
        return ("png", width, height) if width and height else None
    if data[:2] == b"\xff\xd8":
        size = _jpeg_size(data)
        return ("jpeg", *size) if size and all(size) else None
    return None


def jpeg_tables(data: bytes) -> bytes | None:
    """What a decoder learns before the first scan: frame and scan headers and tables, without tags and comments.

    Two files with the same can be decoded both or neither, however their scans differ. None for a damaged head.
    """
    parts, at = [], 2
    while at + 4 <= len(data):
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        end = at + 2 + length
        if data[at] != 0xFF or not 0xC0 <= marker <= 0xFE or length < 2 or end > len(data):
            return None
        if not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            parts.append(data[at:end])
        if marker == 0xDA:
            return b"".join(parts)
        at = end
    return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height from the frame header (SOF marker, ITU-T T.81 B.2.2), walking from segment to segment."""
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD7:  # fill bytes and markers without a body
            at += 1 if marker == 0xFF else 2
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


COMPRESSED = ("jpeg", "png")


@dataclass(frozen=True, eq=False)
class ImageSample:
    """A colour image as received: raw pixels in a sensor_msgs encoding, or the bytes of a JPEG or PNG file.

    Compressed bytes are kept verbatim so that a dataset can store them without loss. For them `step` is 0.
    """

    stamp_ns: int
    frame_id: str
    encoding: str
    data: Any  # bytes-like
    width: int
    height: int
    step: int = 0
    is_bigendian: bool = False

    @classmethod
    def from_compressed(cls, stamp_ns: int, frame_id: str, data: Any) -> ImageSample:
        """The sample of a CompressedImage. The bytes distinguish JPEG and PNG; its format text is too varied to trust.

        Other files that OpenCV reads are decoded to rgb8. UserError when the bytes are no image.
        """
        data = bytes(data)
        found = compressed_size(data)
        if found is not None:
            encoding, width, height = found
            return cls(stamp_ns, frame_id, encoding, data, width, height)
        rgb = decode_compressed(data)
        return cls(stamp_ns, frame_id, "rgb8", rgb.tobytes(), rgb.shape[1], rgb.shape[0], rgb.shape[1] * 3)

    @property
    def compressed_bytes(self) -> bytes | None:
        """The JPEG or PNG file as received; None for a raw image."""
        return bytes(self.data) if self.encoding in COMPRESSED else None

    def rgb(self) -> UInt8:
        """RGB uint8 (height, width, 3). UserError when the data is damaged or of an unknown encoding."""
        compressed = self.compressed_bytes
        if compressed is None:
            return raw_image_to_rgb(self.data, self.height, self.width, self.encoding, self.step, self.is_bigendian)
        return decode_compressed(compressed)


@dataclass(frozen=True, eq=False)
class DepthSample:
    """A depth image: `depth_m` float32 (H, W), NaN unknown, along the optical axis.

    `counts` are the source's own integers in units of `unit_m` (0 unknown) where it had any, so nothing is lost; `png`
    is the whole file of exactly these counts, where that is how they came, so that it need not be encoded again.
    """

    stamp_ns: int
    frame_id: str
    counts: UInt16 | None
    unit_m: float
    depth_m: Float32
    png: bytes | None = None

    @classmethod
    def from_image(
        cls,
        stamp_ns: int,
        frame_id: str,
        data: Any,
        encoding: str,
        height: int,
        width: int,
        step: int = 0,
        is_bigendian: bool = False,
    ) -> DepthSample:
        """The sample of a sensor_msgs/Image of encoding 32FC1, 16UC1 or mono16. UserError for others."""
        counts = depth.raw_counts(data, encoding, height, width, step, is_bigendian)
        if counts is not None:
            return cls.from_counts(stamp_ns, frame_id, counts)
        metres = depth.decode_depth(data, encoding, height, width, step, is_bigendian)
        return cls(stamp_ns, frame_id, None, depth.MILLIMETRE, metres)

    @classmethod
    def from_compressed(cls, stamp_ns: int, frame_id: str, data: Any, format: str) -> DepthSample:
        """The sample of a CompressedImage written by compressed_depth_image_transport. UserError for others."""
        counts = depth.raw_counts_from_compressed(data, format)
        if counts is not None:
            return cls.from_counts(stamp_ns, frame_id, counts)
        return cls(stamp_ns, frame_id, None, depth.MILLIMETRE, depth.decode_compressed_depth(data, format))

    @classmethod
    def from_counts(
        cls, stamp_ns: int, frame_id: str, counts: UInt16, unit_m: float = depth.MILLIMETRE, png: bytes | None = None
    ) -> DepthSample:
        """The sample of uint16 counts (H, W), and their file if there is one."""
        return cls(stamp_ns, frame_id, counts, unit_m, depth.from_counts(counts, unit_m), png)

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.depth_m.shape[1])

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.depth_m.shape[0])


@dataclass(frozen=True)
class CameraInfoSample:
    """The camera of the images of `frame_id`."""

    stamp_ns: int
    frame_id: str
    camera: Camera


@dataclass(frozen=True, eq=False)
class PoseSample:
    """The pose of `child_frame` in `parent_frame`, as received (it may hold NaN: a Trajectory sorts that out)."""

    stamp_ns: int
    parent_frame: str
    child_frame: str
    position_m: Float64  # (3,)
    quat_xyzw: Float64  # (4,)

    @property
    def T(self) -> Float64:
        """T_parent_child, (4, 4). UserError for a zero or non-finite quaternion."""
        return se3.make(self.position_m, self.quat_xyzw)


@dataclass(frozen=True, eq=False)
class FixSample:
    """A GNSS position of the antenna `frame_id`: WGS-84 degrees and metres above the ellipsoid (NaN: none)."""

    stamp_ns: int
    frame_id: str
    latitude_deg: float
    longitude_deg: float
    altitude_m: float
    covariance_enu_m2: Float64  # (3, 3)


@dataclass(frozen=True, eq=False)
class ImuSample:
    """An inertial measurement in the axes of `frame_id` (x forward, y left, z up).

    `quat_xyzw` turns that frame to east, north, up (REP-145); None where the device gives no orientation. NaN, of the
    others, is what was not measured. The specific force feels gravity: +9.8 along an upward axis at rest.
    """

    stamp_ns: int
    frame_id: str
    angular_radps: Float64  # (3,)
    specific_force_mps2: Float64  # (3,)
    quat_xyzw: Float64 | None  # (4,)


@dataclass(frozen=True, eq=False)
class OrientationSample:
    """How `child_frame` is turned in `parent_frame`, without a position."""

    stamp_ns: int
    parent_frame: str
    child_frame: str
    quat_xyzw: Float64  # (4,)


@dataclass(frozen=True, eq=False)
class GimbalSample:
    """How a gimbal (x along the view, y left, z up) is turned; roll and pitch count from the horizon.

    `yaw_in_earth`: the turn is in east, north, up; else in level axes that look where the vehicle heads.
    """

    stamp_ns: int
    quat_xyzw: Float64  # (4,)
    yaw_in_earth: bool


def camera_from_info(
    width: int,
    height: int,
    distortion_model: str,
    d: npt.ArrayLike,
    k: npt.ArrayLike,
    binning: tuple[int, int] = (0, 0),
    roi: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> Camera:
    """The camera of the image that a sensor_msgs/CameraInfo describes.

    K and D hold for the full `width` x `height`; the image is that, cut to `roi` (x, y, width, height; zero size
    means all) and then binned (0 means 1). UserError for K of another size or an unknown distortion model.
    """
    K = np.asarray(k, dtype=np.float64).reshape(-1)
    if K.size != 9:
        raise UserError(f"CameraInfo K has {K.size} elements; expected 9")
    model, coefficients = _distortion(distortion_model, [float(v) for v in np.asarray(d).reshape(-1)])
    fx, fy, cx, cy = (float(K[i]) for i in (0, 4, 2, 5))
    camera = Camera(int(width), int(height), fx, fy, cx, cy, model, coefficients)
    x, y, w, h = roi
    if w and h:
        camera = camera.cropped(x, y, w, h)
    bin_x, bin_y = (max(1, int(b)) for b in binning)
    return camera.resized(camera.width // bin_x, camera.height // bin_y) if bin_x > 1 or bin_y > 1 else camera


def _distortion(model: str, d: Sequence[float]) -> tuple[str, tuple[float, ...]]:
    """A model of ours and its coefficients; no coefficients, or zeros of a polynomial model, are no distortion.

    Drivers pad D with zeros or name 8 coefficients plumb_bob; OpenCV reads both polynomial models alike.
    """
    model = model.strip() or "plumb_bob"
    if model in ("fisheye", "equidistant"):
        return ("equidistant", tuple(d[:4])) if len(d) >= 4 else ("none", ())
    if model not in COEFFICIENTS:
        raise UserError(f"unknown distortion model {model!r}; supported: {', '.join(COEFFICIENTS)}")
    significant = len(d) - next((i for i, value in enumerate(reversed(d)) if value != 0), len(d))
    if significant == 0:
        return "none", ()
    if significant > 8:
        raise UserError(f"CameraInfo D has {significant} coefficients; at most 8 (rational_polynomial) are supported")
    name, size = ("plumb_bob", 5) if significant <= 5 else ("rational_polynomial", 8)
    return name, (*d[:significant], *[0.0] * (size - significant))
