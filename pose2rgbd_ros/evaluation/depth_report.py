"""Predicted depth against true depth as a report: a table beside two predictions that look at nothing, and pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.errors import UserError, counted, os_errors
from pose2rgbd_ros.evaluation.depth_images import DepthImages, matched
from pose2rgbd_ros.evaluation.depth_metrics import DepthProtocol, FrameErrors, frame_errors, resized, summarize
from pose2rgbd_ros.evaluation.sheets import (
    DEPTH_COLOURS,
    ERROR_COLOURS,
    Block,
    SheetColumn,
    depth_limits,
    draw_blocks,
    new_figure,
    png,
)
from pose2rgbd_ros.geometry.arrays import Float32, Float64
from pose2rgbd_ros.reports.page import Page, Section, listed
from pose2rgbd_ros.reports.table import Column, Table
from pose2rgbd_ros.settings import to_yaml_dict

COLUMNS = (
    Column("what"),
    Column("abs_rel", "AbsRel", ".4f"),
    Column("sq_rel", "SqRel", ".4g"),
    Column("rmse", "RMSE", ".4g"),
    Column("rmse_log", "RMSE log", ".4f"),
    Column("log10", "log10", ".4f"),
    Column("sc_inv", "sc-inv", ".4f"),
    Column("a1", "δ < 1.25", ".4f"),
    Column("a2", "δ < 1.25²", ".4f"),
    Column("a3", "δ < 1.25³", ".4f"),
    Column("known", "known", ".1%"),
    Column("scale", "scale", ".4g"),
    Column("scale_spread", "its spread", ".1%"),
)
MEAN, FLAT = "mean depth of every pixel", "one depth everywhere"
SHOWN = 6
QUIET_FRAMES = 100  # fewer are done before a progress bar could be read


@dataclass(frozen=True, eq=False)
class DepthReport:
    """What came of it: name -> figures; errors of the prediction frame by frame."""

    title: str
    protocol_name: str
    protocol: DepthProtocol
    figures: dict[str, dict[str, float]]
    names: list[str]
    frames: list[FrameErrors]
    notes: list[str]
    of: dict[str, str] = field(default_factory=dict)

    @property
    def found(self) -> dict[str, float]:
        """The prediction's."""
        return next(iter(self.figures.values()))

    def table(self) -> Table:
        """The prediction, then what looks at nothing."""
        rows = [{"what": name, **figures} for name, figures in self.figures.items()]
        return Table(COLUMNS, rows, strong=[0], muted=range(1, len(rows)))

    def share(self) -> float:
        """AbsRel as a share of the better of those that look at nothing."""
        return self.found["abs_rel"] / min(figures["abs_rel"] for figures in [*self.figures.values()][1:])

    def verdict(self) -> str:
        """One sentence."""
        found = self.found
        return (
            f"AbsRel {found['abs_rel']:.3f}, {self.share():.2f} times that of a prediction that does not look; "
            f"{found['a1']:.1%} of the pixels within 25 %, on {counted(int(found['frames']), 'image')} by the protocol "
            f"{self.protocol_name}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values; None where nothing can be said."""
        return {
            "kind": "depth",
            "of": self.of,
            "protocol": {"name": self.protocol_name, **to_yaml_dict(self.protocol)},
            "figures": {
                name: {key: value if math.isfinite(value) else None for key, value in figures.items()}
                for name, figures in self.figures.items()
            },
            "abs_rel_share_of_blind": self.share() if math.isfinite(self.share()) else None,
            "notes": self.notes,
        }

    def markdown(self) -> str:
        """Everything in words and numbers."""
        return "\n\n".join([self.table().markdown(), f"{self.verdict()}.", *self.notes, self.rule()])

    def rule(self) -> str:
        """The protocol in words."""
        return f"Protocol {self.protocol_name}: {listed(to_yaml_dict(self.protocol))}."


def evaluate_depth(
    predicted: DepthImages,
    truth: DepthImages,
    out: Path,
    protocol_name: str,
    protocol: DepthProtocol,
    blind: Float32 | None = None,
) -> DepthReport:
    """Measure predicted depth and write a report: table.md, metrics.json, frames.csv, index.html and pictures.

    Beside it stand two predictions that look at no image: the mean depth of every pixel (`blind` (h, w), of frames
    trained on where there are any, else of the true depth judged by, which flatters it), and one depth everywhere.

    Raises:
        UserError: images that do not belong together, damaged ones, nothing to compare, a folder that cannot be
            written.
    """
    pairs = matched(predicted, truth)
    notes = [note for note in (predicted.note, truth.note) if note]
    missing = len(truth) - len(pairs)
    if missing:
        notes.append(f"{counted(missing, 'true image')} of {len(truth)} have no prediction and are left out")
    quiet = len(pairs) < QUIET_FRAMES
    mean = _Mean() if blind is None else None
    frames = []
    for _, i, j in tqdm(pairs, desc="measuring", disable=quiet):
        true = truth.read(j)
        if mean is not None:
            mean.add(true)
        frames.append(frame_errors(predicted.read(i), true, protocol))
    if not any(frame.counts for frame in frames):
        raise UserError(
            f"no pixel of {counted(len(pairs), 'image')} can be compared: {truth.path} has no true depth between "
            f"{protocol.min_depth:g} and {protocol.max_depth:g} in the crop {protocol.crop}, or {predicted.path} none "
            "there; choose another protocol"
        )
    if mean is not None:
        blind = mean.depth()
        whose = "of the very frames judged, which flatters it" if blind is not None else ""
    else:
        whose = "of the frames trained on"
    figures = {"predicted": summarize(frames, protocol)}
    for name, guess in ((MEAN, blind), (FLAT, np.ones((2, 2), np.float32))):
        if guess is not None:
            each = [frame_errors(guess, truth.read(j), protocol) for _, _, j in tqdm(pairs, desc=name, disable=quiet)]
            figures[name] = summarize(each, protocol)
    if blind is not None:
        notes.append(f"the {MEAN} is {whose}")
    else:
        notes.append(f"true images differ in size: there is no {MEAN}")
    report = DepthReport(
        f"{predicted.path.name} against {truth.path.name}",
        protocol_name,
        protocol,
        figures,
        [name for name, _, _ in pairs],
        frames,
        notes,
        {"predicted": str(predicted.path), "true": str(truth.path)},
    )
    _write(out, report, lambda k: (predicted.read(pairs[k][1]), truth.read(pairs[k][2])))
    return report


class _Mean:
    """The mean depth of every pixel of images of one size."""

    def __init__(self) -> None:
        self._sum: Float64 | None = None
        self._count: Float64 | None = None
        self._mixed = False

    def add(self, depth: Float32) -> None:
        known = np.isfinite(depth)
        if self._sum is None or self._count is None:
            self._sum, self._count = np.zeros(depth.shape), np.zeros(depth.shape)
        if depth.shape != self._sum.shape:
            self._mixed = True
        if not self._mixed:
            self._sum += np.where(known, depth, 0.0)
            self._count += known

    def depth(self) -> Float32 | None:
        """(H, W), NaN where it was never known; None of images that differ in size."""
        if self._mixed or self._sum is None or self._count is None:
            return None
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self._sum / self._count, np.float32)


# The files.


SHEET, COURSE = "frames.png", "errors.png"
Images = Callable[[int], tuple[Float32, Float32]]


def _write(out: Path, report: DepthReport, images: Images) -> None:
    with os_errors(f"cannot write the report into {out}"):
        out.mkdir(parents=True, exist_ok=True)
        layout.atomic_write(out / "metrics.json", (json.dumps(report.to_dict(), indent=2) + "\n").encode())
        layout.atomic_write(out / "table.md", (report.markdown() + "\n").encode())
        layout.atomic_write(out / "frames.csv", _frames(report).csv().encode())
        layout.atomic_write(out / COURSE, _course(report))
        _draw_frames(out / SHEET, report, images)
        sections = [
            Section(table=report.table(), text=[report.rule()]),
            Section.showing("From image to image", COURSE, "error and scale of each image"),
            Section.showing("Best, middle and worst images", SHEET, "true and predicted depth"),
        ]
        mood = "good" if report.share() < 1 else "bad"
        page = Page(report.title, f"{report.verdict()}.", sections, report.notes, report.of, mood)  # type: ignore[arg-type]
        page.write(out / "index.html")


def _frames(report: DepthReport) -> Table:
    """A line for each image, unrounded."""
    rows = [
        {"image": name, **frame.sums.metrics(), "known": frame.known, "scale": frame.scale}
        for name, frame in zip(report.names, report.frames, strict=True)
    ]
    return Table([Column("image"), *(Column(name) for name in rows[0] if name != "image")], rows)


def _course(report: DepthReport) -> bytes:
    """AbsRel and the factor of each image, in their order."""
    figure = new_figure(11, 4)
    error, factor = figure.subplots(2, 1, sharex=True)
    error.plot([frame.sums.metrics()["abs_rel"] for frame in report.frames], color="#c0392b", lw=1)
    error.set(ylabel="AbsRel", ylim=(0, None))
    factor.plot([frame.scale for frame in report.frames], color="#1f4e9c", lw=1)
    factor.set(ylabel="scale", xlabel="image")
    for axes in (error, factor):
        axes.grid(alpha=0.3)
    return png(figure)


def _draw_frames(path: Path, report: DepthReport, images: Images) -> None:
    """True depth, scaled prediction and relative error of the best image, some between, and the worst."""
    errors = np.array([frame.sums.metrics()["abs_rel"] for frame in report.frames])
    order = np.argsort(errors, kind="stable")[: int(np.isfinite(errors).sum())]
    rows = order[np.unique(np.linspace(0, len(order) - 1, SHOWN).round().astype(int))]
    true, found = [], []
    for k in rows:
        predicted, truth = images(int(k))
        height, width = truth.shape
        fitted = resized(predicted, height, width, report.protocol.resize, report.protocol.filter)
        true.append(truth)
        found.append(fitted * report.frames[k].scale)
    off = [abs(f - t) / t for f, t in zip(found, true, strict=True)]
    limits = depth_limits([*true])
    columns = [
        SheetColumn("true depth", [*true], DEPTH_COLOURS, *limits),
        SheetColumn("predicted, scaled", [*found], DEPTH_COLOURS, *limits),
        SheetColumn("error / true", [*off], ERROR_COLOURS, 0.0, 0.5),
    ]
    labels = [f"{report.names[k]}\n{errors[k]:.3f}" for k in rows]
    draw_blocks(path, [Block(columns, labels)], report.title)
