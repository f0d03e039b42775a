"""transforms.json, as nerfstudio's `nerfstudio-data` parser wants it: its words for cameras, axes, depth and splits.

Ours is derived from the dataset and never read back; other people's are imported (`formats/nerfstudio.py`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from pose2rgbd_ros.dataset.layout import Record
from pose2rgbd_ros.dataset.meta import DatasetMeta, DepthMeta
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.camera import Camera

# OpenGL camera axes (x right, y up, z back) in the optical ones (x right, y down, z forward); its own inverse.
T_OPTICAL_OPENGL: Float64 = np.diag([1.0, -1.0, -1.0, 1.0])
T_OPTICAL_OPENGL.setflags(write=False)

_COEFFICIENT_NAMES = {"none": (), "plumb_bob": ("k1", "k2", "p1", "p2", "k3"), "equidistant": ("k1", "k2", "k3", "k4")}
# All values of a frame, or common to all frames, that describe its camera.
CAMERA_KEYS = (
    *("camera_model", "w", "h", "fl_x", "fl_y", "cx", "cy", "camera_angle_x", "camera_angle_y"),
    *("k1", "k2", "k3", "k4", "p1", "p2"),
)
DEFAULT_DEPTH_UNIT_M = 0.001  # of nerfstudio's parser


def transforms_json(
    meta: DatasetMeta,
    frames: Iterable[tuple[Record, Float64]],
    camera: Camera | None = None,
    labels: Sequence[str] = (),
    ply_file: str | None = None,
) -> str | None:
    """The text of transforms.json for frames with their T_map_cam (4, 4).

    `camera` is that of the images where they are not the dataset's own; `labels` ("train", "test", "unused") become
    nerfstudio's lists of file names; `ply_file` names points in the map that a training may begin from. None where
    nerfstudio has no words for the camera: uncalibrated, or rational distortion (undistort first). Relative depth is
    left out: nerfstudio takes depth for lengths in the unit of the poses.
    """
    camera = camera or meta.camera
    if not camera.is_calibrated or camera.distortion_model not in _COEFFICIENT_NAMES:
        return None
    frames = list(frames)
    with_depth = meta.depth is not None and meta.depth.kind == "metric" and any(record.depth for record, _ in frames)
    content: dict[str, Any] = _camera(camera)
    if meta.depth is not None and with_depth:
        content["depth_unit_scale_factor"] = _scale(meta.depth)
        content["depth_note"] = (
            f"start nerfstudio's parser with --depth-unit-scale-factor {_scale(meta.depth):g}: it does not read "
            "the value above; metres = pixel * factor, along the optical axis, 0 or NaN unknown"
        )
    if ply_file is not None:
        content["ply_file_path"] = ply_file
    content.update(_split([record for record, _ in frames], labels))
    content["frames"] = [_frame(record, T_map_cam, with_depth) for record, T_map_cam in frames]
    return json.dumps(content, indent=1) + "\n"


def _camera(camera: Camera) -> dict[str, Any]:
    names = _COEFFICIENT_NAMES[camera.distortion_model]
    return {
        "camera_model": "OPENCV_FISHEYE" if camera.distortion_model == "equidistant" else "OPENCV",
        "w": camera.width,
        "h": camera.height,
        "fl_x": camera.fx,
        "fl_y": camera.fy,
        # nerfstudio puts pixel centres at half integers, OpenCV (and we) at integers.
        "cx": camera.cx + 0.5,
        "cy": camera.cy + 0.5,
        **dict(zip(names, camera.distortion, strict=False)),
    }


def _scale(depth: DepthMeta) -> float:
    return depth.unit_m if depth.unit_m is not None else 1.0


def _frame(record: Record, T_map_cam: Float64, with_depth: bool) -> dict[str, Any]:
    frame: dict[str, Any] = {"file_path": record.rgb}
    if with_depth and record.depth:
        frame["depth_file_path"] = record.depth
    frame["transform_matrix"] = (T_map_cam @ T_OPTICAL_OPENGL).tolist()
    return frame


def _split(records: Sequence[Record], labels: Sequence[str]) -> dict[str, list[str]]:
    """The lists of a split. nerfstudio wants all three or none; ours has one set to test on, which is both."""
    if not any(labels):
        return {}
    train, test = (
        [record.rgb for record, label in zip(records, labels, strict=True) if label == word]
        for word in ("train", "test")
    )
    return {"train_filenames": train, "val_filenames": test, "test_filenames": test}


def camera_of(values: dict[str, Any], width: int, height: int) -> Camera:
    """The camera of a transforms.json's values, or of a frame's; the inverse of what is written.

    Without focal lengths a field of view counts (`camera_angle_x`, radians). UserError, ValueError or TypeError where
    the values make no sense, or describe distortion that no model of ours has.
    """
    model = values.get("camera_model", "OPENCV")
    if model not in ("OPENCV", "OPENCV_FISHEYE", "PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE"):
        raise UserError(f"camera_model {model!r}; known: OPENCV, OPENCV_FISHEYE, PINHOLE")
    fx = _focal(values, "fl_x", "camera_angle_x", width)
    fy = float(values["fl_y"]) if "fl_y" in values else _focal(values, "", "camera_angle_y", height) or fx
    if not fx:
        raise UserError("neither fl_x nor camera_angle_x is given, so the focal length is unknown")
    cx, cy = (float(values.get(key, size / 2)) - 0.5 for key, size in (("cx", width), ("cy", height)))
    lens = "equidistant" if model == "OPENCV_FISHEYE" else "plumb_bob"
    coefficients = tuple(float(values.get(name) or 0.0) for name in _COEFFICIENT_NAMES[lens])
    if lens == "plumb_bob" and float(values.get("k4") or 0.0):
        raise UserError("k4 is not zero: only a fisheye lens may have four radial coefficients; undistort the images")
    if lens == "plumb_bob" and not any(coefficients):
        lens, coefficients = "none", ()
    return Camera(width, height, fx, fy, cx, cy, lens, coefficients)


def _focal(values: dict[str, Any], key: str, angle_key: str, size: int) -> float:
    """Pixels; 0 where neither the focal length nor the field of view is given."""
    if key in values:
        return float(values[key])
    return size / 2 / math.tan(float(values[angle_key]) / 2) if angle_key in values else 0.0
