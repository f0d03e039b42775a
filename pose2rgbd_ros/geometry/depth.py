"""The depth contract: every rule about depth images in one place.

Depth is float32, measured along the optical z axis (REP-118), and NaN where it is unknown. Integer counts are uint16
with 0 for unknown and a stated unit. "metric" depth is in metres; "relative" depth (from video without a scale) has
no unit, and its topic is named so that it is not taken for metres.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any, Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import AnyArray, Float32, Float64, Int64, UInt16

# Image bytes to arrays: raw buffers as ROS lays them out, and image files in memory.


def pixels(
    data: Any,
    dtype: npt.DTypeLike,
    height: int,
    width: int,
    channels: int = 1,
    step: int = 0,
    is_bigendian: bool = False,
) -> AnyArray:
    """A view (height, width, channels) of `data`, in native byte order (copied only where the order differs).

    `data` is bytes-like or a uint8 array; `step` is the row length in bytes, 0 for rows without padding.
    UserError when the size, the step and the amount of data do not belong together.
    """
    item = np.dtype(dtype)
    row_bytes = width * channels * item.itemsize
    step = step or row_bytes
    buffer = np.frombuffer(data, dtype=np.uint8)
    if height <= 0 or width <= 0:
        raise UserError(f"an image of {width} x {height} pixels: both must be positive")
    if step < row_bytes or buffer.size < step * (height - 1) + row_bytes:
        raise UserError(
            f"an image of {width} x {height} pixels, {channels * item.itemsize} bytes each, in rows of {step} bytes "
            f"does not fit its {buffer.size} bytes of data; the message is damaged or its encoding is wrong"
        )
    stored = item.newbyteorder(">" if is_bigendian else "<")
    array = np.ndarray(
        (height, width, channels), stored, buffer, strides=(step, channels * item.itemsize, item.itemsize)
    )
    return array.astype(item.newbyteorder("="), copy=False)


def decode_file(data: bytes, flags: int) -> AnyArray | None:
    """The image in a JPEG, PNG or TIFF file, by cv2.imdecode with `flags`; None where OpenCV cannot read all of it."""
    if len(data) == 0 or is_cut_off_jpeg(data):
        return None
    try:
        return cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except cv2.error:  # a damaged head may ask for absurd sizes
        return None


def is_cut_off_jpeg(data: bytes) -> bool:
    """Whether a scan begins after the last end of an image: older OpenCV fills what is missing with grey."""
    if bytes(data[:2]) != b"\xff\xd8":
        return False
    data = bytes(data)
    return data.find(b"\xff\xda", data.rfind(b"\xff\xd9") + 1) >= 0


# RVL, the lossless depth codec of Wilson, "Fast Lossless Depth Image Compression" (ISS 2017): decoding.
#
# compressed_depth_image_transport writes it as width and height (uint32) and then the code: runs of zeros and runs of
# differences between non-zero pixels, all as numbers of 3 bits per nibble, the nibble's top bit meaning "more follows".


_SIZE = struct.Struct("<II")
_MAX_NIBBLES = 11  # of one 32 bit number
_MAX_PIXELS = 1 << 26  # a damaged size must not ask for gigabytes
_DAMAGED = "an RVL depth image is damaged or truncated"


def decode_rvl(payload: bytes) -> UInt16:
    """Counts (H, W) of an RVL image. UserError for a damaged one."""
    if len(payload) < _SIZE.size:
        raise UserError(_DAMAGED)
    width, height = _SIZE.unpack_from(payload)
    total = width * height
    if not 0 < total <= _MAX_PIXELS:
        raise UserError(f"{_DAMAGED}: {len(payload)} bytes for {width} x {height} pixels")
    numbers = _numbers(payload[_SIZE.size :])
    pixel, source = _runs(numbers, total)
    zigzag = numbers[source]
    values = np.cumsum((zigzag >> 1) ^ -(zigzag & 1))  # each difference is to the non-zero pixel before it
    counts = np.zeros(total, dtype=np.uint16)
    counts[pixel] = values.astype(np.uint16)
    return counts.reshape(height, width)


def _numbers(code: bytes) -> Int64:
    """All numbers of the code, most significant nibble of each little-endian 32 bit word first."""
    words = np.frombuffer(code, dtype="<u4", count=len(code) // 4)
    packed = words.astype(">u4").view(np.uint8)
    nibbles = np.stack([packed >> 4, packed & 15], axis=-1).reshape(-1).astype(np.int64)
    ends = np.flatnonzero(nibbles < 8)
    if len(ends) == 0:
        raise UserError(_DAMAGED)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _MAX_NIBBLES:
        raise UserError(_DAMAGED)
    place = np.arange(ends[-1] + 1) - np.repeat(starts, lengths)
    return np.asarray(np.add.reduceat((nibbles[: ends[-1] + 1] & 7) << (3 * place), starts), dtype=np.int64)


def _runs(numbers: Int64, total: int) -> tuple[Int64, Int64]:
    """For each non-zero pixel, its index in the image and the index of its number."""
    pixels, sources = [], []
    at, done = 0, 0
    while done < total:
        if at + 2 > len(numbers):
            raise UserError(_DAMAGED)
        zeros, nonzeros = int(numbers[at]), int(numbers[at + 1])
        done, at = done + zeros, at + 2
        if done + nonzeros > total or at + nonzeros > len(numbers):
            raise UserError(_DAMAGED)
        pixels.append(np.arange(done, done + nonzeros))
        sources.append(np.arange(at, at + nonzeros))
        done, at = done + nonzeros, at + nonzeros
    return np.concatenate(pixels), np.concatenate(sources)


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
_METHODS = ("", "compressedDepth", "compressedDepth png", "compressedDepth rvl")  # older versions knew PNG only


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
    """uint16 counts of `unit_m`; 0 where unknown, and where depth does not fit (nearer than half a unit, or far)."""
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
    require_known(encoding)
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
        raise UserError(f"compressed depth of format {format!r} lacks its 12-byte header, so its scale is unknown")
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
    require_known(encoding)
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


def finest_quantization(depth_m: AnyArray) -> tuple[float, float]:
    """`depth_max_m` and `depth_quantization` with which 32FC1 uses all 16 bits for what this picture holds.

    A step at depth z is then z^2 (1 / nearest - 1 / farthest) / 65533. Readers find both in the data. What is nearer
    than 1 / 65535 of the farthest is unknown.
    """
    known_m = depth_m[np.isfinite(depth_m) & (depth_m > 0)]
    if known_m.size == 0:
        return 10.0, 100.0
    farthest = float(known_m.max()) * (1 + 1e-6)
    nearest = min(max(float(known_m.min()), farthest / MAX_COUNT), farthest * (1 - 1e-3))
    a = (MAX_COUNT - 2) / (1 / nearest - 1 / farthest)
    return farthest, (math.sqrt(1 + 4 * a) - 1) / 2


def resize_nearest(depth: AnyArray, width: int, height: int) -> AnyArray:
    """`depth` (H, W) resized by taking the source pixel under each new centre: depths are never blended."""
    rows = ((np.arange(height) + 0.5) * depth.shape[0] / height).astype(np.intp)
    columns = ((np.arange(width) + 0.5) * depth.shape[1] / width).astype(np.intp)
    resized: AnyArray = depth[rows[:, None], columns[None, :]]
    return resized


# Recorded depths that differ by less are of one surface, as neighbouring pixels see it; by more, of two.
ONE_SURFACE = 0.03


def resize_depth(depth: Float32, width: int, height: int) -> Float32:
    """`depth` (H, W), NaN unknown, as the middles of the pixels of another size show it: see :func:`sample_depth`."""
    x = (np.arange(width) + 0.5) * depth.shape[1] / width - 0.5
    y = (np.arange(height) + 0.5) * depth.shape[0] / height - 0.5
    return sample_depth(depth, np.broadcast_to(x, (height, width)), np.broadcast_to(y[:, None], (height, width)))


def sample_depth(depth: Float32, x: AnyArray, y: AnyArray) -> Float32:
    """Depth (h, w) between the pixels of `depth` (H, W), NaN unknown, at columns x (h, w) and rows y; NaN where x is.

    On one surface the inverse depth is interpolated, so that a plane stays itself. Depths of two surfaces are never
    blended: there it is the pixel's of that surface which most of the four around the place are of, of the nearer one
    where both have two. Half-way between pixels, as all places of an image halved are, the nearest pixel's would be off
    by half a pixel, always to the same side. Where most of the four are unknown it is the nearest pixel's after all:
    sparse depth stays sparse.
    """
    outside = ~np.isfinite(x)
    rows, columns = depth.shape
    x, y = (np.clip(np.where(outside, 0.0, at), 0, side - 1) for at, side in ((x, columns), (y, rows)))
    left, top = (np.minimum(at.astype(np.intp), max(side - 2, 0)) for at, side in ((x, columns), (y, rows)))
    across, down = (x - left).astype(np.float32), (y - top).astype(np.float32)
    right, below = np.minimum(left + 1, columns - 1), np.minimum(top + 1, rows - 1)
    four = np.stack([depth[top, left], depth[top, right], depth[below, left], depth[below, right]])
    weight = np.stack([(1 - across) * (1 - down), across * (1 - down), (1 - across) * down, across * down])
    known = np.isfinite(four) & (four > 0) & (weight > 1e-6)
    near = np.divide(1, four, out=np.zeros(four.shape, np.float32), where=known)
    weight_known = np.where(known, weight, 0)
    most, least = near.max(0), np.where(known, near, np.inf).min(0)
    total = weight_known.sum(0)
    inverse = (weight_known * near).sum(0) / np.maximum(total, 1e-6)
    # Of two surfaces: the heavier one's pixel of the most weight, with equal ones the nearer.
    before = known & (near > (most + least) / 2)
    chosen = np.where((weight_known * before).sum(0) >= total / 2 - 1e-4, before, known & ~before)
    pixel = np.where(chosen, weight + 1e-4 * near / np.maximum(most, 1e-12), -1).argmax(0)[None]
    one = np.take_along_axis(four, pixel, 0)[0]
    blended = np.divide(1, inverse, out=np.zeros_like(inverse), where=inverse > 0)
    found = np.where((most - least <= ONE_SURFACE * most) & (most > least), blended, one)
    nearest = np.take_along_axis(four, (2 * (down >= 0.5) + (across >= 0.5))[None], 0)[0]
    found = np.where((total < 0.5 - 1e-4) | (weight.max(0) > 1 - 1e-6), nearest, found)
    return np.where(outside, np.nan, found).astype(np.float32)


def _quantize_inverse(depth: Float32, a: float, b: float, depth_max_m: float) -> UInt16:
    """Quantised inverse depth; too near for 16 bits or beyond the maximum is unknown.

    Rounded, where the original truncates: the same decoder reads it with half the error.
    """
    q = np.rint(a / depth.astype(np.float64) + b)
    return np.where((depth < depth_max_m) & (q >= 1) & (q <= MAX_COUNT), q, 0).astype(np.uint16)


def require_known(encoding: str) -> None:
    """UserError unless depth images may have this encoding."""
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
    require_known(encoding)
    if method not in _METHODS:
        raise UserError(f"compressed depth of format {format!r}; accepted: '<encoding>; compressedDepth png' or rvl")
    if len(data) <= _HEADER.size:
        raise UserError(f"compressed depth of {len(data)} bytes is too short to hold an image")
    _, a, b = _HEADER.unpack_from(data)
    return encoding, data[_HEADER.size :], (a, b)


def _decode_image(payload: bytes, format: str) -> AnyArray:
    if format.rstrip().endswith("rvl") and not payload.startswith(_PNG_MAGIC):
        return decode_rvl(payload)
    image = decode_file(payload, cv2.IMREAD_UNCHANGED)
    if image is None:
        raise UserError(f"compressed depth of format {format!r} does not hold a readable PNG; the message is damaged")
    if image.ndim != 2 or image.dtype not in (np.uint16, np.float32):
        raise UserError(
            f"compressed depth of format {format!r} holds {image.dtype} pixels of shape {image.shape}; "
            "expected one channel of 16 bits"
        )
    return image


# Depth that was made, not measured.


@dataclass(frozen=True, eq=False)
class DepthEstimate:
    """Of one frame.

    Attributes:
        frame: its number in the sequence.
        depth: (H, W) along the optical axis, NaN unknown.
        confidence: (H, W) 0..1, 0 where depth is unknown; to be compared within one method only.
        unit_m: metres in one unit of depth, 1 where the poses' metres gave the scale. None: not known, so that depth is
            relative and must not be taken for metres.
        unit_sigma: relative standard deviation of unit_m; None: not known.
        T_map_cam: (4, 4) pose found along with depth, in depth's unit; None from a method that is given the poses.
    """

    frame: int
    depth: Float32
    confidence: Float32
    unit_m: float | None
    T_map_cam: Float64 | None = None
    unit_sigma: float | None = None
