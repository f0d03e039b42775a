"""How good a GPS receiver's fixes are: whether it has one, how sure it says it is, and where positions jump."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pose2rgbd_ros.bags import decode
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64, Int64
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.poses.gps import FixLog, FixTrack
from pose2rgbd_ros.streams.samples import FixSample

LEAST_JUMP_M, _SIGMAS = 5.0, 6.0  # a step between fixes that motion does not explain is a jump from here on
_NEIGHBOURS = 4  # fixes on each side by which a lasting step is measured
_FASTEST_MPS = 60.0  # of a drone, where nothing else says how it moves
_SECOND = 1e9


@dataclass
class FixQuality:
    """Of a recording's fixes, message by message.

    `no_fix` of `count` messages say that they have none, `bad` hold no position on Earth. `jumps` single fixes, and
    `steps_m` lasting shifts, are not explained by how the vehicle moves.
    """

    topic: str
    count: int = 0
    no_fix: int = 0
    bad: int = 0
    without_covariance: int = 0
    log: FixLog = field(default_factory=FixLog)
    jumps: int = 0
    steps_m: tuple[float, ...] = ()
    sigma_m: float = float("nan")  # median, horizontal
    sigma_up_m: float = float("nan")

    @property
    def fixes(self) -> int:
        """Messages with a position."""
        return len(self.log)


def read_fixes(topic: str, messages: Iterable[tuple[int, Any]]) -> FixQuality:
    """Of (stamp in ns, message)."""
    found = FixQuality(topic)
    for stamp_ns, message in messages:
        found.count += 1
        fix = _sample(message, stamp_ns)
        if fix is None:
            found.no_fix += 1
        elif not (abs(fix.latitude_deg) <= 90 and abs(fix.longitude_deg) <= 360):
            found.bad += 1
        else:
            found.without_covariance += not np.diagonal(fix.covariance_enu_m2)[:2].any()
            found.log.add(fix)
    return found


def _sample(message: Any, stamp_ns: int) -> FixSample | None:
    if message.__msgtype__ in decode.PX4_TYPES:
        try:
            return decode.px4_fix_sample(message, stamp_ns)
        except UserError:
            return None
    return decode.fix_sample(message, stamp_ns) if message.status.status >= 0 else None


def judge_motion(found: FixQuality, body: Trajectory | None) -> None:
    """Fill in what shows only beside the motion: of `body` where it is known otherwise, else of fixes alone."""
    if found.fixes < 3:
        return
    track = found.log.track()
    found.sigma_m = float(np.median(track.sigma_m[:, :2].max(axis=1)))
    found.sigma_up_m = float(np.median(track.sigma_m[:, 2]))
    moved_m = _moved(track, body)
    step_m = np.diff(track.position_m[:, :2], axis=0)
    limit_m = np.maximum(LEAST_JUMP_M, _SIGMAS * found.sigma_m)
    if moved_m is None:
        seconds = np.diff(track.stamps_ns) / _SECOND
        far = np.linalg.norm(step_m, axis=1) > np.maximum(limit_m, _FASTEST_MPS * seconds)
    else:
        # A step that the odometry takes and the fixes do not is the odometry's.
        far = np.minimum(np.linalg.norm(step_m - moved_m, axis=1), np.linalg.norm(step_m, axis=1)) > limit_m
    lasting = [int(i) for i in np.flatnonzero(far) if _lasts(track, moved_m, int(i), limit_m)]
    found.steps_m = tuple(float(np.linalg.norm(step_m[i])) for i in lasting)
    # An outlier is a step there and a step back.
    found.jumps = int(np.ceil((np.count_nonzero(far) - len(lasting)) / 2))


def _moved(track: FixTrack, body: Trajectory | None) -> Float64 | None:
    """How the body moved (N-1, 2) from fix to fix, in the axes of the fixes; None where it is not known."""
    if body is None or len(body) < 2:
        return None
    at = body.interpolate(_inside(track.stamps_ns, body), None)
    xy = at.T[:, :2, 3]
    good = np.isfinite(xy).all(axis=1)
    if good.sum() < 3 or np.linalg.norm(np.ptp(xy[good], axis=0)) < LEAST_JUMP_M:
        return None
    return np.asarray(np.diff(_turned(xy, track.position_m[:, :2], good), axis=0))


def _inside(stamps_ns: Int64, body: Trajectory) -> Int64:
    """The stamps, those beyond the ends of the body's way moved to them: there it stands still."""
    return np.clip(stamps_ns, body.stamps_ns[0], body.stamps_ns[-1])


def _turned(xy: Float64, fixes: Float64, good: Any) -> Float64:
    """The way `xy` (N, 2) turned to lie on the fixes best: the poses' north need not be north.

    By steps between fixes some apart, each weighted no more than its usual length, so that jumps do not turn it.
    """
    apart = max(1, len(xy) // 20)
    a, b = xy[apart:] - xy[:-apart], fixes[apart:] - fixes[:-apart]
    a, b = a[good[apart:] & good[:-apart]], b[good[apart:] & good[:-apart]]
    turn = (a[:, 0] + 1j * a[:, 1]).conj() * (b[:, 0] + 1j * b[:, 1])
    usual = np.median(np.abs(turn)) or 1.0
    angle = np.angle(np.sum(turn / np.maximum(np.abs(turn), usual)))
    c, s = np.cos(angle), np.sin(angle)
    return np.asarray(xy @ np.array([[c, s], [-s, c]]))


def _lasts(track: FixTrack, moved_m: Float64 | None, i: int, limit_m: float) -> bool:
    """Whether fixes stay shifted after the step from fix i to i + 1."""
    xy = track.position_m[:, :2]
    way = np.concatenate([np.zeros((1, 2)), np.cumsum(moved_m, axis=0)]) if moved_m is not None else np.zeros_like(xy)
    rest = xy - way
    before, after = rest[max(0, i + 1 - _NEIGHBOURS) : i + 1], rest[i + 1 : i + 1 + _NEIGHBOURS]
    if min(len(before), len(after)) < _NEIGHBOURS or moved_m is None:
        return False
    return bool(np.linalg.norm(np.median(after, axis=0) - np.median(before, axis=0)) > limit_m)
