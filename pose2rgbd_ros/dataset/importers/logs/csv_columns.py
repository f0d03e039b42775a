"""Names, units and times of the columns of CSV flight logs."""

from __future__ import annotations

import calendar
import math
import re
from datetime import datetime

from pose2rgbd_ros.dataset.importers.logs.flight_log import SECOND

# What a column means, and the names that loggers give it, lower case, letters and digits only, without its unit.
NAMES: dict[str, tuple[str, ...]] = {
    "elapsed": (
        "elapsed",
        "elapsedtime",
        "offset",
        "flytime",
        "boottime",
        "timems",
        "t",
        "customupdatetimeelapsed",
    ),
    "time": (
        "time",
        "timestamp",
        "datetime",
        "utc",
        "utctime",
        "gpstime",
        "gpsdatetime",
        "datetimeutc",
        "stamp",
    ),
    "date": ("date", "gpsdate"),
    "latitude": ("lat", "latitude", "gpslat", "gpslatitude", "osdlatitude"),
    "longitude": ("lon", "lng", "long", "longitude", "gpslon", "gpslng", "gpslongitude", "osdlongitude"),
    "altitude": (
        *(
            "alt",
            "altitude",
            "ele",
            "elevation",
            "gpsalt",
            "gpsaltitude",
            "altitudemsl",
            "altmsl",
            "altitudewgs84",
        ),
        *("altitudeabovesealevel", "absolutealtitude", "absalt", "altitudeellipsoid"),
    ),
    "height": (
        *(
            "height",
            "heightabovetakeoff",
            "relativealtitude",
            "relalt",
            "altrel",
            "relativeheight",
            "osdheight",
        ),
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
_DATES = (
    *("%Y-%m-%d %H:%M:%S", "%Y/%m/%d %H:%M:%S", "%Y:%m:%d %H:%M:%S", "%Y.%m.%d %H:%M:%S", "%Y%m%d %H%M%S"),
)
TIMES_READ = (
    "seconds, milliseconds, microseconds or nanoseconds since 1970; seconds since any moment; '2024-05-01T12:00:00.5Z'; "
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
