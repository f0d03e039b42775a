"""COLMAP's models, text and binary, beside a folder of images: our words for their cameras, poses and points.

A pose there takes world to camera, quaternion w x y z; the centre of the first pixel is (0.5, 0.5), half a pixel from
where OpenCV (and we) put it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from pose2rgbd_ros.dataset.encode import BadFrame
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.formats import reading
from pose2rgbd_ros.formats.colmap_model import (
    CAMERAS,
    IMAGES,
    CameraRow,
    ImageRow,
    Model,
    Points,
    holds_model,
    read_cameras,
    read_images,
)
from pose2rgbd_ros.formats.points import surface_points
from pose2rgbd_ros.formats.scene import (
    Flight,
    Layout,
    Scene,
    View,
    pose_of_quaternion,
    read_sidecar,
    require_calibration,
    stamps_from_names,
)
from pose2rgbd_ros.formats.settings import ImportConfig
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.camera import Camera

# Camera models: COLMAP's names and parameters, and ours.


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


def camera_of(row: CameraRow) -> Camera:
    """Our words for a camera. UserError when it makes no sense to us."""
    if row.model not in _KNOWN:
        raise UserError(f"camera model {row.model}; known: {', '.join(_KNOWN)} (or undistort the images with COLMAP)")
    focals, ours, places = _KNOWN[row.model]
    values = row.params
    if len(values) != focals + 2 + len(places):
        raise UserError(f"{row.model} has {focals + 2 + len(places)} parameters, not {len(values)}")
    fx, fy, cx, cy = values[0], values[focals - 1], values[focals], values[focals + 1]
    if not (fx > 0 and fy > 0):
        raise UserError(f"focal lengths must be positive, not {fx:g} and {fy:g}")
    coefficients = [0.0] * _SIZES[ours]
    for place, value in zip(places, values[focals + 2 :], strict=True):
        coefficients[place] = value
    if ours != "equidistant" and not any(coefficients):
        ours, coefficients = "none", []
    elif ours == "rational_polynomial" and not any(coefficients[5:]):
        ours, coefficients = "plumb_bob", coefficients[:5]
    cx, cy = cx - HALF_PIXEL, cy - HALF_PIXEL
    return Camera(row.width, row.height, fx, fy, cx, cy, ours, tuple(coefficients))


def camera_row(camera: Camera) -> CameraRow:
    """COLMAP's words for a calibrated camera, as camera 1."""
    coefficients = list(camera.distortion)
    if camera.distortion_model == "equidistant":
        model = "OPENCV_FISHEYE"
    elif not camera.is_distorted:
        model, coefficients = "PINHOLE", []
    elif any(coefficients[4:]):
        model, coefficients = "FULL_OPENCV", [*coefficients, 0.0, 0.0, 0.0][:8]
    else:
        model, coefficients = "OPENCV", coefficients[:4]
    values = (camera.fx, camera.fy, camera.cx + HALF_PIXEL, camera.cy + HALF_PIXEL, *coefficients)
    return CameraRow("1", model, camera.width, camera.height, values)


_TEST = "test.txt"  # where Gaussian splatting's own reader looks for the held-out images
_MODELS = (".", "sparse/0", "sparse", "colmap/sparse/0", "colmap/text")
_PICTURES = ("images", ".", "../images", "../../images", "../../../images")
_RATE_HZ = 30.0


def detect(path: Path) -> bool:
    """Whether a folder is or holds a model."""
    return any(holds_model(path / name) for name in _MODELS)


def load(path: Path, config: ImportConfig, start_ns: int) -> Scene:
    """The images of the commonest camera; those of others are counted."""
    model = _model(path)
    cameras = read_cameras(model)
    scene = Scene(path, "colmap")
    rows = read_images(model)
    if not rows:
        raise UserError(f"{model}: the list of images is empty")
    main = Counter(row.camera for row in rows).most_common(1)[0][0]
    if main not in cameras:
        raise UserError(f"{model / CAMERAS}{_end(model)} has no camera {main}, which {IMAGES}{_end(model)} names")
    about = read_sidecar(path)
    names = [row.name for row in rows]
    named_by_stamp = about is not None and about.named_by_stamp
    found, how = stamps_from_names(names, config.rate_hz or _RATE_HZ, start_ns, named_by_stamp)
    scene.note(f"stamps are from {how}")
    if about is None:
        scene.note("COLMAP's unit of length is metres only if the model was aligned (--scale)")
    scene.camera = _camera(cameras[main])
    pictures = _picture_folder(path, model, names)
    held_out = _held_out(model / _TEST)
    for stamp, row in zip(found, rows, strict=True):
        if row.camera != main and not _alike(cameras.get(row.camera), cameras[main]):
            scene.reject("other_camera", f"{row.where}: camera {row.camera}, not {main}")
            continue
        qw, qx, qy, qz = row.quat_wxyz
        try:
            T_cam_map = pose_of_quaternion(row.translation, [qx, qy, qz, qw])
        except BadFrame as error:
            scene.reject(error.reason, f"{row.where}: {error}")
            continue
        image = reading.inside(pictures, row.name, row.where, config.outside)
        label = "" if held_out is None else "test" if row.name in held_out else "train"
        scene.views.append(View(stamp, se3.inverse(T_cam_map), image, None, label))
    return scene


def _model(path: Path) -> Path:
    for name in _MODELS:
        if holds_model(path / name):
            return path / name
    raise UserError(f"{path} holds no COLMAP model (images.txt or images.bin, also in sparse/0)")


def _end(model: Path) -> str:
    return ".txt" if (model / f"{IMAGES}.txt").is_file() else ".bin"


def _camera(row: CameraRow) -> Camera:
    try:
        return camera_of(row)
    except UserError as error:
        raise UserError(f"{row.where}: {reading.short(error)}") from error


def _alike(one: CameraRow | None, other: CameraRow) -> bool:
    """Whether two cameras are the same but for their ids."""
    return one is not None and replace(one, id="", where="") == replace(other, id="", where="")


def _picture_folder(path: Path, model: Path, names: list[str]) -> Path:
    """Where the images lie: of the usual places the one with most of the first fifty."""
    places = [path / "images", *(model / place for place in _PICTURES)]
    safe = [name.replace("\\", "/") for name in names[:50]]
    return max(places, key=lambda place: sum(reading.is_file(place / name) for name in safe))


def _held_out(file: Path) -> set[str] | None:
    return {line for _, line in reading.lines(file)} if file.is_file() else None


def lay_out(flight: Flight) -> Layout:
    """images/, and sparse/0/ as text and binary: OpenSplat and gsplat read binary models alone.

    Points are those of :func:`surface_points`. Frames "unused" by a split are left out.
    """
    require_calibration(flight.camera, "COLMAP")
    images: list[str | None] = [
        None if frame.label == "unused" else f"{frame.stamp_ns}{frame.suffix}" for frame in flight.frames
    ]
    kept = {i: image for i, image in enumerate(images) if image}
    points = surface_points(flight)
    rows = [image_row(i + 1, flight.frames[i].T_map_cam, image) for i, image in kept.items()]
    model = Model(
        [camera_row(flight.camera)],
        rows,
        Points(points.xyz, points.rgb, points.point, points.frame + 1, points.pixel + HALF_PIXEL),
    )
    files: dict[str, str | bytes] = {f"sparse/0/{name}": data for name, data in model.files().items()}
    if flight.has_split:
        held_out = [image for i, image in kept.items() if flight.frames[i].label == "test"]
        files[f"sparse/0/{_TEST}"] = "".join(f"{name}\n" for name in held_out)
    return Layout([image and f"images/{image}" for image in images], None, files, "unused by the split")


def image_row(id_: int, T_map_cam: Float64, name: str) -> ImageRow:
    """An image of camera 1 at a pose (4, 4)."""
    position, (qx, qy, qz, qw) = se3.split(se3.inverse(T_map_cam))
    return ImageRow(id_, (float(qw), float(qx), float(qy), float(qz)), tuple(position.tolist()), "1", name)
