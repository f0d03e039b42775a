"""Trajectories against a reference as a report: a table of every alignment, plots, and the figures for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.errors import UserError, counted, os_errors
from pose2rgbd_ros.evaluation.odometry import (
    ALIGNMENTS,
    OdometryProtocol,
    Paired,
    PairingSettings,
    Snippets,
    absolute_errors,
    align,
    odometry_metrics,
    pair,
    segment_errors,
    snippet_errors,
)
from pose2rgbd_ros.evaluation.sheets import new_figure, png
from pose2rgbd_ros.formats.trajectories import IN_FOLDERS, read_pose_list
from pose2rgbd_ros.reports.page import Page, Section
from pose2rgbd_ros.reports.table import Column, Table
from pose2rgbd_ros.settings import to_yaml_dict

COLUMNS = (
    Column("sequence"),
    Column("alignment"),
    Column("t_err_percent", "t_err", ".3f", "%"),
    Column("r_err_deg_100m", "r_err", ".3f", "°/100 m"),
    Column("ate_m", "ATE", ".3f", "m"),
    Column("rpe_m", "RPE", ".3f", "m"),
    Column("rpe_deg", "RPE", ".3f", "°"),
    Column("snippet_ate_m", "snippets", ".4f", "m"),
    Column("scale", "scale", ".4g"),
)
SNIPPET_COLUMNS = (
    Column("what"),
    Column("ate_m", "ATE", ".4f", "m"),
    Column("ate_std_m", "±", ".4f", "m"),
    Column("rotation_rad", "rotation", ".4f", "rad"),
    Column("rotation_std_rad", "±", ".4f", "rad"),
)
SUFFIXES = (".txt", ".csv", ".tum", ".kitti")
MOST_OF_A_SNIPPET, LEAST_SNIPPETS = 10, 3  # poses in a file, and files: then a folder holds snippets
TINY_M = 1e-6
OFF_SCALE = 0.1  # a scale further than that from 1 deserves a word
ESTIMATE_COLOUR, REFERENCE_COLOUR = "#c0392b", "#1f4e9c"


@dataclass(frozen=True, eq=False)
class Measured:
    """One trajectory: its figures under each alignment, and what is worth knowing of them."""

    name: str
    paired: Paired
    figures: dict[str, dict[str, float]]
    notes: list[str]

    @property
    def file(self) -> str:
        """How its files are called; a drive of KITTI raw has a slash in its name."""
        return self.name.replace("/", "-")


@dataclass(frozen=True, eq=False)
class OdometryReport:
    """Trajectories measured alike."""

    sequences: list[Measured]
    settings: OdometryProtocol
    title: str
    of: dict[str, str] = field(default_factory=dict)

    def table(self) -> Table:
        """A row for each trajectory and alignment; that of the settings stands out."""
        several = len(self.sequences) > 1
        rows: list[dict[str, Any]] = [
            {"sequence": sequence.name, "alignment": alignment, **figures}
            for sequence in self.sequences
            for alignment, figures in sequence.figures.items()
        ]
        chosen = [i for i, row in enumerate(rows) if row["alignment"] == self.settings.alignment]
        return Table(COLUMNS if several else COLUMNS[1:], rows, strong=chosen)

    def verdict(self) -> str:
        """One sentence for each trajectory, under the alignment of the settings."""
        said = []
        for sequence in self.sequences:
            found = sequence.figures[self.settings.alignment]
            segments = f"t_err {found['t_err_percent']:.3g} %, r_err {found['r_err_deg_100m']:.3g} °/100 m, "
            what = segments if found["segments"] else ""
            said.append(f"{sequence.name}: {what}ATE {found['ate_m']:.3g} m, aligned by {self.settings.alignment}")
        return "; ".join(said)

    @property
    def notes(self) -> list[str]:
        """Of all trajectories, and what the columns mean."""
        return [note for sequence in self.sequences for note in sequence.notes]

    def legend(self) -> list[str]:
        """What the columns mean, in words."""
        lengths = ", ".join(f"{length:g}" for length in self.settings.lengths_m)
        over = f"over {self.settings.delta_s:g} s" if self.settings.delta_s else "from frame to frame"
        start = counted(self.settings.start_every, "frame")
        return [
            f"t_err, r_err: KITTI, segments of {lengths} m, begun every {start}. ATE: root mean square of positions. "
            f"RPE: mean {over}. snippets: SfMLearner's ATE of {self.settings.snippet} frames, each with a scale of its "
            "own; no root mean square.",
            *(f"{name}: {text}." for name, text in ALIGNMENTS.items()),
        ]

    def markdown(self) -> str:
        """Everything in words and numbers."""
        return "\n\n".join([self.table().markdown(), f"{self.verdict()}.", *self.notes, *self.legend()])

    def to_dict(self) -> dict[str, Any]:
        """Plain values; None where nothing can be said."""
        return {
            "kind": "odometry",
            "of": self.of,
            "settings": to_yaml_dict(self.settings),
            "sequences": {
                sequence.name: {
                    "figures": {
                        alignment: {name: value if math.isfinite(value) else None for name, value in figures.items()}
                        for alignment, figures in sequence.figures.items()
                    },
                    "notes": sequence.notes,
                }
                for sequence in self.sequences
            },
        }


def evaluate_trajectories(
    estimate: Path,
    reference: Path,
    out: Path,
    settings: OdometryProtocol,
    pairing: PairingSettings,
    times: Path | None = None,
) -> OdometryReport | SnippetReport:
    """Measure a trajectory file, or all of a folder whose names the reference's folder has too; write a report.

    Into `out`: table.md, metrics.json, index.html, a picture and a CSV of errors for each trajectory. Folders of many
    files of a few poses are snippets, as of SfMLearner, and measured as such.

    Args:
        times: KITTI's times.txt for whichever of the two has no stamps.

    Raises:
        UserError: a file that is no trajectory, trajectories that do not meet, a folder that cannot be written.
    """
    files, sequences = _files(estimate, reference), []
    if _are_snippets(files):
        return _evaluate_snippets(files, estimate, reference, out, pairing)
    for name, estimated, true in files:
        ref, est = read_pose_list(true, times), read_pose_list(estimated, times)
        paired, notes = pair(ref, est, pairing)
        sequences.append(measure(name, paired, settings, notes))
    of = {"estimate": str(estimate), "reference": str(reference)}
    report = OdometryReport(sequences, settings, f"{estimate.name} against {reference.name}", of)
    write(out, report)
    return report


def measure(name: str, paired: Paired, settings: OdometryProtocol, notes: Sequence[str] = ()) -> Measured:
    """The figures of one trajectory under every alignment, and what a reader must know of them."""
    figures = {
        alignment: odometry_metrics(paired, replace(settings, alignment=alignment))  # type: ignore[arg-type]
        for alignment in ALIGNMENTS
    }
    said = [f"{name}: {note}" for note in notes]
    shortest, length_m = min(settings.lengths_m), paired.length_m
    if length_m < TINY_M:
        said.append(f"{name}: the reference stands still: no scale can be found, and there are no segments")
    elif not figures["none"]["segments"]:
        proposed = " ".join(f"{length_m * share:.2g}" for share in (0.1, 0.2, 0.4))
        said.append(
            f"{name}: the reference's path is {length_m:.3g} m long, and no segment of {shortest:g} m has both its "
            f"ends in the estimate: no t_err and r_err; --lengths-m {proposed}"
        )
    scale = figures["7dof"]["scale"]
    if math.isnan(scale):
        said.append(f"{name}: the estimate stands still, so that no scale can be found")
    elif abs(scale - 1) > OFF_SCALE and length_m >= TINY_M:
        said.append(
            f"{name}: one unit of the estimate is {scale:.3g} m. Alignments with a scale forgive that; a trajectory "
            "that claims metres is judged by 6dof"
        )
    return Measured(name, paired, figures, said)


# Snippets, a file each: what SfMLearner's code writes and reads.


@dataclass(frozen=True, eq=False)
class SnippetReport:
    """Snippets of a folder, all of so many `frames`; those that had no partner are `left_out`."""

    snippets: Snippets
    frames: int
    left_out: int
    of: dict[str, str]

    def table(self) -> Table:
        return snippet_table({"estimate": self.snippets})

    def verdict(self) -> str:
        """One sentence."""
        errors = self.snippets.ate_m
        return f"ATE {errors.mean():.4f} ± {errors.std():.4f} m of {counted(len(errors), 'snippet')} of {self.frames}"

    @property
    def notes(self) -> list[str]:
        said = "SfMLearner's error: sqrt of the sum of squares over the frames, a scale for each; no root mean square"
        lost = f"{counted(self.left_out, 'snippet')} of the reference left out: the estimate has not all its frames"
        return [said, lost] if self.left_out else [said]

    def markdown(self) -> str:
        """Everything in words and numbers."""
        return "\n\n".join([self.table().markdown(), f"{self.verdict()}.", *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        (row,) = self.table().rows
        facts = {"kind": "snippets", "of": self.of, "snippets": len(self.snippets.ate_m), "frames": self.frames}
        return {**facts, "left_out": self.left_out, "figures": {k: v for k, v in row.items() if k != "what"}}


def snippet_table(snippets: dict[str, Snippets]) -> Table:
    """Means and standard deviations over the snippets of each; the first stands out."""
    rows = [
        {
            "what": what,
            "ate_m": float(each.ate_m.mean()),
            "ate_std_m": float(each.ate_m.std()),
            "rotation_rad": float(each.rotation_rad.mean()),
            "rotation_std_rad": float(each.rotation_rad.std()),
        }
        for what, each in snippets.items()
    ]
    return Table(SNIPPET_COLUMNS, rows, strong=[0], muted=range(1, len(rows)))


def _are_snippets(files: Sequence[tuple[str, Path, Path]]) -> bool:
    """Whether there are many files and the first holds few poses."""
    if len(files) < LEAST_SNIPPETS:
        return False
    return len(read_pose_list(files[0][2])) <= MOST_OF_A_SNIPPET


def _evaluate_snippets(
    files: Sequence[tuple[str, Path, Path]], estimate: Path, reference: Path, out: Path, pairing: PairingSettings
) -> SnippetReport:
    """Measure snippets that have a file each. UserError: none, or of different lengths."""
    pairs, left_out = [], 0
    for _, estimated, true in files:
        ref, est = read_pose_list(true), read_pose_list(estimated)
        try:
            paired, _ = pair(ref, est, pairing)
        except UserError:
            if ref.is_timed != est.is_timed:
                raise
            left_out += 1
            continue
        if len(paired) < len(ref):
            left_out += 1
            continue
        pairs.append((paired.T_ref[paired.partner], paired.T_est))
    lengths = {len(T_ref) for T_ref, _ in pairs}
    if len(lengths) != 1:
        what = (
            f"snippets of {', '.join(map(str, sorted(lengths)))} frames; measure them apart"
            if lengths
            else (f"no snippet whose frames {estimate} all has; --max-difference-s, --time-offset-s")
        )
        raise UserError(f"{reference} holds {what}")
    T_ref, T_est = (np.stack(each) for each in zip(*pairs, strict=True))
    of = {"estimate": str(estimate), "reference": str(reference)}
    report = SnippetReport(snippet_errors(T_ref, T_est), lengths.pop(), left_out, of)
    with os_errors(f"cannot write the report into {out}"):
        out.mkdir(parents=True, exist_ok=True)
        layout.atomic_write(out / "metrics.json", (json.dumps(report.to_dict(), indent=2) + "\n").encode())
        layout.atomic_write(out / "table.md", (report.markdown() + "\n").encode())
        title = f"{estimate.name} against {reference.name}"
        page = Page(title, f"{report.verdict()}.", [Section(table=report.table())], report.notes, of)
        page.write(out / "index.html")
    return report


def _files(estimate: Path, reference: Path) -> list[tuple[str, Path, Path]]:
    """Name, estimate and reference of each trajectory."""
    ours, theirs = _by_name(estimate), _by_name(reference)
    if not ours or not theirs:
        return [(estimate.stem, estimate, reference)]
    both = sorted(set(ours) & set(theirs))
    if not both:
        raise UserError(
            f"no trajectory of {estimate} ({', '.join(sorted(ours))}) has the name of one of {reference} "
            f"({', '.join(sorted(theirs))}); name them alike, as KITTI's 09.txt"
        )
    return [(name, ours[name], theirs[name]) for name in both]


def _by_name(folder: Path) -> dict[str, Path]:
    """The trajectory files of a folder; empty for a file, or a folder that holds a single known one."""
    if not folder.is_dir() or any((folder / name).is_file() for name in IN_FOLDERS):
        return {}
    return {file.stem: file for file in sorted(folder.iterdir()) if file.suffix in SUFFIXES and file.is_file()}


# The files.


def write(out: Path, report: OdometryReport) -> None:
    """Write the report's files. UserError when the folder cannot be written."""
    with os_errors(f"cannot write the report into {out}"):
        out.mkdir(parents=True, exist_ok=True)
        layout.atomic_write(out / "metrics.json", (json.dumps(report.to_dict(), indent=2) + "\n").encode())
        layout.atomic_write(out / "table.md", (report.markdown() + "\n").encode())
        pictures = []
        for sequence in report.sequences:
            layout.atomic_write(out / f"{sequence.file}.png", _picture(sequence, report.settings))
            layout.atomic_write(out / f"{sequence.file}_errors.csv", _errors(sequence, report.settings).encode())
            caption = f"{sequence.name}, aligned by {report.settings.alignment}"
            pictures.append(Section.showing(sequence.name, f"{sequence.file}.png", caption))
        sections = [Section(table=report.table(), text=report.legend()), *pictures]
        page = Page(report.title, f"{report.verdict()}.", sections, report.notes, report.of)
        page.write(out / "index.html")


def _errors(sequence: Measured, settings: OdometryProtocol) -> str:
    """A line for each pose: its number, its time, and how far it is off."""
    paired = sequence.paired
    columns = [Column("pose"), Column("seconds"), Column("error_m")]
    seconds = [None] * len(paired) if paired.seconds is None else paired.seconds.tolist()
    errors = absolute_errors(align(paired, settings.alignment)).tolist()
    rows = [
        {"pose": int(i), "seconds": at, "error_m": error}
        for i, at, error in zip(paired.partner, seconds, errors, strict=True)
    ]
    return Table(columns, rows).csv()


def _picture(sequence: Measured, settings: OdometryProtocol) -> bytes:
    """The paths seen along the axis of least extent; errors by length of segment; errors along the way."""
    aligned = align(sequence.paired, settings.alignment)
    ours, theirs = aligned.T_est[:, :3, 3], aligned.T_ref[:, :3, 3]
    across, up = np.sort(np.argsort(np.ptp(theirs, axis=0), kind="stable")[1:])
    figure = new_figure(13, 6)
    grid = figure.add_gridspec(2, 2, width_ratios=[1.2, 1])
    axes = figure.add_subplot(grid[:, 0])
    axes.plot(theirs[:, across], theirs[:, up], "-", color=REFERENCE_COLOUR, lw=1.2, label="reference")
    axes.plot(ours[:, across], ours[:, up], "-", color=ESTIMATE_COLOUR, lw=1.2, label="estimate")
    axes.plot(*theirs[0, [across, up]], "o", color="0.2", ms=5, label="start")
    axes.set(xlabel=f"{'xyz'[across]} (m), in the first frame", ylabel=f"{'xyz'[up]} (m)")
    axes.set_aspect("equal", adjustable="datalim")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    by_length = segment_errors(aligned, settings.lengths_m, settings.start_every).by_length()
    axes = figure.add_subplot(grid[0, 1])
    if by_length:
        length, _, t_err, r_err = np.array(by_length).T
        axes.plot(length, t_err, "o-", color=ESTIMATE_COLOUR, label="t_err (%)")
        axes.plot(length, r_err, "s--", color="0.4", label="r_err (°/100 m)")
        axes.set(xlabel="length of the segment (m)", ylim=(0, None))
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    else:
        axes.text(0.5, 0.5, "no segment of these lengths", ha="center", va="center")
        axes.set_axis_off()
    axes = figure.add_subplot(grid[1, 1])
    seconds = sequence.paired.seconds
    at = sequence.paired.partner if seconds is None else seconds
    axes.plot(at, absolute_errors(aligned), "-", color=ESTIMATE_COLOUR, lw=1)
    axes.set(xlabel="frame" if seconds is None else "time (s)", ylabel="error of the position (m)", ylim=(0, None))
    axes.grid(alpha=0.3)
    figure.suptitle(
        f"{sequence.name}: {counted(len(sequence.paired), 'pose')}, aligned by {settings.alignment}",
        fontsize=10,
        parse_math=False,
    )
    return png(figure)
