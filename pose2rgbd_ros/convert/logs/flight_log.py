"""A flight log, and the poses along it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.dataset.meta import PosesMeta
from pose2rgbd_ros.errors import UserError, counted, os_errors
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import AnyArray, Float64, Int64
from pose2rgbd_ros.geometry.geodesy import Datum, gimbal_to_quat_map_cam, wgs84_to_enu
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.poses import camera_pose
from pose2rgbd_ros.poses.orientation import TurnedPoses, course
from pose2rgbd_ros.poses.settings import PoseSettings
from pose2rgbd_ros.streams.synchronizer import ChainedPoses, FixedPose, PoseSource, RecordedPoses

# utc: since 1970. video: since the first frame of the video that the log rides on. own: since some moment of its own.
Clock = Literal["utc", "video", "own"]
SECOND = 1_000_000_000
LARGEST_TEXT = 200_000_000
# A logger repeats the last position until its receiver has a new one: a repetition sooner than this is left out.
_REPEATED_NS = 900_000_000
# Receivers without a fix write dates of an epoch: what is farther from the middle of a log is not of this flight.
_LONGEST_NS = 86_400 * SECOND


@dataclass(frozen=True, eq=False)
class Angles:
    """Yaw (clockwise from north), pitch, roll in degrees, `deg` (N, 3), at increasing `stamps_ns`."""

    stamps_ns: Int64
    deg: Float64


@dataclass(frozen=True, eq=False)
class FlightLog:
    """What a log says. Positions stand at increasing `stamps_ns` (N,), N >= 1; altitudes and heights above take-off
    are NaN where unknown. `velocity_enu_mps` (N, 3) is NaN where unknown.

    `body` are the angles of the aircraft, `camera` those of its camera or gimbal; `camera_how` says how they came
    about. `utc_at_zero_ns` ties a clock that is not UTC to it, where that is known. `recordings_ns`: when the log says
    that a video was being recorded. `altitude_reference` is msl, ellipsoid or unknown.
    """

    name: str
    kind: str
    clock: Clock
    stamps_ns: Int64
    latitude_deg: Float64
    longitude_deg: Float64
    altitude_m: Float64
    altitude_reference: str
    relative_altitude_m: Float64
    velocity_enu_mps: Float64
    body: Angles | None = None
    camera: Angles | None = None
    camera_how: str = "angles of the camera, as logged"
    utc_at_zero_ns: int | None = None
    recordings_ns: tuple[tuple[int, int], ...] = ()
    problems: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.stamps_ns)

    @property
    def on_video_time(self) -> bool:
        """Whether the log has the time of the video it rides on."""
        return self.clock == "video"


@dataclass
class Rows:
    """A log being read, row by row; a value that a row lacks is NaN."""

    stamps_ns: list[int] = field(default_factory=list)
    values: list[Sequence[float]] = field(default_factory=list)
    problems: Counter[str] = field(default_factory=Counter)

    # latitude, longitude, altitude, height above take-off, velocity east north up; yaw pitch roll of body and camera
    WIDTH = 13

    def add(self, stamp_ns: int, values: Sequence[float]) -> None:
        """Append a row of WIDTH numbers."""
        self.stamps_ns.append(stamp_ns)
        self.values.append(values)

    def log(
        self,
        name: str,
        kind: str,
        clock: Clock,
        altitude_reference: str,
        *,
        utc_at_zero_ns: int | None = None,
        recordings_ns: tuple[tuple[int, int], ...] = (),
        notes: tuple[str, ...] = (),
        warnings: tuple[str, ...] = (),
    ) -> FlightLog:
        """The log. UserError when no row has a position."""
        numbers = np.array(self.values, dtype=np.float64).reshape(-1, self.WIDTH)
        stamps = np.array(self.stamps_ns, dtype=np.int64)
        body, camera = angles(stamps, numbers[:, 7:10]), angles(stamps, numbers[:, 10:13])
        keep, problems = usable_fixes(stamps, numbers[:, :3])
        problems.update(self.problems)
        if not len(keep):
            raise UserError(f"{name}: no usable position among {counted(len(stamps), 'row')} of this {kind} log")
        fixes = numbers[keep]
        return FlightLog(
            name=name,
            kind=kind,
            clock=clock,
            stamps_ns=stamps[keep],
            latitude_deg=fixes[:, 0],
            longitude_deg=fixes[:, 1],
            altitude_m=fixes[:, 2],
            altitude_reference=altitude_reference,
            relative_altitude_m=fixes[:, 3],
            velocity_enu_mps=fixes[:, 4:7],
            body=body,
            camera=camera,
            utc_at_zero_ns=utc_at_zero_ns,
            recordings_ns=recordings_ns,
            problems={reason: count for reason, count in problems.items() if count},
            notes=notes,
            warnings=warnings,
        )


def usable_fixes(stamps_ns: Int64, place: Float64) -> tuple[AnyArray, Counter[str]]:
    """Indices of the rows, in order of time, whose latitude, longitude (of `place` (N, 3)) can be used; the others
    by reason. Repetitions of one position are kept about once a second."""
    latitude, longitude = place[:, 0], place[:, 1]
    known = np.isfinite(latitude) & np.isfinite(longitude)
    known &= (np.abs(latitude) <= 90) & (np.abs(longitude) <= 180) & ((latitude != 0) | (longitude != 0))
    problems: Counter[str] = Counter(no_position=int(np.sum(~known)))
    if known.any():
        near = np.abs(stamps_ns - middle(stamps_ns[known].tolist())) <= _LONGEST_NS
        problems["wrong_time"] = int(np.sum(known & ~near))
        known &= near
    chosen = np.flatnonzero(known)
    stamps = stamps_ns[chosen]
    problems["out_of_order"] = int(np.sum(stamps[1:] < np.maximum.accumulate(stamps)[:-1])) if len(stamps) else 0
    _, first = np.unique(stamps, return_index=True)
    problems["duplicate_stamp"] = len(stamps) - len(first)
    chosen = chosen[first]
    kept: list[int] = []
    for i in chosen:
        same = bool(kept) and np.array_equal(place[i], place[kept[-1]], equal_nan=True)
        if same and stamps_ns[i] - stamps_ns[kept[-1]] < _REPEATED_NS:
            problems["repeated_position"] += 1
        else:
            kept.append(int(i))
    return np.array(kept, dtype=np.int64), problems


def angles(stamps_ns: npt.ArrayLike, deg: Float64) -> Angles | None:
    """The rows (N, 3) whose yaw is known, by time, each stamp once; unknown pitch and roll are 0. None of none."""
    stamps = np.asarray(stamps_ns, dtype=np.int64)
    known = np.flatnonzero(np.isfinite(deg[:, 0]))
    if not len(known):
        return None
    unique, first = np.unique(stamps[known], return_index=True)
    return Angles(unique, np.nan_to_num(deg[known[first]]))


def middle(values: Sequence[int]) -> int:
    """The median of integers, exactly: one of them."""
    return int(sorted(values)[len(values) // 2])


def read_text(path: Path) -> str:
    """A log's text; UTF-8, else Latin-1. UserError when it cannot be read or is no text at all."""
    with os_errors(f"{path} cannot be read"):
        if path.stat().st_size > LARGEST_TEXT:
            raise UserError(f"{path} is larger than {LARGEST_TEXT // 1_000_000} MB; is it a flight log?")
        data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    if b"\0" in data[:4096]:
        raise UserError(f"{path} is not a text file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


# The pose of the camera at any time of a flight log.

_ORIENTATIONS = ("auto", "gimbal", "pose", "course")
_LEVEL = (0.0, 0.0, 0.0, 1.0)
REFERENCES = {"msl": "sea level", "ellipsoid": "the ellipsoid", "takeoff": "take-off", "unknown": "a level not said"}


@dataclass(frozen=True, eq=False)
class LogPoses:
    """`source` gives the camera's poses; `track` are the positions by the same clock; `facts` for the dataset; and in
    words where positions and orientations come from."""

    source: PoseSource
    track: Trajectory
    facts: PosesMeta
    position_how: str
    orientation_how: str


@dataclass(frozen=True, eq=False)
class _Turns:
    """Orientations of a camera or of a body with a camera on it (`T_body_cam`)."""

    trajectory: Trajectory
    T_body_cam: Float64
    name: str
    how: str
    mount: str = ""


def poses_of(log: FlightLog, datum: Datum, settings: PoseSettings, shift_ns: int = 0) -> LogPoses:
    """The poses of a log's camera; `shift_ns` is added to its stamps, to bring them to the clock of the images.

    UserError when the log lacks what the settings ask for.
    """
    position_m, reference, position_how = positions(log, datum, settings)
    turns = _turns(log, position_m, settings)
    gap_ns = round(settings.max_fix_gap_s * SECOND)
    level = np.tile(_LEVEL, (len(log), 1))
    track = Trajectory(log.stamps_ns + shift_ns, position_m, level)
    turned = _shifted(_reaching(turns.trajectory, log, gap_ns), shift_ns)
    body = TurnedPoses(
        RecordedPoses(track, gap_ns, settings.interpolation),
        RecordedPoses(turned, gap_ns, settings.interpolation),
        settings.antenna(),
    )
    facts = PosesMeta(
        position="gps",
        orientation=turns.name,
        mount=turns.mount,
        interpolation=settings.interpolation,
        altitude_reference=reference,
        topics={"fix": f"{log.name} ({log.kind})"},
    )
    source = ChainedPoses(body, mount=FixedPose(turns.T_body_cam))
    return LogPoses(source, track, facts, position_how, turns.how)


def datum_of(log: FlightLog, altitude: str) -> Datum:
    """The place of the log's first position; with altitude "relative" at the height of take-off."""
    known = np.flatnonzero(np.isfinite(log.altitude_m))
    up = float(log.altitude_m[known[0]]) if len(known) and altitude != "none" else 0.0
    if altitude == "relative" and len(known) and np.isfinite(log.relative_altitude_m[known[0]]):
        up -= float(log.relative_altitude_m[known[0]])
    return Datum(float(log.latitude_deg[0]), float(log.longitude_deg[0]), up)


def positions(log: FlightLog, datum: Datum, settings: PoseSettings) -> tuple[Float64, str, str]:
    """Positions (N, 3) in the datum's east, north and up, all finite; what heights count from; and both in words."""
    altitude, stated = settings.altitude, settings.altitude_reference
    position = wgs84_to_enu(log.latitude_deg, log.longitude_deg, log.altitude_m, datum)
    absolute, relative = np.isfinite(log.altitude_m).any(), np.isfinite(log.relative_altitude_m).any()
    if altitude == "relative" and not relative:
        raise UserError(f"{log.name} has no heights above take-off; --altitude fix uses those of the GPS")
    if altitude == "relative" or (altitude == "auto" and not absolute and relative):
        position[:, 2] = _filled(log, log.relative_altitude_m)
        return position, "takeoff", f"GPS of {log.kind}; heights count from take-off"
    if altitude == "none" or not absolute:
        position[:, 2] = 0.0
        return position, "unknown", f"GPS of {log.kind} without heights: all at height 0"
    position[:, 2] = _filled(log, position[:, 2])
    reference = log.altitude_reference if stated == "auto" else stated
    return position, reference, f"GPS of {log.kind}; heights count from {REFERENCES[reference]}"


def _filled(log: FlightLog, heights: Float64) -> Float64:
    """Unknown heights between known ones, linearly in time."""
    known = np.isfinite(heights)
    time_s = (log.stamps_ns - log.stamps_ns[0]) / SECOND
    return np.asarray(np.interp(time_s, time_s[known], heights[known]))


def _turns(log: FlightLog, position_m: Float64, settings: PoseSettings) -> _Turns:
    wanted = settings.orientation
    if wanted not in _ORIENTATIONS:
        raise UserError(f"--orientation {wanted} is not for flight logs; choose {', '.join(_ORIENTATIONS)}")
    if wanted == "gimbal" and log.camera is None:
        raise UserError(f"{log.name} has no angles of a gimbal; --orientation course does without")
    if wanted == "pose" and log.body is None:
        raise UserError(f"{log.name} has no angles of the aircraft; --orientation course does without")
    if wanted in ("auto", "gimbal") and log.camera is not None:
        return _Turns(_trajectory(log.camera), np.eye(4), "gimbal", log.camera_how)
    option = "forward" if settings.body_to_camera == "auto" else settings.body_to_camera
    assumed = " (assumed; --body-to-camera says otherwise)" if settings.body_to_camera == "auto" else ""
    T_body_cam = camera_pose.parse_mount(option)
    mounted = f"camera mount {option}{assumed}"
    if wanted in ("auto", "pose") and log.body is not None:
        T_optical_cam = se3.inverse(se3.T_BODY_OPTICAL) @ T_body_cam
        how = f"angles of the aircraft, as logged; {mounted}"
        return _Turns(_trajectory(log.body), T_optical_cam, "pose", how, mounted)
    try:
        found = course(log.stamps_ns, position_m, settings.course_speed_mps, settings.course_smoothing_s).trajectory
    except UserError as error:
        raise UserError(f"{log.name}: {error}") from error
    how = f"course over ground, level, for no angles against north are logged; {mounted}"
    return _Turns(found, T_body_cam, "course", how, mounted)


def _trajectory(angles: Angles) -> Trajectory:
    """Orientations of an optical frame of a camera with these angles."""
    return Trajectory(angles.stamps_ns, np.zeros((len(angles.deg), 3)), gimbal_to_quat_map_cam(*angles.deg.T))


def _shifted(trajectory: Trajectory, shift_ns: int) -> Trajectory:
    return Trajectory(trajectory.stamps_ns + shift_ns, trajectory.position_m, trajectory.quat_xyzw)


def _reaching(turns: Trajectory, log: FlightLog, gap_ns: int) -> Trajectory:
    """Angles that begin a little later than the positions, or end earlier, are held up to there."""
    stamps, quats = turns.stamps_ns, turns.quat_xyzw
    first, last = int(log.stamps_ns[0]), int(log.stamps_ns[-1])
    if 0 < stamps[0] - first <= gap_ns:
        stamps, quats = np.r_[first, stamps], np.vstack([quats[:1], quats])
    if 0 < last - stamps[-1] <= gap_ns:
        stamps, quats = np.r_[stamps, last], np.vstack([quats, quats[-1:]])
    return Trajectory(stamps, np.zeros((len(stamps), 3)), quats)
