"""All that tells where the cameras are, as it arrives: poses, transforms, fixes, orientations, calibrations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pose2rgbd_ros.bags import decode
from pose2rgbd_ros.bags.reader import UNREADABLE, edge_name
from pose2rgbd_ros.bags.topics import is_rectified
from pose2rgbd_ros.bags.typestores import typestore
from pose2rgbd_ros.dataset.importers.camera_track import BODY_FRAMES
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.geodesy import Datum
from pose2rgbd_ros.nodes.record_alignment import AlignmentCheck
from pose2rgbd_ros.nodes.record_gps import GpsPositions, PlaceOnEarth
from pose2rgbd_ros.nodes.record_inputs import Arrival
from pose2rgbd_ros.nodes.record_pose_watch import PoseWatch
from pose2rgbd_ros.nodes.record_settings import RecordSettings
from pose2rgbd_ros.streams.fusion_live import FixedLagFusion
from pose2rgbd_ros.streams.pose_buffer import PoseBuffer
from pose2rgbd_ros.streams.samples import FixSample, PoseSample
from pose2rgbd_ros.streams.transform_tree import LIVE_NS, Pair, TransformTree

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

    def add(self, arrival: Arrival, stamp_ns: int) -> None:
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

    def _odometry(self, message: Any, stamp_ns: int, arrival: Arrival) -> None:
        pose = decode.pose_sample(message, stamp_ns)
        self.watch.saw(pose, _speed_mps(message))
        self.odometry_frames = self.odometry_frames or (pose.parent_frame, pose.child_frame)
        self.odometry.add(pose)
        if self.fusion is not None:
            self.fusion.add_odometry(pose)
        if self.alignment is not None:
            self.alignment.add_motion(pose)

    def _transform(self, message: Any, stamp_ns: int, arrival: Arrival) -> None:
        static = arrival.source.role == "tf_static"
        poses = decode.transform_samples(message)
        clock = (
            edge_name(arrival.source.topic, f"{poses[0].parent_frame} -> {poses[0].child_frame}")
            if poses
            else ""
        )
        for pose in poses:
            if not static and len(self._clock_of) < _MOST_CLOCKS:
                self._clock_of.setdefault((pose.parent_frame, pose.child_frame), clock)
            if self.settings.stamps == "received":
                names = pose.parent_frame, pose.child_frame
                pose = PoseSample(stamp_ns, *names, pose.position_m, pose.quat_xyzw)
            self.transforms.add(pose, static)

    def _imu(self, message: Any, stamp_ns: int, arrival: Arrival) -> None:
        sample = decode.imu_sample(message, stamp_ns)
        if sample.quat_xyzw is not None:
            self.imu_frame = sample.frame_id
            self.imu.add(PoseSample(stamp_ns, "map", sample.frame_id, np.zeros(3), sample.quat_xyzw))

    def _fix(self, message: Any, stamp_ns: int, arrival: Arrival) -> None:
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

    def _is_calibrated(self, arrival: Arrival) -> bool:
        known = self._calibrations.get(arrival.source.camera)
        return known is not None and known.is_calibrated

    def _camera_info(self, message: Any, stamp_ns: int, arrival: Arrival) -> None:
        if message.width and message.height:
            rectified = is_rectified(f"{arrival.source.topic.rpartition('/')[0]}/image")
            self._calibrations[arrival.source.camera] = decode.camera_info_sample(
                message, 0, rectified
            ).camera


def _speed_mps(message: Any) -> float:
    """What the twist of an Odometry says; NaN for other messages."""
    twist = getattr(message, "twist", None)
    if twist is None:
        return math.nan
    return math.hypot(twist.twist.linear.x, twist.twist.linear.y, twist.twist.linear.z)
