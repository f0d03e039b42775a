"""KITTI odometry: sequences/NN/image_2, calib.txt, times.txt; poses/NN.txt in the frame of the first grey camera.

A pose is of camera 0 (left, grey). The other cameras are rectified to it: P = K [I | t] takes points of camera 0 to
pixels, so camera N stands at -t.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pose2rgbd_ros.dataset.encode import BadFrame
from pose2rgbd_ros.dataset.layout import stamp_text
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.formats import reading
from pose2rgbd_ros.formats.reading import image_files, image_size
from pose2rgbd_ros.formats.scene import (
    MAX_STAMP_NS,
    Flight,
    Layout,
    Scene,
    View,
    format_row,
    pinhole,
    pose_of_matrix,
    require_calibration,
    require_pinhole,
)
from pose2rgbd_ros.formats.settings import ImportConfig
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.camera import Camera

_RATE_HZ = 10.0
_PREFERRED = ("image_2", "image_0", "image_l", "image_3", "image_1")
_SEQUENCE = "00"
_NUMBER = re.compile(r"(\d+)$")


def detect(path: Path) -> bool:
    """Whether a folder looks like one: a sequence, or what holds sequences/ and poses/."""
    return (path / "sequences").is_dir() or (_image_folder(path) is not None and _pose_file(path) is not None)


def load(path: Path, config: ImportConfig, start_ns: int) -> Scene:
    """The images of one sequence, left colour before grey, with their poses by number."""
    path = _sequence(path)
    poses_file = _pose_file(path)
    if poses_file is None:
        raise UserError(f"{path} needs poses.txt or ../../poses/{path.name}.txt")
    scene, T_cam0_cam, files, stamps = _opened(path, config, start_ns)
    count = 0
    for i, (number, line) in enumerate(reading.lines(poses_file)):
        fields, where = line.split(), f"{poses_file}, line {number}"
        reading.expect(poses_file, number, fields, 12, "a 3 x 4 matrix, row by row")
        count = i + 1
        image = files.get(i)
        if image is None:
            scene.reject("image_missing", f"{where}: no image {i}")
            continue
        try:
            T = pose_of_matrix(np.array(reading.numbers(poses_file, number, fields[:12])).reshape(3, 4))
        except BadFrame as error:
            scene.reject(error.reason, f"{where}: {error}")
            continue
        scene.views.append(View(stamps(i), T @ T_cam0_cam, image))
    for i, image in files.items():
        if i >= count:
            scene.reject("no_pose", str(image))
    return scene


def is_sequence(path: Path) -> bool:
    """Whether a folder is one sequence, with poses or, as those that KITTI judges by, without."""
    return _image_folder(path) is not None and (path / "calib.txt").is_file()


def load_images(path: Path, config: ImportConfig) -> Scene:
    """The images of one sequence whose poses nobody published; they are NaN."""
    scene, _, files, stamps = _opened(path, config, 0)
    scene.views = [View(stamps(i), np.full((4, 4), np.nan), files[i]) for i in sorted(files)]
    return scene


def _opened(
    path: Path, config: ImportConfig, start_ns: int
) -> tuple[Scene, Float64, dict[int, Path], Callable[[int], int]]:
    """A sequence without views yet; where its camera stands in camera 0; its images and their stamps by number."""
    folder = _image_folder(path)
    if folder is None:
        raise UserError(f"{path} needs a folder image_0 or image_2")
    files = {_index(file): file for file in image_files(folder)}
    if not files:
        raise UserError(f"{folder} holds no images")
    scene = Scene(path, "kitti", world="y-down")
    scene.camera, T_cam0_cam = _calibration(path / "calib.txt", folder.name, next(iter(files.values())), scene)
    times = read_times(path / "times.txt")
    rate_hz = config.rate_hz or _RATE_HZ
    if not times:
        scene.note(f"{path} has no times.txt; stamps count frames at {rate_hz:g} a second (--rate-hz)")

    def stamp(i: int) -> int:
        if times and i >= len(times):
            raise UserError(f"{path / 'times.txt'} has {counted(len(times), 'line')}, but there is a frame {i}")
        return start_ns + (times[i] if times else round(i * 1e9 / rate_hz))

    return scene, T_cam0_cam, files, stamp


def _sequence(path: Path) -> Path:
    """The folder of the one sequence meant. UserError when there are several."""
    if not (path / "sequences").is_dir():
        return path
    found = [folder for folder in sorted((path / "sequences").iterdir()) if _pose_file(folder)]
    if len(found) != 1:
        names = ", ".join(str(folder) for folder in found) or "none with poses"
        raise UserError(f"{path} holds {len(found)} sequences, each a place of its own; name one: {names}")
    return found[0]


def _image_folder(path: Path) -> Path | None:
    found = [path / name for name in _PREFERRED if (path / name).is_dir()]
    return found[0] if found else None


def _pose_file(path: Path) -> Path | None:
    candidates = (path / "poses.txt", path.resolve().parent.parent / "poses" / f"{path.resolve().name}.txt")
    return next((file for file in candidates if file.is_file()), None)


def _index(file: Path) -> int:
    found = _NUMBER.search(file.stem)
    if found is None:
        raise UserError(f"{file} has no frame number in its name")
    return int(found[1])


def _calibration(file: Path, folder: str, image: Path, scene: Scene) -> tuple[Camera | None, Float64]:
    """The camera of an image folder, and its pose in camera 0."""
    T_cam0_cam = np.eye(4)
    if not file.is_file():
        scene.note(f"{file} does not exist; the camera is uncalibrated unless --camera gives its intrinsics")
        return None, T_cam0_cam
    P = _projection(file, folder)
    K, t = P[:, :3], np.linalg.solve(P[:, :3], P[:, 3])
    T_cam0_cam[:3, 3] = -t
    if np.abs(t).max() > 1e-9:
        scene.note(f"{folder} stands {-t[0]:.3f} m to the right of the camera whose poses are given; moved there")
    width, height = image_size(image)
    return pinhole(K, width, height), T_cam0_cam


def _projection(file: Path, folder: str) -> Float64:
    """The 3 x 4 matrix of an image folder: line P2 for image_2; without labels the lines count."""
    wanted = {"image_1": 1, "image_2": 2, "image_3": 3}.get(folder, 0)
    unlabelled: list[Float64] = []
    for number, line in reading.lines(file):
        label, _, rest = line.rpartition(":")
        if label and label.strip() != f"P{wanted}":
            continue
        fields = rest.split()
        reading.expect(file, number, fields, 12, "a 3 x 4 projection matrix, row by row")
        P = np.array(reading.numbers(file, number, fields[:12])).reshape(3, 4)
        if not np.isfinite(P).all() or P[0, 0] <= 0 or P[1, 1] <= 0 or abs(P[2, 2] - 1) > 1e-6:
            raise reading.wrong(file, number, "no projection matrix K [I | t]")
        if label:
            return P
        unlabelled.append(P)
    if wanted < len(unlabelled):
        return unlabelled[wanted]
    raise UserError(f"{file} has no matrix P{wanted}, which {folder} needs")


def read_times(file: Path) -> list[int]:
    """Nanoseconds since the first frame; empty without the file. UserError when they do not increase."""
    if not file.is_file():
        return []
    found: list[int] = []
    for number, line in reading.lines(file):
        seconds = reading.numbers(file, number, [line])[0]
        if not 0 <= seconds < MAX_STAMP_NS / 1e9 or (found and round(seconds * 1e9) <= found[-1]):
            raise reading.wrong(file, number, f"the time {line} does not come after the one before")
        found.append(round(seconds * 1e9))
    return found


def lay_out(flight: Flight) -> Layout:
    """One sequence 00 whose poses are relative to its first frame, as in KITTI; all four cameras are the same one."""
    camera, frames = flight.camera, flight.frames
    require_calibration(camera, "KITTI")
    require_pinhole(camera, "KITTI")
    folder = f"sequences/{_SEQUENCE}"
    P = format_row(np.hstack([camera.K, np.zeros((3, 1))]).reshape(-1))
    T_first_map = se3.inverse(frames[0].T_map_cam)
    poses = [format_row((T_first_map @ frame.T_map_cam)[:3].reshape(-1)) for frame in frames]
    times = [stamp_text(frame.stamp_ns - frames[0].stamp_ns) for frame in frames]
    texts = {
        f"{folder}/calib.txt": "".join(f"P{i}: {P}\n" for i in range(4)),
        f"{folder}/times.txt": "".join(f"{time}\n" for time in times),
        f"poses/{_SEQUENCE}.txt": "".join(f"{pose}\n" for pose in poses),
    }
    return Layout([f"{folder}/image_2/{i:06d}{frame.suffix}" for i, frame in enumerate(frames)], None, texts)
