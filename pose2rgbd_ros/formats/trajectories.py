"""Trajectory files of other tools: TUM, KITTI odometry and EuRoC, told apart by their first line, or refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.formats import euroc, kitti, reading, tum
from pose2rgbd_ros.formats.scene import UNIT_QUATERNION
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64, Int64

KNOWN = (
    "TUM (timestamp tx ty tz qx qy qz qw), KITTI (3 x 4 matrix, a frame number before it or not), EuRoC (csv: "
    "nanoseconds, position, quaternion w x y z)"
)
IN_FOLDERS = (
    layout.GROUNDTRUTH,
    "trajectory.txt",
    "mav0/state_groundtruth_estimate0/data.csv",
    "data.csv",
    "poses.txt",
)
NOT_ORTHONORMAL = 0.02  # of a rotation's R R^T: more is no rounding


@dataclass(frozen=True, eq=False)
class PoseList:
    """Poses as a tool wrote them.

    Attributes:
        format: "tum", "kitti" or "euroc".
        is_timed: whether `key` is stamps in nanoseconds, else numbers of frames.
        key: (N,) int64, increasing.
        T_world_cam: (N, 4, 4); rotations of matrices are as written, not made orthonormal.
    """

    path: Path
    format: str
    is_timed: bool
    key: Int64
    T_world_cam: Float64

    def __len__(self) -> int:
        return len(self.key)


def read_pose_list(path: Path, times: Path | None = None) -> PoseList:
    """The poses of a file; of a folder, a dataset's groundtruth.txt, a trajectory.txt, or EuRoC's ground truth.

    Args:
        times: KITTI's times.txt, whose line i is the time of frame i in seconds; then frames are timed.

    Raises:
        UserError: of another format, or with a line that is cut off, not finite, no rotation or out of order; it names
            the line or the pose.
    """
    path = _file(path)
    first = next((line for _, line in reading.lines(path)), None)
    if first is None:
        raise UserError(f"{path} holds no poses")
    columns = len(first.split(",")) if "," in first else len(first.split())
    if "," in first and columns >= 8:
        found = _of_quaternions(path, "euroc", *euroc.read_poses(path))
    elif columns == 8:
        found = _of_quaternions(path, "tum", *tum.read_poses(path))
    elif columns in (12, 13):
        found = _of_matrices(path, columns)
    else:
        raise UserError(f"{path} has lines of {columns} values: no trajectory of a known format; known are {KNOWN}")
    if times is not None and not found.is_timed:
        found = _timed(found, times)
    late = np.flatnonzero(np.diff(found.key) <= 0)
    if len(late):
        what = "stamp" if found.is_timed else "frame number"
        raise UserError(
            f"{path}: the {what} of pose {late[0] + 2} does not come after the one before; sort the file, and leave "
            "out poses that come twice"
        )
    return found


def _file(path: Path) -> Path:
    for name in (
        layout.GROUNDTRUTH,
        "trajectory.txt",
        "mav0/state_groundtruth_estimate0/data.csv",
        "data.csv",
        "poses.txt",
    ):
        if (path / name).is_file():
            return path / name
    if path.is_dir():
        raise UserError(f"{path} is a folder without poses; name the trajectory file in it")
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    return path


def _of_quaternions(
    path: Path, format: str, stamps_ns: list[int], position: list[list[float]], quat_xyzw: list[list[float]]
) -> PoseList:
    p, q = np.array(position), np.array(quat_xyzw)
    _check_finite(path, np.hstack([p, q]))
    length = np.linalg.norm(q, axis=1)
    wrong = np.flatnonzero(np.abs(length - 1) > UNIT_QUATERNION)
    if len(wrong):
        raise UserError(
            f"{path}: the quaternion of pose {wrong[0] + 1} has length {length[wrong[0]]:.3g}, not 1; are the columns "
            "in another order?"
        )
    return PoseList(path, format, True, np.array(stamps_ns, np.int64), se3.make(p, q))


def _of_matrices(path: Path, columns: int) -> PoseList:
    numbers: list[int] = []
    rows: list[list[float]] = []
    for i, (number, line) in enumerate(reading.lines(path)):
        fields = line.split()
        if len(fields) != columns:
            raise reading.wrong(path, number, f"{len(fields)} values, where the lines before have {columns}")
        values = reading.numbers(path, number, fields)
        if columns == 13 and not (values[0] >= 0 and values[0] == int(values[0])):
            raise reading.wrong(path, number, f"{fields[0]} is no number of a frame")
        numbers.append(int(values[0]) if columns == 13 else i)
        rows.append(values[-12:])
    _check_finite(path, np.array(rows))
    T = np.tile(np.eye(4), (len(rows), 1, 1))
    T[:, :3] = np.array(rows).reshape(-1, 3, 4)
    R = T[:, :3, :3]
    off = np.abs(R @ R.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
    wrong = np.flatnonzero((off > NOT_ORTHONORMAL) | (np.linalg.det(R) < 0))
    if len(wrong):
        raise UserError(f"{path}: the matrix of pose {wrong[0] + 1} holds no rotation; is it written row by row?")
    return PoseList(path, "kitti", False, np.array(numbers, np.int64), T)


def _timed(poses: PoseList, times: Path) -> PoseList:
    stamps = kitti.read_times(times)
    if not stamps:
        raise UserError(f"{times} does not exist or holds no times")
    if poses.key[-1] >= len(stamps):
        raise UserError(f"{times} has {len(stamps)} times, and {poses.path} a frame {poses.key[-1]}")
    return PoseList(poses.path, poses.format, True, np.array(stamps, np.int64)[poses.key], poses.T_world_cam)


def _check_finite(path: Path, values: Float64) -> None:
    wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(wrong):
        raise UserError(
            f"{path}: pose {wrong[0] + 1} is not finite; leave out the lines of frames whose pose is unknown"
        )
