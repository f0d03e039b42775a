"""DJI's subtitles: the telemetry of each frame or second, in the dialects that its drones write."""

from __future__ import annotations

import calendar
import math
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pose2rgbd_ros.convert.logs.flight_log import SECOND, FlightLog, Rows, middle, read_text
from pose2rgbd_ros.errors import UserError

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
    """The telemetry of a subtitle file, on the video's time line. UserError when no subtitle tells a position."""
    text = read_text(path)
    starts = list(_BLOCK.finditer(text))
    if not starts:
        raise UserError(f"{path} holds no subtitles (hh:mm:ss,mmm --> hh:mm:ss,mmm)")
    ends = [start.start() for start in starts[1:]] + [len(text)]
    blocks = [(_media_time_ns(start), text[start.end() : end]) for start, end in zip(starts, ends, strict=True)]
    return log_of_subtitles(blocks, path.name)


def log_of_subtitles(subtitles: Sequence[tuple[int, str]], name: str) -> FlightLog:
    """The telemetry of subtitles, each the video's time in nanoseconds and a text, as `read_srt` gives it."""
    rows, clock_ns, told = Rows(), [], False
    for stamp_ns, whole in subtitles:
        block = whole[:_LONGEST_BLOCK]
        date = _DATE.search(block)
        taken_ns = _date_ns(date) if date else None
        if taken_ns is not None:
            clock_ns.append(taken_ns - stamp_ns)
        values = _values(block)
        told |= math.isfinite(values[0])
        rows.add(stamp_ns, values)
    if not told:
        raise UserError(
            f"{name}: none of {len(subtitles)} subtitles tells a position; DJI's '[latitude: ..] [longitude: ..]' and "
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


def _values(block: str) -> list[float]:
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
