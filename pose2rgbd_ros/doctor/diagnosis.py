"""What `pose2rgbd doctor` says of a recording: findings with figures, jobs it is good for, what will come of it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pose2rgbd_ros.errors import counted
from pose2rgbd_ros.reports.table import Column, Table, aligned
from pose2rgbd_ros.training.config import AROUND_MINUTES, DEMO_MINUTES, PICTURES_MINUTES

# note: good to know. problem: it loses data, makes the result worse or stops a job. unusable: nothing can be converted.
Severity = Literal["unusable", "problem", "note"]
SEVERITIES: tuple[Severity, ...] = ("unusable", "problem", "note")
STATUS: dict[Severity, int] = {"note": 0, "problem": 1, "unusable": 2}


@dataclass(frozen=True)
class Finding:
    """One thing found.

    Args:
        code: a word that stays the same from release to release, for scripts.
        subject: the topic or file that it is about; "" the whole recording.
        text: what, in a sentence with its figures.
        next: what to do about it, a command where one helps.
        flags: options for `pose2rgbd convert` that deal with it.
        figures: the evidence as numbers, their units in their names.
    """

    code: str
    severity: Severity
    subject: str
    text: str
    next: str = ""
    flags: tuple[str, ...] = ()
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stream:
    """A topic, or what stands for one in files, and what it would serve as ("" for nothing)."""

    name: str
    type: str
    count: int
    serves_as: str = ""
    rate_hz: float | None = None
    longest_gap_s: float | None = None
    late_ms: float | None = None  # median of the reception after the stamp
    qos: str = ""


@dataclass(frozen=True)
class Job:
    """Something that users want of a recording: `missing` says why not (""; it can be done), `command` how."""

    name: str
    missing: str
    command: str


@dataclass(frozen=True)
class Expected:
    """What a conversion will give, by one that wrote nothing: frames, of how many images, disk and time."""

    images: int
    frames: int
    bytes: int
    convert_min: float
    run_min: float
    rejects: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        images: int,
        frames: int,
        frame_bytes: float,
        convert_s: float,
        rejects: dict[str, int],
        align_min: float | None = None,
    ) -> Expected:
        """align_min: how long an alignment takes that `run` will do; None: it does none."""
        convert_min = convert_s / 60
        training_min = DEMO_MINUTES if align_min is None else PICTURES_MINUTES
        run_min = convert_min + (align_min or 0.0) + training_min + AROUND_MINUTES
        return cls(images, frames, round(frames * frame_bytes), convert_min, run_min, dict(rejects))

    def __str__(self) -> str:
        lost = ", ".join(f"{count} {reason}" for reason, count in sorted(self.rejects.items(), key=lambda it: -it[1]))
        return (
            f"{counted(self.frames, 'frame')} of {counted(self.images, 'image')}{f' ({lost})' if lost else ''}, "
            f"{size_of(self.bytes)} on disk; converting takes about {minutes_of(self.convert_min)}, `pose2rgbd run` "
            f"with its training about {minutes_of(self.run_min)}"
        )


@dataclass
class Diagnosis:
    """All of one recording. `given` are the options it was read with, `facts` what is to be known of it, by name,
    `notes` what a conversion would assume.
    """

    source: tuple[str, ...]
    kind: str
    given: tuple[str, ...] = ()
    facts: dict[str, str] = field(default_factory=dict)
    streams: list[Stream] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    expected: Expected | None = None
    took_s: float = 0.0

    def add(
        self,
        code: str,
        severity: Severity,
        subject: str,
        text: str,
        next: str = "",
        flags: Sequence[str] = (),
        **figures: Any,
    ) -> None:
        """Keep a finding, once."""
        rounded = {name: round(it, 4) if isinstance(it, float) else it for name, it in figures.items()}
        finding = Finding(code, severity, subject, text, next, tuple(flags), rounded)
        if all((it.code, it.subject, it.text) != (code, subject, text) for it in self.findings):
            self.findings.append(finding)

    @property
    def status(self) -> int:
        """The exit status: 0 good, 1 with problems, 2 unusable."""
        return max((STATUS[it.severity] for it in self.findings), default=0)

    @property
    def ranked(self) -> list[Finding]:
        """The worst findings first."""
        return sorted(self.findings, key=lambda it: SEVERITIES.index(it.severity))

    @property
    def verdict(self) -> str:
        """In a sentence."""
        if self.status == 2:
            return f"unusable: {self.ranked[0].text}"
        problems = sum(it.severity == "problem" for it in self.findings)
        if self.expected is None:
            return "good" if not problems else counted(problems, "problem")
        frames = f"{self.expected.frames} of {counted(self.expected.images, 'image')} become frames"
        return f"{'good' if not problems else counted(problems, 'problem')}: {frames}"

    def convert_command(self, out: str = "DATASET") -> str:
        """The command that converts it, with the options that the findings ask for."""
        flags = dict.fromkeys([*self.given, *(flag for it in self.findings for flag in it.flags)])
        return " ".join(["pose2rgbd convert", *map(shlex.quote, self.source), out, *flags])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "source": list(self.source),
            "kind": self.kind,
            "status": self.status,
            "verdict": self.verdict,
            "next": self.next_command,
            "facts": self.facts,
            "findings": [asdict(it) for it in self.ranked],
            "streams": [asdict(it) for it in self.streams],
            "jobs": [{**asdict(it), "possible": not it.missing} for it in self.jobs],
            "expected": None if self.expected is None else asdict(self.expected),
            "notes": self.notes,
            "took_s": round(self.took_s, 2),
        }

    @property
    def next_command(self) -> str:
        """What to do next; "" where it is unusable."""
        return "" if self.status == 2 else self.convert_command()

    def stream_table(self) -> Table:
        """The topics."""
        columns = [
            Column("name", "topic"),
            Column("serves_as", "serves as"),
            Column("type", "type"),
            Column("count", "messages", "d"),
            Column("rate_hz", "rate", ".1f", "Hz"),
            Column("longest_gap_s", "longest gap", ".2f", "s"),
            Column("late_ms", "delay", _milliseconds),
            Column("qos", "QoS"),
        ]
        if not any(it.qos for it in self.streams):
            columns.pop()
        rows = [{**asdict(it), "type": it.type.replace("/msg/", "/")} for it in self.streams]
        return Table(
            columns,
            rows,
            muted=[i for i, it in enumerate(self.streams) if not it.serves_as or it.serves_as.startswith("(")],
        )

    def text(self) -> str:
        """For the terminal."""
        lines = [f"{' '.join(self.source)}: {self.verdict}", ""]
        lines += [aligned(self.facts.items(), ""), ""] if self.facts else []
        if self.streams:
            table = self.stream_table()
            shown = [i for i, column in enumerate(table.columns) if column.key != "type"]
            rows = [table.header, *(row for row, it in zip(table.body, self.streams, strict=True) if it.serves_as)]
            lines += [aligned([[row[i] for i in shown] for row in rows], ""), ""] if len(rows) > 1 else []
        for finding in self.ranked:
            about = f"{finding.subject}: " if finding.subject else ""
            lines.append(f"{finding.severity}: {about}{finding.text}  [{finding.code}]")
            lines += [f"    -> {finding.next}"] if finding.next else []
        lines += [""] if self.findings else []
        if self.expected is not None:
            lines += [f"you will get: {self.expected}", ""]
        if self.jobs:
            lines += [
                aligned(((it.name, f"no: {it.missing}" if it.missing else it.command) for it in self.jobs), ""),
                "",
            ]
        if self.next_command:
            lines.append(f"next: {self.next_command}")
        return "\n".join(lines).rstrip()


def _milliseconds(value: float) -> str:
    return f"{round(value):d} ms" if abs(value) < 1e4 else f"{value / 1000:,.0f} s"


def size_of(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def minutes_of(minutes: float) -> str:
    """A duration for people."""
    return f"{max(1, round(60 * minutes))} s" if minutes < 1 else f"{minutes:.0f} min"
