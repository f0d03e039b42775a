"""Cambridge Landmarks: dataset_train.txt and dataset_test.txt, a line `image x y z w p q r` for each picture.

x y z is where the camera stands in the world. w p q r is a quaternion, scalar first, that rotates the WORLD's axes to
the CAMERA's (as in the VisualSFM model the lists were made from): the inverse of the rotation in a camera's pose.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pose2rgbd_ros.dataset.encode import BadFrame
from pose2rgbd_ros.formats import reading
from pose2rgbd_ros.formats.scene import (
    Flight,
    Frame,
    Layout,
    Scene,
    View,
    format_row,
    pose_of_quaternion,
    read_sidecar,
    stamps_from_names,
)
from pose2rgbd_ros.formats.settings import ImportConfig
from pose2rgbd_ros.geometry import quaternions, se3

_LISTS = {"train": "dataset_train.txt", "test": "dataset_test.txt"}
_HEADER = "Visual Landmark Dataset V1\nImageFile, Camera Position [X Y Z W P Q R]\n\n"
_TITLES = ("Visual Landmark Dataset", "ImageFile,")
_RATE_HZ = 30.0


def detect(path: Path) -> bool:
    """Whether a folder looks like one."""
    return any((path / name).is_file() for name in _LISTS.values())


def load(path: Path, config: ImportConfig, start_ns: int) -> Scene:
    """The pictures of both lists. Intrinsics are not given there (the authors' are in the .nvm model)."""
    about = read_sidecar(path)
    scene = Scene(path, "cambridge", about.camera if about else None)
    entries = [
        (fields, label, f"{path / name}, line {number}", number)
        for label, name in _LISTS.items()
        if (path / name).is_file()
        for number, fields in _rows(path / name)
    ]
    found, how = stamps_from_names(
        [fields[0] for fields, *_ in entries],
        config.rate_hz or _RATE_HZ,
        start_ns,
        about is not None and about.named_by_stamp,
    )
    scene.note(f"stamps are from {how}")
    for stamp, (fields, label, where, number) in zip(found, entries, strict=True):
        x, y, z, w, p, q, r = reading.numbers(path / _LISTS[label], number, fields[1:8])
        try:
            T = pose_of_quaternion([x, y, z], [p, q, r, w])
        except BadFrame as error:
            scene.reject(error.reason, f"{where}: {error}")
            continue
        T[:3, :3] = T[:3, :3].T
        scene.views.append(View(stamp, T, reading.inside(path, fields[0], where, config.outside), None, label))
    return scene


def _rows(file: Path) -> Iterable[tuple[int, list[str]]]:
    for number, line in reading.lines(file):
        if number <= 3 and line.startswith(_TITLES):
            continue
        fields = line.split()
        reading.expect(file, number, fields, 8, "image x y z w p q r")
        yield number, fields


def lay_out(flight: Flight) -> Layout:
    """Both lists; without a split all frames train. Frames that are in neither are left out."""
    images: list[str | None] = [
        None if frame.label == "unused" else f"seq{frame.run + 1}/{frame.stamp_ns}{frame.suffix}"
        for frame in flight.frames
    ]
    texts = {}
    for label, name in _LISTS.items():
        rows = [
            f"{image} {_pose(frame)}\n"
            for image, frame in zip(images, flight.frames, strict=True)
            if image and (frame.label or "train") == label
        ]
        texts[name] = _HEADER + "".join(rows)
    notes = [] if flight.has_split else ["dataset_test.txt is empty: the dataset has no split (--split training)"]
    return Layout(images, None, texts, "of neither list", notes)


def _pose(frame: Frame) -> str:
    position, quat = se3.split(frame.T_map_cam)
    x, y, z, w = quaternions.inverse(quat)
    return format_row(np.array([*position, w, x, y, z]))
