"""First pass over a recording: everything but the images, which gives the camera's pose at any time."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from pose2rgbd_ros.bags import decode
from pose2rgbd_ros.bags.reader import BagReader
from pose2rgbd_ros.bags.topics import TopicChoice, is_rectified
from pose2rgbd_ros.dataset.importers import mount as mounts
from pose2rgbd_ros.dataset.importers.georeference import FixLog
from pose2rgbd_ros.dataset.importers.mount import Mount
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.interpolation import Method
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.streams.pose_source import ChainedPoses, FixedPose, PoseSource, RecordedPoses
from pose2rgbd_ros.streams.samples import PoseSample
from pose2rgbd_ros.streams.transform_tree import TransformTree

# Where maps are rooted, the most global first (REP-105 and habit).
MAP_FRAMES = ("map", "world", "earth", "odom", "vicon", "mocap", "local_origin")
BODY_FRAMES = ("base_link", "base_footprint", "body")


class PoseLog:
    """Recorded poses in compact arrays, 64 bytes each."""

    def __init__(self) -> None:
        self.parent_frame = ""
        self.child_frame = ""
        self._stamps_ns = array("q")
        self._numbers = array("d")
        self.received_ns: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self._stamps_ns)

    def add(self, pose: PoseSample, received_ns: int) -> None:
        """Append a pose as received."""
        if not self:
            self.parent_frame, self.child_frame = pose.parent_frame, pose.child_frame
        self._stamps_ns.append(pose.stamp_ns)
        self._numbers.extend(pose.position_m)
        self._numbers.extend(pose.quat_xyzw)
        first, last = self.received_ns or (received_ns, received_ns)
        self.received_ns = min(first, received_ns), max(last, received_ns)

    def trajectory(self) -> tuple[Trajectory, dict[str, int]]:
        """The cleaned trajectory and what was wrong. UserError when no pose is usable."""
        numbers = np.frombuffer(self._numbers).reshape(-1, 7)
        return Trajectory.from_unsorted(
            np.frombuffer(self._stamps_ns, dtype=np.int64), numbers[:, :3], numbers[:, 3:]
        )


@dataclass
class CameraTrack:
    """The camera's way through the map: the body's trajectory and where the camera sits on it."""

    body: Trajectory
    mount: Mount
    map_frame: str
    camera_frame: str
    gap_ns: int
    pose_count: int
    received_ns: tuple[int, int] | None
    problems: dict[str, int] = field(default_factory=dict)

    def shift(self, offset_m: npt.NDArray[np.float64]) -> None:
        """Express the poses in a map whose origin lies elsewhere: add (3,) metres to all."""
        self.body = replace(self.body, position_m=self.body.position_m + offset_m)

    def poses(self, interpolation: Method = "linear") -> PoseSource:
        """The camera in the map, for the synchroniser."""
        if self.mount.moving is None:
            assert self.mount.T_body_cam is not None
            mount: PoseSource = FixedPose(self.mount.T_body_cam)
        else:
            mount = RecordedPoses(self.mount.moving, self.gap_ns, interpolation)
        return ChainedPoses(RecordedPoses(self.body, self.gap_ns, interpolation), mount=mount)

    def T_map_cam(self, stamp_ns: int) -> tuple[npt.NDArray[np.float64], str | None]:
        """The pose (4, 4) at a stamp, and why there is none (then it is NaN)."""
        at = self.body.interpolate([stamp_ns], self.gap_ns)
        if self.mount.moving is None:
            assert self.mount.T_body_cam is not None
            return at.T[0] @ self.mount.T_body_cam, at.reason[0]
        on_body = self.mount.moving.interpolate([stamp_ns], self.gap_ns)
        reason = at.reason[0] or (on_body.reason[0] and f"mount_{on_body.reason[0]}")
        return at.T[0] @ on_body.T[0], reason


@dataclass(frozen=True)
class TrackOptions:
    """How poses are read; see ConvertConfig for the meaning."""

    received_stamps: bool
    max_gap_ns: int
    map_frame: str
    pose_frame: str
    camera_frame: str
    body_to_camera: str


class FirstPass:
    """Poses, transforms and calibration of one recording."""

    def __init__(self, reader: BagReader, topics: TopicChoice, options: TrackOptions) -> None:
        self._topics = topics
        self._options = options
        self._poses = PoseLog()
        self._tree = TransformTree()
        self._tf_received_ns: tuple[int, int] | None = None
        self.fixes = FixLog()
        self.camera: Camera | None = None
        self.notes: list[str] = []
        self._read(reader)

    def _read(self, reader: BagReader) -> None:
        topics = self._topics
        named = [topics.pose, topics.camera_info, topics.fix, *topics.tf, *topics.tf_static]
        wanted = [name for name in named if name]
        messages = tqdm(
            reader.messages(wanted),
            desc=f"{reader.path.name} poses",
            total=sum(reader.topics[name].count for name in wanted),
            unit="message",
            leave=False,
            disable=None,
        )
        for topic, received_ns, message in messages:
            if topic == topics.pose:
                self._poses.add(
                    decode.pose_sample(message, self._stamp(message.header, received_ns)), received_ns
                )
            elif topic == topics.camera_info:
                self._read_camera(message)
            elif topic == topics.fix:
                if message.status.status >= 0:  # below: the receiver has no fix
                    self.fixes.add(decode.fix_sample(message, self._stamp(message.header, received_ns)))
            else:
                self._read_transforms(message, received_ns, topic in topics.tf_static)

    def _stamp(self, header: Any, received_ns: int) -> int:
        stamp_ns = decode.header_stamp_ns(header)
        return received_ns if self._options.received_stamps or stamp_ns == 0 else stamp_ns

    def _read_transforms(self, message: Any, received_ns: int, static: bool) -> None:
        for pose in decode.transform_samples(message):
            if not pose.parent_frame or not pose.child_frame or pose.parent_frame == pose.child_frame:
                continue  # TF itself refuses such transforms
            stamp_ns = received_ns if self._options.received_stamps else pose.stamp_ns
            self._tree.add_pose(
                PoseSample(stamp_ns, pose.parent_frame, pose.child_frame, pose.position_m, pose.quat_xyzw),
                static,
            )
        if not static:
            first, last = self._tf_received_ns or (received_ns, received_ns)
            self._tf_received_ns = min(first, received_ns), max(last, received_ns)

    def _read_camera(self, message: Any) -> None:
        """Keep the first calibration; a later one that differs is told, not used."""
        if message.width == 0 or message.height == 0:
            return
        try:
            camera = decode.camera_info_sample(message, 0, is_rectified(self._topics.image)).camera
        except UserError as error:
            raise UserError(
                f"{self._topics.camera_info}: {error}; --camera-info-topic none does without a calibration"
            ) from error
        if self.camera is None or not self.camera.is_calibrated:
            self.camera = camera
        elif camera != self.camera and camera.is_calibrated:
            text = f"{self._topics.camera_info} changes during the recording; its first calibration is used"
            if text not in self.notes:
                self.notes.append(text)

    def track(self, bag: str) -> CameraTrack:
        """The camera's way. UserError, naming the bag, when there is no usable pose."""
        camera_frame = self._options.camera_frame or self._topics.image_frame
        try:
            if self._topics.pose is None:
                return self._track_from_tf(camera_frame)
            return self._track_from_poses(self._topics.pose, camera_frame)
        except UserError as error:
            raise UserError(f"{bag}: {error}") from error

    def _track_from_poses(self, topic: str, camera_frame: str) -> CameraTrack:
        try:
            body, problems = self._poses.trajectory()
        except UserError as error:
            raise UserError(f"{topic}: {error}; --pose-topic picks another topic") from error
        child = self._options.pose_frame or self._poses.child_frame
        gap_ns = self._options.max_gap_ns
        mount = mounts.find(self._options.body_to_camera, self._tree, child, camera_frame, gap_ns)
        return CameraTrack(
            body=body,
            mount=mount,
            map_frame=self._options.map_frame or self._poses.parent_frame or "map",
            camera_frame=camera_frame or "camera_optical_frame",
            gap_ns=gap_ns,
            pose_count=len(self._poses),
            received_ns=self._poses.received_ns,
            problems=problems,
        )

    def _track_from_tf(self, camera_frame: str) -> CameraTrack:
        frames, gap_ns = self._tree.frames(), self._options.max_gap_ns
        given = self._options.body_to_camera != "auto"
        body = self._options.pose_frame or next((name for name in BODY_FRAMES if name in frames), "")
        # Interpolating the body, not the camera: a camera on a long arm moves in arcs between two poses.
        by_body = given or camera_frame not in frames or self._is_fixed(body, camera_frame)
        source = body if by_body else camera_frame
        if not source:
            raise UserError(
                f"TF does not know the image's frame {camera_frame!r}; its frames: {', '.join(frames) or 'none'}; "
                "--camera-frame names the camera's, --pose-frame the body's"
            )
        map_frame, trajectory = self._moving(source, gap_ns)
        mount = mounts.find(self._options.body_to_camera, self._tree, source, camera_frame, gap_ns)
        return CameraTrack(
            body=trajectory,
            mount=mount,
            map_frame=map_frame,
            camera_frame=camera_frame or "camera_optical_frame",
            gap_ns=gap_ns,
            pose_count=len(trajectory),
            received_ns=self._tf_received_ns,
            problems={
                f"{edge}: {reason}": count
                for edge, reasons in self._tree.problems().items()
                for reason, count in reasons.items()
            },
        )

    def _is_fixed(self, body: str, camera_frame: str) -> bool:
        """Whether static TF alone tells where the camera sits on the body."""
        try:
            return self._tree.static_transform(body, camera_frame) is not None
        except UserError:
            return False

    def _moving(self, source: str, gap_ns: int) -> tuple[str, Trajectory]:
        """The map frame and the trajectory of `source` in it, from TF."""
        if self._options.map_frame:
            return self._options.map_frame, self._tree.trajectory(self._options.map_frame, source, gap_ns)
        frames = self._tree.frames()
        failure = f"none of {', '.join(MAP_FRAMES)} is among them"
        for name in MAP_FRAMES:
            if name in frames and name != source:
                try:
                    return name, self._tree.trajectory(name, source, gap_ns)
                except UserError as error:
                    failure = str(error)
        raise UserError(
            f"TF gives no trajectory of {source!r} (frames: {', '.join(frames)}): {failure}; --map-frame names the map"
        )
