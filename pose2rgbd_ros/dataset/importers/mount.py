"""Where the camera sits on the body whose pose was recorded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.streams.transform_tree import TransformTree

# Poses T_body_cam of the optical frame in a REP-103 body (x forward, y left, z up).
T_FORWARD: Float64 = se3.T_BODY_OPTICAL
T_NADIR: Float64 = np.array(  # looks down; the top of the image is ahead
    [[0.0, -1.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)
_NAMED = {"identity": np.eye(4), "forward": T_FORWARD, "nadir": T_NADIR}
ACCEPTED = "auto, forward, nadir, identity, or 'x y z qx qy qz qw'"


@dataclass(frozen=True)
class Mount:
    """The camera on the body: fixed (`T_body_cam`), or on a gimbal (`moving`, the same over time).

    `how` says in words where this comes from.
    """

    T_body_cam: Float64 | None
    moving: Trajectory | None
    how: str


def parse(text: str) -> Float64:
    """T_body_cam (4, 4) of a name or of 'x y z qx qy qz qw'. UserError otherwise."""
    if text in _NAMED:
        return _NAMED[text]
    try:
        numbers = np.array([float(part) for part in text.replace(",", " ").split()])
    except ValueError:
        numbers = np.zeros(0)
    if numbers.shape != (7,) or not np.isfinite(numbers).all() or not numbers[3:].any():
        raise UserError(f"body-to-camera is {text!r}; expected {ACCEPTED} (metres, and a quaternion)")
    return se3.make(numbers[:3], numbers[3:])


def find(option: str, tree: TransformTree, body_frame: str, camera_frame: str, gap_ns: int) -> Mount:
    """The mount: as the option says, else from the frames' names, else from TF, else a camera looking ahead.

    `body_frame` is the child frame of the recorded pose ("" when its message names none).
    """
    if option != "auto":
        return Mount(parse(option), None, f"camera mount as given: {option}")
    if body_frame and body_frame == camera_frame:
        return Mount(np.eye(4), None, f"the pose is that of the image's frame, {camera_frame}")
    frames = tree.frames()
    if not body_frame and "base_link" in frames and camera_frame in frames:
        body_frame = "base_link"
    problem = f"TF does not know both {body_frame or 'the body'!r} and {camera_frame or 'the camera'!r}"
    if body_frame and camera_frame:
        try:
            return _from_tf(tree, body_frame, camera_frame, gap_ns)
        except UserError as error:
            problem = str(error)
    if "optical" in body_frame:
        return Mount(np.eye(4), None, f"the pose is that of {body_frame}, an optical frame by its name")
    return Mount(
        T_FORWARD,
        None,
        f"where the camera sits on {body_frame or 'the body'} is not recorded ({problem}): assumed at its origin, "
        "looking forward; --body-to-camera says otherwise",
    )


def _from_tf(tree: TransformTree, body_frame: str, camera_frame: str, gap_ns: int) -> Mount:
    fixed = tree.static_transform(body_frame, camera_frame)
    if fixed is not None:
        return Mount(fixed, None, f"camera mount {body_frame} -> {camera_frame} from static TF")
    moving = tree.trajectory(body_frame, camera_frame, gap_ns)
    return Mount(None, moving, f"camera mount {body_frame} -> {camera_frame} moves (a gimbal), from TF")
