"""What was recorded and what of it was rejected, as sections of a report: where and when the camera flew, in charts."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pose2rgbd_ros.convert.report import COLUMNS, REJECTS, REPORT
from pose2rgbd_ros.dataset import inspect, splits
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.errors import UserError, counted, os_errors
from pose2rgbd_ros.geometry.arrays import AnyArray, Float64, Int64
from pose2rgbd_ros.reports.charts import COLOURS, chart, even, styled, svg
from pose2rgbd_ros.reports.page import Chart, Command, Figure, Page, Section
from pose2rgbd_ros.reports.table import Column, Table
from pose2rgbd_ros.settings import read_yaml

# What each reason for a rejected image means, and what helps; `mount_` and `orientation_` stand before some.
REASONS = {
    "before_first_pose": ("older than all known poses", "usual at the start; begin to record poses first"),
    "after_last_pose": ("the recording ended before a pose after it came", "usual at the end"),
    "pose_gap": ("the poses around it are too far apart", "`--max-pose-gap-s`, or `--max-fix-gap-s` for GPS"),
    "no_transform": ("TF never connected the frames", "record /tf and /tf_static; `--body-to-camera`"),
    "no_pose": ("no pose came in time", "see the detail in rejects.csv"),
    "queue_full": ("too many images waited", "record fewer images, or on a quicker machine"),
    "no_depth": ("no depth image within the tolerance", "`--depth-tolerance-s`, or `--depth-topic none`"),
    "duplicate_stamp": ("an image of this stamp was there already", "check the driver's stamps"),
    "time_jump": ("its stamp fits no other: a clock was set", "synchronise clocks before the flight"),
    "skipped": ("left out as asked", "`--every`"),
    "ground_phase": ("before the climb or after the descent", "`--trim-ground`"),
    "altitude": ("too low or too high", "`--min-height-m`, `--max-height-m`"),
    "static": ("the camera hardly moved", "`--min-speed-mps`"),
    "near_duplicate": ("too like the frame before", "`--min-move-m`, `--min-turn-deg`"),
    "blurred": ("less sharp than usual", "`--min-sharpness`; a shorter exposure"),
    "depth_unreadable": ("its depth image is damaged or of an unknown encoding", "check the recorder's disk"),
    "image_unreadable": ("damaged, or of an unknown encoding", "check the recorder's disk"),
    "depth_size": ("its depth is of another size than before", "one camera mode for the whole flight"),
    "image_size": ("of another size than before", "one camera mode for the whole flight"),
    "pose_invalid": ("its pose is no pose", "check the pose topic"),
    "stamp_invalid": ("its stamp is negative or not finite", "check the driver's stamps"),
    "no_position": ("its tags hold no position", "turn the camera's GPS on"),
    "no_orientation": ("its tags hold no orientation", "`--body-to-camera nadir`, or align by the pictures"),
    "no_time": ("its tags hold no time", "set the camera's clock"),
    "focal_length": ("taken with another lens", "convert the photographs of each lens apart"),
    "panorama": ("a stitched panorama, which no camera model fits", "convert single photographs"),
    "not_in_pose_file": ("the pose file does not name it", "add it to the pose file"),
}
_PREFIXES = {"mount_": "the camera's mount: ", "orientation_": "orientations: "}
RECORDED, REJECTED = "What was recorded", "What was rejected and why"
MOST_DRAWN = 4000  # points of a line; more cannot be told apart
FEW_EXAMPLES = 2


@dataclass
class Rejects:
    """Images that gave no frame: counts by reason, their stamps, and a few examples of each."""

    counts: dict[str, int] = field(default_factory=dict)
    stamps_ns: dict[str, list[int]] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)


def read_rejects(folder: Path) -> Rejects | None:
    """Of a dataset by its rejects.csv; None where it was not converted by us. Rows that are damaged are left out."""
    path = folder / REJECTS
    if not path.is_file():
        return None
    found, counts = Rejects(), Counter[str]()
    with path.open(newline="", encoding="utf-8", errors="replace") as stream:
        for row in csv.reader(stream):
            if len(row) != len(COLUMNS) or tuple(row) == COLUMNS:
                continue
            recording, stamp, reason, detail = row
            seconds, _, fraction = stamp.partition(".")
            if not seconds.isdecimal():
                continue
            counts[reason] += 1
            stamps = found.stamps_ns.setdefault(reason, [])
            stamps.append(int(seconds) * 10**9 + int((fraction + "0" * 9)[:9] or 0))
            examples = found.examples.setdefault(reason, [])
            if len(examples) < FEW_EXAMPLES:
                examples.append(f"{Path(recording).name} at {stamp} s{f': {detail}' if detail else ''}")
    found.counts = dict(counts.most_common())
    return found


def meaning(reason: str) -> tuple[str, str]:
    """What a reason means and what helps; empty texts for an unknown one."""
    for prefix, words in _PREFIXES.items():
        if reason.startswith(prefix) and (rest := reason.removeprefix(prefix)) in REASONS:
            said, helps = REASONS[rest]
            return words + said, helps
    return REASONS.get(reason, ("", ""))


def recording_sections(dataset: Dataset) -> list[Section]:
    """What was recorded, and what was rejected and why. UserError for a damaged dataset."""
    split, rejects = inspect.held_out(dataset), read_rejects(dataset.path)
    facts = inspect.facts(dataset, split)
    rows = [{"what": name, "value": text} for name, text in facts if name != "warning:"]
    warnings = [f"Warning: {text}" for name, text in facts if name == "warning:"]
    charts = [_map(dataset, split), _height(dataset, split), _times(dataset, rejects)]
    made_by = f"pose2rgbd inspect {dataset.path}"
    recorded = Section(
        RECORDED, Table([Column("what", ""), Column("value", "")], rows), warnings, charts=charts,
        made_by=made_by,
    )  # fmt: skip
    return [recorded, *([] if rejects is None else [_rejected(dataset, rejects)])]


def recording_figures(dataset: Dataset) -> list[Figure]:
    """The numbers of a recording that stand above everything else."""
    rejects = read_rejects(dataset.path)
    rejected = sum(rejects.counts.values()) if rejects else 0
    seconds = (int(dataset.stamps_ns[-1]) - int(dataset.stamps_ns[0])) / 1e9
    beside = f"of {counted(len(dataset) + rejected, 'image')}" if rejects else "in the dataset"
    return [Figure("frames", f"{len(dataset)}", f"{beside}, {seconds:.1f} s")]


def write_inspection(dataset: Dataset, out: Path) -> Path:
    """Write OUT/index.html, beside the pictures that `inspect` left there. UserError when it cannot be written."""
    pictures = [Section.showing("Frames", "contact_sheet.png", "evenly spaced frames, their depth below them")]
    sections = recording_sections(dataset)
    warnings = [text.removeprefix("Warning: ") for text in sections[0].text]
    commands = [Command(f"pose2rgbd train relief {dataset.path} --max-minutes 10", "dataset -> model")]
    verdict = f"{counted(len(dataset), 'frame')}; " + (
        f"{counted(len(warnings), 'thing')} to check before training" if warnings else "nothing to warn of"
    )
    page = Page(
        f"Dataset {dataset.path.resolve().name}", f"{verdict}.",
        [*sections, *pictures, Section("Next", commands=commands)], warnings,
        {"dataset": str(dataset.path.resolve())}, "bad" if warnings else "good", recording_figures(dataset),
    )  # fmt: skip
    with os_errors(f"cannot write the page into {out}"):
        page.write(out / "index.html")
    return out / "index.html"


def _rejected(dataset: Dataset, rejects: Rejects) -> Section:
    title, made_by = REJECTED, _converted_by(dataset.path)
    if not rejects.counts:
        return Section(title, text=["Nothing: every image became a frame."], made_by=made_by)
    all_images = len(dataset) + sum(rejects.counts.values())
    rows = []
    for reason, count in rejects.counts.items():
        means, helps = meaning(reason)
        example = "; ".join(rejects.examples.get(reason, []))
        rows.append({"reason": reason, "images": count, "share": count / all_images, "means": means, "helps": helps,
                     "example": example})  # fmt: skip
    columns = [
        Column("reason"), Column("images", format="d"), Column("share", "of all images", ".1%"),
        Column("means"), Column("helps", "what helps"), Column("example", "for example"),
    ]  # fmt: skip
    text = [f"All of them, a line each, are in `{dataset.path / REJECTS}`."]
    return Section(title, Table(columns, rows), text, made_by=made_by)


def _converted_by(folder: Path) -> str:
    """The command that made a dataset, as far as its report tells: sources, not each option."""
    try:
        parts = read_yaml(folder / REPORT).get("bags") or []
        sources = " ".join(dict.fromkeys(str(part["path"]) for part in parts))
    except (UserError, KeyError, TypeError):
        sources = ""
    return f"pose2rgbd convert {sources or 'SOURCE'} {folder}"


# The charts.


ROLE_WORDS = {
    "train": "training", "guard": "in no set", "choose": "held out, may choose", "judge": "held out, judges",
}  # fmt: skip


def _parts(dataset: Dataset, split: splits.Split | None) -> list[tuple[str, Int64]]:
    """Stretches of frames of one role, each with the first frame after it so that a line has no holes."""
    role, runs = inspect.roles(len(dataset), split), splits.recordings(dataset.stamps_ns)
    breaks = np.flatnonzero((role[1:] != role[:-1]) | (runs[1:] != runs[:-1])) + 1
    found = []
    for part in np.split(np.arange(len(role)), breaks):
        last = int(part[-1])
        joined = last + 1 < len(role) and runs[last + 1] == runs[last]
        found.append((str(role[part[0]]), np.append(part, last + 1) if joined else part))
    return found


def draw_roles(axes: Any, dataset: Dataset, split: splits.Split | None, x: AnyArray, y: AnyArray) -> None:
    """A line through all frames by their role, parted at pauses; at most about MOST_DRAWN points."""
    every = -(-len(x) // MOST_DRAWN)
    for role, part in _parts(dataset, split):
        shown = np.unique(np.append(part[::every], part[-1]))
        width, above = (2.6, 3) if role in ("judge", "choose") else (1.3, 2)
        marker = "." if len(part) == 1 else "None"
        axes.plot(x[shown], y[shown], marker=marker, color=COLOURS[role], lw=width, zorder=above,
                  solid_capstyle="round")  # fmt: skip
    there = {role for role, _ in _parts(dataset, split)}
    for role in [role for role in ROLE_WORDS if role in there]:
        axes.plot([], [], color=COLOURS[role], lw=2, label=ROLE_WORDS[role])


@styled()
def _map(dataset: Dataset, split: splits.Split | None) -> Chart:
    figure, axes = chart(4.4)
    position: Float64 = dataset.T_map_cam[:, :3, 3]
    draw_roles(axes, dataset, split, position[:, 0], position[:, 1])
    some = inspect.along(position, 26)
    arrows, looking = inspect.directions(dataset.T_map_cam[some])
    axes.quiver(position[some, 0], position[some, 1], arrows[:, 0], arrows[:, 1], color=COLOURS["quiet"],
                width=0.004, headwidth=6, scale=20, zorder=1.5)  # fmt: skip
    axes.plot(*position[0, :2], "o", color=COLOURS["good"], ms=7, label="start", zorder=5)
    axes.plot(*position[-1, :2], "s", color=COLOURS["bad"], ms=6, label="end", zorder=5)
    even(axes)
    tied = dataset.meta.datum is not None
    axes.set(xlabel=f"x{', east' if tied else ''} (m)", ylabel=f"y{', north' if tied else ''} (m)")
    axes.set_title(f"from above, in {dataset.meta.map_frame}")
    figure.legend(loc="outside lower center", ncols=3)
    return Chart(svg(figure), f"The camera's way from above; arrows: {looking}.")


@styled()
def _height(dataset: Dataset, split: splits.Split | None) -> Chart:
    figure, axes = chart(4.4)
    seconds = (dataset.stamps_ns - dataset.stamps_ns[0]) / 1e9
    draw_roles(axes, dataset, split, seconds, dataset.T_map_cam[:, 2, 3])
    axes.set(xlabel="time since the first frame (s)", ylabel="z of the camera in the map (m)")
    low, high = axes.get_ylim()
    if high - low < 1.0:  # keep millimetres of noise from filling the axis
        axes.set_ylim((low + high) / 2 - 0.5, (low + high) / 2 + 0.5)
    axes.set_title("height")
    figure.legend(loc="outside lower center", ncols=2)
    return Chart(svg(figure), "The camera's height over time.")


@styled()
def _times(dataset: Dataset, rejects: Rejects | None) -> Chart:
    """A line for the frames and one for each of the commonest reasons, over time; pauses are shaded."""
    reasons = list(rejects.counts)[:5] if rejects else []
    figure, axes = chart(1.0 + 0.26 * (1 + len(reasons)), wide=True)
    start_ns, seconds = int(dataset.stamps_ns[0]), (dataset.stamps_ns - dataset.stamps_ns[0]) / 1e9
    rows = [("frames", seconds, COLOURS["good"])]
    for reason in reasons:
        assert rejects is not None
        stamps = np.array(rejects.stamps_ns[reason], np.int64)
        rows.append((reason, (stamps - start_ns) / 1e9, COLOURS["reject"]))
    span = max(float(seconds[-1] - seconds[0]), 1.0)
    for number, (_, times, colour) in enumerate(rows):
        near = times[(times > -span) & (times < 2 * span)]  # stamps of other clocks would leave nothing to see
        axes.eventplot(near[:: -(-len(near) // MOST_DRAWN) or 1], lineoffsets=-number, linelengths=0.7,
                       linewidths=0.7, colors=colour)  # fmt: skip
    gaps = np.flatnonzero(np.diff(splits.recordings(dataset.stamps_ns)))
    for gap in gaps:
        axes.axvspan(seconds[gap], seconds[gap + 1], color=COLOURS["bad"], alpha=0.14, lw=0)
    axes.set_yticks([-number for number in range(len(rows))], [name for name, _, _ in rows])
    axes.set(xlabel="time since the first frame (s)", ylim=(-len(rows) + 0.4, 0.6))
    axes.grid(axis="y", visible=False)
    steps = np.diff(dataset.stamps_ns) / 1e9
    longest = f"; the longest step between frames is {steps.max():.2f} s" if len(steps) else ""
    pauses = f"{counted(len(gaps), 'pause')} (shaded)" if len(gaps) else "no pause"
    return Chart(svg(figure), f"When images were taken: {pauses}{longest}.", wide=True)
