"""All that says where the cameras are, taken in message by message: a whole recording's, or live in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from pose2rgbd_ros.bags import decode
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.geometry.geodesy import Datum
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.poses.fusion_batch import fuse
from pose2rgbd_ros.poses.fusion_live import FixedLagFusion
from pose2rgbd_ros.poses.gps import FixLog, LiveFixes, is_on_earth
from pose2rgbd_ros.poses.orientation import course
from pose2rgbd_ros.poses.settings import PoseSettings
from pose2rgbd_ros.poses.sources import PoseBuffer, PoseLog
from pose2rgbd_ros.poses.transforms import LIVE_NS, TransformTree
from pose2rgbd_ros.streams.samples import FixSample, GimbalSample, OrientationSample, PoseSample
from pose2rgbd_ros.streams.synchronizer import PoseSource, RecordedPoses

Role = Literal["pose", "fix", "imu", "gimbal"]
Sample = PoseSample | FixSample | OrientationSample | GimbalSample
BODY_FRAMES = ("base_link", "base_footprint", "body")
_SECOND = 1e9
_NOWHERE = np.zeros(3)
_STATIC_PATIENCE = 10  # fixes that come before a live fusion begins, so that static TF may place the antenna


def read(role: Role, message: Any, stamp_ns: int) -> Sample | None:
    """What a message says, of ROS or PX4; None where it says that it knows nothing. UserError for a damaged one."""
    px4 = message.__msgtype__ in decode.PX4_TYPES
    if role == "pose":
        return (decode.px4_pose_sample if px4 else decode.pose_sample)(message, stamp_ns)
    if role == "gimbal":
        return (decode.px4_gimbal_sample if px4 else decode.gimbal_sample)(message, stamp_ns)
    if role == "imu":
        if px4:
            return decode.px4_orientation_sample(message, stamp_ns)
        imu = decode.imu_sample(message, stamp_ns)
        return None if imu.quat_xyzw is None else OrientationSample(stamp_ns, "map", imu.frame_id, imu.quat_xyzw)
    if px4:
        return decode.px4_fix_sample(message, stamp_ns)
    return decode.fix_sample(message, stamp_ns) if message.status.status >= 0 else None  # below: no fix


@dataclass(frozen=True, eq=False)
class Body:
    """Where a body (of GPS: the antenna) is in the map: at any time, and of a recording its whole way.

    `count` poses were received, `problems` counts what was wrong with them. `datum` is where the map's origin lies
    when the positions are GPS's; None: the poses have an origin of their own.
    """

    source: PoseSource
    track: Trajectory | None = None
    count: int = 0
    problems: dict[str, int] = field(default_factory=dict)
    datum: Datum | None = None
    accuracy: dict[str, Any] | None = None  # of GPS and odometry fused, as it says itself
    how: str = ""


class _Evidence:
    """What is known so far. `topics` says by role where it comes from, `gps_only` that there are no poses but fixes.

    `from_odometry`, `from_tf`, `from_gps`, `fused` and `course` raise UserError where there is nothing (yet) of it.
    """

    is_live = False
    fixes: FixLog | LiveFixes

    def __init__(self, settings: PoseSettings, map_frame: str = "", pose_frame: str = "") -> None:
        self.settings = settings
        self.map_frame, self.pose_frame = decode.frame_name(map_frame), decode.frame_name(pose_frame)
        self.topics: dict[Role, str] = {}
        self.gps_only = False
        self.gap_ns = round(settings.max_pose_gap_s * _SECOND)
        self.fix_gap_ns = max(round(settings.max_fix_gap_s * _SECOND), self.gap_ns)
        self.tree = TransformTree(self.gap_ns, settings.interpolation, LIVE_NS if self.is_live else None)
        self.odometry, self.imu, self.gimbal = self._log(), self._log(), self._log()
        self.odometry_frames = "", ""
        self.imu_frame = ""
        self._gimbals = [0, 0]  # whose yaw counts from the vehicle's heading, and from north

    def _log(self) -> PoseLog | PoseBuffer:
        return (PoseBuffer if self.is_live else PoseLog)(self.gap_ns, self.settings.interpolation)

    def add(self, role: Role, sample: Sample) -> None:
        """Take in what a message said."""
        if isinstance(sample, PoseSample):
            if not any(self.odometry_frames):
                self.odometry_frames = sample.parent_frame, sample.child_frame
            self.odometry.add(sample)
        elif isinstance(sample, OrientationSample):
            self.imu_frame = self.imu_frame or sample.child_frame
            self.imu.add(PoseSample(sample.stamp_ns, "map", sample.child_frame, _NOWHERE, sample.quat_xyzw))
        elif isinstance(sample, GimbalSample):
            self._gimbals[sample.yaw_in_earth] += 1
            self.gimbal.add(PoseSample(sample.stamp_ns, "map", "gimbal", _NOWHERE, sample.quat_xyzw))
        elif is_on_earth(sample):
            self.fixes.add(sample)

    @property
    def gimbal_yaw_in_earth(self) -> bool:
        """Whether the gimbal's yaw counts from north, and not from the vehicle's heading."""
        return self._gimbals[True] > self._gimbals[False]

    def option(self, name: str) -> str:
        """A setting as the user writes it."""
        return name if self.is_live else f"--{name.replace('_', '-')}"

    def body_frame(self) -> str:
        """The body's frame: as given, as the poses name it, or as TF usually does."""
        frames = self.tree.frames()
        return self.pose_frame or self.odometry_frames[1] or next((name for name in BODY_FRAMES if name in frames), "")

    def static_transform(self, target: str, source: str) -> Float64 | None:
        """T_target_source where static transforms alone lead there."""
        try:
            return self.tree.static_transform(target, source)
        except UserError:
            return None

    def antenna_m(self) -> Float64:
        """The GPS antenna in the body (3,): as given, else from static TF, else at its origin."""
        given = self.settings.antenna()
        if given is not None:
            return given
        T = self.static_transform(self.body_frame(), self.fixes.frame) if self.fixes.frame else None
        return np.zeros(3) if T is None else np.asarray(T[:3, 3])


class RecordedEvidence(_Evidence):
    """Everything is kept. GPS positions are about `datum` (None: the first fix)."""

    fixes: FixLog
    odometry: PoseLog
    imu: PoseLog
    gimbal: PoseLog

    def __init__(self, settings: PoseSettings, map_frame: str = "", pose_frame: str = "") -> None:
        super().__init__(settings, map_frame, pose_frame)
        self.fixes = FixLog()
        self.datum: Datum | None = None

    def shift(self, roles: Sequence[Role], offset_ns: int) -> None:
        """Add to all stamps of what came by those roles."""
        for role in roles:
            log: PoseLog | FixLog = self.fixes if role == "fix" else self.odometry if role == "pose" else self.imu
            (self.gimbal if role == "gimbal" else log).shift(offset_ns)

    def from_odometry(self) -> Body:
        """The recorded poses."""
        try:
            return Body(self.odometry, self.odometry.trajectory(), len(self.odometry), self.odometry.problems)
        except UserError as error:
            topic = self.topics.get("pose", "poses")
            raise UserError(f"{topic}: {error}; --pose-topic picks another topic") from error

    def from_tf(self, map_frame: str, frame: str) -> Body:
        """The way of a frame through a map that TF gives."""
        track = self.tree.trajectory(map_frame, frame, self.gap_ns)
        problems = {f"{edge}: {why}": n for edge, reasons in self.tree.problems().items() for why, n in reasons.items()}
        return Body(self.tree.source(map_frame, frame), track, len(track), problems)

    def from_gps(self) -> Body:
        """The antenna's positions, without outliers."""
        if not len(self.fixes):
            raise UserError(
                "there is no GPS fix with a position; --fix-topic picks another topic, --position pose does without"
            )
        settings = self.settings
        fixes = self.fixes.track(self.datum, settings.altitude, settings.fix_sigma_m)
        good = fixes.plausible()
        problems = {"fix_outlier": len(fixes) - len(good)} if len(good) < len(fixes) else {}
        source = RecordedPoses(good.trajectory(), self.fix_gap_ns, settings.interpolation)
        return Body(source, source.trajectory, len(self.fixes), problems, fixes.datum)

    def fused(self, odometry: Body) -> Body:
        """GPS and odometry as one; the odometry alone, saying why, where that cannot be."""
        if not len(self.fixes):
            raise UserError("--position fused needs GPS fixes, and there are none; --fix-topic picks another topic")
        settings = self.settings
        fixes = self.fixes.track(self.datum, settings.altitude, settings.fix_sigma_m)
        assert odometry.track is not None
        try:
            found = fuse(odometry.track, fixes, settings, self.antenna_m())
        except UserError as error:
            return Body(odometry.source, odometry.track, odometry.count, odometry.problems, how=str(error))
        source, accuracy = RecordedPoses(found.trajectory, self.gap_ns, settings.interpolation), found.accuracy
        track, count, problems = found.trajectory, odometry.count, odometry.problems
        return Body(source, track, count, problems, fixes.datum, accuracy.to_dict(), accuracy.summary())

    def course(self, body: Body) -> tuple[PoseSource, str]:
        """Orientations along the way of a body, and how they were found."""
        settings, track = self.settings, body.track
        assert track is not None
        speed_mps, smoothing_s = settings.course_speed_mps, settings.course_smoothing_s
        found = course(track.stamps_ns, track.position_m, speed_mps, smoothing_s, settings.fix_sigma_m or 0.5)
        usual = np.degrees(np.median(found.sigma_rad[~found.held]))
        gap_ns = self.fix_gap_ns if body.datum else self.gap_ns
        return RecordedPoses(found.trajectory, gap_ns, settings.interpolation), (
            f"orientations are the course over ground, level, good to about {usual:.0f} degrees; below "
            f"{speed_mps:g} m/s ({100 * found.held.mean():.0f} % of the time) the last heading holds"
        )


class LiveEvidence(_Evidence):
    """The last seconds are kept. `fusion` is there with position fused, from the first fixes on."""

    fixes: LiveFixes
    odometry: PoseBuffer
    imu: PoseBuffer
    gimbal: PoseBuffer
    is_live = True

    def __init__(self, settings: PoseSettings, map_frame: str = "", pose_frame: str = "") -> None:
        super().__init__(settings, map_frame, pose_frame)
        self.fixes = LiveFixes(settings)
        self.fusion: FixedLagFusion | None = None
        self._fix_count = 0

    def begin(self, datum: Datum | None) -> None:
        """A recording begins; `datum` is that of the dataset it goes on with."""
        if datum is not None and datum != self.fixes.datum:
            self.fixes, self.fusion, self._fix_count = LiveFixes(self.settings, datum), None, 0

    def add(self, role: Role, sample: Sample) -> None:
        """Take in what a message said."""
        super().add(role, sample)
        if isinstance(sample, PoseSample) and self.fusion is not None:
            self.fusion.add_odometry(sample)
        elif isinstance(sample, FixSample) and self.settings.position == "fused":
            self._fix_count += 1
            if self.fusion is None and len(self.odometry) and self._fix_count > _STATIC_PATIENCE:
                self.fusion = FixedLagFusion(self.settings, self.antenna_m(), self.fixes.datum)
            if self.fusion is not None:
                self.fusion.add_fix(sample)

    def clear(self, role: Role | None = None) -> None:
        """The clock of a role (None: every clock) was set: what it said before is of another time."""
        of_role: dict[Role, tuple[Any, ...]] = {
            "pose": (self.odometry, self.fusion),
            "fix": (self.fixes, self.fusion),
            "imu": (self.imu,),
            "gimbal": (self.gimbal,),
        }
        for known in of_role[role] if role else {known for items in of_role.values() for known in items}:
            if known is not None:
                known.clear()
        if role is None:
            self.tree.clear()

    def from_odometry(self) -> Body:
        """The poses that arrive."""
        if not len(self.odometry):
            raise UserError("no usable pose has come")
        return Body(self.odometry)

    def from_tf(self, map_frame: str, frame: str) -> Body:
        """The way of a frame through a map that TF gives."""
        self.tree.trajectory(map_frame, frame, self.gap_ns)  # UserError: it gives none
        return Body(self.tree.source(map_frame, frame))

    def from_gps(self) -> Body:
        """The antenna's positions as they arrive, outliers too."""
        if not len(self.fixes):
            raise UserError("there is no GPS fix with a position")
        return Body(self.fixes.positions, datum=self.fixes.datum)

    def fused(self, odometry: Body) -> Body:
        """GPS and odometry as one, as far as they are known."""
        if odometry.source is not self.odometry:
            raise UserError("position fused takes messages of odometry live, not TF; convert the recording's mcap")
        if self.fusion is None:
            raise UserError("position fused needs odometry and GPS fixes")
        return Body(self.fusion, datum=self.fixes.datum)

    def course(self, body: Body) -> tuple[PoseSource, str]:
        """Orientations along the way of the antenna."""
        how = "orientations are the course over ground, level; while it is slow the last heading holds"
        return self.fixes.course, how


Evidence = RecordedEvidence | LiveEvidence
