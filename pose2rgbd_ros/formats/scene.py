"""What importers hand over: another tool's dataset as lists of frames, before any image is read."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from pose2rgbd_ros import settings
from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.encode import BadFrame, checked_pose
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.formats.settings import ExportConfig
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.trajectory import Trajectory

# What exporters are given, and what they answer: the names of files and the lists. Images are not their job.


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of the dataset to export.

    `suffix` and `depth_suffix` are those its files will have. `label` is "train", "test", "unused", or "" without a
    split; `run` numbers the recordings, parted by pauses.
    """

    stamp_ns: int
    T_map_cam: Float64
    suffix: str
    depth_suffix: str
    label: str
    run: int


@dataclass(frozen=True, eq=False)
class Flight:
    """The frames to export, in time order, their camera (undistorted if that was asked for), the dataset itself.

    `with_depth`: whether depth files are written.
    """

    dataset: Dataset
    camera: Camera
    frames: Sequence[Frame]
    config: ExportConfig
    with_depth: bool

    @property
    def has_split(self) -> bool:
        """Whether frames have labels."""
        return bool(self.frames and self.frames[0].label)


@dataclass
class Layout:
    """Where each frame's colour and depth go (None: left out, and why in `left_out`), and what other files hold."""

    images: list[str | None]
    depths: list[str | None] | None = None
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    left_out: str = ""
    notes: list[str] = field(default_factory=list)


def require_calibration(camera: Camera, format: str) -> None:
    """UserError for a camera without intrinsics."""
    if not camera.is_calibrated:
        raise UserError(
            f"{format} needs intrinsics, and the dataset's camera is not calibrated; convert the recording with a "
            "CameraInfo or --fov-deg"
        )


def require_pinhole(camera: Camera, format: str) -> None:
    """UserError for a camera that a format without distortion cannot describe."""
    if camera.is_distorted:
        raise UserError(
            f"{format} knows no distortion of this kind ({camera.distortion_model} "
            f"{[round(k, 6) for k in camera.distortion]}); --undistort resamples the images"
        )


def format_number(value: float) -> str:
    """Shortest text that keeps fifteen digits."""
    return f"{value:.15g}"


def format_row(values: Sequence[float] | Float64, separator: str = " ") -> str:
    """Numbers of one line."""
    return separator.join(format_number(float(value)) for value in values)


MAX_STAMP_NS = 2**63 - 1
# Written with few digits, a quaternion's length stays this near to 1; columns in another order do not.
UNIT_QUATERNION = 0.1


@dataclass(frozen=True, eq=False)
class View:
    """One frame: its files, and the pose (4, 4) of the camera's optical frame in the source's world.

    `label` is "train", "test" or "unused", and "" where the source does not say.
    """

    stamp_ns: int
    T_map_cam: Float64
    image: Path
    depth: Path | None = None
    label: str = ""


@dataclass(eq=False)
class Scene:
    """Frames that share a camera and a world.

    Attributes:
        camera: None where the source knows no intrinsics.
        depth_unit_m: metres of one depth count, or of 1.0 in float depth files.
        depth_unknown: a count that means unknown beside 0.
        world: which axis of the source's world points up or down, as in `World`.
        rejects: frames that cannot be used, by reason, and `examples` of each in words.
        notes: what was assumed, in words.
    """

    path: Path
    format: str
    camera: Camera | None = None
    views: list[View] = field(default_factory=list)
    depth_unit_m: float = 0.001
    depth_unknown: int | None = None
    world: str = "z-up"
    rejects: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def reject(self, reason: str, example: str) -> None:
        """Count a frame that cannot be used."""
        self.rejects[reason] += 1
        self.examples.setdefault(reason, example)

    def note(self, text: str) -> None:
        """Keep a remark, once."""
        if text not in self.notes:
            self.notes.append(text)

    @property
    def has_depth(self) -> bool:
        """Whether any frame has a depth image."""
        return any(view.depth is not None for view in self.views)


def pose_of_quaternion(position: npt.ArrayLike, quat_xyzw: npt.ArrayLike) -> Float64:
    """The pose (4, 4). BadFrame "pose_invalid" when it is not finite or the quaternion not of length one."""
    p, q = np.asarray(position, dtype=np.float64), np.asarray(quat_xyzw, dtype=np.float64)
    if not np.isfinite(p).all() or not np.isfinite(q).all():
        raise BadFrame("pose_invalid", "the pose is not finite")
    length = float(np.linalg.norm(q))
    if abs(length - 1) > UNIT_QUATERNION:
        raise BadFrame("pose_invalid", f"the quaternion {q.tolist()} has length {length:.3g}, not 1")
    return se3.make(p, q)


def pose_of_matrix(values: Any) -> Float64:
    """The pose (4, 4) of one, or of its three upper rows; the rotation made exactly one. BadFrame "pose_invalid"."""
    try:
        matrix = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise BadFrame("pose_invalid", "the pose is no matrix of numbers") from None
    if matrix.shape == (3, 4):
        matrix = np.vstack([matrix, [0.0, 0.0, 0.0, 1.0]])
    T = checked_pose(matrix)
    return se3.make(*se3.split(T))


def turned_up(world: str) -> Float64:
    """T_map_world (4, 4), which turns a world ("y-up", "y-down" ...) so that z points up.

    "y-down" has optical axes, as of a first camera that looks along the ground: forward becomes x.
    """
    axis, direction = world.split("-")
    if world == "z-up":
        return np.eye(4)
    if world == "y-down":
        return se3.T_BODY_OPTICAL.copy()
    up = np.zeros(3)
    up["xyz".index(axis)] = 1.0 if direction == "up" else -1.0
    ahead = np.array([1.0, 0.0, 0.0]) if axis == "z" else np.array([0.0, 0.0, -1.0])
    T = np.eye(4)
    T[:3, :3] = np.stack([ahead, np.cross(up, ahead), up])
    return T


def camera_of_text(text: str, width: int, height: int) -> Camera:
    """The camera of 'fx fy cx cy' and 0, 4, 5 or 8 distortion coefficients in OpenCV's order. UserError."""
    try:
        values = [float(value) for value in text.replace(",", " ").split()]
    except ValueError as error:
        raise UserError(f"--camera {text!r}: {error}; give numbers: fx fy cx cy [k1 k2 p1 p2 ...]") from None
    models = {0: "none", 4: "plumb_bob", 5: "plumb_bob", 8: "rational_polynomial"}
    count = len(values) - 4
    if count not in models:
        raise UserError(
            f"--camera has {len(values)} numbers; give fx fy cx cy and none, 4, 5 or 8 distortion coefficients"
        )
    fx, fy, cx, cy = values[:4]
    return Camera(width, height, fx, fy, cx, cy, models[count], tuple(values[4:]))


def pinhole(K: Float64, width: int, height: int) -> Camera:
    """The camera of a matrix of intrinsics (3, 3) without distortion."""
    return Camera(width, height, float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2]))


# pose2rgbd.yaml in an exported folder: what the format has no words for. Other tools leave it alone.


SIDECAR_NAME = "pose2rgbd.yaml"
_KEY = "exported_format"


@dataclass(frozen=True)
class Sidecar:
    """The camera of the exported images, the unit of their depth counts, whether images are named by their stamps."""

    format: str
    camera: Camera
    depth_unit_m: float | None = None
    named_by_stamp: bool = False

    def text(self, about: dict[str, Any]) -> dict[str, Any]:
        """Plain values for YAML, with more `about` the export for people."""
        return {
            _KEY: self.format,
            **about,
            "camera": self.camera.to_dict(),
            "depth_unit_m": self.depth_unit_m,
            "named_by_stamp": self.named_by_stamp,
        }


def read_sidecar(folder: Path) -> Sidecar | None:
    """What an exported folder says of itself; None in other folders. UserError for a damaged file."""
    path = folder / SIDECAR_NAME
    if not path.is_file():
        return None
    values = settings.read_yaml(path)
    try:
        unit = values.get("depth_unit_m")
        return Sidecar(
            str(values[_KEY]),
            Camera.from_dict(values["camera"]),
            float(unit) if unit is not None else None,
            bool(values.get("named_by_stamp", False)),
        )
    except (KeyError, TypeError, ValueError, UserError) as error:
        raise UserError(f"{path} is damaged ({error}); remove it to go without") from error


# Stamps for frames of formats that have none: from what the files are called, else from their order.


_SECOND = 1_000_000_000
# Sequences are set apart by this much, so that they count as different recordings.
PAUSE_NS = 10 * _SECOND
_NANOSECONDS = re.compile(r"\d{15,19}")
_SECONDS = re.compile(r"\d{1,18}\.\d{1,9}")
_NUMBER = re.compile(r"(\d{1,18})\D*$")
_MOST = 10_000_000  # a larger number is no count of frames (a date, say): then the order counts


def stamps_from_names(
    names: Sequence[str], rate_hz: float, start_ns: int, nanoseconds: bool = False
) -> tuple[list[int], str]:
    """A stamp for each file (by its name, folders included), and in words where they come from.

    Names that are stamps (nanoseconds, or seconds with decimals) are kept. Else the number in the name counts frames
    at `rate_hz` from `start_ns` on; each folder is a sequence of its own, later than the one before. Without numbers
    the sorted order counts. `nanoseconds`: names are stamps however short.

    UserError: names that should be stamps are not.
    """
    stems = [PurePosixPath(name).stem for name in names]
    stems = [stem.removesuffix(".color") for stem in stems]
    if nanoseconds and not all(stem.isdecimal() and len(stem) <= 19 for stem in stems):
        raise UserError(f"{SIDECAR_NAME} says that images are named by their stamps, but some are not")
    if nanoseconds or all(_NANOSECONDS.fullmatch(stem) for stem in stems):
        return [int(stem) for stem in stems], "the images' names, which are stamps in nanoseconds"
    decimals = [PurePosixPath(name).name.rsplit(".", 1)[0] for name in names]
    if all(_SECONDS.fullmatch(text) for text in decimals):
        return [layout.parse_stamp(text) for text in decimals], "the images' names, which are stamps in seconds"
    return _counted(names, stems, rate_hz, start_ns)


def _counted(names: Sequence[str], stems: Sequence[str], rate_hz: float, start_ns: int) -> tuple[list[int], str]:
    numbers = [int(found[1]) if (found := _NUMBER.search(stem)) else -1 for stem in stems]
    folders = [str(PurePosixPath(name).parent) for name in names]
    distinct = len(set(zip(folders, numbers, strict=True))) == len(names)
    by_number = distinct and all(0 <= number <= _MOST for number in numbers)
    if not by_number:
        order = sorted(range(len(names)), key=lambda i: names[i])
        for place, i in enumerate(order):
            numbers[i] = place
        folders = [""] * len(names)
    stamps, begin = [0] * len(names), start_ns
    for folder in sorted(set(folders)):
        members = [i for i, other in enumerate(folders) if other == folder]
        for i in members:
            stamps[i] = begin + round(numbers[i] * _SECOND / rate_hz)
        begin = stamp_after(max(stamps[i] for i in members))
    what = "the numbers in the images' names" if by_number else "the images' sorted order"
    return stamps, f"{what}, at {rate_hz:g} frames a second (--rate-hz)"


def stamp_after(last_ns: int) -> int:
    """The first whole second at least `PAUSE_NS` later."""
    return math.ceil((last_ns + PAUSE_NS) / _SECOND) * _SECOND


# Recorded poses of formats that stamp them apart from the images, cleaned and interpolated as everywhere.


class Track:
    """Poses over time; `notes` say what was wrong with some of them.

    UserError, naming `file`, when none is usable.
    """

    def __init__(
        self,
        stamps_ns: Sequence[int],
        position_m: Sequence[Sequence[float]],
        quat_xyzw: Sequence[Sequence[float]],
        max_gap_ns: int,
        file: Path,
    ) -> None:
        if not stamps_ns:
            raise UserError(f"{file} holds no poses")
        quats = np.array(quat_xyzw, dtype=np.float64)
        quats[~(np.abs(np.linalg.norm(quats, axis=1) - 1) < UNIT_QUATERNION)] = 0.0  # counted as non-finite below
        try:
            self._trajectory, problems = Trajectory.from_unsorted(stamps_ns, position_m, quats)
        except UserError as error:
            raise UserError(f"{file}: {error}") from error
        self._max_gap_ns = max_gap_ns
        self.notes = [f"{file}: {counted(count, 'pose')} {_WORDS[reason]}" for reason, count in problems.items()]

    def pose_at(self, stamp_ns: int) -> tuple[Float64 | None, str]:
        """The pose (4, 4) at a time, or None and the reason."""
        at = self._trajectory.interpolate([stamp_ns], self._max_gap_ns)
        return (at.T[0], "") if at.valid[0] else (None, at.reason[0] or "no_pose")


_WORDS = {
    "non_finite_pose": "left out: not finite, or of a quaternion not of length one",
    "duplicate_stamp": "left out: of the stamp of another, the first counts",
    "out_of_order": "sorted: out of order",
}
