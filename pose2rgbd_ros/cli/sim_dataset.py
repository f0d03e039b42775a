"""`pose2rgbd sim dataset OUT`: a flight over the simulated city as a dataset."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from pose2rgbd_ros.sim.dataset import SimDatasetConfig, write_sim_dataset


@dataclasses.dataclass
class Arguments:
    """Fly over the simulated city and write a dataset: colour, exact depth and poses. Ctrl-C keeps what is there."""

    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(help="folder of the dataset")]
    options: Annotated[SimDatasetConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=SimDatasetConfig
    )


def main(argv: list[str]) -> int:
    """Make the dataset, and say what was done. UserError when the input is wrong."""
    arguments = tyro.cli(Arguments, args=argv, prog="pose2rgbd sim dataset")
    print(write_sim_dataset(arguments.out, arguments.options).summary())
    return 0
