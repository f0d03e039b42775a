"""Stamps for frames of formats that have none: from what the files are called, else from their order."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.formats import sidecar
from pose2rgbd_ros.errors import UserError

_SECOND = 1_000_000_000
# Sequences are set apart by this much, so that they count as different recordings.
PAUSE_NS = 10 * _SECOND
_NANOSECONDS = re.compile(r"\d{15,19}")
_SECONDS = re.compile(r"\d{1,18}\.\d{1,9}")
_NUMBER = re.compile(r"(\d{1,18})\D*$")
_MOST = 10_000_000  # a larger number is no count of frames (a date, say): then the order counts


def from_names(
    names: Sequence[str], rate_hz: float, start_ns: int, nanoseconds: bool = False
) -> tuple[list[int], str]:
    """A stamp for each file (by its name, folders included), and in words where they come from.

    Names that are stamps (nanoseconds, or seconds with decimals) are kept. Else the number in the name counts frames
    at `rate_hz` from `start_ns` on; each folder is a sequence of its own, later than the one before. Without numbers
    the sorted order counts. `nanoseconds`: names are stamps however short.

    UserError: names that should be stamps are not.
    """
    stems = [PurePosixPath(name).stem for name in names]
    stems = [stem.removesuffix(".color") for stem in stems]
    if nanoseconds and not all(stem.isdecimal() and len(stem) <= 19 for stem in stems):
        raise UserError(f"{sidecar.NAME} says that images are named by their stamps, but some are not")
    if nanoseconds or all(_NANOSECONDS.fullmatch(stem) for stem in stems):
        return [int(stem) for stem in stems], "the images' names, which are stamps in nanoseconds"
    decimals = [PurePosixPath(name).name.rsplit(".", 1)[0] for name in names]
    if all(_SECONDS.fullmatch(text) for text in decimals):
        return [
            layout.parse_stamp(text) for text in decimals
        ], "the images' names, which are stamps in seconds"
    return _counted(names, stems, rate_hz, start_ns)


def _counted(
    names: Sequence[str], stems: Sequence[str], rate_hz: float, start_ns: int
) -> tuple[list[int], str]:
    numbers = [int(found[1]) if (found := _NUMBER.search(stem)) else -1 for stem in stems]
    folders = [str(PurePosixPath(name).parent) for name in names]
    distinct = len(set(zip(folders, numbers, strict=True))) == len(names)
    by_number = distinct and all(0 <= number <= _MOST for number in numbers)
    if not by_number:
        order = sorted(range(len(names)), key=lambda i: names[i])
        for place, i in enumerate(order):
            numbers[i] = place
        folders = [""] * len(names)
    stamps, begin = [0] * len(names), start_ns
    for folder in sorted(set(folders)):
        members = [i for i, other in enumerate(folders) if other == folder]
        for i in members:
            stamps[i] = begin + round(numbers[i] * _SECOND / rate_hz)
        begin = after(max(stamps[i] for i in members))
    what = "the numbers in the images' names" if by_number else "the images' sorted order"
    return stamps, f"{what}, at {rate_hz:g} frames a second (--rate-hz)"


def after(last_ns: int) -> int:
    """The first whole second at least `PAUSE_NS` later."""
    return math.ceil((last_ns + PAUSE_NS) / _SECOND) * _SECOND
