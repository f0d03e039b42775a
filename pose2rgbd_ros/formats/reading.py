"""Reading other tools' files: lists, with file and line in every error; images and depth, found, measured and read."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np

from pose2rgbd_ros.dataset.encode import BadFrame
from pose2rgbd_ros.errors import UserError, counted, os_errors
from pose2rgbd_ros.geometry import depth as rules
from pose2rgbd_ros.geometry.arrays import AnyArray, Float32, Float64
from pose2rgbd_ros.geometry.depth import decode_file
from pose2rgbd_ros.streams.samples import DepthSample, compressed_size

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


# Image and depth files of other tools: finding, measuring and reading them.

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
_PNG = b"\x89PNG"
_HEAD = 1 << 20  # a JPEG's size may stand behind a large EXIF thumbnail


def image_files(folder: Path) -> list[Path]:
    """The images of a folder by name."""
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)


def image_size(file: Path) -> tuple[int, int]:
    """Width and height of an image. UserError when it is none."""
    with os_errors(f"{file} cannot be read"):
        with file.open("rb") as stream:
            found = compressed_size(stream.read(_HEAD))
        if found is not None:
            return found[1], found[2]
        data = file.read_bytes()
    image = decode_file(data, cv2.IMREAD_UNCHANGED)
    if image is None:
        raise UserError(f"{file} is no readable image")
    return int(image.shape[1]), int(image.shape[0])


def first_size(files: list[Path]) -> tuple[int, int]:
    """The size of the first image that can be read. UserError when none of the first hundred can."""
    problem: UserError | None = None
    for file in files[:100]:
        try:
            return image_size(file)
        except UserError as error:
            problem = problem or error
    raise problem or UserError("there are no images")


def read_bytes(file: Path) -> bytes:
    """The contents. BadFrame "image_missing" when there are none to be had."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadFrame("image_missing", f"{file} cannot be read ({error.strerror})") from error


def read_depth(stamp_ns: int, file: Path, unit_m: float, unknown: int | None) -> DepthSample | Float32:
    """Depth (H, W) of 16 bit counts, or of floats (TIFF, .npy) in `unit_m`. 0 and `unknown` are unknown.

    BadFrame "depth_missing" or "depth_unreadable".
    """
    try:
        data = file.read_bytes()
        image = _pixels(file, data)
    except FileNotFoundError as error:
        raise BadFrame("depth_missing", f"{file} does not exist") from error
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise BadFrame("depth_unreadable", f"{file} cannot be read ({error})") from error
    if image.ndim == 2 and image.dtype == np.uint16:
        png = data if data.startswith(_PNG) else None
        if unknown is not None and (image == unknown).any():
            image, png = np.where(image == unknown, np.uint16(0), image), None
        return DepthSample.from_counts(stamp_ns, "", image, unit_m, png)
    if image.ndim == 2 and image.dtype in (np.float32, np.float64):
        return rules.known(image.astype(np.float64) * unit_m)
    raise BadFrame(
        "depth_unreadable",
        f"{file} holds {image.dtype} pixels of shape {image.shape}; expected one channel of 16 bit counts or floats",
    )


def _pixels(file: Path, data: bytes) -> AnyArray:
    """The array of an image or .npy file, without a last axis of one channel. ValueError: it is none, or cut off."""
    if file.suffix.lower() == ".npy":
        image: AnyArray | None = np.load(io.BytesIO(data), allow_pickle=False)
    else:
        if data.startswith(_PNG) and b"IEND" not in data[-64:]:
            raise ValueError("the PNG ends too early")
        image = decode_file(data, cv2.IMREAD_UNCHANGED)
    if image is None:
        raise ValueError("no image")
    return image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
