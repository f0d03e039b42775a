"""Any recording, or dataset, to the signals of alignment, read as the converter would read it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pose2rgbd_ros.bags.reader import BagReader, open_bag
from pose2rgbd_ros.dataset.alignment import measure_bag, measure_dataset
from pose2rgbd_ros.dataset.importers.config import ConvertConfig
from pose2rgbd_ros.dataset.importers.recording import read_poses
from pose2rgbd_ros.dataset.layout import META
from pose2rgbd_ros.streams.alignment.flow import FlowConfig, FlowSignal
from pose2rgbd_ros.streams.alignment.motion import MotionSignal


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
    with open_bag(path) as reader:
        return _measure_bag(reader, config, flow)


def _measure_bag(reader: BagReader, config: ConvertConfig, flow: FlowConfig | None) -> Signals:
    first = read_poses(reader, config)
    topics, clocks = first.topics, first.options.clocks
    track = first.track(str(reader.path))
    signals = measure_bag(reader, topics, clocks, track, flow)
    warnings = dict.fromkeys([*first.warnings, *clocks.warnings, *reader.problems])
    return Signals(*signals, [*topics.notes, *topics.pose_notes, *first.notes], list(warnings))
