"""The page of a localizer's calibration: do regions hold what they promise, are errors as large as said, what is rejected."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import UInt8
from pose2rgbd_ros.localization.estimate import Estimate

if TYPE_CHECKING:
    from pose2rgbd_ros.evaluation.calibrate_localizer import Measured

PAGE_FILE, CURVES_FILE, EXAMPLES_FILE = "calibration.html", "coverage.png", "examples.png"
GREEN, RED, BLUE = "#0b6e4f", "#c0392b", "#2c5f9e"
COLUMNS = 4
PAGE = """<!doctype html><meta charset="utf-8"><title>{title}</title>
<style>body{{font:15px/1.5 sans-serif;max-width:68rem;margin:2rem auto;padding:0 1rem;color:#222}}
img{{max-width:100%}} .verdict{{border-left:5px solid #0b6e4f;padding:.3rem .8rem}}</style>
<h1>{title}</h1><p class="verdict">{verdict}</p>{notes}
<h2>Judged, on frames that nothing was chosen on</h2><p>{judged}.</p>
<h2>Promise, on lines dealt anew among those that calibrate</h2>
<p>Left: the share of accepted poses whose error lies within the region that promises it. Right: error of the position
against its predicted standard deviation (of the worst direction); above the line at twice it errors are rare.</p>
<img alt="coverage and errors" src="{curves}">
<h2>Accepted and rejected</h2><p>Held-out frames (those that judge, where there are any) from the lowest to
the highest score, and one of them spoilt. Nothing was
fitted to the spoilt ones.</p><img alt="examples" src="{examples}">
</html>
"""


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
    out: Path,
    title: str,
    verdict: list[str],
    notes: tuple[str, ...],
    measured: Measured,
    examples: list[Example],
) -> None:
    """Write calibration.html and its two pictures into `out`; UserError when it cannot be written.

    verdict: what calibrated and what judged.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        pictures = {CURVES_FILE: curves_picture(measured), EXAMPLES_FILE: examples_picture(examples)}
        for name, png in pictures.items():
            (out / name).write_bytes(png)
        page = PAGE.format(
            title=html.escape(title), verdict=html.escape(verdict[0]), judged=html.escape(verdict[1]),
            notes="".join(f"<p>{html.escape(note)}</p>" for note in notes),
            curves=_embedded(pictures[CURVES_FILE]), examples=_embedded(pictures[EXAMPLES_FILE]),
        )  # fmt: skip
        (out / PAGE_FILE).write_text(page)
    except OSError as error:
        raise UserError(f"cannot write the page into {out} ({error.strerror or error})") from error


def curves_picture(measured: Measured) -> bytes:
    """PNG of the coverage curve and of errors against their predicted size."""
    figure = Figure(figsize=(10, 4.2), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color="0.7", lw=1)
    for column, (name, colour) in enumerate((("position", GREEN), ("rotation", BLUE), ("both", RED)), 1):
        left.plot(measured.curve[:, 0], measured.curve[:, column], color=colour, marker=".", label=name)
    left.set(xlabel="promised", ylabel="held", xlim=(0, 1), ylim=(0, 1))
    left.legend(fontsize=8)
    _scatter(right, measured)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    return _png(figure)


def examples_picture(examples: list[Example]) -> bytes:
    """PNG of images with their answers below."""
    rows = -(-len(examples) // COLUMNS)
    figure = Figure(figsize=(2.6 * COLUMNS, 3.3 * rows), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
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
    return _png(figure)


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


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _embedded(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
