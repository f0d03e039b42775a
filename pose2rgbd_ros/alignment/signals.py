"""Vectors over time, and their values on an even grid: Gaussian means and slopes that know their gaps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse
from scipy.spatial.transform import Rotation

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Bool, Float64, Int64
from pose2rgbd_ros.geometry.geodesy import Datum, wgs84_to_enu
from pose2rgbd_ros.geometry.trajectory import Trajectory
from pose2rgbd_ros.streams.samples import FixSample

SECOND = 1_000_000_000
_SILENCE_NS = 3600 * SECOND  # after a longer one a few stamps are taken for wrong
_REACH = 3.5  # how many widths of the Gaussian count


@dataclass(frozen=True, eq=False)
class Samples:
    """Values (N, K) at strictly increasing `stamps_ns` (N,) int64; rows that are not finite are left out.

    UserError for shapes that do not fit. Stamps out of order are sorted, of equal ones the first stays.
    """

    stamps_ns: Int64
    values: Float64

    def __post_init__(self) -> None:
        stamps = np.asarray(self.stamps_ns, dtype=np.int64).reshape(-1)
        values = np.asarray(self.values, dtype=np.float64)
        values = values[:, None] if values.ndim == 1 else values
        if values.ndim != 2 or len(values) != len(stamps):
            raise UserError(f"samples need stamps (N,) and values (N, K), not {stamps.shape} and {values.shape}")
        finite = known_rows(values)
        stamps, first = np.unique(stamps[finite], return_index=True)
        object.__setattr__(self, "stamps_ns", stamps)
        object.__setattr__(self, "values", values[finite][first])

    def __len__(self) -> int:
        return len(self.stamps_ns)

    @property
    def period_s(self) -> float:
        """Median time between samples; NaN for fewer than two."""
        return float(np.median(np.diff(self.stamps_ns))) / SECOND if len(self) > 1 else float("nan")

    @property
    def duration_s(self) -> float:
        """From the first sample to the last."""
        return float(self.stamps_ns[-1] - self.stamps_ns[0]) / SECOND if len(self) else 0.0

    def chosen(self, mask: Bool) -> Samples:
        """Those of a mask (N,)."""
        return Samples(self.stamps_ns[mask], self.values[mask])

    def seconds(self, origin_ns: int) -> Float64:
        """The stamps (N,) in seconds since `origin_ns`."""
        return (self.stamps_ns - origin_ns) / SECOND


def main_part(stamps_ns: Int64) -> Bool:
    """Which stamps (N,), in order, are not a few that lie an hour and more from all others, as one of 1970 does.

    Groups parted by such silences count if they hold a twentieth of the stamps; the largest always does.
    """
    if not len(stamps_ns):
        return np.zeros(0, dtype=bool)
    group = np.concatenate([[0], np.cumsum(np.diff(stamps_ns) > _SILENCE_NS)])
    size = np.bincount(group)
    return np.asarray((size >= min(0.05 * len(stamps_ns), size.max()))[group], dtype=bool)


def known_rows(values: Float64) -> Bool:
    """Which rows (N,) of (N, K) are finite throughout."""
    return np.asarray(np.isfinite(values).all(axis=1))


def gaussian_mean(
    time_s: Float64, values: Float64, at_s: Float64, width_s: float, weight: Float64 | None = None
) -> Float64:
    """Means (M, K) of `values` (N, K) about the times `at_s` (M,), weighted by a Gaussian; NaN where there are none.

    NaN too where the samples lie all on one side: at the ends and in gaps longer than about two widths.
    """
    time_s, values, weight = _thinned(time_s, values, weight, width_s)
    kernel, lag = _kernel(time_s, at_s, width_s)
    if weight is not None:
        kernel = kernel.multiply(weight[None, :]).tocsr()
    mass = np.asarray(kernel.sum(axis=1)).ravel()
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (kernel @ values) / mass[:, None]
    mean[~_supported(kernel, lag, mass, width_s)] = np.nan
    return np.asarray(mean, dtype=np.float64)


def gaussian_slope(time_s: Float64, values: Float64, at_s: Float64, width_s: float) -> Float64:
    """Slopes (M, K) per second of `values` (N, K): a straight line fitted about each time of `at_s`, Gaussian weights.

    On even samples this is exactly the Gaussian mean of the derivative, of the same width: slopes of positions and
    means of velocities are comparable, and neither lags. NaN as in `gaussian_mean`.
    """
    kernel, lag = _kernel(time_s, at_s, width_s)
    mass = np.asarray(kernel.sum(axis=1)).ravel()
    first = kernel.multiply(lag).tocsr()
    s1 = np.asarray(first.sum(axis=1)).ravel()
    s2 = np.asarray(first.multiply(lag).sum(axis=1)).ravel()
    with np.errstate(invalid="ignore", divide="ignore"):
        determinant = mass * s2 - s1**2
        slope = (mass[:, None] * (first @ values) - s1[:, None] * (kernel @ values)) / determinant[:, None]
    slope[~_supported(kernel, lag, mass, width_s) | ~(determinant > 1e-12 * mass**2)] = np.nan
    return np.asarray(slope, dtype=np.float64)


def _thinned(
    time_s: Float64, values: Float64, weight: Float64 | None, width_s: float
) -> tuple[Float64, Float64, Float64 | None]:
    """Fewer samples where there are many more than the Gaussian can resolve: means of a sixth of its width."""
    if len(time_s) < 100 or (time_s[-1] - time_s[0]) / len(time_s) > width_s / 18:
        return time_s, values, weight
    part = np.floor((time_s - time_s[0]) / (width_s / 6)).astype(np.int64)
    first = np.flatnonzero(np.diff(part, prepend=-1))
    mass = np.ones(len(time_s)) if weight is None else weight
    total = np.add.reduceat(mass, first)
    mean = np.add.reduceat(values * mass[:, None], first, axis=0) / total[:, None]
    return np.add.reduceat(time_s * mass, first) / total, mean, total


def _kernel(time_s: Float64, at_s: Float64, width_s: float) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """Gaussian weights (M, N) of samples about times, and the samples' times from there; within reach only."""
    begin = np.searchsorted(time_s, at_s - _REACH * width_s)
    end = np.searchsorted(time_s, at_s + _REACH * width_s, side="right")
    count = end - begin
    pointer = np.concatenate([[0], np.cumsum(count)])
    column = np.arange(pointer[-1]) - np.repeat(pointer[:-1] - begin, count)
    lag = time_s[column] - np.repeat(at_s, count)
    shape = (len(at_s), len(time_s))
    weights = np.exp(-0.5 * (lag / width_s) ** 2)
    return (
        sparse.csr_matrix((weights, column, pointer), shape=shape),
        sparse.csr_matrix((lag, column, pointer), shape=shape),
    )


def _supported(kernel: sparse.csr_matrix, lag: sparse.csr_matrix, mass: Float64, width_s: float) -> Bool:
    """Where the weighted samples lie about the time, not beside it."""
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = np.asarray(kernel.multiply(lag).sum(axis=1)).ravel() / mass
    return np.asarray((mass > 0.3) & (np.abs(centre) < 0.5 * width_s))


# How the vehicle moved: its velocity from GPS, odometry or poses, and how it turned.


_VELOCITY_NOISE_MPS = 0.15  # positions are smoothed until their slope is about as good as this
_SHORTEST_S, _LONGEST_S = 0.1, 1.5  # widths of that smoothing
_SLOW_MPS = 0.5  # below, a course says little


@dataclass(frozen=True, eq=False)
class MotionSignal:
    """Velocity from `velocities` (N, 3) m/s where given, else from the slope of `positions` (N, 3) m.

    `noise_m`: white noise of the positions, per axis. `rates`: angular velocities (N, 3) rad/s in axes fixed to the
    body (or to the camera), None where unknown. `of_body`: the velocities are along the body's axes. `two_clocks`: the
    rates are another sensor's. UserError when there is neither velocity nor position.
    """

    source: str
    positions: Samples | None = None
    velocities: Samples | None = None
    rates: Samples | None = None
    noise_m: float = 0.0
    of_body: bool = False
    two_clocks: bool = False

    def __post_init__(self) -> None:
        if len(self._base) < 3:
            raise UserError(f"{self.source}: {len(self._base)} usable samples; motion needs at least 3")

    @property
    def _base(self) -> Samples:
        base = self.velocities if self.velocities is not None else self.positions
        if base is None:
            raise UserError(f"{self.source}: neither velocity nor position is known")
        return base

    @property
    def stamps_ns(self) -> Int64:
        """Of the samples (N,)."""
        return self._base.stamps_ns

    @property
    def smoothing_s(self) -> float:
        """The least width of the Gaussian over which velocities are known: what rate and noise of the source allow."""
        period_s = self._base.period_s
        width_s = 0.7 * period_s
        if self.velocities is None:
            noise = (self.noise_m / _VELOCITY_NOISE_MPS) ** 2
            width_s = max(width_s, float(np.cbrt(noise * period_s / (4 * np.sqrt(np.pi)))))
        return float(np.clip(width_s, _SHORTEST_S, max(_LONGEST_S, 0.7 * period_s)))

    def velocity(self, at_ns: Int64, width_s: float) -> Float64:
        """Velocity (M, 3) about times, averaged by a Gaussian of `width_s`; NaN in gaps."""
        origin_ns = int(self.stamps_ns[0])
        at_s, time_s = (at_ns - origin_ns) / SECOND, self._base.seconds(origin_ns)
        smooth = gaussian_slope if self.velocities is None else gaussian_mean
        return smooth(time_s, self._base.values, at_s, width_s)

    def turn_rates(self, at_ns: Int64, width_s: float) -> Float64 | None:
        """Angular velocity (M, 3) about times, likewise; None where nothing measured it."""
        if self.rates is None:
            return None
        origin_ns = int(self.stamps_ns[0])
        return gaussian_mean(self.rates.seconds(origin_ns), self.rates.values, (at_ns - origin_ns) / SECOND, width_s)

    def with_rates(self, rates: Samples) -> MotionSignal:
        """The same with the angular velocities of another sensor, whose clock is the same to some 10 ms."""
        return replace(self, rates=rates, two_clocks=True, source=f"{self.source}, turn rates of another sensor")

    def shifted(self, offset_ns: int) -> MotionSignal:
        """The same with `offset_ns` added to all stamps."""

        return self._each(lambda samples: Samples(samples.stamps_ns + offset_ns, samples.values))

    def within(self, first_ns: int, last_ns: int) -> MotionSignal:
        """The part between two stamps, inclusive. UserError when hardly anything is left."""
        return self._each(lambda s: s.chosen((s.stamps_ns >= first_ns) & (s.stamps_ns <= last_ns)))

    def _each(self, change: Callable[[Samples], Samples]) -> MotionSignal:
        def changed(samples: Samples | None) -> Samples | None:
            return None if samples is None else change(samples)

        return replace(
            self, positions=changed(self.positions), velocities=changed(self.velocities), rates=changed(self.rates)
        )


def course_rate(velocity_mps: Float64, step_s: float) -> Float64:
    """How fast the course over ground turns (M,), rad/s counter-clockwise, of velocities (M, 3) at even steps.

    It fades to 0 where the vehicle is too slow to have a course.
    """
    change = np.gradient(velocity_mps, step_s, axis=0) if len(velocity_mps) > 1 else np.zeros_like(velocity_mps)
    across = velocity_mps[:, 0] * change[:, 1] - velocity_mps[:, 1] * change[:, 0]
    squared = (velocity_mps[:, :2] ** 2).sum(axis=1)
    return np.asarray(across * squared / (squared + _SLOW_MPS**2) ** 2)


def motion_from_positions(source: str, stamps_ns: Int64, position_m: Float64) -> MotionSignal:
    """Motion from positions (N, 3). Outliers are left out; white noise is measured from the positions themselves."""
    samples = Samples(stamps_ns, position_m)
    if len(samples) >= 7:
        samples = Samples(samples.stamps_ns[_inliers(samples)], samples.values[_inliers(samples)])
    return MotionSignal(source, positions=samples, noise_m=_white_noise(samples))


def motion_from_fixes(source: str, fixes: Sequence[FixSample]) -> MotionSignal:
    """Motion from GPS fixes; see `from_coordinates`."""
    rows = np.array([(f.latitude_deg, f.longitude_deg, f.altitude_m) for f in fixes]).reshape(-1, 3)
    return motion_from_coordinates(source, np.array([f.stamp_ns for f in fixes], dtype=np.int64), rows)


def motion_from_coordinates(source: str, stamps_ns: Int64, lat_lon_alt: Float64) -> MotionSignal:
    """Motion from WGS-84 degrees and metres (N, 3). Rows without a position are left out; where any altitude is
    missing, none counts. UserError when no row is left.
    """
    known = known_rows(lat_lon_alt[:, :2])
    rows, stamps = lat_lon_alt[known], stamps_ns[known]
    if not len(rows):
        raise UserError(f"{source}: no usable fix among {len(known)}")
    altitude = rows[:, 2] if np.isfinite(rows[:, 2]).all() else np.zeros(len(rows))
    datum = Datum(float(rows[0, 0]), float(rows[0, 1]), float(altitude[0]))
    return motion_from_positions(source, stamps, wgs84_to_enu(rows[:, 0], rows[:, 1], altitude, datum))


def motion_from_velocities(
    source: str, stamps_ns: Int64, velocity_mps: Float64, rates_radps: Float64 | None = None, of_body: bool = False
) -> MotionSignal:
    """Motion from velocity messages (N, 3), with angular velocities (N, 3) where they are known."""
    rates = None if rates_radps is None else Samples(stamps_ns, rates_radps)
    return MotionSignal(source, velocities=Samples(stamps_ns, velocity_mps), rates=rates, of_body=of_body)


def motion_from_poses(source: str, stamps_ns: Int64, position_m: Float64, quat_xyzw: Float64) -> MotionSignal:
    """Motion from poses as recorded, (N, 3) and (N, 4): positions, and the turn rates of their orientations where these
    turn at all. UserError when no pose is usable."""
    trajectory, _ = Trajectory.from_unsorted(stamps_ns, position_m, quat_xyzw)
    return from_trajectory(source, trajectory)


def from_trajectory(source: str, trajectory: Trajectory) -> MotionSignal:
    """The same from poses that are in order."""
    motion = motion_from_positions(source, trajectory.stamps_ns, trajectory.position_m)
    rates = rates_of(trajectory.stamps_ns, trajectory.quat_xyzw)
    return replace(motion, rates=rates) if len(rates) and rates.values.any() else motion


def rates_of(stamps_ns: Int64, quat_xyzw: Float64) -> Samples:
    """Angular velocities between successive orientations (N, 4), in the turning axes, at the times in the middle."""
    stamps = np.asarray(stamps_ns, dtype=np.int64)
    if len(stamps) < 2:
        return Samples(np.zeros(0, np.int64), np.zeros((0, 3)))
    rotation = Rotation.from_quat(quat_xyzw)
    step_s = np.diff(stamps) / SECOND
    turned = (rotation[:-1].inv() * rotation[1:]).as_rotvec()
    return Samples(stamps[:-1] + np.diff(stamps) // 2, turned / step_s[:, None])


def _inliers(samples: Samples) -> np.ndarray:
    """Which positions lie where their neighbours say: within 6 sigma and 1 m of the median of the residuals."""
    time_s, values = samples.seconds(int(samples.stamps_ns[0])), samples.values
    keep = np.ones(len(samples), dtype=bool)
    for axis in range(values.shape[1]):
        # A straight line from two before to two after, the median of three such guesses.
        guesses = []
        for a, b in ((1, 1), (2, 2), (1, 2), (2, 1)):
            before, after = (
                np.maximum(np.arange(len(time_s)) - a, 0),
                np.minimum(np.arange(len(time_s)) + b, len(time_s) - 1),
            )
            share = (time_s - time_s[before]) / np.maximum(time_s[after] - time_s[before], 1e-9)
            guesses.append(values[before, axis] + share * (values[after, axis] - values[before, axis]))
        residual = np.abs(values[:, axis] - np.median(guesses, axis=0))
        keep &= residual <= max(1.0, 6 * 1.4826 * float(np.median(residual)))
    return keep


def _white_noise(samples: Samples) -> float:
    """Sigma per horizontal axis from third differences, which a smooth way does not have."""
    if len(samples) < 8:
        return 0.0
    third = np.diff(samples.values[:, :2], n=3, axis=0)
    return float(1.4826 * np.median(np.abs(third)) / np.sqrt(20.0))
