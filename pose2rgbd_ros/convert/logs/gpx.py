"""GPX tracks."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from xml.etree.ElementTree import ParseError

import gpxpy
import gpxpy.gpx
from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from pose2rgbd_ros.convert.logs.flight_log import SECOND, FlightLog, Rows, read_text
from pose2rgbd_ros.errors import UserError


def read_gpx(path: Path) -> FlightLog:
    """The points of all tracks, by time. A file cut off is read up to the cut. UserError when there is nothing
    usable.
    """
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
