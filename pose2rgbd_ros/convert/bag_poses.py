"""First pass over a recording: everything but the images, which gives the camera's pose at any time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from pose2rgbd_ros.bags import decode
from pose2rgbd_ros.bags.reader import BagReader, edge_name
from pose2rgbd_ros.bags.topics import TopicChoice, is_rectified
from pose2rgbd_ros.convert.clocks import StampCorrections
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.geodesy import Datum
from pose2rgbd_ros.poses.camera_pose import CameraPoses, resolve
from pose2rgbd_ros.poses.evidence import RecordedEvidence, Role, read
from pose2rgbd_ros.poses.gps import BootClock
from pose2rgbd_ros.poses.settings import PoseSettings
from pose2rgbd_ros.streams.samples import PoseSample


@dataclass(frozen=True)
class TrackOptions:
    """How poses are read; see ConvertConfig for the meaning."""

    poses: PoseSettings = field(default_factory=PoseSettings)
    clocks: StampCorrections = field(default_factory=StampCorrections)
    map_frame: str = ""
    pose_frame: str = ""
    camera_frame: str = ""


class BagPoses:
    """What says where the camera of one recording is, read into `evidence`, and its calibration. `notes` says what
    was assumed.
    """

    def __init__(self, reader: BagReader, topics: TopicChoice, options: TrackOptions) -> None:
        self.topics, self.options = topics, options
        self.evidence = RecordedEvidence(options.poses, options.map_frame, options.pose_frame)
        self.evidence.gps_only = topics.gps_only
        found: dict[Role, str | None] = {
            "pose": topics.pose, "fix": topics.fix, "imu": topics.imu or topics.attitude, "gimbal": topics.gimbal,
        }  # fmt: skip
        self.evidence.topics = {role: topic for role, topic in found.items() if topic}
        self.camera: Camera | None = None
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self._received_ns: dict[str, tuple[int, int]] = {}  # by role: first and last
        self._boot = BootClock()
        self._boot_topics = {name for name, info in reader.topics.items() if info.type in decode.PX4_TYPES}
        self._read(reader)
        self._to_recorders_clock()

    def _read(self, reader: BagReader) -> None:
        topics, handlers = self.topics, dict[str, Callable[[str, Any, int], None]]()
        handlers |= dict.fromkeys((*topics.tf, *topics.tf_static), self._read_transforms)
        handlers |= {topic: self._reader_of(role) for role, topic in self.evidence.topics.items()}
        if topics.camera_info:
            handlers[topics.camera_info] = self._read_camera
        timeless = {topics.camera_info, *topics.tf_static}
        messages = tqdm(
            reader.messages(list(handlers)),
            desc=f"{reader.path.name} poses",
            total=sum(reader.topics[name].count for name in handlers),
            unit="message",
            leave=False,
            disable=None,
        )
        for topic, received_ns, message in messages:
            if topic in timeless or not self.options.clocks.is_stray(topic, received_ns):
                handlers[topic](topic, message, received_ns)

    def _reader_of(self, role: Role) -> Callable[[str, Any, int], None]:
        def take(topic: str, message: Any, received_ns: int) -> None:
            try:
                sample = read(role, message, self._stamp(topic, message, received_ns))
            except UserError as error:
                if role != "fix":
                    raise
                self.warn(f"{topic}: {error}")  # a damaged message, or a release that lays them out otherwise
                return
            if sample is not None:
                self.evidence.add(role, sample)
                self._saw(role, received_ns)

        return take

    def note(self, text: str) -> None:
        """Keep a remark, once."""
        if text and text not in self.notes:
            self.notes.append(text)

    def warn(self, text: str) -> None:
        """Keep a warning, once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def _to_recorders_clock(self) -> None:
        """What an autopilot stamped since its boot, by the clock of the recorder."""
        offset_ns = self._boot.offset_ns
        if not offset_ns:
            return
        roles = [role for role, topic in self.evidence.topics.items() if topic in self._boot_topics]
        self.evidence.shift(roles, offset_ns)
        self.note(
            f"the autopilot stamps since its boot; by the quickest message that was {offset_ns / 1e9:.3f} s by the "
            "recorder's clock"
        )

    def _saw(self, role: str, received_ns: int) -> None:
        first, last = self._received_ns.get(role, (received_ns, received_ns))
        self._received_ns[role] = min(first, received_ns), max(last, received_ns)

    def _stamp(self, topic: str, message: Any, received_ns: int) -> int:
        clocks = self.options.clocks
        if clocks.received:
            return received_ns
        if message.__msgtype__ in decode.PX4_TYPES:
            stamp_ns = decode.px4_stamp_ns(message)
            return self._boot.saw(stamp_ns, received_ns) if stamp_ns else received_ns
        return clocks.stamp_ns(topic, decode.header_stamp_ns(message.header), received_ns)

    def _read_transforms(self, topic: str, message: Any, received_ns: int) -> None:
        clocks, poses, static = self.options.clocks, decode.transform_samples(message), topic in self.topics.tf_static
        name = edge_name(topic, f"{poses[0].parent_frame} -> {poses[0].child_frame}") if poses else ""
        if not static and clocks.is_stray(name, received_ns):
            return
        for pose in poses:
            stamp_ns = clocks.stamp_ns(name, pose.stamp_ns, received_ns)
            self.evidence.tree.add(
                PoseSample(stamp_ns, pose.parent_frame, pose.child_frame, pose.position_m, pose.quat_xyzw), static
            )
        if not static:
            self._saw("tf", received_ns)

    def _read_camera(self, topic: str, message: Any, received_ns: int) -> None:
        """Keep the first calibration; a later one that differs is reported, not used."""
        if message.width == 0 or message.height == 0:
            return
        try:
            camera = decode.camera_info_sample(message, 0, is_rectified(self.topics.image)).camera
        except UserError as error:
            raise UserError(f"{topic}: {error}; --camera-info-topic none does without a calibration") from error
        if self.camera is None or not self.camera.is_calibrated:
            self.camera = camera
        elif camera != self.camera and camera.is_calibrated:
            self.warn(f"{topic} changes during the recording; its first calibration is used")

    def track(self, bag: str, datum: Datum | None = None) -> CameraPoses:
        """The camera's way; GPS positions are about `datum`. UserError, naming the bag, when there is none."""
        self.evidence.datum = datum
        try:
            found = resolve(self.evidence, self.options.camera_frame or self.topics.image_frame)
        except UserError as error:
            others = ", ".join(self.topics.other_poses)
            way_out = f"; poses are also in: {others} (--pose-topic)" if others else ""
            raise UserError(f"{bag}: {error}{way_out}") from error
        for note in found.notes:
            self.note(note)
        for warning in found.warnings:
            self.warn(warning)
        role = "fix" if found.facts.position == "gps" else "pose" if self.topics.pose else "tf"
        found.received_ns = self._received_ns.get(role)
        return found
