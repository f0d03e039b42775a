"""The pose of the camera at any time of a flight log."""

from __future__ import annotations

import numpy as np

from pose2rgbd_ros.dataset.importers import mount
from pose2rgbd_ros.dataset.importers.logs.flight_log import SECOND, Angles, FlightLog
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.aviation import gimbal_to_quat_map_cam
from pose2rgbd_ros.geometry.geodesy import Datum, wgs84_to_enu
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.streams.alignment.signals import gaussian_slope
from pose2rgbd_ros.streams.pose_settings import PoseSettings
from pose2rgbd_ros.streams.pose_source import PoseAnswer, RecordedPoses

_ORIENTATIONS = ("auto", "gimbal", "pose", "course")
_LEVEL = (0.0, 0.0, 0.0, 1.0)


class LogPoses:
    """PoseSource of a log: its positions, and angles that may have stamps of their own. `how` says what was taken.

    `shift_ns` is added to the log's stamps, to bring them to the clock of the images.
    """

    def __init__(self, log: FlightLog, datum: Datum, settings: PoseSettings, shift_ns: int = 0) -> None:
        position_m, self.position_how = positions(log, datum, settings.altitude)
        angles, T_body_cam, self.orientation_how = _orientation(log, position_m, settings)
        gap_ns = round(settings.max_fix_gap_s * SECOND)
        level = np.tile(_LEVEL, (len(log), 1))
        self.trajectory = Trajectory(log.stamps_ns + shift_ns, position_m, level)
        turns = Trajectory(
            angles.stamps_ns + shift_ns, np.zeros((len(angles.deg), 3)), gimbal_to_quat_map_cam(*angles.deg.T)
        )
        self._positions = RecordedPoses(self.trajectory, gap_ns, settings.interpolation)
        self._turns = RecordedPoses(turns, gap_ns, settings.interpolation)
        self._first_ns, self._last_ns = int(turns.stamps_ns[0]), int(turns.stamps_ns[-1])
        self._hold_ns = gap_ns
        self._T_body_cam = T_body_cam

    def pose_at(self, stamp_ns: int) -> PoseAnswer:
        """The pose; angles that begin late or end early are held for as long as positions are interpolated."""
        position = self._positions.pose_at(stamp_ns)
        if position.T is None:
            return position
        nearest = min(max(stamp_ns, self._first_ns), self._last_ns)
        turned = self._turns.pose_at(nearest if abs(nearest - stamp_ns) <= self._hold_ns else stamp_ns)
        if turned.T is None:
            return PoseAnswer(None, f"orientation_{turned.reason}")
        return PoseAnswer(position.T @ turned.T @ self._T_body_cam)

    def jumped_back(self, stamp_ns: int) -> None:
        """Changes nothing."""


def datum_of(log: FlightLog, altitude: str) -> Datum:
    """The place of the log's first position; with altitude "relative" at the height of take-off."""
    known = np.flatnonzero(np.isfinite(log.altitude_m))
    up = float(log.altitude_m[known[0]]) if len(known) and altitude != "none" else 0.0
    if altitude == "relative" and len(known) and np.isfinite(log.relative_altitude_m[known[0]]):
        up -= float(log.relative_altitude_m[known[0]])
    return Datum(float(log.latitude_deg[0]), float(log.longitude_deg[0]), up)


def positions(log: FlightLog, datum: Datum, altitude: str) -> tuple[Float64, str]:
    """Positions (N, 3) in the datum's east, north and up, and what heights count from. All finite."""
    position = wgs84_to_enu(log.latitude_deg, log.longitude_deg, log.altitude_m, datum)
    absolute, relative = np.isfinite(log.altitude_m), np.isfinite(log.relative_altitude_m)
    if altitude == "relative" and not relative.any():
        raise UserError(f"{log.name} has no heights above take-off; --altitude fix uses those of the GPS")
    if altitude == "relative" or (altitude == "auto" and not absolute.any() and relative.any()):
        position[:, 2] = _filled(log, log.relative_altitude_m)
        return position, f"GPS of {log.kind}; heights are those above take-off"
    if altitude == "none" or not absolute.any():
        position[:, 2] = 0.0
        return position, f"GPS of {log.kind} without heights: all at height 0"
    position[:, 2] = _filled(log, position[:, 2])
    return position, f"GPS of {log.kind}; heights {log.altitude_reference}"


def _filled(log: FlightLog, heights: Float64) -> Float64:
    """Unknown heights between known ones, linearly in time."""
    known = np.isfinite(heights)
    time_s = (log.stamps_ns - log.stamps_ns[0]) / SECOND
    return np.asarray(np.interp(time_s, time_s[known], heights[known]))


def _orientation(log: FlightLog, position_m: Float64, settings: PoseSettings) -> tuple[Angles, Float64, str]:
    """Angles of the camera, or of the body with the camera on it (4, 4) (of an optical frame where it is level)."""
    wanted = settings.orientation
    if wanted not in _ORIENTATIONS:
        raise UserError(f"--orientation {wanted} is not for flight logs; choose {', '.join(_ORIENTATIONS)}")
    if wanted == "gimbal" and log.camera is None:
        raise UserError(f"{log.name} has no angles of a gimbal; --orientation course does without")
    if wanted == "pose" and log.body is None:
        raise UserError(f"{log.name} has no angles of the aircraft; --orientation course does without")
    if wanted in ("auto", "gimbal") and log.camera is not None:
        return log.camera, np.eye(4), log.camera_how
    option = "forward" if settings.body_to_camera == "auto" else settings.body_to_camera
    T_body_cam = se3.inverse(se3.T_BODY_OPTICAL) @ mount.parse(option)
    assumed = " (assumed; --body-to-camera says otherwise)" if settings.body_to_camera == "auto" else ""
    if wanted in ("auto", "pose") and log.body is not None:
        return log.body, T_body_cam, f"angles of the aircraft, as logged, camera mount {option}{assumed}"
    how = f"course over ground, level (angles are not logged), camera mount {option}{assumed}"
    return course(log, position_m, settings), T_body_cam, how


def course(log: FlightLog, position_m: Float64, settings: PoseSettings) -> Angles:
    """The direction of travel, as yaw of a level body; held while the vehicle is slower than `course_speed_mps`."""
    velocity = velocity_of(log, position_m, settings.course_smoothing_s)
    speed = np.linalg.norm(velocity[:, :2], axis=1)
    moving = speed >= settings.course_speed_mps
    if not moving.any():
        raise UserError(
            f"{log.name}: the fastest it goes is {np.nanmax(speed, initial=0.0):.2f} m/s, so there is no course to take "
            "the camera's yaw from; --course-speed-mps allows slower ones"
        )
    yaw = np.degrees(np.arctan2(velocity[:, 0], velocity[:, 1]))
    last = np.maximum.accumulate(np.where(moving, np.arange(len(yaw)), -1))
    held = yaw[np.where(last < 0, np.flatnonzero(moving)[0], last)]
    return Angles(log.stamps_ns, np.column_stack([held, np.zeros((len(held), 2))]))


def velocity_of(log: FlightLog, position_m: Float64, smoothing_s: float) -> Float64:
    """Velocity (N, 3), as logged where all of it is, else the slope of the positions."""
    if np.isfinite(log.velocity_enu_mps[:, :2]).all():
        return np.nan_to_num(log.velocity_enu_mps)
    if len(log) < 2:
        return np.zeros((len(log), 3))
    time_s = (log.stamps_ns - log.stamps_ns[0]) / SECOND
    width = max(smoothing_s, float(np.median(np.diff(time_s))))
    slope = gaussian_slope(time_s, position_m, time_s, width)
    # At the ends and beside gaps, where a slope is not supported from both sides.
    plain = np.gradient(position_m, time_s, axis=0)
    return np.where(np.isfinite(slope), slope, plain)
