"""Aviation's axes to those of ROS: north-east-down to east-north-up, forward-right-down to forward-left-up.

Autopilots (PX4, ArduPilot) and camera drones (DJI, GoPro) speak the former, everything here the latter (REP-103).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import quaternions, se3
from pose2rgbd_ros.geometry.arrays import Float64

R_ENU_NED: Float64 = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
R_FLU_FRD: Float64 = np.diag([1.0, -1.0, -1.0])
for _matrix in (R_ENU_NED, R_FLU_FRD):
    _matrix.setflags(write=False)
_QUAT_ENU_NED = quaternions.from_matrix(R_ENU_NED)
_QUAT_FLU_FRD = quaternions.from_matrix(R_FLU_FRD)
_QUAT_FLU_OPTICAL = quaternions.from_matrix(se3.T_BODY_OPTICAL[:3, :3])


def ned_to_enu(vector_ned: npt.ArrayLike) -> Float64:
    """Vectors (..., 3) of north, east, down as east, north, up; the same function turns them back."""
    vector = np.asarray(vector_ned, dtype=np.float64)
    return np.stack([vector[..., 1], vector[..., 0], -vector[..., 2]], axis=-1)


def frd_to_flu(vector_frd: npt.ArrayLike) -> Float64:
    """Vectors (..., 3) of forward, right, down as forward, left, up; the same function turns them back."""
    return np.asarray(vector_frd, dtype=np.float64) * [1.0, -1.0, -1.0]


def quat_ned_frd_to_enu_flu(quat_xyzw: npt.ArrayLike) -> Float64:
    """Orientations (..., 4) of an FRD body in NED as those of its FLU axes in ENU; also the way back."""
    return quaternions.multiply(quaternions.multiply(_QUAT_ENU_NED, quat_xyzw), _QUAT_FLU_FRD)


def quat_frd_to_flu(quat_xyzw: npt.ArrayLike) -> Float64:
    """Turns (..., 4) between two FRD frames as those between the same frames with FLU axes; also the way back."""
    return quaternions.multiply(quaternions.multiply(_QUAT_FLU_FRD, quat_xyzw), _QUAT_FLU_FRD)


def gimbal_to_quat_map_cam(
    yaw_deg: npt.ArrayLike, pitch_deg: npt.ArrayLike, roll_deg: npt.ArrayLike
) -> Float64:
    """Orientations (..., 4) of a camera's optical frame in ENU, from a gimbal's angles as DJI writes them into XMP.

    Yaw is clockwise from north, pitch up from the horizon (-90: straight down), roll about the viewing direction,
    right side down; in this order about the axes of NED as they turn. At pitch -90 the top of the image points to
    where yaw does, and roll adds to yaw. UserError for angles that are not finite.
    """
    angles = np.stack(
        np.broadcast_arrays(*(np.asarray(item, dtype=np.float64) for item in (yaw_deg, pitch_deg, roll_deg))),
        -1,
    )
    if not np.isfinite(angles).all():
        raise UserError("a gimbal angle is not a finite number")
    turned = Rotation.from_euler("ZYX", angles.reshape(-1, 3), degrees=True).as_quat()
    quat_enu_flu = quat_ned_frd_to_enu_flu(turned.reshape(*angles.shape[:-1], 4))
    return quaternions.multiply(quat_enu_flu, _QUAT_FLU_OPTICAL)
