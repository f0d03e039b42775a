"""`pose2rgbd convert SOURCE [SOURCE ...] OUT`: recordings, photographs or videos of one place to a dataset."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import tyro

from pose2rgbd_ros.dataset.importers.config import ConvertConfig
from pose2rgbd_ros.dataset.importers.photos.settings import PhotoSettings
from pose2rgbd_ros.dataset.importers.sources import convert_sources
from pose2rgbd_ros.dataset.importers.video.settings import VideoSettings
from pose2rgbd_ros.errors import UserError


@dataclasses.dataclass
class Arguments:
    """Convert recordings, photographs or videos of one place into a dataset.

    A source is a bag (ROS 1 .bag; ROS 2 folder, .db3 or .mcap), a folder of photographs with GPS, or a video; a flight
    log (.gpx, .csv, .srt) is named beside its video.
    """

    paths: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="SOURCE [SOURCE ...] OUT",
            help="the sources, all of one kind, and last the dataset's folder",
            help_behavior_hint="(required)",
        ),
    ]
    strict: bool = False
    """warnings are errors: the exit status is 1; the dataset is kept"""
    options: Annotated[ConvertConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=ConvertConfig
    )
    photos: PhotoSettings = dataclasses.field(default_factory=PhotoSettings)
    video: VideoSettings = dataclasses.field(default_factory=VideoSettings)


def main(argv: list[str]) -> int:
    """Convert, and print what was done; 1 with warnings and --strict. UserError when the input is wrong."""
    arguments = tyro.cli(Arguments, args=argv, prog="pose2rgbd convert")
    if len(arguments.paths) < 2:
        raise UserError(
            "convert needs a source (bag, folder of photographs, video) and, last, the folder of the dataset to make"
        )
    *sources, out = arguments.paths
    report = convert_sources(sources, out, arguments.options, arguments.photos, arguments.video)
    print(report.summary())
    if problem := report.problem(arguments.strict):
        print(f"error: {problem}", file=sys.stderr)
        return 1
    return 0
