"""`pose2rgbd inspect DATASET`: what is in it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pose2rgbd_ros.dataset.inspect import inspect
from pose2rgbd_ros.dataset.reader import Dataset
from pose2rgbd_ros.dataset.slice_picture import draw_slices
from pose2rgbd_ros.errors import UserError, counted

MOST_FRAMES = 300  # a picture of more is too tall to draw


@dataclass
class Arguments:
    """Print a summary of a dataset and draw a contact sheet and its track."""

    dataset: Annotated[Path, tyro.conf.Positional]
    """the dataset's folder"""
    out: Path | None = None
    """folder for summary.txt, contact_sheet.png and track.png (default: DATASET/inspect)"""
    frames: int = 12
    """frames on the contact sheet"""
    strict: bool = False
    """warnings are errors: the exit status is 1"""
    slices: int = 0
    """draw frames cut into so many depth slices as well, as slices.png; 0: do not"""


def main(argv: list[str]) -> int:
    """Print the summary and where the pictures are; 1 with warnings and --strict. UserError for a damaged dataset."""
    arguments = tyro.cli(Arguments, args=argv, prog="pose2rgbd inspect")
    if not 1 <= arguments.frames <= MOST_FRAMES:
        raise UserError(f"--frames is {arguments.frames}; it must be 1 to {MOST_FRAMES}")
    dataset = Dataset(arguments.dataset)
    result = inspect(dataset, arguments.out, arguments.frames)
    print(result.text)
    print(f"{'pictures':<9} {result.contact_sheet}\n{'':<9} {result.track}")
    if arguments.slices:
        path = result.track.with_name("slices.png")
        draw_slices(dataset, path, arguments.slices)
        print(f"{'':<9} {path}")
    if arguments.strict and result.warnings:
        print(f"error: {counted(result.warnings, 'warning')} (--strict)", file=sys.stderr)
        return 1
    return 0
