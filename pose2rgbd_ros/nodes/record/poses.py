"""Which of the live sources gives the positions, which the orientations, and where the camera sits: as `convert` does
it.
"""

from __future__ import annotations

import math
import time
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from pose2rgbd_ros.alignment.live import AlignmentCheck
from pose2rgbd_ros.bags import decode
from pose2rgbd_ros.bags.reader import UNREADABLE, edge_name, typestore
from pose2rgbd_ros.bags.topics import is_rectified
from pose2rgbd_ros.dataset.meta import DatasetMeta, PosesMeta
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.geodesy import Datum, wgs84_to_enu
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.nodes.record.inputs import RawMessage
from pose2rgbd_ros.nodes.record.settings import RecordSettings
from pose2rgbd_ros.nodes.record.stats import PoseWatch
from pose2rgbd_ros.poses import camera_pose, gps, orientation
from pose2rgbd_ros.poses.camera_pose import BODY_FRAMES, EARTH_MAPS, MAP_FRAMES
from pose2rgbd_ros.poses.fusion_live import FixedLagFusion
from pose2rgbd_ros.poses.gps import Georeference, OfflineFixLog, heights
from pose2rgbd_ros.poses.orientation import TurnedPoses
from pose2rgbd_ros.poses.settings import PoseSettings
from pose2rgbd_ros.poses.sources import PoseBuffer
from pose2rgbd_ros.poses.transforms import LIVE_NS, Pair, TransformTree
from pose2rgbd_ros.streams.samples import FixSample, PoseSample
from pose2rgbd_ros.streams.synchronizer import ChainedPoses, FixedPose, PoseAnswer, PoseSource

# GPS fixes live: positions and course by themselves, and where the origin of other poses lies on Earth.


_NS_PER_S = 1e9
_LEVEL = np.array([0.0, 0.0, 0.0, 1.0])
_PENDING_FIXES = 1000


class GpsPositions:
    """The antenna about `datum` (None: the first fix): `positions`, without turns, and `course`, without positions.

    The course of a fix is known `course_smoothing_s` after it. Memory is bounded.
    """

    def __init__(self, settings: PoseSettings, datum: Datum | None = None) -> None:
        self.datum = datum
        self._settings = settings
        gap_ns = round(max(settings.max_fix_gap_s, settings.max_pose_gap_s) * _NS_PER_S)
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
        smoothing_ns = self._settings.course_smoothing_s * _NS_PER_S
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
        self._fixes = OfflineFixLog()
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


# All that tells where the cameras are, as it arrives: poses, transforms, fixes, orientations, calibrations.


_SECOND = 1_000_000_000
_MOST_CLOCKS = 1000  # frames without end (a name for each thing detected) are no one's clock
_STATIC_PATIENCE = 10  # fixes that come before the fusion begins, so that static TF may tell of the antenna


class LivePoses:
    """Belongs to the recorder's worker thread. `notes` tells what was chosen or assumed in the recording under way.

    `fusion` is there with position fused, from the first fixes on; `alignment` with sync check.
    """

    def __init__(self, settings: RecordSettings) -> None:
        self.settings = settings
        self.notes: list[str] = []
        self.unreadable = 0
        self.gap_ns = round(settings.max_pose_gap_s * _SECOND)
        self.odometry = PoseBuffer(self.gap_ns, settings.interpolation)
        self.odometry_frames: tuple[str, str] | None = None
        self.watch = PoseWatch()
        self.transforms = TransformTree(self.gap_ns, settings.interpolation, LIVE_NS)
        self.imu = PoseBuffer(self.gap_ns, settings.interpolation)
        self.imu_frame: str | None = None
        self.gps = GpsPositions(settings)
        self.fusion: FixedLagFusion | None = None
        self.fix_frame: str | None = None
        self.place = PlaceOnEarth(self.gap_ns)
        self.alignment = AlignmentCheck() if settings.sync == "check" else None
        self.topics: dict[str, str] = {}
        self._clock_of: dict[Pair, str] = {}  # of transforms: the name of what stamps them
        self._calibrations: dict[str, Camera] = {}
        self._fixes = 0

    def begin(self, datum: Datum | None) -> None:
        """A recording begins; `datum` is that of the dataset it goes on with."""
        self.notes.clear()
        self.place = PlaceOnEarth(self.gap_ns)
        if datum is not None and datum != self.gps.datum:
            self.gps, self.fusion, self._fixes = GpsPositions(self.settings, datum), None, 0

    def add(self, arrival: RawMessage, stamp_ns: int) -> None:
        """Take a message that is no image; one that does not fit its type is counted and left out."""
        source = arrival.source
        take = {
            "odom": self._odometry,
            "tf": self._transform,
            "tf_static": self._transform,
            "fix": self._fix,
            "imu": self._imu,
            "camera_info": self._camera_info,
        }[source.role]
        if source.role == "camera_info" and self._is_calibrated(arrival):
            return
        self.topics.setdefault(source.role, source.topic)
        try:
            take(typestore("2").deserialize_cdr(arrival.data, source.type_name), stamp_ns, arrival)
        except UserError as error:
            self.unreadable += 1
            self.note(f"{source.topic}: {error}")
        except UNREADABLE:
            self.unreadable += 1
            self.note(f"{source.topic}: some messages do not fit their type and were left out")

    def note(self, text: str) -> None:
        """Keep a remark, once."""
        if text and text not in self.notes:
            self.notes.append(text)

    def calibration(self, camera: str) -> Camera | None:
        """What CameraInfo said; None before it did."""
        return self._calibrations.get(camera)

    def jumped(self) -> None:
        """The clock went back: nothing that moves is known any more."""
        for known in (self.odometry, self.transforms, self.imu, self.gps, self.fusion, self.alignment):
            if known is not None:
                known.clear()

    def clock_set(self, role: str, name: str) -> None:
        """The clock of a topic (of TF: of an edge) was set: what it said before is of another time."""
        of_role: dict[str, tuple[Any, ...]] = {
            "odom": (self.odometry, self.fusion, self.alignment),
            "fix": (self.gps, self.fusion, self.alignment),
            "imu": (self.imu,),
        }
        for known in of_role.get(role, ()):
            if known is not None:
                known.clear()
        if role == "tf":
            self.transforms.clear([pair for pair, clock in self._clock_of.items() if clock == name])

    def clocks_in_use(self) -> set[str]:
        """What stamps the poses: topics, and of TF edges (see bags.reader.edge_name)."""
        position, orientation = self.settings.position, self.settings.orientation
        in_tf = {self._clock_of[pair] for pair in self.transforms.moving_in_use() if pair in self._clock_of}
        roles = {"odom"} if position != "gps" or orientation == "pose" else set[str]()
        if position in ("gps", "fused") or (position == "auto" and not self.odometry_frames and not in_tf):
            roles.add("fix")
        if orientation == "imu" or (orientation == "auto" and "fix" in roles):
            roles.add("imu")
        return in_tf | {self.topics[role] for role in roles if role in self.topics}

    def close(self) -> None:
        """End what runs in the background."""
        if self.alignment is not None:
            self.alignment.close()

    # Frames ----------------------------------------------------------------------------------------------------

    def connects(self, target: str, source: str) -> bool:
        """Whether TF leads from one frame to the other."""
        return not self.transforms.explain(target, source)

    def static_transform(self, target: str, source: str) -> Float64 | None:
        """T_target_source where static transforms alone lead there."""
        return self.transforms.static_transform(target, source) if self.connects(target, source) else None

    def body_frame(self) -> str:
        """The body's frame: as given, as the poses name it, or as TF usually does."""
        frames = self.transforms.frames()
        usual = next((name for name in BODY_FRAMES if name in frames), "")
        named = self.odometry_frames[1] if self.odometry_frames else ""
        return self.settings.pose_frame or named or usual

    def antenna_m(self) -> Float64:
        """The GPS antenna in the body (3,): as given, else from static TF, else at its origin."""
        given = self.settings.antenna()
        if given is not None:
            return given
        T = self.static_transform(self.body_frame(), self.fix_frame) if self.fix_frame else None
        return np.zeros(3) if T is None else np.asarray(T[:3, 3])

    # Messages --------------------------------------------------------------------------------------------------

    def _odometry(self, message: Any, stamp_ns: int, arrival: RawMessage) -> None:
        pose = decode.pose_sample(message, stamp_ns)
        self.watch.saw(pose, _speed_mps(message))
        self.odometry_frames = self.odometry_frames or (pose.parent_frame, pose.child_frame)
        self.odometry.add(pose)
        if self.fusion is not None:
            self.fusion.add_odometry(pose)
        if self.alignment is not None:
            self.alignment.add_motion(pose)

    def _transform(self, message: Any, stamp_ns: int, arrival: RawMessage) -> None:
        static = arrival.source.role == "tf_static"
        poses = decode.transform_samples(message)
        clock = edge_name(arrival.source.topic, f"{poses[0].parent_frame} -> {poses[0].child_frame}") if poses else ""
        for pose in poses:
            if not static and len(self._clock_of) < _MOST_CLOCKS:
                self._clock_of.setdefault((pose.parent_frame, pose.child_frame), clock)
            if self.settings.stamps == "received":
                names = pose.parent_frame, pose.child_frame
                pose = PoseSample(stamp_ns, *names, pose.position_m, pose.quat_xyzw)
            self.transforms.add(pose, static)

    def _imu(self, message: Any, stamp_ns: int, arrival: RawMessage) -> None:
        sample = decode.imu_sample(message, stamp_ns)
        if sample.quat_xyzw is not None:
            self.imu_frame = sample.frame_id
            self.imu.add(PoseSample(stamp_ns, "map", sample.frame_id, np.zeros(3), sample.quat_xyzw))

    def _fix(self, message: Any, stamp_ns: int, arrival: RawMessage) -> None:
        fix = decode.fix_sample(message, stamp_ns)
        if message.status.status < 0 or not math.isfinite(fix.latitude_deg + fix.longitude_deg):
            return  # the receiver has no fix
        self.fix_frame = fix.frame_id
        self.place.add(fix)
        self.gps.add(fix)
        if self.alignment is not None:
            self.alignment.add_motion(fix)
        if self.settings.position == "fused":
            self._fuse(fix)

    def _fuse(self, fix: FixSample) -> None:
        self._fixes += 1
        if self.fusion is None and self.odometry_frames is not None and self._fixes > _STATIC_PATIENCE:
            self.fusion = FixedLagFusion(self.settings, self.antenna_m(), self.gps.datum)
        if self.fusion is not None:
            self.fusion.add_fix(fix)

    def _is_calibrated(self, arrival: RawMessage) -> bool:
        known = self._calibrations.get(arrival.source.camera)
        return known is not None and known.is_calibrated

    def _camera_info(self, message: Any, stamp_ns: int, arrival: RawMessage) -> None:
        if message.width and message.height:
            rectified = is_rectified(f"{arrival.source.topic.rpartition('/')[0]}/image")
            self._calibrations[arrival.source.camera] = decode.camera_info_sample(message, 0, rectified).camera


def _speed_mps(message: Any) -> float:
    """What the twist of an Odometry says; NaN for other messages."""
    twist = getattr(message, "twist", None)
    if twist is None:
        return math.nan
    return math.hypot(twist.twist.linear.x, twist.twist.linear.y, twist.twist.linear.z)


# The source of orientations, the frame it turns ("camera": the camera itself), and its name in meta.yaml.
_Turns = tuple[PoseSource, str, str]


class CameraPoses:
    """T_map_cam over time. Sources and mount are decided once, with the first poses; until then one waits.

    What is not there by `deadline_s` (steady clock) is done without, as docs/convert.md says. `facts` is what the
    dataset tells of it.
    """

    def __init__(self, live: LivePoses, camera_frame: str, deadline_s: float) -> None:
        self.map_frame, self.camera_frame = "map", camera_frame
        self.facts = PosesMeta()
        self._live, self._deadline_s = live, deadline_s
        self._settings = live.settings
        self._poses: PoseSource | None = None

    def pose_at(self, stamp_ns: int) -> PoseAnswer:
        """The pose of the camera."""
        if self._poses is None:
            self._poses = self._decide()
        return self._poses.pose_at(stamp_ns) if self._poses else PoseAnswer(None, "no_pose", wait=True)

    def jumped_back(self, stamp_ns: int) -> None:
        """Poses of later stamps are of a time before."""
        if self._poses is not None:
            self._poses.jumped_back(stamp_ns)

    def datum(self) -> Datum | None:
        """Where the map lies on Earth, where the positions are GPS's; None: the poses have an origin of their own."""
        return self._live.gps.datum if self.facts.position in ("gps", "fused") else None

    @property
    def _late(self) -> bool:
        return time.monotonic() >= self._deadline_s

    def _decide(self) -> PoseSource | None:
        position, live = self._settings.position, self._live
        if position == "gps":
            return self._by_gps() if live.gps.datum is not None else None
        if position == "fused":
            return self._fused()
        if live.odometry_frames is not None:
            return self._on_odometry(*live.odometry_frames)
        if not self._late:
            return None
        in_tf = self._in_tf()
        if in_tf is None and position == "auto" and live.gps.datum is not None:
            live.note("positions are GPS's, for nobody publishes poses")
            return self._by_gps()
        return in_tf

    # Positions -------------------------------------------------------------------------------------------------

    def _on_odometry(self, parent: str, child: str) -> PoseSource | None:
        self.map_frame = decode.frame_name(self._settings.map_frame) or parent or "map"
        self._live.place.body = self._live.place.body or self._live.odometry
        return self._turned(self._live.odometry, self._settings.pose_frame or child, PosesMeta())

    def _fused(self) -> PoseSource | None:
        fusion = self._live.fusion
        if fusion is None:
            return None
        self.map_frame = decode.frame_name(self._settings.map_frame) or "map"
        return self._turned(fusion, self._live.body_frame(), PosesMeta(position="fused"))

    def _by_gps(self) -> PoseSource | None:
        self.map_frame = decode.frame_name(self._settings.map_frame) or "map"
        return self._turned(self._live.gps.positions, "", PosesMeta(position="gps"))

    def _in_tf(self) -> PoseSource | None:
        live, camera = self._live, self.camera_frame
        frames = live.transforms.frames()
        body = self._settings.pose_frame or next((name for name in BODY_FRAMES if name in frames), "")
        # Interpolating the body, not the camera: a camera on a long arm moves in arcs between two poses.
        given = self._settings.body_to_camera != "auto" or camera not in frames
        moving = body if given or live.static_transform(body, camera) is not None else camera
        found = self._moving_map(moving, MAP_FRAMES)
        if found is None:
            return None
        self.map_frame = found
        in_map = live.transforms.source(found, moving)
        live.note(f"poses of {moving} in {found} from TF")
        live.place.body = live.place.body or in_map
        return self._turned(in_map, moving, PosesMeta(position="tf", orientation="tf"))

    def _moving_map(self, source: str, maps: tuple[str, ...]) -> str | None:
        """The first of the maps (or the one that is set) through which TF moves a frame."""
        live, given = self._live, decode.frame_name(self._settings.map_frame)
        wanted = (given,) if given else maps
        return next(
            (
                name
                for name in wanted
                if source
                and name != source
                and live.connects(name, source)
                and live.static_transform(name, source) is None
            ),
            None,
        )

    # Orientations ----------------------------------------------------------------------------------------------

    def _turned(self, body: PoseSource, frame: str, facts: PosesMeta) -> PoseSource | None:
        """The camera, with the orientations asked for; None while it is not clear how it is turned or mounted."""
        by_gps, wanted = facts.position == "gps", self._settings.orientation
        if not by_gps and wanted in ("auto", "pose"):
            return self._mounted(body, frame, facts)
        turns = self._turns(wanted)
        if turns is None:
            return None
        source, frame, name = turns
        arm_m = self._live.antenna_m() if by_gps else None
        return self._mounted(TurnedPoses(body, source, arm_m), frame, replace(facts, orientation=name))

    def _turns(self, wanted: str) -> _Turns | None:
        """The source asked for, or the first that there is once it is late; None while there is none."""
        sources: dict[str, Callable[[], _Turns | None]] = {
            "tf": self._from_tf,
            "imu": self._from_imu,
            "pose": self._from_pose,
            "course": self._from_course,
        }
        if wanted != "auto":
            return sources[wanted]()
        found = self._from_tf() or self._from_imu()
        return found if found or not self._late else self._from_course()

    def _from_pose(self) -> _Turns | None:
        frames = self._live.odometry_frames
        return (self._live.odometry, self._settings.pose_frame or frames[1], "pose") if frames else None

    def _from_tf(self) -> _Turns | None:
        known, body = self.camera_frame in self._live.transforms.frames(), self._live.body_frame()
        source, frame = (self.camera_frame, "camera") if known else (body, body)
        found = self._moving_map(source, EARTH_MAPS)
        if found is None:
            return None
        self._live.note(f"orientations are those of {source} in {found}, from TF")
        return self._live.transforms.source(found, source), frame, "tf"

    def _from_imu(self) -> _Turns | None:
        live = self._live
        if live.imu_frame is None:
            return None
        body = live.body_frame() or live.imu_frame
        live.note(f"orientations are those of {live.topics['imu']}, taken as east, north, up")
        T = live.static_transform(live.imu_frame, body) if body != live.imu_frame else None
        return (live.imu if T is None else ChainedPoses(live.imu, body=FixedPose(T))), body, "imu"

    def _from_course(self) -> _Turns:
        self._live.note("orientations are the course over ground, level; while it is slow the last heading holds")
        return self._live.gps.course, self._live.body_frame(), "course"

    # The mount -------------------------------------------------------------------------------------------------

    def _mounted(self, body: PoseSource, frame: str, facts: PosesMeta) -> PoseSource | None:
        if frame == "camera":
            found: tuple[PoseSource, str] | None = (
                FixedPose(np.eye(4)),
                f"orientations are those of the image's frame, {self.camera_frame}",
            )
        else:
            found = self._mount(frame)
        if found is None:
            return None
        on_body, how = found
        self._live.note(how)
        by_gps = facts.position in ("gps", "fused")
        reference = self._settings.altitude_reference
        if reference == "auto":
            relative = self._settings.altitude == "relative"
            reference = ("takeoff" if relative else "ellipsoid") if by_gps else "unknown"
        topics = {"pose": "odom", "fix": "fix"} if by_gps else {"pose": "odom"}
        if facts.position == "gps":
            del topics["pose"]
        if facts.orientation == "imu":
            topics["imu"] = "imu"
        self.facts = replace(
            facts,
            mount=how,
            interpolation=self._settings.interpolation,
            altitude_reference=reference,
            topics={key: self._live.topics[role] for key, role in topics.items() if role in self._live.topics},
            image_time_offset_s=self._settings.image_time_offset_s,
        )
        return ChainedPoses(body, mount=on_body)

    def _mount(self, body_frame: str) -> tuple[PoseSource, str] | None:
        """T_body_cam and how it was found, by the rules of importers.mount; None while TF may still tell."""
        option, live, camera = self._settings.body_to_camera, self._live, self.camera_frame
        if option != "auto":
            return FixedPose(camera_pose.parse_mount(option)), f"camera mount as given: {option}"
        if body_frame and body_frame == camera:
            return FixedPose(np.eye(4)), f"the pose is that of the image's frame, {camera}"
        if not body_frame and "base_link" in live.transforms.frames():
            body_frame = "base_link"
        if live.connects(body_frame, camera):
            fixed = live.static_transform(body_frame, camera)
            how = "moves (a gimbal), from TF" if fixed is None else "from static TF"
            return live.transforms.source(body_frame, camera), f"camera mount {body_frame} -> {camera} {how}"
        if not self._late:
            return None
        if "optical" in body_frame:
            return FixedPose(np.eye(4)), f"the pose is that of {body_frame}, an optical frame by its name"
        body, eye = body_frame or "the body", camera or "the camera"
        return FixedPose(camera_pose.T_FORWARD), (
            f"where the camera sits on {body} is not known (TF does not know both {body!r} and {eye!r}): assumed at "
            "its "
            "origin, looking forward; body_to_camera says otherwise"
        )


# At the end of a recording: where its map lies on Earth, and how good fused poses are by their own account.


def place_on_earth(meta: DatasetMeta, poses: LivePoses, resumed: bool) -> str:
    """Fill in the datum, as `pose2rgbd convert` finds it, unless frames were there before; returns what to tell.

    UserError when a dataset that is gone on with lies too far away.
    """
    if meta.poses is not None and poses.fusion is not None:
        meta.poses.accuracy = _accuracy(poses.fusion)
    found = poses.place.find(poses.antenna_m())
    if found is None:
        return ""
    poses.note(found.how)
    if not resumed:  # frames that were written without a datum cannot be given one by another recording
        meta.datum = meta.datum or found.datum
    if not resumed or found.datum is None or meta.datum is None:
        return ""
    offset_m = gps.shift_m(found.datum, meta.datum)
    if not offset_m.any():
        return ""
    east, north, up = offset_m
    return (
        f"by GPS the poses' origin lies {east:.1f} m east, {north:.1f} m north, {up:.1f} m up of the map's; the frames "
        "were not moved: record each flight into a folder of its own, or convert the mcap into the dataset"
    )


def _accuracy(fusion: FixedLagFusion) -> dict[str, float] | None:
    found = fusion.sigmas()
    if found is None:
        return None
    (east, north, up), yaw_rad = found
    return {
        "horizontal_sigma_m": round(float(max(east, north)), 4),
        "vertical_sigma_m": round(float(up), 4),
        "yaw_sigma_deg": round(math.degrees(yaw_rad), 4),
    }
