"""`pose2rgbd experiments localization`: ways of finding a camera side by side, as in the PoseGAN paper's tables 1 and 2."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from pose2rgbd_ros.evaluation.experiments.localization_plan import LocalizationConfig


@dataclasses.dataclass
class Arguments:
    """Train every network for the same time, measure all ways of finding a camera on the same held-out frames. Ctrl-C
    saves; the same command goes on."""

    out: Annotated[Path, tyro.conf.arg(help="folder of the tables, the pictures and the runs")] = Path(
        "runs/localization"
    )
    dataset: Annotated[
        tuple[Path, ...],
        tyro.conf.arg(help="folders of datasets (default: a flight over the city is simulated)"),
    ] = ()
    options: Annotated[LocalizationConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=LocalizationConfig
    )


def main(argv: list[str]) -> int:
    """Print the tables and where they are. Exit status 1 when a row could not be trained."""
    arguments = tyro.cli(Arguments, args=argv, prog="pose2rgbd experiments localization")
    from pose2rgbd_ros.evaluation.experiments.localization import run_localization  # torch only once needed
    from pose2rgbd_ros.evaluation.experiments.localization_report import markdown

    outcome = run_localization(arguments.out, arguments.options, list(arguments.dataset))
    print(markdown(outcome))
    print(f"look at {arguments.out / 'index.html'}; {arguments.out / 'tables.md'} is the text above")
    return 1 if outcome.failed else 0
