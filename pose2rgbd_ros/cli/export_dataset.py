"""`pose2rgbd export DATASET OUT --format NAME`: a dataset in another tool's format."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from pose2rgbd_ros.dataset.formats.config import ExportConfig
from pose2rgbd_ros.dataset.formats.exporting import export_dataset


@dataclasses.dataclass
class Arguments:
    """Write a dataset in another tool's format. OUT appears when it is complete."""

    dataset: Annotated[
        tyro.conf.Positional[Path], tyro.conf.arg(metavar="DATASET", help="the dataset's folder")
    ]
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT", help="the folder to make")]
    options: Annotated[ExportConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=ExportConfig)


def main(argv: list[str]) -> int:
    """Export, and print what was done. UserError when the input is wrong."""
    arguments = tyro.cli(Arguments, args=argv, prog="pose2rgbd export")
    print(export_dataset(arguments.dataset, arguments.out, arguments.options).summary())
    return 0
