"""`pose2rgbd sim WHAT`: the simulated city as a dataset, as a recording, or live."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from pose2rgbd_ros.cli import results
from pose2rgbd_ros.cli.main import Job, one_of
from pose2rgbd_ros.cli.results import Json
from pose2rgbd_ros.sim.bag import SimBagConfig, write_sim_bag
from pose2rgbd_ros.sim.dataset import SimDatasetConfig, write_sim_dataset
from pose2rgbd_ros.sim.footage import PhotosConfig, VideoConfig, write_sim_photos, write_sim_video
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
    json: Json = False


def bag(arguments: BagArguments) -> int:
    """Record, and say what was written. UserError when the input is wrong."""
    made = write_sim_bag(arguments.out, arguments.options)
    print(made.summary())
    print(f"next: pose2rgbd convert {made.path} DATASET, or pose2rgbd run {made.path}")
    results.add(**dataclasses.asdict(made))
    return 0


# `pose2rgbd sim dataset OUT`: a flight over the simulated city as a dataset.


@dataclasses.dataclass
class DatasetArguments:
    """Fly over the simulated city and write a dataset: colour, exact depth and poses. Ctrl-C keeps what is there."""

    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(help="folder of the dataset")]
    options: Annotated[SimDatasetConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=SimDatasetConfig)
    json: Json = False


def dataset(arguments: DatasetArguments) -> int:
    """Make the dataset, and say what was done. UserError when the input is wrong."""
    made = write_sim_dataset(arguments.out, arguments.options)
    print(made.summary())
    print(f"next: pose2rgbd train relief {made.path} --max-minutes 10")
    results.add(**dataclasses.asdict(made))
    return 0


# `pose2rgbd sim photos OUT`, `pose2rgbd sim video OUT.mp4`: what a drone without ROS brings home.


@dataclasses.dataclass
class PhotosArguments:
    """Fly over the simulated city and take geotagged photographs, with the errors of plain GPS."""

    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT", help="folder for the photographs")]
    options: Annotated[PhotosConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=PhotosConfig)
    json: Json = False


def photos(arguments: PhotosArguments) -> int:
    """Take them, and say where they are. UserError when the input is wrong."""
    print(write_sim_photos(arguments.out, arguments.options))
    results.add(path=arguments.out)
    return 0


@dataclasses.dataclass
class VideoArguments:
    """Fly over the simulated city, film it, and log the track of a plain GPS whose clock is another."""

    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT.mp4", help="the video; the log is OUT.gpx")]
    options: Annotated[VideoConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=VideoConfig)
    json: Json = False


def video(arguments: VideoArguments) -> int:
    """Film, and say what was written. UserError when the input is wrong."""
    print(write_sim_video(arguments.out, arguments.options))
    results.add(path=arguments.out)
    return 0


# `pose2rgbd sim gallery OUT`: pictures of the city and of the flight.


@dataclasses.dataclass
class GalleryArguments:
    """Draw the flight over the city, typical views, the seasons, and moving cars and people with their labels."""

    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(help="folder for the pictures")]
    options: Annotated[GalleryConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=GalleryConfig)
    json: Json = False


def gallery(arguments: GalleryArguments) -> int:
    """Draw them and print where they are. UserError when the input is wrong."""
    drawn = list[Path]()
    for path in draw_gallery(arguments.out, arguments.options):
        print(path)
        drawn.append(path)
    results.add(pictures=drawn)
    return 0


def live(argv: list[str]) -> int:
    """The simulator as a ROS node."""
    from pose2rgbd_ros.cli.nodes import main as start_node

    return start_node(["sim", *argv])


JOBS: dict[str, Job] = {
    "dataset": (DatasetArguments, dataset, "a flight as a dataset: frames with exact poses and depth"),
    "bag": (BagArguments, bag, "a flight as a ROS 2 recording, with the faults of real sensors"),
    "photos": (PhotosArguments, photos, "a flight as geotagged photographs"),
    "video": (VideoArguments, video, "a flight as a video and a GPX track"),
    "gallery": (GalleryArguments, gallery, "pictures of the city and of the flight"),
    "live": (None, live, "the world as a ROS node: images, sensors and TF; takes commands to fly"),
}


def main(argv: list[str]) -> int:
    """One of them."""
    return one_of(JOBS, "sim", argv)
