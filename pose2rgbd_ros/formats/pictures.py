"""Image and depth files of other tools: finding, measuring and reading them."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np

from pose2rgbd_ros.dataset.encode import BadFrame
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import depth as rules
from pose2rgbd_ros.geometry.arrays import AnyArray, Float32
from pose2rgbd_ros.geometry.depth import decode_file
from pose2rgbd_ros.streams.samples import DepthSample, compressed_size

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
_PNG = b"\x89PNG"
_HEAD = 1 << 20  # a JPEG's size may stand behind a large EXIF thumbnail


def image_files(folder: Path) -> list[Path]:
    """The images of a folder by name."""
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)


def image_size(file: Path) -> tuple[int, int]:
    """Width and height of an image. UserError when it is none."""
    try:
        with file.open("rb") as stream:
            found = compressed_size(stream.read(_HEAD))
        if found is not None:
            return found[1], found[2]
        data = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror})") from error
    image = decode_file(data, cv2.IMREAD_UNCHANGED)
    if image is None:
        raise UserError(f"{file} is no readable image")
    return int(image.shape[1]), int(image.shape[0])


def first_size(files: list[Path]) -> tuple[int, int]:
    """The size of the first image that can be read. UserError when none of the first hundred can."""
    problem: UserError | None = None
    for file in files[:100]:
        try:
            return image_size(file)
        except UserError as error:
            problem = problem or error
    raise problem or UserError("there are no images")


def read_bytes(file: Path) -> bytes:
    """The contents. BadFrame "image_missing" when there are none to be had."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadFrame("image_missing", f"{file} cannot be read ({error.strerror})") from error


def read_depth(stamp_ns: int, file: Path, unit_m: float, unknown: int | None) -> DepthSample | Float32:
    """Depth (H, W) of 16 bit counts, or of floats (TIFF, .npy) in `unit_m`. 0 and `unknown` are unknown.

    BadFrame "depth_missing" or "depth_unreadable".
    """
    try:
        data = file.read_bytes()
        image = _pixels(file, data)
    except FileNotFoundError as error:
        raise BadFrame("depth_missing", f"{file} does not exist") from error
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise BadFrame("depth_unreadable", f"{file} cannot be read ({error})") from error
    if image.ndim == 2 and image.dtype == np.uint16:
        png = data if data.startswith(_PNG) else None
        if unknown is not None and (image == unknown).any():
            image, png = np.where(image == unknown, np.uint16(0), image), None
        return DepthSample.from_counts(stamp_ns, "", image, unit_m, png)
    if image.ndim == 2 and image.dtype in (np.float32, np.float64):
        return rules.known(image.astype(np.float64) * unit_m)
    raise BadFrame(
        "depth_unreadable",
        f"{file} holds {image.dtype} pixels of shape {image.shape}; expected one channel of 16 bit counts or floats",
    )


def _pixels(file: Path, data: bytes) -> AnyArray:
    """The array of an image or .npy file, without a last axis of one channel. ValueError when it is none, or cut
    off.
    """
    if file.suffix.lower() == ".npy":
        image: AnyArray | None = np.load(io.BytesIO(data), allow_pickle=False)
    else:
        if data.startswith(_PNG) and b"IEND" not in data[-64:]:
            raise ValueError("the PNG ends too early")
        image = decode_file(data, cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError("no image")
    return image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
