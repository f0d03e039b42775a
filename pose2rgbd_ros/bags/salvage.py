"""Readers for recordings that lost their end: a killed recorder, a full disk, a broken download.

They go through the file front to back, without the index that is missing, and stop at the first record that is not
whole. All have the shape of the rosbags storage readers: `open`, `close`, `connections`, `messages`.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    MessageDefinition,
    MessageDefinitionFormat,
)
from rosbags.rosbag1.reader import Header, RecordType, decompressors, normalize, read_bytes, read_uint32
from rosbags.rosbag1.reader import ReaderError as Ros1Error
from rosbags.rosbag2 import ReaderError
from rosbags.rosbag2.storage_mcap import McapReader, read_sized
from rosbags.typesys.msg import normalize_msgtype

Message = tuple[Connection, int, bytes]
_MCAP_MAGIC_SIZE = 8
_MCAP_RECORD_HEAD = 9  # opcode, uint64 length


def _connection(number: int, topic: str, msgtype: str, count: int = 0) -> Connection:
    definition = MessageDefinition(MessageDefinitionFormat.NONE, "")
    return Connection(number, topic, msgtype, definition, "", count, ConnectionExtRosbag2("cdr", []), None)


class UnfinishedMcap(McapReader):
    """An mcap file up to its last whole record. A chunk that was being written is lost with it."""

    def _open(self) -> None:
        assert self.bio
        self.bio.seek(_MCAP_MAGIC_SIZE + 1)
        read_sized(self.bio)
        self.data_start = self.bio.tell()
        self.data_end = self._end_of_last_record(self.data_start)
        self.meta_scan()
        assert self.statistics
        counts = self.statistics.channel_message_counts
        self.connections = [
            item._replace(msgcount=counts.get(item.id, 0))
            for item in self.connections
            if getattr(item.ext, "serialization_format", "")
            == "cdr"  # mcap holds ROS 1 and JSON messages too
        ]

    def _end_of_last_record(self, position: int) -> int:
        assert self.bio
        size = self.bio.seek(0, 2)
        while position + _MCAP_RECORD_HEAD <= size:
            self.bio.seek(position + 1)
            end = position + _MCAP_RECORD_HEAD + int.from_bytes(self.bio.read(8), "little")
            if end > size:
                break
            position = end
        return position

    def messages(
        self, connections: Collection[Connection], start: int | None = None, stop: int | None = None
    ) -> Any:
        """Messages in the order they were written."""
        return self.messages_scan(connections, start, stop)


class UnfinishedSqlite:
    """A rosbag2 sqlite3 file read row by row; also one whose last rows are still in its write-ahead log."""

    def __init__(self, path: Path, with_log: bool = False) -> None:
        self.path = path
        self.connections: list[Connection] = []
        self._options = "mode=ro" if with_log else "mode=ro&immutable=1"
        self._database: sqlite3.Connection | None = None

    def open(self) -> None:
        """Find the topics and count the readable messages. ReaderError when there are none of either."""
        self._database = sqlite3.connect(f"{self.path.resolve().as_uri()}?{self._options}", uri=True)
        try:
            # Without this, SQLite refuses a file shorter than its header says.
            self._database.execute("PRAGMA writable_schema=ON")
            topics = self._database.execute("SELECT id, name, type FROM topics ORDER BY id").fetchall()
        except sqlite3.DatabaseError as error:
            self.close()
            raise ReaderError(f"no topics can be read ({error})") from error
        counts = Counter(topic for topic, _, _ in self._rows())
        self.connections = [_connection(i, name, kind, counts[i]) for i, name, kind in topics]

    def close(self) -> None:
        """Close the database."""
        if self._database is not None:
            self._database.close()
        self._database = None

    def messages(
        self, connections: Collection[Connection], start: int | None = None, stop: int | None = None
    ) -> Iterator[Message]:
        """Messages in the order they were written."""
        wanted = {item.id: item for item in connections}
        for topic, stamp_ns, data in self._rows():
            if topic in wanted:
                yield wanted[topic], stamp_ns, data

    def _rows(self) -> Iterator[tuple[int, int, bytes]]:
        assert self._database is not None
        try:
            yield from self._database.execute("SELECT topic_id, timestamp, data FROM messages ORDER BY id")
        except sqlite3.DatabaseError:
            return  # the first row that is not whole: what follows is lost


class UnfinishedRos1Bag:
    """A ROS 1 bag without (all of) its index: chunks up to the last whole one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connections: list[Connection] = []
        self._file: BinaryIO | None = None
        self._chunks: list[tuple[int, int, str]] = []  # position and size of the data, compression

    def open(self) -> None:
        """Find the chunks, the topics and the number of messages."""
        self._file = self.path.open("rb")
        self._file.readline()
        size = self.path.stat().st_size
        while self._file.tell() < size:
            try:
                header = Header.read(self._file)
                length = read_uint32(self._file)
                is_chunk = header.get_uint8("op") == RecordType.CHUNK
                compression = header.get_string("compression") if is_chunk else ""
            except (Ros1Error, ValueError):
                break
            position = self._file.tell()
            if position + length > size:
                break
            if is_chunk:
                self._chunks.append((position, length, compression))
            self._file.seek(position + length)
        found: dict[int, tuple[str, str]] = {}
        counts = Counter(number for number, _, _ in self._records(found))
        self.connections = [_connection(i, *found[i], counts[i]) for i in sorted(found)]

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def messages(
        self, connections: Collection[Connection], start: int | None = None, stop: int | None = None
    ) -> Iterator[Message]:
        """Messages in the order they were written."""
        wanted = {item.id: item for item in connections}
        for number, stamp_ns, data in self._records({}):
            if number in wanted:
                yield wanted[number], stamp_ns, data

    def _records(self, found: dict[int, tuple[str, str]]) -> Iterator[tuple[int, int, bytes]]:
        """Connection number, stamp and data of each message; connections go to `found` on the way."""
        assert self._file is not None
        for position, size, compression in self._chunks:
            self._file.seek(position)
            try:
                yield from _in_chunk(decompressors[compression](read_bytes(self._file, size)), found)
            except (Ros1Error, OSError, ValueError, KeyError, RuntimeError):
                return  # the first chunk that is not whole: what follows is lost


def _in_chunk(data: bytes, found: dict[int, tuple[str, str]]) -> Iterator[tuple[int, int, bytes]]:
    chunk = BytesIO(data)
    while chunk.tell() < len(data):
        header = Header.read(chunk)
        number = header.get_uint32("conn")
        if header.get_uint8("op") == RecordType.CONNECTION:
            details = Header.read(chunk)
            found[number] = (
                normalize(header.get_string("topic")),
                normalize_msgtype(details.get_string("type")),
            )
        else:
            yield number, header.get_time("time"), read_bytes(chunk, read_uint32(chunk))
