"""Where the camera is: which source gives its position, which its orientation, and where it sits on the body.

One policy for recordings and live. A recording holds all that there is; live more may come, so whatever is missing is
waited for until a deadline, and what is better than what is there as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from pose2rgbd_ros.dataset.meta import PosesMeta
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.geodesy import Datum
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.poses.evidence import BODY_FRAMES, Body, Evidence
from pose2rgbd_ros.poses.orientation import GimbalPoses, TurnedPoses
from pose2rgbd_ros.poses.sources import PoseBuffer, PoseLog
from pose2rgbd_ros.streams.synchronizer import ChainedPoses, FixedPose, PoseAnswer, PoseSource

# Where maps are rooted, the most global first (REP-105 and habit).
MAP_FRAMES = ("map", "world", "earth", "odom", "vicon", "mocap", "local_origin")
EARTH_MAPS = ("map", "world", "earth")  # frames of TF whose axes are taken to be east, north, up
_Found = TypeVar("_Found")

# Where the camera sits on the body whose pose was recorded.


# Poses T_body_cam of the optical frame in a REP-103 body (x forward, y left, z up).
T_FORWARD: Float64 = se3.T_BODY_OPTICAL
T_NADIR: Float64 = np.array(  # looks down; the top of the image is ahead
    [[0.0, -1.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)
_NAMED = {"identity": np.eye(4), "forward": T_FORWARD, "nadir": T_NADIR}
ACCEPTED = "auto, forward, nadir, identity, or 'x y z qx qy qz qw'"


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


@dataclass
class CameraPoses:
    """The camera in the map over time: `T_map_cam` = pose of the body, times the camera's place on it.

    `source` has the body's poses, of GPS the antenna's; `facts` is what the dataset says of all this, `notes` and
    `warnings` what a user should know. `datum` is where the map's origin lies when the positions are GPS's; None: the
    poses have an origin of their own. `pose_count`, `received_ns` (first and last reception) and `problems` are of a
    recording's positions.
    """

    source: PoseSource
    facts: PosesMeta
    map_frame: str
    camera_frame: str
    datum: Datum | None
    notes: list[str]
    warnings: list[str]
    camera: PoseSource
    pose_count: int = 0
    problems: dict[str, int] = field(default_factory=dict)
    received_ns: tuple[int, int] | None = None
    gap_ns: int = 0
    track: Trajectory | None = None
    _offset_m: Float64 | None = None

    @property
    def body(self) -> Trajectory:
        """The whole way of a recording's body."""
        assert self.track is not None
        return self.track

    def shift(self, offset_m: Float64) -> None:
        """Express the poses in a map whose origin lies elsewhere: add (3,) metres to all."""
        self.track = replace(self.body, position_m=self.body.position_m + offset_m)
        self._offset_m = offset_m if self._offset_m is None else self._offset_m + offset_m

    def pose_at(self, stamp_ns: int) -> PoseAnswer:
        """The camera in the map at a stamp."""
        answer = self.camera.pose_at(stamp_ns)
        if answer.T is None or self._offset_m is None:
            return answer
        T = answer.T.copy()
        T[:3, 3] += self._offset_m
        return replace(answer, T=T)

    def jumped_back(self, stamp_ns: int) -> None:
        """Poses of later stamps are of a time before."""
        self.camera.jumped_back(stamp_ns)


class PendingCameraPoses:
    """A live camera: a pose source that waits until it is decided where its poses come from."""

    def __init__(
        self,
        evidence: Evidence,
        camera_frame: str,
        is_late: Callable[[], bool],
        on_decided: Callable[[CameraPoses], None] = lambda decided: None,
        on_missing: Callable[[str], None] = lambda why: None,
    ) -> None:
        """`on_decided` is called once, as is `on_missing` when it is late and there is still no pose."""
        self.decided: CameraPoses | None = None
        self._evidence, self._camera_frame = evidence, camera_frame
        self._is_late, self._on_decided, self._on_missing = is_late, on_decided, on_missing
        self._explained = False

    def wait_no_longer(self) -> None:
        """The deadline has passed: nothing more will come."""
        self._is_late = lambda: True

    def pose_at(self, stamp_ns: int) -> PoseAnswer:
        """The pose of the camera."""
        if self.decided is None:
            try:
                self.decided = resolve(self._evidence, self._camera_frame, self._is_late())
            except UserError as error:
                if self._is_late() and not self._explained:
                    self._explained = True
                    self._on_missing(f"images have no pose: {error}")
                return PoseAnswer(None, "no_pose", wait=True)
            self._on_decided(self.decided)
        return self.decided.pose_at(stamp_ns)

    def jumped_back(self, stamp_ns: int) -> None:
        """Poses of later stamps are of a time before."""
        if self.decided is not None:
            self.decided.jumped_back(stamp_ns)


def resolve(evidence: Evidence, camera_frame: str, is_late: bool = True) -> CameraPoses:
    """Where a camera is, by the settings and what is known. `is_late`: what is not there by now is done without.

    UserError when a source that was asked for, or any at all, is missing; or, before it is late, may still come.
    """
    return _Resolver(evidence, camera_frame, is_late).resolve()


@dataclass(frozen=True, eq=False)
class _Turns:
    """Orientations of `frame` ("camera": of the camera itself, "gimbal") in the map, and how they were found."""

    source: PoseSource
    frame: str
    name: str
    how: str


class _Resolver:
    def __init__(self, evidence: Evidence, camera_frame: str, is_late: bool) -> None:
        self._evidence, self._tree, self._settings = evidence, evidence.tree, evidence.settings
        self._camera_frame, self._is_late = camera_frame, is_late
        self._notes: list[str] = []
        self._warnings: list[str] = []

    def resolve(self) -> CameraPoses:
        """Positions first, then what turns them, then the camera on that."""
        body, frame, map_frame, facts = self._positions()
        turned, frame, name = self._turned(body, frame, facts)
        mount, how = self._mount(frame)
        self._notes.append(how)
        facts = replace(facts, orientation=name, mount=how)
        return CameraPoses(
            source=body.source,
            facts=self._completed(facts),
            map_frame=map_frame,
            camera_frame=self._camera_frame or "camera_optical_frame",
            datum=body.datum,
            notes=[note for note in self._notes if note],
            warnings=self._warnings,
            camera=ChainedPoses(turned, mount=mount),
            pose_count=body.count,
            problems=body.problems,
            gap_ns=self._evidence.gap_ns,
            track=body.track,
        )

    def _wait_for(self, what: str) -> None:
        """Before it is late, something better may come."""
        if not self._is_late:
            raise UserError(f"{what} may still come")

    def _first(self, *ways: Callable[[], _Found]) -> _Found:
        """The best that there is: of the ways, the best first, the first that does not fail, none too early."""
        for way in ways[:-1]:
            try:
                return way()
            except UserError as error:
                self._wait_for(str(error))
        return ways[-1]()

    # Positions -------------------------------------------------------------------------------------------------

    def _positions(self) -> tuple[Body, str, str, PosesMeta]:
        """The body's poses, its frame, the frame of the map, and the facts of that."""
        evidence, position = self._evidence, self._settings.position
        if position == "gps" or (position == "auto" and evidence.gps_only):
            return self._by_gps()
        found = self._by_odometry() if "pose" in evidence.topics else self._by_tf()
        if position != "fused":
            return found
        odometry, frame, map_frame, facts = found
        fused = evidence.fused(odometry)
        if fused.datum is None:
            self._warnings.append(f"{fused.how}; the poses are used as recorded")
            return odometry, frame, map_frame, facts
        self._notes.append(fused.how)
        facts = PosesMeta(position="fused", accuracy=fused.accuracy)
        return fused, frame, evidence.map_frame or "map", facts

    def _by_odometry(self) -> tuple[Body, str, str, PosesMeta]:
        """Poses as they come."""
        evidence, (parent, child) = self._evidence, self._evidence.odometry_frames
        map_frame = evidence.map_frame or parent or "map"
        return evidence.from_odometry(), evidence.pose_frame or child, map_frame, PosesMeta()

    def _by_tf(self) -> tuple[Body, str, str, PosesMeta]:
        """Poses that TF gives, where no others come; where it gives none, the GPS, unless poses were asked for."""
        self._wait_for("a message with a pose")
        evidence, camera, frames = self._evidence, self._camera_frame, self._tree.frames()
        body = evidence.pose_frame or next((name for name in BODY_FRAMES if name in frames), "")
        # Interpolating the body, not the camera: a camera on a long arm moves in arcs between two poses.
        given = self._settings.body_to_camera != "auto" or camera not in frames
        frame = body if given or evidence.static_transform(body, camera) is not None else camera
        try:
            if not frame:
                raise UserError(
                    f"TF does not know the image's frame {camera!r}; its frames: {', '.join(frames) or 'none'}; "
                    f"{evidence.option('camera_frame')} names the camera's, {evidence.option('pose_frame')} the body's"
                )
            map_frame, found = self._moving_in(MAP_FRAMES, frame)
        except UserError as error:
            if self._settings.position != "auto" or not len(evidence.fixes):
                raise
            self._notes.append(f"positions are GPS's, for TF gives none ({error})")
            return self._by_gps()
        if evidence.is_live:
            self._notes.append(f"poses of {frame} in {map_frame} from TF")
        return found, frame, map_frame, PosesMeta(position="tf", orientation="tf")

    def _by_gps(self) -> tuple[Body, str, str, PosesMeta]:
        """The antenna's positions; where camera and body are turned is found later."""
        return self._evidence.from_gps(), "", self._evidence.map_frame or "map", PosesMeta(position="gps")

    def _moving_in(self, maps: tuple[str, ...], frame: str) -> tuple[str, Body]:
        """The first of the maps (or the one that is set) through which TF moves a frame, and its poses there."""
        evidence, frames = self._evidence, self._tree.frames()
        failure = f"none of {', '.join(maps)} is among them"
        given = evidence.map_frame
        for name in (given,) if given else maps:
            if given or (name in frames and name != frame):
                try:
                    return name, evidence.from_tf(name, frame)
                except UserError as error:
                    failure = str(error)
        raise UserError(
            f"TF gives no trajectory of {frame!r} (frames: {', '.join(frames)}): {failure}; "
            f"{evidence.option('map_frame')} names the map"
        )

    # Orientations ----------------------------------------------------------------------------------------------

    def _turned(self, body: Body, frame: str, facts: PosesMeta) -> tuple[PoseSource, str, str]:
        """The body with the orientations asked for, the frame that they turn, and their name."""
        by_gps = facts.position == "gps"
        turns = self._turns_of_gps(body) if by_gps else self._turns_of_poses(body, frame)
        if turns is None:
            return body.source, frame, facts.orientation
        self._notes.append(turns.how)
        arm_m = self._arm_m(turns.frame) if by_gps else None
        return TurnedPoses(body.source, turns.source, arm_m), turns.frame, turns.name

    def _turns_of_gps(self, body: Body) -> _Turns:
        """Of an antenna: the source asked for, or the best that there is."""
        sources: dict[str, Callable[[], _Turns]] = {
            "gimbal": self._from_gimbal,
            "tf": self._from_tf,
            "imu": self._from_imu,
            "course": lambda: self._from_course(body),
        }
        wanted = self._settings.orientation
        if wanted == "auto":
            return self._first(*sources.values())
        return self._from_pose() if wanted == "pose" else sources[wanted]()

    def _turns_of_poses(self, body: Body, frame: str) -> _Turns | None:
        """Of poses: their own, unless others are asked for; a gimbal's where nothing else shows the camera's."""
        wanted, camera = self._settings.orientation, self._camera_frame
        if wanted == "pose":
            return None
        if wanted != "auto":
            return {"gimbal": self._from_gimbal, "tf": self._from_tf, "imu": self._from_imu}.get(
                wanted, lambda: self._from_course(body)
            )()
        if self._settings.body_to_camera != "auto" or (frame and frame == camera) or camera in self._tree.frames():
            return None
        self._wait_for("where the camera sits, or a gimbal's attitude,")
        try:
            return self._from_gimbal()
        except UserError:
            return None

    def _from_pose(self) -> _Turns:
        evidence = self._evidence
        if not len(evidence.odometry):
            raise UserError(
                f"no topic of poses is read; {evidence.option('pose_topic')} names one, "
                f"{evidence.option('orientation')} tf takes TF's"
            )
        evidence.odometry.trajectory()  # UserError: none of them is usable
        return _Turns(evidence.odometry, evidence.body_frame(), "pose", "orientations are those of the poses")

    def _from_tf(self) -> _Turns:
        camera, body = self._camera_frame, self._evidence.body_frame()
        source, frame = (camera, "camera") if camera in self._tree.frames() else (body, body)
        map_frame, found = self._moving_in(EARTH_MAPS, source)
        return _Turns(found.source, frame, "tf", f"orientations are those of {source} in {map_frame}, from TF")

    def _from_imu(self) -> _Turns:
        evidence = self._evidence
        if not len(evidence.imu):
            raise UserError(
                f"no Imu message has an orientation (covariance -1: none); {evidence.option('imu_topic')} picks a topic"
            )
        evidence.imu.trajectory()  # UserError: none of them is usable
        imu_frame, body = evidence.imu_frame, evidence.body_frame() or evidence.imu_frame
        how = f"orientations are those of {evidence.topics['imu']}, taken as east, north, up"
        T = evidence.static_transform(imu_frame, body) if body != imu_frame else None
        if T is None:
            return _Turns(evidence.imu, body, "imu", how)
        turned = ChainedPoses(evidence.imu, body=FixedPose(T))
        return _Turns(turned, body, "imu", f"{how}, turned from {imu_frame} to {body}")

    def _from_gimbal(self) -> _Turns:
        evidence = self._evidence
        if not len(evidence.gimbal):
            raise UserError(f"no attitude of a gimbal is recorded; {evidence.option('gimbal_topic')} picks a topic")
        evidence.gimbal.trajectory()  # UserError: none of them is usable
        from_north = evidence.gimbal_yaw_in_earth
        source: PoseSource = evidence.gimbal
        if not from_north:
            if not len(evidence.imu):
                self._wait_for("an Imu's orientation")
            source = GimbalPoses(source, self._heading(evidence.imu if len(evidence.imu) else evidence.odometry))
        yaw = "north" if from_north else "the vehicle's heading"
        how = f"orientations are those of {evidence.topics['gimbal']}, its yaw from {yaw}"
        return _Turns(source, "gimbal", "gimbal", how)

    def _heading(self, body: PoseLog | PoseBuffer) -> PoseSource:
        why = "the gimbal's yaw counts from the vehicle's heading, and"
        if not len(body):
            raise UserError(f"{why} no orientation of it is recorded")
        gimbal_ns, body_ns = self._evidence.gimbal.trajectory().stamps_ns, body.trajectory().stamps_ns
        if gimbal_ns[-1] < body_ns[0] or body_ns[-1] < gimbal_ns[0]:
            raise UserError(f"{why} they have no time in common")
        return body

    def _from_course(self, body: Body) -> _Turns:
        source, how = self._evidence.course(body)
        return _Turns(source, self._evidence.body_frame(), "course", how)

    def _arm_m(self, frame: str) -> Float64 | None:
        """Where, in the frame that is turned, the antenna is; None where that is not known."""
        evidence = self._evidence
        if frame == "gimbal":
            return None  # how the body is turned is not known, only the camera
        if frame != "camera":
            return evidence.antenna_m()
        T_cam_body = evidence.static_transform(self._camera_frame, evidence.body_frame())
        return None if T_cam_body is None else T_cam_body[:3, :3] @ evidence.antenna_m() + T_cam_body[:3, 3]

    # The camera on the body ------------------------------------------------------------------------------------

    def _mount(self, frame: str) -> tuple[PoseSource, str]:
        """T_frame_cam over time and how it was found: as the option says, else from the frames' names, else from TF,
        else a camera that looks ahead.
        """
        option, camera, frames = self._settings.body_to_camera, self._camera_frame, self._tree.frames()
        if frame == "camera":
            return FixedPose(np.eye(4)), f"orientations are those of the image's frame, {camera}"
        if frame == "gimbal":
            on_gimbal = "the camera looks along the gimbal" if option == "auto" else f"on the gimbal: {option}"
            return FixedPose(T_FORWARD if option == "auto" else parse_mount(option)), on_gimbal
        if option != "auto":
            return FixedPose(parse_mount(option)), f"camera mount as given: {option}"
        if frame and frame == camera:
            return FixedPose(np.eye(4)), f"the pose is that of the image's frame, {camera}"
        if not frame and "base_link" in frames and camera in frames:
            frame = "base_link"
        body = frame or "the body"
        problem = f"TF does not know both {body!r} and {camera or 'the camera'!r}"
        if frame and camera:
            try:
                return self._mount_in_tf(frame)
            except UserError as error:
                problem = str(error)
        self._wait_for("where the camera sits")
        if "optical" in frame:
            return FixedPose(np.eye(4)), f"the pose is that of {frame}, an optical frame by its name"
        return FixedPose(T_FORWARD), (
            f"where the camera sits on {body} is not recorded ({problem}): assumed at its origin, looking forward; "
            f"{self._evidence.option('body_to_camera')} says otherwise"
        )

    def _mount_in_tf(self, frame: str) -> tuple[PoseSource, str]:
        camera = self._camera_frame
        if self._tree.static_transform(frame, camera) is not None:
            return self._tree.source(frame, camera), f"camera mount {frame} -> {camera} from static TF"
        source = self._evidence.from_tf(frame, camera).source
        return source, f"camera mount {frame} -> {camera} moves (a gimbal), from TF"

    def _completed(self, facts: PosesMeta) -> PosesMeta:
        """The facts with what is said of every dataset."""
        settings, by_gps = self._settings, facts.position in ("gps", "fused")
        reference = settings.altitude_reference
        if reference == "auto":
            reference = ("takeoff" if settings.altitude == "relative" else "ellipsoid") if by_gps else "unknown"
        used = {"pose": facts.position != "gps", "fix": by_gps}
        used |= {role: facts.orientation == role for role in ("imu", "gimbal")}
        topics: dict[str, str] = {role: topic for role, topic in self._evidence.topics.items() if used[role]}
        return replace(facts, interpolation=settings.interpolation, altitude_reference=reference, topics=topics)
