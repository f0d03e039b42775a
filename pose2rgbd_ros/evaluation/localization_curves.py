"""Cumulative curves of found poses: the share of the frames within an error, on a logarithmic axis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from pose2rgbd_ros.evaluation.localization import cumulative
from pose2rgbd_ros.geometry.arrays import Bool, Float64

KINDS = (("position", "m"), ("orientation", "°"))
_POINTS = 300


def prepare(axes: Axes, what: str, unit: str, errors: Sequence[Float64]) -> None:
    """Set up axes for errors of which NaN is none: from the smallest hundredth of them all to the largest."""
    known = np.concatenate(errors)
    known = known[np.isfinite(known)]
    low = max(float(np.quantile(known, 0.01)), 1e-4) if len(known) else 0.01
    high = max(float(known.max()), 1.1 * low) if len(known) else 1.0
    axes.set(xscale="log", xlim=(low, high), ylim=(0, 1))
    axes.set(xlabel=f"error of the {what} ({unit})", ylabel="share of the frames")
    subdivisions = (1.0, 2.0, 5.0) if high > 10 * low else tuple(np.arange(1.0, 10.0))
    axes.xaxis.set_major_locator(LogLocator(subs=subdivisions, numticks=20))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)


def plot(axes: Axes, errors: Float64, accepted: Bool, label: str, colour: str, style: str) -> None:
    """The curve of one way's errors (N,) into prepared axes; a rejected frame is within no error."""
    at = np.geomspace(*axes.get_xlim(), _POINTS)
    axes.plot(at, cumulative(errors, accepted, at), style, color=colour, label=label, lw=1.5)
