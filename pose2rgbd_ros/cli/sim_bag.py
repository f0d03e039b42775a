"""`pose2rgbd sim bag OUT.mcap`: a flight over the simulated city as a ROS 2 recording."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from pose2rgbd_ros.sim.bag import SimBagConfig, write_sim_bag


@dataclasses.dataclass
class Arguments:
    """Fly over the simulated city and record it as a drone would: images, GPS, odometry, IMU, pressure, TF, /clock.

    The faults of the sensors are those of real hardware; the truth about all of them is written beside the recording.
    """

    out: Annotated[
        tyro.conf.Positional[Path],
        tyro.conf.arg(metavar="OUT", help="an .mcap or .db3 file, or a folder; the truth goes to OUT.truth/"),
    ]
    options: Annotated[SimBagConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=SimBagConfig)


def main(argv: list[str]) -> int:
    """Record, and say what was written. UserError when the input is wrong."""
    arguments = tyro.cli(Arguments, args=argv, prog="pose2rgbd sim bag")
    print(write_sim_bag(arguments.out, arguments.options).summary())
    return 0
