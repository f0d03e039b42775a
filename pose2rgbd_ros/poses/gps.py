"""GPS fixes over time as positions of the antenna about one point on Earth: of a whole recording, and live."""

from __future__ import annotations

from array import array
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64, Int64
from pose2rgbd_ros.geometry.geodesy import Datum, enu_to_wgs84, wgs84_to_enu
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.poses.orientation import course
from pose2rgbd_ros.poses.settings import Altitude, PoseSettings
from pose2rgbd_ros.poses.sources import PoseBuffer
from pose2rgbd_ros.streams.samples import FixSample, PoseSample
from pose2rgbd_ros.streams.synchronizer import PoseSource

# Autopilots count microseconds since boot; kept in step with the computer they are this near to its clock.
_SAME_CLOCK_NS = 60_000_000_000


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


# Of a receiver that states no covariance: single frequency, open sky.
UNKNOWN_SIGMA_M = 1.5
VERTICAL_FACTOR = 1.6
_NEIGHBOURS = 3  # on each side, among whose middle a fix must lie


@dataclass(frozen=True, eq=False)
class FixTrack:
    """Positions of the antenna, east, north and up of `datum`, at increasing stamps.

    `stamps_ns` int64 (N,), `position_m` (N, 3), up NaN where a fix has no altitude, `sigma_m` (N, 3) standard
    deviations per axis. N >= 1.
    """

    stamps_ns: Int64
    position_m: Float64
    sigma_m: Float64
    datum: Datum

    def __len__(self) -> int:
        return len(self.stamps_ns)

    def only(self, chosen: np.ndarray) -> FixTrack:
        """The fixes of a mask or of indices."""
        return FixTrack(self.stamps_ns[chosen], self.position_m[chosen], self.sigma_m[chosen], self.datum)

    def plausible(self) -> FixTrack:
        """Without the fixes that jump away from their neighbours: for positions taken from the GPS alone."""
        x = self.position_m[:, :2]
        reach = min(_NEIGHBOURS, (len(x) - 1) // 2)
        if reach == 0:
            return self
        around = np.stack([x[i : len(x) - 2 * reach + i] for i in range(2 * reach + 1)])
        away = np.zeros(len(x))
        away[reach:-reach] = np.linalg.norm(x[reach:-reach] - np.median(around, axis=0), axis=1)
        step_m = np.median(np.linalg.norm(np.diff(x, axis=0), axis=1))  # a second outlier near by shifts the middle
        limit = 5 * np.maximum(self.sigma_m[:, :2].max(axis=1), 1.5 * np.median(away)) + step_m
        return self.only(away <= limit)

    def trajectory(self) -> Trajectory:
        """The positions as a trajectory without turns; unknown heights are those of the datum."""
        level = np.tile([0.0, 0.0, 0.0, 1.0], (len(self), 1))
        return Trajectory(self.stamps_ns, np.nan_to_num(self.position_m), level)


# Where the origin of recorded poses lies on Earth, from the GPS fixes recorded beside them.


_FEWEST_FIXES = 5
_SHORTEST_TRACK_M = 10.0
# Poses fit the fixes when the differences scatter by less than a GPS does, or than this part of the track.
_SCATTER_M, _SCATTER_PART = 2.0, 0.05
# Origins nearer than this are the same within what a GPS knows from one day to the next.
SAME_ORIGIN_M = 5.0
# Poses are moved, not turned: this far away, east, north and up differ by half a degree, so it is another place.
FARTHEST_ORIGIN_M = 50_000.0


@dataclass(frozen=True)
class Georeference:
    """The origin of the poses, or None, and how that was found, in words."""

    datum: Datum | None
    how: str


class FixLog:
    """GPS fixes of a recording in compact arrays, 64 bytes each, in the order of their coming."""

    def __init__(self) -> None:
        self.frame = ""
        self._stamps_ns = array("q")
        self._numbers = array("d")  # latitude, longitude, altitude and the variances of east, north, up

    def __len__(self) -> int:
        return len(self._stamps_ns)

    def add(self, fix: FixSample) -> None:
        """Append a fix; one without a position on Earth is left out."""
        if is_on_earth(fix):
            self.frame = self.frame or fix.frame_id
            self._stamps_ns.append(fix.stamp_ns)
            self._numbers.extend((fix.latitude_deg, fix.longitude_deg, fix.altitude_m))
            self._numbers.extend(np.diagonal(fix.covariance_enu_m2))

    def shift(self, offset_ns: int) -> None:
        """Add to all stamps."""
        self._stamps_ns = array("q", (np.frombuffer(self._stamps_ns, np.int64) + offset_ns).tobytes())

    def wgs84(self) -> tuple[Int64, Float64]:
        """Stamps (N,), and latitude, longitude (degrees), altitude (m, NaN: none) as (N, 3); by stamp, each once."""
        stamps, numbers = self._sorted()
        return stamps, numbers[:, :3]

    def datum(self) -> Datum:
        """The place of the first fix. UserError when there is none."""
        if not len(self):
            raise UserError("there is no GPS fix with a position")
        _, place = self.wgs84()
        altitudes = place[np.isfinite(place[:, 2]), 2]
        altitude_m = float(altitudes[0]) if len(altitudes) else 0.0
        return Datum(float(place[0, 0]), float(place[0, 1]), altitude_m, self.sigma_m())

    def sigma_m(self) -> float:
        """How far a fix is off, in space (standard deviation, the median one); errors wander slowly, so many are no
        better.
        """
        return float(np.median(np.linalg.norm(sigmas(self._sorted()[1][:, 3:], 0.0), axis=1)))

    def track(self, datum: Datum | None = None, altitude: Altitude = "auto", fix_sigma_m: float = 0.0) -> FixTrack:
        """The fixes about `datum` (None: the first one). UserError when there is none.

        `altitude` relative counts heights from the first fix, none does without. `fix_sigma_m` takes the place of the
        fixes' own covariances; where there are none, 1.5 m.
        """
        datum = datum or self.datum()
        stamps, numbers = self._sorted()
        position = wgs84_to_enu(numbers[:, 0], numbers[:, 1], numbers[:, 2], datum)
        return FixTrack(stamps, heights(position, altitude), sigmas(numbers[:, 3:], fix_sigma_m), datum)

    def _sorted(self) -> tuple[Int64, Float64]:
        stamps, first = np.unique(np.frombuffer(self._stamps_ns, dtype=np.int64), return_index=True)
        return stamps, np.frombuffer(self._numbers).reshape(-1, 6)[first]

    def georeference(self, body: Trajectory, max_gap_ns: int, antenna_m: Float64 | None = None) -> Georeference:
        """The point on Earth where the poses' origin lies, if their axes are east, north and up.

        That is so when fix minus pose is the same all along the track. `antenna_m` (3,): the antenna in the body,
        None: where the body is; altitudes are the receiver's, 0 where it gave none.
        """
        stamps, place = self.wgs84()
        latitude, longitude, altitude = place.T
        at = body.interpolate(stamps, max_gap_ns)
        if at.valid.sum() < _FEWEST_FIXES:
            return Georeference(None, f"only {at.valid.sum()} GPS fixes have a pose: no datum from them")
        first = Datum(latitude[0], longitude[0], float(np.nan_to_num(altitude[0])))
        T = at.T[at.valid]
        position = T[:, :3, 3] + (0.0 if antenna_m is None else T[:, :3, :3] @ antenna_m)
        offset = wgs84_to_enu(latitude[at.valid], longitude[at.valid], altitude[at.valid], first) - position
        offset[:, 2] = np.nan_to_num(offset[:, 2])
        origin = np.median(offset, axis=0)
        span = float(np.linalg.norm(np.ptp(position[:, :2], axis=0)))
        scatter = float(np.median(np.linalg.norm((offset - origin)[:, :2], axis=1)))
        if span < _SHORTEST_TRACK_M:
            return Georeference(None, f"the track spans only {span:.1f} m: no datum from GPS")
        if scatter > max(_SCATTER_M, _SCATTER_PART * span):
            return Georeference(
                None,
                f"the poses are not in east, north and up of the GPS (off by {scatter:.1f} m over {span:.0f} m): "
                "no datum; --position fused brings the two together",
            )
        latitude_deg, longitude_deg, altitude_m = (float(value) for value in enu_to_wgs84(origin, first))
        datum = Datum(latitude_deg, longitude_deg, altitude_m, self.sigma_m())
        return Georeference(datum, f"datum from {at.valid.sum()} GPS fixes, which fit the poses to {scatter:.2f} m")


def is_on_earth(fix: FixSample) -> bool:
    """Whether it has a position."""
    return abs(fix.latitude_deg) <= 90 and abs(fix.longitude_deg) <= 360  # not for NaN


class AntennaPlace:
    """Fixes one by one, as positions about `datum` (None: the first fix), with the heights asked for (NaN: unknown)."""

    def __init__(self, datum: Datum | None, altitude: Altitude) -> None:
        self.datum = datum
        self._altitude = altitude
        self._first_up_m: float | None = None

    def position_m(self, fix: FixSample) -> Float64:
        """Of the antenna (3,)."""
        if self.datum is None:
            self.datum = Datum(fix.latitude_deg, fix.longitude_deg, float(np.nan_to_num(fix.altitude_m)))
        enu = wgs84_to_enu(fix.latitude_deg, fix.longitude_deg, fix.altitude_m, self.datum)
        if self._altitude == "relative" and np.isfinite(enu[2]):
            self._first_up_m = enu[2] if self._first_up_m is None else self._first_up_m
            return np.array([enu[0], enu[1], enu[2] - self._first_up_m])
        known: Float64 = heights(enu[None], self._altitude)[0]
        return known


def heights(position_m: Float64, altitude: Altitude) -> Float64:
    """Positions (N, 3) with the heights asked for: as they are, from the first one on, or unknown (NaN)."""
    position_m = position_m.copy()
    known = np.flatnonzero(np.isfinite(position_m[:, 2]))
    if altitude == "relative" and len(known):
        position_m[:, 2] -= position_m[known[0], 2]
    if altitude == "none":
        position_m[:, 2] = np.nan
    return position_m


def sigmas(variance_m2: Float64, fix_sigma_m: float) -> Float64:
    """Standard deviations (N, 3) from variances (N, 3), which are zero or not finite where unknown."""
    stated = np.isfinite(variance_m2) & (variance_m2 > 0)
    axes = np.array([1.0, 1.0, VERTICAL_FACTOR])
    if fix_sigma_m > 0:
        return np.broadcast_to(fix_sigma_m * axes, variance_m2.shape).copy()
    return np.where(stated, np.sqrt(np.where(stated, variance_m2, 1.0)), UNKNOWN_SIGMA_M * axes)


def shift_m(own: Datum, common: Datum) -> Float64:
    """Where the origin `own` lies in the map of `common`: (3,) to add to the poses; zero when both are the same place.

    UserError when the two are too far apart for one map.
    """
    offset = wgs84_to_enu(own.latitude_deg, own.longitude_deg, own.altitude_m, common)
    distance_m = float(np.linalg.norm(offset))
    if distance_m > FARTHEST_ORIGIN_M:
        raise UserError(
            f"by GPS the poses' origin lies {distance_m / 1000:.0f} km from the map's datum ({own}, not {common}); "
            "check --datum, or choose another folder for another place"
        )
    return offset if distance_m > SAME_ORIGIN_M else np.zeros(3)


def require_near(position_m: Float64, source: Path, datum: Datum, into_unplaced: bool = False) -> None:
    """UserError when positions (N, 3) of `source` about `datum` do not belong into a dataset: they are of another place
    on Earth, or `into_unplaced`, it has frames and no datum.
    """
    if into_unplaced:
        raise UserError(
            f"{source}: the dataset's place on Earth is unknown, so GPS positions cannot be added; choose another "
            "folder, or position pose"
        )
    known_m = position_m[np.isfinite(position_m[:, :2]).all(axis=1), :2]
    away_m = float(np.median(np.linalg.norm(known_m, axis=1))) if len(known_m) else 0.0
    if away_m > FARTHEST_ORIGIN_M:
        raise UserError(
            f"{source}: by GPS it lies {away_m / 1000:.0f} km from the map's datum ({datum}); check --datum, or choose "
            "another folder for another place"
        )


# The same live: only the past is known, and little of it is kept.


_SECOND = 1e9
_LEVEL = np.array([0.0, 0.0, 0.0, 1.0])
_PENDING_FIXES = 1000


class LiveFixes:
    """The antenna about `datum` (None: the first fix): `positions`, without turns, and `course`, without positions.

    The course of a fix is known `course_smoothing_s` after it. Memory is bounded.
    """

    def __init__(self, settings: PoseSettings, datum: Datum | None = None) -> None:
        self.frame = ""
        self._antenna = AntennaPlace(datum, settings.altitude)
        self._settings = settings
        gap_ns = round(max(settings.max_fix_gap_s, settings.max_pose_gap_s) * _SECOND)
        self.positions = PoseBuffer(gap_ns, settings.interpolation)
        self.course = PoseBuffer(gap_ns, settings.interpolation)
        self._window: deque[tuple[int, Float64]] = deque()
        self._courses_ns = -1  # of the newest fix whose course is known
        self._heading: Float64 | None = None

    @property
    def datum(self) -> Datum | None:
        """What positions are about; None before the first fix."""
        return self._antenna.datum

    def __len__(self) -> int:
        return len(self.positions)

    def add(self, fix: FixSample) -> None:
        """Take in a fix that has a position."""
        position_m = np.nan_to_num(self._antenna.position_m(fix))
        self.frame = self.frame or fix.frame_id
        self.positions.add(PoseSample(fix.stamp_ns, "map", fix.frame_id, position_m, _LEVEL))
        self._follow(fix.stamp_ns, position_m)

    def clear(self) -> None:
        """Forget everything but the datum: time jumped."""
        self.positions.clear()
        self.course.clear()
        self._window.clear()
        self._courses_ns = -1

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
            found = course(
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
    """GPS fixes, each with the pose of `body` at its time, to find at the end where the origin of the poses is."""

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
