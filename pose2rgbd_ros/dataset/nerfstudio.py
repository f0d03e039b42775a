"""transforms.json: the dataset as nerfstudio's `nerfstudio-data` parser wants it. Derived, never read back by us."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from pose2rgbd_ros.dataset.meta import DatasetMeta, DepthMeta
from pose2rgbd_ros.dataset.records import Record
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.camera import Camera

# OpenGL camera axes (x right, y up, z back) in the optical ones (x right, y down, z forward); its own inverse.
T_OPTICAL_OPENGL: Float64 = np.diag([1.0, -1.0, -1.0, 1.0])
T_OPTICAL_OPENGL.setflags(write=False)

_COEFFICIENT_NAMES = {
    "none": (),
    "plumb_bob": ("k1", "k2", "p1", "p2", "k3"),
    "equidistant": ("k1", "k2", "k3", "k4"),
}


def transforms_json(meta: DatasetMeta, frames: Iterable[tuple[Record, Float64]]) -> str | None:
    """The text of transforms.json for frames with their T_map_cam (4, 4).

    None where nerfstudio has no words for the camera: uncalibrated, or rational distortion (undistort first).
    Relative depth is left out: nerfstudio takes depth for lengths in the unit of the poses.
    """
    if not meta.camera.is_calibrated or meta.camera.distortion_model not in _COEFFICIENT_NAMES:
        return None
    with_depth = meta.depth is not None and meta.depth.kind == "metric"
    content: dict[str, Any] = _camera(meta.camera)
    if meta.depth is not None and with_depth:
        content["depth_unit_scale_factor"] = _scale(meta.depth)
        content["depth_note"] = (
            f"start nerfstudio's parser with --depth-unit-scale-factor {_scale(meta.depth):g}: it does not read "
            "the value above; metres = pixel * factor, along the optical axis, 0 or NaN unknown"
        )
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
