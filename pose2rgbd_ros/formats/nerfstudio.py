"""nerfstudio: transforms.json with images and depth files; words for cameras are in `dataset/transforms_json.py`."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from pose2rgbd_ros.dataset.encode import BadFrame
from pose2rgbd_ros.dataset.layout import TRANSFORMS, Record
from pose2rgbd_ros.dataset.meta import DepthMeta
from pose2rgbd_ros.dataset.transforms_json import (
    CAMERA_KEYS,
    DEFAULT_DEPTH_UNIT_M,
    T_OPTICAL_OPENGL,
    camera_of,
    transforms_json,
)
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.formats import reading
from pose2rgbd_ros.formats.points import surface_points
from pose2rgbd_ros.formats.reading import first_size
from pose2rgbd_ros.formats.scene import (
    Flight,
    Layout,
    Scene,
    View,
    pose_of_matrix,
    read_sidecar,
    require_calibration,
    require_pinhole,
    stamps_from_names,
)
from pose2rgbd_ros.formats.settings import ImportConfig
from pose2rgbd_ros.geometry.camera import Camera

_SPLIT_FILES = {"transforms_train.json": "train", "transforms_val.json": "test", "transforms_test.json": "test"}
_SPLIT_KEYS = {"train_filenames": "train", "val_filenames": "test", "test_filenames": "test"}
_POINTS = "sparse_pc.ply"
_RATE_HZ = 30.0
_Entry = tuple[dict[str, Any], str, str]  # a frame with the file's common values, its label, where it is said


def detect(path: Path) -> bool:
    """Whether a folder, or file, looks like one."""
    return path.suffix == ".json" or any((path / name).is_file() for name in (TRANSFORMS, *_SPLIT_FILES))


def load(path: Path, config: ImportConfig, start_ns: int) -> Scene:
    """The frames of transforms.json, or of transforms_{train,val,test}.json, that share the commonest camera."""
    root = path.parent if path.suffix == ".json" else path
    scene = Scene(path, "nerfstudio", depth_unit_m=0.0)
    entries = _entries(path, scene)
    if not entries:
        raise UserError(f"{path}: its list of frames is empty")
    names = [str(values.get("file_path", "")) for values, _, _ in entries]
    about = read_sidecar(root)
    found, how = stamps_from_names(
        names, config.rate_hz or _RATE_HZ, start_ns, about is not None and about.named_by_stamp
    )
    scene.note(f"stamps are from {how}")
    images = [_image(root, values, where, config) for values, _, where in entries]
    cameras = [str({key: values[key] for key in CAMERA_KEYS if key in values}) for values, _, _ in entries]
    main = Counter(cameras).most_common(1)[0][0]
    first = cameras.index(main)
    scene.camera = _camera(entries[first][0], entries[first][2], images)
    for stamp, image, camera, (values, label, where) in zip(found, images, cameras, entries, strict=True):
        if camera != main:
            scene.reject("other_camera", f"{where}: intrinsics differ from those of most frames")
            continue
        try:
            T = pose_of_matrix(values.get("transform_matrix")) @ T_OPTICAL_OPENGL
        except BadFrame as error:
            scene.reject(error.reason, f"{where}: {error}")
            continue
        name = values.get("depth_file_path")
        depth = reading.inside(root, str(name), where, config.outside) if name else None
        scene.views.append(View(stamp, T, image, depth, label))
    return scene


def _entries(path: Path, scene: Scene) -> list[_Entry]:
    if path.suffix == ".json":
        return _file_entries(path, "", scene)
    if (path / TRANSFORMS).is_file():
        return _file_entries(path / TRANSFORMS, "", scene)
    files = [(path / name, label) for name, label in _SPLIT_FILES.items() if (path / name).is_file()]
    return [entry for file, label in files for entry in _file_entries(file, label, scene)]


def _file_entries(file: Path, label: str, scene: Scene) -> list[_Entry]:
    content = reading.read_json(file)
    frames = content.pop("frames", None)
    if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
        raise UserError(f"{file} has no list of frames")
    labels: dict[str, str] = {}
    for key, word in _SPLIT_KEYS.items():
        names = content.pop(key, None) or []
        if not isinstance(names, list):
            raise UserError(f"{file}: {key} is no list")
        labels.update({str(name): word for name in names})
    if "applied_transform" in content or "applied_scale" in content:
        scene.note(f"{file} was made from a model that its maker turned or scaled; poses are taken as they stand")
    if not scene.depth_unit_m:
        scene.depth_unit_m = _depth_unit(content, file)
    strangers = len(set(labels) - {str(frame.get("file_path")) for frame in frames})
    if strangers:
        scene.note(f"{file}: {strangers} names in the lists of its split are of no frame")
    entries: list[_Entry] = []
    for i, frame in enumerate(frames):
        where = f"{file}, frames[{i}]"
        if not isinstance(frame.get("file_path"), str):
            raise UserError(f"{where} has no file_path")
        word = labels.get(frame["file_path"], "unused") if labels else label
        entries.append(({**content, **frame}, word, where))
    return entries


def _depth_unit(content: dict[str, Any], file: Path) -> float:
    value = content.get("depth_unit_scale_factor", DEFAULT_DEPTH_UNIT_M)
    if not isinstance(value, (int, float)) or not (math.isfinite(value) and value > 0):
        raise UserError(f"{file}: depth_unit_scale_factor is {value!r}; it must be a positive number")
    return float(value)


def _image(root: Path, values: dict[str, Any], where: str, config: ImportConfig) -> Path:
    """The image's path; names without an ending (Blender's) mean PNG."""
    image = reading.inside(root, values["file_path"], where, config.outside)
    return image if image.suffix else image.with_name(f"{image.name}.png")


def _camera(values: dict[str, Any], where: str, images: list[Path]) -> Camera:
    size = (values["w"], values["h"]) if "w" in values and "h" in values else first_size(images)
    try:
        return camera_of(values, int(size[0]), int(size[1]))
    except (TypeError, ValueError, ArithmeticError, UserError) as error:
        raise UserError(f"{where}: {error}") from error


def lay_out(flight: Flight) -> Layout:
    """images/ and depth/ under their stamps, as the dataset has them, transforms.json with the split's lists, and
    sparse_pc.ply with points to begin from, which OpenSplat cannot do without.
    """
    require_calibration(flight.camera, "nerfstudio")
    meta, unit_m = flight.dataset.meta, flight.config.depth_unit_m
    if unit_m and flight.with_depth:
        meta = replace(meta, depth=DepthMeta("metric", "counts", unit_m))
    images = [f"images/{frame.stamp_ns}{frame.suffix}" for frame in flight.frames]
    depths = [f"depth/{frame.stamp_ns}{frame.depth_suffix}" for frame in flight.frames]
    records = [
        (Record(frame.stamp_ns, image, depth if flight.with_depth else None), frame.T_map_cam)
        for frame, image, depth in zip(flight.frames, images, depths, strict=True)
    ]
    points = surface_points(flight)
    ply = {_POINTS: points.ply()} if len(points) else {}
    labels = [frame.label for frame in flight.frames]
    content = transforms_json(meta, records, flight.camera, labels, next(iter(ply), None))
    if content is None:
        require_pinhole(flight.camera, "nerfstudio")
    return Layout(list(images), list(depths), {TRANSFORMS: content or "", **ply})
