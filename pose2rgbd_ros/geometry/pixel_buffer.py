"""Image bytes to arrays: raw buffers as ROS lays them out, and image files in memory."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import AnyArray


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
