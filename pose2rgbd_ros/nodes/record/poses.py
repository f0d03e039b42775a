"""What says where the cameras are, as it arrives: serialized messages become the evidence that poses are made of."""

from __future__ import annotations

import math
import time
from typing import Any, get_args

from pose2rgbd_ros.alignment.live import AlignmentCheck
from pose2rgbd_ros.bags import decode
from pose2rgbd_ros.bags.reader import UNREADABLE, edge_name, typestore
from pose2rgbd_ros.bags.topics import is_rectified
from pose2rgbd_ros.dataset.meta import DatasetMeta
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.geodesy import Datum
from pose2rgbd_ros.nodes.record.inputs import RawMessage
from pose2rgbd_ros.nodes.record.settings import RecordSettings
from pose2rgbd_ros.nodes.record.stats import PoseWatch
from pose2rgbd_ros.poses import gps
from pose2rgbd_ros.poses.camera_pose import CameraPoses, PendingCameraPoses
from pose2rgbd_ros.poses.evidence import LiveEvidence, Role, read
from pose2rgbd_ros.poses.fusion_live import FixedLagFusion
from pose2rgbd_ros.poses.gps import PlaceOnEarth
from pose2rgbd_ros.poses.transforms import Pair
from pose2rgbd_ros.streams.samples import FixSample, PoseSample

_MOST_CLOCKS = 1000  # frames without end (a name for each thing detected) are no one's clock
_ROLE: dict[str, Role] = {"odom": "pose", "fix": "fix", "imu": "imu", "gimbal": "gimbal"}  # of inputs


class LivePoses:
    """Belongs to the recorder's worker thread. `notes` says what was chosen or assumed in the recording under way.

    `alignment` is there with sync check.
    """

    def __init__(self, settings: RecordSettings) -> None:
        self.settings = settings
        self.notes: list[str] = []
        self.evidence = LiveEvidence(settings, settings.map_frame, settings.pose_frame)
        self.watch = PoseWatch()
        self.place = PlaceOnEarth(self.evidence.gap_ns)
        self.alignment = AlignmentCheck() if settings.sync == "check" else None
        self._clock_of: dict[Pair, str] = {}  # of transforms: the name of what stamps them
        self._calibrations: dict[str, Camera] = {}

    def begin(self, datum: Datum | None) -> None:
        """A recording begins; `datum` is that of the dataset it goes on with."""
        self.notes.clear()
        self.place = PlaceOnEarth(self.evidence.gap_ns)
        self.evidence.begin(datum)

    def camera(self, camera_frame: str, deadline_s: float) -> PendingCameraPoses:
        """The poses of a camera; what is not there by `deadline_s` (steady clock) is done without."""
        frame = decode.frame_name(camera_frame)
        return PendingCameraPoses(
            self.evidence, frame, lambda: time.monotonic() >= deadline_s, self._decided, self.note
        )

    def _decided(self, camera: CameraPoses) -> None:
        for note in (*camera.notes, *camera.warnings):
            self.note(note)
        if camera.datum is None:
            self.place.body = self.place.body or camera.source

    def add(self, arrival: RawMessage, stamp_ns: int) -> None:
        """Take a message that is no image; one that does not fit its type is noted and left out."""
        source = arrival.source
        if source.role == "camera_info" and self._is_calibrated(arrival):
            return
        try:
            message = typestore("2").deserialize_cdr(arrival.data, source.type_name)
            if source.role == "camera_info":
                self._camera_info(message, arrival)
            elif source.role in _ROLE:
                self._sample(_ROLE[source.role], message, stamp_ns, arrival)
            else:
                self._transforms(message, stamp_ns, arrival)
        except UserError as error:
            self.note(f"{source.topic}: {error}")
        except UNREADABLE:
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
        self.evidence.clear()
        if self.alignment is not None:
            self.alignment.clear()

    def clock_set(self, role: str, name: str) -> None:
        """The clock of a topic (of TF: of an edge) was set: what it said before is of another time."""
        if role in _ROLE:
            self.evidence.clear(_ROLE[role])
        elif role == "tf":
            self.evidence.tree.clear([pair for pair, clock in self._clock_of.items() if clock == name])
        if role in ("odom", "fix") and self.alignment is not None:
            self.alignment.clear()

    def clocks_in_use(self) -> set[str]:
        """What stamps the poses: topics, and of TF edges (see bags.reader.edge_name)."""
        position, orientation, topics = self.settings.position, self.settings.orientation, self.evidence.topics
        in_tf = {self._clock_of[pair] for pair in self.evidence.tree.moving_in_use() if pair in self._clock_of}
        roles = {"pose"} if position != "gps" or orientation == "pose" else set[str]()
        if position in ("gps", "fused") or (position == "auto" and "pose" not in topics and not in_tf):
            roles.add("fix")
        turns = set(get_args(Role)) - {"pose", "fix"}
        roles |= turns if orientation == "auto" and "fix" in roles else turns & {orientation}
        return in_tf | {topic for role, topic in topics.items() if role in roles}

    def close(self) -> None:
        """End what runs in the background."""
        if self.alignment is not None:
            self.alignment.close()

    def _sample(self, role: Role, message: Any, stamp_ns: int, arrival: RawMessage) -> None:
        sample = read(role, message, stamp_ns)
        if sample is None:
            return
        self.evidence.topics.setdefault(role, arrival.source.topic)
        if isinstance(sample, PoseSample):
            self.watch.saw(sample, _speed_mps(message))
        elif isinstance(sample, FixSample):
            if not gps.is_on_earth(sample):
                return
            self.place.add(sample)
        self.evidence.add(role, sample)
        if self.alignment is not None and isinstance(sample, PoseSample | FixSample):
            self.alignment.add_motion(sample)

    def _transforms(self, message: Any, stamp_ns: int, arrival: RawMessage) -> None:
        static = arrival.source.role == "tf_static"
        poses = decode.transform_samples(message)
        clock = edge_name(arrival.source.topic, f"{poses[0].parent_frame} -> {poses[0].child_frame}") if poses else ""
        for pose in poses:
            if not static and len(self._clock_of) < _MOST_CLOCKS:
                self._clock_of.setdefault((pose.parent_frame, pose.child_frame), clock)
            if self.settings.stamps == "received":
                names = pose.parent_frame, pose.child_frame
                pose = PoseSample(stamp_ns, *names, pose.position_m, pose.quat_xyzw)
            self.evidence.tree.add(pose, static)

    def _is_calibrated(self, arrival: RawMessage) -> bool:
        known = self._calibrations.get(arrival.source.camera)
        return known is not None and known.is_calibrated

    def _camera_info(self, message: Any, arrival: RawMessage) -> None:
        if message.width and message.height:
            rectified = is_rectified(f"{arrival.source.topic.rpartition('/')[0]}/image")
            self._calibrations[arrival.source.camera] = decode.camera_info_sample(message, 0, rectified).camera


def _speed_mps(message: Any) -> float:
    """What the twist of an Odometry says; NaN for other messages."""
    twist = getattr(message, "twist", None)
    if twist is None:
        return math.nan
    return math.hypot(twist.twist.linear.x, twist.twist.linear.y, twist.twist.linear.z)


# At the end of a recording: where its map lies on Earth, and how good fused poses are by their own account.


def place_on_earth(meta: DatasetMeta, poses: LivePoses, resumed: bool) -> str:
    """Fill in the datum, as `pose2rgbd convert` finds it, unless frames were there before; returns what to report.

    UserError when a dataset that is gone on with lies too far away.
    """
    if meta.poses is not None and poses.evidence.fusion is not None:
        meta.poses.accuracy = _accuracy(poses.evidence.fusion)
    found = poses.place.find(poses.evidence.antenna_m())
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
