"""The paper's Figure 2: picture and vehicle side by side, before and after alignment, and how well each offset fits."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pose2rgbd_ros.alignment import evidence
from pose2rgbd_ros.alignment.align import Alignment, AlignOptions
from pose2rgbd_ros.alignment.correlate import fit
from pose2rgbd_ros.alignment.evidence import Evidence
from pose2rgbd_ros.alignment.flow import FlowSignal
from pose2rgbd_ros.alignment.signals import SECOND, MotionSignal
from pose2rgbd_ros.geometry.arrays import Float64, Int64

PICTURE, VEHICLE, PEAK = "tab:red", "tab:green", "tab:blue"
_DPI = 110
_TITLE_COLUMNS = 140


def draw(flow: FlowSignal, motion: MotionSignal, found: Alignment, path: Path, options: AlignOptions) -> None:
    """Write a PNG: for the most informative evidence both signals before and after, below the score of each offset."""
    named = {item.name: item for item in evidence.of_flow(flow, motion, options.rotation)}
    scores = {curve.name: float(curve.score.max(initial=0.0)) for curve in found.curves if curve.name in named}
    shown = [named["speed"]]
    best = max(scores, key=lambda name: scores[name], default="speed")
    if best != "speed":
        shown.append(named[best])
    figure = Figure(figsize=(12, 2.1 * 2 * len(shown) + 2.6), dpi=_DPI, layout="constrained")
    figure.suptitle(textwrap.fill(found.summary(), _TITLE_COLUMNS), fontsize=11)
    axes = figure.subplots(2 * len(shown) + 1, 1, height_ratios=[1.0] * (2 * len(shown)) + [1.2])
    times_ns = np.arange(flow.stamps_ns[0], flow.stamps_ns[-1], SECOND // 20, dtype=np.int64)
    for number, item in enumerate(shown):
        _signals(axes[2 * number], item, times_ns, np.zeros(len(times_ns), np.int64), found, "as stamped")
        if np.isfinite(found.offset_s):
            after = "aligned" if found.observable else "at the best offset, which is not to be trusted"
            _signals(axes[2 * number + 1], item, times_ns, found.offsets_ns(times_ns), found, after)
        else:
            axes[2 * number + 1].set_axis_off()
    _curve(axes[-1], found)
    figure.savefig(path)


def _signals(axes: Any, item: Evidence, times_ns: Int64, offset_ns: Int64, found: Alignment, when: str) -> None:
    """The follower that is explained best, and the leaders as they explain it, both normalised alike."""
    follower = item.follower(times_ns)
    aligned = found.offsets_ns(times_ns) if np.isfinite(found.offset_s) else np.zeros(len(times_ns), np.int64)
    gain = fit(follower, _at(item, times_ns, aligned), item.through_zero).gain
    leader = _at(item, times_ns, offset_ns)
    predicted = gain[0] + leader @ gain[1:]
    at_best = gain[0] + _at(item, times_ns, aligned) @ gain[1:]
    with np.errstate(invalid="ignore"):
        share = np.nanvar(at_best, axis=0) / np.maximum(np.nanvar(follower, axis=0), 1e-12)
    column = int(np.argmax(np.nan_to_num(share)))
    middle, spread = np.nanmedian(follower[:, column]), _spread(follower[:, column])
    seconds = (times_ns - times_ns[0]) / SECOND
    if item.raw is not None:
        raw = (item.raw.values[:, 0] - middle) / spread
        axes.plot(item.raw.seconds(int(times_ns[0])), raw, color=PICTURE, lw=0.8, alpha=0.3)
    axes.plot(seconds, (follower[:, column] - middle) / spread, color=PICTURE, lw=1.1, label=item.labels[0])
    axes.plot(seconds, (predicted[:, column] - middle) / spread, color=VEHICLE, lw=1.1, label=f"from {item.labels[1]}")
    axes.set_ylim(*_limits((follower[:, column] - middle) / spread, (at_best[:, column] - middle) / spread))
    axes.set_title(f"{item.name}: {when}", loc="left", fontsize=9, pad=3)
    axes.set_ylabel("deviations", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.margins(x=0.005)
    axes.grid(alpha=0.3)
    axes.set_xlabel("seconds since the first image", fontsize=8)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.98), fontsize=8, ncols=2, frameon=False, borderaxespad=0.1)


def _spread(values: Float64) -> float:
    """A deviation that a spike does not change: of all but the outer twentieths."""
    low, high = np.nanquantile(values, [0.05, 0.95])
    return max(float(np.nanstd(np.clip(values, low, high))), 1e-9)


def _limits(picture: Float64, vehicle: Float64) -> tuple[float, float]:
    """Room for all that the vehicle does and all but the rarest of the picture, so that one spike does not flatten
    the rest.
    """
    low = min(float(np.nanquantile(picture, 0.05)), float(np.nanquantile(vehicle, 0.01)))
    high = max(float(np.nanquantile(picture, 0.95)), float(np.nanquantile(vehicle, 0.99)))
    room = 0.25 * max(high - low, 1.0)
    return low - room, high + room


def _at(item: Evidence, times_ns: Int64, offset_ns: Int64) -> Float64:
    """Leaders beside the follower's times; evidence wants even times, so they are looked up there."""
    first, last = int(times_ns[0] + offset_ns.min()), int(times_ns[-1] + offset_ns.max())
    even_ns = np.arange(first, last + SECOND // 20, SECOND // 20, dtype=np.int64)
    values = item.leader(even_ns)
    at_s = (times_ns + offset_ns - first) / SECOND
    return np.stack([np.interp(at_s, (even_ns - first) / SECOND, column) for column in values.T], axis=-1)


def _beside(found: Alignment) -> str:
    """Why the answer is not where the scores peak, in words; "" where it is."""
    if not np.isfinite(found.offset_s) or abs(found.offset_s - found.peak_s) < 0.005:
        return ""
    if found.drift_ppm:
        drift = f"{found.drift_ppm:+.0f} ppm"
        return f"; the answer is that of the middle, with a drift of {drift}, which the scores leave out"
    return "; refined between the steps, outliers count less: how far it is from the peak is part of its sigma"


def _curve(axes: Any, found: Alignment) -> None:
    for curve in found.curves:
        whole = curve.name == "all"
        axes.plot(
            curve.lag_s, curve.score, lw=1.8 if whole else 0.9, color="black" if whole else None, label=curve.name
        )
    if np.isfinite(found.offset_s):
        axes.axvline(found.offset_s, color=PEAK, lw=1.0)
        if np.isfinite(found.sigma_s):
            axes.axvspan(
                found.offset_s - 2 * found.sigma_s, found.offset_s + 2 * found.sigma_s, color=PEAK, alpha=0.2,
                label="answer, 2 sigma",
            )  # fmt: skip
    if np.isfinite(found.peak_s):
        axes.axvline(found.peak_s, color="black", lw=0.9, ls=":", label="peak of all")
    axes.set_title(f"log likelihood ratio against no relation{_beside(found)}", loc="left", fontsize=9, pad=3)
    axes.set_xlabel("offset added to image stamps, s", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.margins(x=0.005)
    axes.grid(alpha=0.3)
    if found.curves:
        axes.legend(loc="upper right", fontsize=8)
