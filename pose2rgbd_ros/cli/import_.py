"""`pose2rgbd import SOURCE [SOURCE ...] DATASET`: other tools' datasets to one of ours."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import tyro

from pose2rgbd_ros.dataset.formats.config import ImportConfig
from pose2rgbd_ros.dataset.formats.importing import import_datasets
from pose2rgbd_ros.errors import UserError, counted


@dataclasses.dataclass
class Arguments:
    """Import datasets of one place: nerfstudio, TUM RGB-D, KITTI odometry, EuRoC, 7-Scenes, Cambridge, COLMAP (text)."""

    paths: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="SOURCE [SOURCE ...] DATASET",
            help="the folders to import, and last the folder of the dataset to make",
            help_behavior_hint="(required)",
        ),
    ]
    strict: bool = False
    """warnings are errors: the exit status is 1; the dataset is kept"""
    options: Annotated[ImportConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=ImportConfig)


def main(argv: list[str]) -> int:
    """Import, and print what was done; 1 with warnings and --strict. UserError when the input is wrong."""
    arguments = tyro.cli(Arguments, args=argv, prog="pose2rgbd import")
    if len(arguments.paths) < 2:
        raise UserError("import needs a source and, last, the folder of the dataset to make")
    *sources, out = arguments.paths
    report = import_datasets(sources, out, arguments.options)
    print(report.summary())
    if arguments.strict and report.warnings:
        print(f"error: {counted(len(report.warnings), 'warning')} (--strict); {out} is kept", file=sys.stderr)
        return 1
    return 0
