"""What every way of finding a camera answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

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


class Finder(Protocol):
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
