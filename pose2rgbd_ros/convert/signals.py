"""Any recording, or dataset, to the signals of alignment, read as the converter would read it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pose2rgbd_ros.alignment.flow import FlowConfig, FlowSignal
from pose2rgbd_ros.alignment.signals import MotionSignal
from pose2rgbd_ros.bags.reader import BagReader, open_bag
from pose2rgbd_ros.convert.bag import read_poses
from pose2rgbd_ros.convert.convert import BAG, LOG, PHOTOS, VIDEO, kind_of
from pose2rgbd_ros.convert.image_clock import measure_bag, measure_dataset
from pose2rgbd_ros.convert.settings import ConvertConfig
from pose2rgbd_ros.dataset.layout import META
from pose2rgbd_ros.errors import UserError

# What is no recording and no dataset, and what to do with it.
_OTHER = {
    VIDEO: "a video; `pose2rgbd convert VIDEO LOG OUT` makes a dataset of it and its log, and finds how their "
    "clocks lie (--video.clock flow: by the motion of the picture); sync takes that dataset, too",
    PHOTOS: "photographs; `pose2rgbd convert PHOTOS OUT` makes a dataset of them, each with the pose of its EXIF tags",
    LOG: "a flight log; name it beside its video: `pose2rgbd convert VIDEO LOG OUT` finds how their clocks lie",
}


@dataclass(frozen=True, eq=False)
class Signals:
    """Flow of the images and motion of the poses, what was assumed, and what is wrong with the recording."""

    flow: FlowSignal
    motion: MotionSignal
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def measure(path: Path, config: ConvertConfig, flow: FlowConfig | None = None) -> Signals:
    """The signals of a recording or a dataset. UserError when something is missing."""
    if (path / META).is_file():
        return Signals(*measure_dataset(path, flow))
    if path.exists() and (kind := kind_of(path)) != BAG:
        raise UserError(f"{path}: sync takes recordings and datasets, and this is {_OTHER[kind]}")
    with open_bag(path) as reader:
        return _measure_bag(reader, config, flow)


def _measure_bag(reader: BagReader, config: ConvertConfig, flow: FlowConfig | None) -> Signals:
    first = read_poses(reader, config)
    topics, clocks = first.topics, first.options.clocks
    track = first.track(str(reader.path))
    signals = measure_bag(reader, topics, clocks, track, flow)
    warnings = dict.fromkeys([*first.warnings, *clocks.warnings, *reader.problems])
    return Signals(*signals, [*topics.notes, *topics.pose_notes, *first.notes], list(warnings))
