"""Checks of one frame before it enters a dataset, and its colour file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.dataset.png_files import encode_png
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import AnyArray, Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.pixel_buffer import decode_file
from pose2rgbd_ros.streams.images import jpeg_tables, undecodable
from pose2rgbd_ros.streams.samples import DepthSample, ImageSample

RawImages = Literal["png", "jpeg"]

JPEG_QUALITY = 95
# Sampling 4:4:4 keeps coloured edges where they are.
_JPEG = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444, cv2.IMWRITE_JPEG_QUALITY]
_ENDS = {"jpeg": b"\xff\xd9", "png": b"IEND"}
_ORTHONORMAL = 1e-2
# Heads of JPEG files that were decoded: a camera writes few. Some write tables anew for each image; those fill no memory.
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
        raise BadFrame(
            "image_unreadable", f"an image of {rgb.dtype} {rgb.shape}; expected RGB uint8 (H, W, 3)"
        )
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
        raise BadFrame(
            "image_unreadable", f"the {image.encoding} image ends too early; the message is damaged"
        )
    return (".jpg" if image.encoding == "jpeg" else ".png"), compressed


def _decodable(encoding: str, compressed: bytes) -> bool:
    """Whether OpenCV reads the file. JPEG is tried once per head: of damage behind it a decoder takes no notice anyway."""
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


def check_depth(
    depth: DepthSample | AnyArray, camera: Camera, expected: tuple[int, int] | None
) -> tuple[int, int]:
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
