"""The files of a recording: which they are, in which order, and a reader for each, whole or damaged."""

from __future__ import annotations

import errno
import re
import shutil
import sqlite3
import struct
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import apsw
from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.rosbag1 import ReaderError as Ros1Error
from rosbags.rosbag2 import ReaderError
from rosbags.rosbag2.storage_mcap import McapReader
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader

from pose2rgbd_ros.bags.salvage import UnfinishedMcap, UnfinishedRos1Bag, UnfinishedSqlite
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.settings import read_yaml

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_MAGIC = {b"#ROSBAG V": "ros1", b"SQLite format 3\0": "sqlite3", b"\x89MCAP0\r\n": "mcap", ZSTD_MAGIC: "zstd"}
_READERS: dict[str, tuple[type, type]] = {
    "ros1": (Ros1Reader, UnfinishedRos1Bag),
    "sqlite3": (Sqlite3Reader, UnfinishedSqlite),
    "mcap": (McapReader, UnfinishedMcap),
}
# What rosbags and the libraries below it raise on damaged input.
DAMAGE = (
    ReaderError,
    Ros1Error,
    apsw.Error,
    sqlite3.Error,
    zstd.ZstdError,
    struct.error,
    AssertionError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,  # a damaged length
    OSError,  # bz2
    OverflowError,
    RuntimeError,  # lz4
    TypeError,  # ord(b"") past the end of a file
    ValueError,
)


def kind_of(path: Path) -> str:
    """ "ros1", "sqlite3", "mcap" or "zstd" by the first bytes. UserError when it is none of them."""
    with path.open("rb") as file:
        head = file.read(16)
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    what = "is empty" if not head else "is not a rosbag"
    raise UserError(f"{path} {what}; expected a ROS 1 .bag, or a ROS 2 folder, .db3 or .mcap file")


def recording_files(path: Path) -> list[Path]:
    """The files of the recording at `path` (a folder or a file), in order. UserError when there are none."""
    if not path.exists():
        raise UserError(f"{path} does not exist; give a ROS 1 .bag, or a ROS 2 folder, .db3 or .mcap file")
    if path.is_file():
        return [path]
    if not path.is_dir():  # reading a pipe or /dev/zero would never end
        raise UserError(f"{path} is a device, a pipe or a socket; give a file or a folder")
    try:
        files = _listed_files(path) or _recordings_in(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from error
    if not files:
        raise UserError(f"{path} holds no .db3, .mcap or .bag file; is it the folder of a recording?")
    return files


def _listed_files(folder: Path) -> list[Path]:
    """The files that metadata.yaml lists and that exist (rosbag2 version 3 wrote names relative to the parent)."""
    with suppress(UserError, KeyError, TypeError):
        names = read_yaml(folder / "metadata.yaml")["rosbag2_bagfile_information"]["relative_file_paths"]
        return [folder / Path(name).name for name in names if (folder / Path(name).name).is_file()]
    return []


def _recordings_in(folder: Path) -> list[Path]:
    """The files that look like parts of a recording, in their order."""
    names = (item for item in folder.iterdir() if re.search(r"\.(mcap|db3|bag)(\.zstd)?$", item.name))
    return sorted((item for item in names if item.is_file()), key=_natural_order)


def _natural_order(path: Path) -> list[Any]:
    """flight_2 before flight_10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]


def open_file(path: Path, stack: ExitStack) -> tuple[Any, str, str | None]:
    """An open storage reader, "1" or "2" for its ROS, and what is wrong with the file (None: nothing).

    `stack` closes the reader and removes what was unpacked. UserError when nothing can be read.
    """
    kind = kind_of(path)
    shown = path
    if kind == "zstd":
        path = _unpacked(path, stack)
        kind = kind_of(path)
    if kind not in _READERS:
        raise UserError(f"{shown} is packed twice; unpack it with `zstd -d`")
    ros = "1" if kind == "ros1" else "2"
    if kind == "sqlite3" and _has_log(path):
        with suppress(*DAMAGE):
            return _opened(UnfinishedSqlite(path, with_log=True), stack), ros, None
    regular, unfinished = _READERS[kind]
    try:
        return _opened(regular(path), stack), ros, None
    except DAMAGE as error:
        reason = _one_line(error)
    with suppress(*DAMAGE):
        reader = _opened(unfinished(path), stack)
        if any(item.msgcount for item in reader.connections):
            return reader, ros, f"{shown.name} is damaged ({reason}); read up to the damage"
    raise UserError(f"{shown} is damaged and no message can be read from it ({reason})")


def open_remains(reader: Any, stack: ExitStack) -> Any | None:
    """A reader of what else can be read of a file that turned out to be damaged on the way; None for none."""
    path = reader.path
    for regular, unfinished in _READERS.values():
        if isinstance(reader, regular) and not isinstance(reader, unfinished):
            with suppress(*DAMAGE):
                return _opened(unfinished(path), stack)
    return None


def _opened(reader: Any, stack: ExitStack) -> Any:
    reader.open()
    stack.callback(reader.close)
    return reader


def _has_log(path: Path) -> bool:
    log = path.with_name(f"{path.name}-wal")
    return log.is_file() and log.stat().st_size > 0


def _unpacked(path: Path, stack: ExitStack) -> Path:
    """`path` without its zstd packing, in a folder that lives as long as `stack`."""
    folder = stack.enter_context(TemporaryDirectory(prefix="pose2rgbd-"))
    target = Path(folder) / path.stem
    try:
        with zstd.open(path, "rb") as packed, target.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked, 1 << 20)
    except (zstd.ZstdError, EOFError):
        pass  # cut short: what came out is looked at like any damaged file
    except OSError as error:
        raise UserError(f"{path} cannot be unpacked to {folder} ({error.strerror}); set TMPDIR") from error
    return target


def _one_line(error: BaseException) -> str:
    # What reading past the end of a file raises says nothing of that.
    if isinstance(error, (TypeError, IndexError, EOFError)) or (
        isinstance(error, OSError) and error.errno == errno.EINVAL
    ):
        return "it ends early"
    text = " ".join(str(error).split())
    return text[:200] or type(error).__name__
