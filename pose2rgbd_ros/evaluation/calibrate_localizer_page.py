"""The page of a localizer's calibration: do regions hold what they promise, are errors as large as said, what is rejected."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.evaluation.calibrate_measure import Estimate as Share
from pose2rgbd_ros.evaluation.report import provenance
from pose2rgbd_ros.evaluation.sheets import new_figure, png
from pose2rgbd_ros.geometry.arrays import UInt8
from pose2rgbd_ros.localization import covariance
from pose2rgbd_ros.localization.estimate import Estimate
from pose2rgbd_ros.reports.page import Mood, Page, Section
from pose2rgbd_ros.reports.table import Column, Table
from pose2rgbd_ros.training.checkpoint import Checkpoint

if TYPE_CHECKING:
    from pose2rgbd_ros.evaluation.calibrate_localizer import CalibratedLocalizer, JudgedPoses, Measured

PAGE_FILE, CURVES_FILE, EXAMPLES_FILE = "calibration.html", "coverage.png", "examples.png"
GREEN, RED, BLUE = "#0b6e4f", "#c0392b", "#2c5f9e"
COLUMNS = 4
PARTS = ("position", "rotation", "both")


@dataclass(frozen=True, eq=False)
class Example:
    """An image, the answer to it, and how far its position is off (NaN where nobody knows)."""

    label: str
    rgb: UInt8
    answer: Estimate
    error_m: float

    def caption(self) -> str:
        if self.answer.accepted:
            sigma = f"sigma {self.answer.position_sigma_m:.1f} m"
            error = f"error {self.error_m:.1f} m, " if np.isfinite(self.error_m) else ""
            return f"{self.label}: accepted\n{error}{sigma}, score {self.answer.score:.2f}"
        return f"{self.label}: rejected\n{_wrapped(self.answer.reason)}"


def write_page(
    out: Path, title: str, checkpoint: Checkpoint, found: CalibratedLocalizer, examples: list[Example]
) -> None:
    """Write calibration.html and its two pictures into `out`; UserError when it cannot be written."""
    calibrated, judged = (f"{line.strip()}." for line in found.line().splitlines())
    sections = [
        Section("Judged, on frames that nothing was chosen on", _judged(found.judged), [judged]),
        Section.showing(
            "Promise, on lines dealt anew among those that calibrate", CURVES_FILE, "coverage and errors",
            calibrated,
            "Left: the share of accepted poses whose error lies within the region that promises it. Right: "
            "error of the position against its predicted standard deviation (of the worst direction); above "
            "the line at twice it errors are rare.",
        ),
        Section.showing(
            "Accepted and rejected", EXAMPLES_FILE, "examples",
            "Held-out frames (those that judge, where there are any) from the lowest to the highest score, "
            "and one of them spoilt. Nothing was fitted to the spoilt ones.",
        ),
    ]  # fmt: skip
    verdict = judged if found.judged.frames else calibrated
    page = Page(title, verdict, sections, found.held_out.notes, provenance(checkpoint), _mood(found.judged))
    try:
        out.mkdir(parents=True, exist_ok=True)
        layout.atomic_write(out / CURVES_FILE, curves_picture(found.measured))
        layout.atomic_write(out / EXAMPLES_FILE, examples_picture(examples))
        layout.atomic_write(out / PAGE_FILE, page.html())
    except OSError as error:
        raise UserError(f"cannot write the page into {out} ({error.strerror or error})") from error


def _mood(judged: JudgedPoses) -> Mood:
    """Bad: frames that judge bear out that a region of position or rotation holds less than it promises."""
    if judged.frames == 0:
        return "neutral"
    held = zip(covariance.LEVELS, judged.coverage, strict=True)
    return "good" if all(one.high >= level for level, row in held for one in row[:2]) else "bad"


def _judged(judged: JudgedPoses) -> Table | None:
    """Nothing where nothing judged."""
    if judged.frames == 0:
        return None

    def cell(one: Share) -> str:
        return f"{one.value:.1%} ({one.low:.1%} to {one.high:.1%})"

    columns = [Column("level", "region of", ".0%"), *(Column(part, f"{part} held", cell) for part in PARTS)]
    rows = [
        {"level": level, **dict(zip(PARTS, row, strict=True))}
        for level, row in zip(covariance.LEVELS, judged.coverage, strict=True)
    ]
    return Table(columns, rows)


def curves_picture(measured: Measured) -> bytes:
    """PNG of the coverage curve and of errors against their predicted size."""
    figure = new_figure(10, 4.2)
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color="0.7", lw=1)
    for column, (name, colour) in enumerate(zip(PARTS, (GREEN, BLUE, RED), strict=True), 1):
        left.plot(measured.curve[:, 0], measured.curve[:, column], color=colour, marker=".", label=name)
    left.set(xlabel="promised", ylabel="held", xlim=(0, 1), ylim=(0, 1))
    left.legend(fontsize=8)
    _scatter(right, measured)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    return png(figure)


def examples_picture(examples: list[Example]) -> bytes:
    """PNG of images with their answers below."""
    rows = -(-len(examples) // COLUMNS)
    figure = new_figure(2.6 * COLUMNS, 3.3 * rows)
    for axes, example in zip(figure.subplots(rows, COLUMNS, squeeze=False).flat, examples, strict=False):
        axes.imshow(example.rgb)
        colour = GREEN if example.answer.accepted else RED
        axes.set_xlabel(example.caption(), fontsize=7.5, color=colour)
        for side in axes.spines.values():
            side.set(color=colour, linewidth=3)
    for axes in figure.axes:
        axes.set(xticks=[], yticks=[])
        if not axes.has_data():
            axes.set_axis_off()
    return png(figure)


def _scatter(axes: Axes, measured: Measured) -> None:
    """Errors of frames against the standard deviation said; each frame was judged by fits without its line."""
    ok = measured.accepted_at
    limits = (
        0.7 * float(min(measured.sigma_m.min(), np.quantile(measured.position_m, 0.01))),
        1.3 * float(max(measured.sigma_m.max(), measured.position_m.max())),
    )
    ends = np.array(limits)
    axes.plot(ends, ends, color="0.6", lw=1)
    axes.plot(ends, 2 * ends, color="0.6", lw=1, ls="--")
    for which, colour, name in ((ok, GREEN, "accepted"), (~ok, RED, "rejected")):
        axes.scatter(
            measured.sigma_m[which], measured.position_m[which], s=5, color=colour, alpha=0.4, label=name
        )
    axes.set(
        xscale="log", yscale="log", xlabel="predicted sigma (m)", ylabel="error (m)", xlim=limits, ylim=limits
    )
    axes.legend(fontsize=8)


def _wrapped(text: str, width: int = 42) -> str:
    lines = [""]
    for word in text.split():
        lines = (
            [*lines[:-1], f"{lines[-1]} {word}".strip()]
            if len(lines[-1]) + len(word) < width
            else [*lines, word]
        )
    return "\n".join(lines)
