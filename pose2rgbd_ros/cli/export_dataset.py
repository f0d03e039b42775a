"""`pose2rgbd export DATASET OUT --format NAME`: a dataset in another tool's format."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from pose2rgbd_ros.cli.arguments import with_help
from pose2rgbd_ros.dataset.formats.config import NAMES, ExportConfig
from pose2rgbd_ros.dataset.formats.exporting import export_dataset
from pose2rgbd_ros.errors import UserError

if TYPE_CHECKING:
    Options = ExportConfig
else:
    Options = with_help(ExportConfig)


@dataclasses.dataclass
class Arguments:
    """Write a dataset in another tool's format. OUT appears when it is complete."""

    dataset: Annotated[
        tyro.conf.Positional[Path], tyro.conf.arg(metavar="DATASET", help="the dataset's folder")
    ]
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT", help="the folder to make")]
    options: Annotated[Options, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Options)


def main(argv: list[str]) -> int:
    """Export, and print what was done. UserError when the input is wrong."""
    arguments = tyro.cli(Arguments, args=argv, prog="pose2rgbd export")
    if not arguments.options.format:
        raise UserError(f"export needs --format; choose one of: {', '.join(NAMES)}")
    print(export_dataset(arguments.dataset, arguments.out, arguments.options).summary())
    return 0
