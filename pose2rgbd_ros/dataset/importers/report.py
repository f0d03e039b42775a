"""What a conversion did: frames written, frames rejected and why, and what had to be assumed."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pose2rgbd_ros import settings
from pose2rgbd_ros.dataset.importers.reject_table import REJECTS, RejectTable
from pose2rgbd_ros.errors import counted

REPORT = "convert_report.yaml"
# What poses are left out for that shows a fault of the recording, so that those beside them may be wrong too. Others are
# usual: TF says everything twice, a log begins before the receiver has a fix, and messages that come late are sorted in.
_FAULTS = ("non_finite_pose", "time_jump", "bad_frames", "unreadable_row", "wrong_time")
# Runs of rejected images that the report lists; rejects.csv has them all.
_MOST_RUNS = 1000


@dataclass
class RejectedRun:
    """Images rejected one after the other for the same reason."""

    reason: str
    frames: int
    first_stamp_ns: int
    last_stamp_ns: int
    example: str = ""


@dataclass
class BagReport:
    """One recording: what was read from it and what became of its images."""

    path: str
    topics: dict[str, str | None] = field(default_factory=dict)
    frames_written: int = 0
    frames_already_there: int = 0
    images: int = 0
    images_stamps_ns: tuple[int, int] | None = None
    poses: int = 0
    poses_stamps_ns: tuple[int, int] | None = None
    pose_problems: dict[str, int] = field(default_factory=dict)
    unreadable_messages: dict[str, int] = field(default_factory=dict)
    rejects: dict[str, int] = field(default_factory=dict)
    rejected: list[RejectedRun] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    clock_hint: str = ""

    def __post_init__(self) -> None:
        self.table: RejectTable | None = None  # no field: no part of the report itself

    def saw_image(self, stamp_ns: int) -> None:
        """Count an image and widen the time covered."""
        self.images += 1
        first, last = self.images_stamps_ns or (stamp_ns, stamp_ns)
        self.images_stamps_ns = min(first, stamp_ns), max(last, stamp_ns)

    def reject(self, stamp_ns: int, reason: str, example: str = "") -> None:
        """Count an image that gives no frame."""
        if self.table is not None:
            self.table.add(self.path, stamp_ns, reason, example)
        self.rejects[reason] = self.rejects.get(reason, 0) + 1
        last = self.rejected[-1] if self.rejected else None
        if last is not None and last.reason == reason:
            last.frames += 1
            last.last_stamp_ns = stamp_ns
        elif len(self.rejected) < _MOST_RUNS:
            self.rejected.append(RejectedRun(reason, 1, stamp_ns, stamp_ns, example))

    def note(self, text: str) -> None:
        """Keep a remark, once: what was chosen or assumed."""
        if text not in self.notes and text not in self.warnings:
            self.notes.append(text)

    def note_poses(self, problems: dict[str, int], source: str = "poses") -> None:
        """Keep counts of poses that were left out or sorted in, by reason; faults of the recording as warnings."""
        self.pose_problems = dict(problems)
        for reason, count in problems.items():
            (self.warn if reason.endswith(_FAULTS) else self.note)(f"{source}: {count} {reason}")

    def warn(self, text: str) -> None:
        """Keep a warning, once: what is wrong with the recording, or makes the dataset worse than it looks."""
        if text not in self.warnings:
            self.warnings.append(text)


@dataclass
class ConvertReport:
    """The whole conversion; also written as convert_report.yaml."""

    out: str
    settings: dict[str, Any] = field(default_factory=dict)
    bags: list[BagReport] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.table = RejectTable()

    def begin(self, path: Path | str) -> BagReport:
        """The part of the next recording."""
        part = BagReport(str(path))
        part.table = self.table
        self.table.begin(part.path)
        self.bags.append(part)
        return part

    @property
    def frames_written(self) -> int:
        """New frames."""
        return sum(bag.frames_written for bag in self.bags)

    @property
    def frames_already_there(self) -> int:
        """Frames that an earlier, interrupted run had written."""
        return sum(bag.frames_already_there for bag in self.bags)

    @property
    def rejects(self) -> dict[str, int]:
        """Rejected images by reason."""
        counts: Counter[str] = Counter()
        for bag in self.bags:
            counts.update(bag.rejects)
        return dict(counts)

    @property
    def warnings(self) -> list[str]:
        """What is wrong with the recordings, or makes the dataset worse than it looks, in words; each once."""
        return list(dict.fromkeys(warning for bag in self.bags for warning in bag.warnings))

    def problem(self, strict: bool) -> str:
        """With `strict`, warnings as an error in one line; else, or without any, ""."""
        count = len(self.warnings)
        if not strict or not count:
            return ""
        return f"{counted(count, 'warning')} (--strict); {self.out} is kept"

    @property
    def notes(self) -> list[str]:
        """What was chosen and assumed, in words; each once."""
        return list(dict.fromkeys(note for bag in self.bags for note in bag.notes))

    def write(self, folder: Path) -> None:
        """Write convert_report.yaml and rejects.csv atomically. OSError passes through."""
        values = {
            "frames_written": self.frames_written,
            "frames_already_there": self.frames_already_there,
            "rejects": self.rejects,
            "warnings": self.warnings,
            "settings": self.settings,
            "bags": [_plain(asdict(bag)) for bag in self.bags],
        }
        settings.write_yaml(folder / REPORT, values)
        self.table.write(folder)

    def summary(self) -> str:
        """A few lines for the terminal."""
        there = self.frames_already_there
        again = f" ({there} more {'was' if there == 1 else 'were'} there)" if there else ""
        lines = [f"{self.out}: {counted(self.frames_written, 'frame')} written{again}"]
        if self.rejects:
            counts = ", ".join(f"{count} {reason}" for reason, count in sorted(self.rejects.items()))
            lines.append(f"rejected: {counts} (see {REJECTS})")
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"warning: {warning}" for warning in self.warnings]
        return "\n".join(lines)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
