"""`pose2rgbd sim gallery OUT`: pictures of the city and of the flight."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from pose2rgbd_ros.sim.gallery import GalleryConfig, draw_gallery


@dataclasses.dataclass
class Arguments:
    """Draw the flight over the city, typical views, the seasons, and moving cars and people with their labels."""

    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(help="folder for the pictures")]
    options: Annotated[GalleryConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=GalleryConfig
    )


def main(argv: list[str]) -> int:
    """Draw them and print where they are. UserError when the input is wrong."""
    arguments = tyro.cli(Arguments, args=argv, prog="pose2rgbd sim gallery")
    for path in draw_gallery(arguments.out, arguments.options):
        print(path)
    return 0
