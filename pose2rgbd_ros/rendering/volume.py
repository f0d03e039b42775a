"""Is a pose among those the model was trained on? Elsewhere its images are guesses and must not be trusted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from pose2rgbd_ros.geometry.arrays import Float64

NEIGHBOURS = 4
QUANTILE = 0.95
SPACINGS = 3.0
MARGIN_FLOOR_M = 0.05
MARGIN_FLOOR_SHARE = 0.02
HEADING_FLOOR_DEG = 10.0
HEADING_CEILING_DEG = 45.0
_SAMPLE = 2000  # poses looked at for the spacing
_CANDIDATES = 8


@dataclass(frozen=True)
class VolumeCheck:
    """The answer for one pose.

    distance_m: to the nearest training position. heading_deg: between the orientation and that of the training pose
    nearest in position and orientation together. reason: empty when inside, else one line with the figures.
    """

    inside: bool
    distance_m: float
    heading_deg: float
    reason: str


class TrainedVolume:
    """The training poses with a margin about each.

    A pose is inside when one of the training poses lies within `margin_m` of it and its orientation differs by at
    most `heading_deg` (the whole rotation, roll included). Both follow from how densely the place was recorded:

    * margin_m = max(3 q95(d4), 0.02 D, 0.05), with d4 each training pose's distance to its 4th nearest neighbour (or
      the farthest, when there are fewer), q95 the 95 % quantile and D the diagonal of the box around the positions;
    * heading_deg = 3 q95(a), kept within [10, 45], with a the smallest angle between a training pose and those
      neighbours.

    `T_map_cam_training` is (N, 4, 4), N >= 1; lengths are in the map's unit (metres).
    """

    def __init__(self, T_map_cam_training: ArrayLike) -> None:
        T = np.asarray(T_map_cam_training, dtype=np.float64)
        if T.ndim != 3 or T.shape[1:] != (4, 4) or len(T) == 0:
            raise ValueError(f"training poses of shape {T.shape}; expected (N, 4, 4) with N >= 1")
        self._positions, self._rotations = T[:, :3, 3].copy(), T[:, :3, :3].copy()
        self._by_position = cKDTree(self._positions)
        spacing_m, spacing_deg = self._spacing()
        diagonal_m = float(np.linalg.norm(np.ptp(self._positions, axis=0)))
        self.margin_m = max(SPACINGS * spacing_m, MARGIN_FLOOR_SHARE * diagonal_m, MARGIN_FLOOR_M)
        self.heading_deg = min(max(SPACINGS * spacing_deg, HEADING_FLOOR_DEG), HEADING_CEILING_DEG)
        # |R1 - R2| = sqrt(8) sin(angle / 2): scaled so that one allowance is 1 in position and in rotation alike.
        self._rotation_scale = 1 / (math.sqrt(8) * math.sin(math.radians(self.heading_deg) / 2))
        self._by_pose = cKDTree(self._joint(self._positions, self._rotations))

    @property
    def example_T_map_cam(self) -> Float64:
        """One of the training poses, (4, 4): a view that the model knows."""
        T = np.eye(4)
        middle = len(self._positions) // 2
        T[:3, :3], T[:3, 3] = self._rotations[middle], self._positions[middle]
        return T

    def check(self, T_map_cam: ArrayLike) -> VolumeCheck:
        """Look up one pose (4, 4); under 0.2 ms for 10,000 training poses. A pose that is not finite is outside."""
        T = np.asarray(T_map_cam, dtype=np.float64)
        if not np.isfinite(T).all():
            return VolumeCheck(False, math.nan, math.nan, "the pose is not finite")
        position, rotation = T[:3, 3], T[:3, :3]
        nearest_m = float(self._by_position.query(position)[0])
        distance_m, heading_deg = self._most_alike(position, rotation)
        allowed = f"allowed {self._metres(self.margin_m)}"
        reason = ""
        if nearest_m > self.margin_m:
            reason = f"{self._metres(nearest_m)} from the nearest training pose, {allowed}"
        elif heading_deg > self.heading_deg:
            reason = (
                f"looks {heading_deg:.0f} deg away from the training poses nearby, "
                f"allowed {self.heading_deg:.0f} deg"
            )
        elif distance_m > self.margin_m:
            reason = (
                f"{self._metres(distance_m)} from the nearest training pose that looks this way, {allowed}"
            )
        return VolumeCheck(not reason, nearest_m, heading_deg, reason)

    def _metres(self, length_m: float) -> str:
        """With as many decimals as tell the length from the margin."""
        return f"{length_m:.{1 if self.margin_m >= 1 else 2}f} m"

    def _most_alike(self, position: Float64, rotation: Float64) -> tuple[float, float]:
        """Distance and angle (deg) to the training pose that exceeds its allowances least."""
        candidates = min(_CANDIDATES, len(self._positions))
        _, index = self._by_pose.query(self._joint(position, rotation), k=candidates)
        index = np.atleast_1d(index)
        offset = self._positions[index] - position
        distance_m = np.sqrt(np.einsum("ij,ij->i", offset, offset))
        heading_deg = _angle_deg(self._rotations[index], rotation)
        best = int(np.maximum(distance_m / self.margin_m, heading_deg / self.heading_deg).argmin())
        return float(distance_m[best]), float(heading_deg[best])

    def _joint(self, position: Float64, rotation: Float64) -> Float64:
        """Position and rotation as one point (..., 12), in units of the allowances."""
        flat = rotation.reshape(*rotation.shape[:-2], 9)
        return np.concatenate([position / self.margin_m, flat * self._rotation_scale], axis=-1)

    def _spacing(self) -> tuple[float, float]:
        """q95 of the distance to the 4th neighbour in metres, and of the smallest angle to the four in degrees."""
        count = len(self._positions)
        if count == 1:
            return 0.0, 0.0
        some = np.linspace(0, count - 1, min(count, _SAMPLE)).astype(int)
        distances, index = self._by_position.query(self._positions[some], k=min(NEIGHBOURS + 1, count))
        angles = _angle_deg(self._rotations[index[:, 1:]], self._rotations[some][:, None])
        return float(np.quantile(distances[:, -1], QUANTILE)), float(
            np.quantile(angles.min(axis=1), QUANTILE)
        )


def _angle_deg(first: Float64, second: Float64) -> Float64:
    """Angle between rotations (..., 3, 3), from the chord: exact for small angles too."""
    difference = first - second
    chord = np.sqrt(np.einsum("...ij,...ij->...", difference, difference) / 8)
    return np.asarray(np.degrees(2 * np.arcsin(np.minimum(chord, 1.0))), dtype=np.float64)
