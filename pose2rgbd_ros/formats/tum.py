"""TUM RGB-D: rgb.txt, depth.txt, groundtruth.txt. Stamps in seconds, quaternions x y z w, depth in 1/5000 m."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import numpy as np

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.formats import reading
from pose2rgbd_ros.formats.scene import MAX_STAMP_NS, Flight, Layout, Scene, Track, View, camera_of_text, read_sidecar
from pose2rgbd_ros.formats.settings import ImportConfig
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.trajectory import mutual_nearest

DEPTH_UNIT_M = 1 / 5000
_LISTS = ("associations.txt", "associate.txt", "associated.txt")
_TRACK = "groundtruth.txt"
# fx fy cx cy, k1 k2 p1 p2 k3, as the benchmark's page on intrinsics has them (Sturm et al. 2012).
_LENSES = {
    "1": "517.3 516.5 318.6 255.3 0.2624 -0.9531 -0.0054 0.0026 1.1633",
    "2": "520.9 521.0 325.1 249.7 0.2312 -0.7849 -0.0033 -0.0001 0.9172",
    "3": "535.4 539.2 320.1 247.6",
}
_FREIBURG = re.compile(r"freiburg([123])")
_Stamped = list[tuple[int, str, str]]  # stamp, file, where it is said


def detect(path: Path) -> bool:
    """Whether a folder looks like one."""
    return (path / _TRACK).is_file() and any((path / name).is_file() for name in ("rgb.txt", *_LISTS))


def load(path: Path, config: ImportConfig, start_ns: int) -> Scene:
    """The frames of rgb.txt (or an associations.txt) with the depth nearest in time and the pose interpolated."""
    about = read_sidecar(path)
    scene = Scene(path, "tum", about.camera if about else None)
    scene.depth_unit_m = (about and about.depth_unit_m) or DEPTH_UNIT_M
    if scene.camera is None:
        scene.camera = _published_camera(path, scene)
    images, pairs = _images_and_depths(path, config)
    track = Track(*read_poses(path / _TRACK), round(config.max_pose_gap_s * 1e9), path / _TRACK)
    scene.notes += track.notes
    for (stamp, name, where), depth in zip(images, pairs, strict=True):
        T, reason = track.pose_at(stamp)
        if T is None:
            scene.reject(reason, where)
            continue
        image = reading.inside(path, name, where, config.outside)
        depth_path = reading.inside(path, depth[1], depth[2], config.outside) if depth else None
        scene.views.append(View(stamp, T, image, depth_path))
    return scene


def _published_camera(path: Path, scene: Scene) -> Camera | None:
    """The colour camera of one of TUM's own recordings, which name it; None: another one's, or of an unknown lens."""
    found = _FREIBURG.search(path.resolve().name)
    if found is None:
        return None
    scene.note(f"{path.name}: the lens is the one that TUM publishes for freiburg{found[1]}")
    return camera_of_text(_LENSES[found[1]], 640, 480)


def _images_and_depths(path: Path, config: ImportConfig) -> tuple[_Stamped, list[tuple[int, str, str] | None]]:
    if (path / "rgb.txt").is_file():
        images = _stamped(path / "rgb.txt")
        depths = _stamped(path / "depth.txt") if (path / "depth.txt").is_file() and config.with_depth else []
        return images, _paired(images, depths, round(config.depth_tolerance_s * 1e9))
    file = next(path / name for name in _LISTS if (path / name).is_file())
    images = _stamped(file)
    return images, [(*depth, where) for depth, where in _seconds(file)] if config.with_depth else [None] * len(images)


def _stamped(file: Path) -> _Stamped:
    """The first stamp and file of each line."""
    found: _Stamped = []
    for number, line in reading.lines(file):
        fields = line.split()
        reading.expect(file, number, fields, 2, "timestamp file")
        found.append((_stamp(file, number, fields[0]), fields[1], f"{file}, line {number}"))
    return found


def _seconds(file: Path) -> list[tuple[tuple[int, str], str]]:
    """The second stamp and file of each line of an associations.txt."""
    found = []
    for number, line in reading.lines(file):
        fields = line.split()
        reading.expect(file, number, fields, 4, "timestamp rgb timestamp depth")
        found.append(((_stamp(file, number, fields[2]), fields[3]), f"{file}, line {number}"))
    return found


def _stamp(file: Path, number: int, field: str) -> int:
    try:
        stamp = layout.parse_stamp(field)
    except ValueError as error:
        try:
            stamp = round(Decimal(field) * 1_000_000_000)  # evo writes 1.305031102e+09
        except (ArithmeticError, ValueError):
            raise reading.wrong(file, number, str(error)) from None
    if not 0 <= stamp <= MAX_STAMP_NS:
        raise reading.wrong(
            file, number, f"the stamp {field} s is {'negative' if stamp < 0 else 'too large for seconds'}"
        )
    return stamp


def _paired(images: _Stamped, depths: _Stamped, tolerance_ns: int) -> list[tuple[int, str, str] | None]:
    """The depth nearest to each image that is no nearer to another image; None where none is within the tolerance."""
    image_ns, depth_ns = (np.array([stamp for stamp, *_ in found], np.int64) for found in (images, depths))
    chosen, theirs = mutual_nearest(image_ns, depth_ns, tolerance_ns)
    pairs: list[tuple[int, str, str] | None] = [None] * len(images)
    for i, j in zip(chosen, theirs, strict=True):
        pairs[i] = depths[j]
    return pairs


def read_poses(file: Path) -> tuple[list[int], list[list[float]], list[list[float]]]:
    """Stamps in nanoseconds, positions and quaternions (x, y, z, w) of a trajectory file. UserError, with the line."""
    stamps, positions, quats = list[int](), list[list[float]](), list[list[float]]()
    for number, line in reading.lines(file):
        fields = line.split()
        reading.expect(file, number, fields, 8, "timestamp tx ty tz qx qy qz qw")
        values = reading.numbers(file, number, fields[1:8])
        stamps.append(_stamp(file, number, fields[0]))
        positions.append(values[:3])
        quats.append(values[3:])
    return stamps, positions, quats


def lay_out(flight: Flight) -> Layout:
    """rgb.txt, depth.txt, associations.txt and groundtruth.txt, with stamps to the nanosecond."""
    names = [layout.stamp_text(frame.stamp_ns) for frame in flight.frames]
    images = [f"rgb/{name}{frame.suffix}" for name, frame in zip(names, flight.frames, strict=True)]
    depths = [f"depth/{name}{frame.depth_suffix}" for name, frame in zip(names, flight.frames, strict=True)]
    poses = "".join(layout.pose_line(frame.stamp_ns, frame.T_map_cam) for frame in flight.frames)
    texts = {
        "rgb.txt": _list("# color images\n# timestamp filename\n", names, images),
        _TRACK: f"# ground truth trajectory\n# timestamp tx ty tz qx qy qz qw\n{poses}",
    }
    if flight.with_depth:
        pairs = [f"{name} {depth}" for name, depth in zip(names, depths, strict=True)]
        texts["depth.txt"] = _list("# depth maps\n# timestamp filename\n", names, depths)
        texts["associations.txt"] = _list("", names, [f"{i} {pair}" for i, pair in zip(images, pairs, strict=True)])
    return Layout(list(images), list(depths), texts)


def _list(header: str, names: list[str], files: list[str]) -> str:
    return header + "".join(f"{name} {file}\n" for name, file in zip(names, files, strict=True))
