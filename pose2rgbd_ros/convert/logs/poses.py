"""The pose of the camera at any time of a flight log."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pose2rgbd_ros.convert.logs.flight_log import SECOND, Angles, FlightLog
from pose2rgbd_ros.dataset.meta import PosesMeta
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.geodesy import Datum, gimbal_to_quat_map_cam, wgs84_to_enu
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.poses import camera_pose
from pose2rgbd_ros.poses.orientation import TurnedPoses, course
from pose2rgbd_ros.poses.settings import PoseSettings
from pose2rgbd_ros.streams.synchronizer import ChainedPoses, FixedPose, PoseSource, RecordedPoses

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
    altitude, told = settings.altitude, settings.altitude_reference
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
    reference = log.altitude_reference if told == "auto" else told
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
