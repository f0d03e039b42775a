"""CSV flight logs: columns are known by their names."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from pose2rgbd_ros.dataset.importers.logs.csv_columns import NAMES, TIMES_READ, meaning_of, number, time_of
from pose2rgbd_ros.dataset.importers.logs.flight_log import FlightLog, Rows, read_text
from pose2rgbd_ros.errors import UserError

_HEADER_WITHIN = 30
_TRUE = ("1", "true", "yes", "1.0")


@dataclass(frozen=True)
class _Column:
    index: int
    factor: float
    unit: str


def read_csv(path: Path) -> FlightLog:
    """The log. Columns are found by their names (docs/convert.md lists them), units stand in brackets or at the end.

    UserError, naming what was found and what is read, without a time or a position.
    """
    lines = read_text(path).splitlines()
    delimiter, header_at, columns = _header(lines, path)
    rows = Rows()
    times: list[tuple[int, int | None]] = []  # by the log's own clock, and UTC where both are told
    recording: list[bool] = []
    for cells in _rows(lines[header_at + 1 :], delimiter, path):
        if not any(cells):
            continue
        read = _times(cells, columns)
        if read is None:
            rows.problems["unreadable_row"] += 1
            continue
        times.append(read)
        recording.append(_cell(cells, columns.get("recording")).strip().lower() in _TRUE)
        rows.add(read[0], _values(cells, columns))
    if not times:
        raise UserError(f"{path}: no row has a time that can be read; times are read as {TIMES_READ}")
    return _log(path, rows, times, recording, columns)


def _log(
    path: Path,
    rows: Rows,
    times: Sequence[tuple[int, int | None]],
    recording: Sequence[bool],
    columns: dict[str, _Column],
) -> FlightLog:
    """Rows with an elapsed time and a date (of a second's resolution) get the UTC of the first, as fine as it is."""
    offsets = [utc - own for own, utc in times if utc is not None]
    is_utc = "elapsed" not in columns and len(offsets) == len(times)
    # Dates are cut to the second, so the latest of them is the nearest to the truth; one in twenty may be wrong.
    shift_ns = sorted(offsets)[int(0.95 * (len(offsets) - 1))] if offsets and not is_utc else 0
    rows.stamps_ns = [stamp + shift_ns for stamp in rows.stamps_ns]
    notes = []
    latitude = np.abs([row[0] for row in rows.values])
    known = latitude[latitude > 0]  # neither unknown nor without a fix
    if len(known) and known.min() > 1e4:  # PX4 and MAVLink log integers of 1e-7 degrees
        rows.values = [[row[0] * 1e-7, row[1] * 1e-7, *row[2:]] for row in rows.values]
        notes.append(f"{path.name}: latitude and longitude are taken as 1e-7 degrees")
    unitless = [name for name in ("altitude", "speed") if name in columns and not columns[name].unit]
    if unitless:
        notes.append(f"{path.name}: {' and '.join(unitless)} without a unit, taken as metres and seconds")
    return rows.log(
        path.name,
        "CSV",
        "utc" if is_utc or offsets else "own",
        "unknown",
        recordings_ns=_runs(rows.stamps_ns, recording),
        notes=tuple(notes),
    )


def _header(lines: list[str], path: Path) -> tuple[str, int, dict[str, _Column]]:
    """Delimiter, line and columns of the header: the first line that names a latitude and a longitude."""
    seen = ""
    for at, line in enumerate(islice(lines, _HEADER_WITHIN)):
        for delimiter in (",", ";", "\t"):
            cells = next(_rows([line], delimiter, path), [])
            columns: dict[str, _Column] = {}
            for index, cell in enumerate(cells):
                meaning, factor, unit = meaning_of(cell)
                if meaning and meaning not in columns:
                    columns[meaning] = _Column(index, factor, unit)
            if "latitude" in columns and "longitude" in columns:
                if "time" not in columns and "elapsed" not in columns:
                    raise UserError(
                        f"{path}: no column is a time; expected one named {', '.join(NAMES['time'][:4])} or the like, "
                        f"with {TIMES_READ}"
                    )
                return delimiter, at, columns
        seen = seen or line[:120]
    raise UserError(
        f"{path}: no line names columns for latitude ({', '.join(NAMES['latitude'][:3])}) and longitude "
        f"({', '.join(NAMES['longitude'][:3])}); the first line is {seen!r}"
    )


def _rows(lines: list[str], delimiter: str, path: Path) -> Iterator[list[str]]:
    try:
        yield from csv.reader(lines, delimiter=delimiter)
    except csv.Error as error:
        raise UserError(f"{path} is not a readable CSV file ({error})") from error


def _cell(cells: Sequence[str], column: _Column | None) -> str:
    return cells[column.index] if column is not None and column.index < len(cells) else ""


def _times(cells: Sequence[str], columns: dict[str, _Column]) -> tuple[int, int | None] | None:
    """The stamp by the log's finest clock, and UTC where that is told; None when the row has no time."""
    time, elapsed = columns.get("time"), columns.get("elapsed")
    text = _cell(cells, time)
    if "date" in columns and time is not None:
        text = f"{_cell(cells, columns['date']).strip()} {text.strip()}"
    told = time_of(text, time.unit) if time is not None else None
    utc = told[0] if told is not None and told[1] else None
    if elapsed is not None:
        value = number(_cell(cells, elapsed)) * elapsed.factor
        if not math.isfinite(value) or not 0 <= value < 9e9:
            return None
        return round(value * 1e9), utc
    return (told[0], utc) if told is not None else None


def _values(cells: Sequence[str], columns: dict[str, _Column]) -> list[float]:
    def value(name: str) -> float:
        column = columns.get(name)
        return number(_cell(cells, column).replace(",", ".")) * column.factor if column else math.nan

    velocity = [value("ve"), value("vn"), -value("vd")]
    if math.isnan(velocity[0]) and "course" in columns:
        speed, course = value("speed"), math.radians(value("course"))
        velocity = [speed * math.sin(course), speed * math.cos(course), 0.0]
    return [
        *(value(name) for name in ("latitude", "longitude", "altitude", "height")),
        *velocity,
        *(value(name) for name in ("yaw", "pitch", "roll")),
        *(value(name) for name in ("gimbal_yaw", "gimbal_pitch", "gimbal_roll")),
    ]


def _runs(stamps_ns: Sequence[int], recording: Sequence[bool]) -> tuple[tuple[int, int], ...]:
    """First and last stamp of each stretch in which a video was recorded."""
    runs: list[tuple[int, int]] = []
    for stamp, on, before in zip(stamps_ns, recording, [False, *recording], strict=False):
        if on and before:
            runs[-1] = runs[-1][0], stamp
        elif on:
            runs.append((stamp, stamp))
    return tuple(runs)
