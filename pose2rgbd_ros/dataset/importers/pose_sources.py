"""Which of the recorded sources gives the positions and which the orientations, and the camera's track of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pose2rgbd_ros.dataset.importers import mount as mounts
from pose2rgbd_ros.dataset.importers.camera_track import CameraTrack
from pose2rgbd_ros.dataset.importers.mount import Mount
from pose2rgbd_ros.dataset.importers.pose_tracks import from_poses, from_tf, moving_in_map
from pose2rgbd_ros.dataset.meta import PosesMeta
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.geodesy import Datum
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.streams import orientation as turns
from pose2rgbd_ros.streams.fusion import fuse

if TYPE_CHECKING:
    from pose2rgbd_ros.dataset.importers.bag_track import FirstPass

EARTH_MAPS = ("map", "world", "earth")  # frames of TF whose axes are taken to be east, north, up
_SECOND = 1_000_000_000


@dataclass(frozen=True, eq=False)
class _Turned:
    """Orientations of `frame` ("camera": of the camera itself, "gimbal") in the map, and how they were found."""

    trajectory: Trajectory
    frame: str
    name: str
    how: str


def camera_track(recorded: FirstPass, datum: Datum | None) -> CameraTrack:
    """The camera's way by the settings. GPS positions are about `datum` (None: the first fix).

    UserError when a source that was asked for, or any at all, is missing.
    """
    return _Sources(recorded, datum).track()


class _Sources:
    def __init__(self, recorded: FirstPass, datum: Datum | None) -> None:
        self._recorded, self._options, self._datum = recorded, recorded.options, datum
        self._settings = recorded.options.poses
        self._camera_frame = self._options.camera_frame or recorded.topics.image_frame

    def track(self) -> CameraTrack:
        """Positions first, then what turns them."""
        position = self._settings.position
        if position == "gps" or (position == "auto" and self._recorded.topics.gps_only):
            track = self._with_gps()
        else:
            track = self._with_poses()
            if position == "fused":
                track = self._fused(track)
        return self._told(self._turned(track))

    def _with_poses(self) -> CameraTrack:
        """Poses as recorded; where TF gives none, the GPS, unless poses were asked for."""
        recorded = self._recorded
        if recorded.topics.pose is not None:
            return from_poses(recorded, recorded.topics.pose, self._camera_frame)
        try:
            return from_tf(recorded, self._camera_frame)
        except UserError as error:
            if self._settings.position != "auto" or not len(recorded.fixes):
                raise
            recorded.note(f"positions are GPS's, for TF gives none ({error})")
            return self._with_gps()

    def _with_gps(self) -> CameraTrack:
        """The antenna's positions; where camera and body are turned is found later."""
        recorded, settings = self._recorded, self._settings
        if not len(recorded.fixes):
            raise UserError(
                "there is no GPS fix with a position; --fix-topic picks another topic, --position pose does without"
            )
        fixes = recorded.fixes.track(self._datum, settings.altitude, settings.fix_sigma_m)
        good = fixes.plausible()
        problems = {"fix_outlier": len(fixes) - len(good)} if len(good) < len(fixes) else {}
        return CameraTrack(
            body=good.trajectory(),
            mount=Mount(np.eye(4), None, ""),
            map_frame=self._options.map_frame or "map",
            camera_frame=self._camera_frame or "camera_optical_frame",
            gap_ns=max(round(settings.max_fix_gap_s * _SECOND), self._options.max_gap_ns),
            pose_count=len(recorded.fixes),
            received_ns=recorded.fix_received_ns,
            problems=problems,
            datum=fixes.datum,
            facts=PosesMeta(position="gps"),
        )

    def _fused(self, odometry: CameraTrack) -> CameraTrack:
        """GPS and odometry as one; the odometry alone, with a remark, where that cannot be."""
        recorded, settings = self._recorded, self._settings
        if not len(recorded.fixes):
            raise UserError(
                "--position fused needs GPS fixes, and there are none; --fix-topic picks another topic"
            )
        fixes = recorded.fixes.track(self._datum, settings.altitude, settings.fix_sigma_m)
        try:
            fused = fuse(odometry.body, fixes, settings, self.antenna_m())
        except UserError as error:
            recorded.warn(f"{error}; the poses are used as recorded")
            return odometry
        accuracy = fused.accuracy
        recorded.note(accuracy.summary())
        return replace(
            odometry,
            body=fused.trajectory,
            map_frame=self._options.map_frame or "map",
            datum=fixes.datum,
            facts=PosesMeta(position="fused", accuracy=accuracy.to_dict()),
        )

    def antenna_m(self) -> Float64:
        """The antenna in the body (3,): as given, else from static TF, else at its origin."""
        return self._recorded.antenna_m(self._recorded.body_frame())

    def _turned(self, track: CameraTrack) -> CameraTrack:
        """The track with the orientations asked for."""
        wanted, by_gps = self._settings.orientation, track.facts.position == "gps"
        if wanted == "auto" and not by_gps:
            wanted = "gimbal" if self._gimbal_fits() else "pose"
        if wanted == "pose" and not by_gps:
            return track
        found = self._orientation(wanted, track)
        gap_ns = self._options.max_gap_ns
        if found.name == "course":
            gap_ns = track.gap_ns
        arm_m = self.antenna_m() if by_gps else None
        if arm_m is not None and found.frame == "gimbal":
            arm_m = None  # how the body is turned is not known, only the camera
        self._recorded.note(found.how)
        return replace(
            track,
            mount=self._mount(found.frame),
            orientation=found.trajectory,
            orientation_gap_ns=gap_ns,
            arm_m=arm_m,
            facts=replace(track.facts, orientation=found.name),
        )

    def _gimbal_fits(self) -> bool:
        """Whether a gimbal's messages say more than an assumed mount would."""
        known = self._camera_frame in self._recorded.tree.frames()
        return bool(len(self._recorded.gimbal)) and self._settings.body_to_camera == "auto" and not known

    def _mount(self, frame: str) -> Mount:
        option = self._settings.body_to_camera
        if frame == "camera":
            return Mount(
                np.eye(4), None, f"orientations are those of the image's frame, {self._camera_frame}"
            )
        if frame == "gimbal":
            given = mounts.T_FORWARD if option == "auto" else mounts.parse(option)
            return Mount(
                given,
                None,
                "the camera looks along the gimbal" if option == "auto" else f"on the gimbal: {option}",
            )
        tree, gap_ns = self._recorded.tree, self._options.max_gap_ns
        return mounts.find(option, tree, frame, self._camera_frame, gap_ns)

    def _orientation(self, wanted: str, track: CameraTrack) -> _Turned:
        """The source asked for, or the first that there is. UserError, saying what was missing."""
        sources: dict[str, Callable[[], _Turned]] = {
            "gimbal": self._from_gimbal,
            "tf": self._from_tf,
            "imu": self._from_imu,
            "pose": self._from_pose,
            "course": lambda: self._from_course(track),
        }
        if wanted != "auto":
            return sources[wanted]()
        for name in ("gimbal", "tf", "imu"):
            try:
                return sources[name]()
            except UserError:
                continue
        return self._from_course(track)

    def _from_pose(self) -> _Turned:
        if not len(self._recorded.poses):
            raise UserError("no topic of poses is read; --pose-topic names one, --orientation tf takes TF's")
        trajectory, _ = self._recorded.poses.trajectory()
        return _Turned(trajectory, self._recorded.body_frame(), "pose", "orientations are those of the poses")

    def _from_tf(self) -> _Turned:
        recorded, frames = self._recorded, self._recorded.tree.frames()
        maps = (self._options.map_frame,) if self._options.map_frame else EARTH_MAPS
        body = self._recorded.body_frame()
        source, frame = (self._camera_frame, "camera") if self._camera_frame in frames else (body, body)
        map_frame, trajectory = moving_in_map(recorded, source, maps)
        return _Turned(trajectory, frame, "tf", f"orientations are those of {source} in {map_frame}, from TF")

    def _from_imu(self) -> _Turned:
        recorded = self._recorded
        if not len(recorded.imu):
            raise UserError(
                "no Imu message tells an orientation (covariance -1: none); --imu-topic picks a topic"
            )
        trajectory, imu_frame = recorded.imu.trajectory(), recorded.imu.frame
        body, frames = self._recorded.body_frame() or imu_frame, recorded.tree.frames()
        how = f"orientations are those of {recorded.topics.imu or recorded.topics.attitude}, taken as east, north, up"
        if body != imu_frame and {body, imu_frame} <= set(frames):
            T = recorded.tree.static_transform(imu_frame, body)
            if T is not None:
                return _Turned(
                    turns.turned_by(trajectory, T), body, "imu", f"{how}, turned from {imu_frame} to {body}"
                )
        return _Turned(trajectory, body, "imu", how)

    def _from_gimbal(self) -> _Turned:
        recorded = self._recorded
        if not len(recorded.gimbal):
            raise UserError("no attitude of a gimbal is recorded; --gimbal-topic picks a topic")
        gimbal, absolute = recorded.gimbal.trajectory(), recorded.gimbal.flagged()
        body: Trajectory | None = None
        if len(recorded.imu):
            body = recorded.imu.trajectory()
        elif len(recorded.poses):
            body, _ = recorded.poses.trajectory()
        in_map = turns.gimbal_in_map(gimbal, absolute, body, self._options.max_gap_ns)
        yaw = "north" if absolute else "the vehicle's heading"
        return _Turned(
            in_map,
            "gimbal",
            "gimbal",
            f"orientations are those of {recorded.topics.gimbal}, its yaw from {yaw}",
        )

    def _from_course(self, track: CameraTrack) -> _Turned:
        settings = self._settings
        sigma_m = settings.fix_sigma_m or 0.5
        course = turns.course(
            track.body.stamps_ns,
            track.body.position_m,
            settings.course_speed_mps,
            settings.course_smoothing_s,
            sigma_m,
        )
        usual = np.degrees(np.median(course.sigma_rad[~course.held]))
        return _Turned(
            course.trajectory,
            self._recorded.body_frame(),
            "course",
            f"orientations are the course over ground, level, good to about {usual:.0f} degrees; below "
            f"{settings.course_speed_mps:g} m/s ({100 * course.held.mean():.0f} % of the time) the last heading holds",
        )

    def _told(self, track: CameraTrack) -> CameraTrack:
        """The facts completed."""
        topics, facts = self._recorded.topics, track.facts
        used = {"pose": topics.pose, "fix": topics.fix if facts.position != "pose" else None}
        if facts.position == "gps":
            used["pose"] = None
        if facts.orientation == "gimbal":
            used["gimbal"] = topics.gimbal
        if facts.orientation == "imu":
            used["imu"] = topics.imu or topics.attitude
        by_gps = facts.position in ("gps", "fused")
        reference = self._settings.altitude_reference
        if reference == "auto":
            relative = self._settings.altitude == "relative"
            reference = ("takeoff" if relative else "ellipsoid") if by_gps else "unknown"
        facts = replace(
            facts,
            mount=track.mount.how,
            interpolation=self._settings.interpolation,
            altitude_reference=reference,
            topics={key: topic for key, topic in used.items() if topic},
        )
        return replace(track, facts=facts, interpolation=self._settings.interpolation)
