"""Names and text forms of a dataset folder, and the few ways its files are written. See docs/dataset.md."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64

RGB = "rgb"
# Depth without a unit gets a folder of another name, so that no tool takes its numbers for metres.
DEPTH = {"metric": "depth", "relative": "depth_relative"}
GROUNDTRUTH = "groundtruth.txt"
ASSOCIATIONS = "associations.txt"
TRANSFORMS = "transforms.json"
META = "meta.yaml"
TRUTH = "truth.yaml"  # in the folder beside a simulated recording
SPLIT = "split.txt"  # the split a dataset brings with it; not every one does
LOCK = ".lock"
CACHE = ".cache"
GROUNDTRUTH_HEADER = "# T_map_cam (optical frame): timestamp tx ty tz qx qy qz qw"

OWN_FILE = re.compile(r"\d+\.(jpg|png|tiff)|\.[^/]*\.tmp")  # what the writer puts into rgb/ and depth/
_STAMP = re.compile(r"(\d+)(?:\.(\d{1,9}))?")


def truth_folder(recording: Path) -> Path:
    """Where the truth of a simulated recording lies: flight.mcap -> flight.truth."""
    return recording.with_name(f"{recording.stem if recording.suffix else recording.name}.truth")


def stamp_text(stamp_ns: int) -> str:
    """Seconds with nine decimals, exact: 1500000001 -> "1.500000001"."""
    seconds, nanoseconds = divmod(int(stamp_ns), 1_000_000_000)
    return f"{seconds}.{nanoseconds:09d}"


def parse_stamp(text: str) -> int:
    """Nanoseconds of a stamp in seconds with up to nine decimals, exact. ValueError for anything else."""
    match = _STAMP.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no timestamp")
    return int(match[1]) * 1_000_000_000 + int((match[2] or "").ljust(9, "0"))


def pose_line(stamp_ns: int, T_map_cam: npt.ArrayLike) -> str:
    """A line of groundtruth.txt: nanometres of position, quaternion to 1e-12."""
    position, quat = se3.split(T_map_cam)
    numbers = [f"{value:.9f}" for value in position] + [f"{value:.12f}" for value in quat]
    return f"{stamp_text(stamp_ns)} {' '.join(numbers)}\n"


def parse_pose(line: str) -> Float64:
    """(7,) position and quaternion of a line of groundtruth.txt. ValueError when it is none."""
    fields = line.split()
    if len(fields) != 8:
        raise ValueError(f"{len(fields)} fields; expected 8")
    pose = np.array([float(field) for field in fields[1:]])
    if not np.isfinite(pose).all() or np.linalg.norm(pose[3:]) < 0.5:
        raise ValueError("the pose is not finite or its quaternion is zero")
    return pose


def header(has_depth: bool) -> str:
    """First line of associations.txt."""
    return "# timestamp rgb timestamp depth" if has_depth else "# timestamp rgb"


def require_distinct(sources: Iterable[Path]) -> None:
    """UserError when a file or folder is named twice."""
    for path, count in Counter(source.resolve() for source in sources).items():
        if count > 1:
            raise UserError(f"{path} is given {count} times; name each source once")


def require_unused(folder: Path) -> None:
    """UserError when `folder` is a file or holds somebody else's things. Nothing is touched; it need not exist.

    OSError passes through.
    """
    if not folder.exists() or (folder / META).is_file():
        return
    if not folder.is_dir():
        raise UserError(f"{folder} is a file; choose a folder for the dataset")
    ours = {RGB, *DEPTH.values(), GROUNDTRUTH, ASSOCIATIONS}
    others = [p.name for p in folder.iterdir() if p.name not in ours and not p.name.startswith(".")]
    rgb = folder / RGB
    if others or (rgb.is_dir() and any(rgb.iterdir())):
        raise UserError(f"{folder} is not empty and holds no dataset of ours; choose another folder")


def atomic_write(path: Path, data: bytes) -> None:
    """Write a file so that under its name there is all of it or nothing (or, when replaced, the old one).

    OSError passes through, the half-written part removed.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def append_line(descriptor: int, line: str) -> None:
    """Add one line with one write to a file opened with O_APPEND. On OSError nothing of the line is left behind."""
    data = line.encode()
    end = os.fstat(descriptor).st_size
    try:
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        os.ftruncate(descriptor, end)
        raise


class FolderLock:
    """Held by the one process that writes a folder; the kernel lets go of it however that process ends."""

    def __init__(self, folder: Path) -> None:
        """Take the lock. UserError when another writer holds it."""
        self._descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise UserError(
                f"{folder} is being written by another process; wait for it or choose another folder"
            ) from error

    def release(self) -> None:
        """Let go; harmless when called twice. The file stays: removing it would let two writers in."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1
