"""Reads recordings of ROS 1 and ROS 2 message by message, without ROS, whole or damaged."""

from __future__ import annotations

import heapq
import itertools
import struct
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rosbags.serde import SerdeError

from pose2rgbd_ros.bags.files import DAMAGE, ZSTD_MAGIC, open_file, open_remains, recording_files, zstd
from pose2rgbd_ros.bags.px4 import beginning_of
from pose2rgbd_ros.bags.stamps import TF, header_stamp_ns, in_storage_order, message_heads, transform_edge
from pose2rgbd_ros.bags.typestores import typestore_of
from pose2rgbd_ros.errors import UserError

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


class BagReader:
    """An open recording. `problems` says what is wrong with its files; `unreadable` counts broken messages by topic."""

    def __init__(self, path: Path, files: list[tuple[Any, str, str | None]]) -> None:
        self.path = path
        self._files = [(reader, ros) for reader, ros, _ in files]
        self._stores = [typestore_of(ros, reader.connections) for reader, ros, _ in files]
        self.problems = [problem for _, _, problem in files if problem]
        self.unreadable: Counter[str] = Counter()
        self.topics = self._topics()

    def _topics(self) -> dict[str, TopicInfo]:
        counts: Counter[str] = Counter()
        types: dict[str, str] = {}
        for reader, _ in self._files:
            for connection in reader.connections:
                counts[connection.topic] += connection.msgcount
                # tf/tfMessage is ROS 1's older name for the same layout.
                types[connection.topic] = connection.msgtype.replace(
                    "tf/msg/tfMessage", "tf2_msgs/msg/TFMessage"
                )
        return {topic: TopicInfo(types[topic], counts[topic]) for topic in sorted(types)}

    def describe_topics(self) -> str:
        """Topics with type and count in one line, for error messages."""
        rows = [f"{topic} ({info.type}, {info.count})" for topic, info in self.topics.items()]
        return ", ".join(rows) or "none"

    def messages(self, topics: Collection[str]) -> Iterator[tuple[str, int, Any]]:
        """(topic, receive stamp in ns, message) in the order of reception, for any of `topics`.

        Messages that do not fit their type are counted in `unreadable` and left out. UserError for a topic that is
        not there or is of a type unknown to common ROS.
        """
        for topic in topics:
            self._require_known(topic)
        parts = [self._part(index, frozenset(topics)) for index in range(len(self._files))]
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
        """(topic, receive stamp, header stamp) in ns, in the order of reception, of topics whose messages have a header.

        The messages themselves are not read; ones that are too short are left out. With `by_edge` messages of TF, whose
        publishers may stamp by different clocks, are told apart: their topic is followed by the edge (`edge_name`).
        """
        parts = [self._part_stamps(index, frozenset(topics), by_edge) for index in range(len(self._files))]
        return heapq.merge(*parts, key=lambda item: item[1])

    def in_storage_order(self, topics: Collection[str]) -> list[tuple[str, int]]:
        """(topic, receive stamp in ns) as the messages were written."""
        found = [item for reader, _ in self._files for item in _written(reader, topics)]
        return [item for item in found if 0 <= item[1] <= _LATEST_NS]

    def _part_stamps(
        self, index: int, topics: frozenset[str], by_edge: bool
    ) -> Iterator[tuple[str, int, int]]:
        ros = self._files[index][1]
        for connection, received_ns, data in self._heads(index, topics):
            if not 0 <= received_ns <= _LATEST_NS:  # a damaged record
                continue
            kind, name = self.topics[connection.topic].type, connection.topic
            with suppress(struct.error):
                header_ns = header_stamp_ns(data, kind, ros)
                if by_edge and kind == TF:
                    name = edge_name(name, transform_edge(data, ros))
                yield name, received_ns, header_ns

    def _heads(self, index: int, topics: frozenset[str]) -> Iterator[tuple[Any, int, bytes]]:
        """At least the first bytes of the messages of one file, past what is damaged."""
        reader, newest_ns = self._files[index][0], -1
        heads = message_heads(reader, [item for item in reader.connections if item.topic in topics])
        if heads is not None:
            with suppress(*DAMAGE):
                first = next(heads, None)
                if (
                    first is None or first[2][:4] != ZSTD_MAGIC
                ):  # packed message by message: a head is not enough
                    for head in itertools.chain([first] if first else [], heads):
                        newest_ns = max(newest_ns, head[1])
                        yield head
                    return
        for item in self._serialized(index, topics):
            if item[1] > newest_ns:  # else it was seen before the damage
                yield item

    def _part(self, index: int, topics: frozenset[str]) -> Iterator[tuple[str, int, Any]]:
        """The messages of one file."""
        store, beginnings = self._stores[index]
        deserialize = store.deserialize_ros1 if self._files[index][1] == "1" else store.deserialize_cdr
        for connection, stamp_ns, data in self._serialized(index, topics):
            if connection.msgtype in beginnings:
                data = beginning_of(data, connection.msgtype)
            try:
                message = deserialize(data, connection.msgtype)
            except UNREADABLE:
                self.unreadable[connection.topic] += 1
                continue
            yield connection.topic, stamp_ns, message

    def _serialized(self, index: int, topics: frozenset[str]) -> Iterator[tuple[Any, int, bytes]]:
        """The messages of one file, serialized. Damage on the way is told in `problems`, and what follows it read."""
        reader, ros = self._files[index]
        newest_ns = -1
        with ExitStack() as stack:
            part: Any = reader
            while part is not None:
                connections = [item for item in part.connections if item.topic in topics]
                try:
                    for connection, stamp_ns, data in part.messages(connections) if connections else ():
                        if part is not reader and stamp_ns <= newest_ns:
                            continue  # read before the damage
                        if not 0 <= stamp_ns <= _LATEST_NS:  # a damaged record
                            self.unreadable[connection.topic] += 1
                            continue
                        if (
                            data[:4] == ZSTD_MAGIC and ros == "2"
                        ):  # packed message by message; CDR begins with 00
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
