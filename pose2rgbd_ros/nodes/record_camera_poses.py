"""Which of the live sources gives the positions, which the orientations, and where the camera sits: as `convert` does it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from pose2rgbd_ros.bags import decode
from pose2rgbd_ros.dataset.importers import mount
from pose2rgbd_ros.dataset.importers.camera_track import BODY_FRAMES, MAP_FRAMES
from pose2rgbd_ros.dataset.importers.pose_sources import EARTH_MAPS
from pose2rgbd_ros.dataset.meta import PosesMeta
from pose2rgbd_ros.geometry.geodesy import Datum
from pose2rgbd_ros.nodes.record_poses import LivePoses
from pose2rgbd_ros.streams.orientation import TurnedPoses
from pose2rgbd_ros.streams.pose_source import ChainedPoses, FixedPose, PoseAnswer, PoseSource

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
        self._live.note(
            "orientations are the course over ground, level; while it is slow the last heading holds"
        )
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
            topics={
                key: self._live.topics[role] for key, role in topics.items() if role in self._live.topics
            },
            image_time_offset_s=self._settings.image_time_offset_s,
        )
        return ChainedPoses(body, mount=on_body)

    def _mount(self, body_frame: str) -> tuple[PoseSource, str] | None:
        """T_body_cam and how it was found, by the rules of importers.mount; None while TF may still tell."""
        option, live, camera = self._settings.body_to_camera, self._live, self.camera_frame
        if option != "auto":
            return FixedPose(mount.parse(option)), f"camera mount as given: {option}"
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
        return FixedPose(mount.T_FORWARD), (
            f"where the camera sits on {body} is not known (TF does not know both {body!r} and {eye!r}): assumed at its "
            "origin, looking forward; body_to_camera says otherwise"
        )
