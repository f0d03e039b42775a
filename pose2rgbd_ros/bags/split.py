"""A recording in several mcap files, each readable by itself at any moment, also when its writer is killed."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from pose2rgbd_ros.bags.writer import BagWriter
from pose2rgbd_ros.errors import UserError
from pose2rgbd_ros.settings import read_yaml

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
            raise UserError(
                f"{path} is damaged ({error}); remove it and use the .mcap files as they are"
            ) from error
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
