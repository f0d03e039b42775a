"""`pose2rgbd doctor RECORDING [...]`: what it is, what is wrong with it and what will come of it, before converting."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from pose2rgbd_ros import settings
from pose2rgbd_ros.cli import results
from pose2rgbd_ros.cli.results import Json
from pose2rgbd_ros.convert.settings import ConvertConfig, PhotoSettings, VideoSettings
from pose2rgbd_ros.doctor.doctor import examine
from pose2rgbd_ros.errors import UserError


@dataclass
class Arguments:
    """Tell what a recording is, what is wrong with it, what it is good for and what will come of it. Writes nothing.

    A recording is all that `pose2rgbd convert` takes: a rosbag, a folder of photographs, a video with its log. Exit
    status: 0 good, 1 problems that lose data, make it worse or stop a job, 2 nothing can be converted.
    """

    recordings: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RECORDING [RECORDING ...]", help_behavior_hint="(required)"),
    ]
    json: Json = False
    page: Path | None = None
    """write a page with pictures into this folder, as index.html"""
    options: Annotated[ConvertConfig, tyro.conf.arg(name="")] = field(default_factory=ConvertConfig)
    photos: PhotoSettings = field(default_factory=PhotoSettings)
    video: VideoSettings = field(default_factory=VideoSettings)


def main(argv: list[str]) -> int:
    """Print the diagnosis. UserError when the input is no recording."""
    arguments = tyro.cli(Arguments, args=argv, prog="pose2rgbd doctor")
    if not arguments.recordings:
        raise UserError("doctor needs a recording: a bag, a folder of photographs, or a video with its log")
    for group in (arguments.options, arguments.photos, arguments.video):
        settings.check(group)
    found = examine(arguments.recordings, arguments.options, arguments.photos, arguments.video)
    results.add(recordings=[diagnosis.to_dict() for diagnosis, _ in found])
    print("\n\n".join(diagnosis.text() for diagnosis, _ in found))
    if arguments.page is not None:
        from pose2rgbd_ros.doctor.page import write_pages  # with it comes matplotlib

        for path in write_pages(found, arguments.page):
            print(f"page: {path}")
    return max(diagnosis.status for diagnosis, _ in found)
