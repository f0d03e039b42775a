"""What every way of finding a camera answers."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.errors import UserError, counted, os_errors
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64, UInt8
from pose2rgbd_ros.geometry.camera import Camera


@dataclass(frozen=True)
class Estimate:
    """Where a camera is, found from its image.

    Attributes:
        T_map_cam: (4, 4) camera to map, optical axes; None where nothing could be found at all.
        covariance: (6, 6) of x, y, z (metres) and of a small rotation about the map's x, y, z axes (radians), as
            geometry_msgs/PoseWithCovariance has it: true rotation = exp(rotation) @ estimated. None: not known.
        accepted: the pose may be used. A rejected estimate keeps its pose, for pictures and figures only.
        reason: one line why it was rejected; empty when accepted.
        score: how unlike the training images this one is; NaN where nothing says so. Above `limit` it is rejected.
        verification: likeness of the image and a rendering at the pose, -1..1; NaN without a rendering.
        refined: whether a rendering corrected the pose.
    """

    T_map_cam: Float64 | None
    covariance: Float64 | None = None
    accepted: bool = True
    reason: str = ""
    score: float = float("nan")
    limit: float = float("nan")
    verification: float = float("nan")
    refined: bool = False

    @property
    def position_sigma_m(self) -> float:
        """Root of the largest eigenvalue of the position's covariance; NaN without one."""
        return _largest_sigma(self.covariance, slice(0, 3))

    @property
    def rotation_sigma_rad(self) -> float:
        """The same of the rotation."""
        return _largest_sigma(self.covariance, slice(3, 6))


class PoseEstimator(Protocol):
    """A way of finding a camera: a trained network, retrieval, features and structure."""

    name: str

    def find(self, rgb: UInt8, camera: Camera) -> Estimate:
        """The pose of one image (H, W, 3) uint8 taken with `camera`, whose size is the image's.

        What is wrong with the image (black, blurred, of another place) is a rejected estimate, not an exception.
        """
        ...


def _largest_sigma(covariance: Float64 | None, part: slice) -> float:
    if covariance is None:
        return float("nan")
    return float(np.sqrt(np.linalg.eigvalsh(covariance[part, part])[-1].clip(min=0.0)))


# Poses found for a set of images, as lines for people and as files for other tools.


COLUMNS = (
    "name", "stamp", "accepted", "x_m", "y_m", "z_m", "qx", "qy", "qz", "qw", "sigma_m", "sigma_deg", "score", "limit",
    "verification", "reason",
)  # fmt: skip
STRAIGHT_DOWN = 0.05  # horizontal part of the view's direction


@dataclass(frozen=True, eq=False)
class LocatedImage:
    """An image by its name and stamp, the answer to it, and the recorded pose where there is one."""

    name: str
    stamp_ns: int
    estimate: Estimate
    T_true: Float64 | None = None

    @property
    def error(self) -> tuple[float, float] | None:
        """Metres from the recorded pose and degrees of the turn; None where one of the two is not known."""
        if self.estimate.T_map_cam is None or self.T_true is None:
            return None
        metres, radians = se3.apart(self.estimate.T_map_cam, self.T_true)
        return float(metres), float(np.degrees(radians))

    def line(self) -> str:
        """For the console."""
        answer = self.estimate
        if answer.T_map_cam is None:
            return f"{self.name}  rejected: {answer.reason}"
        x, y, z = answer.T_map_cam[:3, 3]
        parts = [f"{self.name}  x {x:.2f}  y {y:.2f}  z {z:.2f} m  heading {heading_deg(answer.T_map_cam):.0f} deg"]
        if answer.covariance is not None:
            sigma_deg = np.degrees(answer.rotation_sigma_rad)
            parts.append(f"sigma {answer.position_sigma_m:.2f} m {sigma_deg:.2f} deg")
        if np.isfinite(answer.verification):
            parts.append(f"likeness {answer.verification:.2f}")
        if self.error is not None:
            parts.append("error {:.2f} m {:.2f} deg".format(*self.error))
        parts.append("accepted" if answer.accepted else f"rejected: {answer.reason}")
        return "  ".join(parts)

    def row(self) -> list[object]:
        """For a CSV file; empty where nothing is known."""
        answer = self.estimate
        pose: list[object] = [""] * 7
        if answer.T_map_cam is not None:
            position, quat = se3.split(answer.T_map_cam)
            pose = [*(f"{value:.6f}" for value in position), *(f"{value:.9f}" for value in quat)]
        sigma_deg = float(np.degrees(answer.rotation_sigma_rad))
        figures = [
            f"{value:.6g}" if np.isfinite(value) else ""
            for value in (answer.position_sigma_m, sigma_deg, answer.score, answer.limit, answer.verification)
        ]
        return [self.name, layout.stamp_text(self.stamp_ns), int(answer.accepted), *pose, *figures, answer.reason]


def summary(found: list[LocatedImage]) -> str:
    """One line of all images, with the median error where poses are recorded."""
    accepted = [one for one in found if one.estimate.accepted]
    text = f"{len(accepted)} of {counted(len(found), 'image')} accepted"
    known = [one.error for one in accepted if one.error is not None]
    if known:
        metres, degrees = np.median(known, axis=0)
        text += f"; median error {metres:.2f} m {degrees:.2f} deg"
    return text


def heading_deg(T_map_cam: Float64) -> float:
    """Where a camera looks on the ground of an ENU map, clockwise from north, 0..360; looking straight down, where the
    top of its image points."""
    east, north = T_map_cam[:2, 2]
    if np.hypot(east, north) < STRAIGHT_DOWN:
        east, north = -T_map_cam[:2, 1]
    return float(np.degrees(np.arctan2(east, north)) % 360.0)


def check_poses_path(path: Path) -> None:
    """Before hours of work: UserError for a file that :func:`write_poses` could not write."""
    if path.suffix not in (".csv", ".txt", ".tum"):
        raise UserError(f"{path}: poses are written as .csv, or as .txt or .tum (TUM format)")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"cannot write {path}; give a file in an existing folder of yours")


def write_poses(path: Path, found: Iterable[LocatedImage]) -> int:
    """Write a .csv of all images, or a .txt or .tum of the accepted poses in TUM's format (stamp, position, quaternion
    xyzw); how many rows. UserError for another suffix, or when it cannot be written."""
    check_poses_path(path)
    with os_errors(f"cannot write {path}"), path.open("w", newline="") as stream:
        if path.suffix == ".csv":
            rows = [one.row() for one in found]
            csv.writer(stream).writerows([COLUMNS, *rows])
            return len(rows)
        lines = [
            layout.pose_line(one.stamp_ns, one.estimate.T_map_cam)
            for one in found
            if one.estimate.accepted and one.estimate.T_map_cam is not None
        ]
        stream.writelines(lines)
        return len(lines)
