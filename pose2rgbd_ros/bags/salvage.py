"""Readers for recordings that lost their end: a killed recorder, a full disk, a broken download.

They go through the file front to back, without the index that is missing, past what is damaged as far as the next
record can be found. All have the shape of the rosbags storage readers: `open`, `close`, `connections`, `messages`.
"""

from __future__ import annotations

import sqlite3
import struct
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinition, MessageDefinitionFormat
from rosbags.rosbag1.reader import Header, RecordType, decompressors, normalize, read_bytes, read_uint32
from rosbags.rosbag1.reader import ReaderError as Ros1Error
from rosbags.rosbag2 import ReaderError
from rosbags.rosbag2.storage_mcap import McapReader, decompress, read_exact, read_sized, read_string
from rosbags.typesys.msg import normalize_msgtype

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Message = tuple[Connection, int, bytes]
_MCAP_MAGIC_SIZE = 8
_MCAP_RECORD_HEAD = 9  # opcode, uint64 length
_RECORD_HEAD, _CHANNEL_ID, _MESSAGE_HEAD = struct.Struct("<BQ"), struct.Struct("<H"), struct.Struct("<HIQQ")
_SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _DATA_END = 0x03, 0x04, 0x05, 0x06, 0x0F
_READ = {_SCHEMA: 2, _CHANNEL: 4, _MESSAGE: _MESSAGE_HEAD.size}  # and their least length
# What reading a part of a damaged file raises.
_BROKEN = (Ros1Error, ReaderError, OSError, ValueError, KeyError, RuntimeError, EOFError, struct.error, zstd.ZstdError)
_MOST_ATTEMPTS, _STEADY_STEPS = 400, 64


def _connection(number: int, topic: str, msgtype: str, count: int = 0) -> Connection:
    definition = MessageDefinition(MessageDefinitionFormat.NONE, "")
    return Connection(number, topic, msgtype, definition, "", count, ConnectionExtRosbag2("cdr", []), None)


class UnfinishedMcap(McapReader):
    """An mcap file read front to back, without its index: all whole records, also of a chunk that was cut short.

    Chunks that are damaged, and packed ones that are not whole, are left out.
    """

    def _open(self) -> None:
        assert self.bio
        self.bio.seek(_MCAP_MAGIC_SIZE + 1)
        read_sized(self.bio)
        self.data_start = self.bio.tell()
        schemas: dict[int, str] = {}
        topics: dict[int, tuple[str, str, str]] = {}
        counts: Counter[int] = Counter()
        for opcode, record in self._records():
            if opcode == _MESSAGE:
                counts[_CHANNEL_ID.unpack_from(record)[0]] += 1
                continue
            stream = BytesIO(record)
            number = _CHANNEL_ID.unpack(read_exact(stream, 2))[0]
            if opcode == _SCHEMA:
                schemas[number] = read_string(stream)
            else:
                schema = schemas.get(_CHANNEL_ID.unpack(read_exact(stream, 2))[0], "")
                topics[number] = read_string(stream), schema, read_string(stream)
        self.connections = [
            _connection(number, topic, schema, counts[number])
            for number, (topic, schema, encoding) in topics.items()
            if encoding == "cdr" and schema  # mcap holds ROS 1 and JSON messages too
        ]

    def messages(self, connections: Collection[Connection], start: int | None = None, stop: int | None = None) -> Any:
        """Messages in the order they were written."""
        wanted = {item.id: item for item in connections}
        for opcode, record in self._records():
            if opcode == _MESSAGE:
                number, _, stamp_ns, _ = _MESSAGE_HEAD.unpack_from(record)
                if number in wanted:
                    yield wanted[number], stamp_ns, record[_MESSAGE_HEAD.size :]

    def _records(self) -> Iterator[tuple[int, bytes]]:
        """Schemas, channels and messages with their opcodes."""
        assert self.bio
        size, at = self.bio.seek(0, 2), self.data_start
        while at + _MCAP_RECORD_HEAD <= size:
            self.bio.seek(at)
            opcode, length = _RECORD_HEAD.unpack(read_exact(self.bio, _MCAP_RECORD_HEAD))
            begin, end = at + _MCAP_RECORD_HEAD, at + _MCAP_RECORD_HEAD + length
            if opcode == _CHUNK:
                with suppress(*_BROKEN):
                    yield from _readable(self._chunk(begin, min(end, size)))
            elif opcode in _READ and end <= size and length >= _READ[opcode]:
                yield opcode, read_exact(self.bio, length)
            if opcode == _DATA_END:
                return
            at = end

    def _chunk(self, begin: int, end: int) -> bytes:
        """The records of a chunk, or as many as there are of one that is not packed."""
        assert self.bio
        stream = self.bio
        stream.seek(begin + 16)
        size, checksum = struct.unpack("<QI", read_exact(stream, 12))
        packing = read_string(stream)
        length = struct.unpack("<Q", read_exact(stream, 8))[0]
        whole = stream.tell() + length <= end
        data = stream.read(min(length, end - stream.tell()))
        return decompress(data, packing, size, checksum) if packing or whole else data


def _readable(chunk: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _MCAP_RECORD_HEAD <= len(chunk):
        opcode, length = _RECORD_HEAD.unpack_from(chunk, at)
        begin, at = at + _MCAP_RECORD_HEAD, at + _MCAP_RECORD_HEAD + length
        if at <= len(chunk) and opcode in _READ and length >= _READ[opcode]:
            yield opcode, chunk[begin:at]


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
            rows = self._database.execute("SELECT id, name, type FROM topics ORDER BY id").fetchall()
            topics = [row for row in rows if [type(value) for value in row] == [int, str, str]]
        except (sqlite3.Error, OverflowError) as error:
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
        """Topic, stamp and data of all rows that can be read, past those that cannot."""
        assert self._database is not None
        query = "SELECT id, topic_id, timestamp, data FROM messages WHERE id > ? ORDER BY id LIMIT ?"
        newest, skip, limit = 0, 0, -1
        for _ in range(_MOST_ATTEMPTS):
            try:
                found = False
                for row in self._database.execute(query, (newest + skip, limit)):
                    if row[0] <= newest:
                        raise sqlite3.DatabaseError("not in order")  # half a page, read as zeros
                    (newest, *values), skip, found = row, 0, True
                    if [type(value) for value in values] == [int, int, bytes]:
                        yield values[0], values[1], values[2]
                if limit < 0 or not found:
                    return
                limit = -1
            except (sqlite3.Error, OverflowError):
                if limit == 1:
                    # One row further; then in ever longer steps, for behind the end of a file nothing comes.
                    skip = skip + 1 if skip < _STEADY_STEPS else 2 * skip
                limit = 1  # the module looks one row ahead, and an error there takes a good row along
                if newest + skip >= 2**63:
                    return


class UnfinishedRos1Bag:
    """A ROS 1 bag without (all of) its index: all chunks that can be unpacked, and what there is of one cut short."""

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
            if is_chunk and (position + length <= size or compression == "none"):
                self._chunks.append((position, min(length, size - position), compression))
            if position + length > size:
                break
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
            with suppress(*_BROKEN):  # a chunk that is damaged or cut short: there may be others
                yield from _in_chunk(decompressors[compression](read_bytes(self._file, size)), found)


def _in_chunk(data: bytes, found: dict[int, tuple[str, str]]) -> Iterator[tuple[int, int, bytes]]:
    chunk = BytesIO(data)
    while chunk.tell() < len(data):
        header = Header.read(chunk)
        number = header.get_uint32("conn")
        if header.get_uint8("op") == RecordType.CONNECTION:
            details = Header.read(chunk)
            found[number] = (normalize(header.get_string("topic")), normalize_msgtype(details.get_string("type")))
        else:
            yield number, header.get_time("time"), read_bytes(chunk, read_uint32(chunk))
