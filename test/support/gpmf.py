"""GPMF by code: keys, lengths and values as GoPro's cameras write them."""

from __future__ import annotations

import struct
from collections.abc import Sequence


def item(key: str, kind: str, data: bytes, size: int = 0) -> bytes:
    """One key with its bytes, padded; `kind` "" nests. `size` of one value: by default all of it."""
    size = size or max(len(data), 1)
    if not kind:
        size = 1
    head = struct.pack(">4scBH", key.encode(), kind.encode() if kind else b"\0", size, len(data) // size)
    return head + data + b"\0" * (-len(data) % 4)


def text(key: str, value: str) -> bytes:
    """A key with characters."""
    return item(key, "c", value.encode(), 1)


def numbers(key: str, kind: str, values: Sequence[float], fields: int = 1) -> bytes:
    """A key with numbers, `fields` of them to a value."""
    code = {"s": "h", "S": "H", "l": "i", "L": "I", "J": "Q", "j": "q", "f": "f", "b": "b", "B": "B"}[kind]
    data = struct.pack(f">{len(values)}{code}", *values)
    return item(key, kind, data, fields * struct.calcsize(code))


def stream(*items: bytes) -> bytes:
    """A STRM of these."""
    return item("STRM", "", b"".join(items))


def device(*streams: bytes) -> bytes:
    """A payload of one device."""
    return item("DEVC", "", numbers("DVID", "L", [1]) + text("DVNM", "Hero") + b"".join(streams))


def gps5(rows: Sequence[Sequence[float]], utc: str = "240501120000.000", fix: int = 3, dop: float = 1.5) -> bytes:
    """A stream of latitude, longitude, altitude, speed, speed."""
    scale = (10_000_000, 10_000_000, 1000, 1000, 100)
    values = [round(value * factor) for row in rows for value, factor in zip(row, scale, strict=True)]
    return stream(
        numbers("GPSF", "L", [fix]),
        item("GPSU", "U", utc.encode(), 16),
        numbers("GPSP", "S", [round(dop * 100)]),
        numbers("SCAL", "l", scale),
        numbers("GPS5", "l", values, 5),
    )


def gps9(rows: Sequence[Sequence[float]]) -> bytes:
    """A stream of latitude, longitude, altitude, two speeds, days since 2000, seconds, DOP, fix."""
    scale = (10_000_000, 10_000_000, 1000, 1000, 100, 1, 1000, 100, 1)
    data = b"".join(
        struct.pack(">7i2H", *(round(value * factor) for value, factor in zip(row, scale, strict=True))) for row in rows
    )
    return stream(
        text("GPSA", "MSLV"), numbers("SCAL", "l", scale), text("TYPE", "lllllllSS"), item("GPS9", "?", data, 32)
    )
