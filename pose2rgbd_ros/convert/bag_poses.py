"""First pass over a recording: everything but the images, which gives the camera's pose at any time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from pose2rgbd_ros.bags import decode
from pose2rgbd_ros.bags.reader import BagReader, edge_name
from pose2rgbd_ros.bags.topics import TopicChoice, is_rectified
from pose2rgbd_ros.convert.clocks import StampCorrections
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.geodesy import Datum
from pose2rgbd_ros.poses.camera_pose import BODY_FRAMES as BODY_FRAMES
from pose2rgbd_ros.poses.camera_pose import MAP_FRAMES as MAP_FRAMES
from pose2rgbd_ros.poses.camera_pose import CameraTrajectory as CameraTrajectory
from pose2rgbd_ros.poses.camera_pose import camera_track
from pose2rgbd_ros.poses.gps import BootClock, OfflineFixLog, PoseLog
from pose2rgbd_ros.poses.orientation import OrientationLog
from pose2rgbd_ros.poses.settings import PoseSettings
from pose2rgbd_ros.poses.transforms import TransformTree
from pose2rgbd_ros.streams.samples import PoseSample


@dataclass(frozen=True)
class TrackOptions:
    """How poses are read; see ConvertConfig for the meaning."""

    poses: PoseSettings = field(default_factory=PoseSettings)
    clocks: StampCorrections = field(default_factory=StampCorrections)
    map_frame: str = ""
    pose_frame: str = ""
    camera_frame: str = ""

    @property
    def max_gap_ns(self) -> int:
        """No pose is interpolated over a longer silence."""
        return round(self.poses.max_pose_gap_s * 1e9)


class BagPoses:
    """Poses, transforms, fixes, orientations and calibration of one recording. `notes` tells what was assumed."""

    def __init__(self, reader: BagReader, topics: TopicChoice, options: TrackOptions) -> None:
        self.topics, self.options = topics, options
        self.poses, self.fixes = PoseLog(), OfflineFixLog()
        self.imu, self.gimbal = OrientationLog(), OrientationLog()
        self.tree = TransformTree()
        self.tf_received_ns: tuple[int, int] | None = None
        self.fix_received_ns: tuple[int, int] | None = None
        self.camera: Camera | None = None
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self._topic = ""
        self._boot = BootClock()
        self._boot_topics = {name for name, info in reader.topics.items() if info.type in decode.PX4_TYPES}
        self._read(reader)
        self._to_recorders_clock()

    def _read(self, reader: BagReader) -> None:
        handlers, fixed = self._handlers(), {self.topics.camera_info, *self.topics.tf_static}
        messages = tqdm(
            reader.messages(list(handlers)),
            desc=f"{reader.path.name} poses",
            total=sum(reader.topics[name].count for name in handlers),
            unit="message",
            leave=False,
            disable=None,
        )
        for self._topic, received_ns, message in messages:
            if self._topic not in fixed and self.options.clocks.is_stray(self._topic, received_ns):
                continue
            handlers[self._topic](message, received_ns)

    def _handlers(self) -> dict[str, Callable[[Any, int], None]]:
        topics = self.topics
        found: dict[str, Callable[[Any, int], None]] = {
            **dict.fromkeys(topics.tf, lambda message, at: self._read_transforms(message, at, False)),
            **dict.fromkeys(topics.tf_static, lambda message, at: self._read_transforms(message, at, True)),
        }
        for topic, handler in (
            (topics.pose, self._read_pose),
            (topics.camera_info, lambda message, _: self._read_camera(message)),
            (topics.fix, self._read_fix),
            (topics.imu or topics.attitude, self._read_imu),
            (topics.gimbal, self._read_gimbal),
        ):
            if topic:
                found[topic] = handler
        return found

    def note(self, text: str) -> None:
        """Keep a remark, once."""
        if text and text not in self.notes:
            self.notes.append(text)

    def warn(self, text: str) -> None:
        """Keep a warning, once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def _read_pose(self, message: Any, received_ns: int) -> None:
        read = decode.px4_pose_sample if message.__msgtype__ in decode.PX4_TYPES else decode.pose_sample
        self.poses.add(read(message, self._stamp(message, received_ns)), received_ns)

    def _read_fix(self, message: Any, received_ns: int) -> None:
        stamp_ns = self._stamp(message, received_ns)
        if message.__msgtype__ in decode.PX4_TYPES:
            try:
                fix = decode.px4_fix_sample(message, stamp_ns)
            except UserError as error:  # a damaged message, or a release that lays them out otherwise
                self.warn(f"{self.topics.fix}: {error}")
                return
        else:  # a status below 0: the receiver has no fix
            fix = decode.fix_sample(message, stamp_ns) if message.status.status >= 0 else None
        if fix is not None:
            self.fixes.add(fix)
            first, last = self.fix_received_ns or (received_ns, received_ns)
            self.fix_received_ns = min(first, received_ns), max(last, received_ns)

    def _read_imu(self, message: Any, received_ns: int) -> None:
        stamp_ns = self._stamp(message, received_ns)
        if message.__msgtype__ in decode.PX4_TYPES:
            turned = decode.px4_orientation_sample(message, stamp_ns)
            if turned is not None:
                self.imu.add(stamp_ns, turned.quat_xyzw, turned.child_frame)
            return
        sample = decode.imu_sample(message, stamp_ns)
        if sample.quat_xyzw is not None:
            self.imu.add(stamp_ns, sample.quat_xyzw, sample.frame_id)

    def _read_gimbal(self, message: Any, received_ns: int) -> None:
        stamp_ns = self._stamp(message, received_ns)
        if message.__msgtype__ in decode.PX4_TYPES:
            sample = decode.px4_gimbal_sample(message, stamp_ns)
        else:
            sample = decode.gimbal_sample(message, stamp_ns)
        if sample is not None:
            self.gimbal.add(stamp_ns, sample.quat_xyzw, flag=sample.yaw_in_earth)

    def _to_recorders_clock(self) -> None:
        """What an autopilot stamped since its boot, by the clock of the recorder."""
        offset_ns = self._boot.offset_ns
        if not offset_ns:
            return
        topics = self.topics
        logs = (
            (topics.pose, self.poses),
            (topics.fix, self.fixes),
            (topics.imu or topics.attitude, self.imu),
            (topics.gimbal, self.gimbal),
        )
        for topic, log in logs:
            if topic in self._boot_topics:
                log.shift(offset_ns)
        self.note(
            f"the autopilot stamps since its boot; by the quickest message that was {offset_ns / 1e9:.3f} s by the "
            "recorder's clock"
        )

    def body_frame(self) -> str:
        """The body's frame: as given, as the poses name it, or as TF usually does."""
        frames = self.tree.frames()
        usual = next((name for name in BODY_FRAMES if name in frames), "")
        return self.options.pose_frame or self.poses.child_frame or usual

    def antenna_m(self, body_frame: str) -> Float64:
        """The GPS antenna in the body (3,): as given, else from static TF, else at its origin."""
        given = self.options.poses.antenna()
        if given is not None:
            return given
        if body_frame and self.fixes.frame and self.fixes.frame != body_frame:
            try:
                T = self.tree.static_transform(body_frame, self.fixes.frame)
            except UserError:
                T = None
            if T is not None:
                return T[:3, 3]
        return np.zeros(3)

    def _stamp(self, message: Any, received_ns: int) -> int:
        clocks = self.options.clocks
        if clocks.received:
            return received_ns
        if message.__msgtype__ in decode.PX4_TYPES:
            stamp_ns = decode.px4_stamp_ns(message)
            return self._boot.saw(stamp_ns, received_ns) if stamp_ns else received_ns
        return clocks.stamp_ns(self._topic, decode.header_stamp_ns(message.header), received_ns)

    def _read_transforms(self, message: Any, received_ns: int, static: bool) -> None:
        clocks, poses = self.options.clocks, decode.transform_samples(message)
        name = edge_name(self._topic, f"{poses[0].parent_frame} -> {poses[0].child_frame}") if poses else ""
        if not static and clocks.is_stray(name, received_ns):
            return
        for pose in poses:
            stamp_ns = clocks.stamp_ns(name, pose.stamp_ns, received_ns)
            self.tree.add(
                PoseSample(stamp_ns, pose.parent_frame, pose.child_frame, pose.position_m, pose.quat_xyzw), static
            )
        if not static:
            first, last = self.tf_received_ns or (received_ns, received_ns)
            self.tf_received_ns = min(first, received_ns), max(last, received_ns)

    def _read_camera(self, message: Any) -> None:
        """Keep the first calibration; a later one that differs is told, not used."""
        if message.width == 0 or message.height == 0:
            return
        try:
            camera = decode.camera_info_sample(message, 0, is_rectified(self.topics.image)).camera
        except UserError as error:
            raise UserError(
                f"{self.topics.camera_info}: {error}; --camera-info-topic none does without a calibration"
            ) from error
        if self.camera is None or not self.camera.is_calibrated:
            self.camera = camera
        elif camera != self.camera and camera.is_calibrated:
            self.warn(f"{self.topics.camera_info} changes during the recording; its first calibration is used")

    def track(self, bag: str, datum: Datum | None = None) -> CameraTrajectory:
        """The camera's way; GPS positions are about `datum`. UserError, naming the bag, when there is none."""
        try:
            return camera_track(self, datum)
        except UserError as error:
            others = ", ".join(self.topics.other_poses)
            way_out = f"; poses are also in: {others} (--pose-topic)" if others else ""
            raise UserError(f"{bag}: {error}{way_out}") from error
