"""Reads recordings of ROS 1 and ROS 2 message by message, without ROS, whole or damaged."""

from __future__ import annotations

import errno
import functools
import heapq
import itertools
import re
import shutil
import sqlite3
import struct
import sys
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import apsw
from rosbags.interfaces import MessageDefinitionFormat, Qos
from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.rosbag1 import ReaderError as Ros1Error
from rosbags.rosbag2 import ReaderError
from rosbags.rosbag2.storage_mcap import ChunkInfo, McapReader, decompress, read_exact
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, TypesysError, get_types_from_idl, get_types_from_msg, get_typestore

from pose2rgbd_ros.bags import decode
from pose2rgbd_ros.bags.decode import beginning_of
from pose2rgbd_ros.bags.salvage import UnfinishedMcap, UnfinishedRos1Bag, UnfinishedSqlite
from pose2rgbd_ros.errors import UserError, os_errors
from pose2rgbd_ros.settings import read_yaml

# The files of a recording: which they are, in which order, and a reader for each, whole or damaged.


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
    with os_errors(f"{path} cannot be read"):
        files = _listed_files(path) or _recordings_in(path)
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
        path = _unpacked_file(path, stack)
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


def _unpacked_file(path: Path, stack: ExitStack) -> Path:
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


# The header stamp of a serialized message, without reading the rest of it.


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

    It differs from the order of reception where the recorder's own clock was set back. What the libraries below raise
    on damaged files passes through.
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
            (entry.chunk_pos, entry.offset, number, entry.time) for number in topics for entry in reader.indexes[number]
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


# The message types of ROS 1 (Noetic) and ROS 2 (Jazzy), from the definitions that come with rosbags.
#
# The types this package reads have the same layout in every ROS 2 distribution, so bags without embedded definitions
# (sqlite3 before Iron) are read as well.


_TF_MESSAGE = "geometry_msgs/TransformStamped[] transforms\n"


@functools.cache
def typestore(ros: str) -> Any:
    """The rosbags typestore of ROS "1" or "2". UserError for anything else."""
    return _new(ros)


def typestore_of(ros: str, connections: Iterable[Any]) -> tuple[Any, frozenset[str]]:
    """The typestore for a file's connections, and the types of which it knows only the beginning (see `px4`).

    Types of PX4 are taken from the definitions that the file brings along.
    """
    wanted = {item.msgtype: item.msgdef for item in connections if item.msgtype in decode.PX4_TYPES}
    if not wanted:
        return typestore(ros), frozenset()
    store = _new(ros)  # releases differ, so what one recording defines must not reach the next
    for name, definition in wanted.items():
        parse = _PARSERS.get(definition.format)
        try:
            types = parse(definition.data, name) if parse and definition.data else {}
            store.register({name: types[name]} if name in types else {})
        except _BAD_DEFINITION:
            continue
    short = set(wanted) - set(store.types)
    store.register({name: decode.px4_beginnings()[name] for name in short})
    return store, frozenset(short)


_BAD_DEFINITION = (
    *(TypesysError, ValueError, KeyError, IndexError),
    *(AssertionError, TypeError, RecursionError, RuntimeError),
)
_PARSERS: dict[Any, Any] = {
    MessageDefinitionFormat.MSG: get_types_from_msg,
    MessageDefinitionFormat.IDL: lambda text, _: get_types_from_idl(text),
}


def _new(ros: str) -> Any:
    if ros == "2":
        return get_typestore(Stores.ROS2_JAZZY)
    if ros != "1":
        raise UserError(f"there is no ROS {ros!r}; choose '1' or '2'")
    store = get_typestore(Stores.ROS1_NOETIC)
    # Noetic keeps TF outside of common_msgs, so rosbags does not bring it.
    for name in ("tf2_msgs/msg/TFMessage", "tf/msg/tfMessage"):
        store.register(get_types_from_msg(_TF_MESSAGE, name))
    return store


# What a message that does not fit its type makes the deserialiser raise.
UNREADABLE = (
    *(SerdeError, zstd.ZstdError, struct.error, AssertionError, ValueError, IndexError),
    *(MemoryError, OverflowError, RuntimeError),  # a damaged length
)
_LATEST_NS = 2**63 - 1


@dataclass(frozen=True)
class TopicInfo:
    """The message type, as "package/msg/Name", and how many messages there are."""

    type: str
    count: int


class _StampTable:
    """The stamps of some topics in compact arrays, 20 bytes a message, in the order of reception."""

    def __init__(self, topics: frozenset[str] = frozenset()) -> None:
        self.topics = topics
        self._numbers: dict[tuple[str, str], int] = {}  # topic, and its name by edge
        self._of, self._received_ns, self._header_ns = array("I"), array("q"), array("q")

    def add(self, topic: str, name: str, received_ns: int, header_ns: int) -> None:
        """Append a message."""
        self._of.append(self._numbers.setdefault((topic, name), len(self._numbers)))
        self._received_ns.append(received_ns)
        self._header_ns.append(header_ns)

    def rows(self, topics: frozenset[str], by_edge: bool) -> Iterator[tuple[str, int, int]]:
        """(topic or its name by edge, reception, header) of some of the topics."""
        names = [(name if by_edge else topic) if topic in topics else "" for topic, name in self._numbers]
        for number, received_ns, header_ns in zip(self._of, self._received_ns, self._header_ns, strict=True):
            if name := names[number]:
                yield name, received_ns, header_ns


class BagReader:
    """An open recording. `problems` says what is wrong with its files; `unreadable` counts broken messages by topic."""

    def __init__(self, path: Path, files: list[tuple[Any, str, str | None]]) -> None:
        self.path = path
        self._files = [(reader, ros) for reader, ros, _ in files]
        self._stores = [typestore_of(ros, reader.connections) for reader, ros, _ in files]
        self.problems = [problem for _, _, problem in files if problem]
        self.unreadable: Counter[str] = Counter()
        self.topics = self._topics()
        self._stamps = _StampTable()

    def _topics(self) -> dict[str, TopicInfo]:
        counts: Counter[str] = Counter()
        types: dict[str, str] = {}
        for reader, _ in self._files:
            for connection in reader.connections:
                counts[connection.topic] += connection.msgcount
                # tf/tfMessage is ROS 1's older name for the same layout.
                types[connection.topic] = connection.msgtype.replace("tf/msg/tfMessage", "tf2_msgs/msg/TFMessage")
        return {topic: TopicInfo(types[topic], counts[topic]) for topic in sorted(types)}

    def has_stamps(self, topic: str) -> bool:
        """Whether messages of a topic begin with a std_msgs/Header, or are TF, so that `stamps` can read them."""
        kind = self.topics[topic].type
        types = (store.types[kind] for store, _ in self._stores if kind in store.types)
        fields = next((list(getattr(it, "__dataclass_fields__", ())) for it in types), [])
        return kind == TF or fields[:1] == ["header"]

    def offered_qos(self, topic: str) -> list[Qos]:
        """The QoS profiles with which the topic was published, as far as the recording says (ROS 2), each once."""
        connections = [item for reader, _ in self._files for item in reader.connections if item.topic == topic]
        profiles = [qos for item in connections for qos in getattr(item.ext, "offered_qos_profiles", None) or ()]
        return list(dict.fromkeys(profiles))

    def describe_topics(self) -> str:
        """Topics with type and count in one line, for error messages."""
        rows = [f"{topic} ({info.type}, {info.count})" for topic, info in self.topics.items()]
        return ", ".join(rows) or "none"

    def messages(
        self, topics: Collection[str], between_ns: tuple[int, int] | None = None
    ) -> Iterator[tuple[str, int, Any]]:
        """(topic, receive stamp in ns, message) in the order of reception, for any of `topics`.

        `between_ns`: only what was received from the first up to the second time. Messages that do not fit their type
        are counted in `unreadable` and left out. UserError for a topic that is not there or is of a type unknown to
        common ROS.
        """
        for topic in topics:
            self._require_known(topic)
        parts = [self._part(index, frozenset(topics), between_ns) for index in range(len(self._files))]
        return heapq.merge(*parts, key=lambda item: item[1])

    def first(self, topic: str) -> Any | None:
        """The first readable message of a topic, None when there is none. A look that does not count as reading."""
        counted = self.unreadable.copy()
        message = next((message for _, _, message in self.messages([topic])), None)
        self.unreadable = counted
        return message

    def _require_known(self, topic: str) -> None:
        if topic not in self.topics:
            raise UserError(f"{self.path} has no topic {topic}; its topics: {self.describe_topics()}")
        if not any(self.topics[topic].type in store.types for store, _ in self._stores):
            raise UserError(f"{topic} is of type {self.topics[topic].type}, which cannot be read")

    def stamps(self, topics: Collection[str], by_edge: bool = False) -> Iterator[tuple[str, int, int]]:
        """(topic, receive stamp, header stamp) in ns, in the order of reception, of topics whose messages have a
        header.

        The messages themselves are not read; ones that are too short are left out. With `by_edge` messages of TF, whose
        publishers may stamp by different clocks, are kept apart: their topic is followed by the edge (`edge_name`).
        They are kept, so that asking again for some of the topics reads nothing.
        """
        asked = frozenset(topics)
        if not asked <= self._stamps.topics:
            self._stamps = self._read_stamps(asked)
        return self._stamps.rows(asked, by_edge)

    def _read_stamps(self, topics: frozenset[str]) -> _StampTable:
        parts = [self._part_stamps(index, topics) for index in range(len(self._files))]
        found = _StampTable(topics)
        for topic, name, received_ns, header_ns in heapq.merge(*parts, key=lambda item: item[2]):
            found.add(topic, name, received_ns, header_ns)
        return found

    def in_storage_order(self, topics: Collection[str]) -> list[tuple[str, int]]:
        """(topic, receive stamp in ns) as the messages were written."""
        found = [item for reader, _ in self._files for item in _written(reader, topics)]
        return [item for item in found if 0 <= item[1] <= _LATEST_NS]

    def _part_stamps(self, index: int, topics: frozenset[str]) -> Iterator[tuple[str, str, int, int]]:
        ros = self._files[index][1]
        for connection, received_ns, data in self._heads(index, topics):
            if not 0 <= received_ns <= _LATEST_NS:  # a damaged record
                continue
            kind, name = self.topics[connection.topic].type, connection.topic
            with suppress(struct.error):
                header_ns = header_stamp_ns(data, kind, ros)
                if kind == TF:
                    name = edge_name(name, transform_edge(data, ros))
                yield connection.topic, name, received_ns, header_ns

    def _heads(self, index: int, topics: frozenset[str]) -> Iterator[tuple[Any, int, bytes]]:
        """At least the first bytes of the messages of one file, past what is damaged."""
        reader, newest_ns = self._files[index][0], -1
        heads = message_heads(reader, [item for item in reader.connections if item.topic in topics])
        if heads is not None:
            with suppress(*DAMAGE):
                first = next(heads, None)
                if first is None or first[2][:4] != ZSTD_MAGIC:  # packed message by message: a head is not enough
                    for head in itertools.chain([first] if first else [], heads):
                        newest_ns = max(newest_ns, head[1])
                        yield head
                    return
        for item in self._serialized(index, topics):
            if item[1] > newest_ns:  # else it was seen before the damage
                yield item

    def _part(
        self, index: int, topics: frozenset[str], between_ns: tuple[int, int] | None
    ) -> Iterator[tuple[str, int, Any]]:
        """The messages of one file."""
        store, beginnings = self._stores[index]
        deserialize = store.deserialize_ros1 if self._files[index][1] == "1" else store.deserialize_cdr
        for connection, stamp_ns, data in self._serialized(index, topics, between_ns):
            if connection.msgtype in beginnings:
                data = beginning_of(data, connection.msgtype)
            try:
                message = deserialize(data, connection.msgtype)
            except UNREADABLE:
                self.unreadable[connection.topic] += 1
                continue
            yield connection.topic, stamp_ns, message

    def _serialized(
        self, index: int, topics: frozenset[str], between_ns: tuple[int, int] | None = None
    ) -> Iterator[tuple[Any, int, bytes]]:
        """The messages of one file, serialized. Damage is reported in `problems`, and what follows it read."""
        reader, ros = self._files[index]
        newest_ns = -1
        first_ns, end_ns = between_ns or (None, None)
        with ExitStack() as stack:
            part: Any = reader
            while part is not None:
                connections = [item for item in part.connections if item.topic in topics]
                try:
                    for connection, stamp_ns, data in (
                        part.messages(connections, first_ns, end_ns) if connections else ()
                    ):
                        if part is not reader and stamp_ns <= newest_ns:
                            continue  # read before the damage
                        if between_ns and not between_ns[0] <= stamp_ns < between_ns[1]:
                            continue  # what reads damaged files reads all of them
                        if not 0 <= stamp_ns <= _LATEST_NS:  # a damaged record
                            self.unreadable[connection.topic] += 1
                            continue
                        if data[:4] == ZSTD_MAGIC and ros == "2":  # packed message by message; CDR begins with 00
                            data = _unpacked(data)
                        newest_ns = max(newest_ns, stamp_ns) if part is reader else newest_ns
                        yield connection, stamp_ns, data
                    return
                except DAMAGE as error:
                    problem = f"{reader.path.name} is damaged part of the way ({' '.join(str(error).split())[:200]})"
                    if problem not in self.problems:
                        self.problems.append(problem)
                    part = open_remains(part, stack)


def edge_name(topic: str, edge: str) -> str:
    """How `BagReader.stamps` names the messages of a TF topic whose first transform is of `edge`, "parent -> child"."""
    return f"{topic} ({edge})"


def _written(reader: Any, topics: Collection[str]) -> list[tuple[str, int]]:
    """Of one file, `BagReader.in_storage_order`; where its index is damaged, of what else can be read."""
    with ExitStack() as stack:
        part: Any = reader
        while part is not None:
            connections = [item for item in part.connections if item.topic in topics]
            with suppress(*DAMAGE):
                return in_storage_order(part, connections) if connections else []
            part = open_remains(part, stack)
    return []


def _unpacked(data: bytes) -> bytes:
    """A message without its packing; empty, which fits no type, when it cannot be unpacked."""
    try:
        return bytes(zstd.decompress(data))
    except UNREADABLE:
        return b""


@contextmanager
def open_bag(path: str | Path) -> Iterator[BagReader]:
    """Open a ROS 1 .bag, or a ROS 2 recording: folder (also split, packed, or without metadata.yaml), .db3 or .mcap.

    UserError when it is none of these or not one message can be read. Files of a split recording that cannot be
    read are left out and named in `problems`.
    """
    path = Path(path)
    with ExitStack() as stack:
        opened: list[tuple[Any, str, str | None]] = []
        failures: list[str] = []
        for file in recording_files(path):
            try:
                opened.append(open_file(file, stack))
            except UserError as error:
                failures.append(str(error))
            except OSError as error:
                failures.append(f"{file} cannot be read ({error.strerror or error})")
        if not opened:
            raise UserError(failures[0])
        reader = BagReader(path, opened)
        reader.problems += failures
        yield reader
