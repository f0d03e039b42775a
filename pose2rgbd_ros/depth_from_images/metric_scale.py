"""Metres in one unit of a camera's relative track, from recorded positions whose errors are as large as its steps.

Pose2RGBD, Algorithm 2 (FINDSCALE), with an interval. Between neighbouring frames GPS says nothing; over tens of metres
it says a lot. So all baselines count, each as far as the noise of the positions lets it and as far as the track keeps
its scale and heading over it (:mod:`~pose2rgbd_ros.depth_from_images.scale_fit`). Positions lie on all sides of the
path that is fitted to them, so that, unlike with lengths of noisy baselines, nothing comes out too long.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.ndimage import median_filter
from scipy.spatial.distance import pdist
from scipy.spatial.transform import Rotation
from scipy.special import ndtri

from pose2rgbd_ros.depth_from_images.scale_fit import Fitted, Legs, fit
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.geometry import se3
from pose2rgbd_ros.geometry.arrays import Bool, Float64, Int64
from pose2rgbd_ros.settings import check, setting

LARGEST_SCALE_SIGMA = 0.1  # of what has a scale less sure than that, depth has no metres
LEAST_FRAMES, LEAST_LEGS = 20, 8
MEDIAN_FRAMES = 9  # of positions in a row; one far from their median is wild
MOST_APART_DEG, CLEARLY_DEG, LEAST_TURN_DEG, LEAST_PAIRS = 35.0, 20.0, 12.0, 4
LONG = 4.0  # errors of a position: ways that are compared
_MAD = 1.4826  # median absolute deviation -> standard deviation of a normal distribution


@dataclass(frozen=True)
class ScaleSettings:
    """How metres are found, and when they are refused."""

    probability: float = setting(0.9, "with which the interval holds", ge=0.5, le=0.999)
    stretches: int = setting(60, "pieces of the flight whose positions are averaged", ge=10, le=400)
    samples: int = setting(120, "draws of how large errors are", ge=50)
    least_baseline: float = setting(8.0, "longest baseline, in errors of a position; below, nothing is said", ge=1)
    largest_sigma: float = setting(LARGEST_SCALE_SIGMA, "relative sigma of the scale; above, it is not given", ge=0)
    jump: float = setting(6.0, "sigmas of a step between positions from which they have jumped", ge=3)
    seed: int = setting(0, "of the draws")


class ScaleUnknown(UserError):
    """Nothing can be said of the scale; why, and what to do."""


@dataclass(frozen=True, eq=False)
class MetricScale:
    """Metres in one unit of a track and of the depth that it was found with.

    Attributes:
        metres_per_unit: of the flight as a whole: the median of the logarithm's mean over all frames.
        low, high: of the interval that holds it.
        probability: with which it does.
        frame_m: (N,) metres per unit at each frame; frame_sigma: (N,) relative standard deviation.
        drift: relative standard deviation of the frames' own units about the whole flight's.
        baselines: stretches of the flight, between averaged positions, that it rests on; baseline_m: their median
            length; way_m: of all.
        noise_m: standard deviation of one recorded position along an axis; lasting_m: the part of it that lasts.
        jumps: of the recorded positions, each of which begins anew.
        notes: what else was seen, in words.
    """

    metres_per_unit: float
    low: float
    high: float
    probability: float
    frame_m: Float64
    frame_sigma: Float64
    drift: float
    baselines: int
    baseline_m: float
    way_m: float
    noise_m: float
    lasting_m: float
    jumps: int
    notes: tuple[str, ...] = ()

    @property
    def sigma(self) -> float:
        """Relative standard deviation of the flight's scale: half the interval, as that of a normal distribution."""
        return float(np.log(self.high / self.low) / 2 / ndtri(0.5 + self.probability / 2))

    def facts(self) -> dict[str, Any]:
        """What meta.yaml keeps."""
        names = ("metres_per_unit", "low", "high", "probability", "drift", "baseline_m", "way_m", "noise_m")
        return {name: float(f"{getattr(self, name):.5g}") for name in names} | {"baselines": self.baselines}

    def summary(self) -> str:
        """One line for the terminal."""
        plus, minus = 100 * (self.high / self.metres_per_unit - 1), 100 * (1 - self.low / self.metres_per_unit)
        return (
            f"one unit is {self.metres_per_unit:.4g} m (+{plus:.2g} -{minus:.2g} %, with {self.probability:.0%}), from "
            f"{counted(self.baselines, 'baseline')} of {self.baseline_m:.3g} m along {self.way_m:.4g} m, positions off "
            f"by {self.noise_m:.2g} m; single frames deviate by {100 * self.drift:.2g} %"
        )


def metric_scale(
    T_start_cam: Float64,
    T_map_cam: Float64,
    stamps_ns: Int64,
    known: Bool | None = None,
    settings: ScaleSettings | None = None,
) -> MetricScale:
    """Metres in one unit of a track, by recorded poses.

    Args:
        T_start_cam: (N, 4, 4) of the track, in its own unit, chained from relative motions or of any other source.
        T_map_cam: (N, 4, 4) recorded, in metres, with whatever noise; NaN where there is no position.
        stamps_ns: (N,), ascending.
        known: (N - 1,) steps of the track that mean something; across the others it begins anew. None: all.

    Raises:
        ScaleUnknown: the camera hardly moved for the noise of the positions, positions are missing, track and poses
            have nothing to do with each other, or are in different conventions.
    """
    settings = settings or ScaleSettings()
    check(settings)
    stretches = _Stretches.of(T_start_cam, T_map_cam, stamps_ns, known, settings)
    found = stretches.scale(settings)
    other = _convention(stretches, found)
    if other is not None:
        raise ScaleUnknown(other)
    if isinstance(found, ScaleUnknown):
        raise found
    return found


@dataclass(frozen=True, eq=False)
class _Stretches:
    """A flight in stretches, each as a place with the mean of its positions.

    Attributes:
        T_start_cam, T_map_cam, stamps_ns, part: of N frames; `part` (N,) of the track they belong to.
        stretch: (N,) number of each frame's, -1 where its position is unknown or wild.
        legs: between the places.
        scatter_m: of the averaged positions, about.
    """

    T_start_cam: Float64
    T_map_cam: Float64
    stamps_ns: Int64
    part: Int64
    stretch: Int64
    legs: Legs
    scatter_m: float

    @classmethod
    def of(
        cls, T_start_cam: Float64, T_map_cam: Float64, stamps_ns: Int64, known: Bool | None, settings: ScaleSettings
    ) -> _Stretches:
        count = len(stamps_ns)
        part = np.zeros(count, np.int64)
        if known is not None:
            part[1:] = np.cumsum(~known)
        there = np.isfinite(T_map_cam).all(axis=(1, 2)) & np.isfinite(T_start_cam).all(axis=(1, 2))
        if np.count_nonzero(there) < LEAST_FRAMES:
            raise ScaleUnknown(
                f"{counted(int(np.count_nonzero(there)), 'frame')} of {count} with a recorded position; "
                f"{LEAST_FRAMES} are needed to compare the track with"
            )
        frames = np.flatnonzero(there)
        position, scatter_m = T_map_cam[frames, :3, 3], 0.0
        smooth = median_filter(position, (MEDIAN_FRAMES, 1), mode="nearest")
        off = np.linalg.norm(position - smooth, axis=1)
        step = np.median(np.linalg.norm(np.diff(position, axis=0), axis=1))
        frames = frames[off <= settings.jump * _MAD * np.median(off) + MEDIAN_FRAMES * step]
        wanted = min(settings.stretches, len(frames) // 2)
        # Of equal numbers of frames, and never across a break of the track.
        number = np.arange(len(frames)) * wanted // len(frames)
        _, number = np.unique(number + (wanted + 1) * part[frames], return_inverse=True)
        stretch = np.full(count, -1)
        stretch[frames] = number
        size = np.bincount(number)

        def mean(values: Float64) -> Float64:
            return np.stack([np.bincount(number, column) for column in values.T], axis=1) / size[:, None]

        seconds = (stamps_ns[frames] - stamps_ns[frames[0]]) / 1e9
        place_s, position = mean(seconds[:, None])[:, 0], T_map_cam[frames, :3, 3]
        place, x = mean(position), T_start_cam[frames, :3, 3]
        mean_x, in_part = mean(x), np.zeros(len(size), np.int64)
        in_part[number] = part[frames]
        start = np.flatnonzero((np.diff(in_part) == 0) & (np.diff(place_s) > 0))
        legs = Legs(place_s, place, mean_x[start + 1] - mean_x[start], start, (size[start] + size[start + 1]) / 2.0)
        if len(place) > 2:
            bent = place[2:] - 2 * place[1:-1] + place[:-2]
            scatter_m = float(_MAD * np.median(np.abs(bent)) / np.sqrt(6))
        return cls(T_start_cam, T_map_cam, stamps_ns, part, stretch, legs, scatter_m)

    def scale(self, settings: ScaleSettings) -> MetricScale | ScaleUnknown:
        """Metres per unit of the track, or why there are none."""
        way = np.linalg.norm(self.legs.leg, axis=1)
        if len(way) < LEAST_LEGS:
            return ScaleUnknown(
                f"the track holds together over {counted(len(way), 'stretch', 'stretches')} with recorded positions; "
                f"{LEAST_LEGS} are needed: too many gaps in the positions, or too many steps that pictures do not show"
            )
        if not way.sum() > 0:
            return ScaleUnknown("the track has no length: the camera only turned, or stood still, and shows no scale")
        readings = [self.legs, self._by_attitudes()]
        found = fit(readings, self.scatter_m, settings.jump, settings.samples, settings.seed)
        return self._judged(found, settings)

    def _judged(self, found: Fitted, settings: ScaleSettings) -> MetricScale | ScaleUnknown:
        noise_m, way_m = self._noise_m(found), float(np.linalg.norm(found.leg_m, axis=1).sum())
        place_m = np.vstack([np.zeros(3), np.cumsum(found.leg_m, axis=0)])
        reach_m = float(pdist(place_m).max())
        log_low, log_high = np.quantile(found.log_scale, 0.5 + np.array([-0.5, 0.5]) * settings.probability)
        sigma = (log_high - log_low) / 2 / float(ndtri(0.5 + settings.probability / 2))
        if reach_m < settings.least_baseline * noise_m:
            return ScaleUnknown(
                f"the camera moved by {reach_m:.2g} m at most while recorded positions are off by {noise_m:.2g} m: too "
                "little to tell metres from. Fly farther, or record better positions (RTK, odometry)"
            )
        if not sigma <= settings.largest_sigma:
            return ScaleUnknown(
                f"track and recorded positions leave the scale open by {100 * sigma:.0f} % (one sigma; at most "
                f"{100 * settings.largest_sigma:.0f} %): over {way_m:.3g} m of way positions are off by {noise_m:.2g} "
                f"m, and the track's own scale wanders by {100 * found.drift:.0f} %"
            )
        frame, frame_sigma = self._of_frames(found)
        length = np.linalg.norm(found.leg_m, axis=1)
        return MetricScale(
            float(np.exp(np.median(found.log_scale))), float(np.exp(log_low)), float(np.exp(log_high)),
            settings.probability, np.exp(frame), frame_sigma, found.drift, len(length), float(np.median(length)), way_m,
            noise_m, found.lasting_m, int(found.jumped.sum()),
        )  # fmt: skip

    def _by_attitudes(self) -> Legs:
        """The legs turned as recorded attitudes say, which do not drift."""
        R_map_start = self.T_map_cam[:, :3, :3] @ self.T_start_cam[:, :3, :3].transpose(0, 2, 1)
        turned = np.empty_like(self.legs.leg)
        for number, start in enumerate(self.legs.start):
            among = (self.stretch == start) | (self.stretch == start + 1)
            turned[number] = Rotation.from_matrix(R_map_start[among]).mean().apply(self.legs.leg[number])
        return replace(self.legs, leg=turned)

    def _noise_m(self, found: Fitted) -> float:
        """Of single positions along an axis: about the mean of their stretch, and that mean."""
        moving = np.zeros((len(self.legs.seconds), 3))  # m/s at each place
        speed = found.leg_m / self.legs.leg_s[:, None]
        moving[self.legs.start] = speed
        moving[self.legs.start + 1] = speed
        used = self.stretch >= 0
        number = self.stretch[used]
        seconds = (self.stamps_ns[used] - self.stamps_ns[np.flatnonzero(used)[0]]) / 1e9 - self.legs.seconds[number]
        off = self.T_map_cam[used, :3, 3] - self.legs.position_m[number] - seconds[:, None] * moving[number]
        within_m = float(_MAD * np.median(np.abs(off[:, :2])))
        return float(np.sqrt(within_m**2 + found.white_m**2 + found.lasting_m**2))

    def _of_frames(self, found: Fitted) -> tuple[Float64, Float64]:
        """(N,) logarithm of the scale at each frame, and its standard deviation."""
        middle_s = (self.legs.seconds[self.legs.start] + self.legs.seconds[self.legs.start + 1]) / 2
        first = np.flatnonzero(self.stretch >= 0)[0]
        seconds = (self.stamps_ns - self.stamps_ns[first]) / 1e9
        return np.interp(seconds, middle_s, found.leg_log_scale), np.interp(seconds, middle_s, found.leg_sigma)


# Poses of another convention.

_READINGS: dict[str, tuple[Float64, Float64]] = {  # what was taken for the camera's and the map's axes -> turns
    "the camera's axes are those of a body, x forward, y left, z up (REP-103)": (se3.T_BODY_OPTICAL[:3, :3], np.eye(3)),
    "the camera's axes are those of a body, x forward, y right, z down": (
        np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), np.eye(3),
    ),
    "the camera looks along -z, y up (OpenGL, Blender, NeRF)": (np.diag([1.0, -1.0, -1.0]), np.eye(3)),
    "positions are north, east, down while attitudes are not": (
        np.eye(3), np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]]),
    ),
    "x and y of the positions are swapped": (np.eye(3), np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])),
    "heights of the positions are depths": (np.eye(3), np.diag([1.0, 1.0, -1.0])),
}  # fmt: skip


def _convention(flight: _Stretches, found: MetricScale | ScaleUnknown) -> str | None:
    """Which other reading of the poses agrees with the track where they do not as they are; None: they do, or none."""
    ones, others = _pairs(flight)
    moved, turned = _seen_motions(flight.T_start_cam, ones, others)
    has_turned = np.linalg.norm(turned, axis=1) > np.deg2rad(LEAST_TURN_DEG)
    noise_m = found.noise_m if isinstance(found, MetricScale) else flight.scatter_m

    def apart_deg(T_map_cam: Float64) -> float:
        """Median angle between ways, or between axes of turns, whichever is larger; NaN where too few are long."""
        way, turn = _seen_motions(T_map_cam, ones, others)
        far = (np.linalg.norm(way, axis=1) > LONG * noise_m) & (np.linalg.norm(moved, axis=1) > 0)
        both = has_turned & (np.linalg.norm(turn, axis=1) > np.deg2rad(LEAST_TURN_DEG))
        if np.count_nonzero(far) < LEAST_PAIRS or np.count_nonzero(both) < LEAST_PAIRS:
            return float("nan")
        return max(_angle_deg(way[far], moved[far]), _angle_deg(turn[both], turned[both]))

    as_is = apart_deg(flight.T_map_cam)
    if not as_is > MOST_APART_DEG:
        return None
    angles = {"they are the inverse, the map in the camera": apart_deg(se3.inverse(flight.T_map_cam))}
    for name, (R_cam, R_map) in _READINGS.items():
        T = np.array(flight.T_map_cam)
        T[:, :3, :3] = T[:, :3, :3] @ R_cam
        T[:, :3, 3] = T[:, :3, 3] @ R_map.T
        angles[name] = apart_deg(T)
    name, angle = min(angles.items(), key=lambda item: np.nan_to_num(item[1], nan=180.0))
    if not angle < CLEARLY_DEG:
        return None
    return (
        f"the recorded poses disagree with the pictures by {as_is:.0f} degrees and would agree to {angle:.0f} if "
        f"{name}: the poses are of another convention. Convert them to T_map_cam, camera x right, y down, z forward"
    )


def _pairs(flight: _Stretches) -> tuple[Int64, Int64]:
    """Frames in the middle of stretches, each with ones two and six stretches on, in one part of the track."""
    last = int(flight.stretch.max())
    middle = np.array([int(np.median(np.flatnonzero(flight.stretch == number))) for number in range(last + 1)])
    pairs = [(a, b) for on in (2, 6) for a, b in zip(middle, middle[on:], strict=False)]
    ones, others = np.array(pairs or [(0, 0)]).T
    same = flight.part[ones] == flight.part[others]
    return ones[same], others[same]


def _seen_motions(T: Float64, ones: Int64, others: Int64) -> tuple[Float64, Float64]:
    """Ways and rotation vectors (P, 3) from frames to others, along axes of the first camera."""
    between = se3.inverse(T[ones]) @ T[others]
    return between[:, :3, 3], Rotation.from_matrix(between[:, :3, :3]).as_rotvec()


def _angle_deg(a: Float64, b: Float64) -> float:
    cosine = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return float(np.rad2deg(np.median(np.arccos(np.clip(cosine, -1, 1)))))
