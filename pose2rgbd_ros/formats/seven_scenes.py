"""7-Scenes: seq-NN/frame-XXXXXX.{color.png,depth.png,pose.txt}, TrainSplit.txt and TestSplit.txt.

Depth in millimetres, 0 and 65535 unknown; poses are camera to world, 4 x 4, optical axes. camera-intrinsics.txt (3 x 3)
is what tools that fuse such data put beside it.
"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

from pose2rgbd_ros.dataset.encode import BadFrame
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.formats import reading
from pose2rgbd_ros.formats.reading import first_size
from pose2rgbd_ros.formats.scene import (
    Flight,
    Layout,
    Scene,
    Sidecar,
    View,
    format_row,
    pinhole,
    pose_of_matrix,
    read_sidecar,
    require_pinhole,
    stamp_after,
)
from pose2rgbd_ros.formats.settings import ImportConfig
from pose2rgbd_ros.geometry.camera import Camera

DEPTH_UNIT_M = 0.001
_RATE_HZ = 30.0
_UNKNOWN = 65535
_INTRINSICS = "camera-intrinsics.txt"
_LISTS = {"train": "TrainSplit.txt", "test": "TestSplit.txt"}
_FRAME = re.compile(r"frame-(\d+)\.pose\.txt")
_COLOURS = (".color.png", ".color.jpg", ".color.jpeg")


def detect(path: Path) -> bool:
    """Whether a folder looks like one: a scene, or one of its sequences."""
    return any(True for folder in (path, *_sequence_folders(path)) for _ in folder.glob("frame-*.pose.txt"))


def load(path: Path, config: ImportConfig, start_ns: int) -> Scene:
    """All sequences of a scene (they share a world), or the one sequence that `path` is."""
    scene = Scene(path, "7scenes", depth_unit_m=DEPTH_UNIT_M, depth_unknown=_UNKNOWN)
    folders = _sequence_folders(path) or [path]
    about = read_sidecar(path)
    if about and about.depth_unit_m:
        scene.depth_unit_m = about.depth_unit_m
    labels = _labels(path, folders) if folders != [path] else {}
    rate_hz, begin = config.rate_hz or _RATE_HZ, start_ns
    for folder in folders:
        last = begin
        for number, file in sorted(_pose_files(folder).items()):
            last = begin + round(number * 1e9 / rate_hz)
            _add(scene, file, last, labels.get(folder, ""))
        begin = stamp_after(last)
    scene.note(f"stamps count frames at {rate_hz:g} a second (--rate-hz)")
    scene.camera = _camera(path, scene, about)
    return scene


def _sequence_folders(path: Path) -> list[Path]:
    return sorted(folder for folder in path.glob("seq-*") if folder.is_dir())


def _pose_files(folder: Path) -> dict[int, Path]:
    found = ((_FRAME.fullmatch(file.name), file) for file in folder.glob("frame-*.pose.txt"))
    return {int(match[1]): file for match, file in found if match}


def _add(scene: Scene, file: Path, stamp_ns: int, label: str) -> None:
    base = str(file).removesuffix(".pose.txt")
    image = next((Path(base + end) for end in _COLOURS if Path(base + end).is_file()), None)
    if image is None:
        scene.reject("image_missing", f"{base}.color.png does not exist")
        return
    try:
        T = pose_of_matrix(reading.matrix(file, 4, 4))
    except BadFrame as error:
        scene.reject(error.reason, f"{file}: {error}")
        return
    depth = Path(base + ".depth.png")
    scene.views.append(View(stamp_ns, T, image, depth if depth.is_file() else None, label))


def _labels(path: Path, folders: list[Path]) -> dict[Path, str]:
    """The label of each sequence; nothing without lists."""
    by_number = {int(digits[0]): folder for folder in folders if (digits := re.findall(r"\d{1,9}", folder.name))}
    labels: dict[Path, str] = {}
    for label, name in _LISTS.items():
        if not (path / name).is_file():
            continue
        for number, line in reading.lines(path / name):
            digits = re.findall(r"\d{1,9}", line)
            if not digits:
                raise reading.wrong(path / name, number, f"{line!r} names no sequence (sequence1)")
            folder = by_number.get(int(digits[-1]))
            if folder is not None:  # a part of the data may have been left away
                labels[folder] = label
    return {folder: labels.get(folder, "unused") for folder in folders} if labels else {}


def _camera(path: Path, scene: Scene, about: Sidecar | None) -> Camera | None:
    if not scene.views:
        return None
    width, height = first_size([view.image for view in scene.views])
    for folder in (path, path.parent):
        file = folder / _INTRINSICS
        if file.is_file():
            K = reading.matrix(file, 3, 3)
            if K[0, 0] <= 0 or K[1, 1] <= 0 or K[2].tolist() != [0, 0, 1]:
                raise UserError(f"{file} is no matrix of intrinsics (fx 0 cx; 0 fy cy; 0 0 1)")
            return pinhole(K, width, height)
    if about is not None:
        return about.camera
    if (width, height) != (640, 480):
        return None
    scene.note(
        "intrinsics are those of the 7-Scenes page (focal length 585, centre 320, 240 pixels); its depth is not "
        "registered to the colour camera unless you did that: see `pose2rgbd depth register`"
    )
    return Camera(width, height, 585.0, 585.0, 320.0, 240.0)


def lay_out(flight: Flight) -> Layout:
    """A sequence for each stretch of one recording and one label; a split is lists of sequences here."""
    require_pinhole(flight.camera, "7-Scenes")
    frames = flight.frames
    sequence = [1]
    for a, b in pairwise(frames):
        sequence.append(sequence[-1] + ((a.run, a.label) != (b.run, b.label)))
    texts, bases, first = dict[str, str](), list[str](), dict[int, int]()
    for i, (frame, number) in enumerate(zip(frames, sequence, strict=True)):
        base = f"seq-{number:02d}/frame-{i - first.setdefault(number, i):06d}"
        bases.append(base)
        texts[f"{base}.pose.txt"] = "".join(f"{format_row(line, chr(9))}\n" for line in frame.T_map_cam)
    for label, name in _LISTS.items() if flight.has_split else ():
        named = sorted({n for n, frame in zip(sequence, frames, strict=True) if frame.label == label})
        texts[name] = "".join(f"sequence{number}\n" for number in named)
    if flight.camera.is_calibrated:
        texts[_INTRINSICS] = "".join(f"{format_row(line)}\n" for line in flight.camera.K)
    images: list[str | None] = [f"{base}.color{f.suffix}" for base, f in zip(bases, frames, strict=True)]
    return Layout(images, [f"{base}.depth{f.depth_suffix}" for base, f in zip(bases, frames, strict=True)], texts)
