"""May the depth at a pose be trusted? Elsewhere it is unknown: never a number, and never free space."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pose2rgbd_ros.geometry.arrays import Float64
from pose2rgbd_ros.rendering.pose_score import PoseDistance, PoseScore
from pose2rgbd_ros.rendering.volume import TrainedVolume, VolumeCheck

NOWHERE = -1.0  # a limit below every score: no held-out frame vouches for any pose


@dataclass(frozen=True)
class GuardAnswer:
    """Of one pose.

    inside: its depth may be trusted. score: how unlike the training poses it is (:class:`PoseScore`), in metres.
    limit: of the score, NaN without a calibration, NOWHERE when no held-out frame vouched for its depth.
    reason: empty when inside, else one line with the figures.
    distance_m, heading_deg: to the training poses, as :class:`VolumeCheck` says; is_near: whether within its margins.
    """

    inside: bool
    score: float
    limit: float
    reason: str
    distance_m: float = math.nan
    heading_deg: float = math.nan
    is_near: bool = False

    @property
    def is_calibrated(self) -> bool:
        return not math.isnan(self.limit)


class Guard:
    """Judges poses: by the score that held-out frames vouch for, or, uncalibrated, by margins about the training poses.

    Without a calibration a model of geometry (`any_camera`) is not bound to its training poses: it says pixel by pixel
    what it knows. With one it is: beyond the limit no held-out frame has shown how wrong it may be.
    """

    def __init__(
        self,
        T_map_cam_training: ArrayLike,
        distance_m: float,
        limit: float | None = None,
        any_camera: bool = False,
    ) -> None:
        """`T_map_cam_training` (N, 4, 4), N >= 1; `distance_m` a typical depth; `limit` of the score, None: none."""
        self._volume = TrainedVolume(T_map_cam_training)
        self.score = PoseScore(T_map_cam_training, distance_m)
        self.limit = limit
        self._any_camera = any_camera
        self._last: tuple[bytes, GuardAnswer] | None = None  # asked for once to render and once to tell

    @property
    def example_T_map_cam(self) -> Float64:
        """One of the training poses, (4, 4): a view that the model knows."""
        return self._volume.example_T_map_cam

    def check(self, T_map_cam: ArrayLike) -> GuardAnswer:
        """Judge one pose (4, 4); under 1 ms for 1,000 training poses. A pose that is not finite is outside."""
        key, last = np.asarray(T_map_cam, np.float64).tobytes(), self._last
        if last is None or last[0] != key:
            self._last = last = key, self._judge(T_map_cam)
        return last[1]

    def _judge(self, T_map_cam: ArrayLike) -> GuardAnswer:
        check, distance = self._volume.check(T_map_cam), self.score(T_map_cam)
        limit = math.nan if self.limit is None else self.limit
        if self.limit is None:
            inside = check.inside or (self._any_camera and math.isfinite(distance.score))
            reason = "" if inside else check.reason
        else:
            inside = distance.score <= self.limit
            reason = "" if inside else _reason(distance, check, self.limit)
        return GuardAnswer(
            inside, distance.score, limit, reason, check.distance_m, check.heading_deg, check.inside
        )


def _reason(distance: PoseDistance, check: VolumeCheck, limit: float) -> str:
    """The larger of the two distances in words."""
    if not math.isfinite(distance.score):
        return "the pose is not finite"
    if limit < 0:
        return "no held-out frame vouches for this model's depth anywhere; train longer or on more, and calibrate again"
    if distance.beyond_m >= distance.score / 2:
        text = f"{distance.beyond_m:.1f} m beyond the poses flown"
    else:
        text = f"looks {check.heading_deg:.0f} deg away from the training poses nearby"
    return f"{text}: score {distance.score:.1f}, held-out frames vouch up to {limit:.1f}"
