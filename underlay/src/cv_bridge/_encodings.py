"""What the encoding strings of sensor_msgs/Image mean, and how to get from one to another."""

from __future__ import annotations

import re

import cv2
import numpy as np

DTYPES = {
    "8U": "uint8",
    "8S": "int8",
    "16U": "uint16",
    "16S": "int16",
    "32S": "int32",
    "32F": "float32",
    "64F": "float64",
}

# color encoding -> OpenCV type, OpenCV's name of the layout
_COLORS = {
    "mono8": ("8UC1", "GRAY"),
    "mono16": ("16UC1", "GRAY"),
    "yuv422": ("8UC2", "YUV_UYVY"),
    "yuv422_yuy2": ("8UC2", "YUV_YUY2"),
}
for _bits in (8, 16):
    for _layout in ("rgb", "bgr", "rgba", "bgra"):
        _COLORS[f"{_layout}{_bits}"] = (f"{_bits}UC{len(_layout)}", _layout.upper())
    # ROS names the first row of the pattern, OpenCV its second row and column
    for _pattern, _opencv in {"rggb": "BG", "bggr": "RG", "gbrg": "GR", "grbg": "GB"}.items():
        _COLORS[f"bayer_{_pattern}{_bits}"] = (f"{_bits}UC1", f"Bayer{_opencv}")

_PLAIN = ("GRAY", "RGB", "BGR", "RGBA", "BGRA")


def type_name(encoding: str) -> str:
    """The OpenCV type of an encoding, as `16UC1`. RuntimeError for an unknown one."""
    if encoding in _COLORS:
        return _COLORS[encoding][0]
    match = re.fullmatch(r"(8U|8S|16U|16S|32S|32F|64F)(?:C([0-9]+))?", encoding)
    if match is None:
        raise RuntimeError(f"Unrecognized image encoding [{encoding}]")
    return f"{match[1]}C{match[2] or 1}"


def dtype_and_channels(type_: str) -> tuple[str, int]:
    """`16UC1` -> ("uint16", 1)."""
    depth, channels = type_.split("C")
    return DTYPES[depth], int(channels)


def convert(image: np.ndarray, source: str, target: str) -> np.ndarray:
    """A copy of the image in another encoding.

    Colors are converted to colors; everything else only to the same number of channels. 8 and 16 bit depths are
    scaled onto each other, other depths are rounded and saturated. RuntimeError or cv2.error when it cannot be.
    """
    if target in ("", source):
        return image.copy()
    code = _color_code(source, target)
    if code is not None:
        image = cv2.cvtColor(image, code)
    dtype, _ = dtype_and_channels(type_name(target))
    return image if code is not None and image.dtype == dtype else _with_dtype(image, np.dtype(dtype))


def _color_code(source: str, target: str) -> int | None:
    """OpenCV's conversion code; None when only the depth changes."""
    if source not in _COLORS or target not in _COLORS:
        same_channels = _channels(source) == _channels(target)
        if source not in _COLORS and target in _COLORS:
            raise RuntimeError(
                f"[{source}] is not a color format. but [{target}] is. The conversion does not make sense"
            )
        if not same_channels and source in _COLORS:
            raise RuntimeError(
                f"[{source}] is a color format but [{target}] is not "
                "so they must have the same OpenCV type, CV_8UC3, CV16UC1 ...."
            )
        if not same_channels:
            raise RuntimeError(f"[{source}] and [{target}] do not have the same number of channel")
        return None
    have, want = _COLORS[source][1], _COLORS[target][1]
    if have == want and have in _PLAIN:
        return None
    family, _, packing = have.partition("_")
    name = f"COLOR_{family}2{want}" + (f"_{packing}" if packing else "")
    if want not in _PLAIN or (have.startswith("Bayer") and want.endswith("A")):
        raise RuntimeError(f"Unsupported conversion from [{source}] to [{target}]")
    return int(getattr(cv2, name))


def _channels(encoding: str) -> int:
    type_ = _COLORS[encoding][0] if encoding in _COLORS else encoding
    match = re.fullmatch(r"(?:8|16|32|64)[USF]C([0-9]*)", type_)
    if match is None:  # also `8U` and the like: they name a type, but nothing is converted to or from them
        raise RuntimeError(f"Unknown encoding {encoding}")
    return int(match[1] or 1)


def _with_dtype(image: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if image.dtype == np.uint16 and dtype == np.uint8:
        return cv2.convertScaleAbs(image, alpha=255 / 65535)  # as below, thirty times as fast
    bits = (8 * image.dtype.itemsize, 8 * dtype.itemsize)
    scale = {(8, 16): 65535 / 255, (16, 8): 255 / 65535}.get(bits, 1.0)
    if dtype.kind == "f":
        return image.astype(dtype)
    range_ = np.iinfo(dtype)
    scaled = np.rint(image * np.float64(scale))
    return np.clip(scaled, range_.min, range_.max).astype(dtype)
