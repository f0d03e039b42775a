"""Recorded poses of formats that stamp them apart from the images, cleaned and interpolated as everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pose2rgbd_ros.dataset.formats.scene import UNIT_QUATERNION
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.trajectory import Trajectory


class Track:
    """Poses over time; `notes` tell what was wrong with some of them.

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
        quats[~(np.abs(np.linalg.norm(quats, axis=1) - 1) < UNIT_QUATERNION)] = (
            0.0  # counted as non-finite below
        )
        try:
            self._trajectory, problems = Trajectory.from_unsorted(stamps_ns, position_m, quats)
        except UserError as error:
            raise UserError(f"{file}: {error}") from error
        self._max_gap_ns = max_gap_ns
        self.notes = [
            f"{file}: {counted(count, 'pose')} {_WORDS[reason]}" for reason, count in problems.items()
        ]

    def pose_at(self, stamp_ns: int) -> tuple[Float64 | None, str]:
        """The pose (4, 4) at a time, or None and the reason."""
        at = self._trajectory.interpolate([stamp_ns], self._max_gap_ns)
        return (at.T[0], "") if at.valid[0] else (None, at.reason[0] or "no_pose")


_WORDS = {
    "non_finite_pose": "left out: not finite, or of a quaternion not of length one",
    "duplicate_stamp": "left out: of the stamp of another, the first counts",
    "out_of_order": "sorted: out of order",
}
