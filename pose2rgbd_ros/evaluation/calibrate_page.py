"""The page of a calibration: do intervals hold what they promise, do narrow ones err less, and how it looks in frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.calibrate_measure import Judged, Measured
from pose2rgbd_ros.evaluation.report import provenance
from pose2rgbd_ros.evaluation.sheets import (
    DEPTH_COLOURS,
    ERROR_COLOURS,
    Block,
    Column,
    draw_blocks,
    new_figure,
    png,
)
from pose2rgbd_ros.geometry.arrays import Float32, UInt8
from pose2rgbd_ros.rendering.calibration import Calibration
from pose2rgbd_ros.reports import table
from pose2rgbd_ros.reports.page import Mood, Page, Section
from pose2rgbd_ros.training.checkpoint import Checkpoint

PAGE_FILE, SHEET_FILE, CURVES_FILE = "calibration.html", "calibration.png", "calibration_curves.png"


class ShownFrame:
    """A held-out frame: recorded colour and depth, depth as rendered with its bounds; (H, W), NaN unknown."""

    def __init__(
        self, label: str, rgb: UInt8, truth: Float32, depth: Float32, lower: Float32, upper: Float32
    ) -> None:
        self.label, self.rgb, self.truth = label, rgb, truth
        self.depth, self.lower, self.upper = depth, lower, upper

    def missed(self, margin_m: float) -> UInt8:
        """(H, W, 3): where the interval does not hold the truth."""
        picture = np.full((*self.depth.shape, 3), 235, np.uint8)
        with np.errstate(invalid="ignore"):
            for where, colour in (
                (self.truth < self.lower, (240, 190, 120)),
                (self.truth > self.upper, (120, 150, 230)),
                (self.truth + margin_m < self.lower, (200, 20, 20)),
                (np.isnan(self.depth), (64, 64, 64)),
            ):
                picture[where] = colour
        return picture


def write_page(
    out: Path,
    title: str,
    checkpoint: Checkpoint,
    calibration: Calibration,
    kind: str,
    measured: Measured,
    judged: Judged,
    frames: list[ShownFrame],
) -> None:
    """Write calibration.html and its two pictures into `out`; UserError when it cannot be written."""
    calibrated, told = f"{measured.line(calibration, kind)}.", f"{judged.line(calibration.level)}."
    sections = [
        Section("Judged, on frames that nothing was chosen on", _judged(judged, calibration.level), [told]),
        Section.showing(
            "Promise and risk, on lines dealt anew among those that calibrate", CURVES_FILE, "reliability and risk",
            calibrated,
            "Left: the share of pixels within the interval against the share it promises. Right: errors of "
            "depth among the pixels of the narrowest intervals.",
        ),
        Section.showing(
            "Frames", SHEET_FILE, "truth, depth, error and bounds",
            "Held-out frames (those that judge, where there are any), with the final table. Grey is unknown. "
            "The last column shows where the truth lies nearer than the lower bound (red: by more than the "
            "margin) or farther than the upper one (blue).",
        ),
    ]  # fmt: skip
    verdict = told if judged.frames and calibration.guard_limit >= 0 else calibrated
    notes, mood = calibration.figures.get("notes", []), _mood(calibration, judged)
    page = Page(title, verdict, sections, notes, provenance(checkpoint), mood)
    try:
        out.mkdir(parents=True, exist_ok=True)
        draw_blocks(out / SHEET_FILE, [_block(frames, calibration.margin_m)], title)
        layout.atomic_write(out / CURVES_FILE, _curves(measured))
        layout.atomic_write(out / PAGE_FILE, page.html())
    except OSError as error:
        raise UserError(f"cannot write the page into {out} ({error.strerror or error})") from error


def _mood(calibration: Calibration, judged: Judged) -> Mood:
    """Bad: the guard withholds everything, or more is false-safe than was asked for."""
    if calibration.guard_limit < 0:
        return "bad"
    if judged.frames == 0:
        return "neutral"
    return "good" if judged.false_safe.low <= calibration.false_safe else "bad"


def _judged(judged: Judged, level: float) -> table.Table | None:
    """Nothing where nothing judged."""
    if judged.frames == 0:
        return None
    shares = {
        "frames in the guard": judged.passed, f"{level:.0%} interval holds": judged.coverage,
        "nearer than the lower bound": judged.below, "false-safe": judged.false_safe, "known": judged.known,
    }  # fmt: skip
    columns = [
        table.Column("what", ""),
        table.Column("share", format=".2%"),
        table.Column("range", f"95 % by resampling {judged.kind}", "s"),
    ]
    rows = [
        {"what": name, "share": one.value, "range": f"{one.low:.2%} to {one.high:.2%}"}
        for name, one in shares.items()
    ]
    return table.Table(columns, rows)


def _block(frames: list[ShownFrame], margin_m: float) -> Block:
    depths = np.concatenate([frame.truth[np.isfinite(frame.truth)].ravel() for frame in frames])
    near, far = (float(value) for value in np.quantile(depths, (0.01, 0.98)))
    errors = [np.abs(frame.depth - frame.truth) for frame in frames]
    gaps = [frame.depth - frame.lower for frame in frames]
    widths = [frame.upper - frame.lower for frame in frames]

    def most(images: list[Float32]) -> float:
        values = np.concatenate([image[np.isfinite(image)].ravel() for image in images])
        return max(float(np.quantile(values, 0.97)), 0.1) if len(values) else 1.0

    columns = [
        Column("recorded", [frame.rgb for frame in frames]),
        Column("depth (m)", [frame.truth for frame in frames], DEPTH_COLOURS, near, far),
        Column("predicted (m)", [frame.depth for frame in frames], DEPTH_COLOURS, near, far),
        Column("error (m)", list(errors), ERROR_COLOURS, 0.0, most(errors)),
        Column("depth - lower (m)", list(gaps), ERROR_COLOURS, 0.0, most(gaps)),
        Column("interval (m)", list(widths), ERROR_COLOURS, 0.0, most(widths)),
        Column("not held", [frame.missed(margin_m) for frame in frames]),
    ]
    return Block(columns, [frame.label for frame in frames])


def _curves(measured: Measured) -> bytes:
    figure = new_figure(10, 3.6)
    left, right = figure.subplots(1, 2)
    promised, held = np.array(measured.reliability).reshape(-1, 2).T
    left.plot([0.4, 1], [0.4, 1], color="0.7", lw=1)
    left.plot(promised, held, marker="o", color="#0b6e4f")
    left.set(xlabel="promised", ylabel="held", xlim=(0.45, 1), ylim=(0.45, 1))
    kept, error_m, over = np.array(measured.risk_coverage).reshape(-1, 3).T
    right.plot(kept, error_m, marker="o", color="#0b6e4f", label="mean error (m)")
    right.set(
        xlabel="share of pixels kept, narrowest interval first", ylabel="mean error (m)", ylim=(0, None)
    )
    second = right.twinx()
    second.plot(
        kept, 100 * over, marker="s", color="#c0392b", label="farther than the truth by the margin (%)"
    )
    second.set(ylabel="farther by the margin (%)", ylim=(0, None))
    figure.legend(loc="outside lower right", fontsize=8, ncols=2)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    return png(figure)
