"""GPS fixes live: positions and course by themselves, and where the origin of other poses lies on Earth."""

from __future__ import annotations

from array import array
from collections import deque

import numpy as np

from pose2rgbd_ros.dataset.importers.georeference import FixLog, Georeference
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.geodesy import Datum, wgs84_to_enu
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.streams import orientation
from pose2rgbd_ros.streams.fix_track import heights
from pose2rgbd_ros.streams.pose_buffer import PoseBuffer
from pose2rgbd_ros.streams.pose_settings import PoseSettings
from pose2rgbd_ros.streams.pose_source import PoseSource
from pose2rgbd_ros.streams.samples import FixSample, PoseSample

_SECOND = 1e9
_LEVEL = np.array([0.0, 0.0, 0.0, 1.0])
_PENDING_FIXES = 1000


class GpsPositions:
    """The antenna about `datum` (None: the first fix): `positions`, without turns, and `course`, without positions.

    The course of a fix is known `course_smoothing_s` after it. Memory is bounded.
    """

    def __init__(self, settings: PoseSettings, datum: Datum | None = None) -> None:
        self.datum = datum
        self._settings = settings
        gap_ns = round(max(settings.max_fix_gap_s, settings.max_pose_gap_s) * _SECOND)
        self.positions = PoseBuffer(gap_ns, settings.interpolation)
        self.course = PoseBuffer(gap_ns, settings.interpolation)
        self._first_up_m: float | None = None
        self._window: deque[tuple[int, Float64]] = deque()
        self._courses_ns = -1  # of the newest fix whose course is known
        self._heading: Float64 | None = None

    def add(self, fix: FixSample) -> None:
        """Take in a fix that has a position."""
        if self.datum is None:
            self.datum = Datum(fix.latitude_deg, fix.longitude_deg, float(np.nan_to_num(fix.altitude_m)))
        enu = wgs84_to_enu(fix.latitude_deg, fix.longitude_deg, fix.altitude_m, self.datum)
        position_m = np.nan_to_num(self._height(enu))
        self.positions.add(PoseSample(fix.stamp_ns, "map", fix.frame_id, position_m, _LEVEL))
        self._follow(fix.stamp_ns, position_m)

    def clear(self) -> None:
        """Forget everything but the datum: time jumped."""
        self.positions.clear()
        self.course.clear()
        self._window.clear()
        self._courses_ns = -1

    def _height(self, enu: Float64) -> Float64:
        if self._settings.altitude == "relative" and np.isfinite(enu[2]):
            self._first_up_m = enu[2] if self._first_up_m is None else self._first_up_m
            return np.asarray(enu - [0.0, 0.0, self._first_up_m])
        return np.asarray(heights(enu[None], self._settings.altitude)[0])

    def _follow(self, stamp_ns: int, position_m: Float64) -> None:
        """The course of the fixes whose neighbours on both sides are known by now."""
        if self._window and stamp_ns <= self._window[-1][0]:
            return
        self._window.append((stamp_ns, position_m))
        smoothing_ns = self._settings.course_smoothing_s * _SECOND
        if len(self._window) < 3:
            return
        stamps = np.array([at for at, _ in self._window], dtype=np.int64)
        ready = [i for i in range(len(stamps) - 1) if stamps[i] > self._courses_ns]
        ready = [i for i in ready if stamps[i] + smoothing_ns <= stamp_ns]
        for i in ready:
            self._turn(i, stamps)
        while len(self._window) > 3 and self._window[1][0] < stamp_ns - 3 * smoothing_ns:
            self._window.popleft()

    def _turn(self, i: int, stamps: np.ndarray) -> None:
        settings = self._settings
        self._courses_ns = int(stamps[i])
        try:
            found = orientation.course(
                stamps,
                np.array([at for _, at in self._window]),
                settings.course_speed_mps,
                settings.course_smoothing_s,
                settings.fix_sigma_m or 0.5,
            )
        except UserError:  # it does not move
            held = True
        else:
            held = bool(found.held[i])
        if not held:
            self._heading = found.trajectory.quat_xyzw[i]
        if self._heading is not None:
            self.course.add(PoseSample(int(stamps[i]), "map", "", np.zeros(3), self._heading))


class PlaceOnEarth:
    """GPS fixes, each with the pose of `body` at its time, to tell at the end where the origin of the poses is."""

    def __init__(self, gap_ns: int) -> None:
        self.body: PoseSource | None = None
        self._gap_ns = gap_ns
        self._fixes = FixLog()
        self._pending: list[FixSample] = []
        self._stamps_ns, self._T = array("q"), array("d")  # compact: a flight has many

    def add(self, fix: FixSample) -> None:
        """Take a fix; its pose is looked up when it is known."""
        self._pending.append(fix)
        del self._pending[:-_PENDING_FIXES]
        self._look_up()

    def find(self, antenna_m: Float64) -> Georeference | None:
        """Where the origin is, as `pose2rgbd convert` finds it; None without fixes."""
        self._look_up(last=True)
        if not self._stamps_ns:
            return None
        position_m, quat_xyzw = se3.split(np.reshape(self._T, (-1, 4, 4)))
        body, _ = Trajectory.from_unsorted(self._stamps_ns, position_m, quat_xyzw)
        return self._fixes.georeference(body, self._gap_ns, antenna_m)

    def _look_up(self, last: bool = False) -> None:
        if self.body is None:
            return
        waiting = []
        for fix in self._pending:
            answer = self.body.pose_at(fix.stamp_ns)
            if answer.wait and not last:
                waiting.append(fix)
            elif answer.T is not None:
                self._fixes.add(fix)
                self._stamps_ns.append(fix.stamp_ns)
                self._T.extend(answer.T.ravel())
        self._pending = waiting
