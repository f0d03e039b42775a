"""`pose2rgbd sim WHAT`: the simulated city as a dataset, as a recording, or live."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from pathlib import Path
from typing import Annotated

import tyro

from pose2rgbd_ros.reports.table import aligned
from pose2rgbd_ros.sim.bag import SimBagConfig, write_sim_bag
from pose2rgbd_ros.sim.dataset import SimDatasetConfig, write_sim_dataset
from pose2rgbd_ros.sim.gallery import GalleryConfig, draw_gallery

# `pose2rgbd sim bag OUT.mcap`: a flight over the simulated city as a ROS 2 recording.


@dataclasses.dataclass
class BagArguments:
    """Fly over the simulated city and record it as a drone would: images, GPS, odometry, IMU, pressure, TF, /clock.

    The faults of the sensors are those of real hardware; the truth about all of them is written beside the recording.
    """

    out: Annotated[
        tyro.conf.Positional[Path],
        tyro.conf.arg(metavar="OUT", help="an .mcap or .db3 file, or a folder; the truth goes to OUT.truth/"),
    ]
    options: Annotated[SimBagConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=SimBagConfig)


def bag_main(argv: list[str]) -> int:
    """Record, and say what was written. UserError when the input is wrong."""
    arguments = tyro.cli(BagArguments, args=argv, prog="pose2rgbd sim bag")
    print(write_sim_bag(arguments.out, arguments.options).summary())
    return 0


# `pose2rgbd sim dataset OUT`: a flight over the simulated city as a dataset.


@dataclasses.dataclass
class DatasetArguments:
    """Fly over the simulated city and write a dataset: colour, exact depth and poses. Ctrl-C keeps what is there."""

    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(help="folder of the dataset")]
    options: Annotated[SimDatasetConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=SimDatasetConfig)


def dataset_main(argv: list[str]) -> int:
    """Make the dataset, and say what was done. UserError when the input is wrong."""
    arguments = tyro.cli(DatasetArguments, args=argv, prog="pose2rgbd sim dataset")
    print(write_sim_dataset(arguments.out, arguments.options).summary())
    return 0


# `pose2rgbd sim gallery OUT`: pictures of the city and of the flight.


@dataclasses.dataclass
class GalleryArguments:
    """Draw the flight over the city, typical views, the seasons, and moving cars and people with their labels."""

    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(help="folder for the pictures")]
    options: Annotated[GalleryConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=GalleryConfig)


def gallery_main(argv: list[str]) -> int:
    """Draw them and print where they are. UserError when the input is wrong."""
    arguments = tyro.cli(GalleryArguments, args=argv, prog="pose2rgbd sim gallery")
    for path in draw_gallery(arguments.out, arguments.options):
        print(path)
    return 0


def live_main(argv: list[str]) -> int:
    """`pose2rgbd sim live`: the simulator as a ROS node; only the command line knows the nodes."""
    return int(importlib.import_module("pose2rgbd_ros.cli.nodes").main(["sim", *argv]))


# What there is, with the function that makes it.
KINDS = {
    "dataset": (dataset_main, "a flight as a dataset: frames with exact poses and depth"),
    "bag": (bag_main, "a flight as a ROS 2 recording, with the faults of real sensors"),
    "gallery": (gallery_main, "pictures of the city and of the flight"),
    "live": (live_main, "the world as a ROS node: images, sensors and TF; takes commands to fly"),
}


def usage() -> str:
    """The list of kinds."""
    rows = aligned((name, text) for name, (_, text) in KINDS.items())
    return f"usage: pose2rgbd sim WHAT [options]   (pose2rgbd sim WHAT --help tells its options)\n\n{rows}"


def main(argv: list[str]) -> int:
    """Hand over to one kind; its exit status. 2 when there is no such kind."""
    if argv and argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if not argv or argv[0] not in KINDS:
        wrong = f"there is no '{argv[0]}' to simulate" if argv else "simulate what?"
        print(f"error: {wrong}\n\n{usage()}", file=sys.stderr)
        return 2
    return int(KINDS[argv[0]][0](argv[1:]) or 0)
