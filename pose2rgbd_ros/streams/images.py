"""Colour images as ROS sends them, raw or compressed, to RGB; the encodings that cv_bridge users have."""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import AnyArray, UInt8
from pose2rgbd_ros.geometry.pixel_buffer import decode_file, pixels

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
        raise UserError(f"colour image of encoding {encoding!r}; accepted: {', '.join(RAW_ENCODINGS)}")
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


def undecodable(data: bytes) -> str:
    """What to tell of compressed bytes that are no readable image."""
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
        if (
            marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD7
        ):  # fill bytes and markers without a body
            at += 1 if marker == 0xFF else 2
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
