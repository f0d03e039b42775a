"""The folder of a synthetic dataset: the frames, what they were made with, and what of them moves."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from pose2rgbd_ros import settings
from pose2rgbd_ros.dataset import layout
from pose2rgbd_ros.dataset.frames import EncodedFrame
from pose2rgbd_ros.dataset.meta import DatasetMeta
from pose2rgbd_ros.dataset.records import read_associations
from pose2rgbd_ros.dataset.split_file import write_split
from pose2rgbd_ros.dataset.writer import DatasetWriter
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.sim.dataset_frames import Shot, Taken

SETTINGS = "sim.yaml"
MOVERS = "movers"  # labels of what moves, one PNG a frame
MOVER_FREE = "mover_free"  # the same dataset without what moves


def check_folder(out: Path, values: dict[str, Any], resume: bool) -> None:
    """Look, before any work, whether a dataset of these settings can be put or completed there. Nothing is touched.

    UserError: it holds something else, frames without `resume`, or frames of other settings (the first one is named).
    """
    layout.require_unused(out)
    begun = (out / layout.META).is_file() and (out / layout.ASSOCIATIONS).is_file()
    frames = len(read_associations(out)) if begun else 0
    if frames and not resume:
        raise UserError(
            f"{out} already holds a dataset of {counted(frames, 'frame')}; complete it with --resume, or choose another folder"
        )
    if frames and not (out / SETTINGS).is_file():
        raise UserError(
            f"{out} holds a dataset that no simulator made (no {SETTINGS}); choose another folder"
        )
    if resume and (out / SETTINGS).is_file():
        _check_same(_flat(settings.read_yaml(out / SETTINGS)), _flat(values), out)


class SimFolder:
    """Writes frames with their labels and their mover-free twins; one process at a time.

    A frame's line in the lists of the dataset itself is written last, so a frame that is there is there in full.
    """

    def __init__(
        self, out: Path, meta: DatasetMeta, values: dict[str, Any], resume: bool, movers: bool
    ) -> None:
        """Open the folder for the frames described by `meta`, made with the settings `values`.

        `movers`: keep labels and twins. UserError as DatasetWriter.
        """
        self._out = out
        self._movers = movers
        with contextlib.ExitStack() as stack:
            self._frames = stack.enter_context(DatasetWriter(out, meta, resume))
            self._writers = [self._frames]
            text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
            self._frames.write_file(SETTINGS, text.encode())
            if movers:
                twin = DatasetWriter(out / MOVER_FREE, replace(meta, sources=[]), resume)
                self._writers.append(stack.enter_context(twin))
            self._stack = stack.pop_all()

    def begin_source(self, name: str) -> None:
        """As DatasetWriter.begin_source."""
        for writer in self._writers:
            writer.begin_source(name)

    def holds(self, shot: Shot) -> bool:
        """Whether this frame is there in full; then it is counted. UserError when it was taken from elsewhere."""
        if not all(shot.stamp_ns in writer for writer in self._writers):
            return False
        if self._movers and not _has_content(self._out / _labels(shot)):
            return False
        for writer in self._writers:
            self._require_same_pose(writer.seen(shot.stamp_ns, shot.T_map_cam), shot)
        return True

    def add(self, shot: Shot, taken: Taken) -> None:
        """Store a frame. UserError when the disk is full or failing; all earlier frames are safe."""
        if taken.labels is not None:
            self._frames.write_file(_labels(shot), taken.labels)
        for writer in reversed(self._writers):
            frame = taken.frame if writer is self._frames else taken.mover_free or taken.frame
            self._require_same_pose(writer.add_encoded(shot.stamp_ns, shot.T_map_cam, frame), shot)
        if self._movers and taken.mover_free is None:
            for name in _files(shot, taken.frame):
                _share(self._out / name, self._out / MOVER_FREE / name)

    def write_split(self, stamps_ns: Sequence[int], labels: Sequence[str]) -> None:
        """Say which frames are held out; nothing where none are, or all. UserError when the disk is full."""
        if not {"train", "test"} <= set(labels):
            return
        for writer in self._writers:
            with writer.disk():
                write_split(writer.path / layout.SPLIT, stamps_ns, labels)

    def __enter__(self) -> SimFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _require_same_pose(self, answer: str | None, shot: Shot) -> None:
        if answer == "collision":
            raise UserError(
                f"{self._out}: the frame {shot.stamp_ns} is there from another pose, so the flight is not the same "
                "(another file of waypoints?); choose another folder"
            )


def _labels(shot: Shot) -> str:
    return f"{MOVERS}/{shot.stamp_ns}.png"


def _files(shot: Shot, frame: EncodedFrame) -> list[str]:
    """Names of a frame's files in its dataset."""
    encoded = {layout.RGB: frame.image, layout.DEPTH["metric"]: frame.depth}
    return [f"{folder}/{shot.stamp_ns}{file[0]}" for folder, file in encoded.items() if file is not None]


def _share(path: Path, copy: Path) -> None:
    """Let `copy` be the very file `path`, which has the same contents; where links cannot be made, it stays a copy."""
    temporary = copy.with_name(f".{copy.name}.tmp")
    with contextlib.suppress(OSError):
        if not copy.samefile(path):  # else the renaming would do nothing, and leave the temporary name
            temporary.unlink(missing_ok=True)
            os.link(path, temporary)
            temporary.replace(copy)


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _flat(values: dict[str, Any], inside: str = "") -> dict[str, Any]:
    """Settings by their full names: {"city": {"seed": 0}} -> {"city.seed": 0}."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat.update(_flat(value, f"{inside}{name}.") if isinstance(value, dict) else {inside + name: value})
    return flat


def _check_same(stored: dict[str, Any], given: dict[str, Any], out: Path) -> None:
    for name in [*given, *(name for name in stored if name not in given)]:
        was, now = stored.get(name), given.get(name)
        if was != now:
            raise UserError(
                f"{out} was begun with {name} {was!r}, not {now!r}; resume with the same settings, or choose another folder"
            )
