"""rejects.csv: every rejected image with its reason, one a line, in bounded memory."""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

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
        seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
        self._csv.writerow((recording, f"{seconds}.{nanoseconds:09d}", reason, " ".join(detail.split())))

    def write(self, folder: Path) -> None:
        """Write or atomically replace rejects.csv; rows of recordings that were not read this time stay."""
        path = folder / REJECTS
        temporary = path.with_name(f".{path.name}.tmp")
        self._rows.seek(0)
        resolved = functools.cache(
            lambda name: Path(name).resolve()
        )  # it may have been named by another path
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
