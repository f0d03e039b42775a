"""EuRoC / ASL: mav0/cam0/data.csv and sensor.yaml, state_groundtruth_estimate0/data.csv with poses of the body.

`T_BS` in a sensor.yaml is the pose of the sensor in the body. Stamps are nanoseconds, quaternions w x y z.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pose2rgbd_ros import settings
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.formats import reading
from pose2rgbd_ros.formats.scene import (
    MAX_STAMP_NS,
    Flight,
    Layout,
    Scene,
    Track,
    View,
    format_row,
    pose_of_matrix,
    require_calibration,
    require_pinhole,
)
from pose2rgbd_ros.formats.settings import ImportConfig
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.camera import Camera

_CAMERA, _TRUTH = "cam0", "state_groundtruth_estimate0"
_MODELS = {
    "radial-tangential": "plumb_bob",
    "radtan": "plumb_bob",
    "plumb_bob": "plumb_bob",
    "equidistant": "equidistant",
    "none": "none",
}
_IMAGE_HEADER = "#timestamp [ns],filename\n"
_TRUTH_HEADER = "#timestamp, p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m], q_RS_w [], q_RS_x [], q_RS_y [], q_RS_z []\n"


def detect(path: Path) -> bool:
    """Whether a folder looks like one."""
    return (_root(path) / _CAMERA / "data.csv").is_file()


def load(path: Path, config: ImportConfig, start_ns: int) -> Scene:
    """The images of cam0, with the body's pose interpolated to each and taken to the camera."""
    root = _root(path)
    scene = Scene(path, "euroc")
    sensor = root / _CAMERA / "sensor.yaml"
    values = settings.read_yaml(sensor)
    scene.camera, T_body_cam = _camera(values, sensor), _mount(values, sensor)
    truth = root / _TRUTH
    track = Track(*read_poses(truth / "data.csv"), round(config.max_pose_gap_s * 1e9), truth / "data.csv")
    scene.notes += track.notes
    if (truth / "sensor.yaml").is_file():  # the truth may be of a sensor that is not the body itself
        T_body_cam = se3.inverse(_mount(settings.read_yaml(truth / "sensor.yaml"), truth)) @ T_body_cam
    file = root / _CAMERA / "data.csv"
    for number, line in reading.lines(file):
        fields, where = [field.strip() for field in line.split(",")], f"{file}, line {number}"
        reading.expect(file, number, fields, 2, "timestamp, filename")
        stamp = _stamp(file, number, fields[0])
        T_map_body, reason = track.pose_at(stamp)
        if T_map_body is None:
            scene.reject(reason, where)
            continue
        image = reading.inside(root / _CAMERA / "data", fields[1], where, config.outside)
        scene.views.append(View(stamp, T_map_body @ T_body_cam, image))
    return scene


def _root(path: Path) -> Path:
    return path / "mav0" if (path / "mav0").is_dir() else path


def _stamp(file: Path, number: int, field: str) -> int:
    if not field.isdecimal() or len(field) > 19 or int(field) > MAX_STAMP_NS:
        raise reading.wrong(file, number, f"{field!r} is no stamp in nanoseconds")
    return int(field)


def read_poses(file: Path) -> tuple[list[int], list[list[float]], list[list[float]]]:
    """Stamps in nanoseconds, positions and quaternions (x, y, z, w) of a trajectory file. UserError, with the line."""
    stamps, positions, quats = list[int](), list[list[float]](), list[list[float]]()
    for number, line in reading.lines(file):
        fields = [field.strip() for field in line.split(",")]
        reading.expect(file, number, fields, 8, "timestamp, position x y z, quaternion w x y z")
        x, y, z, qw, qx, qy, qz = reading.numbers(file, number, fields[1:8])
        stamps.append(_stamp(file, number, fields[0]))
        positions.append([x, y, z])
        quats.append([qx, qy, qz, qw])
    return stamps, positions, quats


def _mount(values: dict[str, Any], where: Path) -> Float64:
    """T_BS, the pose of the sensor in the body."""
    try:
        matrix = np.array(values["T_BS"]["data"], dtype=np.float64).reshape(4, 4)
        return pose_of_matrix(matrix)
    except (KeyError, TypeError, ValueError, UserError) as error:
        raise UserError(f"{where}: T_BS is no pose of 16 numbers ({reading.short(error)})") from error


def _camera(values: dict[str, Any], where: Path) -> Camera:
    try:
        if values.get("camera_model", "pinhole") != "pinhole":
            raise ValueError(f"camera_model {values['camera_model']!r}; only pinhole is known")
        width, height = (int(value) for value in values["resolution"])
        fx, fy, cx, cy = (float(value) for value in values["intrinsics"])
        name = str(values.get("distortion_model") or "none").lower()
        if name not in _MODELS:
            raise ValueError(f"distortion_model {name!r}; known: {', '.join(_MODELS)}")
        coefficients = tuple(float(value) for value in values.get("distortion_coefficients") or ())
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else reading.short(error)
        raise UserError(f"{where}: {what}") from error
    model = _MODELS[name]
    if model == "none" or (model == "plumb_bob" and not any(coefficients)):
        return Camera(width, height, fx, fy, cx, cy)
    return Camera(width, height, fx, fy, cx, cy, model, coefficients)


def lay_out(flight: Flight) -> Layout:
    """cam0 and its poses; the body is the camera itself (T_BS is the identity)."""
    frames = flight.frames
    names = [f"{frame.stamp_ns}{frame.suffix}" for frame in frames]
    rows = [_IMAGE_HEADER] + [f"{f.stamp_ns},{name}\n" for f, name in zip(frames, names, strict=True)]
    poses = [_TRUTH_HEADER]
    for frame in frames:
        position, (qx, qy, qz, qw) = se3.split(frame.T_map_cam)
        poses.append(f"{frame.stamp_ns},{format_row(position, ',')},{format_row([qw, qx, qy, qz], ',')}\n")
    texts = {
        "mav0/cam0/data.csv": "".join(rows),
        "mav0/cam0/sensor.yaml": _sensor_yaml(flight),
        f"mav0/{_TRUTH}/data.csv": "".join(poses),
        f"mav0/{_TRUTH}/sensor.yaml": "sensor_type: visual-inertial\n" + _T_BS,
    }
    return Layout([f"mav0/cam0/data/{name}" for name in names], None, texts)


_T_BS = """T_BS:
  cols: 4
  rows: 4
  data: [1.0, 0.0, 0.0, 0.0,
         0.0, 1.0, 0.0, 0.0,
         0.0, 0.0, 1.0, 0.0,
         0.0, 0.0, 0.0, 1.0]
"""


def _sensor_yaml(flight: Flight) -> str:
    camera = flight.camera
    require_calibration(camera, "EuRoC")
    model, coefficients = "radial-tangential", (*camera.distortion, 0.0, 0.0, 0.0, 0.0)[:4]
    if camera.distortion_model == "equidistant":
        model = "equidistant"
    elif camera.distortion_model == "rational_polynomial" or any(camera.distortion[4:]):
        require_pinhole(camera, "EuRoC")
    stamps = np.array([frame.stamp_ns for frame in flight.frames])
    rate = 1e9 / float(np.median(np.diff(stamps))) if len(stamps) > 1 else 1.0
    return (
        f"sensor_type: camera\n{_T_BS}rate_hz: {rate:g}\nresolution: [{camera.width}, {camera.height}]\n"
        f"camera_model: pinhole\nintrinsics: [{format_row([camera.fx, camera.fy, camera.cx, camera.cy], ', ')}]\n"
        f"distortion_model: {model}\ndistortion_coefficients: [{format_row(coefficients, ', ')}]\n"
    )
