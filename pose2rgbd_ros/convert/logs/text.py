"""Flight logs that are text: the columns of CSV files, GPX tracks, and DJI's subtitles."""

from __future__ import annotations

import calendar
import csv
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from xml.etree.ElementTree import ParseError

import gpxpy
import gpxpy.gpx
import numpy as np
from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from pose2rgbd_ros.convert.logs.flight_log import SECOND, FlightLog, Rows, middle, read_text
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
    "'2024-05-01T12:00:00.5Z'; '2024-05-01 12:00:00'; '12:00:00.5'"
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
    times: list[tuple[int, int | None]] = []  # by the log's own clock, and UTC where both are given
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
    """The stamp by the log's finest clock, and UTC where that is given; None when the row has no time."""
    time, elapsed = columns.get("time"), columns.get("elapsed")
    text = _cell(cells, time)
    if "date" in columns and time is not None:
        text = f"{_cell(cells, columns['date']).strip()} {text.strip()}"
    given = time_of(text, time.unit) if time is not None else None
    utc = given[0] if given is not None and given[1] else None
    if elapsed is not None:
        value = number(_cell(cells, elapsed)) * elapsed.factor
        if not math.isfinite(value) or not 0 <= value < 9e9:
            return None
        return round(value * 1e9), utc
    return (given[0], utc) if given is not None else None


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


# GPX tracks.


def read_gpx(path: Path) -> FlightLog:
    """The points of all tracks, by time. A file cut off is read up to the cut. UserError without anything usable."""
    text, cut = _whole(read_text(path), path)
    try:
        gpx = gpxpy.parse(text)
    except (gpxpy.gpx.GPXException, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{path} is not a readable GPX file ({error})") from error
    rows = Rows()
    for track in gpx.tracks:
        for segment in track.segments:
            for point in segment.points:
                if point.time is None:
                    rows.problems["no_time"] += 1
                    continue
                altitude = math.nan if point.elevation is None else point.elevation
                unknown = [math.nan] * (Rows.WIDTH - 3)
                rows.add(_nanoseconds(point.time), [point.latitude, point.longitude, altitude, *unknown])
    if not rows.values:
        what = "points without a time" if rows.problems else "no track point"
        raise UserError(f"{path} holds {what}; a GPX track with times is needed")
    warnings = (f"{path.name} is cut off; it was read up to there",) if cut else ()
    return rows.log(path.name, "GPX", "utc", "msl", warnings=warnings)


def _whole(text: str, path: Path) -> tuple[str, bool]:
    """The text, closed after its last whole point when it is cut off. Entities are refused: they can explode."""
    try:
        ElementTree.fromstring(text)
        return text, False
    except DefusedXmlException as error:
        raise UserError(f"{path}: a GPX file with entities is not read ({type(error).__name__})") from error
    except (ParseError, ValueError) as error:
        end = text.rfind("</trkpt>")
        if end < 0:
            raise UserError(f"{path} is not a readable GPX file ({error})") from error
    closed = text[: end + len("</trkpt>")] + "</trkseg></trk></gpx>"
    try:
        ElementTree.fromstring(closed)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise UserError(f"{path} is a damaged GPX file ({error})") from error
    return closed, True


def _nanoseconds(time: datetime) -> int:
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    whole = aware.replace(microsecond=0)
    return int(whole.timestamp()) * SECOND + aware.microsecond * 1000


# DJI's subtitles: the telemetry of each frame or second, in the dialects that its drones write.

_NUMBER = r"([-+]?\d{1,12}(?:\.\d{1,15})?)"
_BLOCK = re.compile(r"(\d{1,3}):(\d\d):(\d\d)[,.](\d{1,3})\s*-->")
_DATE = re.compile(r"(\d{4})[-./](\d\d)[-./](\d\d)\s+(\d\d):(\d\d):(\d\d)(?:[.,](\d{3}))?")
# [latitude: 47.1], [longtitude : 8.2] (DJI's spelling), [rel_alt: 1.2 abs_alt: 400.1], [gb_yaw: 1 gb_pitch: 2 ...]
_FIELD = re.compile(r"\b([a-zA-Z_]{2,16})\s*:\s*" + _NUMBER)
# GPS(lon,lat,third), GPS (lon, lat, third); Autel writes GPS(W: 8.2, N: 47.1, 100.0m)
_GPS = re.compile(
    r"\bGPS\s*\(\s*(?:([EW])\s*:\s*)?"
    + _NUMBER
    + r"\s*,\s*(?:([NS])\s*:\s*)?"
    + _NUMBER
    + r"(?:\s*,\s*"
    + _NUMBER
    + r")?"
)
_BAROMETER = re.compile(r"\bBAROMETER\s*[:(]\s*" + _NUMBER)
_HEIGHT = re.compile(r"\bH\s+" + _NUMBER + "m")
_GIMBAL = re.compile(r"\bG\.PRY\s*\(" + r"\s*,\s*".join([_NUMBER + "°?"] * 3))
_FLIGHT = re.compile(r"\bF\.PRY\s*\(" + r"\s*,\s*".join([_NUMBER + "°?"] * 3))
_LONGEST_BLOCK = 4000


def read_srt(path: Path) -> FlightLog:
    """The telemetry of a subtitle file, on the video's time line. UserError when no subtitle has a position."""
    text = read_text(path)
    starts = list(_BLOCK.finditer(text))
    if not starts:
        raise UserError(f"{path} holds no subtitles (hh:mm:ss,mmm --> hh:mm:ss,mmm)")
    ends = [start.start() for start in starts[1:]] + [len(text)]
    blocks = [(_media_time_ns(start), text[start.end() : end]) for start, end in zip(starts, ends, strict=True)]
    return log_of_subtitles(blocks, path.name)


def log_of_subtitles(subtitles: Sequence[tuple[int, str]], name: str) -> FlightLog:
    """The telemetry of subtitles, each the video's time in nanoseconds and a text, as `read_srt` gives it."""
    rows, clock_ns, placed = Rows(), [], False
    for stamp_ns, whole in subtitles:
        block = whole[:_LONGEST_BLOCK]
        date = _DATE.search(block)
        taken_ns = _date_ns(date) if date else None
        if taken_ns is not None:
            clock_ns.append(taken_ns - stamp_ns)
        values = _values_of_block(block)
        placed |= math.isfinite(values[0])
        rows.add(stamp_ns, values)
    if not placed:
        raise UserError(
            f"{name}: none of {len(subtitles)} subtitles has a position; DJI's '[latitude: ..] [longitude: ..]' and "
            "'GPS(lon,lat,alt)' are read. Turn on video captions in the drone's app"
        )
    notes = (f"{name}: its dates have no time zone; they are taken as UTC",) if clock_ns else ()
    utc_at_zero_ns = middle(clock_ns) if clock_ns else None
    return rows.log(name, "DJI SRT", "video", "unknown", utc_at_zero_ns=utc_at_zero_ns, notes=notes)


def _media_time_ns(found: re.Match[str]) -> int:
    hours, minutes, seconds = (int(found[i]) for i in (1, 2, 3))
    return ((hours * 60 + minutes) * 60 + seconds) * SECOND + int(found[4].ljust(3, "0")) * 1_000_000


def _date_ns(found: re.Match[str]) -> int | None:
    try:
        moment = datetime(*(int(found[i]) for i in range(1, 7)))  # type: ignore[arg-type]
    except ValueError:
        return None
    return calendar.timegm(moment.timetuple()) * SECOND + int(found[7] or 0) * 1_000_000


def _values_of_block(block: str) -> list[float]:
    """A row for `Rows`."""
    fields = {name.lower(): float(value) for name, value in _FIELD.findall(block)}
    latitude = fields.get("latitude", math.nan)
    longitude = fields.get("longitude", fields.get("longtitude", math.nan))
    altitude = fields.get("abs_alt", fields.get("altitude", math.nan))
    height = fields.get("rel_alt", math.nan)
    gps = _GPS.search(block)
    if gps and not (math.isfinite(latitude) and math.isfinite(longitude)):
        longitude = float(gps[2]) * (-1 if gps[1] == "W" else 1)
        latitude = float(gps[4]) * (-1 if gps[3] == "S" else 1)
        measured = _BAROMETER.search(block) or _HEIGHT.search(block)
        if measured:
            height = float(measured[1])
        elif gps[5]:
            altitude = float(gps[5])  # beside a barometer the third number counts satellites
    body, camera = _angles(_FLIGHT, block), _angles(_GIMBAL, block)
    if "gb_yaw" in fields:
        camera = [fields["gb_yaw"], fields.get("gb_pitch", 0.0), fields.get("gb_roll", 0.0)]
    nan = math.nan
    return [latitude, longitude, altitude, height, nan, nan, nan, *body, *camera]


def _angles(pattern: re.Pattern[str], block: str) -> list[float]:
    """Yaw, pitch, roll of a triple that DJI writes as pitch, roll, yaw."""
    found = pattern.search(block)
    return [float(found[3]), float(found[1]), float(found[2])] if found else [math.nan] * 3


_READERS = {".gpx": read_gpx, ".csv": read_csv, ".srt": read_srt}
SUFFIXES = tuple(_READERS)


def read_log(path: Path) -> FlightLog:
    """The log of a GPX, CSV or SRT file, by its suffix. UserError when it cannot be read or holds no position."""
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path} is no flight log that is read ({', '.join(SUFFIXES)})")
    return reader(path)
