"""COLMAP's text model: cameras.txt, images.txt, points3D.txt, beside a folder of images.

A pose there takes world to camera, quaternion w x y z; the centre of the first pixel is (0.5, 0.5), half a pixel from
where OpenCV (and we) put it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pose2rgbd_ros.dataset.encode import BadFrame
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.formats import reading
from pose2rgbd_ros.formats.scene import (
    Flight,
    Layout,
    Scene,
    View,
    format_number,
    format_row,
    pose_of_quaternion,
    read_sidecar,
    require_calibration,
    stamps_from_names,
)
from pose2rgbd_ros.formats.settings import ImportConfig
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64, UInt8
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


def parse_camera(fields: Sequence[str]) -> Camera:
    """The camera of `MODEL WIDTH HEIGHT PARAMS[]`. ValueError or UserError when that makes no sense to us."""
    model = fields[0]
    if model not in _KNOWN:
        raise ValueError(f"camera model {model}; known: {', '.join(_KNOWN)} (or undistort the images with COLMAP)")
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


def camera_text(camera: Camera) -> str:
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
    return f"{model} {camera.width} {camera.height} {' '.join(format_number(value) for value in values)}"


# Sparse points from depth images, for tools that start from COLMAP's points (Gaussian splatting does).


_MOST_FRAMES = 200  # spread over the flight; more would only cost time


@dataclass(eq=False)
class Points:
    """Points (n, 3) in the map, colours (n, 3) and pixels (n, 2) in COLMAP's convention, by their frame."""

    by_frame: dict[int, tuple[Float64, UInt8, Float64]] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(len(xyz) for xyz, _, _ in self.by_frame.values())

    def seen_from(self, frame: int) -> Iterator[tuple[int, Float64]]:
        """Number and pixel of each point of a frame."""
        first = 1
        for other, (xyz, _, uv) in self.by_frame.items():
            if other == frame:
                yield from zip(range(first, first + len(xyz)), uv, strict=True)
            first += len(xyz)

    def rows(self) -> Iterator[tuple[int, Float64, UInt8, int, int]]:
        """Number, position and colour of each point, its frame, and its place among the points of that frame."""
        number = 0
        for frame, (xyz, rgb, _) in self.by_frame.items():
            for place in range(len(xyz)):
                number += 1
                yield number, xyz[place], rgb[place], frame, place


def points_from_depth(flight: Flight, frames: Sequence[int]) -> Points:
    """Known depths at random pixels of frames spread evenly over `frames`; none without metric depth."""
    depth = flight.dataset.meta.depth
    points = Points()
    config = flight.config
    if depth is None or depth.kind != "metric" or not config.with_depth or not config.points or not frames:
        return points
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), _MOST_FRAMES)).round().astype(int))
    share = -(-config.points // len(chosen))
    left = config.points
    for i in tqdm([frames[k] for k in chosen], desc="points", unit="frame", leave=False, disable=None):
        found = _of_frame(flight, i, min(share, left))
        if len(found[0]):
            points.by_frame[i] = found
            left -= len(found[0])
    return points


def _of_frame(flight: Flight, i: int, count: int) -> tuple[Float64, UInt8, Float64]:
    dataset, frame = flight.dataset, flight.frames[i]
    depth, rgb = dataset.depth(i), dataset.rgb(i)
    camera = dataset.camera.resized(depth.shape[1], depth.shape[0])
    rows, columns = np.nonzero(np.isfinite(depth))
    picked = np.random.default_rng(frame.stamp_ns % 2**63).permutation(len(rows))[:count]
    rows, columns = rows[picked], columns[picked]
    points_cam = camera.unproject(np.stack([columns, rows], axis=-1)) * depth[rows, columns, None]
    pixels = flight.camera.project(points_cam)
    inside = np.isfinite(pixels).all(axis=-1)
    colours = rgb[rows * rgb.shape[0] // depth.shape[0], columns * rgb.shape[1] // depth.shape[1]]
    xyz = se3.transform_points(frame.T_map_cam, points_cam)
    return xyz[inside], colours[inside], pixels[inside] + HALF_PIXEL


_CAMERAS, _IMAGES, _POINTS = "cameras.txt", "images.txt", "points3D.txt"
_TEST = "test.txt"  # where Gaussian splatting's own reader looks for the held-out images
_MODELS = (".", "sparse/0", "sparse", "colmap/sparse/0", "colmap/text")
_PICTURES = ("images", ".", "../images", "../../images", "../../../images")
_RATE_HZ = 30.0


def detect(path: Path) -> bool:
    """Whether a folder is or holds a model, be it a binary one, which `load` explains."""
    return any((path / model / name).is_file() for model in _MODELS for name in (_IMAGES, "images.bin"))


def load(path: Path, config: ImportConfig, start_ns: int) -> Scene:
    """The images of the commonest camera; those of others are counted."""
    model = _model(path)
    cameras = _read_cameras(model / _CAMERAS)
    scene = Scene(path, "colmap")
    entries = list(_read_images(model / _IMAGES))
    if not entries:
        raise UserError(f"{model / _IMAGES} holds no images")
    main = Counter(fields[8] for _, fields in entries).most_common(1)[0][0]
    about = read_sidecar(path)
    found, how = stamps_from_names(
        [fields[9] for _, fields in entries],
        config.rate_hz or _RATE_HZ,
        start_ns,
        about is not None and about.named_by_stamp,
    )
    scene.note(f"stamps are from {how}")
    if about is None:
        scene.note("COLMAP's unit of length is metres only if the model was aligned (--scale)")
    scene.camera = _camera(cameras, main, model)
    pictures = _picture_folder(path, model, [fields[9] for _, fields in entries])
    held_out = _held_out(model / _TEST)
    for stamp, (number, fields) in zip(found, entries, strict=True):
        where = f"{model / _IMAGES}, line {number}"
        if fields[8] != main and cameras.get(fields[8]) != cameras[main]:
            scene.reject("other_camera", f"{where}: camera {fields[8]}, not {main}")
            continue
        qw, qx, qy, qz, x, y, z = reading.numbers(model / _IMAGES, number, fields[1:8])
        try:
            T_cam_map = pose_of_quaternion([x, y, z], [qx, qy, qz, qw])
        except BadFrame as error:
            scene.reject(error.reason, f"{where}: {error}")
            continue
        image = reading.inside(pictures, fields[9], where, config.outside)
        label = "" if held_out is None else "test" if fields[9] in held_out else "train"
        scene.views.append(View(stamp, se3.inverse(T_cam_map), image, None, label))
    return scene


def _model(path: Path) -> Path:
    for name in _MODELS:
        if (path / name / _IMAGES).is_file():
            return path / name
    for name in _MODELS:
        folder = path / name
        if (folder / "images.bin").is_file():
            raise UserError(
                f"{folder} is a binary model; make it text: colmap model_converter --input_path {folder} "
                f"--output_path {folder} --output_type TXT"
            )
    raise UserError(f"{path} holds no COLMAP model (images.txt, also in sparse/0)")


def _read_cameras(file: Path) -> dict[str, tuple[int, list[str]]]:
    """Line and fields of each camera by its number."""
    found = {}
    for number, line in reading.lines(file):
        fields = line.split()
        reading.expect(file, number, fields, 5, "CAMERA_ID MODEL WIDTH HEIGHT PARAMS[]")
        found[fields[0]] = (number, fields)
    return found


def _camera(cameras: dict[str, tuple[int, list[str]]], name: str, model: Path) -> Camera:
    if name not in cameras:
        raise UserError(f"{model / _CAMERAS} has no camera {name}, which {_IMAGES} names")
    number, fields = cameras[name]
    try:
        return parse_camera(fields[1:])
    except (ValueError, UserError) as error:
        raise reading.wrong(model / _CAMERAS, number, str(error)) from error


def _read_images(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Line and ten fields of each image: every other line, for the second one lists its points and may be empty."""
    points_next = False
    for number, line in reading.lines(file, blank=True):
        if points_next:
            points_next = False
            continue
        if not line:
            continue
        fields = line.split(maxsplit=9)
        reading.expect(file, number, fields, 10, "IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME")
        points_next = True
        yield number, fields


def _picture_folder(path: Path, model: Path, names: list[str]) -> Path:
    """Where the images lie: of the usual places the one with most of the first fifty."""
    places = [path / "images", *(model / place for place in _PICTURES)]
    safe = [name.replace("\\", "/") for name in names[:50]]
    return max(places, key=lambda place: sum(reading.is_file(place / name) for name in safe))


def _held_out(file: Path) -> set[str] | None:
    return {line for _, line in reading.lines(file)} if file.is_file() else None


def lay_out(flight: Flight) -> Layout:
    """images/ and sparse/0/; points3D.txt from depth, where there is some. Frames "unused" by a split are left out."""
    require_calibration(flight.camera, "COLMAP")
    images: list[str | None] = [
        None if frame.label == "unused" else f"{frame.stamp_ns}{frame.suffix}" for frame in flight.frames
    ]
    kept = [i for i, image in enumerate(images) if image]
    points = points_from_depth(flight, kept)
    texts = {
        f"sparse/0/{_CAMERAS}": "# Camera list with one line of data per camera:\n"
        f"#   CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]\n# Number of cameras: 1\n"
        f"1 {camera_text(flight.camera)}\n",
        f"sparse/0/{_IMAGES}": _images_text(flight, images, kept, points),
        f"sparse/0/{_POINTS}": _points_text(points),
    }
    if flight.has_split:
        held_out = [str(images[i]) for i in kept if flight.frames[i].label == "test"]
        texts[f"sparse/0/{_TEST}"] = "".join(f"{name}\n" for name in held_out)
    return Layout([image and f"images/{image}" for image in images], None, texts, "unused by the split")


def _images_text(flight: Flight, images: list[str | None], kept: list[int], points: Points) -> str:
    rows = [
        "# Image list with two lines of data per image:\n",
        "#   IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME\n",
        "#   POINTS2D[] as (X, Y, POINT3D_ID)\n",
        f"# Number of images: {len(kept)}\n",
    ]
    for i in kept:
        position, (qx, qy, qz, qw) = se3.split(se3.inverse(flight.frames[i].T_map_cam))
        rows.append(f"{i + 1} {format_row([qw, qx, qy, qz])} {format_row(position)} 1 {images[i]}\n")
        seen = [f"{u:.3f} {v:.3f} {point}" for point, (u, v) in points.seen_from(i)]
        rows.append(" ".join(seen) + "\n")
    return "".join(rows)


def _points_text(points: Points) -> str:
    rows = [
        "# 3D point list with one line of data per point:\n",
        "#   POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] as (IMAGE_ID, POINT2D_IDX)\n",
        f"# Number of points: {len(points)}\n",
    ]
    for point, xyz, rgb, frame, place in points.rows():
        rows.append(f"{point} {format_row(xyz)} {rgb[0]} {rgb[1]} {rgb[2]} 0 {frame + 1} {place}\n")
    return "".join(rows)
