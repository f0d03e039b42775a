"""GPMF, GoPro's metadata: keys, lengths and values, nested, with scales and structures (github.com/gopro/gpmf-parser)."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from pose2rgbd_ros.geometry.arrays import Float64

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


def streams(payload: bytes) -> list[Stream]:
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
