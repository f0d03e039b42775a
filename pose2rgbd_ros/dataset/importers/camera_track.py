"""The camera's way through the map: where the body was, how it was turned, and where the camera sits on it."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from pose2rgbd_ros.dataset.importers.mount import Mount
from pose2rgbd_ros.dataset.meta import PosesMeta
from pose2rgbd_ros.geometry.geodesy import Datum
from pose2rgbd_ros.geometry.interpolation import Method
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.streams.orientation import TurnedPoses
from pose2rgbd_ros.streams.pose_source import ChainedPoses, FixedPose, PoseAnswer, PoseSource, RecordedPoses

# Where maps are rooted, the most global first (REP-105 and habit).
MAP_FRAMES = ("map", "world", "earth", "odom", "vicon", "mocap", "local_origin")
BODY_FRAMES = ("base_link", "base_footprint", "body")


@dataclass
class CameraTrack:
    """The body's trajectory and the camera on it.

    `orientation`, where it comes from another source than the positions, replaces that of `body`; `arm_m` then is
    where in the turned body the positions were measured. `datum` is where the map's origin lies when the positions
    are GPS's; None: the poses have an origin of their own. `facts` is what the dataset tells of all this.
    """

    body: Trajectory
    mount: Mount
    map_frame: str
    camera_frame: str
    gap_ns: int
    pose_count: int
    received_ns: tuple[int, int] | None
    problems: dict[str, int] = field(default_factory=dict)
    orientation: Trajectory | None = None
    orientation_gap_ns: int = 0
    arm_m: npt.NDArray[np.float64] | None = None
    datum: Datum | None = None
    facts: PosesMeta = field(default_factory=PosesMeta)
    interpolation: Method = "linear"

    def shift(self, offset_m: npt.NDArray[np.float64]) -> None:
        """Express the poses in a map whose origin lies elsewhere: add (3,) metres to all."""
        self.body = replace(self.body, position_m=self.body.position_m + offset_m)
        self.__dict__.pop("_source", None)

    def poses(self, interpolation: Method | None = None) -> PoseSource:
        """The camera in the map, for the synchroniser."""
        method = interpolation or self.interpolation
        body: PoseSource = RecordedPoses(self.body, self.gap_ns, method)
        if self.orientation is not None:
            turns = RecordedPoses(self.orientation, self.orientation_gap_ns, method)
            body = TurnedPoses(body, turns, self.arm_m)
        if self.mount.moving is None:
            assert self.mount.T_body_cam is not None
            return ChainedPoses(body, mount=FixedPose(self.mount.T_body_cam))
        return ChainedPoses(body, mount=RecordedPoses(self.mount.moving, self.orientation_gap_ns, method))

    @functools.cached_property
    def _source(self) -> PoseSource:
        return self.poses()

    def pose_at(self, stamp_ns: int) -> PoseAnswer:
        """The camera in the map at a stamp."""
        return self._source.pose_at(stamp_ns)

    def T_map_cam(self, stamp_ns: int) -> tuple[npt.NDArray[np.float64], str | None]:
        """The pose (4, 4) at a stamp, and why there is none (then it is NaN)."""
        at = self.pose_at(stamp_ns)
        return (np.full((4, 4), np.nan), at.reason) if at.T is None else (at.T, None)
