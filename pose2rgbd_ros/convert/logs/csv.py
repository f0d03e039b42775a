"""Names, units and times of the columns of CSV flight logs."""

from __future__ import annotations

import calendar
import csv
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path

import numpy as np

from pose2rgbd_ros.convert.logs.flight_log import SECOND, FlightLog, Rows, read_text
from pose2rgbd_ros.errors import UserError

# What a column means, and the names that loggers give it, lower case, letters and digits only, without its unit.
NAMES: dict[str, tuple[str, ...]] = {
    "elapsed": ("elapsed", "elapsedtime", "offset", "flytime", "boottime", "timems", "t", "customupdatetimeelapsed"),
    "time": ("time", "timestamp", "datetime", "utc", "utctime", "gpstime", "gpsdatetime", "datetimeutc", "stamp"),
    "date": ("date", "gpsdate"),
    "latitude": ("lat", "latitude", "gpslat", "gpslatitude", "osdlatitude"),
    "longitude": ("lon", "lng", "long", "longitude", "gpslon", "gpslng", "gpslongitude", "osdlongitude"),
    "altitude": (
        *("alt", "altitude", "ele", "elevation", "gpsalt", "gpsaltitude", "altitudemsl", "altmsl", "altitudewgs84"),
        *("altitudeabovesealevel", "absolutealtitude", "absalt", "altitudeellipsoid"),
    ),
    "height": (
        *("height", "heightabovetakeoff", "relativealtitude", "relalt", "altrel", "relativeheight", "osdheight"),
        *("altituderelative",),
    ),
    "speed": ("speed", "groundspeed", "horizontalspeed", "hspeed", "osdhspeed", "gpsspeed"),
    "course": ("course", "cog", "track", "courseoverground"),
    "vn": ("vn", "velocitynorth", "northspeed", "velnorth", "vnorth"),
    "ve": ("ve", "velocityeast", "eastspeed", "veleast", "veast"),
    "vd": ("vd", "velocitydown", "downspeed", "veldown", "vdown"),
    "yaw": ("yaw", "heading", "compassheading", "hdg", "osdyaw", "bearing", "azimuth"),
    "pitch": ("pitch", "osdpitch"),
    "roll": ("roll", "osdroll", "bank"),
    "gimbal_yaw": ("gimbalyaw", "gimbalheading", "camerayaw", "cameraheading"),
    "gimbal_pitch": ("gimbalpitch", "camerapitch"),
    "gimbal_roll": ("gimbalroll", "cameraroll"),
    "recording": ("isvideo", "camerainfoisvideo", "recording", "isrecording"),
}
_MEANING = {name: meaning for meaning, names in NAMES.items() for name in names}
# Factors to metres, metres per second, degrees and seconds.
_UNITS = {
    **dict.fromkeys(("m", "meters", "metres", "mps", "ms1", "deg", "degrees", "s", "sec", "seconds"), 1.0),
    **dict.fromkeys(("ft", "feet"), 0.3048),
    **dict.fromkeys(("mph",), 0.44704),
    **dict.fromkeys(("kmh", "kph"), 1 / 3.6),
    **dict.fromkeys(("kn", "kt", "kts", "knots"), 1852 / 3600),
    **dict.fromkeys(("rad", "radians"), 180 / math.pi),
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "microseconds"), 1e-6),
    **dict.fromkeys(("ns", "nanoseconds"), 1e-9),
    **dict.fromkeys(("cm",), 1e-2),
    **dict.fromkeys(("mm",), 1e-3),
    **dict.fromkeys(("e7", "1e7", "dege7"), 1e-7),
}
_SPEED_UNIT = {"m/s": "mps", "km/h": "kmh"}
_DATES = (*("%Y-%m-%d %H:%M:%S", "%Y/%m/%d %H:%M:%S", "%Y:%m:%d %H:%M:%S", "%Y.%m.%d %H:%M:%S", "%Y%m%d %H%M%S"),)
TIMES_READ = (
    "seconds, milliseconds, microseconds or nanoseconds since 1970; seconds since any moment; "
    "'2024-05-01T12:00:00.5Z'; "
    "'2024-05-01 12:00:00'; '12:00:00.5'"
)


def meaning_of(header: str) -> tuple[str, float, str]:
    """What a column's name says: its meaning ("" when not known), the factor of its unit, the unit ("" when none)."""
    text = header.strip().lower()
    for long, short in _SPEED_UNIT.items():
        text = text.replace(long, short)
    unit, bare = "", text
    bracket = re.search(r"[(\[]\s*([^)\]]*)\s*[)\]]", text)
    if bracket:
        unit, bare = bracket[1], text[: bracket.start()]
    name = re.sub(r"[^a-z0-9]", "", bare)
    if name not in _MEANING and "_" in bare:
        stem, _, last = bare.rpartition("_")
        if last in _UNITS:
            unit, name = last, re.sub(r"[^a-z0-9]", "", stem)
    meaning = _MEANING.get(name, "")
    if unit in ("utc", "gmt", "local") or unit not in _UNITS:
        return meaning, 1.0, ""
    if meaning == "time" and unit in ("s", "sec", "seconds", "ms", "millisecond", "milliseconds"):
        meaning = "elapsed"
    return meaning, _UNITS[unit], unit


def number(text: str) -> float:
    """A finite number; NaN for anything else."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def time_of(text: str, unit: str = "") -> tuple[int, bool] | None:
    """Nanoseconds, and whether they count from 1970 (else from an unknown moment); None when it is no time.

    A number without a unit is in the unit that puts it into this era; below 1e8 it is seconds since any moment.
    """
    text = text.strip()
    value = number(text)
    if math.isfinite(value):
        return _time_of_number(text, value, unit)
    moment = _moment(text)
    if moment is not None:
        return moment
    clock = re.fullmatch(r"(\d{1,2}):(\d\d):(\d\d)(?:[.,](\d{1,9}))?", text)
    if clock:
        seconds = (int(clock[1]) * 60 + int(clock[2])) * 60 + int(clock[3])
        return seconds * SECOND + int((clock[4] or "0").ljust(9, "0")), False
    return None


def _time_of_number(text: str, value: float, unit: str) -> tuple[int, bool] | None:
    if not 0 <= value < 9e18:
        return None
    scales = ((1e17, 1), (1e14, 1_000), (1e11, 1_000_000), (0.0, SECOND))
    scale = {"ns": 1, "us": 1_000, "ms": 1_000_000}.get(unit) or next(
        factor for least, factor in scales if value >= least
    )
    whole, _, part = text.partition(".")
    if whole.isdecimal() and (part.isdecimal() or not part):  # exact: doubles end at microseconds
        nanoseconds = int(whole) * scale + (int(part[:18]) * scale // 10 ** len(part[:18]) if part else 0)
    else:
        nanoseconds = round(value * scale)
    return (nanoseconds, nanoseconds >= 10**8 * SECOND) if nanoseconds < 9e18 else None


def _moment(text: str) -> tuple[int, bool] | None:
    """A date with a time. Without a zone it is taken as UTC."""
    head, _, part = text.replace(",", ".").partition(".")
    digits = re.match(r"\d+", part)
    nanoseconds = int(digits[0][:9].ljust(9, "0")) if digits else 0
    zone = text[len(head) + 1 + len(digits[0]) :] if digits else ""
    if not digits:
        found = re.search(r"(Z|[+-]\d\d:?\d\d)$", head[10:])
        zone, head = (found[0], head[: -len(found[0])]) if found else ("", head)
    for form in _DATES:
        try:
            seconds = calendar.timegm(datetime.strptime(head.replace("T", " ").strip(), form).timetuple())
            break
        except ValueError:
            continue
    else:
        return None
    shift = re.fullmatch(r"([+-])(\d\d):?(\d\d)", zone.strip())
    if shift:
        minutes = int(shift[2]) * 60 + int(shift[3])
        seconds -= minutes * 60 if shift[1] == "+" else -minutes * 60
    elif zone.strip() not in ("", "Z", "UTC"):
        return None
    return (seconds * SECOND + nanoseconds, True) if seconds >= 0 else None


# CSV flight logs: columns are known by their names.


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
