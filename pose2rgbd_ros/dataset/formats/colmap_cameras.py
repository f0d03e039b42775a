"""Camera models: COLMAP's names and parameters, and ours."""

from __future__ import annotations

from collections.abc import Sequence

from pose2rgbd_ros.dataset.formats.layouts import number
from pose2rgbd_ros.geometry.camera import Camera

HALF_PIXEL = 0.5  # COLMAP's first pixel has its centre there, ours at 0

# How many focal lengths, our model, and where COLMAP's further parameters go in our coefficients (k1 k2 p1 p2 k3 ...).
_KNOWN: dict[str, tuple[int, str, tuple[int, ...]]] = {
    "SIMPLE_PINHOLE": (1, "none", ()),
    "PINHOLE": (2, "none", ()),
    "SIMPLE_RADIAL": (1, "plumb_bob", (0,)),
    "RADIAL": (1, "plumb_bob", (0, 1)),
    "OPENCV": (2, "plumb_bob", (0, 1, 2, 3)),
    "FULL_OPENCV": (2, "rational_polynomial", (0, 1, 2, 3, 4, 5, 6, 7)),
    "OPENCV_FISHEYE": (2, "equidistant", (0, 1, 2, 3)),
    "SIMPLE_RADIAL_FISHEYE": (1, "equidistant", (0,)),
    "RADIAL_FISHEYE": (1, "equidistant", (0, 1)),
}
_SIZES = {"none": 0, "plumb_bob": 4, "rational_polynomial": 8, "equidistant": 4}


def parse(fields: Sequence[str]) -> Camera:
    """The camera of `MODEL WIDTH HEIGHT PARAMS[]`. ValueError or UserError when that makes no sense to us."""
    model = fields[0]
    if model not in _KNOWN:
        raise ValueError(
            f"camera model {model}; known: {', '.join(_KNOWN)} (or undistort the images with COLMAP)"
        )
    focals, ours, places = _KNOWN[model]
    values = [float(field) for field in fields[3:]]
    if len(values) != focals + 2 + len(places):
        raise ValueError(f"{model} has {focals + 2 + len(places)} parameters, not {len(values)}")
    fx, fy, cx, cy = values[0], values[focals - 1], values[focals], values[focals + 1]
    if not (fx > 0 and fy > 0):
        raise ValueError(f"focal lengths must be positive, not {fx:g} and {fy:g}")
    coefficients = [0.0] * _SIZES[ours]
    for place, value in zip(places, values[focals + 2 :], strict=True):
        coefficients[place] = value
    if ours != "equidistant" and not any(coefficients):
        ours, coefficients = "none", []
    elif ours == "rational_polynomial" and not any(coefficients[5:]):
        ours, coefficients = "plumb_bob", coefficients[:5]
    cx, cy = cx - HALF_PIXEL, cy - HALF_PIXEL
    return Camera(int(fields[1]), int(fields[2]), fx, fy, cx, cy, ours, tuple(coefficients))


def text(camera: Camera) -> str:
    """`MODEL WIDTH HEIGHT PARAMS[]` of a calibrated camera."""
    coefficients = list(camera.distortion)
    if camera.distortion_model == "equidistant":
        model = "OPENCV_FISHEYE"
    elif not camera.is_distorted:
        model, coefficients = "PINHOLE", []
    elif any(coefficients[4:]):
        model, coefficients = "FULL_OPENCV", [*coefficients, 0.0, 0.0, 0.0][:8]
    else:
        model, coefficients = "OPENCV", coefficients[:4]
    values = [camera.fx, camera.fy, camera.cx + HALF_PIXEL, camera.cy + HALF_PIXEL, *coefficients]
    return f"{model} {camera.width} {camera.height} {' '.join(number(value) for value in values)}"
