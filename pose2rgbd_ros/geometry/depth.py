"""The depth contract: every rule about depth images in one place.

Depth is float32, measured along the optical z axis (REP-118), and NaN where it is unknown. Integer counts are uint16
with 0 for unknown and a stated unit. "metric" depth is in metres; "relative" depth (from video without a scale) has
no unit, and its topic is named so that nobody takes it for metres.
"""

from __future__ import annotations

import struct
from typing import Any, Literal, get_args

import cv2
import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import rvl
from pose2rgbd_ros.geometry.arrays import AnyArray, Float32, UInt16
from pose2rgbd_ros.geometry.pixel_buffer import decode_file, pixels

DepthKind = Literal["metric", "relative"]
MILLIMETRE = 0.001
COUNT_ENCODINGS = ("16UC1", "mono16")  # millimetres
FLOAT_ENCODINGS = ("32FC1",)  # metres
ENCODINGS = FLOAT_ENCODINGS + COUNT_ENCODINGS
MAX_COUNT = 65535

# compressed_depth_image_transport: int32 compression format, then the float32 quantisation parameters A and B.
_HEADER = struct.Struct("<iff")
_INVERSE_DEPTH = 0
_PNG_MAGIC = b"\x89PNG"
_TIFF_MAGIC = (b"II*\0", b"MM\0*")
_METHODS = (
    "",
    "compressedDepth",
    "compressedDepth png",
    "compressedDepth rvl",
)  # older versions knew PNG only


def depth_topic(kind: DepthKind) -> str:
    """The (relative) name of the topic that carries depth of this kind."""
    if kind not in get_args(DepthKind):
        raise UserError(f"depth is 'metric' or 'relative', not {kind!r}")
    return "depth/image" if kind == "metric" else "depth_relative/image"


def known(depth: AnyArray) -> Float32:
    """`depth` as float32 with NaN wherever no surface was measured: NaN, +-Inf (REP-117), zero or negative."""
    depth = np.asarray(depth)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.nan).astype(np.float32)


def to_counts(depth_m: AnyArray, unit_m: float = MILLIMETRE) -> UInt16:
    """uint16 counts of `unit_m`; 0 where unknown, and where the depth does not fit (nearer than half a unit, or far)."""
    if not unit_m > 0:
        raise UserError(f"the depth unit must be positive, not {unit_m} m")
    depth = np.asarray(depth_m)
    dtype = np.float64 if depth.dtype == np.float64 else np.float32
    counts = np.rint(np.divide(depth, unit_m, dtype=dtype))
    fits = (counts > 0) & (counts <= MAX_COUNT)
    return np.where(fits, counts, dtype(0)).astype(np.uint16)


def from_counts(counts: AnyArray, unit_m: float = MILLIMETRE) -> Float32:
    """Depth in metres of uint16 counts; NaN for 0."""
    if not unit_m > 0:
        raise UserError(f"the depth unit must be positive, not {unit_m} m")
    depth = np.multiply(counts, unit_m, dtype=np.float64).astype(np.float32)
    depth[np.asarray(counts) == 0] = np.nan
    return depth


def raw_counts(
    data: Any, encoding: str, height: int, width: int, step: int = 0, is_bigendian: bool = False
) -> UInt16 | None:
    """The counts (H, W), in millimetres, of a 16UC1 image, losslessly; None for a float image."""
    _require_known(encoding)
    if encoding in FLOAT_ENCODINGS:
        return None
    return pixels(data, np.uint16, height, width, 1, step, is_bigendian)[..., 0]


def decode_depth(
    data: Any, encoding: str, height: int, width: int, step: int = 0, is_bigendian: bool = False
) -> Float32:
    """Depth (H, W) of the fields of a sensor_msgs/Image: 32FC1 in metres, 16UC1 (or mono16) in millimetres.

    UserError for another encoding or data that does not fit.
    """
    counts = raw_counts(data, encoding, height, width, step, is_bigendian)
    if counts is not None:
        return from_counts(counts)
    return known(pixels(data, np.float32, height, width, 1, step, is_bigendian)[..., 0])


def encode_32fc1(depth: AnyArray) -> Float32:
    """Little-endian float32 (H, W), contiguous: the data of a 32FC1 image. Unknown is NaN."""
    return np.ascontiguousarray(known(depth), dtype="<f4")


def raw_counts_from_compressed(data: bytes, format: str) -> UInt16 | None:
    """The counts (H, W), in millimetres, of a compressed 16UC1 image, losslessly; None for a float source."""
    encoding, payload, _ = _split_compressed(data, format)
    if encoding in FLOAT_ENCODINGS:
        return None
    image = _decode_image(payload, format)
    return None if image.dtype == np.float32 else image


def decode_compressed_depth(data: bytes, format: str) -> Float32:
    """Depth (H, W) of a sensor_msgs/CompressedImage of compressed_depth_image_transport.

    `format` is e.g. "16UC1; compressedDepth png", "32FC1; compressedDepth" or "16UC1; compressedDepth rvl". A float
    source holds quantised inverse depth: depth = A / (q - B), q = 0 unknown. Plain 16 bit PNG or float TIFF without
    the 12-byte header (what compressed_image_transport writes) is read too. UserError when it is neither.
    """
    encoding, payload, quantization = _split_compressed(data, format)
    image = _decode_image(payload, format)
    if image.dtype == np.float32:
        return known(image)
    if encoding not in FLOAT_ENCODINGS:
        return from_counts(image)
    if quantization is None:
        raise UserError(
            f"compressed depth of format {format!r} lacks its 12-byte header, so its scale is unknown"
        )
    a, b = (np.float32(value) for value in quantization)
    with np.errstate(divide="ignore"):
        depth = a / (image.astype(np.float32) - b)
    return known(np.where(image == 0, np.float32(np.nan), depth))


def encode_compressed_depth(
    depth_m: AnyArray,
    encoding: str = "16UC1",
    depth_max_m: float = 10.0,
    depth_quantization: float = 100.0,
    png_level: int = 9,
) -> tuple[bytes, str]:
    """Data and format of a CompressedImage holding `depth_m`, as compressed_depth_image_transport writes them.

    16UC1 stores millimetres (all that fit; `depth_max_m` does not apply). 32FC1 stores inverse depth up to
    `depth_max_m`, finest near the camera: one step at depth z is z^2 / A with A = quantization * (quantization + 1).
    """
    _require_known(encoding)
    a = b = 0.0
    if encoding in COUNT_ENCODINGS:
        image = to_counts(depth_m)
    else:
        a = depth_quantization * (depth_quantization + 1.0)
        b = 1.0 - a / depth_max_m
        image = _quantize_inverse(known(depth_m), a, b, depth_max_m)
    done, png = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, png_level])
    if not done:
        raise UserError(f"a depth image of shape {image.shape} cannot be written as PNG")
    return _HEADER.pack(_INVERSE_DEPTH, a, b) + png.tobytes(), f"{encoding}; compressedDepth png"


def resize_nearest(depth: AnyArray, width: int, height: int) -> AnyArray:
    """`depth` (H, W) resized by taking the source pixel under each new centre: depths are never blended."""
    rows = ((np.arange(height) + 0.5) * depth.shape[0] / height).astype(np.intp)
    columns = ((np.arange(width) + 0.5) * depth.shape[1] / width).astype(np.intp)
    resized: AnyArray = depth[rows[:, None], columns[None, :]]
    return resized


def _quantize_inverse(depth: Float32, a: float, b: float, depth_max_m: float) -> UInt16:
    """Quantised inverse depth; too near for 16 bits or beyond the maximum is unknown.

    Rounded, where the original truncates: the same decoder reads it with half the error.
    """
    q = np.rint(a / depth.astype(np.float64) + b)
    return np.where((depth < depth_max_m) & (q >= 1) & (q <= MAX_COUNT), q, 0).astype(np.uint16)


def _require_known(encoding: str) -> None:
    if encoding not in ENCODINGS:
        raise UserError(
            f"depth image of encoding {encoding!r}; accepted: 32FC1 (metres), 16UC1 or mono16 (millimetres)"
        )


def _split_compressed(data: Any, format: str) -> tuple[str, bytes, tuple[float, float] | None]:
    """Encoding, PNG or TIFF bytes, and the quantisation parameters of the header where there is one."""
    data = bytes(data)
    encoding, _, method = (part.strip() for part in format.partition(";"))
    if data.startswith((_PNG_MAGIC, *_TIFF_MAGIC)):
        return (encoding if encoding in ENCODINGS else "16UC1"), data, None
    _require_known(encoding)
    if method not in _METHODS:
        raise UserError(
            f"compressed depth of format {format!r}; accepted: '<encoding>; compressedDepth png' or rvl"
        )
    if len(data) <= _HEADER.size:
        raise UserError(f"compressed depth of {len(data)} bytes is too short to hold an image")
    _, a, b = _HEADER.unpack_from(data)
    return encoding, data[_HEADER.size :], (a, b)


def _decode_image(payload: bytes, format: str) -> AnyArray:
    if format.rstrip().endswith("rvl") and not payload.startswith(_PNG_MAGIC):
        return rvl.decode(payload)
    image = decode_file(payload, cv2.IMREAD_UNCHANGED)
    if image is None:
        raise UserError(
            f"compressed depth of format {format!r} does not hold a readable PNG; the message is damaged"
        )
    if image.ndim != 2 or image.dtype not in (np.uint16, np.float32):
        raise UserError(
            f"compressed depth of format {format!r} holds {image.dtype} pixels of shape {image.shape}; "
            "expected one channel of 16 bits"
        )
    return image
