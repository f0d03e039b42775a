"""Recorded poses, collected as they come."""

from __future__ import annotations

from array import array

import numpy as np

from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.streams.samples import PoseSample

# Autopilots count microseconds since boot; kept in step with the computer they are this near to its clock.
_SAME_CLOCK_NS = 60_000_000_000
_UNIT_WITHIN = 0.05


class PoseLog:
    """Recorded poses in compact arrays, 64 bytes each."""

    def __init__(self) -> None:
        self.parent_frame = ""
        self.child_frame = ""
        self._stamps_ns = array("q")
        self._numbers = array("d")
        self.received_ns: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self._stamps_ns)

    def add(self, pose: PoseSample, received_ns: int) -> None:
        """Append a pose as received."""
        if not self:
            self.parent_frame, self.child_frame = pose.parent_frame, pose.child_frame
        self._stamps_ns.append(pose.stamp_ns)
        self._numbers.extend(pose.position_m)
        self._numbers.extend(pose.quat_xyzw)
        first, last = self.received_ns or (received_ns, received_ns)
        self.received_ns = min(first, received_ns), max(last, received_ns)

    def shift(self, offset_ns: int) -> None:
        """Add to all stamps."""
        self._stamps_ns = array("q", (np.frombuffer(self._stamps_ns, np.int64) + offset_ns).tobytes())

    def valid_share(self) -> float:
        """The part of the poses that is finite and whose quaternion is of unit length."""
        numbers = np.frombuffer(self._numbers).reshape(-1, 7)
        with np.errstate(over="ignore", invalid="ignore"):
            unit = np.abs(np.linalg.norm(numbers[:, 3:], axis=1) - 1) < _UNIT_WITHIN
        return float((np.isfinite(numbers).all(axis=1) & unit).mean()) if len(self) else 0.0

    def trajectory(self) -> tuple[Trajectory, dict[str, int]]:
        """The cleaned trajectory and what was wrong. UserError when no pose is usable."""
        numbers = np.frombuffer(self._numbers).reshape(-1, 7)
        return Trajectory.from_recording(
            np.frombuffer(self._stamps_ns, dtype=np.int64), numbers[:, :3], numbers[:, 3:]
        )


class BootClock:
    """How an autopilot's clock lies to the recorder's: by the message that was quickest on its way."""

    def __init__(self) -> None:
        self._least_ns: int | None = None

    def saw(self, stamp_ns: int, received_ns: int) -> int:
        """Take note of a message; gives its stamp back."""
        late_ns = received_ns - stamp_ns
        self._least_ns = late_ns if self._least_ns is None else min(self._least_ns, late_ns)
        return stamp_ns

    @property
    def offset_ns(self) -> int:
        """To be added to the autopilot's stamps; 0 when the clocks are kept in step."""
        if self._least_ns is None or abs(self._least_ns) < _SAME_CLOCK_NS:
            return 0
        return self._least_ns
