"""Checks of one frame before it enters a dataset, and its colour file."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from isal import isal_zlib

from pose2rgbd_ros.dataset.meta import DepthMeta
from pose2rgbd_ros.errors import UserError, os_errors
from pose2rgbd_ros.geometry import depth as rules
from pose2rgbd_ros.geometry.arrays import AnyArray, Float32, Float64, UInt8, UInt16
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.depth import decode_file
from pose2rgbd_ros.streams.samples import DepthSample, ImageSample, jpeg_tables, undecodable

# The camera of images: calibrated, guessed from a field of view, or only a size.


_SAME_ASPECT = 0.02


def camera_of_images(width: int, height: int, calibration: Camera | None, fov_deg: float) -> tuple[Camera, str]:
    """The camera of images of this size, and what to say about it ("" for nothing).

    A calibration for another resolution is scaled. Without one (None, or fx = 0) the focal length comes from the
    horizontal `fov_deg`; 0 leaves the camera uncalibrated. UserError when the calibration is for another aspect.
    """
    if calibration is not None and calibration.is_calibrated:
        if abs(calibration.width * height / (calibration.height * width) - 1) > _SAME_ASPECT:
            raise UserError(
                f"calibrates {calibration.width} x {calibration.height} pixels, but the images have {width} x {height}"
            )
        scaled = (calibration.width, calibration.height) != (width, height)
        note = f"calibration scaled from {calibration.width} x {calibration.height} pixels" if scaled else ""
        return calibration.resized(width, height), note
    why = "there is no CameraInfo" if calibration is None else "CameraInfo says K[0] = 0"
    if not fov_deg:
        return Camera(width, height, 0.0, 0.0, 0.0, 0.0), f"{why}: the camera is uncalibrated"
    focal = width / 2 / math.tan(math.radians(fov_deg) / 2)
    camera = Camera(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)
    return camera, f"{why}: focal length from a field of view of {fov_deg:g} degrees"


# PNG files several times faster than OpenCV writes them, and no larger: ISA-L packs, numpy takes the differences.


_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 3: 2}  # grey, RGB (PNG specification, 11.2.2)
_SUB = 1  # each byte less that of the pixel to its left (9.2)
_LEVEL = 1


def encode_png(image: AnyArray) -> bytes:
    """The file of an image: uint8 (H, W, 3) RGB, or grey uint8 or uint16 (H, W). ValueError for others.

    Deterministic; the GIL is free while it packs.
    """
    channels = image.shape[2] if image.ndim == 3 else 1
    known = image.dtype.kind == "u" and image.dtype.itemsize <= 2 and image.ndim in (2, 3)
    if not known or channels not in _COLOUR_TYPES:
        raise ValueError(f"no PNG is made of {image.dtype} {image.shape}")
    if not image.size:
        raise ValueError(f"no PNG is made of an empty image {image.shape}")
    height, width = image.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 8 * image.dtype.itemsize, _COLOUR_TYPES[channels], 0, 0, 0)
    packed = isal_zlib.compress(_filtered(image, channels * image.dtype.itemsize), _LEVEL)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def _filtered(image: AnyArray, pixel_bytes: int) -> UInt8:
    """(H, 1 + bytes of a row): the filter's number and the differences."""
    big_endian = np.ascontiguousarray(image, dtype=image.dtype.newbyteorder(">"))
    rows = big_endian.reshape(len(image), -1).view(np.uint8)
    filtered = np.empty((rows.shape[0], 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = _SUB
    filtered[:, 1 : 1 + pixel_bytes] = rows[:, :pixel_bytes]
    np.subtract(rows[:, pixel_bytes:], rows[:, :-pixel_bytes], out=filtered[:, 1 + pixel_bytes :])
    return filtered


def _chunk(kind: bytes, data: bytes) -> bytes:
    crc = isal_zlib.crc32(data, isal_zlib.crc32(kind))
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)


# Depth images as files: 16 bit PNG counts or 32 bit float TIFF, chosen per dataset.


DepthFormat = Literal["auto", "mm", "cm", "float"]
UNITS_M = {"mm": 0.001, "cm": 0.01}
# "auto": the first known depths decide, each unit holding what it can (65.5 m, 655 m) with a little to spare.
AUTO_REACH_M = {"mm": 60.0, "cm": 600.0}

_TIFF = [
    cv2.IMWRITE_TIFF_COMPRESSION,
    cv2.IMWRITE_TIFF_COMPRESSION_ADOBE_DEFLATE,
    cv2.IMWRITE_TIFF_PREDICTOR,
    cv2.IMWRITE_TIFF_PREDICTOR_FLOATINGPOINT,
]


class DepthEncoder:
    """Turns depth images into files of one dataset, and decides their unit where that was left open."""

    def __init__(self, meta: DepthMeta, depth_format: DepthFormat = "auto") -> None:
        """`meta.storage` other than "undecided" (a resumed dataset) overrides `depth_format`."""
        if depth_format not in ("auto", *UNITS_M, "float"):
            raise UserError(f"depth format {depth_format!r}; choose one of: auto, mm, cm, float")
        self.meta = meta
        self.too_far_pixels = 0  # known depths that the fixed unit could not hold
        self._counting = Lock()  # encode may run in several threads once the unit is decided
        self._lossless = depth_format == "auto"
        if meta.storage == "undecided":
            if meta.kind == "relative" or depth_format == "float":
                meta.storage = "float"
            elif depth_format in UNITS_M:
                meta.storage, meta.unit_m = "counts", UNITS_M[depth_format]

    def encode(self, depth: DepthSample | AnyArray) -> tuple[str, bytes]:
        """Suffix and contents of the file of one image: a sample, or metres (H, W) with NaN unknown."""
        counts = depth.counts if isinstance(depth, DepthSample) else None
        unit_m = depth.unit_m if isinstance(depth, DepthSample) else None
        values = rules.known(depth.depth_m if isinstance(depth, DepthSample) else depth)
        if self.meta.storage == "undecided":
            self._decide(values, unit_m if counts is not None else None)
        if self.meta.storage == "float":
            return ".tiff", encode_float(values)
        if counts is not None and unit_m == self.meta.unit_m:
            file = depth.png if isinstance(depth, DepthSample) else None
            return ".png", file or encode_counts(counts)
        if self.meta.unit_m is None:  # undecided still: nothing known in the image, and 0 means that in every unit
            return ".png", encode_counts(np.zeros(values.shape, np.uint16))
        too_far = int((values > (rules.MAX_COUNT + 0.5) * self.meta.unit_m).sum())
        if too_far and self._lossless:
            return ".tiff", encode_float(values)
        with self._counting:
            self.too_far_pixels += too_far
        return ".png", encode_counts(rules.to_counts(values, self.meta.unit_m))

    def _decide(self, values: Float32, count_unit_m: float | None) -> None:
        if count_unit_m is not None:
            self.meta.storage, self.meta.unit_m = "counts", count_unit_m
        elif np.isfinite(values).any():
            farthest = float(np.nanmax(values))
            fitting = [name for name, reach_m in AUTO_REACH_M.items() if farthest <= reach_m]
            if fitting:
                self.meta.storage, self.meta.unit_m = "counts", UNITS_M[fitting[0]]
            else:
                self.meta.storage = "float"


def encode_counts(counts: UInt16) -> bytes:
    """16 bit PNG of counts (H, W)."""
    return encode_png(np.asarray(counts, dtype=np.uint16))


def encode_float(depth: Float32) -> bytes:
    """Deflated 32 bit float TIFF of depth (H, W), lossless."""
    return _encode(".tiff", np.ascontiguousarray(depth, dtype=np.float32), _TIFF)


def read_depth(path: Path, meta: DepthMeta) -> Float32:
    """Depth (H, W) float32 of a file, NaN unknown. UserError when it is missing, damaged or not what `meta` says."""
    image = read_image(path, cv2.IMREAD_UNCHANGED)
    if image.ndim == 2 and image.dtype == np.float32:
        return rules.known(image)
    if image.ndim == 2 and image.dtype == np.uint16:
        if meta.unit_m is not None:
            return rules.from_counts(image, meta.unit_m)
        if not image.any():  # written before a unit was decided; nothing known is the same in every unit
            return np.full(image.shape, np.nan, np.float32)
    raise UserError(
        f"{path} holds {image.dtype} pixels of shape {image.shape}, which does not fit a dataset of "
        f"{meta.kind} depth stored as {meta.storage}; convert the recording again"
    )


def read_image(path: Path, flags: int) -> AnyArray:
    """An image file, as OpenCV decodes it with `flags`. UserError when it is missing or damaged."""
    with os_errors(f"{path} cannot be read", "restore it or convert again"):
        data = np.fromfile(path, dtype=np.uint8)
    image = cv2.imdecode(data, flags) if data.size else None
    if image is None:
        raise UserError(f"{path} is not a readable image ({data.size} bytes); restore it or convert again")
    return image


def _encode(suffix: str, image: AnyArray, parameters: list[int]) -> bytes:
    done, data = cv2.imencode(suffix, image, parameters)
    if not done:
        raise UserError(f"a depth image of shape {image.shape} cannot be written as {suffix[1:].upper()}")
    return data.tobytes()


RawImages = Literal["png", "jpeg"]

JPEG_QUALITY = 95
# Sampling 4:4:4 keeps coloured edges where they are.
_JPEG = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444, cv2.IMWRITE_JPEG_QUALITY]
_ENDS = {"jpeg": b"\xff\xd9", "png": b"IEND"}
_ORTHONORMAL = 1e-2
# Heads of JPEG files that were decoded: a camera writes few. Some write tables anew for each image; those fill no
# memory.
_MOST_HEADS = 256
_decoded_heads: dict[bytes, None] = {}


class BadFrame(UserError):
    """One frame cannot be stored; the dataset is as before. `reason` is a short word to count by."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class EncodedFrame:
    """The files of one frame, each its suffix and contents; `depth` None in a dataset of colour only."""

    image: tuple[str, bytes]
    depth: tuple[str, bytes] | None = None


def checked_stamp(stamp_ns: int) -> int:
    """The stamp as int. BadFrame "stamp_invalid" below zero."""
    if int(stamp_ns) < 0:
        raise BadFrame("stamp_invalid", f"the stamp {stamp_ns} ns is negative; check the recording's clock")
    return int(stamp_ns)


def checked_pose(T_map_cam: npt.ArrayLike) -> Float64:
    """The pose as float64 (4, 4). BadFrame "pose_invalid" when it is not finite or not rigid."""
    T = np.asarray(T_map_cam, dtype=np.float64)
    if T.shape != (4, 4) or not np.isfinite(T).all():
        raise BadFrame("pose_invalid", f"the pose is no finite 4 x 4 matrix: {T.tolist()}")
    R = T[:3, :3]
    if np.abs(R @ R.T - np.eye(3)).max() > _ORTHONORMAL or np.linalg.det(R) < 0:
        raise BadFrame("pose_invalid", f"the rotation of the pose is not orthonormal: {R.tolist()}")
    return T


def encode_image(
    image: ImageSample | AnyArray, camera: Camera, raw_images: RawImages, jpeg_quality: int = JPEG_QUALITY
) -> tuple[str, bytes]:
    """Suffix and contents of a colour file: JPEG and PNG sources verbatim, others encoded as `raw_images`.

    BadFrame "image_unreadable" (also for a JPEG or PNG that ends too early) or "image_size".
    """
    compressed = image.compressed_bytes if isinstance(image, ImageSample) else None
    if compressed is not None and isinstance(image, ImageSample):
        return _verbatim(image, compressed, camera)
    try:
        rgb = image.rgb() if isinstance(image, ImageSample) else np.asarray(image)
    except UserError as error:
        raise BadFrame("image_unreadable", str(error)) from error
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise BadFrame("image_unreadable", f"an image of {rgb.dtype} {rgb.shape}; expected RGB uint8 (H, W, 3)")
    _check_size(rgb.shape[1], rgb.shape[0], camera)
    if raw_images == "png":
        return ".png", encode_png(rgb)
    done, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [*_JPEG, jpeg_quality])
    if not done:
        raise BadFrame("image_unreadable", f"an image of {rgb.shape} cannot be written as JPEG")
    return ".jpg", data.tobytes()


def _verbatim(image: ImageSample, compressed: bytes, camera: Camera) -> tuple[str, bytes]:
    """A JPEG or PNG as it came, once it is known that it can be decoded."""
    if not _decodable(image.encoding, compressed):
        raise BadFrame("image_unreadable", undecodable(compressed))
    _check_size(image.width, image.height, camera)
    if _ENDS[image.encoding] not in compressed.rstrip(b"\0")[-64:]:
        raise BadFrame("image_unreadable", f"the {image.encoding} image ends too early; the message is damaged")
    return (".jpg" if image.encoding == "jpeg" else ".png"), compressed


def _decodable(encoding: str, compressed: bytes) -> bool:
    """Whether OpenCV reads the file. JPEG is tried once per head: damage behind it no decoder notices anyway."""
    tables = jpeg_tables(compressed) if encoding == "jpeg" else None
    if tables is not None and tables in _decoded_heads:
        return True
    if decode_file(compressed, cv2.IMREAD_REDUCED_GRAYSCALE_8) is None:
        return False
    if tables is not None and len(_decoded_heads) < _MOST_HEADS:
        _decoded_heads[tables] = None
    return True


def _check_size(width: int, height: int, camera: Camera) -> None:
    if (width, height) != (camera.width, camera.height):
        raise BadFrame(
            "image_size",
            f"an image of {width} x {height} pixels among images of {camera.width} x {camera.height}; "
            "a dataset holds one size: choose one camera's topic",
        )


def check_depth(depth: DepthSample | AnyArray, camera: Camera, expected: tuple[int, int] | None) -> tuple[int, int]:
    """(height, width) of a depth image. BadFrame "depth_size" unless it shows what the colour image shows.

    `expected`: the size of the dataset's depth images so far.
    """
    shape = (depth.depth_m if isinstance(depth, DepthSample) else np.asarray(depth)).shape
    if len(shape) != 2:
        raise BadFrame("depth_size", f"a depth image of shape {shape}; expected (H, W)")
    height, width = shape
    if expected is not None and (height, width) != expected:
        raise BadFrame(
            "depth_size",
            f"a depth image of {width} x {height} pixels among ones of {expected[1]} x {expected[0]}; "
            "a dataset holds one size",
        )
    if abs(width * camera.height / (height * camera.width) - 1) > 0.02:
        raise BadFrame(
            "depth_size",
            f"depth of {width} x {height} and colour of {camera.width} x {camera.height} pixels have different "
            "aspects, so they do not show the same view; use depth registered to the colour camera",
        )
    return height, width
