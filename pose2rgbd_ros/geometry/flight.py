"""How a recording is flown again: as it was, or, where photographs are too far apart in time, along a smooth path.

The live player and the report's video fly the same path.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Bool, Float64, Int64
from pose2rgbd_ros.geometry.trajectory import Interpolated, Method, Trajectory
from pose2rgbd_ros.settings import setting

SPARSE_S = 0.5  # poses further apart (median) are too few to be interpolated at their own times
PAUSE_NS = 5_000_000_000  # longer silences between poses are not played
TURN_DEG_S = 60.0  # no turn of a smooth path is quicker on average
REACH_STEPS = 1.5  # ground is photographed as far from a photograph, in usual steps
USUAL_SHARE, MOVING_SHARE = 0.75, 0.1


@dataclass
class FlightSettings:
    """The smooth path through photographs that are far apart in time."""

    smooth: bool = setting(
        True,
        "fly a smooth path through the frames of a dataset that are too far apart to be interpolated in time (more "
        "than 0.5 s, median); false: play them at their times",
        read_only=True,
    )
    rate_hz: float = setting(
        10.0, "poses of that path a second; those of the frames are among them", ge=1.0, le=100.0, read_only=True
    )
    step_s: float = setting(
        1.0, "seconds from frame to frame at their usual distance; less where they were quicker", ge=0.1, le=60.0,
        read_only=True,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Flight:
    """When each of N recorded poses is passed, and the poses between them.

    passed_ns: int64 (N,), increasing. spans_ns: the stretches (first, last) that are flown, in order. period_ns: time
    between the poses of a smooth path, on whose grid `passed_ns` lies; None: flown as recorded. line: what to say of a
    smooth path.
    """

    passed_ns: Int64
    spans_ns: list[tuple[int, int]]
    trajectory: Trajectory
    max_gap_ns: int
    method: Method = "linear"
    period_ns: int | None = None
    line: str = ""

    def poses(self, stamps_ns: Int64) -> Interpolated:
        """The poses at times (M,); exactly the recorded one where it is passed, none in a gap."""
        return self.trajectory.interpolate(stamps_ns, self.max_gap_ns, self.method)


def plan_flight(
    stamps_ns: Int64, T_map_cam: Float64, settings: FlightSettings | None = None, max_gap_s: float = SPARSE_S
) -> Flight:
    """The flight through recorded poses: T_map_cam (N, 4, 4) at increasing stamps (N,), N >= 1.

    A sparse recording is flown smoothly unless the settings forbid it, any other at its own times, with no pose in
    silences of more than `max_gap_s`.
    """
    settings = settings or FlightSettings()
    if settings.smooth and len(stamps_ns) > 1 and float(np.median(np.diff(stamps_ns))) > SPARSE_S * 1e9:
        return _smooth(stamps_ns, T_map_cam, settings)
    track = Trajectory(stamps_ns, *se3.split(T_map_cam))
    return Flight(stamps_ns, spans(stamps_ns), track, int(max_gap_s * 1e9))


def spans(stamps_ns: Int64, breaks: Bool | None = None) -> list[tuple[int, int]]:
    """First and last stamp of each stretch of (N,) sorted stamps between `breaks` (N - 1,); None: the long pauses."""
    at = np.flatnonzero(np.diff(stamps_ns) > PAUSE_NS if breaks is None else breaks)
    first, last = np.r_[0, at + 1], np.r_[at, len(stamps_ns) - 1]
    return [(int(stamps_ns[i]), int(stamps_ns[j])) for i, j in zip(first, last, strict=True)]


def _smooth(stamps_ns: Int64, T_map_cam: Float64, settings: FlightSettings) -> Flight:
    """Through the poses in the order they were taken, at an even speed.

    A long way or turn gets poses on its straight line, a usual step apart at most, so that the cubic curve, which
    weighs the poses before and after, is smooth there too. The frames are passed on the grid of the poses sent.
    """
    recorded_ns = np.diff(stamps_ns)
    period_ns = int(1e9 / settings.rate_hz)
    step_s = min(settings.step_s, float(np.median(recorded_ns)) / 1e9)
    moved_m, turned_rad = se3.apart(T_map_cam[:-1], T_map_cam[1:])
    usual_m = _usual_step(moved_m)
    steps = np.maximum(moved_m / usual_m, np.degrees(turned_rad) / TURN_DEG_S / step_s)
    steps = np.maximum(steps, 0.5)  # a frame at the place of the one before has its time too
    periods = np.ceil(steps * step_s * 1e9 / period_ns - 1e-6).astype(np.int64)
    flown = _over_photographed(T_map_cam[:, :3, 3], usual_m)
    gap_ns = int(step_s * 1e9) + period_ns  # no two poses on the path are further apart
    periods[~flown] = 2 * gap_ns // period_ns
    passed_ns = stamps_ns[0] + np.r_[0, np.cumsum(periods)] * period_ns

    parts = np.ceil(steps - 1e-6).astype(np.int64)
    inner = [
        np.linspace(passed_ns[i], passed_ns[i + 1], parts[i] + 1)[1:-1].astype(np.int64) for i in np.flatnonzero(flown)
    ]
    straight = Trajectory(passed_ns, *se3.split(T_map_cam))
    knots_ns = np.union1d(passed_ns, np.concatenate([*inner, passed_ns[:0]]))
    path = Trajectory(knots_ns, *se3.split(straight.interpolate(knots_ns).T))
    line = (
        f"frames {np.median(recorded_ns) / 1e9:.1f} s and {usual_m:.3g} m apart are flown as one smooth path of "
        f"{(passed_ns[-1] - passed_ns[0]) / 1e9:.0f} s, "
        f"{recorded_ns[flown].sum() / max(np.diff(passed_ns)[flown].sum(), 1):.1f} times as fast as they were taken"
    )
    if not flown.all():
        line += f"; ways over ground without photographs are left out: {np.count_nonzero(~flown)}"
    return Flight(passed_ns, spans(passed_ns, ~flown), path, gap_ns, "cubic", period_ns, line)


def _usual_step(moved_m: Float64) -> float:
    """The median of the steps (N,) at which the camera moved: several photographs of one place are no steps."""
    moving = moved_m > MOVING_SHARE * np.quantile(moved_m, USUAL_SHARE)
    return float(np.median(moved_m[moving])) if moving.any() else 1.0


def _over_photographed(position_m: Float64, usual_m: float) -> Bool:
    """(N - 1,) whether the straight way between positions (N, 3) stays near one of them all along."""
    tree, near = cKDTree(position_m), np.ones(len(position_m) - 1, dtype=np.bool_)
    way_m = np.diff(position_m, axis=0)
    for i in np.flatnonzero(np.linalg.norm(way_m, axis=1) > 2 * REACH_STEPS * usual_m):
        count = min(int(2 * np.linalg.norm(way_m[i]) / usual_m), 1000)
        between_m = position_m[i] + np.linspace(0.0, 1.0, count + 1)[:, None] * way_m[i]
        near[i] = tree.query(between_m)[0].max() <= REACH_STEPS * usual_m
    return near
