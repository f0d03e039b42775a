"""Where the cameras are, from what arrives: the rules of `pose2rgbd convert` (docs/convert.md), for live data."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np

from pose2rgbd_ros.bags import decode
from pose2rgbd_ros.bags.reader import UNREADABLE
from pose2rgbd_ros.bags.typestores import typestore
from pose2rgbd_ros.dataset.importers import mount
from pose2rgbd_ros.dataset.importers.camera_track import BODY_FRAMES, MAP_FRAMES
from pose2rgbd_ros.dataset.importers.georeference import FixLog
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.camera import Camera
from pose2rgbd_ros.geometry.geodesy import Datum
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.nodes.record_inputs import Arrival
from pose2rgbd_ros.nodes.record_pose_watch import PoseWatch
from pose2rgbd_ros.nodes.record_settings import RecordSettings
from pose2rgbd_ros.streams.pose_buffer import PoseBuffer
from pose2rgbd_ros.streams.pose_source import ChainedPoses, FixedPose, PoseAnswer, PoseSource
from pose2rgbd_ros.streams.samples import PoseSample
from pose2rgbd_ros.streams.transform_buffer import TransformBuffer

_SECOND = 1_000_000_000
_PENDING_FIXES = 1000


class LivePoses:
    """Poses, transforms, fixes and calibrations as they arrive. Belongs to the recorder's worker thread.

    `notes` tells what was chosen or assumed.
    """

    def __init__(self, settings: RecordSettings) -> None:
        self.settings = settings
        self.notes: list[str] = []
        self.unreadable = 0
        gap_ns = round(settings.max_pose_gap_s * _SECOND)
        self.odometry = PoseBuffer(gap_ns, settings.interpolation)
        self.odometry_frames: tuple[str, str] | None = None
        self.watch = PoseWatch()
        self.transforms = TransformBuffer(gap_ns, settings.interpolation)
        self._calibrations: dict[str, Camera] = {}
        self._place = _Place(gap_ns)

    def begin(self) -> None:
        """A recording begins: what is told of it is its own."""
        self.notes.clear()
        self._place = _Place(round(self.settings.max_pose_gap_s * _SECOND))

    def add(self, arrival: Arrival, stamp_ns: int) -> None:
        """Take a message that is no image; one that does not fit its type is counted and left out."""
        take = {
            "odom": self._odometry,
            "tf": self._transform,
            "tf_static": self._transform,
            "fix": self._fix,
            "camera_info": self._camera_info,
        }.get(arrival.source.role)
        if take is None or (arrival.source.role == "camera_info" and self._is_calibrated(arrival)):
            return
        try:
            take(typestore("2").deserialize_cdr(arrival.data, arrival.source.type_name), stamp_ns, arrival)
        except (UserError, *UNREADABLE) as error:
            self.unreadable += 1
            self.note(f"{arrival.source.topic}: {error}")

    def note(self, text: str) -> None:
        """Keep a remark, once."""
        if text and text not in self.notes:
            self.notes.append(text)

    def calibration(self, camera: str) -> Camera | None:
        """What CameraInfo said; None before it did."""
        return self._calibrations.get(camera)

    def source(self, camera_frame: str, patience_s: float) -> CameraPoses:
        """The poses of a camera, whose first image has arrived."""
        return CameraPoses(self, camera_frame, time.monotonic() + patience_s)

    def datum(self) -> Datum | None:
        """Where the map's origin lies on Earth, as the fixes since the beginning tell."""
        return self._place.datum(self)

    def jumped(self) -> None:
        """The clock went back: nothing that moves is known any more."""
        self.odometry.clear()
        self.transforms.clear()

    # Messages --------------------------------------------------------------------------------------------------

    def _odometry(self, message: Any, stamp_ns: int, arrival: Arrival) -> None:
        pose = decode.pose_sample(message, stamp_ns)
        self.watch.saw(pose, _speed_mps(message))
        self.odometry_frames = self.odometry_frames or (pose.parent_frame, pose.child_frame)
        self.odometry.add(pose)

    def _transform(self, message: Any, stamp_ns: int, arrival: Arrival) -> None:
        static = arrival.source.role == "tf_static"
        for pose in decode.transform_samples(message):
            if not pose.parent_frame or not pose.child_frame or pose.parent_frame == pose.child_frame:
                continue  # TF itself refuses such transforms
            if self.settings.stamps == "received":
                pose = PoseSample(
                    stamp_ns, pose.parent_frame, pose.child_frame, pose.position_m, pose.quat_xyzw
                )
            self.transforms.add(pose, static)

    def _fix(self, message: Any, stamp_ns: int, arrival: Arrival) -> None:
        if message.status.status >= 0:  # below: the receiver has no fix
            self._place.add(decode.fix_sample(message, stamp_ns))

    def _is_calibrated(self, arrival: Arrival) -> bool:
        known = self._calibrations.get(arrival.source.camera)
        return known is not None and known.is_calibrated

    def _camera_info(self, message: Any, stamp_ns: int, arrival: Arrival) -> None:
        if message.width and message.height:
            rectified = "rect" in arrival.source.topic.rpartition("/")[0]
            self._calibrations[arrival.source.camera] = decode.camera_info_sample(
                message, 0, rectified
            ).camera

    # Frames ----------------------------------------------------------------------------------------------------

    def connects(self, target: str, source: str) -> bool:
        """Whether TF leads from one frame to the other."""
        return not self.transforms.explain(target, source)

    def is_fixed(self, target: str, source: str) -> bool:
        """Whether it does so by static transforms alone."""
        steps = self.transforms.steps(target, source)
        return steps is not None and all(isinstance(part, FixedPose) for part, _ in steps)

    def use_for_place(self, body: PoseSource) -> None:
        """The poses whose origin the fixes are to place on Earth."""
        self._place.body = self._place.body or body


def _speed_mps(message: Any) -> float:
    """What the twist of an Odometry says; NaN for other messages."""
    twist = getattr(message, "twist", None)
    return (
        math.nan
        if twist is None
        else math.hypot(twist.twist.linear.x, twist.twist.linear.y, twist.twist.linear.z)
    )


class CameraPoses:
    """T_map_cam over time. Which pose and which mount is decided once, with the first poses; until then one waits.

    What is not there by `deadline_s` (steady clock) is done without, as docs/convert.md says.
    """

    def __init__(self, live: LivePoses, camera_frame: str, deadline_s: float) -> None:
        self.map_frame, self.camera_frame = "map", camera_frame
        self._live, self._deadline_s = live, deadline_s
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
        """Where the map lies on Earth, where the poses say so themselves."""
        return None

    @property
    def _late(self) -> bool:
        return time.monotonic() >= self._deadline_s

    def _decide(self) -> PoseSource | None:
        frames = self._live.odometry_frames
        if frames is not None:
            return self._on_odometry(*frames)
        return self._in_tf() if self._late and self._live.transforms.frames() else None

    def _on_odometry(self, parent: str, child: str) -> PoseSource | None:
        settings, live = self._live.settings, self._live
        on_body = self._mount(settings.pose_frame or child)
        if on_body is None:
            return None
        self.map_frame = decode.frame_name(settings.map_frame) or parent or "map"
        live.use_for_place(live.odometry)
        return ChainedPoses(live.odometry, mount=on_body)

    def _in_tf(self) -> PoseSource | None:
        settings, live, camera = self._live.settings, self._live, self.camera_frame
        frames = live.transforms.frames()
        body = settings.pose_frame or next((name for name in BODY_FRAMES if name in frames), "")
        # Interpolating the body, not the camera: a camera on a long arm moves in arcs between two poses.
        by_body = settings.body_to_camera != "auto" or camera not in frames or live.is_fixed(body, camera)
        moving = body if by_body else camera
        wanted = [decode.frame_name(settings.map_frame)] if settings.map_frame else list(MAP_FRAMES)
        found = next(
            (
                name
                for name in wanted
                if name != moving and live.connects(name, moving) and not live.is_fixed(name, moving)
            ),
            None,
        )
        on_body = self._mount(moving) if moving and found else None
        if found is None or on_body is None:
            return None
        self.map_frame = found
        in_map = live.transforms.source(found, moving)
        live.note(f"poses of {moving} in {found} from TF")
        live.use_for_place(in_map)
        return ChainedPoses(in_map, mount=on_body)

    def _mount(self, body_frame: str) -> PoseSource | None:
        """T_body_cam, by the rules of importers.mount; None while TF may still tell."""
        option, live, camera = self._live.settings.body_to_camera, self._live, self.camera_frame
        if option != "auto":
            live.note(f"camera mount as given: {option}")
            return FixedPose(mount.parse(option))
        if body_frame and body_frame == camera:
            live.note(f"the pose is that of the image's frame, {camera}")
            return FixedPose(np.eye(4))
        if not body_frame and "base_link" in live.transforms.frames():
            body_frame = "base_link"
        if live.connects(body_frame, camera):
            how = "from static TF" if live.is_fixed(body_frame, camera) else "moves (a gimbal), from TF"
            live.note(f"camera mount {body_frame} -> {camera} {how}")
            return live.transforms.source(body_frame, camera)
        if not self._late:
            return None
        if "optical" in body_frame:
            live.note(f"the pose is that of {body_frame}, an optical frame by its name")
            return FixedPose(np.eye(4))
        live.note(
            f"where the camera sits on {body_frame or 'the body'} is not known (TF does not know both "
            f"{body_frame or 'the body'!r} and {camera or 'the camera'!r}): assumed at its origin, looking forward; "
            "body_to_camera says otherwise"
        )
        return FixedPose(mount.T_FORWARD)


class _Place:
    """GPS fixes, each with the body's pose at its time, to tell at the end where the map's origin is."""

    def __init__(self, gap_ns: int) -> None:
        self.body: PoseSource | None = None
        self._gap_ns = gap_ns
        self._fixes = FixLog()
        self._pending: list[Any] = []
        self._stamps_ns: list[int] = []
        self._position_m: list[np.ndarray] = []

    def add(self, fix: Any) -> None:
        """Take a fix; its pose is looked up when it is known."""
        self._pending.append(fix)
        del self._pending[:-_PENDING_FIXES]
        self._look_up()

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
                self._position_m.append(answer.T[:3, 3])
        self._pending = waiting

    def datum(self, live: LivePoses) -> Datum | None:
        self._look_up(last=True)
        if not self._stamps_ns:
            return None
        level = np.tile([0.0, 0.0, 0.0, 1.0], (len(self._stamps_ns), 1))
        body, _ = Trajectory.from_unsorted(self._stamps_ns, np.stack(self._position_m), level)
        found = self._fixes.georeference(body, self._gap_ns)
        live.note(found.how)
        return found.datum
