"""What an import did: frames written, frames that could not be used and why, and what had to be assumed."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pose2rgbd_ros import settings
from pose2rgbd_ros.errors import counted

REPORT = "import_report.yaml"


@dataclass
class SourceReport:
    """One source: `rejects` counts frames by reason, `examples` has the first of each in words."""

    path: str
    format: str
    frames_written: int = 0
    frames_already_there: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def reject(self, reason: str, example: str) -> None:
        """Count a frame that cannot be used."""
        self.rejects[reason] += 1
        self.examples.setdefault(reason, example)


@dataclass
class ImportReport:
    """The whole import; also written as import_report.yaml."""

    out: str
    settings: dict[str, Any] = field(default_factory=dict)
    sources: list[SourceReport] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)  # of the dataset, as inspect gives them

    @property
    def frames_written(self) -> int:
        """New frames."""
        return sum(source.frames_written for source in self.sources)

    @property
    def frames_already_there(self) -> int:
        """Frames that an earlier, interrupted run had written."""
        return sum(source.frames_already_there for source in self.sources)

    @property
    def rejects(self) -> Counter[str]:
        """Frames that could not be used, by reason."""
        return sum((source.rejects for source in self.sources), Counter())

    def write(self, folder: Path) -> None:
        """Write import_report.yaml atomically. OSError passes through."""
        sources = [{**asdict(source), "rejects": dict(source.rejects)} for source in self.sources]
        counts = {"frames_written": self.frames_written, "frames_already_there": self.frames_already_there}
        settings.write_yaml(
            folder / REPORT,
            {**counts, "warnings": self.warnings, "settings": self.settings, "sources": sources},
        )

    def summary(self) -> str:
        """A few lines for the terminal."""
        there = self.frames_already_there
        again = f" ({there} more {'was' if there == 1 else 'were'} there)" if there else ""
        read = ", ".join(
            dict.fromkeys(f"{Path(source.path).name}: {source.format}" for source in self.sources)
        )
        lines = [f"{self.out}: {counted(self.frames_written, 'frame')} written{again} ({read})"]
        lines += [f"rejected: {reason_line}" for reason_line in self.reject_lines()]
        notes = dict.fromkeys(note for source in self.sources for note in source.notes)
        lines += [f"note: {note}" for note in notes]
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])

    def reject_lines(self) -> list[str]:
        """Each reason with its count and an example."""
        examples: dict[str, str] = {}
        for source in self.sources:
            for reason, example in source.examples.items():
                examples.setdefault(reason, example)
        return [f"{n} {reason} (first: {examples[reason]})" for reason, n in sorted(self.rejects.items())]
