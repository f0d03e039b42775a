"""Which of the recorded sources gives the positions and which the orientations, and the camera's track of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.dataset.meta import PosesMeta
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.geodesy import Datum
from pose2rgbd_ros.geometry.trajectory import Method, Trajectory
from pose2rgbd_ros.poses import orientation as turns
from pose2rgbd_ros.poses.fusion_batch import fuse
from pose2rgbd_ros.poses.orientation import TurnedPoses
from pose2rgbd_ros.poses.transforms import TransformTree
from pose2rgbd_ros.streams.synchronizer import ChainedPoses, FixedPose, PoseAnswer, PoseSource, RecordedPoses

if TYPE_CHECKING:
    from pose2rgbd_ros.convert.bag_poses import BagPoses


# Where the camera sits on the body whose pose was recorded.


# Poses T_body_cam of the optical frame in a REP-103 body (x forward, y left, z up).
T_FORWARD: Float64 = se3.T_BODY_OPTICAL
T_NADIR: Float64 = np.array(  # looks down; the top of the image is ahead
    [[0.0, -1.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)
_NAMED = {"identity": np.eye(4), "forward": T_FORWARD, "nadir": T_NADIR}
ACCEPTED = "auto, forward, nadir, identity, or 'x y z qx qy qz qw'"


@dataclass(frozen=True)
class Mount:
    """The camera on the body: fixed (`T_body_cam`), or on a gimbal (`moving`, the same over time).

    `how` says in words where this comes from.
    """

    T_body_cam: Float64 | None
    moving: Trajectory | None
    how: str


def parse_mount(text: str) -> Float64:
    """T_body_cam (4, 4) of a name or of 'x y z qx qy qz qw'. UserError otherwise."""
    if text in _NAMED:
        return _NAMED[text]
    try:
        numbers = np.array([float(part) for part in text.replace(",", " ").split()])
    except ValueError:
        numbers = np.zeros(0)
    if numbers.shape != (7,) or not np.isfinite(numbers).all() or not numbers[3:].any():
        raise UserError(f"body-to-camera is {text!r}; expected {ACCEPTED} (metres, and a quaternion)")
    return se3.make(numbers[:3], numbers[3:])


def find_mount(option: str, tree: TransformTree, body_frame: str, camera_frame: str, gap_ns: int) -> Mount:
    """The mount: as the option says, else from the frames' names, else from TF, else a camera looking ahead.

    `body_frame` is the child frame of the recorded pose ("" when its message names none).
    """
    if option != "auto":
        return Mount(parse_mount(option), None, f"camera mount as given: {option}")
    if body_frame and body_frame == camera_frame:
        return Mount(np.eye(4), None, f"the pose is that of the image's frame, {camera_frame}")
    frames = tree.frames()
    if not body_frame and "base_link" in frames and camera_frame in frames:
        body_frame = "base_link"
    problem = f"TF does not know both {body_frame or 'the body'!r} and {camera_frame or 'the camera'!r}"
    if body_frame and camera_frame:
        try:
            return _from_tf(tree, body_frame, camera_frame, gap_ns)
        except UserError as error:
            problem = str(error)
    if "optical" in body_frame:
        return Mount(np.eye(4), None, f"the pose is that of {body_frame}, an optical frame by its name")
    return Mount(
        T_FORWARD,
        None,
        f"where the camera sits on {body_frame or 'the body'} is not recorded ({problem}): assumed at its origin, "
        "looking forward; --body-to-camera says otherwise",
    )


def _from_tf(tree: TransformTree, body_frame: str, camera_frame: str, gap_ns: int) -> Mount:
    fixed = tree.static_transform(body_frame, camera_frame)
    if fixed is not None:
        return Mount(fixed, None, f"camera mount {body_frame} -> {camera_frame} from static TF")
    moving = tree.trajectory(body_frame, camera_frame, gap_ns)
    return Mount(None, moving, f"camera mount {body_frame} -> {camera_frame} moves (a gimbal), from TF")


# The camera's way through the map: where the body was, how it was turned, and where the camera sits on it.


# Where maps are rooted, the most global first (REP-105 and habit).
MAP_FRAMES = ("map", "world", "earth", "odom", "vicon", "mocap", "local_origin")
BODY_FRAMES = ("base_link", "base_footprint", "body")


@dataclass
class CameraTrajectory:
    """The body's trajectory and the camera on it.

    `orientation`, where it comes from another source than the positions, replaces that of `body`; `arm_m` then is
    where in the turned body the positions were measured. `datum` is where the map's origin lies when the positions
    are GPS's; None: the poses have an origin of their own. `facts` is what the dataset tells of all this.
    """

    body: Trajectory
    mount: Mount
    map_frame: str
    camera_frame: str
    gap_ns: int
    pose_count: int
    received_ns: tuple[int, int] | None
    problems: dict[str, int] = field(default_factory=dict)
    orientation: Trajectory | None = None
    orientation_gap_ns: int = 0
    arm_m: npt.NDArray[np.float64] | None = None
    datum: Datum | None = None
    facts: PosesMeta = field(default_factory=PosesMeta)
    interpolation: Method = "linear"

    def shift(self, offset_m: npt.NDArray[np.float64]) -> None:
        """Express the poses in a map whose origin lies elsewhere: add (3,) metres to all."""
        self.body = replace(self.body, position_m=self.body.position_m + offset_m)
        self.__dict__.pop("_source", None)

    def poses(self, interpolation: Method | None = None) -> PoseSource:
        """The camera in the map, for the synchroniser."""
        method = interpolation or self.interpolation
        body: PoseSource = RecordedPoses(self.body, self.gap_ns, method)
        if self.orientation is not None:
            turns = RecordedPoses(self.orientation, self.orientation_gap_ns, method)
            body = TurnedPoses(body, turns, self.arm_m)
        if self.mount.moving is None:
            assert self.mount.T_body_cam is not None
            return ChainedPoses(body, mount=FixedPose(self.mount.T_body_cam))
        return ChainedPoses(body, mount=RecordedPoses(self.mount.moving, self.orientation_gap_ns, method))

    @functools.cached_property
    def _source(self) -> PoseSource:
        return self.poses()

    def pose_at(self, stamp_ns: int) -> PoseAnswer:
        """The camera in the map at a stamp."""
        return self._source.pose_at(stamp_ns)

    def T_map_cam(self, stamp_ns: int) -> tuple[npt.NDArray[np.float64], str | None]:
        """The pose (4, 4) at a stamp, and why there is none (then it is NaN)."""
        at = self.pose_at(stamp_ns)
        return (np.full((4, 4), np.nan), at.reason) if at.T is None else (at.T, None)


# Recorded poses as the camera's track: from a topic of poses, or from TF.


def from_poses(recorded: BagPoses, topic: str, camera_frame: str) -> CameraTrajectory:
    """The track of a topic of poses. UserError when none is usable."""
    options = recorded.options
    try:
        body, problems = recorded.poses.trajectory()
    except UserError as error:
        raise UserError(f"{topic}: {error}; --pose-topic picks another topic") from error
    child, gap_ns = options.pose_frame or recorded.poses.child_frame, options.max_gap_ns
    return CameraTrajectory(
        body=body,
        mount=find_mount(options.poses.body_to_camera, recorded.tree, child, camera_frame, gap_ns),
        map_frame=options.map_frame or recorded.poses.parent_frame or "map",
        camera_frame=camera_frame or "camera_optical_frame",
        gap_ns=gap_ns,
        pose_count=len(recorded.poses),
        received_ns=recorded.poses.received_ns,
        problems=problems,
        orientation_gap_ns=gap_ns,
    )


def from_tf(recorded: BagPoses, camera_frame: str) -> CameraTrajectory:
    """The track that TF tells. UserError when nothing moves through a map."""
    options, tree = recorded.options, recorded.tree
    frames, gap_ns = tree.frames(), options.max_gap_ns
    given = options.poses.body_to_camera != "auto"
    body = options.pose_frame or next((name for name in BODY_FRAMES if name in frames), "")
    # Interpolating the body, not the camera: a camera on a long arm moves in arcs between two poses.
    by_body = given or camera_frame not in frames or _is_fixed(tree, body, camera_frame)
    source = body if by_body else camera_frame
    if not source:
        raise UserError(
            f"TF does not know the image's frame {camera_frame!r}; its frames: {', '.join(frames) or 'none'}; "
            "--camera-frame names the camera's, --pose-frame the body's"
        )
    maps = (options.map_frame,) if options.map_frame else MAP_FRAMES
    map_frame, trajectory = moving_in_map(recorded, source, maps)
    return CameraTrajectory(
        body=trajectory,
        mount=find_mount(options.poses.body_to_camera, tree, source, camera_frame, gap_ns),
        map_frame=map_frame,
        camera_frame=camera_frame or "camera_optical_frame",
        gap_ns=gap_ns,
        pose_count=len(trajectory),
        received_ns=recorded.tf_received_ns,
        problems={
            f"{edge}: {reason}": count for edge, reasons in tree.problems().items() for reason, count in reasons.items()
        },
        orientation_gap_ns=gap_ns,
        facts=PosesMeta(position="tf", orientation="tf"),
    )


def _is_fixed(tree: TransformTree, body: str, camera_frame: str) -> bool:
    """Whether static TF alone tells where the camera sits on the body."""
    try:
        return tree.static_transform(body, camera_frame) is not None
    except UserError:
        return False


def moving_in_map(recorded: BagPoses, source: str, maps: tuple[str, ...]) -> tuple[str, Trajectory]:
    """The first of `maps` through which TF moves `source`, and its trajectory there. UserError when there is none."""
    tree, gap_ns = recorded.tree, recorded.options.max_gap_ns
    if recorded.options.map_frame in maps:
        return recorded.options.map_frame, tree.trajectory(recorded.options.map_frame, source, gap_ns)
    frames = tree.frames()
    failure = f"none of {', '.join(maps)} is among them"
    for name in maps:
        if name in frames and name != source:
            try:
                return name, tree.trajectory(name, source, gap_ns)
            except UserError as error:
                failure = str(error)
    raise UserError(
        f"TF gives no trajectory of {source!r} (frames: {', '.join(frames)}): {failure}; --map-frame names the map"
    )


EARTH_MAPS = ("map", "world", "earth")  # frames of TF whose axes are taken to be east, north, up
_SECOND = 1_000_000_000


@dataclass(frozen=True, eq=False)
class _Turned:
    """Orientations of `frame` ("camera": of the camera itself, "gimbal") in the map, and how they were found."""

    trajectory: Trajectory
    frame: str
    name: str
    how: str


def camera_track(recorded: BagPoses, datum: Datum | None) -> CameraTrajectory:
    """The camera's way by the settings. GPS positions are about `datum` (None: the first fix).

    UserError when a source that was asked for, or any at all, is missing.
    """
    return _Sources(recorded, datum).track()


class _Sources:
    def __init__(self, recorded: BagPoses, datum: Datum | None) -> None:
        self._recorded, self._options, self._datum = recorded, recorded.options, datum
        self._settings = recorded.options.poses
        self._camera_frame = self._options.camera_frame or recorded.topics.image_frame

    def track(self) -> CameraTrajectory:
        """Positions first, then what turns them."""
        position = self._settings.position
        if position == "gps" or (position == "auto" and self._recorded.topics.gps_only):
            track = self._with_gps()
        else:
            track = self._with_poses()
            if position == "fused":
                track = self._fused(track)
        return self._told(self._turned(track))

    def _with_poses(self) -> CameraTrajectory:
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

    def _with_gps(self) -> CameraTrajectory:
        """The antenna's positions; where camera and body are turned is found later."""
        recorded, settings = self._recorded, self._settings
        if not len(recorded.fixes):
            raise UserError(
                "there is no GPS fix with a position; --fix-topic picks another topic, --position pose does without"
            )
        fixes = recorded.fixes.track(self._datum, settings.altitude, settings.fix_sigma_m)
        good = fixes.plausible()
        problems = {"fix_outlier": len(fixes) - len(good)} if len(good) < len(fixes) else {}
        return CameraTrajectory(
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

    def _fused(self, odometry: CameraTrajectory) -> CameraTrajectory:
        """GPS and odometry as one; the odometry alone, with a remark, where that cannot be."""
        recorded, settings = self._recorded, self._settings
        if not len(recorded.fixes):
            raise UserError("--position fused needs GPS fixes, and there are none; --fix-topic picks another topic")
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

    def _turned(self, track: CameraTrajectory) -> CameraTrajectory:
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
            return Mount(np.eye(4), None, f"orientations are those of the image's frame, {self._camera_frame}")
        if frame == "gimbal":
            given = T_FORWARD if option == "auto" else parse_mount(option)
            return Mount(
                given, None, "the camera looks along the gimbal" if option == "auto" else f"on the gimbal: {option}"
            )
        tree, gap_ns = self._recorded.tree, self._options.max_gap_ns
        return find_mount(option, tree, frame, self._camera_frame, gap_ns)

    def _orientation(self, wanted: str, track: CameraTrajectory) -> _Turned:
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
            raise UserError("no Imu message tells an orientation (covariance -1: none); --imu-topic picks a topic")
        trajectory, imu_frame = recorded.imu.trajectory(), recorded.imu.frame
        body, frames = self._recorded.body_frame() or imu_frame, recorded.tree.frames()
        how = f"orientations are those of {recorded.topics.imu or recorded.topics.attitude}, taken as east, north, up"
        if body != imu_frame and {body, imu_frame} <= set(frames):
            T = recorded.tree.static_transform(imu_frame, body)
            if T is not None:
                return _Turned(turns.turned_by(trajectory, T), body, "imu", f"{how}, turned from {imu_frame} to {body}")
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
            in_map, "gimbal", "gimbal", f"orientations are those of {recorded.topics.gimbal}, its yaw from {yaw}"
        )

    def _from_course(self, track: CameraTrajectory) -> _Turned:
        settings = self._settings
        sigma_m = settings.fix_sigma_m or 0.5
        course = turns.course(
            track.body.stamps_ns, track.body.position_m, settings.course_speed_mps, settings.course_smoothing_s, sigma_m
        )
        usual = np.degrees(np.median(course.sigma_rad[~course.held]))
        return _Turned(
            course.trajectory,
            self._recorded.body_frame(),
            "course",
            f"orientations are the course over ground, level, good to about {usual:.0f} degrees; below "
            f"{settings.course_speed_mps:g} m/s ({100 * course.held.mean():.0f} % of the time) the last heading holds",
        )

    def _told(self, track: CameraTrajectory) -> CameraTrajectory:
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
