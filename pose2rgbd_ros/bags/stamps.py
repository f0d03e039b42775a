"""The header stamp of a serialized message, without reading the rest of it."""

from __future__ import annotations

import heapq
import struct
from collections.abc import Collection, Iterator
from io import BytesIO
from typing import Any, BinaryIO

from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.rosbag2.storage_mcap import ChunkInfo, McapReader, decompress, read_exact
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader

TF = "tf2_msgs/msg/TFMessage"
_LITTLE, _BIG = struct.Struct("<iI"), struct.Struct(">iI")
# Where sec and nanosec stand: behind the encapsulation of CDR, behind the sequence number of ROS 1.
_STAMP_AT = 4
# A TFMessage counts its transforms first; its stamp is that of the first one.
_LENGTH_BYTES = 4
_HEAD_BYTES = 256
_RECORD, _MESSAGE = struct.Struct("<BQ"), struct.Struct("<HIQQ")
_MESSAGE_OPCODE = 0x05
_SIZE, _INDEX_ENTRY = struct.Struct("<I"), struct.Struct("<QQ")

Head = tuple[Any, int, bytes]  # connection, when it was received, the first bytes


def header_stamp_ns(data: bytes, msgtype: str, ros: str) -> int:
    """The stamp in nanoseconds of a message that begins with a std_msgs/Header, or of a TFMessage; of ROS "1" or "2".

    struct.error when the message is too short, as a TFMessage without transforms is.
    """
    at = _STAMP_AT + (_LENGTH_BYTES if msgtype == TF else 0)
    little = ros == "1" or data[1:2] == b"\x01"
    seconds, nanoseconds = (_LITTLE if little else _BIG).unpack_from(data, at)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


def transform_edge(data: bytes, ros: str) -> str:
    """Which frames the first transform of a TFMessage joins: "parent -> child"; of ROS "1" or "2".

    struct.error when the message is too short.
    """
    at = _STAMP_AT + _LENGTH_BYTES + _LITTLE.size
    length = struct.Struct("<I" if ros == "1" or data[1:2] == b"\x01" else ">I")
    frames = []
    for _ in range(2):
        (size,) = length.unpack_from(data, at)
        at += length.size
        frames.append(data[at : at + size].rstrip(b"\0").decode(errors="replace").strip().lstrip("/"))
        at += size
        if ros == "2":
            at += -at % 4
    return " -> ".join(frames)


def message_heads(reader: Any, connections: Collection[Any]) -> Iterator[Head] | None:
    """The first bytes of messages in the order of reception, where the rest need not be read for it; else None.

    What the libraries below raise on damaged files passes through.
    """
    wanted = {item.id: item for item in connections}
    if type(reader) is McapReader and reader.chunks:
        return _heads_of_mcap(reader, wanted)
    if type(reader) is Sqlite3Reader:
        return _heads_of_sqlite(reader, wanted)
    return None


def in_storage_order(reader: Any, connections: Collection[Any]) -> list[tuple[str, int]]:
    """Topics and times of reception, in the order in which the messages were written.

    It differs from the order of reception where the recorder's own clock was set back. What the libraries below raise on
    damaged files passes through.
    """
    topics = {item.id: item.topic for item in connections}
    if type(reader) is McapReader and reader.chunks:
        return [(topics[number], at_ns) for number, at_ns in _written_to_mcap(reader, topics)]
    if type(reader) is Sqlite3Reader:
        assert reader.dbconn
        numbers = ", ".join(str(int(number)) for number in topics)
        rows = reader.dbconn.execute(
            f"SELECT topic_id, timestamp FROM messages WHERE topic_id IN ({numbers}) ORDER BY id"
        )
        return [(topics[number], at_ns) for number, at_ns in rows]
    if type(reader) is Ros1Reader:
        found = [
            (entry.chunk_pos, entry.offset, number, entry.time)
            for number in topics
            for entry in reader.indexes[number]
        ]
        return [(topics[number], at_ns) for _, _, number, at_ns in sorted(found)]
    # Files without an index are read front to back.
    return [(item.topic, at_ns) for item, at_ns, _ in reader.messages(connections)]


def _written_to_mcap(reader: McapReader, wanted: Collection[int]) -> Iterator[tuple[int, int]]:
    """Channels and times, from the index behind each chunk."""
    assert reader.bio
    for chunk in sorted(reader.chunks, key=lambda it: it.chunk_start_offset):
        found = []
        for number in chunk.message_index_offsets.keys() & set(wanted):
            reader.bio.seek(chunk.message_index_offsets[number] + _RECORD.size + 2)
            (size,) = _SIZE.unpack(read_exact(reader.bio, _SIZE.size))
            entries = _INDEX_ENTRY.iter_unpack(read_exact(reader.bio, size))
            found += [(offset, number, at_ns) for at_ns, offset in entries]
        yield from ((number, at_ns) for _, number, at_ns in sorted(found))


def _heads_of_mcap(reader: McapReader, wanted: dict[int, Any]) -> Iterator[Head]:
    assert reader.bio
    chunks = [
        _heads_of_chunk(reader.bio, chunk, wanted)
        for chunk in reader.chunks
        if any(chunk.channel_count.get(number, 0) for number in wanted)
    ]
    for connection, received_ns, head in heapq.merge(*chunks, key=lambda item: item[1]):
        if connection is not None:
            yield connection, received_ns, head


def _heads_of_chunk(bio: BinaryIO, chunk: ChunkInfo, wanted: dict[int, Any]) -> Iterator[Head]:
    yield None, chunk.message_start_time, b""  # the chunk is read when its time has come
    begin = chunk.chunk_start_offset + 9 + 40 + len(chunk.compression)
    stream: BinaryIO = bio
    if chunk.compression:
        bio.seek(begin)
        packed = read_exact(bio, chunk.compressed_size)
        stream = BytesIO(decompress(packed, chunk.compression, chunk.uncompressed_size, 0))
        begin = 0
    found: list[Head] = []
    at, end = begin, begin + chunk.uncompressed_size
    while at + _RECORD.size <= end:
        stream.seek(at)
        opcode, length = _RECORD.unpack(read_exact(stream, _RECORD.size))
        if opcode == _MESSAGE_OPCODE:
            number, _, received_ns, _ = _MESSAGE.unpack(read_exact(stream, _MESSAGE.size))
            if number in wanted:
                head = stream.read(min(_HEAD_BYTES, max(0, length - _MESSAGE.size)))
                found.append((wanted[number], received_ns, head))
        at += _RECORD.size + length
    yield from sorted(found, key=lambda item: item[1])


def _heads_of_sqlite(reader: Sqlite3Reader, wanted: dict[int, Any]) -> Iterator[Head]:
    """By incremental reading of blobs: the pages behind a large message's first are not touched."""
    assert reader.dbconn
    numbers = ", ".join(str(int(number)) for number in wanted)
    rows = reader.dbconn.execute(
        f"SELECT id, topic_id, timestamp FROM messages WHERE topic_id IN ({numbers}) ORDER BY timestamp"
    )
    for row, number, received_ns in rows:
        with reader.dbconn.blob_open("main", "messages", "data", row, False) as blob:
            yield wanted[number], received_ns, blob.read(_HEAD_BYTES)
