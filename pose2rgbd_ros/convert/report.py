"""A conversion's dataset, and its report: frames written, frames rejected and why, and what had to be assumed."""

from __future__ import annotations

import csv
import functools
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from pose2rgbd_ros.convert.settings import ConvertConfig
from pose2rgbd_ros.dataset.filters import NOT_WANTED
from pose2rgbd_ros.dataset.ingest import PRESENT, WRITTEN, FrameIngest, Outcome
from pose2rgbd_ros.dataset.layout import stamp_text
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.poses import camera_pose
from pose2rgbd_ros.settings import check, write_yaml

# rejects.csv: every rejected image with its reason, one a line, in bounded memory.


REJECTS = "rejects.csv"
COLUMNS = ("recording", "stamp", "reason", "detail")


class RejectTable:
    """Collects rows until there is a dataset to put them into. OSError passes through."""

    def __init__(self) -> None:
        self._rows = TemporaryFile("w+", newline="", encoding="utf-8")  # noqa: SIM115 - lives as long as this
        self._csv = csv.writer(self._rows, lineterminator="\n")
        self._recordings: set[Path] = set()

    def begin(self, recording: str) -> None:
        """Rows of an earlier run over this recording are replaced, also by none."""
        self._recordings.add(Path(recording).resolve())

    def add(self, recording: str, stamp_ns: int, reason: str, detail: str) -> None:
        """A rejected image."""
        self._csv.writerow((recording, stamp_text(stamp_ns), reason, " ".join(detail.split())))

    def write(self, folder: Path) -> None:
        """Write or atomically replace rejects.csv; rows of recordings that were not read this time stay."""
        path = folder / REJECTS
        temporary = path.with_name(f".{path.name}.tmp")
        self._rows.seek(0)
        resolved = functools.cache(lambda name: Path(name).resolve())  # it may have been named by another path
        with temporary.open("w", newline="", encoding="utf-8") as stream:
            table = csv.writer(stream, lineterminator="\n")
            table.writerow(COLUMNS)
            earlier = (row for row in _rows_of(path) if resolved(row[0]) not in self._recordings)
            table.writerows(earlier)
            table.writerows(csv.reader(self._rows))
        temporary.replace(path)

    def close(self) -> None:
        """Let go of what was collected."""
        self._rows.close()


def _rows_of(path: Path) -> Iterator[list[str]]:
    """The rows of an earlier run's file; none where there is no such file."""
    if not path.is_file():
        return
    with path.open(newline="", encoding="utf-8", errors="replace") as stream, suppress(csv.Error):
        for row in csv.reader(stream):
            if len(row) == len(COLUMNS) and tuple(row) != COLUMNS:
                yield row


REPORT = "convert_report.yaml"
# What poses are left out for that shows a fault of the recording, so that those beside them may be wrong too. Others
# are usual: TF says everything twice, a log begins before the receiver has a fix, and messages that come late are
# sorted in.
_FAULTS = ("non_finite_pose", "time_jump", "bad_frames", "unreadable_row", "wrong_time")
# Runs of rejected images that the report lists; rejects.csv has them all.
_MOST_RUNS = 1000
# More lost than this part of the images that were wanted is worth a warning.
_MOST_LOST = 0.5


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

    def count(self, outcomes: list[Outcome]) -> None:
        """Count what became of frames that were offered."""
        for outcome in outcomes:
            self.frames_written += outcome.result == WRITTEN
            self.frames_already_there += outcome.result == PRESENT
            if outcome.result not in (WRITTEN, PRESENT):
                self.reject(outcome.stamp_ns, outcome.result, outcome.detail)

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

    def require_frames(self, noun: str, ways_out: dict[str, str]) -> None:
        """UserError without a single frame: one line on why, with the way out of the commonest reason."""
        if self.frames_written or self.frames_already_there:
            return
        if hints := [bag.clock_hint for bag in self.bags if bag.clock_hint]:
            raise UserError(hints[0])
        rejects = self.rejects
        counts = ", ".join(f"{count} {reason}" for reason, count in rejects.items())
        example = next((run.example for bag in self.bags for run in bag.rejected if run.example), "")
        way_out = ways_out.get(max(rejects, key=lambda reason: rejects[reason], default=""), "")
        raise UserError(
            f"none of {counted(sum(bag.images for bag in self.bags), noun)} became a frame "
            f"({counts or f'no {noun} could be read'})"
            + (f"; for example: {example}" if example else "")
            + (f"; {way_out}" if way_out else "")
        )

    def warn_of_dataset(self, ingest: FrameIngest) -> None:
        """What `inspect` would warn of in the dataset that was made, and what of the images is not in it."""
        from pose2rgbd_ros.dataset.inspect import look_over  # with it comes matplotlib

        if ingest.writer is None:
            return
        part = self.bags[-1]
        if pixels := ingest.writer.too_far_pixels:
            part.warn(
                f"{counted(pixels, 'depth pixel')} beyond the reach of --depth-format "
                f"{self.settings.get('depth_format')} stored as unknown; auto loses none"
            )
        for warning in look_over(ingest.out):
            part.warn(warning)
        lost = {reason: count for reason, count in self.rejects.items() if reason not in NOT_WANTED}
        images = self.frames_written + self.frames_already_there + sum(lost.values())
        if sum(lost.values()) > _MOST_LOST * images:
            reason = max(lost, key=lambda name: lost[name])
            part.warn(
                f"{sum(lost.values())} of {counted(images, 'image')} gave no frame, most of them for {reason}: see "
                f"{REJECTS}"
            )

    @property
    def notes(self) -> list[str]:
        """What was chosen and assumed, in words; each once."""
        return list(dict.fromkeys(note for bag in self.bags for note in bag.notes))

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "frames_written": self.frames_written,
            "frames_already_there": self.frames_already_there,
            "rejects": self.rejects,
            "warnings": self.warnings,
            "settings": self.settings,
            "bags": [_plain(asdict(bag)) for bag in self.bags],
        }

    def write(self, folder: Path) -> None:
        """Write convert_report.yaml and rejects.csv atomically. OSError passes through."""
        write_yaml(folder / REPORT, self.to_dict())
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


@contextmanager
def conversion(
    out: Path | str, config: ConvertConfig, settings: dict[str, Any]
) -> Iterator[tuple[FrameIngest, ConvertReport]]:
    """The way into the dataset `out`, and the report; however the conversion ends, both are closed and written.

    `settings` is what the report says of them. UserError when one is wrong, or `out` cannot take frames.
    """
    check(config)
    if config.body_to_camera != "auto":
        camera_pose.parse_mount(config.body_to_camera)
    ingest = FrameIngest(Path(out), config, config.jpeg_quality)
    report = ConvertReport(str(out), settings)
    try:
        yield ingest, report
        ingest.close()
        report.warn_of_dataset(ingest)
    finally:
        # After a failure: put in order what is there, if the disk lets us.
        with suppress(UserError):
            ingest.close()
        if ingest.writer is not None:
            with suppress(OSError):
                report.write(ingest.out)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
