"""A table is columns and rows of plain values; it comes out as Markdown, as CSV, as aligned text, or in a page."""

from __future__ import annotations

import csv
import io
import math
import numbers
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MISSING = "–"


@dataclass(frozen=True)
class Column:
    """How the values of one key are shown.

    Args:
        key: of the rows' values, and the column's name in a CSV file.
        title: the heading for people; None: the key. The unit follows in brackets.
        format: as of :func:`format`, or a function from a value to its text; a column with one holds numbers and
            stands to the right, one without holds text. A value that is text already stays as it is.
        missing: what stands where a row has no such key, None or NaN.
    """

    key: str
    title: str | None = None
    format: str | Callable[[Any], str] = ""
    unit: str = ""
    missing: str = MISSING

    @property
    def heading(self) -> str:
        title = self.key if self.title is None else self.title
        return f"{title} ({self.unit})" if self.unit else title

    def text(self, value: Any) -> str:
        """The cell of a value."""
        if value is None or (isinstance(value, numbers.Real) and math.isnan(value)):
            return self.missing
        if isinstance(value, str):
            return value
        return self.format(value) if callable(self.format) else format(value, self.format)


@dataclass(frozen=True)
class Table:
    """Columns, and rows by their keys. strong, muted: rows (by number) to look at first, and only to compare with."""

    columns: Sequence[Column]
    rows: list[dict[str, Any]] = field(default_factory=list)
    strong: Collection[int] = ()
    muted: Collection[int] = ()

    @classmethod
    def of(cls, formats: Mapping[str, str]) -> Table:
        """An empty table of columns by heading, with their formats."""
        return cls([Column(heading, format=style) for heading, style in formats.items()])

    def add(self, *values: Any) -> str:
        """A row, with a value for each column; returns its line of Markdown, to be shown at once."""
        self.rows.append(dict(zip((column.key for column in self.columns), values, strict=True)))
        return _markdown_row(self._cells(self.rows[-1]))

    @property
    def header(self) -> list[str]:
        return [column.heading for column in self.columns]

    @property
    def body(self) -> list[list[str]]:
        """Cells as text, a list a row."""
        return [self._cells(row) for row in self.rows]

    def _cells(self, row: Mapping[str, Any]) -> list[str]:
        return [column.text(row.get(column.key)) for column in self.columns]

    def markdown(self) -> str:
        """As GitHub reads it, numbers to the right; the first cell of muted rows in italics."""
        marks = "|".join("---:" if column.format else "---" for column in self.columns)
        lines = [_markdown_row(self.header), f"|{marks}|"]
        for i, row in enumerate(self.body):
            first = f"*{row[0]}*" if i in self.muted else row[0]
            lines.append(_markdown_row([first, *row[1:]]))
        return "\n".join(lines)

    def csv(self) -> str:
        """The keys, then a line a row with the values as they are, unrounded; empty where there is none."""
        text = io.StringIO()
        writer = csv.writer(text)  # ends lines by \r\n, or a lone \r in a cell would go unquoted
        writer.writerow([column.key for column in self.columns])
        writer.writerows([row.get(column.key) for column in self.columns] for row in self.rows)
        return text.getvalue().replace("\r\n", "\n")


def aligned(rows: Iterable[Sequence[str]], indent: str = "  ") -> str:
    """Lines of cells for a terminal, each column as wide as its widest cell."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(indent + line for line in lines)


def mean_spread(style: str, after: str = "") -> Callable[[Sequence[float]], str]:
    """A column's format for what several seeds gave: mean ± standard deviation of the finite values, then `after`."""

    def text(values: Sequence[float]) -> str:
        import statistics  # 10 ms that `pose2rgbd --help` need not wait for

        known = [float(value) for value in values if math.isfinite(value)]
        if not known:
            return MISSING + after
        mean = format(statistics.fmean(known), style)
        return (mean if len(known) == 1 else f"{mean} ± {statistics.stdev(known):{style}}") + after

    return text


def _markdown_row(cells: Sequence[str]) -> str:
    escaped = (" ".join(cell.replace("|", r"\|").split()) for cell in cells)
    return f"| {' | '.join(escaped)} |"
