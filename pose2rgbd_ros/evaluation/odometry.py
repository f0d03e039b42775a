"""Visual odometry against a reference, to the digit as the public tools measure it.

Three families of figures, which are not comparable with each other: errors of segments of 100 to 800 m and their mates
(KITTI; Zhan's kitti-odom-eval and its alignments), the absolute and relative errors of TUM RGB-D (Sturm et al. 2012),
and the error of snippets of five frames (SfMLearner). Matrices are taken as they were written: a trajectory file of
seven digits holds rotations that are off by 1e-7, and the angle of a step of 0.04 degrees depends on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.formats.trajectories import PoseList
from pose2rgbd_ros.geometry.arrays import Bool, Float64, Int64
from pose2rgbd_ros.geometry.se3 import umeyama
from pose2rgbd_ros.geometry.trajectory import mutual_nearest
from pose2rgbd_ros.settings import setting

Alignment = Literal["none", "scale", "scale_7dof", "6dof", "7dof"]
ALIGNMENTS: dict[str, str] = {
    "none": "the first frames laid on each other",
    "scale": "first frames laid on each other, and one factor: sum(p_est p_ref) / sum(p_est^2)",
    "scale_7dof": "first frames laid on each other, and the factor of 7dof without its motion",
    "6dof": "one rigid motion of all positions (Umeyama)",
    "7dof": "one rigid motion and one factor of all positions (Umeyama); for what has no scale of its own",
}
LEAST_POSES = 3
TINY_M2 = 1e-18  # squares of all positions of an estimate that stands still


@dataclass(frozen=True)
class OdometryProtocol:
    """How odometry is measured; the defaults are KITTI's, TUM's and SfMLearner's."""

    alignment: Alignment = setting("7dof", "how the estimate is laid on the reference in the plots and the verdict")
    lengths_m: tuple[float, ...] = setting(
        (100.0, 200.0, 300.0, 400.0, 500.0, 600.0, 700.0, 800.0), "lengths of the segments of t_err and r_err"
    )
    start_every: int = setting(10, "a segment begins at every such frame of the reference", ge=1)
    delta_s: float = setting(0.0, "seconds over which relative errors are taken; 0: from frame to frame", ge=0)
    snippet: int = setting(5, "frames of a snippet", ge=2)

    def __post_init__(self) -> None:
        if not self.lengths_m or min(self.lengths_m) <= 0:
            raise UserError(f"lengths_m is {self.lengths_m}; give one length or several, all above 0")


@dataclass(frozen=True)
class PairingSettings:
    """How poses find their partners."""

    max_difference_s: float = setting(0.01, "largest time between two poses that belong together", ge=0)
    time_offset_s: float = setting(0.0, "added to the estimate's stamps")


@dataclass(frozen=True, eq=False)
class Paired:
    """An estimate beside its reference.

    Attributes:
        T_ref: (M, 4, 4) all poses of the reference, along which lengths are measured.
        T_est: (N, 4, 4) poses of the estimate that have a partner, in its own world.
        partner: (N,) the number in the reference of each one's, increasing.
        follows: (N - 1,) whether the next pose is that of the frame right after, with nothing missing between.
        seconds: (N,) time of each pose; None: frames are only numbered.
    """

    T_ref: Float64
    T_est: Float64
    partner: Int64
    follows: Bool
    seconds: Float64 | None = None

    @classmethod
    def of(cls, T_ref: Float64, T_est: Float64, partner: Int64 | None = None) -> Paired:
        """Of numbered frames; without `partner` each pose has one. UserError: fewer than three, or no partners."""
        if partner is None and len(T_ref) != len(T_est):
            raise UserError(f"{len(T_est)} poses against {len(T_ref)} of the reference: say which belongs to which")
        partner = np.arange(len(T_est)) if partner is None else np.asarray(partner)
        if len(partner) < LEAST_POSES:
            raise UserError(f"{len(partner)} poses in common; {LEAST_POSES} are needed to compare trajectories")
        return cls(T_ref, T_est, partner, np.diff(partner) == 1)

    def __len__(self) -> int:
        return len(self.partner)

    @property
    def length_m(self) -> float:
        """Of the whole reference."""
        return float(_distances(self.T_ref)[-1])


BREAK = 2.5  # times the usual interval of the estimate: then frames are missing


def pair(
    reference: PoseList, estimate: PoseList, settings: PairingSettings = PairingSettings()
) -> tuple[Paired, list[str]]:
    """The poses that belong together, by frame number or by the nearest time, and in words what is missing.

    Of stamped trajectories those that are each other's nearest by the settings; the reference is then its poses that
    have a partner.

    Raises:
        UserError: one is stamped and the other numbered, or fewer than three belong together.
    """
    ref, est = reference.key, estimate.key
    if reference.is_timed != estimate.is_timed:
        numbered = estimate if reference.is_timed else reference
        raise UserError(f"{numbered.path} has no stamps, and the other has; give its times (--times FILE, one a frame)")
    if not reference.is_timed:
        _, theirs, ours = np.intersect1d(ref, est, return_indices=True)
    else:
        est = est + round(settings.time_offset_s * 1e9)
        theirs, ours = mutual_nearest(ref, est, round(settings.max_difference_s * 1e9))
    if len(ours) < LEAST_POSES:
        raise UserError(
            f"{estimate.path} and {reference.path} have {counted(len(ours), 'pose')} in common: "
            + (
                f"{_span(est)} against {_span(ref)}, {settings.max_difference_s:g} s apart at most; --time-offset-s, "
                "--max-difference-s"
                if reference.is_timed
                else f"frames {est[0]} to {est[-1]} against {ref[0]} to {ref[-1]}"
            )
        )
    notes = [
        f"{counted(len(poses) - len(ours), 'pose')} of {len(poses)} of the {what} have no partner"
        for what, poses in (("estimate", estimate), ("reference", reference))
        if len(ours) < len(poses) and (what == "estimate" or not reference.is_timed)
    ]
    if not reference.is_timed:
        return Paired(reference.T_world_cam, estimate.T_world_cam[ours], theirs, np.diff(theirs) == 1), notes
    seconds = (ref[theirs] - ref[theirs[0]]) / 1e9
    intervals = np.diff(seconds)
    follows = intervals <= BREAK * np.median(intervals)
    if not follows.all():
        at = int(intervals.argmax())
        notes.append(
            f"{counted(int((~follows).sum()), 'gap')}, the longest of {intervals[at]:.3g} s after {seconds[at]:.6g} s; "
            "steps and snippets across one are left out"
        )
    T_ref, T_est = reference.T_world_cam[theirs], estimate.T_world_cam[ours]
    return Paired(T_ref, T_est, np.arange(len(ours)), follows, seconds), notes


def _span(stamps_ns: Int64) -> str:
    return f"{stamps_ns[0] / 1e9:.3f} to {stamps_ns[-1] / 1e9:.3f} s"


@dataclass(frozen=True, eq=False)
class Aligned:
    """Both trajectories in the reference's first common frame, the estimate aligned and sized by `scale`.

    The scale is NaN where one was wanted of an estimate that stands still.
    """

    paired: Paired
    T_ref: Float64
    T_est: Float64
    scale: float

    @property
    def T_partner(self) -> Float64:
        """(N, 4, 4) of the reference, one for each pose of the estimate."""
        return self.T_ref[self.paired.partner]


def align(paired: Paired, alignment: Alignment) -> Aligned:
    """The estimate laid on the reference (kitti-odom-eval); the alignments are in ALIGNMENTS.

    As there, the first common frames are laid on each other before anything else, which 6dof and 7dof forget again.
    UserError for an unknown alignment.
    """
    if alignment not in get_args(Alignment):
        raise UserError(f"alignment is {alignment!r}; choose from {', '.join(ALIGNMENTS)}")
    T_ref = np.linalg.inv(paired.T_ref[paired.partner[0]]) @ paired.T_ref
    T_est = np.linalg.inv(paired.T_est[0]) @ paired.T_est
    theirs, ours = T_ref[paired.partner][:, :3, 3], T_est[:, :3, 3]
    scale, motion = 1.0, np.eye(4)
    if alignment == "scale":
        scale = float((ours * theirs).sum()) / max(float((ours**2).sum()), TINY_M2)
    elif alignment != "none":
        scale, motion[:3, :3], motion[:3, 3] = umeyama(ours, theirs, with_scale=alignment != "6dof")
    T_est[:, :3, 3] *= scale
    if alignment in ("6dof", "7dof"):
        T_est = motion @ T_est
    if alignment not in ("none", "6dof") and float((ours**2).sum()) < TINY_M2:
        scale = float("nan")
    return Aligned(paired, T_ref, T_est, scale)


# KITTI: errors of segments.


@dataclass(frozen=True, eq=False)
class Segments:
    """Errors of S segments: first, last (S,) frames of the reference; length_m (S,) as asked for; t_err (S,) metres of
    error in a metre, r_err (S,) radians in a metre."""

    first: Int64
    last: Int64
    length_m: Float64
    t_err: Float64
    r_err: Float64

    def means(self) -> tuple[float, float]:
        """t_err in percent and r_err in degrees in 100 m; NaN of none, where the tool writes a flattering 0."""
        if len(self.first) == 0:
            return float("nan"), float("nan")
        return float(self.t_err.mean() * 100), float(np.degrees(self.r_err.mean()) * 100)

    def by_length(self) -> list[tuple[float, int, float, float]]:
        """For each length: metres, segments, mean t_err (%), mean r_err (degrees in 100 m)."""
        found = []
        for length in np.unique(self.length_m):
            of = self.length_m == length
            part = Segments(self.first[of], self.last[of], self.length_m[of], self.t_err[of], self.r_err[of])
            found.append((float(length), int(of.sum()), *part.means()))
        return found


def segment_errors(aligned: Aligned, lengths_m: tuple[float, ...], start_every: int = 10) -> Segments:
    """Errors over segments of the reference (KITTI odometry; Geiger et al. 2012).

    A segment begins at every tenth frame and ends at the first one that lies further along the reference's path than
    its length. Where the estimate lacks either frame there is no segment.
    """
    distance = _distances(aligned.T_ref)
    starts = np.arange(0, len(distance), start_every)
    first, length = np.repeat(starts, len(lengths_m)), np.tile(np.asarray(lengths_m, np.float64), len(starts))
    last = np.searchsorted(distance, distance[first] + length, side="right")
    number = np.full(len(distance) + 1, -1)  # of the estimate's pose; the last entry: beyond the end
    number[aligned.paired.partner] = np.arange(len(aligned.paired))
    usable = (number[first] >= 0) & (number[last] >= 0)
    first, last, length = first[usable], last[usable], length[usable]
    step_ref = np.linalg.inv(aligned.T_ref[first]) @ aligned.T_ref[last]
    step_est = np.linalg.inv(aligned.T_est[number[first]]) @ aligned.T_est[number[last]]
    metres, angle = _size(np.linalg.inv(step_est) @ step_ref)
    return Segments(first, last, length, metres / length, angle / length)


# From frame to frame, and all along.


def absolute_errors(aligned: Aligned) -> Float64:
    """(N,) metres between each aligned position and its partner; ATE is their root mean square (TUM RGB-D)."""
    return np.asarray(np.linalg.norm(aligned.T_partner[:, :3, 3] - aligned.T_est[:, :3, 3], axis=1))


def relative_errors(aligned: Aligned, delta_s: float = 0.0) -> tuple[Float64, Float64]:
    """Errors of the motion from frame to frame, or over `delta_s` seconds: metres (P,) and radians (P,).

    Pairs with a missing frame between them are left out, as are those whose time is off by more than half a frame.
    RPE is their mean at kitti-odom-eval, their root mean square at TUM RGB-D.
    """
    start, end = _steps(aligned.paired, delta_s)
    ref, est = aligned.T_partner, aligned.T_est
    step_ref = np.linalg.inv(ref[start]) @ ref[end]
    step_est = np.linalg.inv(est[start]) @ est[end]
    return _size(np.linalg.inv(step_ref) @ step_est)


def _steps(paired: Paired, delta_s: float) -> tuple[Int64, Int64]:
    """Numbers (P,) of the poses between which relative errors are taken."""
    if delta_s == 0:
        start = np.flatnonzero(paired.follows)
        return start, start + 1
    if paired.seconds is None:
        raise UserError("relative errors over a time need stamps, and these frames are only numbered; set delta-s to 0")
    seconds = paired.seconds
    half_frame_s = float(np.median(np.diff(seconds))) / 2
    wanted = seconds + delta_s
    after = np.clip(np.searchsorted(seconds, wanted), 1, len(seconds) - 1)
    end = np.where(wanted - seconds[after - 1] <= seconds[after] - wanted, after - 1, after)
    start = np.flatnonzero((np.abs(seconds[end] - wanted) <= half_frame_s) & (end > np.arange(len(seconds))))
    return start, end[start]


# SfMLearner: snippets.


@dataclass(frozen=True, eq=False)
class Snippets:
    """Errors of S snippets: ate_m (S,), rotation_rad (S,), and the factor (S,) that sized each one."""

    ate_m: Float64
    rotation_rad: Float64
    scale: Float64


def snippet_errors(T_ref: Float64, T_est: Float64) -> Snippets:
    """Errors of snippets (S, N, 4, 4) as SfMLearner counts them (Zhou et al. 2017, Table 3; its kitti_eval).

    Each begins at its first frame and has a factor of its own, sum(p_ref p_est) / sum(p_est^2). The error is
    sqrt(sum of squares) / N, which is no root mean square but sqrt(N) times smaller. The rotation's error is the mean
    angle over the N frames, the first one's zero among them (SfMLearner's port to PyTorch).
    """
    ref, est = (np.linalg.inv(T[:, :1]) @ T for T in (T_ref, T_est))
    theirs, ours = ref[..., :3, 3], est[..., :3, 3]
    squares = (ours**2).sum(axis=(1, 2))
    scale = np.divide((ours * theirs).sum(axis=(1, 2)), squares, out=np.zeros_like(squares), where=squares > 0)
    count = ref.shape[1]
    ate_m = np.sqrt(((scale[:, None, None] * ours - theirs) ** 2).sum(axis=(1, 2))) / count
    turn = ref[..., :3, :3] @ np.linalg.inv(est[..., :3, :3])
    off = np.stack([turn[..., i, j] - turn[..., j, i] for i, j in ((0, 1), (1, 2), (0, 2))])
    angle = np.arctan2(np.linalg.norm(off, axis=0), np.trace(turn, axis1=-2, axis2=-1) - 1)
    return Snippets(ate_m, angle.sum(axis=1) / count, scale)


def snippets_of(paired: Paired, frames: int) -> tuple[Float64, Float64]:
    """All runs of so many frames without one missing: (S, N, 4, 4) of the reference and of the estimate.

    1587 of the 1591 frames of KITTI 09 begin one of five.
    """
    broken = np.concatenate([[0], np.cumsum(~paired.follows)])
    first = np.arange(max(len(paired) - frames + 1, 0))
    first = first[broken[first] == broken[first + frames - 1]]
    runs = first[:, None] + np.arange(frames)
    return paired.T_ref[paired.partner][runs], paired.T_est[runs]


def odometry_metrics(paired: Paired, settings: OdometryProtocol = OdometryProtocol()) -> dict[str, float]:
    """All figures of an estimate under one alignment; NaN where nothing can be said.

    t_err_percent, r_err_deg_100m and their number of segments, ate_m, rpe_m, rpe_deg: kitti-odom-eval (RPE: means).
    ate_mean_m, ate_median_m, ate_max_m, rpe_rmse_m, rpe_rmse_deg: TUM RGB-D, evo. snippet_*: SfMLearner; they have a
    scale of their own and do not depend on the alignment. scale: metres in one unit of the estimate.
    """
    aligned = align(paired, settings.alignment)
    segments = segment_errors(aligned, settings.lengths_m, settings.start_every)
    t_err, r_err = segments.means()
    absolute = absolute_errors(aligned)
    metres, angle = relative_errors(aligned, settings.delta_s)
    snippets = snippet_errors(*snippets_of(paired, settings.snippet))
    return {
        "t_err_percent": t_err,
        "r_err_deg_100m": r_err,
        "segments": len(segments.first),
        "ate_m": _rms(absolute),
        "ate_mean_m": float(absolute.mean()),
        "ate_median_m": float(np.median(absolute)),
        "ate_max_m": float(absolute.max()),
        "rpe_m": _mean(metres),
        "rpe_deg": float(np.degrees(_mean(angle))),
        "rpe_rmse_m": _rms(metres),
        "rpe_rmse_deg": float(np.degrees(_rms(angle))),
        "snippet_ate_m": _mean(snippets.ate_m),
        "snippet_ate_std_m": float(snippets.ate_m.std()) if len(snippets.ate_m) else float("nan"),
        "snippet_rotation_rad": _mean(snippets.rotation_rad),
        "snippet_rotation_std_rad": float(snippets.rotation_rad.std()) if len(snippets.ate_m) else float("nan"),
        "snippets": len(snippets.ate_m),
        "scale": aligned.scale,
        "poses": len(paired),
    }


def _distances(T: Float64) -> Float64:
    """(M,) metres along the path of poses (M, 4, 4), added up from the first on."""
    steps = np.sqrt((np.diff(T[:, :3, 3], axis=0) ** 2).sum(axis=1))
    return np.concatenate([[0.0], np.cumsum(steps)])


def _size(T: Float64) -> tuple[Float64, Float64]:
    """Metres (...) and angles (...) of motions; the angle by its cosine, whose floor is 1e-8 rad."""
    cosine = (np.trace(T[..., :3, :3], axis1=-2, axis2=-1) - 1) / 2
    return np.linalg.norm(T[..., :3, 3], axis=-1), np.arccos(np.clip(cosine, -1, 1))


def _mean(values: Float64) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _rms(values: Float64) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else float("nan")
