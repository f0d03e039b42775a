"""COLMAP's text model: cameras.txt, images.txt, points3D.txt, beside a folder of images.

A pose there takes world to camera, quaternion w x y z; the centre of the first pixel is (0.5, 0.5), half a pixel from
where OpenCV (and we) put it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pose2rgbd_ros.dataset.formats import colmap_cameras, sidecar, stamps, text
from pose2rgbd_ros.dataset.formats.colmap_points import Points, points_from_depth
from pose2rgbd_ros.dataset.formats.config import ImportConfig
from pose2rgbd_ros.dataset.formats.layouts import Flight, Layout, require_calibration, row
from pose2rgbd_ros.dataset.formats.scene import Scene, View, pose_of_quaternion
from pose2rgbd_ros.dataset.frames import BadFrame
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.camera import Camera

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
    about = sidecar.read(path)
    found, how = stamps.from_names(
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
        qw, qx, qy, qz, x, y, z = text.numbers(model / _IMAGES, number, fields[1:8])
        try:
            T_cam_map = pose_of_quaternion([x, y, z], [qx, qy, qz, qw])
        except BadFrame as error:
            scene.reject(error.reason, f"{where}: {error}")
            continue
        image = text.inside(pictures, fields[9], where, config.outside)
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
    for number, line in text.lines(file):
        fields = line.split()
        text.expect(file, number, fields, 5, "CAMERA_ID MODEL WIDTH HEIGHT PARAMS[]")
        found[fields[0]] = (number, fields)
    return found


def _camera(cameras: dict[str, tuple[int, list[str]]], name: str, model: Path) -> Camera:
    if name not in cameras:
        raise UserError(f"{model / _CAMERAS} has no camera {name}, which {_IMAGES} names")
    number, fields = cameras[name]
    try:
        return colmap_cameras.parse(fields[1:])
    except (ValueError, UserError) as error:
        raise text.wrong(model / _CAMERAS, number, str(error)) from error


def _read_images(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Line and ten fields of each image: every other line, for the second one lists its points and may be empty."""
    points_next = False
    for number, line in text.lines(file, blank=True):
        if points_next:
            points_next = False
            continue
        if not line:
            continue
        fields = line.split(maxsplit=9)
        text.expect(file, number, fields, 10, "IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME")
        points_next = True
        yield number, fields


def _picture_folder(path: Path, model: Path, names: list[str]) -> Path:
    """Where the images lie: of the usual places the one with most of the first fifty."""
    places = [path / "images", *(model / place for place in _PICTURES)]
    safe = [name.replace("\\", "/") for name in names[:50]]
    return max(places, key=lambda place: sum(text.is_file(place / name) for name in safe))


def _held_out(file: Path) -> set[str] | None:
    return {line for _, line in text.lines(file)} if file.is_file() else None


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
        f"1 {colmap_cameras.text(flight.camera)}\n",
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
        rows.append(f"{i + 1} {row([qw, qx, qy, qz])} {row(position)} 1 {images[i]}\n")
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
        rows.append(f"{point} {row(xyz)} {rgb[0]} {rgb[1]} {rgb[2]} 0 {frame + 1} {place}\n")
    return "".join(rows)
