"""`pose2rgbd sync RECORDING`: how far the clock of the images is from that of the poses."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import tyro

from pose2rgbd_ros import settings
from pose2rgbd_ros.dataset.importers.rosbag import ConvertConfig
from pose2rgbd_ros.dataset.recording_signals import measure
from pose2rgbd_ros.errors import UserError, counted
from pose2rgbd_ros.streams.alignment.align import AlignOptions, estimate_offset
from pose2rgbd_ros.streams.alignment.flow import FlowConfig
from pose2rgbd_ros.streams.alignment.picture import draw


@dataclasses.dataclass
class Arguments:
    """Tell what to add to the stamps of the images so that they are by the clock of the poses, and how sure that is.

    The motion of the picture is compared with that of the vehicle, so both must change: an answer is given where the
    recording holds one, else why it does not.
    """

    recording: Annotated[Path, tyro.conf.Positional]
    """a recording (ROS 1 .bag; ROS 2 folder, .db3 or .mcap) or a dataset's folder"""
    out: Path | None = None
    """folder for sync.png and sync.yaml (default: the working directory)"""
    align: Annotated[AlignOptions, tyro.conf.arg(name="")] = dataclasses.field(default_factory=AlignOptions)
    strict: bool = False
    """warnings are errors: the exit status is 1"""
    flow: FlowConfig = dataclasses.field(default_factory=FlowConfig)
    reading: ConvertConfig = dataclasses.field(default_factory=ConvertConfig)


def main(argv: list[str]) -> int:
    """Print the answer, write picture and numbers. 1 without an answer, or with warnings and --strict.

    UserError when the input is wrong.
    """
    arguments = tyro.cli(Arguments, args=argv, prog="pose2rgbd sync")
    for config in (arguments.align, arguments.flow, arguments.reading):
        settings.check(config)
    out = arguments.out or Path()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out} cannot be made a folder ({error.strerror or error})") from error
    signals = measure(arguments.recording, arguments.reading, arguments.flow)
    flow, motion = signals.flow, signals.motion
    found = estimate_offset(flow, motion, arguments.align)
    told = {"notes": signals.notes, "warnings": signals.warnings}
    settings.write_yaml(out / "sync.yaml", {"recording": str(arguments.recording), **told, **found.to_dict()})
    print(found.summary())
    looked = found.looked(arguments.align)
    if looked:
        print(f"looked at {looked}")
    if len(flow) > 1:
        draw(flow, motion, found, out / "sync.png", arguments.align)
        print(f"picture   {out / 'sync.png'}")
    print(f"numbers   {out / 'sync.yaml'}")
    if found.observable:
        print(f"use it    pose2rgbd convert --sync apply, or --image-time-offset-s={found.offset_s:.3f}")
    for note in signals.notes:
        print(f"note: {note}")
    for warning in signals.warnings:
        print(f"warning: {warning}")
    if arguments.strict and signals.warnings:
        print(f"error: {counted(len(signals.warnings), 'warning')} (--strict)", file=sys.stderr)
        return 1
    return 0 if found.observable else 1
