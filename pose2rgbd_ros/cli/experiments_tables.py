"""`pose2rgbd experiments tables`: tables 1, 2 and 3 of the paper regenerated."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from pose2rgbd_ros.evaluation.experiments.tables_plan import TablesConfig


@dataclasses.dataclass
class Arguments:
    """Train and measure every row of the paper's tables 1 to 3. Ctrl-C saves; the same command goes on."""

    out: Annotated[
        Path, tyro.conf.arg(help="folder of the tables, the runs and the datasets that are made")
    ] = Path("runs/tables")
    dataset: Annotated[
        Path | None, tyro.conf.arg(help="with metric depth (default: a flight over the city is simulated)")
    ] = None
    real: Annotated[
        Path | None,
        tyro.conf.arg(
            help="for table 3; metric depth loses its unit first (default: a stand-in is simulated, and labelled)"
        ),
    ] = None
    options: Annotated[TablesConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=TablesConfig)


def main(argv: list[str]) -> int:
    """Print the tables and where they are. Exit status 1 when a row could not be trained."""
    arguments = tyro.cli(Arguments, args=argv, prog="pose2rgbd experiments tables")
    from pose2rgbd_ros.evaluation.experiments.tables import run_tables  # torch only once it is needed
    from pose2rgbd_ros.evaluation.experiments.tables_report import markdown

    outcome = run_tables(arguments.out, arguments.options, arguments.dataset, arguments.real)
    print(markdown(outcome))
    print(f"look at {arguments.out / 'index.html'}; {arguments.out / 'tables.md'} is the text above")
    return 1 if outcome.failed else 0
