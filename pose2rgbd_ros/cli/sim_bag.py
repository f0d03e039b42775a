"""`pose2rgbd sim bag OUT.mcap`: a flight over the simulated city as a ROS 2 recording."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from pose2rgbd_ros.cli.arguments import with_help
from pose2rgbd_ros.sim.bag import SimBagConfig, write_sim_bag

if TYPE_CHECKING:
    Options = SimBagConfig
else:
    Options = with_help(SimBagConfig)


@dataclasses.dataclass
class Arguments:
    """Fly over the simulated city and record it as a drone would: images, GPS, odometry, IMU, pressure, TF, /clock.

    The faults of the sensors are those of real hardware; the truth about all of them is written beside the recording.
    """

    out: Annotated[
        tyro.conf.Positional[Path],
        tyro.conf.arg(metavar="OUT", help="an .mcap or .db3 file, or a folder; the truth goes to OUT.truth/"),
    ]
    options: Annotated[Options, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Options)


def main(argv: list[str]) -> int:
    """Record, and say what was written. UserError when the input is wrong."""
    arguments = tyro.cli(Arguments, args=argv, prog="pose2rgbd sim bag")
    print(write_sim_bag(arguments.out, arguments.options).summary())
    return 0
