"""What importers hand over: another tool's dataset as lists of frames, before any image is read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.dataset.frames import BadFrame, checked_pose
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.camera import Camera

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
