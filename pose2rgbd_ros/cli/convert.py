"""`pose2rgbd convert BAG [BAG ...] OUT`: recordings of one place to a dataset."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from pose2rgbd_ros.cli.arguments import with_help
from pose2rgbd_ros.dataset.importers.rosbag import ConvertConfig, convert
from pose2rgbd_ros.errors import UserError

if TYPE_CHECKING:
    Options = ConvertConfig
else:
    Options = with_help(ConvertConfig)


@dataclasses.dataclass
class Arguments:
    """Convert recordings of one place (ROS 1 .bag; ROS 2 folder, .db3 or .mcap) into a dataset."""

    paths: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="BAG [BAG ...] OUT",
            help="the recordings, and last the dataset's folder",
            help_behavior_hint="(required)",
        ),
    ]
    options: Annotated[Options, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Options)


def main(argv: list[str]) -> int:
    """Convert, and print what was done. UserError when the input is wrong."""
    arguments = tyro.cli(Arguments, args=argv, prog="pose2rgbd convert")
    if len(arguments.paths) < 2:
        raise UserError("convert needs a recording and, last, the folder of the dataset to make")
    *bags, out = arguments.paths
    print(convert(bags, out, arguments.options).summary())
    return 0
