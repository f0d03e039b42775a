"""Which reader a flight log needs."""

from __future__ import annotations

from pathlib import Path

from pose2rgbd_ros.convert.logs.csv import read_csv
from pose2rgbd_ros.convert.logs.flight_log import FlightLog
from pose2rgbd_ros.convert.logs.gpx import read_gpx
from pose2rgbd_ros.convert.logs.srt import read_srt
from pose2rgbd_ros.errors import UserError

_READERS = {".gpx": read_gpx, ".csv": read_csv, ".srt": read_srt}
SUFFIXES = tuple(_READERS)


def read_log(path: Path) -> FlightLog:
    """The log of a GPX, CSV or SRT file, by its suffix. UserError when it cannot be read or holds no position."""
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path} is no flight log that is read ({', '.join(SUFFIXES)})")
    return reader(path)
