"""The part of a recorded flight between take-off and landing, by its heights."""

from __future__ import annotations

import numpy as np

from pose2rgbd_ros.geometry.arrays import Float64, Int64

# A recording that never leaves this band is no flight with a take-off in it.
_LEAST_CLIMB_M = 3.0
_STEP_NS = 200_000_000
# Longer silences between poses count as this long: a stamp of 1970 must not make a grid of fifty years.
_LONGEST_GAP_NS = 5_000_000_000
# One pose in a thousand may be an outlier, below the ground or above the flight.
_OUTLIERS = 0.001
# A climb begins to count at this part of the top, and ends where it has slowed to this part of its speed.
_LOW, _SLOWED = 1 / 3, 1 / 3


def ground_z_m(z_m: Float64, height_above: str) -> float:
    """The height in the map that heights are measured from: of the "lowest" pose, of the "first", or of the "map"."""
    if height_above == "map":
        return 0.0
    return float(z_m[0] if height_above == "first" else np.quantile(z_m, _OUTLIERS))


def flight_phase(stamps_ns: Int64, z_m: Float64) -> tuple[int, int] | None:
    """First and last stamp of the flight proper: from the end of the climb to the beginning of the descent.

    An end of the recording that is up in the air is not cut. None when nothing climbs by three metres.
    """
    low, top = (float(value) for value in np.quantile(z_m, [_OUTLIERS, 1 - _OUTLIERS]))
    if top - low < _LEAST_CLIMB_M:
        return None
    since_first_ns = stamps_ns - stamps_ns[0]
    short_ns = np.concatenate([[0], np.cumsum(np.minimum(np.diff(stamps_ns), _LONGEST_GAP_NS))])
    count = max(2, int(short_ns[-1]) // _STEP_NS + 1)
    t_ns = np.linspace(0.0, short_ns[-1], count)
    z = np.interp(t_ns, short_ns, z_m)
    first = _end_of_climb(z, low + _LOW * (top - low))
    last = count - 1 - _end_of_climb(z[::-1], low + _LOW * (top - low))
    if first >= last:
        return None
    begin, end = (round(float(np.interp(t_ns[i], short_ns, since_first_ns))) for i in (first, last))
    return int(stamps_ns[0]) + begin, int(stamps_ns[0]) + end


def tell_phase(stamps_ns: Int64, phase: tuple[int, int] | None) -> str:
    """What was cut, in words."""
    if phase is None:
        return "no take-off or landing is seen in the heights: nothing is cut"
    cut_s = [(phase[0] - int(stamps_ns[0])) / 1e9, (int(stamps_ns[-1]) - phase[1]) / 1e9]
    return f"take-off and landing: the first {cut_s[0]:.1f} s and the last {cut_s[1]:.1f} s are cut"


def _end_of_climb(z: Float64, threshold_m: float) -> int:
    """The index where the climb through the threshold has slowed down; 0 when `z` begins above it."""
    crossing = int(np.argmax(z >= threshold_m))
    if crossing == 0:
        return 0
    speed = np.gradient(np.convolve(np.pad(z, 2, mode="edge"), np.full(5, 0.2), mode="valid"))
    slowed = np.flatnonzero(speed[crossing:] < _SLOWED * speed[crossing])
    return crossing + int(slowed[0]) if len(slowed) else crossing
