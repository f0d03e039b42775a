"""Reading other tools' lists: whatever their byte order mark and line ends, and every error with its file and line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.geometry.arrays import Float64

_LONGEST_QUOTE = 200  # characters of a damaged line in a message
_LONGEST = 1000  # bytes of a path in a list


def lines(path: Path, blank: bool = False) -> Iterator[tuple[int, str]]:
    """Numbered lines without comments (`#`), one by one; blank ones only if asked for. UserError when unreadable."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                text = line.strip()
                if text.startswith("#") or not (text or blank):
                    continue
                yield number, text
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; the dataset is incomplete") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error})") from error


def wrong(path: Path, number: int, what: str) -> UserError:
    """The error about a line that makes no sense."""
    return UserError(f"{path}, line {number}: {short(what)}; repair or remove the line")


def short(what: object) -> str:
    """In words, of which only the first few hundred characters if they quote something endless."""
    words = str(what)
    return words if len(words) <= _LONGEST_QUOTE else f"{words[:_LONGEST_QUOTE]} ..."


def numbers(path: Path, number: int, fields: Sequence[str]) -> list[float]:
    """The fields as numbers (NaN is one). UserError for anything else."""
    try:
        return [float(field) for field in fields]
    except ValueError as error:
        raise wrong(path, number, str(error)) from None


def expect(path: Path, number: int, fields: Sequence[str], count: int, what: str) -> None:
    """UserError unless there are at least `count` fields: a list that was cut off ends like this."""
    if len(fields) < count:
        raise wrong(path, number, f"{len(fields)} fields; expected {count}: {what}")


def matrix(path: Path, rows: int, columns: int) -> Float64:
    """A file that holds one matrix (rows, columns), split by white space. UserError for another shape."""
    values: list[list[float]] = []
    for number, line in lines(path):
        fields = line.replace(",", " ").split()
        if len(fields) != columns or len(values) == rows:
            raise wrong(path, number, f"expected {rows} lines of {columns} numbers")
        values.append(numbers(path, number, fields))
    if len(values) != rows:
        raise UserError(f"{path} has {counted(len(values), 'line')} of numbers; expected {rows} of {columns}")
    return np.array(values)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. UserError, with the line, when it is none."""
    try:
        values = json.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; the dataset is incomplete") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}: no JSON ({error.msg}); repair the file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error})") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no JSON object")
    return values


def inside(root: Path, name: str, where: str, outside: bool = False) -> Path:
    """The path of a file that a list names, relative to `root`; backslashes are taken for slashes.

    UserError for one that lies elsewhere, unless `outside` allows it: a list from the network could otherwise pull
    any picture of this machine into a dataset that is passed on.
    """
    if "\0" in name or len(name.encode("utf-8", "replace")) > _LONGEST:
        raise UserError(f"{where}: {name[:60]!r} is no name of a file")
    path = PurePosixPath(name.replace("\\", "/"))
    level = 0
    for part in path.parts:
        level += -1 if part == ".." else 1
        if (path.is_absolute() or level < 0) and not outside:
            raise UserError(f"{where}: {name} lies outside {root}; --outside takes such files, too")
    return root / path


def is_file(path: Path) -> bool:
    """Whether there is such a file; names that cannot be one are none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
