"""The metadata track of a GoPro video: GPS of the camera (GPS5, GPS9), or the telemetry of a Karma drone."""

from __future__ import annotations

import calendar
import math
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np

from pose2rgbd_ros.convert.logs.flight_log import SECOND, Angles, FlightLog, Rows, angles, middle
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.geometry.arrays import Float64, Int64

# GPMF, GoPro's metadata: keys, lengths and values, nested, with scales and structures (github.com/gopro/gpmf- parser).


# Type characters to numpy's big-endian types; those that hold no numbers (c text, F fourcc, G id) are not here.
_DTYPES = {
    **{"b": ">i1", "B": ">u1", "s": ">i2", "S": ">u2", "l": ">i4", "L": ">u4", "j": ">i8", "J": ">u8"},
    **{"f": ">f4", "d": ">f8", "q": ">i4", "Q": ">i8"},
}
# Fixed point: q is 16.16, Q is 32.32.
_FIXED = {"q": 2.0**-16, "Q": 2.0**-32}
_DEEPEST = 8
_HEAD = struct.Struct(">4scBH")


@dataclass(frozen=True)
class Item:
    """One key and its bytes: `repeat` values of `size` bytes, of a type character; "" where it nests."""

    key: str
    type: str
    size: int
    repeat: int
    data: bytes


@dataclass(frozen=True)
class Stream:
    """One kind of measurement of one payload: `values` (N, fields) with scale applied, and what is said about it."""

    key: str
    values: Float64
    tags: dict[str, Item] = field(default_factory=dict)

    def text(self, key: str) -> str:
        """A tag as text, "" when it is not there."""
        item = self.tags.get(key)
        return item.data.split(b"\0")[0].decode("latin-1").strip() if item else ""


def items(data: bytes) -> Iterator[Item]:
    """The items of one level. Ends at the first that does not fit, so damaged data gives what stands before."""
    at = 0
    while at + _HEAD.size <= len(data):
        key, kind, size, repeat = _HEAD.unpack_from(data, at)
        length = size * repeat
        begin = at + _HEAD.size
        if key == b"\0\0\0\0" or begin + length > len(data):
            return
        yield Item(
            key.decode("latin-1"),
            "" if kind == b"\0" else kind.decode("latin-1"),
            size,
            repeat,
            data[begin : begin + length],
        )
        at = begin + (length + 3) // 4 * 4


def klv_streams(payload: bytes) -> list[Stream]:
    """The measurements of one payload (DEVC > STRM), in order; those that hold no numbers are left out."""
    return list(_streams(payload, 0))


def _streams(data: bytes, depth: int) -> Iterator[Stream]:
    for item in items(data):
        if item.type or depth > _DEEPEST:
            continue
        if item.key == "STRM":
            found = _stream(item.data)
            if found is not None:
                yield found
        else:
            yield from _streams(item.data, depth + 1)


def _stream(data: bytes) -> Stream | None:
    """By the format's rule the measurement is the last item, and the others are about it."""
    tags = {item.key: item for item in items(data) if item.type}
    if not tags:
        return None
    key = list(tags)[-1]
    measured = tags.pop(key)
    values = numbers(measured, tags.get("TYPE"))
    if values is None:
        return None
    scale = numbers(tags["SCAL"]) if "SCAL" in tags else None
    if scale is not None and scale.size in (1, values.shape[1]):
        values = np.divide(
            values, scale.reshape(1, -1), out=np.full_like(values, np.nan), where=scale.reshape(1, -1) != 0
        )
    return Stream(key, values, tags)


def numbers(item: Item, structure: Item | None = None) -> Float64 | None:
    """The values (repeat, fields) of an item as they stand; None for text and for structures that do not fit.

    `structure` is the TYPE tag of an item of type "?": one character per field, "f[3]" for three.
    """
    kinds = item.type
    if item.type == "?":
        if structure is None:
            return None
        text = structure.data.decode("latin-1").rstrip("\0")
        kinds = re.sub(r"(.)\[(\d{1,2})\]", lambda found: found[1] * int(found[2]), text)
    elif item.type in _DTYPES:
        each = np.dtype(_DTYPES[item.type]).itemsize
        kinds = item.type * (item.size // each)
    if not kinds or len(kinds) > 255:
        return None
    sizes = {"c": 1, "F": 4, "G": 16, "U": 16}
    fields = [(f"f{i}", _DTYPES.get(kind) or f"V{sizes.get(kind, 0)}") for i, kind in enumerate(kinds)]
    if any(kind not in _DTYPES and kind not in sizes for kind in kinds):
        return None
    dtype = np.dtype(fields)
    if dtype.itemsize != item.size or item.size == 0:
        return None
    rows = np.frombuffer(item.data, dtype=dtype)
    columns = [
        rows[name].astype(np.float64) * _FIXED.get(kind, 1.0)
        for (name, _), kind in zip(fields, kinds, strict=True)
        if kind in _DTYPES
    ]
    return np.stack(columns, axis=1) if columns else None


_EPOCH_2000_S = calendar.timegm((2000, 1, 1, 0, 0, 0))
_WORST_DOP = 20.0
Payload = tuple[int, int, bytes]  # begin and duration in nanoseconds of the video's time, and the bytes


def read_gpmf(payloads: Sequence[Payload], name: str) -> FlightLog:
    """The log in the payloads of a GPMF track, on the video's time line. UserError when they hold no position."""
    found: dict[str, list[tuple[Stream, Int64]]] = {}
    for begin_ns, duration_ns, data in payloads:
        for stream in klv_streams(data):
            count = len(stream.values)
            if count:
                spread = begin_ns + (np.arange(count) + 0.5) * duration_ns / count
                found.setdefault(stream.key, []).append((stream, spread.astype(np.int64)))
    for key, read in (("GLPI", _karma), ("GPRI", _karma), ("GPS9", _gps9), ("GPS5", _gps5)):
        if key in found:
            return _with_unread(read(found, name), found)
    raise UserError(
        f"{name}: its GoPro metadata hold no position ({', '.join(found) or 'nothing readable'}); "
        "was the camera's GPS on? A log can be given beside the video"
    )


def _with_unread(log: FlightLog, found: dict[str, list[tuple[Stream, Int64]]]) -> FlightLog:
    """The log, saying which recorded orientations are not used: the camera's against its first frame, not north."""
    unread = [key for key in ("CORI", "IORI", "GRAV") if key in found]
    if not unread:
        return log
    note = f"the camera's turning ({', '.join(unread)}) is not read: it is against its first frame, not against north"
    return replace(log, notes=(*log.notes, note))


def _karma(found: dict[str, list[tuple[Stream, Int64]]], name: str) -> FlightLog:
    """The drone's own log, stamped by its clock; when a payload came shows how its clock and the video's differ."""
    key = "GLPI" if "GLPI" in found else "GPRI"
    track = _stack(found[key], 9)
    tied = _stack(found[key], 9, media=True)
    boot_ns = _boot_ns(track)
    zero_ns = middle((boot_ns - tied[:, -1].astype(np.int64)).tolist())
    rows = Rows()
    for stamp_ns, row in zip(boot_ns - zero_ns, track, strict=True):
        latitude, longitude, altitude = row[1:4]
        height, velocity = (row[4], [row[6], row[5], -row[7]]) if key == "GLPI" else (math.nan, [math.nan] * 3)
        rows.add(int(stamp_ns), [latitude, longitude, altitude, height, *velocity, *[math.nan] * 6])
    body = _attitude(found, zero_ns)
    log = rows.log(
        name,
        "GoPro GPMF (Karma)",
        "video",
        "msl",
        utc_at_zero_ns=_utc_at_zero(found, zero_ns),
        notes=("its metadata came through a radio link of unknown delay, of the order of 0.1 s",),
    )
    # The camera hangs on a gimbal: it turns with the drone, but stays level.
    camera = Angles(body.stamps_ns, body.deg * [1.0, 0.0, 0.0]) if body else None
    how = "yaw of the drone, as logged; level, for the camera hangs on a gimbal, whose pitch is not logged"
    return replace(log, body=body, camera=camera, camera_how=how)


def _attitude(found: dict[str, list[tuple[Stream, Int64]]], zero_ns: int) -> Angles | None:
    if "ATTD" not in found:
        return None
    rows = _stack(found["ATTD"], 4)
    return angles(_boot_ns(rows) - zero_ns, np.degrees(rows[:, [3, 2, 1]]))


def _utc_at_zero(found: dict[str, list[tuple[Stream, Int64]]], zero_ns: int) -> int | None:
    if "SYST" not in found:
        return None
    rows = _stack(found["SYST"], 2)
    utc_ns = np.rint(rows[:, 1] * 1000).astype(np.int64) * 1_000_000
    return middle((utc_ns - _boot_ns(rows)).tolist()) + zero_ns


def _boot_ns(rows: Float64) -> Int64:
    return np.rint(rows[:, 0] * 1e6).astype(np.int64) * 1000


def _stack(parts: list[tuple[Stream, Int64]], columns: int, media: bool = False) -> Float64:
    """The finite rows of a stream of all payloads; with `media` their time on the video's time line as last column."""
    rows = [
        np.column_stack([stream.values[:, :columns], spread]) if media else stream.values[:, :columns]
        for stream, spread in parts
        if stream.values.shape[1] >= columns
    ]
    if not rows:
        raise UserError(f"the GoPro metadata {parts[0][0].key} have too few fields")
    whole: Float64 = np.concatenate(rows)
    # Numbers that no clock or place has come of damage, and would not fit 64 bit nanoseconds.
    usable = np.isfinite(whole).all(axis=1) & (np.abs(whole[:, :columns]) < 1e12).all(axis=1)
    usable &= np.abs(whole[:, 0]) < 8e9
    if not usable.any():
        raise UserError(f"the GoPro metadata {parts[0][0].key} hold no usable number")
    return whole[usable]


def _gps5(found: dict[str, list[tuple[Stream, Int64]]], name: str) -> FlightLog:
    """Latitude, longitude, altitude, speed over ground, speed; the payload says whether there was a fix (GPSF)."""
    rows, offsets, reference = Rows(), [], ""
    for stream, spread in found["GPS5"]:
        reference = reference or _reference(stream)
        utc_ns = _utc_of(stream.text("GPSU"))
        if utc_ns is not None:
            offsets.append(utc_ns - int(spread[0]))
        if stream.values.shape[1] < 3 or _tag(stream, "GPSF", 3.0) < 2 or _tag(stream, "GPSP", 0.0) / 100 > _WORST_DOP:
            rows.problems["no_fix"] += len(stream.values)
            continue
        _add_places(rows, spread, stream.values)
    return rows.log(name, "GoPro GPMF (GPS5)", "video", reference, utc_at_zero_ns=middle(offsets) if offsets else None)


def _gps9(found: dict[str, list[tuple[Stream, Int64]]], name: str) -> FlightLog:
    """As GPS5, and for each: days since 2000, seconds of the day, dilution of precision, and fix (0, 2, 3)."""
    rows, offsets, reference = Rows(), [], ""
    for stream, spread in found["GPS9"]:
        reference = reference or _reference(stream)
        values = stream.values
        if values.shape[1] < 9:
            rows.problems["no_fix"] += len(values)
            continue
        good = (values[:, 8] >= 2) & (values[:, 7] <= _WORST_DOP) & (np.abs(values[:, 5]) < 1e5)
        rows.problems["no_fix"] += int(np.sum(~good))
        _add_places(rows, spread[good], values[good])
        seconds = _EPOCH_2000_S + values[good, 5] * 86400 + values[good, 6]
        offsets.extend(np.rint(seconds * 1e3).astype(np.int64) * 1_000_000 - spread[good])
    return rows.log(name, "GoPro GPMF (GPS9)", "video", reference, utc_at_zero_ns=middle(offsets) if offsets else None)


def _add_places(rows: Rows, stamps_ns: Int64, values: Float64) -> None:
    unknown = [math.nan] * (Rows.WIDTH - 3)
    for stamp_ns, place in zip(stamps_ns, values[:, :3], strict=True):
        rows.add(int(stamp_ns), [*place, *unknown])


def _tag(stream: Stream, key: str, missing: float) -> float:
    found = numbers(stream.tags[key]) if key in stream.tags else None
    return float(found.flat[0]) if found is not None and found.size else missing


def _reference(stream: Stream) -> str:
    return {"MSLV": "msl", "ELLI": "ellipsoid"}.get(stream.text("GPSA"), "unknown")


def _utc_of(text: str) -> int | None:
    """GPSU: yymmddhhmmss.sss."""
    try:
        moment = datetime.strptime(text[:12], "%y%m%d%H%M%S")
        return calendar.timegm(moment.timetuple()) * SECOND + int(float("0" + text[12:]) * 1e9 if text[12:] else 0)
    except (ValueError, OverflowError):
        return None
