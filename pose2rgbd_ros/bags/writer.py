"""Writes recordings message by message, in bounded memory, with the rosbags library; no ROS needed."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags import rosbag1, rosbag2
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin

from pose2rgbd_ros.bags.messages import MessageFactory
from pose2rgbd_ros.errors import UserError

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

    def __init__(
        self, path: str | Path, ros: str = "2", storage: str = "mcap", compression: str = "none"
    ) -> None:
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
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
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
