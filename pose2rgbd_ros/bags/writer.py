"""Writes recordings message by message, in bounded memory, with the rosbags library; no ROS needed."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from rosbags import rosbag1, rosbag2
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin

from pose2rgbd_ros.bags.messages import MessageFactory
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.settings import read_yaml

_FOREVER = QosTime(2147483647, 4294967295)
_FILE_SUFFIXES = {".mcap": "mcap", ".db3": "sqlite3"}


def _qos(latched: bool) -> Qos:
    """Reliable, keep last; transient local when `latched`, as /tf_static is."""
    return Qos(
        QosHistory.KEEP_LAST,
        1 if latched else 10,
        QosReliability.RELIABLE,
        QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        _FOREVER,
        _FOREVER,
        QosLiveliness.AUTOMATIC,
        _FOREVER,
        False,
    )


class BagWriter:
    """A recording being written; use it as a context manager.

    `path`: a folder (rosbag2 with metadata.yaml) or, when it ends in .mcap or .db3, that single file; a .bag file for
    ros="1". `compression` is "none", "message" or "file" (zstd), or "storage" (mcap chunks). `make` builds messages
    from numpy. UserError when the path exists or an option is unknown. When the block raises, a rosbag2 folder is
    left behind as it is, a single file is not.
    """

    def __init__(self, path: str | Path, ros: str = "2", storage: str = "mcap", compression: str = "none") -> None:
        self.path = Path(path)
        self.make = MessageFactory(ros)
        if self.path.exists():
            raise UserError(f"{self.path} exists already; choose another path or remove it")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._connections: dict[str, Any] = {}
        self._folder = self.path
        if ros == "1":
            self._bag: Any = rosbag1.Writer(self.path)
            return
        if self.path.suffix in _FILE_SUFFIXES:
            storage = _FILE_SUFFIXES[self.path.suffix]
            self._folder = self.path.with_name(f".{self.path.name}.partial")
            shutil.rmtree(self._folder, ignore_errors=True)
        self._bag = _rosbag2_writer(self._folder, storage, compression)

    def __enter__(self) -> BagWriter:
        self._bag.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._bag.__exit__(kind, error, traceback)
            if kind is None and self._folder != self.path:
                (written,) = (item for item in self._folder.iterdir() if item.name != "metadata.yaml")
                written.replace(self.path)
        finally:  # also when closing fails, as on a full disk
            if self._folder != self.path:
                shutil.rmtree(self._folder, ignore_errors=True)

    def write(self, topic: str, message: Any, stamp_ns: int) -> None:
        """Append a rosbags message (from `make`, or read from another bag of the same ROS) received at `stamp_ns`."""
        msgtype = message.__msgtype__
        connection = self._connections.get(topic) or self._connect(topic, msgtype)
        if connection.msgtype != msgtype:
            raise UserError(f"{topic} carries {connection.msgtype}; a {msgtype} cannot follow")
        store = self.make.store
        serialize = store.serialize_ros1 if self.make.ros == "1" else store.serialize_cdr
        self._bag.write(connection, int(stamp_ns), serialize(message, msgtype))

    def write_raw(self, topic: str, msgtype: str, data: bytes, stamp_ns: int) -> None:
        """Append a message that is serialized already (CDR, or ROS 1's own form), received at `stamp_ns`."""
        connection = self._connections.get(topic) or self._connect(topic, msgtype)
        if connection.msgtype != msgtype:
            raise UserError(f"{topic} carries {connection.msgtype}; a {msgtype} cannot follow")
        self._bag.write(connection, int(stamp_ns), data)

    def _connect(self, topic: str, msgtype: str) -> Any:
        """Announce a topic on its first message; /tf_static is latched as in ROS."""
        latched = topic.endswith("tf_static")
        options: dict[str, Any] = (
            {"latching": int(latched)} if self.make.ros == "1" else {"offered_qos_profiles": [_qos(latched)]}
        )
        connection = self._bag.add_connection(topic, msgtype, typestore=self.make.store, **options)
        self._connections[topic] = connection
        return connection


def _rosbag2_writer(folder: Path, storage: str, compression: str) -> rosbag2.Writer:
    plugins = {plugin.name.lower(): plugin for plugin in StoragePlugin}
    modes = {mode.name.lower(): mode for mode in CompressionMode}
    if storage not in plugins:
        raise UserError(f"bag storage {storage!r} is unknown; choose one of: {', '.join(plugins)}")
    if compression not in modes:
        raise UserError(f"bag compression {compression!r} is unknown; choose one of: {', '.join(modes)}")
    if (storage, compression) == ("sqlite3", "storage"):
        raise UserError("sqlite3 bags know no storage compression; choose message, file or mcap")
    writer = rosbag2.Writer(folder, version=9, storage_plugin=plugins[storage])
    writer.set_compression(modes[compression], CompressionFormat.ZSTD)
    return writer


# A recording in several mcap files, each readable by itself at any moment, also when its writer is killed.


_INFORMATION = "rosbag2_bagfile_information"
METADATA = "metadata.yaml"


class SplitBagWriter:
    """Writes serialized messages into FOLDER/NAME_0.mcap, NAME_1.mcap ..., as `ros2 bag record` splits them.

    The file being written has its final name from the start; what a killed process had put into it is read up to the
    last whole chunk (see bags/salvage.py). `metadata.yaml` appears with the first finished file. Latched topics, as
    /tf_static, are repeated at the beginning of each file, so that each can be used alone.

    Args:
        folder: made when missing; files that are there already are kept and counted on from.
        split_bytes: when a file has this size the next begins.

    OSError passes through.
    """

    def __init__(self, folder: Path, split_bytes: int) -> None:
        self.folder = folder
        self._split_bytes = split_bytes
        self._latched: list[tuple[str, str, bytes]] = []
        self._bag: BagWriter | None = None
        self._written = self._finished_bytes = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._next = 1 + max((_number(path) for path in folder.glob(f"{folder.name}_*.mcap")), default=-1)

    @property
    def size(self) -> int:
        """What was written so far, all files."""
        return self._finished_bytes + self._written

    def write(self, topic: str, msgtype: str, data: bytes, stamp_ns: int, latched: bool = False) -> None:
        """Append a message received at `stamp_ns`."""
        if self._bag is not None and self._written >= self._split_bytes:
            self._finish()
        if self._bag is None:
            self._begin(stamp_ns)
        if latched:
            self._latched.append((topic, msgtype, data))
        self._append(topic, msgtype, data, stamp_ns)

    def close(self) -> None:
        """Finish the last file."""
        if self._bag is not None:
            self._finish()

    def _append(self, topic: str, msgtype: str, data: bytes, stamp_ns: int) -> None:
        assert self._bag is not None
        self._bag.write_raw(topic, msgtype, data, stamp_ns)
        self._written += len(data)

    def _begin(self, stamp_ns: int) -> None:
        name = f"{self.folder.name}_{self._next}"
        self._next += 1
        # rosbags puts its file into a folder of its own; under its final name it is found after a crash.
        bag = BagWriter(self.folder / name)
        bag.__enter__()
        (self.folder / name / f"{name}.mcap").replace(self.folder / f"{name}.mcap")
        self._bag, self._written = bag, 0
        for topic, msgtype, data in self._latched:
            self._append(topic, msgtype, data, stamp_ns)

    def _finish(self) -> None:
        bag, self._bag = self._bag, None
        assert bag is not None
        self._finished_bytes += self._written
        self._written = 0
        bag.__exit__(None, None, None)
        _merge_metadata(self.folder, read_yaml(bag.path / METADATA))
        shutil.rmtree(bag.path)


def _number(path: Path) -> int:
    last = path.stem.rpartition("_")[2]
    return int(last) if last.isdigit() else -1


def _merge_metadata(folder: Path, new: dict[str, Any]) -> None:
    """Add a finished file to the metadata.yaml of the whole."""
    path = folder / METADATA
    whole = read_yaml(path) if path.is_file() else None
    if whole is not None:
        try:
            new = {_INFORMATION: _joined(whole[_INFORMATION], new[_INFORMATION])}
        except (KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged ({error}); remove it and use the .mcap files as they are") from error
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(yaml.safe_dump(new, sort_keys=False))
    temporary.replace(path)


def _joined(whole: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The description of both together."""
    starts = [part["starting_time"]["nanoseconds_since_epoch"] for part in (whole, new)]
    ends = [start + part["duration"]["nanoseconds"] for start, part in zip(starts, (whole, new), strict=True)]
    counts: Counter[str] = Counter()
    topics: dict[str, dict[str, Any]] = {}
    for part in (whole, new):
        for item in part["topics_with_message_count"]:
            name = item["topic_metadata"]["name"]
            topics[name] = item["topic_metadata"]
            counts[name] += item["message_count"]
    return {
        **whole,
        "relative_file_paths": [*whole["relative_file_paths"], *new["relative_file_paths"]],
        "files": [*whole["files"], *new["files"]],
        "message_count": whole["message_count"] + new["message_count"],
        "starting_time": {"nanoseconds_since_epoch": min(starts)},
        "duration": {"nanoseconds": max(ends) - min(starts)},
        "topics_with_message_count": [
            {"topic_metadata": topics[name], "message_count": counts[name]} for name in topics
        ],
    }
